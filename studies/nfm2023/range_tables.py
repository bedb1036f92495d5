"""How far it is safe: by network, for class and attention, trained plainly and robustly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from studies.nfm2023.cases import CLASS_ONLY, DELTA, FULL_WIDTH
from studies.nfm2023.networks import NOISE, PGD
from studies.nfm2023.rows import Reach, Row, class_and_attention, question, reaches, trainings
from studies.nfm2023.statistics import paired_p, quartiles
from studies.nfm2023.table import RECORDS, Table, grouped, median


def ranges(rows: Sequence[Row]) -> Table:
    """How far it is safe, by network, perturbation and threshold."""
    told = []
    asked = sorted({row.threshold for row in rows})
    for threshold in asked:
        found = list(reaches(rows, threshold).items())
        missing = cut_off_questions(rows, threshold, {place[:3] for place, _ in found})
        for (network, perturbation, name), group in grouped(
            found, lambda one: (one[0][0], one[0][2], one[0][3])
        ).items():
            here = [reach for _, reach in group]
            left = missing.get((network, perturbation), ())
            told.append(_range_row(network, perturbation, name, threshold, here, left))
    return Table(
        "ranges",
        "Safe ranges",
        "Share of the asked range that is proven safe: along one parameter with the others at 0, and for "
        f"several perturbations at once the safe scale. Threshold {CLASS_ONLY:g} is the largest value of the "
        "inconsistency: only the class counts there. Whole: images for which all of the range is safe, so "
        "that the value is a lower bound. Cut off: images that no engine settled; they are left out of the "
        "quartiles.",
        (
            "network", "perturbation", "measure", "threshold", "n", "lower quartile", "median",
            "upper quartile", "median from", "median to", "whole", "cut off", RECORDS,
        ),
        tuple(told),
    )  # fmt: skip


def cut_off_questions(
    rows: Sequence[Row], threshold: float, settled: set[tuple[str, str, str]]
) -> dict[tuple[str, str], tuple[str, ...]]:
    """Images that have only records of limits, by network and perturbation: the short keys of those."""
    found: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        same = row.threshold == threshold and row.width == FULL_WIDTH
        if same and row.cut_off and question(row) not in settled:
            found[row.network, row.perturbation][row.image].append(row.short)
    return {place: tuple(" ".join(keys) for keys in images.values()) for place, images in found.items()}


def _range_row(
    network: str,
    perturbation: str,
    name: str,
    threshold: float,
    here: Sequence[Reach],
    left: tuple[str, ...],
) -> dict[str, Any]:
    values = quartiles([reach.value for reach in here])
    assert values is not None  # a group has members
    ends = [axis for reach in here for axis in reach.row.axes if axis.name == name]
    low, high = quartiles([axis.safe_low for axis in ends]), quartiles([axis.safe_high for axis in ends])
    return {
        "network": network,
        "perturbation": perturbation,
        "measure": name,
        "threshold": threshold,
        "n": values.n,
        "lower quartile": values.lower,
        "median": values.median,
        "upper quartile": values.upper,
        "median from": low and low.median,
        "median to": high and high.median,
        "whole": sum(reach.value >= 1 for reach in here),
        "cut off": len(left),
        RECORDS: (*(reach.row.short for reach in here), *left),
    }


def attention_against_class(rows: Sequence[Row]) -> Table:
    """The class holds until ..., the attention only until ...: image by image."""
    told = []
    for (network, perturbation, name), group in grouped(
        class_and_attention(rows), lambda pair: (pair.first.network, pair.first.perturbation, pair.name)
    ).items():
        first, second = (
            quartiles([pair.first_value for pair in group]),
            quartiles([pair.second_value for pair in group]),
        )
        assert first is not None
        assert second is not None
        told.append(
            {
                "network": network,
                "perturbation": perturbation,
                "measure": name,
                "n": len(group),
                "class holds until": first.median,
                "attention holds until": second.median,
                "attention lost first": sum(pair.second_value < pair.first_value for pair in group),
                RECORDS: tuple(key for pair in group for key in pair.keys),
            }
        )
    return Table(
        "attention-against-class",
        "The class holds until ..., the attention only until ...",
        f"Medians over images of the shares of the asked range, at threshold {DELTA:g} against class alone; "
        "lost first: images whose attention fails strictly before the class does.",
        (
            "network", "perturbation", "measure", "n", "class holds until", "attention holds until",
            "attention lost first", RECORDS,
        ),
        tuple(told),
    )  # fmt: skip


def robust_training(rows: Sequence[Row]) -> Table:
    """Robustly trained networks against plainly trained ones, image by image."""
    told = []
    for training in (PGD, NOISE):
        for what, threshold in (("class", CLASS_ONLY), ("attention", DELTA)):
            for perturbation, group in grouped(
                trainings(rows, training, threshold), lambda pair: pair.first.perturbation
            ).items():
                first, second = [p.first_value for p in group], [p.second_value for p in group]
                told.append(
                    {
                        "training": training,
                        "what holds": what,
                        "perturbation": perturbation,
                        "n": len(group),
                        "median, plain": median(first),
                        "median, robust": median(second),
                        "farther": sum(b > a for a, b in zip(first, second, strict=True)),
                        "less far": sum(b < a for a, b in zip(first, second, strict=True)),
                        "p": paired_p(first, second),
                        RECORDS: tuple(key for pair in group for key in pair.keys),
                    }
                )
    return Table(
        "robust-training",
        "Does robust training steady attention?",
        "The same architecture, image and perturbation, trained plainly and robustly; share of the asked "
        "range that is safe. p: Wilcoxon's signed-rank test of no difference, two-sided, not corrected for "
        "the number of rows; the images of one network are not independent of each other, so that p is a "
        "guide only.",
        (
            "training", "what holds", "perturbation", "n", "median, plain", "median, robust", "farther",
            "less far", "p", RECORDS,
        ),
        tuple(told),
    )  # fmt: skip
