"""What the study found, in sentences that are computed from the records, each with its figure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.figure import Figure

from steadygaze.study import Status
from steadygaze.words import listing, number, percent
from studies.nfm2023 import cost_plots, plots
from studies.nfm2023.cases import CLASS_ONLY, DELTA, ENGINES, FULL_WIDTH, SETS
from studies.nfm2023.cost_tables import exponents
from studies.nfm2023.networks import NOISE, PGD
from studies.nfm2023.range_tables import cut_off_questions
from studies.nfm2023.rows import Pair, Row, class_and_attention, costs, engines, reaches, trainings
from studies.nfm2023.statistics import LEAST, paired_p


@dataclass(frozen=True)
class Finding:
    """A heading, what was found in sentences, what draws the figure that shows it, the table behind it.

    keys: of the records that the sentences were computed from.
    """

    title: str
    sentences: tuple[str, ...]
    draw: Callable[[], Figure | None]
    table: str
    keys: tuple[str, ...]


def findings(rows: Sequence[Row]) -> list[Finding]:
    """All findings, in the order of the report; one with too few records says so."""
    engine = busiest(rows)
    return [
        safe_ranges(rows),
        attention_before_class(rows),
        thresholds(rows),
        robust_training(rows),
        outcomes(rows),
        engine_pair(rows, "bfs", "gbs"),
        engine_pair(rows, "sweep", "nearest"),
        size(rows, engine),
        width(rows, engine),
        training_cost(rows, engine),
    ]


def busiest(rows: Sequence[Row]) -> str:
    """The engine that solved the most cases at full width: its costs are shown."""
    solved = Counter(row.method for row in rows if row.solved and row.threshold == DELTA)
    return max(ENGINES, key=lambda engine: solved[engine])


def _told(
    title: str,
    table: str,
    keys: Iterable[str],
    n: int,
    sentences: Callable[[], list[str]],
    draw: Callable[[], Figure | None],
    what: str = "comparisons",
) -> Finding:
    known = tuple(dict.fromkeys(keys))
    if n < LEAST:
        few = f"Too few records for a finding: {n} {what}, where at least {LEAST} are asked for."
        return Finding(title, (few,), draw, table, known)
    return Finding(title, tuple(sentences()), draw, table, known)


def _keys(pairs: Iterable[Pair]) -> list[str]:
    return [key for pair in pairs for key in pair.keys]


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
    return _told("How far class and attention hold", "ranges", keys, len(both), sentences, draw)


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
    return _told(
        "Is attention lost before the class?",
        "attention-against-class",
        _keys(pairs),
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
    return _told("What the threshold does", "ranges", keys, n, sentences, draw, "questions")


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
    return _told(
        "Does robust training steady attention?", "robust-training", _keys(pairs), n, sentences, draw, "pairs"
    )


def outcomes(rows: Sequence[Row]) -> Finding:
    """Which engines come to their end."""
    asked = [row for row in rows if row.threshold == DELTA and row.width == FULL_WIDTH]

    def sentences() -> list[str]:
        told = []
        for engine in ENGINES:
            ended = Counter(row.status for row in asked if row.method == engine)
            if ended:
                parts = [f"{ended[status]} {status.value}" for status in Status if ended[status]]
                told.append(f"{engine}: {listing(parts)} of {sum(ended.values())}.")
        only = _solved_by_one(asked)
        told += [f"{count} cases were solved by {engine} alone." for engine, count in only.items()]
        return told

    draw = partial(cost_plots.outcomes, rows)
    keys = [row.short for row in asked]
    return _told("Which engines come to an end", "outcomes", keys, len(asked), sentences, draw, "cases")


def _solved_by_one(asked: Sequence[Row]) -> Counter[str]:
    by_case: dict[tuple[str, str, str], list[str]] = {}
    for row in asked:
        solvers = by_case.setdefault((row.network, row.image, row.perturbation), [])
        solvers += [row.method] if row.solved else []
    return Counter(solvers[0] for solvers in by_case.values() if len(solvers) == 1)


def engine_pair(rows: Sequence[Row], first: str, second: str) -> Finding:
    """Two engines on the same cases."""
    pairs = engines(rows, first, second)

    def sentences() -> list[str]:
        ratios = [pair.second_value / pair.first_value for pair in pairs]
        lower, median, upper = np.quantile(ratios, [0.25, 0.5, 0.75])
        fewer = sum(ratio < 1 for ratio in ratios)
        told = [
            f"{second} visits {percent(float(median))} of the regions that {first} visits (median of "
            f"{len(pairs)} cases that both solved; quartiles {percent(float(lower))} and "
            f"{percent(float(upper))}); fewer in {fewer}."
        ]
        timed = [p for p in pairs if p.first.seconds and p.second.seconds]
        if timed:
            quick = np.array([(p.second.seconds or 0.0) / (p.first.seconds or 1.0) for p in timed])
            told.append(
                f"It takes {number(float(np.median(quick)), 3)} times as long (median); less time in "
                f"{int((quick < 1).sum())} of {len(timed)}."
            )
        large = [ratio for ratio, pair in zip(ratios, pairs, strict=True) if pair.first_value >= 5_000]
        if len(large) >= LEAST:
            told.append(
                f"Where {first} visits 5,000 regions or more ({len(large)} cases), the median is "
                f"{percent(float(np.median(large)))}."
            )
        return told

    draw = partial(cost_plots.engine_pairs, rows, first, second)
    return _told(
        f"{_title(second)} against {_title(first)}", "engine-pairs", _keys(pairs), len(pairs), sentences,
        draw, "cases that both solved",
    )  # fmt: skip


def _title(engine: str) -> str:
    return engine.upper() if len(engine) == 3 else engine


def _exponent_sentences(rows: Sequence[Row], engine: str, how: str) -> tuple[list[str], tuple[str, ...]]:
    told, keys = [], []
    for row in exponents(rows).rows:
        if row["engine"] == engine and row["how"] == how and row["driver"] != "layers":
            told.append(
                f"{row['perturbation']}: {row['quantity']} grow like {row['driver']} to the power "
                f"{number(row['exponent'], 3)} (95 % interval {number(row['95 % from'], 3)} to "
                f"{number(row['95 % to'], 3)}; n = {row['n']})."
            )
            keys += row["records"]
    return told, tuple(keys)


def size(rows: Sequence[Row], engine: str) -> Finding:
    """Cost against the size of the network."""
    told, keys = _exponent_sentences(rows, engine, "across networks")
    draw = partial(cost_plots.cost_against_size, rows, engine)
    n = max((row["n"] for row in exponents(rows).rows if row["how"] == "across networks"), default=0)
    return _told(
        f"Cost against units ({engine})", "exponents", keys, n if told else 0, lambda: told, draw,
        "networks with a known median",
    )  # fmt: skip


def width(rows: Sequence[Row], engine: str) -> Finding:
    """Cost against the width of the box."""
    told, keys = _exponent_sentences(rows, engine, "within cases")
    draw = partial(cost_plots.cost_against_width, rows, engine)
    n = max((row["n"] for row in exponents(rows).rows if row["how"] == "within cases"), default=0)
    return _told(
        f"Cost against the width of the box ({engine})", "exponents", keys, n if told else 0, lambda: told,
        draw, "cases solved at all widths",
    )  # fmt: skip


def training_cost(rows: Sequence[Row], engine: str) -> Finding:
    """Cost of robustly trained networks."""
    found = cost_plots.cost_ratios(rows, engine)

    def sentences() -> list[str]:
        told = []
        for kind in (PGD, NOISE):
            ratios = [ratio for _, row, ratio in found if row.training == kind]
            if len(ratios) < LEAST:
                told.append(f"Trained by {kind}: too few records ({len(ratios)} pairs).")
            else:
                lower, median, upper = np.quantile(ratios, [0.25, 0.5, 0.75])
                told.append(
                    f"A network trained by {kind} has {number(float(median), 3)} times the regions of its "
                    f"plain sibling (median of {len(ratios)}; quartiles {number(float(lower), 3)} and "
                    f"{number(float(upper), 3)})."
                )
        hardest = _by_perturbation(rows, engine)
        return told + ([f"Median regions by perturbation: {listing(hardest)}."] if hardest else [])

    draw = partial(cost_plots.cost_of_training, rows, engine)
    keys = [row.short for first, second, _ in found for row in (first, second)]
    return _told(
        f"Cost against kind of perturbation and training ({engine})", "costs", keys, len(found), sentences,
        draw, "pairs",
    )  # fmt: skip


def _by_perturbation(rows: Sequence[Row], engine: str) -> list[str]:
    """The medians, cases that were cut off counted as larger than all."""
    told = []
    for perturbation in SETS:
        here = [row for row in costs(rows, engine) if row.perturbation == perturbation]
        values = sorted(row.regions or 0 for row in here if row.solved)
        if here and len(here) >= LEAST:
            middle = (len(here) - 1) // 2
            value = f"{values[middle]:,}" if middle < len(values) else "not known (half or more were cut off)"
            told.append(f"{value} under {perturbation}")
    return told
