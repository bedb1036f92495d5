"""Gradients of an imported network beside those of the original, at images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from steadygaze.errors import ModelError
from steadygaze.network.graph import Graph
from steadygaze.network.reading.originals import AbstractOriginal
from steadygaze.network.regions.rounding import terms_of_gradients
from steadygaze.network.smooth import Smooth

# Gradients are compared against at least this share of the largest.
_SMALL = 0.01
# Where gradients differ by no more than this, nobody asks what rounding leaves of them.
_ALIKE = 1e-3
# Single precision leaves no more than this share of the terms that a gradient is made of, and double.
_SINGLE, _DOUBLE = 1e-6, 2e-15


@dataclass(frozen=True)
class Slopes:
    """Images ``(B, C, H, W)`` at which gradients of the logit `label` are compared, and ours there.

    pieces: those of `Graph.pieces_at` there.
    """

    x: Tensor
    pieces: Mapping[int, Tensor]
    graph: Graph
    label: int

    @cached_property
    def ours(self) -> np.ndarray:
        """The gradients of the imported network, ``(B, C, H, W)``."""
        return self.graph.pull_back(self.graph.seed(self.label, len(self.x)), self.pieces).numpy()

    def noise(self, rounding: float) -> np.ndarray:
        """What arithmetic of that relative rounding may leave of gradients, ``(B, C, H, W)``.

        That is a share of the terms, which may cancel, and what derivatives leave where units are saturated:
        one of 1e-30 is rounding of a value near 1, as 1 - tanh^2 is.
        """
        smooth = {i for i in self.graph.smooth if isinstance(self.graph.nodes[i].layer, Smooth)}
        rounded = {
            i: own + rounding * own.sign().add(0.5).sign() if i in smooth else own
            for i, own in self.pieces.items()
        }
        seed = self.graph.seed(self.label, len(self.x))
        terms, with_rounding = (
            terms_of_gradients(self.graph, seed, pieces) for pieces in (self.pieces, rounded)
        )
        return (rounding * terms + (with_rounding - terms).clamp_min(0.0)).numpy()

    def apart(self, theirs: np.ndarray, rounding: float) -> float:
        """Largest difference from the original's gradients at the first of the images, ``(b, C, H, W)``.

        Against the largest entry of the gradient there, or a small share of any. Where logits do not depend
        on the image, as behind a norm of equal numbers, or units are saturated, both are nothing but
        rounding, which is not compared.
        """
        told = np.isfinite(theirs).all(axis=(1, 2, 3))
        if not told.any():
            return 0.0
        size = np.abs(theirs[told]).max(axis=(1, 2, 3))
        # What is smaller than the smallest number of single precision may be 0 there.
        size = np.maximum(size, max(_SMALL * size.max(), float(np.finfo(np.float32).tiny)))
        ours = self.ours[: len(theirs)][told]
        difference = np.abs(ours - theirs[told]).max(axis=(1, 2, 3))
        if (difference > _ALIKE * size).any():
            noise = self.noise(rounding)[: len(theirs)][told]
            nothing = ((np.abs(ours) <= noise) & (np.abs(theirs[told]) <= noise)).all(axis=(1, 2, 3))
            difference[nothing] = 0.0
        return float((difference / size).max())


def gradients_apart(
    original: AbstractOriginal, shown: Slopes, clear: bool, allowed: float
) -> tuple[float, str]:
    """How far gradients are apart where they can be told, and by what they were compared.

    They can where images are clear of kinks; where they are not, gradients may be within what is allowed all
    the same. Where the original's own runtime has no gradients, those of its evaluator are compared, if it
    has any, and "finite differences" are left to do.
    """
    x, label = shown.x.numpy(), shown.label
    rounding = _DOUBLE if original.differentiates_in_double else _SINGLE
    theirs, way = original.gradient(x, label), "autograd"
    if not clear:  # of many units some are always near
        apart = np.inf if theirs is None else shown.apart(theirs, rounding)
        return (apart, "autograd") if apart <= allowed else (0.0, "finite differences")
    if theirs is None:
        way = "finite differences"
        try:
            theirs = original.gradients(x, label)
        except ModelError:
            return 0.0, way
    return shown.apart(theirs, rounding), way


def apart_in_double(original: AbstractOriginal, shown: Slopes, count: int) -> float:
    """How far gradients are apart from those of the original in double precision; infinite if it has none.

    Of many units some are always so near to a kink that single precision puts them on its other side; double
    precision does not. It takes a copy of the weights, and much less time than integrals over any kinks.

    count: at how many of the images, the first.
    """
    wide = original.in_double()
    theirs = None if wide is None else wide.gradient(shown.x[:count].numpy(), shown.label)
    return np.inf if theirs is None else shown.apart(theirs, _DOUBLE)
