"""A model of half precision and the real network of its weights: alike but for rounding, or refused."""

from __future__ import annotations

import numpy as np
import pytest

from steadygaze.errors import FidelityError
from steadygaze.network.reading.halves import compared
from steadygaze.network.reading.originals import AbstractOriginal

SHAPE = (1, 2, 2)


class Sums(AbstractOriginal):
    """Two logits of the mean of an image, each `off` by so much, as a share of the largest."""

    def __init__(self, off: float = 0.0) -> None:
        self.off = off

    def logits(self, images):
        mean = images.mean(axis=(1, 2, 3))
        return np.stack([mean, -mean], axis=1) * (1 + self.off)

    def gradient(self, images, label):
        raise NotImplementedError


def unable() -> AbstractOriginal:
    raise RuntimeError("no such operation")


def told(given):
    return compared(given, Sums(), "float16", 2.0**-10, SHAPE, RuntimeError)


@pytest.mark.parametrize("off", [0.0, 1e-3, 2e-2])
def test_what_rounding_explains_is_told(off):
    assert told(lambda: Sums(off)) == "half precision taken as exact (float16)"


@pytest.mark.parametrize("off", [0.1, 1.0, float("nan"), float("inf")])
def test_what_rounding_does_not_explain_is_refused(off):
    with pytest.raises(
        FidelityError, match=r"in float16 gives other logits .* hand in the network in float32"
    ):
        told(lambda: Sums(off))


def test_what_the_runtime_cannot_run_is_told_not_to_be_compared():
    assert told(unable).endswith("(float16, not compared: it cannot be run here)")
