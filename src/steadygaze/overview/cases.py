"""The cases as columns that a page can hold by the ten thousand: names once, numbers as they are."""

from __future__ import annotations

import json
import zlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from steadygaze.answer.words import written
from steadygaze.campaign.store import Entry
from steadygaze.campaign.table import rows
from steadygaze.overview.asking import command

# Columns of names, of which there are few; the page gets each name once, and numbers of them.
_NAMED = ("model", "perturbation", "saliency", "verdict", "status", "failure_kind")
_PLAIN = (
    "image", "threshold", "label", "predicted", "class_holds", "attention_holds", "fails",
    "failure_distance", "seconds",
)  # fmt: skip


def table_of(entries: Sequence[Entry], links: Mapping[str, str]) -> dict[str, Any]:
    """The columns of the page's table, of these entries.

    links: by content key, where the case's own report lies, as a page refers to it.
    """
    found = [row | _told(entry, row) for row, entry in zip(rows(entries), entries, strict=True)]
    names: dict[str, list[str]] = {}
    columns: dict[str, list[Any]] = {name: [_plain(row[name]) for row in found] for name in _PLAIN}
    for name in _NAMED:
        columns[name], names[name] = _numbered([_plain(row[name]) for row in found])
    columns["command"], names["command"] = _numbered([command(entry.question) for entry in entries])
    columns["reference"] = [_plain(entry.question["image"]) for entry in entries]
    columns["link"] = [links.get(entry.key) for entry in entries]
    # Why there is no answer; of those that have one, the verdict says it.
    columns["sentence"] = [
        _plain(row["sentence"]) if row["verdict"] is None and row["sentence"] else None for row in found
    ]
    return {"n": len(found), "names": names, "columns": columns}


def _told(entry: Entry, row: Mapping[str, Any]) -> dict[str, Any]:
    """What the case is called, and from where on what it asks fails.

    Where no tag tells, it is called as the question has it, as in `aggregate.grouped`.
    """
    tags, question = entry.tags, entry.question
    saliency = tags.get("saliency") or question["saliency"]
    return {
        "model": str(tags.get("model") or question["model"]),
        "image": str(tags.get("image") or question["image"]),
        "perturbation": str(tags.get("perturbation") or " | ".join(question["perturb"])),
        "saliency": "none: the class alone" if entry.class_alone else str(saliency),
        "fails": row["class_fails" if entry.class_alone else "attention_fails"],
    }


def packed(document: Mapping[str, Any]) -> str:
    """A document as text that no page minds: JSON, deflated, in base64."""
    plain = json.dumps(document, allow_nan=False, separators=(",", ":")).encode("ascii")
    return b64encode(zlib.compress(plain, 9)).decode("ascii")


def _numbered(values: Sequence[str | None]) -> tuple[list[int | None], list[str]]:
    places: dict[str, int] = {}
    numbers = [None if value is None else places.setdefault(value, len(places)) for value in values]
    return numbers, list(places)


def _plain(value: Any) -> Any:
    return written(value) if isinstance(value, str) else value
