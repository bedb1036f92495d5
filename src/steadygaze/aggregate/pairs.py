"""One model against another on the same images.

What is compared are facts: whether a claim is *certified* at a scale, and up to which scale it is. Images
of which either side is not settled are counted beside, for there the difference is one of proof.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from steadygaze.aggregate.outcomes import Outcomes
from steadygaze.aggregate.rates import CONFIDENCE, Rate, robust
from steadygaze.errors import UsageError

_DRAWS, _SEED = 9999, 20260714
FEWEST = 6  # pairs that differ, below which a signed-rank test cannot come below 0.03


@dataclass(frozen=True)
class Comparison:
    """First against second, paired by image, for one claim at one scale.

    Attributes:
        n: pairs. first, second: the rates on these images.
        only_first, only_second: images certified by one of them alone. unsettled: images of which one
            or both are not settled.
        difference: of the certified shares, first less second; `interval` its 95 % interval (Agresti and Min
            2005, for paired proportions); `p`: McNemar's exact test, None where no pair differs.
        scale_difference: the mean of the differences of certified scales; `scale_interval` its 95 % interval
            (percentile bootstrap of 9,999 draws), None for fewer than six pairs; `scale_p`: Wilcoxon's
            signed-rank test, None where fewer than six pairs differ.
    """

    n: int
    first: Rate
    second: Rate
    only_first: int
    only_second: int
    unsettled: int
    difference: float
    interval: tuple[float, float]
    p: float | None
    scale_difference: float
    scale_interval: tuple[float, float] | None
    scale_p: float | None


def compared(first: Outcomes, second: Outcomes, claim: int, scale: float) -> Comparison:
    """Compare on the images that both have, and both answered.

    Raises UsageError where there are none.
    """
    one, two = _paired(first, second)
    a, b = robust(one, claim, scale), robust(two, claim, scale)
    certified = np.stack([one.holds[claim] >= scale, two.holds[claim] >= scale])
    failing = ~certified & np.stack([one.fails[claim] <= scale, two.fails[claim] <= scale])
    alone = certified & ~certified[::-1]
    only_first, only_second = (int(flags.sum()) for flags in alone)
    reached = np.clip(one.holds[claim], 0.0, 1.0) - np.clip(two.holds[claim], 0.0, 1.0)
    return Comparison(
        n=len(one),
        first=a,
        second=b,
        only_first=only_first,
        only_second=only_second,
        unsettled=int((~(certified | failing).all(axis=0)).sum()),
        difference=(only_first - only_second) / len(one),
        interval=_agresti_min(only_first, only_second, len(one)),
        p=_mcnemar(only_first, only_second),
        scale_difference=float(reached.mean()),
        scale_interval=_bootstrapped(reached),
        scale_p=_signed_rank(reached),
    )


def _paired(first: Outcomes, second: Outcomes) -> tuple[Outcomes, Outcomes]:
    place = {image: k for k, image in enumerate(second.images) if second.answered[k]}
    shared = [(k, place[i]) for k, i in enumerate(first.images) if first.answered[k] and i in place]
    if not shared:
        raise UsageError(
            "the two have no image in common that both answered; compare campaigns over the same images"
        )
    numbers = np.array(shared)
    return first.chosen(numbers[:, 0]), second.chosen(numbers[:, 1])


def _agresti_min(only_first: int, only_second: int, n: int) -> tuple[float, float]:
    """An interval for the difference of paired proportions that does not collapse where no pair differs.

    Agresti and Min, Statistics in Medicine 24 (2005): Wald's interval with 1/2 added to each of the four
    counts.
    """
    b, c, total = only_first + 0.5, only_second + 0.5, n + 2.0
    middle, width = (b - c) / total, float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    reach = width * math.sqrt((b + c) - (b - c) ** 2 / total) / total
    return max(-1.0, middle - reach), min(1.0, middle + reach)


def _mcnemar(only_first: int, only_second: int) -> float | None:
    differing = only_first + only_second
    return float(stats.binomtest(only_first, differing).pvalue) if differing else None


def _bootstrapped(values: np.ndarray) -> tuple[float, float] | None:
    if len(values) < FEWEST:
        return None
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=_DRAWS,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return float(found.low), float(found.high)


def _signed_rank(values: np.ndarray) -> float | None:
    if np.count_nonzero(values) < FEWEST:
        return None
    found: Any = stats.wilcoxon(values)
    return float(found.pvalue)
