"""All tables of the report: those of ranges and costs, the networks, and every record."""

from __future__ import annotations

from collections.abc import Sequence

from studies.nfm2023.cost_tables import cost_by_network, engine_pairs, exponents, outcomes
from studies.nfm2023.range_tables import attention_against_class, ranges, robust_training
from studies.nfm2023.rows import Row
from studies.nfm2023.table import RECORDS, Table, grouped


def tables(rows: Sequence[Row]) -> list[Table]:
    """All tables, in the order of the report."""
    return [
        networks(rows),
        ranges(rows),
        attention_against_class(rows),
        outcomes(rows),
        engine_pairs(rows),
        cost_by_network(rows),
        exponents(rows),
        robust_training(rows),
        records(rows),
    ]


def networks(rows: Sequence[Row]) -> Table:
    """What was verified."""
    found: dict[str, list[Row]] = grouped(rows, lambda row: row.network)
    told = []
    for name, group in found.items():
        known = next((row for row in group if row.units is not None), group[0])
        told.append(
            {
                "network": name,
                "data": known.data,
                "training": known.training,
                "units": known.units,
                "layers": known.layers,
                "images": len({row.image for row in group}),
                "cases": len(group),
                RECORDS: (known.short,),
            }
        )
    return Table(
        "networks",
        "Networks",
        "Units are piecewise-linear ones without those of the clip; layers are those of such units. The "
        "record is the first from which this was read.",
        ("network", "data", "training", "units", "layers", "images", "cases", RECORDS),
        tuple(told),
    )


def records(rows: Sequence[Row]) -> Table:
    """Every finished case."""
    names = (
        "network", "data", "training", "family", "perturbation", "width", "image", "threshold", "method",
        "status", "verdict", "units", "layers", "dimension", "regions", "seconds", "wall", "memory", "hinges",
        "facets", "safe_scale", "robust_share", "origin_share", "interior", "nearest", "nearest_kind",
    )  # fmt: skip
    told = [
        {
            "key": row.key,
            **{name: getattr(row, name) for name in names},
            "status": row.status.value,
            "ranges": "; ".join(f"{a.name} {a.safe_low!r} to {a.safe_high!r}" for a in row.axes),
            "phases": "; ".join(f"{name} {value:.6f}" for name, value in (row.phases or {}).items()),
            "sentence": row.sentence,
        }
        for row in rows
    ]
    return Table(RECORDS, "Records", "", ("key", *names, "ranges", "phases", "sentence"), tuple(told))
