"""Bounds over boxes against the PyTorch modules at dense samples, for all kinds of networks and questions."""

from __future__ import annotations

import numpy as np
import pytest

from sparing import sparing
from variants import EVERY, INEXACT, Variant

GEOMETRIC = [
    Variant("mlp", "turn"),
    Variant("max pool", "zoom, brighter"),
    Variant("residual", "product", clip=None),
    Variant("leaky", "sheared", saliency="abs-gradient"),
    Variant("tanh", "turn"),
    Variant("mlp", "bilinear shift", inconsistency="l1", threshold=0.5),
    Variant("wide", "blurred", inconsistency="linf", threshold=0.5),
    Variant("average pool", "gamma", inconsistency="top-k(3)"),
    Variant("colour conv", "hue"),
    Variant("gelu", "turn", inconsistency="l2", threshold=0.5),
    Variant("max pool", "turn", saliency="grad-cam", threshold=0.1),
    Variant("mlp", "shift both", inconsistency="top-k(3)"),
]
# Boxes are centred here and there, as wide as these shares of the whole box.
WIDTHS = (1.0, 0.1, 1e-2, 1e-4)
# Rounding of the PyTorch module's own maps, and of their inconsistency, which is a difference of 1.
ROUNDING = 1e-9


def boxes_in(variant, width, count, seed=0):
    """Random boxes of this share of the whole box, within it, (count, n, 2)."""
    box = variant.perturbation.box
    rng = np.random.default_rng(seed)
    span = (box[:, 1] - box[:, 0]) * width
    low = box[:, 0] + rng.random((count, len(box))) * (box[:, 1] - box[:, 0] - span)
    return np.stack([low, low + span], axis=2)


def points_in(boxes, count, seed=1):
    """Random points of each box, its corners among them: (boxes, count, n)."""
    rng = np.random.default_rng(seed)
    share = rng.random((len(boxes), count, boxes.shape[1]))
    share[:, : count // 2] = np.round(share[:, : count // 2])
    return boxes[:, None, :, 0] + share * (boxes[:, None, :, 1] - boxes[:, None, :, 0])


@pytest.mark.parametrize("variant", sparing([*EVERY, *INEXACT, *GEOMETRIC]))
@pytest.mark.parametrize("room", [0, 40])
def test_bounds_hold_at_every_sample(variant, room):
    problem = variant.problem
    for width in WIDTHS:
        boxes = boxes_in(variant, width, 4)
        points = points_in(boxes, 24)
        plain = variant.sampled(points.reshape(-1, boxes.shape[1]))
        gap, drift = plain.gap.reshape(4, -1), plain.inconsistency.reshape(4, -1)
        bounds = problem.bounds(boxes, room)
        low, high = bounds.gaps(problem.label)
        least, most = low.amin(dim=1).numpy()[:, None], high.amin(dim=1).numpy()[:, None]
        assert (least <= gap + ROUNDING).all()
        assert (gap <= most + ROUNDING).all()
        least, most = (bound[:, None] for bound in problem.enclosed_inconsistency(boxes, bounds))
        assert (least <= drift + ROUNDING).all()
        assert (drift <= most + ROUNDING).all()


STEADY = [
    Variant("mlp", "turn"),
    Variant("mlp", "four"),
    Variant("max pool", "zoom, brighter"),
    Variant("sigmoid", "spot", clip=None),
    Variant("gelu", "turn", clip=None),
]


@pytest.mark.parametrize("variant", STEADY, ids=str)
def test_bounds_tighten_with_the_square_of_the_width(variant):
    """Where no unit changes its piece, what is not affine in the box shrinks fourfold when it is halved."""
    problem, spans, doubts = variant.problem, [], []
    middles, extent = variant.draw(60), np.ptp(variant.perturbation.box, axis=1)
    for width in (2e-3, 1e-3, 5e-4):
        half = np.stack([-extent, extent], axis=1) * width / 2
        boxes = middles[:, :, None] + half
        bounds = problem.bounds(boxes, 20)
        gaps = bounds.enclosed_gaps(problem.label)
        spans.append(gaps.without_symbols().error.amax(dim=1))
        doubts.append(bounds.doubts == (problem.graph.units if problem.graph.smooth else 0))
    steady = doubts[0] & doubts[1] & doubts[2]
    assert steady.sum() >= 10
    # Less those few that hold a kink of the perturbation, where images are on the grid.
    coarse, middle, fine = (float(span[steady].sort().values[:-3].sum()) for span in spans)
    assert middle < coarse / 3.5 + 1e-11
    assert fine < middle / 3.5 + 1e-11
