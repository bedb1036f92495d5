"""Made-up answers, maps and exhibits for the tests of records, pictures, report and command line."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from steadygaze.answer.drawing import Drawing, Exhibit, Interval1D, Polygons
from steadygaze.answer.result import (
    Failure,
    ImageInfo,
    ModelInfo,
    Origin,
    ParameterInfo,
    PerturbationInfo,
    ProblemInfo,
    Result,
    Shares,
    Verdict,
)

THRESHOLD = 0.3
RANGES = ((-0.3, 0.3), (0.0, 1.0), (-2.0, 2.0), (-0.5, 0.5))
LINKS = (
    PerturbationInfo("brightness", {}, (ParameterInfo("amount", "of full brightness", RANGES[0]),)),
    PerturbationInfo(
        "patch",
        {"top": 2, "left": 2, "height": 3, "width": 3, "value": 1.0, "mode": "add"},
        (ParameterInfo("opacity", "", RANGES[1]),),
    ),
    PerturbationInfo("translate", {"dy": 0.0}, (ParameterInfo("dx", "pixels", RANGES[2]),)),
    PerturbationInfo("contrast", {}, (ParameterInfo("amount", "", RANGES[3]),)),
)
BOUNDARY = ((-0.2, 0.0), (0.15, 0.0), (0.2, 0.35), (0.1, 0.7), (-0.1, 0.8), (-0.25, 0.4))
HOLE = ((0.05, 0.3), (0.1, 0.3), (0.1, 0.4), (0.05, 0.45))


def problem(n: int = 2, source: str = "digits:7") -> ProblemInfo:
    return ProblemInfo(
        model=ModelInfo("digits-mlp", "ab" * 32, 64, 3000, "softmax removed: verified at the logits"),
        image=ImageInfo(source, 7, (1, 8, 8), 7, 7),
        perturbation=LINKS[:n],
        clip=(0.0, 1.0),
        saliency="gradient",
        inconsistency="cosine",
        threshold=THRESHOLD,
    )


def violated(n: int = 2, source: str = "digits:7") -> Result:
    return Result(
        problem=problem(n, source),
        method="sweep",
        claim="whole box",
        verdict=Verdict.VIOLATED,
        reason="every cell of the box is judged and the nearest failure replays in the original model.",
        shares=Shares(0.5, 0.25, 0.2, 0.05),
        origin=Origin(
            share=0.45,
            ranges=tuple((0.6 * low, 0.55512345 * high) for low, high in RANGES[:n]),
            outer_boundary=BOUNDARY if n == 2 else None,
            holes=(HOLE,) if n == 2 else None,
            interior="examined",
        ),
        safe_scale=0.412345,
        nearest_failure=Failure((0.18, 0.0, 0.3, 0.1)[:n], "attention-changed", 0.6, 0.8, 0.30000001, 7),
        regions={"visited": 1234, "wholly_robust": 600, "partly_robust": 34},
        timing={"total": 1.25, "search": 1.0},
        versions={"steadygaze": "0.1.0", "numpy": "2.0"},
        tolerance={"margin": 1e-9},
    )


def robust(n: int = 2) -> Result:
    origin = Origin(1.0, RANGES[:n], None, None, "examined")
    return replace(
        violated(n),
        verdict=Verdict.ROBUST,
        shares=Shares(1.0, 0.0, 0.0, 0.0),
        origin=origin,
        safe_scale=1.0,
        nearest_failure=None,
    )


def unknown(n: int = 2) -> Result:
    return replace(
        violated(n),
        verdict=Verdict.UNKNOWN,
        reason="the time limit of 10 s stopped the search.",
        shares=Shares(0.6, 0.0, 0.0, 0.4),
        nearest_failure=None,
    )


def smooth(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Made-up inconsistency, class gap and kind over [-1, 1]^2; ``theta``: (M, 2)."""
    u, v = theta[:, 0], theta[:, 1]
    inconsistency = 0.5 * np.abs(np.sin(2.2 * u + 0.7 * v)) ** 1.5 + 0.12 * v**2
    gap = 1.2 - 0.9 * u - v**2
    kind = np.where(gap <= 0, 1, np.where(inconsistency <= THRESHOLD, 0, 2)).astype(np.int8)
    return inconsistency, gap, kind


def line(cells: int = 200) -> Interval1D:
    """A step function of inconsistency, as photometric chains have it, over brightness."""
    edges = np.linspace(*RANGES[0], cells + 1)
    ends = np.stack([edges[:-1], edges[1:]], axis=1)
    centre = ends.mean(axis=1) / 0.3
    inconsistency, _, kind = smooth(np.stack([centre, np.zeros(cells)], axis=1))
    gap = 1.0 - 4 * np.maximum(ends, 0)
    kind[gap.min(axis=1) <= 0] = 1
    kind[:5] = 3
    steps = np.stack([inconsistency, inconsistency], axis=1)
    steps[:5] = np.nan
    return Interval1D(ends, kind, steps, gap)


def polygons(axes: tuple[int, int] = (0, 1), side: int = 40) -> Polygons:
    """A jittered grid of triangles over the ranges of two axes: 2 * side**2 cells."""
    rng = np.random.default_rng(axes[0] * 10 + axes[1])
    u, v = np.meshgrid(np.linspace(-1, 1, side + 1), np.linspace(-1, 1, side + 1), indexing="ij")
    jitter = rng.uniform(-0.6, 0.6, (2, side + 1, side + 1)) / side
    u[1:-1], v[:, 1:-1] = (u + jitter[0])[1:-1], (v + jitter[1])[:, 1:-1]
    corners = np.stack([u, v], axis=-1)
    a, b, c, d = corners[:-1, :-1], corners[1:, :-1], corners[1:, 1:], corners[:-1, 1:]
    triangles = np.stack([np.stack([a, b, c], axis=2), np.stack([a, c, d], axis=2)]).reshape(-1, 3, 2)
    inconsistency, _, kind = smooth(triangles.mean(axis=1))
    band = np.abs(triangles.mean(axis=1).sum(axis=1) + 1.5) < 0.1
    kind[band], inconsistency[band] = 3, np.nan
    low, high = np.array([RANGES[axis] for axis in axes]).T
    points = low + (triangles.reshape(-1, 2) + 1) / 2 * (high - low)
    offsets = np.arange(0, len(points) + 1, 3)
    return Polygons(axes, points, offsets, kind, inconsistency)


def exhibits(n: int = 2, shape: tuple[int, int, int] = (1, 8, 8)) -> tuple[Exhibit, ...]:
    rng = np.random.default_rng(3)
    image, saliency = rng.uniform(0, 1, shape), rng.normal(size=shape)
    cases = [("original", 0.0, 0), ("worst allowed", 0.1, 0), ("nearest failing", 0.2, 2)]
    return tuple(
        Exhibit(
            title=title,
            theta=tuple(amount for _ in range(n)),
            image=np.clip(image + amount, 0, 1),
            saliency=saliency + 5 * amount * rng.normal(size=shape),
            expected=saliency,
            predicted=7,
            class_gap=1.0 - amount,
            inconsistency=2 * amount,
            kind=kind,
        )
        for title, amount, kind in cases
    )


def drawing(n: int = 2, side: int = 40) -> Drawing:
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    return Drawing(
        intervals=line() if n == 1 else None,
        polygons=tuple(polygons(pair, side) for pair in pairs),
        exhibits=exhibits(n),
    )
