"""Medians, quartiles and fits, with what is cut off treated as what it is: larger than was seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

LEAST = 5  # fewer records than this make no finding
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Quartiles:
    """Of n values; infinite where that quartile falls among those that were cut off."""

    lower: float
    median: float
    upper: float
    n: int
    cut_off: int = 0


def quartiles(values: Sequence[float], cut_off: int = 0) -> Quartiles | None:
    """Quartiles of values of which ``cut_off`` more are only known to be larger; None without any."""
    count = len(values) + cut_off
    if count == 0:
        return None
    ordered = [*sorted(values), *[math.inf] * cut_off]
    lower, median, upper = (_quantile(ordered, share) for share in (0.25, 0.5, 0.75))
    return Quartiles(lower, median, upper, count, cut_off)


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Linear between neighbours, as NumPy does by default; infinite as soon as one of the two is."""
    place = share * (len(ordered) - 1)
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
    return below if below == above else below + (place - math.floor(place)) * (above - below)


@dataclass(frozen=True)
class Exponent:
    """y grows like x to the power ``value``, others held equal; a 95 % interval, from n points."""

    name: str
    value: float
    low: float
    high: float
    n: int


def power_law(columns: dict[str, Sequence[float]], y: Sequence[float]) -> list[Exponent]:
    """Least squares of log y on the logs of all columns together.

    Empty where the points are too few for an interval, or cannot tell the columns apart.
    """
    logs = np.log(np.array(list(columns.values()), float)).T
    design = np.column_stack([np.ones(len(y)), logs])
    freedom = len(y) - design.shape[1]
    if len(y) < LEAST or freedom < 1 or np.linalg.matrix_rank(design) < design.shape[1]:
        return []
    target = np.log(np.asarray(y, float))
    solution, *_ = np.linalg.lstsq(design, target, rcond=None)
    variance = float(np.sum((target - design @ solution) ** 2)) / freedom
    errors = np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * errors
    return [
        Exponent(name, float(value), float(value - span), float(value + span), len(y))
        for name, value, span in zip(columns, solution[1:], reach[1:], strict=True)
    ]


def mean_slope(name: str, slopes: Sequence[float]) -> Exponent | None:
    """The mean of exponents that were fitted one for each case, with its t interval over the cases."""
    if len(slopes) < LEAST:
        return None
    mean, error = float(np.mean(slopes)), float(stats.sem(slopes))
    span = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(slopes) - 1)) * error
    return Exponent(name, mean, mean - span, mean + span, len(slopes))


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The exponent of one case alone."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def paired_p(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Wilcoxon's signed-rank test of no difference, two-sided; None where all pairs are equal."""
    differences = np.subtract(second, first)
    if not np.any(differences):
        return None
    outcome: Any = stats.wilcoxon(differences)
    return float(outcome.pvalue)
