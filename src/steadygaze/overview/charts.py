"""Curves and distributions as shapes of a page, in thousandths of the room that they get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FULL = 1000  # the width and height of a chart's own units


@dataclass(frozen=True)
class Curve:
    """One model's curve over the scale, as paths of SVG: what is certain, and what is open on top of that."""

    line: str
    band: str


def curve(curves: Mapping[str, Any], measure: str, n: int) -> Curve:
    """The steps of a measure, from what `summary_of` tells at them and between them."""
    ends, told = curves["scale"], curves["between"][measure]
    low = [certain / n if n else 0.0 for certain in told["certain"]]
    high = [(c + u) / n if n else 1.0 for c, u in zip(told["certain"], told["unsettled"], strict=True)]
    upper, lower = _steps(ends, high), _steps(ends, low)
    return Curve(f"M{' '.join(lower)}", f"M{' '.join(upper)} L{' '.join(reversed(lower))}Z")


def _steps(ends: Sequence[float], values: Sequence[float]) -> list[str]:
    """Corners of the step curve, those left out at which it does not turn."""
    corners: list[tuple[float, float]] = []
    for left, right, value in zip(ends[:-1], ends[1:], values, strict=True):
        if corners and corners[-1][1] == value:
            corners.pop()
        else:
            corners.append((left, value))
        corners.append((right, value))
    return [f"{FULL * x:.4g} {FULL * (1 - y):.4g}" for x, y in corners]


@dataclass(frozen=True)
class Strip:
    """A distribution on a lane, in percent of its width, as left ends and widths.

    whole: all of it. most: its middle 80 %. half: its middle half. median: where it is.
    """

    whole: tuple[float, float]
    most: tuple[float, float]
    half: tuple[float, float]
    median: float


def strip(quantiles: Sequence[float], low: float, high: float) -> Strip:
    """The lane from `low` to `high`; quantiles at the shares that `summary_of` names."""
    span = (high - low) or 1.0
    at = [min(100.0, max(0.0, 100 * (value - low) / span)) for value in quantiles]
    return Strip((at[0], at[6] - at[0]), (at[1], at[5] - at[1]), (at[2], at[4] - at[2]), at[3])
