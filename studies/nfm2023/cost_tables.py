"""What it costs: how cases end, engine against engine, and what drives regions and seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from steadygaze.campaign import Status
from studies.nfm2023.cases import DELTA, ENGINES, FULL_WIDTH, SETS
from studies.nfm2023.networks import STANDARD
from studies.nfm2023.rows import Row, costs, engines, question
from studies.nfm2023.statistics import Exponent, mean_slope, power_law, quartiles, slope
from studies.nfm2023.table import RECORDS, Table, finite, grouped, median


def outcomes(rows: Sequence[Row]) -> Table:
    """How the cases of each engine ended."""
    told = []
    for (method, perturbation), group in grouped(
        [row for row in rows if row.threshold == DELTA and row.width == FULL_WIDTH],
        lambda row: (row.method, row.perturbation),
    ).items():
        ended = Counter(row.status for row in group)
        told.append(
            {
                "engine": method,
                "perturbation": perturbation,
                "cases": len(group),
                **{status.value: ended[status] for status in Status},
                RECORDS: tuple(row.short for row in group),
            }
        )
    return Table(
        "outcomes",
        "How the cases ended",
        f"At threshold {DELTA:g} and full width, where every engine was asked the same.",
        ("engine", "perturbation", "cases", *(status.value for status in Status), RECORDS),
        tuple(
            sorted(
                told, key=lambda row: (ENGINES.index(row["engine"]), list(SETS).index(row["perturbation"]))
            )
        ),
    )


def engine_pairs(rows: Sequence[Row]) -> Table:
    """Case by case: gbs and the other engines against bfs."""
    told = [
        {
            "pair": f"{second} against {first}",
            "network": pair.first.network,
            "perturbation": pair.first.perturbation,
            "width": pair.first.width,
            "image": pair.first.image,
            "regions, first": pair.second_value,
            "regions, second": pair.first_value,
            "regions, ratio": pair.second_value / pair.first_value,
            "seconds, first": pair.second.seconds,
            "seconds, second": pair.first.seconds,
            RECORDS: pair.keys,
        }
        for first, second in (("bfs", "gbs"), ("sweep", "gbs"), ("sweep", "nearest"))
        for pair in engines(rows, first, second)
    ]
    return Table(
        "engine-pairs",
        "Engines against each other, case by case",
        "Cases that both engines solved, all widths; first and second as named in the pair.",
        (
            "pair", "network", "perturbation", "width", "image", "regions, first", "regions, second",
            "regions, ratio", "seconds, first", "seconds, second", RECORDS,
        ),
        tuple(told),
    )  # fmt: skip


def cost_by_network(rows: Sequence[Row]) -> Table:
    """Regions and seconds, with what was cut off counted as larger than all that was seen."""
    told = []
    for method in ENGINES:
        for (network, perturbation, width), group in grouped(
            costs(rows, method, None), lambda row: (row.network, row.perturbation, row.width)
        ).items():
            solved = [row for row in group if row.solved]
            cut_off = len(group) - len(solved)
            regions = quartiles([row.regions or 0 for row in solved], cut_off)
            seconds = quartiles([row.seconds or 0.0 for row in solved], cut_off)
            known = next((row for row in group if row.units is not None), group[0])
            told.append(
                {
                    "engine": method,
                    "network": network,
                    "training": known.training,
                    "units": known.units,
                    "layers": known.layers,
                    "perturbation": perturbation,
                    "parameters": known.dimension,
                    "width": width,
                    "n": len(group),
                    "cut off": cut_off,
                    "median regions": regions and finite(regions.median),
                    "median seconds": seconds and finite(seconds.median),
                    "median MiB": median([row.memory / 2**20 for row in solved if row.memory is not None]),
                    "hinges per region": median([row.hinges for row in solved if row.hinges is not None]),
                    "facets per region": median([row.facets for row in solved if row.facets is not None]),
                    RECORDS: tuple(row.short for row in group),
                }
            )
    return Table(
        "costs",
        "What a case costs",
        f"At threshold {DELTA:g}. A case that a limit ended counts as larger than any that was solved; where "
        "it is half of them or more, the median is not known and left empty. Memory is that beyond what the "
        "process held before the case, of the solved ones.",
        (
            "engine", "network", "training", "units", "layers", "perturbation", "parameters", "width", "n",
            "cut off", "median regions", "median seconds", "median MiB", "hinges per region",
            "facets per region", RECORDS,
        ),
        tuple(told),
    )  # fmt: skip


def exponents(rows: Sequence[Row]) -> Table:
    """Fitted exponents of regions and seconds."""
    told: list[dict[str, Any]] = []
    for method in ENGINES:
        for perturbation in SETS:
            here = [row for row in costs(rows, method, None) if row.perturbation == perturbation]
            for quantity in ("regions", "seconds"):
                for exponent, how, keys in _fits(here, quantity):
                    told.append(
                        {
                            "engine": method,
                            "perturbation": perturbation,
                            "quantity": quantity,
                            "driver": exponent.name,
                            "how": how,
                            "exponent": exponent.value,
                            "95 % from": exponent.low,
                            "95 % to": exponent.high,
                            "n": exponent.n,
                            RECORDS: keys,
                        }
                    )
    return Table(
        "exponents",
        "What drives the cost: fitted exponents",
        "Least squares of logarithms. Across networks: one point for each network without robust training, "
        "its median over images; networks whose median was cut off are left out. Together: units and "
        "layers in one fit. Width: one exponent for each case solved at all widths, then their mean with "
        "its t interval.",
        (
            "engine", "perturbation", "quantity", "driver", "how", "exponent", "95 % from", "95 % to", "n",
            RECORDS,
        ),
        tuple(told),
    )  # fmt: skip


def _fits(rows: Sequence[Row], quantity: str) -> list[tuple[Exponent, str, tuple[str, ...]]]:
    points = network_points(rows, quantity)
    keys = tuple(key for point in points for key in point.keys)
    units, layers = [point.units for point in points], [point.layers for point in points]
    values = [point.value for point in points]
    fits = [
        *((one, "across networks", keys) for one in power_law({"units": units}, values)),
        *((one, "across networks", keys) for one in power_law({"layers": layers}, values)),
        *((one, "together", keys) for one in power_law({"units": units, "layers": layers}, values)),
    ]
    slopes, used = width_slopes(rows, quantity)
    mean = mean_slope("width", slopes)
    return fits + ([(mean, "within cases", used)] if mean else [])


@dataclass(frozen=True)
class Point:
    """A network by its median cost under one perturbation."""

    network: str
    training: str
    family: str
    units: int
    layers: int
    value: float
    keys: tuple[str, ...]


def network_points(rows: Sequence[Row], quantity: str, plain: bool = True) -> list[Point]:
    """One point for each network whose median is known; ``plain`` leaves robust training out."""
    points = []
    for group in grouped([row for row in rows if row.width == FULL_WIDTH], lambda row: row.network).values():
        solved = [row for row in group if row.solved]
        if not solved or (plain and group[0].training not in (STANDARD, "public")):
            continue
        known = solved[0]
        found = quartiles([getattr(row, quantity) for row in solved], len(group) - len(solved))
        if found and isfinite(found.median) and found.median > 0 and known.units and known.layers:
            points.append(
                Point(
                    known.network, known.training, known.family, known.units, known.layers, found.median,
                    tuple(row.short for row in group),
                )
            )  # fmt: skip
    return points


def width_slopes(rows: Sequence[Row], quantity: str) -> tuple[list[float], tuple[str, ...]]:
    """The exponent of each case in the width of the box, where all widths were solved; and the records."""
    widths = sorted({row.width for row in rows})
    slopes, keys = [], []
    for group in grouped(rows, question).values():
        solved = {row.width: row for row in group if row.solved and getattr(row, quantity)}
        if len(widths) > 1 and sorted(solved) == widths:
            slopes.append(slope(widths, [getattr(solved[width], quantity) for width in widths]))
            keys += [row.short for row in solved.values()]
    return slopes, tuple(keys)
