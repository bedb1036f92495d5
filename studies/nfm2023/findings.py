"""What the study found, in sentences that are computed from the records, each with its figure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from steadygaze.answer.words import listing, number, percent
from studies.nfm2023 import plots
from studies.nfm2023.cases import CLASS_ONLY, DELTA, SETS
from studies.nfm2023.cost_findings import cost_findings
from studies.nfm2023.finding import Finding, concluded, keys_of
from studies.nfm2023.networks import NOISE, PGD
from studies.nfm2023.range_tables import cut_off_questions
from studies.nfm2023.rows import Row, class_and_attention, reaches, trainings
from studies.nfm2023.statistics import LEAST, paired_p


def findings(rows: Sequence[Row]) -> list[Finding]:
    """All findings, in the order of the report; one with too few records says so."""
    return [
        safe_ranges(rows),
        attention_before_class(rows),
        thresholds(rows),
        robust_training(rows),
        *cost_findings(rows),
    ]


def safe_ranges(rows: Sequence[Row]) -> Finding:
    """How far class and attention hold along one parameter, in its own unit."""
    classes, attentions = reaches(rows, CLASS_ONLY), reaches(rows, DELTA)
    both = [place for place in attentions if place in classes]

    def sentences() -> list[str]:
        told = []
        for name in dict.fromkeys(place[3] for place in both if "," not in place[2]):
            places = [place for place in both if place[3] == name and "," not in place[2]]
            ends = [
                [next(axis for axis in found[place].row.axes if axis.name == name) for place in places]
                for found in (classes, attentions)
            ]
            (a, b), (c, d) = (
                (
                    float(np.median([axis.safe_low for axis in side])),
                    float(np.median([axis.safe_high for axis in side])),
                )
                for side in ends
            )
            asked = ends[0][0]
            told.append(
                f"{name}: the class holds from {number(a, 3)} to {number(b, 3)}, the attention only from "
                f"{number(c, 3)} to {number(d, 3)} (medians over {len(places)} network-image pairs; asked: "
                f"{number(asked.low)} to {number(asked.high)})."
                if (c, d) != (a, b)
                else f"{name}: class and attention both hold from {number(a, 3)} to {number(b, 3)} (medians "
                f"over {len(places)} network-image pairs; asked: {number(asked.low)} to "
                f"{number(asked.high)})."
            )
        whole = [sum(found[place].value >= 1 for place in both) for found in (classes, attentions)]
        told.append(
            f"Of all {len(both)} comparisons, several perturbations at once included, {whole[0]} (class) and "
            f"{whole[1]} (attention) are safe in the whole of what was asked, so that these values are lower "
            "bounds."
        )
        lost = [
            sum(map(len, cut_off_questions(rows, threshold, {place[:3] for place in found}).values()))
            for threshold, found in ((CLASS_ONLY, classes), (DELTA, attentions))
        ]
        if any(lost):
            told.append(
                f"Not among them: {lost[0]} (class) and {lost[1]} (attention) questions that a limit ended."
            )
        return told

    keys = [found[place].row.short for place in both for found in (classes, attentions)]
    draw = partial(plots.safe_ranges, rows)
    return concluded("How far class and attention hold", "ranges", keys, len(both), sentences, draw)


def attention_before_class(rows: Sequence[Row]) -> Finding:
    """Whether networks keep their answer for another reason."""
    pairs = class_and_attention(rows)

    def sentences() -> list[str]:
        lost = [pair for pair in pairs if pair.second_value < pair.first_value]
        told = [
            f"In {len(lost)} of {len(pairs)} comparisons ({percent(len(lost) / len(pairs))}) the attention "
            f"is lost strictly before the class: the answer stays, its basis does not (threshold {DELTA:g})."
        ]
        kept = [pair.second_value / pair.first_value for pair in pairs if pair.first_value > 0]
        if kept:
            lower, median, upper = np.quantile(kept, [0.25, 0.5, 0.75])
            told.append(
                "Of the range in which the class holds inside the box, the attention holds in "
                f"{percent(float(median))} (median; quartiles {percent(float(lower))} and "
                f"{percent(float(upper))})."
            )
        shares = {
            perturbation: [
                p.second_value < p.first_value for p in pairs if p.first.perturbation == perturbation
            ]
            for perturbation in SETS
        }
        known = {name: sum(losses) / len(losses) for name, losses in shares.items() if len(losses) >= LEAST}
        if len(known) > 1:
            most, least = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
            told.append(
                f"It is lost first most often under {most} ({percent(known[most])} of {len(shares[most])}), "
                f"least often under {least} ({percent(known[least])} of {len(shares[least])})."
            )
        return told

    draw = partial(plots.class_against_attention, rows)
    return concluded(
        "Is attention lost before the class?",
        "attention-against-class",
        keys_of(pairs),
        len(pairs),
        sentences,
        draw,
    )


def thresholds(rows: Sequence[Row]) -> Finding:
    """What the threshold does."""
    asked = sorted({row.threshold for row in rows})
    found = [reaches(rows, threshold) for threshold in asked]
    common = sorted(set(found[0]).intersection(*found[1:])) if found else []

    def sentences() -> list[str]:
        medians = [float(np.median([one[place].value for place in common])) for one in found]
        told = [
            f"{percent(median)} {'for the class alone' if threshold >= CLASS_ONLY else f'at {threshold:g}'}"
            for threshold, median in zip(asked, medians, strict=True)
        ]
        return [
            f"The median safe share over {len(common)} questions that were settled at every threshold is "
            f"{listing(told)}."
        ]

    keys = [one[place].row.short for place in common for one in found]
    draw = partial(plots.thresholds, rows)
    n = len(common) if len(asked) > 1 else 0
    return concluded("What the threshold does", "ranges", keys, n, sentences, draw, "questions")


def robust_training(rows: Sequence[Row]) -> Finding:
    """Whether robust training steadies attention."""
    groups = {
        (kind, what): trainings(rows, kind, threshold)
        for kind in (PGD, NOISE)
        for what, threshold in (("class", CLASS_ONLY), ("attention", DELTA))
    }

    def sentences() -> list[str]:
        told = []
        for (kind, what), pairs in groups.items():
            if len(pairs) < LEAST:
                told.append(f"Trained by {kind}, {what}: too few records ({len(pairs)} pairs).")
                continue
            first, second = [p.first_value for p in pairs], [p.second_value for p in pairs]
            farther, less = (
                sum(b > a for a, b in zip(first, second, strict=True)),
                sum(b < a for a, b in zip(first, second, strict=True)),
            )
            p = paired_p(first, second)
            test = "" if p is None else f", Wilcoxon p = {number(p, 2)}"
            told.append(
                f"Trained by {kind}, the {what} holds farther in {farther} and less far in {less} of "
                f"{len(pairs)} pairs (medians {percent(float(np.median(second)))} against "
                f"{percent(float(np.median(first)))} trained plainly{test})."
            )
        return told

    pairs = [pair for group in groups.values() for pair in group]
    draw = partial(plots.robust_training, rows)
    n = max((len(group) for group in groups.values()), default=0)
    return concluded(
        "Does robust training steady attention?",
        "robust-training",
        keys_of(pairs),
        n,
        sentences,
        draw,
        "pairs",
    )
