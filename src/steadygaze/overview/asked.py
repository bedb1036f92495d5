"""What was asked, of whom, and with what: models, images, perturbations, settings, versions, machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from steadygaze.answer.words import number, quantity
from steadygaze.campaign.store import Entry
from steadygaze.question.case import KEEPING, Case

_TOLD_APART = ("model", "image", "perturb", "claim", "threshold", "saliency", *KEEPING)
MOST_NAMED = 12


def asked(entries: Sequence[Entry]) -> list[tuple[str, list[str]]]:
    """Rows of a table: what, and its values."""
    tags = [entry.tags for entry in entries]
    of_maps = [entry for entry in entries if not entry.class_alone]
    sets = {(entry.tags.get("perturbation"), " | ".join(entry.question["perturb"])) for entry in entries}
    rows = [
        ("models", _models(entries)),
        ("images", _counted(str(tag.get("source")) for tag in tags if tag.get("source"))),
        ("perturbations", sorted(text if name is None else f"{name}: {text}" for name, text in sets)),
        ("what must hold", _counted("the class alone" if e.class_alone else e.must_hold for e in entries)),
        (
            "thresholds δ",
            [number(each) for each in sorted({e.question["threshold"] for e in of_maps})],
        ),
        ("saliency maps", sorted({str(entry.question["saliency"]) for entry in of_maps})),
        ("settings", _settings(entries)),
    ]
    return [(name, _shortened(values)) for name, values in rows if values]


def surroundings(entries: Sequence[Entry]) -> list[tuple[str, list[str]]]:
    """Versions and machines that answered, and when."""
    records = [entry.record for entry in entries if entry.record is not None]
    versions: dict[str, set[str]] = {}
    for record in records:
        for name, version in ((record.answer or {}).get("versions") or {}).items():
            versions.setdefault(name, set()).add(str(version))
    finished = sorted(record.finished for record in records)
    rows = [
        ("versions", [f"{name} {', '.join(sorted(found))}" for name, found in versions.items()]),
        ("machines", _counted(_machine(record.machine) for record in records)),
        ("finished", [f"{finished[0]} to {finished[-1]} (UTC)"] if finished else []),
        (
            "time of all cases",
            [f"{number(sum(r.seconds for r in records), 3)} s"] if records else [],
        ),
    ]
    return [(name, _shortened(values)) for name, values in rows if values]


def class_names(entries: Sequence[Entry]) -> dict[int, str]:
    """What data sets call their classes, where one name is told for a number."""
    found: dict[int, set[str]] = {}
    for entry in entries:
        answer = (entry.record.answer if entry.record is not None else None) or {}
        if answer.get("dataset_class") and answer.get("dataset_label") is not None:
            found.setdefault(int(answer["dataset_label"]), set()).add(str(answer["dataset_class"]))
    return {label: next(iter(names)) for label, names in found.items() if len(names) == 1}


def _models(entries: Sequence[Entry]) -> list[str]:
    told: dict[str, str] = {}
    for entry in entries:
        answer = (entry.record.answer if entry.record is not None else None) or {}
        name, file = str(entry.tags.get("model") or entry.question["model"]), str(entry.question["model"])
        words = name if name == file else f"{name}: {file}"
        if answer.get("units") is not None:
            words += f", {answer['units']} units, {answer.get('parameters', 'unknown')} parameters"
        if answer.get("model_sha256"):
            words += f", SHA-256 {answer['model_sha256']}"
        if len(words) > len(told.get(name, "")):
            told[name] = words
    return list(told.values())


def _settings(entries: Sequence[Entry]) -> list[str]:
    """Those that differ from what is usual, in any case."""
    rows = []
    for field in fields(Case):
        if field.name in _TOLD_APART:
            continue
        found = {quantity(entry.question.get(field.name, field.default)) for entry in entries}
        if found != {quantity(field.default)}:
            rows.append(f"{field.name.replace('_', ' ')}: {', '.join(sorted(found))}")
    return rows


def _machine(machine: Any) -> str:
    processor = machine.processor or "unknown"
    return f"{processor}, {machine.system}, {machine.cores} cores, {machine.workers} workers"


def _counted(values: Any) -> list[str]:
    return [f"{name} ({count} cases)" for name, count in Counter(values).items()]


def _shortened(values: list[str]) -> list[str]:
    left = len(values) - MOST_NAMED
    return values if left <= 0 else [*values[:MOST_NAMED], f"and {left} more"]


def ended(entries: Sequence[Entry]) -> Mapping[str, int]:
    """How many cases ended in each way."""
    return Counter("not finished" if e.record is None else e.record.status.value for e in entries)
