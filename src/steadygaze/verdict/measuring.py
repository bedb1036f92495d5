"""Other measures of how alike maps are, taken at random points of the box: measurements, never a claim.

Pearson's and Spearman's correlation (SciPy) and the structural similarity SSIM (Wang et al., 2004;
scikit-image) are what studies of saliency report (Adebayo et al., NeurIPS 2018). They stand beside the
inconsistency that is verified.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

import numpy as np

from steadygaze.answer.parts import Measure, Measured
from steadygaze.deadline import NEVER, Deadline, Expired
from steadygaze.errors import SettingError
from steadygaze.question.points import in_parts
from steadygaze.question.problem import Problem
from steadygaze.question.timing import problem_until

MOST_POINTS = 100_000
_WINDOW = 7  # SSIM's usual window, in entries


def measure(problem: Problem, points: int, seed: int = 0, deadline: Deadline = NEVER) -> Measured:
    """Compare the map with the expected one at random points of the box where the class holds.

    Args:
        problem: the question.
        points: how many are drawn, uniformly.
        seed: of the draws.
        deadline: when to end, with the points that were looked at by then.

    Returns:
        What was measured, the least value of each measure with its place.

    Raises:
        SettingError: if the number of points is out of range, the class alone was asked about, or
            scikit-image is not installed.
    """
    if isinstance(points, bool) or not isinstance(points, int) or not 1 <= points <= MOST_POINTS:
        raise SettingError(
            f"the number of points to measure at is {points!r}; it must be a whole number from 1 to "
            f"{MOST_POINTS}"
        )
    if problem.class_alone:
        raise SettingError(
            "the class alone was asked about, so that there are no maps to measure; ask with the claim "
            "attention"
        )
    measures, timed, box = _measures(), problem_until(problem, deadline), problem.box
    thetas = box[:, 0] + np.random.default_rng(seed).random((points, len(box))) * (box[:, 1] - box[:, 0])
    drawn, held, found = 0, list[np.ndarray](), list[tuple[float, ...]]()
    with suppress(Expired):
        for part in in_parts(thetas, problem.graph.effort):
            deadline.ask()
            for holds, theta, pair in _pairs(timed, part):
                deadline.ask()
                if holds:
                    found.append(tuple(own(*pair) for own in measures.values()))
                    held.append(theta)
                drawn += 1
    if not held:
        return Measured(drawn, 0, seed, ())
    columns = zip(measures, np.array(found).T, strict=True)
    told = (_summary(name, values, np.array(held)) for name, values in columns)
    return Measured(drawn, len(held), seed, tuple(told))


def _pairs(problem: Problem, thetas: np.ndarray) -> Iterator[tuple[bool, np.ndarray, Any]]:
    """Of each theta ``(B, n)`` in turn whether the class holds there, and map and expected map if it does."""
    images = problem.images(thetas)
    logits = problem.network.graph.forward(images.to(problem.network.graph.device)).cpu()
    held = (problem.gaps(logits) > 0).all(dim=1).numpy()
    pairs: Iterator[Any] = iter(())
    if held.any():
        maps = problem.shown(problem.maps_at(images[held]))
        pairs = zip(maps, problem.shown(problem.expected_at(thetas[held])), strict=True)
    for holds, theta in zip(held, thetas, strict=True):
        yield bool(holds), theta, next(pairs) if holds else None


def _summary(name: str, values: np.ndarray, thetas: np.ndarray) -> Measure:
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return Measure(name, 0, None, None, None, None)
    least = known[values[known].argmin()]
    low, middle, high = (float(number) for number in np.quantile(values[known], [0.0, 0.5, 1.0]))
    return Measure(name, len(known), low, middle, high, tuple(map(float, thetas[least])))


def _measures() -> Mapping[str, Callable[[np.ndarray, np.ndarray], float]]:
    """By name what compares two maps of one shape, nan where they are not compared; nan where it cannot."""
    from scipy.stats import pearsonr, spearmanr  # here: slow to import, and rarely needed

    try:
        similarity = import_module("skimage.metrics").structural_similarity
    except ImportError as error:
        raise SettingError(
            "measuring needs scikit-image for SSIM, which is not installed; install steadygaze with its "
            "extra: pip install 'steadygaze[measures]'"
        ) from error

    def correlated(function: Any) -> Callable[[np.ndarray, np.ndarray], float]:
        def measured(actual: np.ndarray, expected: np.ndarray) -> float:
            kept = ~np.isnan(actual) & ~np.isnan(expected)
            first, second = actual[kept], expected[kept]
            varies = len(first) > 1 and np.ptp(first) > 0 and np.ptp(second) > 0
            return float(function(first, second).statistic) if varies else np.nan

        return measured

    def structural(actual: np.ndarray, expected: np.ndarray) -> float:
        first, second = np.nan_to_num(actual), np.nan_to_num(expected)
        window = min(_WINDOW, *first.shape[-2:])
        window -= 1 - window % 2
        span = float(max(first.max(), second.max()) - min(first.min(), second.min()))
        if window < 3 or span == 0:
            return np.nan
        axis = 0 if first.ndim == 3 else None
        return float(similarity(first, second, win_size=window, data_range=span, channel_axis=axis))

    return {"Pearson": correlated(pearsonr), "Spearman": correlated(spearmanr), "SSIM": structural}
