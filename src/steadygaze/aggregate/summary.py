"""All that a campaign says, as one document of plain values: for the report, for JSON, for scripts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from steadygaze.aggregate.outcomes import ATTENTION, CLAIMS, UNKNOWN, Group, Outcomes
from steadygaze.aggregate.pairs import compared_at
from steadygaze.aggregate.rates import (
    MOST_STEPS,
    Rate,
    accurate,
    between,
    labelled,
    other_reason,
    robust,
    steps,
)
from steadygaze.errors import UsageError

QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
SCALES = (0.25, 0.5, 0.75, 1.0)  # of tables; curves have all steps
WORST = 20


def summary_of(groups: Mapping[Group, Outcomes], worst: int = WORST) -> dict[str, Any]:
    """The document: ``groups``, one entry for each, and ``pairs``, one for each pair of models and question.

    Distributions list their values at the shares ``quantiles``.

    worst: how many of the worst images each group names.
    """
    return {
        "quantiles": list(QUANTILES),
        "groups": [group_summary(group, outcomes, worst) for group, outcomes in groups.items()],
        "pairs": pair_summaries(groups),
    }


def group_summary(group: Group, outcomes: Outcomes, worst: int = WORST) -> dict[str, Any]:
    """What one group says."""
    ended = Counter("not finished" if status is None else status.value for status in outcomes.status)
    return {
        **group._asdict(),
        "n": len(outcomes),
        "answered": int(outcomes.answered.sum()),
        "labelled": int((outcomes.label != UNKNOWN).sum()),
        "ended": dict(ended),
        "accuracy": _told(accurate(outcomes)),
        "curves": _curves(outcomes),
        "table": [_row(outcomes, scale) for scale in SCALES],
        "scales": {CLAIMS[claim]: _distribution(outcomes.holds[claim]) for claim in outcomes.claims},
        "ranges": _ranges(outcomes),
        "classes": _classes(outcomes),
        "worst": [_case(outcomes, k) for k in worst_first(outcomes)[:worst]],
    }


def pair_summaries(groups: Mapping[Group, Outcomes]) -> list[dict[str, Any]]:
    """Every two models that were asked the same, on the images that both answered."""
    found = []
    for one, two in combinations(groups, 2):
        if one.question != two.question or one.model == two.model:
            continue
        for claim in one.claims:
            try:
                made = compared_at(groups[one], groups[two], claim, SCALES)
            except UsageError:  # nothing in common: nothing to say
                continue
            found += [
                {
                    "first_model": one.model,
                    "second_model": two.model,
                    **{name: value for name, value in one._asdict().items() if name != "model"},
                    "claim": CLAIMS[claim],
                    "scale": scale,
                    **(asdict(each) | {"first": _told(each.first), "second": _told(each.second)}),
                }
                for scale, each in zip(SCALES, made, strict=True)
            ]
    return found


def worst_first(outcomes: Outcomes) -> list[int]:
    """Numbers of the answered images, those first that fail soonest; then those of which least is proven."""
    fails, holds = outcomes.fails[outcomes.claims[-1]], outcomes.holds[outcomes.claims[-1]]
    order = np.lexsort((np.arange(len(outcomes)), holds, fails))
    return [int(k) for k in order if outcomes.answered[k]]


def _told(rate: Rate) -> dict[str, Any]:
    low, high = rate.interval()
    return {
        "n": rate.n,
        "certain": rate.certain,
        "unsettled": rate.unsettled,
        "low": rate.low,
        "high": rate.high,
        "interval": [low, high],
    }


def _curves(outcomes: Outcomes) -> dict[str, Any]:
    """Counts at every step, and under ``between`` those at the scales between one step and the next.

    Of accuracies `n` is the number of ``labelled`` images, of the others that of all. Of attention they are
    where it was asked about.
    """
    scales, known = steps(outcomes), labelled(outcomes)
    every = len(scales) < MOST_STEPS
    measures: dict[str, Callable[[float], Rate]] = {
        f"{CLAIMS[claim]}_robust": partial(robust, outcomes, claim) for claim in outcomes.claims
    }
    if ATTENTION in outcomes.claims:
        measures["other_reason"] = partial(other_reason, outcomes)
    measures |= {
        f"{CLAIMS[claim]}_robust_accuracy": partial(robust, known, claim, accuracy=True)
        for claim in outcomes.claims
    }
    made: dict[str, Any] = {
        "scale": scales.tolist(),
        "n": len(outcomes),
        "labelled": len(known),
        "between": {},
    }
    for name, measure in measures.items():
        rates = [measure(scale) for scale in scales]
        middles = [measure(scale) for scale in (scales[:-1] + scales[1:]) / 2] if every else rates[1:]
        made[name] = _counts(rates)
        made["between"][name] = _counts(
            [between(a, m, b, every) for a, m, b in zip(rates[:-1], middles, rates[1:], strict=True)]
        )
    return made


def _counts(rates: Sequence[Rate]) -> dict[str, list[int]]:
    return {"certain": [r.certain for r in rates], "unsettled": [r.unsettled for r in rates]}


def _row(outcomes: Outcomes, scale: float) -> dict[str, Any]:
    row: dict[str, Any] = {"scale": scale}
    if ATTENTION in outcomes.claims:
        row["other_reason"] = _told(other_reason(outcomes, scale))
    for claim in outcomes.claims:
        row[f"{CLAIMS[claim]}_robust"] = _told(robust(outcomes, claim, scale))
        row[f"{CLAIMS[claim]}_robust_accuracy"] = _told(robust(outcomes, claim, scale, accuracy=True))
    return row


def _distribution(values: np.ndarray) -> dict[str, Any]:
    """Quantiles of those that are known; certified scales are lower bounds, cut at the whole box."""
    known = np.clip(values[np.isfinite(values)], 0.0, 1.0)
    quantiles = np.quantile(known, QUANTILES).tolist() if len(known) else []
    return {"n": len(values), "known": len(known), "quantiles": quantiles}


def _ranges(outcomes: Outcomes) -> list[dict[str, Any]]:
    """For each parameter how far its safe range reaches down and up, others held at 0."""
    told: dict[str, tuple[Mapping[str, Any], list[Sequence[float]]]] = {}
    for entry in outcomes.entries:
        answer = entry.record.answer if entry.record is not None else None
        for axis, pair in zip(
            (answer or {}).get("axes") or (), (answer or {}).get("ranges") or (), strict=False
        ):
            told.setdefault(axis["name"], (axis, []))[1].append(pair)
    return [
        {
            "parameter": name,
            "unit": axis["unit"],
            "box": [axis["low"], axis["high"]],
            "n": len(outcomes),
            "known": len(pairs),
            "low": np.quantile([pair[0] for pair in pairs], QUANTILES).tolist(),
            "high": np.quantile([pair[1] for pair in pairs], QUANTILES).tolist(),
        }
        for name, (axis, pairs) in told.items()
    ]


def _classes(outcomes: Outcomes) -> list[dict[str, Any]]:
    """One row for each true class."""
    rows = []
    for label in np.unique(outcomes.label[outcomes.label != UNKNOWN]):
        own = outcomes.chosen(outcomes.label == label)
        rows.append({"label": int(label), "accuracy": _told(accurate(own)), **_row(own, 1.0)})
    return rows


def _case(outcomes: Outcomes, number: int) -> dict[str, Any]:
    record = outcomes.entries[number].record
    answer = record.answer if record is not None and record.answer is not None else {}
    failure = answer.get("nearest_failure") or {}
    return {
        "image": outcomes.images[number],
        "key": outcomes.entries[number].key,
        "label": int(outcomes.label[number]),
        "predicted": int(outcomes.predicted[number]),
        "verdict": answer.get("verdict"),
        **{f"{CLAIMS[claim]}_holds": _finite(outcomes.holds[claim, number]) for claim in outcomes.claims},
        **{f"{CLAIMS[claim]}_fails": _finite(outcomes.fails[claim, number]) for claim in outcomes.claims},
        "failure": failure.get("kind"),
        "theta": failure.get("theta"),
        "distance": failure.get("distance"),
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
