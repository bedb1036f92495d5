"""Answers of every form that a page of a case may have, and their cells found in another way."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from steadygaze.geometry.measure import facets
from steadygaze.geometry.planes import planes_of_facets
from steadygaze.geometry.sections import bounds
from steadygaze.perturbation.notation import chain_of
from steadygaze.question.images import load_image
from steadygaze.verdict.driver import verify

PATCH = "patch(opacity=0..1, top=2, left=2, height=3, width=3, mode=add)"
SMALL = "patch(opacity=0..0.3, top=5, left=5, height=2, width=2, mode=add)"
BRIGHT, CONTRAST = "brightness(amount=-0.1..0.1)", "contrast(amount=-0.1..0.1)"
MLP = ("digits-mlp", 357)
CLASS = {"claim": "class"}
SWEEP, WIDE, SHORT = {"method": "sweep"}, {"undecided": 0.2}, {"regions_limit": 800}
# One line for each way in which a page may know its cells, its images and its numbers.
CASES = {
    "line": (*MLP, PATCH, {}),
    "plane": (*MLP, f"brightness(amount=-0.3..0.3)|{PATCH}", {}),
    "space": (*MLP, f"contrast(amount=-0.2..0.2)|{BRIGHT}|{PATCH}", SWEEP),
    "four": (*MLP, f"{CONTRAST}|{BRIGHT}|{PATCH}|{SMALL}", SWEEP),
    "moved": (*MLP, "translate(dx=-1..1, dy=-1..1)", {}),
    "turned": (*MLP, f"rotate(degrees=-8..8)|{BRIGHT}", WIDE),
    "turned line": (*MLP, "rotate(degrees=-8..8)", WIDE),
    "boxes": (*MLP, f"{BRIGHT}|{PATCH}", {"method": "bound", "handover": False}),
    "nearest": (*MLP, f"brightness(amount=-0.3..0.3)|{PATCH}", {"method": "nearest"}),
    "unknown": ("digits-cnn", 202, f"{BRIGHT}|{PATCH}", {"method": "bfs", "regions_limit": 60}),
    "looks at a layer": (
        "digits-cnn",
        7,
        "brightness(amount=-0.03..0.03)|patch(opacity=0..0.1, top=5, left=5, height=2, width=2, mode=add)",
        {"saliency": "grad-cam"},
    ),
    "many": (
        *MLP,
        "|".join(f"patch(opacity=0..0.1, top={k}, left={k}, height=1, width=1, mode=add)" for k in range(8)),
        {"method": "nearest", **SHORT},
    ),
    "class line": (*MLP, PATCH, CLASS),
    "class": (*MLP, f"brightness(amount=-0.3..0.3)|{PATCH}", CLASS),
    "class boxes": (*MLP, f"{BRIGHT}|{PATCH}", {**CLASS, "method": "bound", "handover": False}),
    "counts entries": (*MLP, f"translate(dx=-1..1)|{BRIGHT}", {"inconsistency": "top-k(8)", **SHORT}),
}
# The others are for `make test-slow`.
QUICK = ("plane", "space", "moved", "class")
EVERY = [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES]


@cache
def answer(case: str):
    """The answer of a case, found once."""
    model, image, perturbation, options = CASES[case]
    loaded = load_image(f"digits:{image}")
    return verify(model, loaded.image, chain_of(perturbation), image_source=loaded.source, **options)


def points(case: str, count: int = 40) -> np.ndarray:
    """Random theta of its box."""
    box = answer(case).problem.box
    return np.random.default_rng(11).uniform(box[:, 0], box[:, 1], (count, len(box)))


def holding(case: str, theta: np.ndarray) -> list[set[int]]:
    """The cells of the map that hold each point, by the planes of their facets, or by their ends."""
    map_, widths = answer(case).map, np.ptp(answer(case).problem.box, axis=1)
    if map_.inner:  # one cell, the part of the box that is known to be robust
        low, high = answer(case).problem.box.T * answer(case).result.safe_scale
        return [{0} if ((low <= t) & (t <= high)).all() else set() for t in theta]
    if theta.shape[1] == 1:
        low, high = bounds(map_.cells)
        return [set(np.flatnonzero((low[:, 0] <= t) & (t <= high[:, 0]))) for t in theta[:, 0]]
    found = facets(map_.cells)
    planes = planes_of_facets(map_.cells, found.cell, found.bit, widths)
    beyond = (theta / widths) @ planes.normal.T > planes.offset + 1e-9
    solid = set(np.flatnonzero(map_.volume > 0))
    return [solid - set(found.cell[row]) for row in beyond]
