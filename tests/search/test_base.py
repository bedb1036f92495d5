"""What all searches share: the threads that they work in."""

from __future__ import annotations

import pytest
import torch

from steadygaze.search.base import Options, threads_of


@pytest.mark.parametrize("unrecorded", [False, True])
def test_threads_record_for_gradients_where_the_one_that_begins_them_does(unrecorded):
    with torch.inference_mode(unrecorded), threads_of(Options(threads=2), "some") as pool:
        modes = [pool.submit(torch.is_inference_mode_enabled) for _ in range(4)]
        made = pool.submit(torch.add, torch.ones(2), torch.ones(2), alpha=3)
        assert list(pool.map(abs, [-1, 2])) == [1, 2]
    assert {mode.result() for mode in modes} == {unrecorded}
    assert made.result().tolist() == [4.0, 4.0]
