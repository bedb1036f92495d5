"""Labels of vertices: which one is free."""

from __future__ import annotations

import numpy as np

from steadygaze.geometry.store import free_bit

# A part of a kernel has no entrance from Python where it is compiled; this is what it is compiled from.
first_free = getattr(free_bit, "py_func", free_bit)
FULL = np.uint64(0xFFFFFFFFFFFFFFFF)


def test_the_first_label_that_no_vertex_carries_is_free():
    mask = np.zeros((4, 3), np.uint64)
    mask[1:3, 0] = FULL >> np.uint64(1), np.uint64(1) << np.uint64(63)
    mask[2, 1] = 0b1011
    reserved = np.zeros(3, np.uint64)
    assert first_free(mask, 1, 2, 2, reserved) == 64 + 2
    reserved[1] = FULL
    assert first_free(mask, 1, 2, 2, reserved) == 128
    assert first_free(mask, 1, 1, 2, reserved) == 63, "of the first of these vertices alone"
    reserved[0] = np.uint64(1) << np.uint64(63)
    assert first_free(mask, 1, 1, 2, reserved) == 128
