"""What the study found about cost: ends, engines against each other, drivers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

import numpy as np

from steadygaze.answer.words import listing, number, percent
from steadygaze.campaign import Status
from studies.nfm2023 import cost_plots
from studies.nfm2023.cases import DELTA, ENGINES, FULL_WIDTH, SETS
from studies.nfm2023.cost_tables import exponents
from studies.nfm2023.finding import Finding, concluded, keys_of
from studies.nfm2023.networks import NOISE, PGD
from studies.nfm2023.rows import Pair, Row, costs, engines
from studies.nfm2023.statistics import LEAST, power_law
from studies.nfm2023.table import grouped

MEASURED = ("bfs", "gbs", "sweep")
"""Engines whose cost is drawn; that of nearest depends on how near the first failure is."""


def cost_findings(rows: Sequence[Row]) -> list[Finding]:
    """All of them, the drivers for each engine that solved anything."""
    known = [engine for engine in MEASURED if any(row.solved for row in costs(rows, engine))]
    return [
        outcomes(rows),
        engine_pair(rows, "bfs", "gbs"),
        engine_pair(rows, "sweep", "nearest"),
        *(size(rows, engine) for engine in known),
        *(width(rows, engine) for engine in known),
        *(training_cost(rows, engine) for engine in known),
    ]


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
        told += [
            f"{count} {'case was' if count == 1 else 'cases were'} solved by {engine} alone."
            for engine, count in only.items()
        ]
        return told

    draw = partial(cost_plots.outcomes, rows)
    keys = [row.short for row in asked]
    return concluded("Which engines come to an end", "outcomes", keys, len(asked), sentences, draw, "cases")


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
        return told + ([*_inside(pairs), *_growths(pairs, first, second)] if second == "gbs" else [])

    draw = partial(cost_plots.engine_pairs, rows, first, second)
    return concluded(
        f"{_title(second)} against {_title(first)}", "engine-pairs", keys_of(pairs), len(pairs), sentences,
        draw, "cases that both solved",
    )  # fmt: skip


def _inside(pairs: Sequence[Pair]) -> list[str]:
    """What is left to look at where the robust part around 0 has a large inside."""
    ratios = [pair.second_value / pair.first_value for pair in pairs if (pair.first.around or 0) >= 5_000]
    if len(ratios) < LEAST:
        return []
    middle, least, most = (percent(float(value)) for value in (np.median(ratios), min(ratios), max(ratios)))
    return [
        f"Where R₀ holds 5,000 regions or more ({len(ratios)} cases), it is {middle} (median; at least "
        f"{least}, at most {most})."
    ]


def _growths(pairs: Sequence[Pair], first: str, second: str) -> list[str]:
    """How the regions of one engine grow with those of the other, for each set of perturbations."""
    told = []
    for perturbation, own in grouped(pairs, lambda pair: pair.first.perturbation).items():
        counts: dict[str, Sequence[float]] = {first: [pair.first_value for pair in own]}
        for fit in power_law(counts, [pair.second_value for pair in own]):
            told.append(
                f"Under {perturbation} the regions of {second} grow like those of {first} to the power of "
                f"{number(fit.value, 3)} (95 % interval {number(fit.low, 3)} to {number(fit.high, 3)}, "
                f"{fit.n} cases that both solved)."
            )
    return told


def _title(engine: str) -> str:
    return engine.upper() if len(engine) == 3 else engine


def _exponent_sentences(
    rows: Sequence[Row], engine: str, how: str, driver: str
) -> tuple[list[str], tuple[str, ...], int]:
    """A sentence for each perturbation, the keys behind them, and the most points of a fit."""
    fits = [
        row
        for row in exponents(rows).rows
        if (row["engine"], row["how"], row["driver"]) == (engine, how, driver)
    ]
    told, sure = [], []
    for perturbation, both in grouped(fits, lambda row: row["perturbation"]).items():
        parts = [
            f"{row['quantity']} grow like {driver} to the power {number(row['exponent'], 3)} "
            f"({number(row['95 % from'], 3)} to {number(row['95 % to'], 3)}; n = {row['n']})"
            for row in both
        ]
        told.append(f"{perturbation}: {listing(parts)}.")
        sure += [perturbation for row in both if row["quantity"] == "regions" and row["95 % from"] > 0]
    if fits:
        told.append(
            f"In brackets 95 % intervals. That regions grow with {driver} at all is told from chance under "
            f"{listing(sure)}."
            if sure
            else f"In brackets 95 % intervals. None tells a growth of regions with {driver} from chance."
        )
    keys = tuple(key for row in fits for key in row["records"])
    return told, keys, max((row["n"] for row in fits), default=0)


def size(rows: Sequence[Row], engine: str) -> Finding:
    """Cost against the size of the network."""
    told, keys, n = _exponent_sentences(rows, engine, "across networks", "units")
    draw = partial(cost_plots.cost_against_size, rows, engine)
    return concluded(
        f"Cost against units ({engine})", "exponents", keys, n, lambda: told, draw,
        "fits across networks",
    )  # fmt: skip


def width(rows: Sequence[Row], engine: str) -> Finding:
    """Cost against the width of the box."""
    told, keys, n = _exponent_sentences(rows, engine, "within cases", "width")
    draw = partial(cost_plots.cost_against_width, rows, engine)
    return concluded(
        f"Cost against the width of the box ({engine})", "exponents", keys, n, lambda: told, draw,
        "fits within cases",
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
    return concluded(
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
