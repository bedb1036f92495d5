"""A campaign as a table: one row for each case, plain values under the names of `COLUMNS`.

Tags other than those that a plan file gives make columns of their own, after these.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from steadygaze.campaign.store import Entry
from steadygaze.errors import SettingError
from steadygaze.placing import file_placed

TAGS = ("model", "image", "perturbation", "threshold", "saliency", "label", "source")
COLUMNS: Mapping[str, str] = {
    "model": "the model's name",
    "image": "the image's name",
    "perturbation": "the name of the perturbations",
    "threshold": "the largest inconsistency that counts as the same attention; empty for the class alone",
    "saliency": "the saliency map's name; none for the class alone",
    "label": "the true class, where the data set tells it",
    "source": "the source that the image comes from",
    "status": "how the case ended; empty while it is not finished",
    "verdict": "robust, violated or unknown over the whole box; empty without an answer",
    "predicted": "the class that the network predicts for the unchanged image",
    "correct": "whether that is the true class; empty where nobody knows",
    "share_robust": "share of the box where class and attention hold",
    "share_class_changed": "share of the box where the class changes",
    "share_attention_changed": "share of the box where the class holds and the attention does not",
    "share_undecided": "the rest of the box",
    "safe_scale": "class and attention hold in s times the box up to this s",
    "class_holds": "the class is proven to hold in s times the box up to this s",
    "class_fails": "the class is known to fail in s times the box above this s",
    "attention_holds": "class and attention are proven to hold up to this s",
    "attention_fails": "one of them is known to fail above this s",
    "radius": "all is robust so near to 0, in half-widths of the box",
    "failure_kind": "what fails at the nearest failure",
    "failure_distance": "how far it is, in half-widths of the box",
    "failure_theta": "where it is, one number for each parameter",
    "failure_predicted": "the class that is predicted there",
    "failure_class_gap": "the class's logit there, less the largest other",
    "failure_inconsistency": "how far the map is there from the expected one",
    "parameters": "the names of the parameters",
    "lows": "the lower ends of the box",
    "highs": "the upper ends of the box",
    "range_lows": "how far down each is safe, the others at 0",
    "range_highs": "how far up each is safe, the others at 0",
    "origin_share": "share of the box in one piece with 0 that is robust",
    "regions": "regions or boxes visited",
    "units": "units of the network that have pieces",
    "measured_points": "random points with the class held, at which likeness was measured otherwise",
    **{
        f"{name}_{which}": f"the {which} {words} of the map with the expected one there: a sample"
        for name, words in (
            ("pearson", "Pearson correlation"),
            ("spearman", "Spearman correlation"),
            ("ssim", "SSIM"),
        )
        for which in ("least", "median")
    },
    "must_hold": "what was asked: class and attention, or class, which is that alone",
    "method": "the engine that answered",
    "claim": "what its answer speaks of",
    "sentence": "why it ended so",
    "seconds": "wall-clock time of the case",
    "memory_peak": "most bytes resident in the worker",
    "finished": "when it ended, UTC",
    "processor": "where it ran",
    "perturb": "the perturbations as written",
    "model_file": "the model as written",
    "image_reference": "the image as written; --image takes it",
    "model_sha256": "of the model's file",
    "key": "the content key of the case",
    "plan": "the name of the plan",
}
ENDINGS = (".csv", ".parquet")
# So many values of a column are named where a condition holds for none.
_TOLD = 8
_MEASURES = ("pearson", "spearman", "ssim")


def rows(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """One row for each case: the columns of `COLUMNS`, in their order, and further tags."""
    return [_row(entry) for entry in entries]


def _row(entry: Entry) -> dict[str, Any]:
    record, tags, question = entry.record, entry.tags, entry.question
    answer: Mapping[str, Any] = (record.answer if record else None) or {}
    shares, scales = answer.get("shares") or {}, answer.get("scales") or {}
    of_class, of_attention = scales.get("class", {}), scales.get("attention", {})
    failure, axes = answer.get("nearest_failure") or {}, answer.get("axes") or ()
    label, predicted = tags.get("label", answer.get("dataset_label")), answer.get("predicted")
    alone = entry.class_alone
    shares = {**shares, "attention_changed": None} if alone else shares
    row = {name: tags.get(name) for name in TAGS} | {
        "threshold": None if alone else question["threshold"],
        **({"saliency": "none"} if alone else {}),
        "label": label,
        "status": record and record.status.value,
        "verdict": answer.get("verdict"),
        "predicted": predicted,
        "correct": None if label is None or predicted is None else label == predicted,
        **{f"share_{kind}": shares.get(kind) for kind in _KINDS},
        "safe_scale": answer.get("safe_scale"),
        "class_holds": of_class.get("holds"),
        "class_fails": of_class.get("fails"),
        "attention_holds": of_attention.get("holds"),
        "attention_fails": of_attention.get("fails"),
        "radius": (answer.get("radius") or {}).get("value"),
        "failure_kind": failure.get("kind"),
        "failure_distance": failure.get("distance"),
        "failure_theta": failure.get("theta"),
        "failure_predicted": failure.get("predicted"),
        "failure_class_gap": failure.get("class_gap"),
        "failure_inconsistency": failure.get("inconsistency"),
        "parameters": [axis["name"] for axis in axes],
        "lows": [axis["low"] for axis in axes],
        "highs": [axis["high"] for axis in axes],
        "range_lows": [low for low, _ in answer.get("ranges") or ()],
        "range_highs": [high for _, high in answer.get("ranges") or ()],
        "origin_share": answer.get("origin_share"),
        "regions": (answer.get("regions") or {}).get("visited"),
        "units": answer.get("units"),
        **_measured(answer.get("measured")),
        "must_hold": entry.must_hold,
        "method": answer.get("method", question["method"]),
        "claim": answer.get("claim"),
        "sentence": record and record.sentence,
        "seconds": record and record.seconds,
        "memory_peak": record and record.memory.get("peak"),
        "finished": record and record.finished,
        "processor": record and record.machine.processor,
        "perturb": " | ".join(question["perturb"]),
        "model_file": question["model"],
        "image_reference": question["image"],
        "model_sha256": answer.get("model_sha256"),
        "key": entry.key,
        "plan": entry.plan,
    }
    own = [name for name in tags if name not in TAGS]
    return row | {f"tag.{name}" if name in row else name: tags[name] for name in own}


def _measured(told: Mapping[str, Any] | None) -> dict[str, Any]:
    """What was measured of an answer beside it, under the names of the table."""
    found = {each["name"].lower(): each for each in (told or {}).get("measures", ())}
    return {"measured_points": told and told["held"]} | {
        f"{name}_{which}": found.get(name, {}).get(which)
        for name in _MEASURES
        for which in ("least", "median")
    }


_KINDS = ("robust", "class_changed", "attention_changed", "undecided")


def chosen(table: Sequence[Mapping[str, Any]], conditions: Iterable[str]) -> list[Mapping[str, Any]]:
    """The rows for which all hold: ``column=value``, or ``column!=value``; ``column=`` is no value.

    Raises SettingError for a condition of another form or a column that there is not.
    """
    left = list(table)
    for condition in conditions:
        holds = _condition(condition, table)
        left = [row for row in left if holds(row)]
    return left


def unmet(table: Sequence[Mapping[str, Any]], conditions: Iterable[str]) -> list[str]:
    """A sentence for each ``column=value`` that holds for no row: which values its column has.

    Such a value may be misspelt, or one that no case has yet.
    """
    told = list[str]()
    for condition in conditions:
        column, unlike, value = _parted(condition)
        counts = Counter(_written(row.get(column)) for row in table)
        if table and not unlike and value not in counts:
            values = [f"{known or '(none)'} ({count})" for known, count in counts.most_common(_TOLD)]
            values += [f"{len(counts) - _TOLD} more"] if len(counts) > _TOLD else []
            told.append(f"No case has {column}={value}; there are: {', '.join(values)}")
    return told


def _parted(condition: str) -> tuple[str, bool, str]:
    """Column, whether it is to be unlike the value, and the value; the column is empty without a sign."""
    column, sign, value = condition.partition("=")
    return column.removesuffix("!").strip() if sign else "", column.endswith("!"), value.strip()


def _condition(condition: str, table: Sequence[Mapping[str, Any]]) -> Callable[[Mapping[str, Any]], bool]:
    column, unlike, value = _parted(condition)
    known = {name: None for row in table for name in row} or dict(COLUMNS)
    if column not in known:
        raise SettingError(
            f"the condition is {condition!r}; allowed: COLUMN=VALUE or COLUMN!=VALUE, with one of the "
            f"columns {', '.join(known)}"
        )
    return lambda row: (_written(row.get(column)) == value) != unlike


def export(table: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows as CSV, or as Parquet where the file's name ends so.

    In CSV a list is JSON, and what is not known is empty.

    Raises SettingError where the file ends otherwise or cannot be written, or pyarrow is missing for Parquet.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise SettingError(f"the file to export to is {str(path)!r}; it must end in {' or '.join(ENDINGS)}")
    names = list(dict.fromkeys([*COLUMNS, *(name for row in table for name in row)]))
    try:
        with file_placed(path) as fresh:
            (_csv if ending == ".csv" else _parquet)(table, names, fresh)
    except OSError as error:
        raise SettingError(
            f"{str(path)!r} cannot be written ({error.strerror or error}); give another file or make room"
        ) from error


def _csv(table: Sequence[Mapping[str, Any]], names: Sequence[str], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(names)
        writer.writerows([_written(row.get(name)) for name in names] for row in table)


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, list | tuple) else str(value)


def _parquet(table: Sequence[Mapping[str, Any]], names: Sequence[str], path: Path) -> None:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise SettingError(
            "Parquet needs the package pyarrow, which is not installed; install steadygaze[campaign], or "
            "export to a .csv file"
        ) from error
    known = _types(pa)
    fields = [pa.field(name, known.get(name, pa.string())) for name in names]
    columns = [
        pa.array([_cell(row.get(field.name), field.type, pa) for row in table], field.type)
        for field in fields
    ]
    parquet.write_table(pa.Table.from_arrays(columns, schema=pa.schema(fields)), path)


def _types(arrow: Any) -> dict[str, Any]:
    """What is no text."""
    number, whole, flag = arrow.float64(), arrow.int64(), arrow.bool_()
    numbers = (
        "threshold", "safe_scale", "class_holds", "class_fails", "attention_holds", "attention_fails",
        "radius", "failure_distance", "failure_class_gap", "failure_inconsistency", "origin_share", "seconds",
        *(f"share_{kind}" for kind in _KINDS),
        *(name for name in _measured(None) if name != "measured_points"),
    )  # fmt: skip
    return {
        **dict.fromkeys(numbers, number),
        **dict.fromkeys(
            ("label", "predicted", "failure_predicted", "regions", "units", "memory_peak", "measured_points"),
            whole,
        ),
        **dict.fromkeys(("failure_theta", "lows", "highs", "range_lows", "range_highs"), arrow.list_(number)),
        "parameters": arrow.list_(arrow.string()),
        "correct": flag,
    }


def _cell(value: Any, kind: Any, arrow: Any) -> Any:
    """Tags of one's own are texts: their kinds may differ from case to case."""
    return _written(value) if value is not None and kind == arrow.string() else value
