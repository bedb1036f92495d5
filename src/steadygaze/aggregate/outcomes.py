"""The outcomes of many cases as arrays, one group for each model, perturbations, threshold, map and claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from steadygaze.answer.asked import CLASS_ALONE, CLASS_AND_ATTENTION
from steadygaze.answer.words import number
from steadygaze.campaign.record import Status
from steadygaze.campaign.store import Entry

CLASS, ATTENTION = 0, 1  # rows of `holds` and `fails`: the class alone; class and attention
CLAIMS = ("class", "attention")
UNKNOWN = -1  # a class that nobody told


class Group(NamedTuple):
    """What the cases of a group have in common; images differ.

    must_hold: as in `result.json`; of the class alone the saliency is "none" and the threshold 0, as there.
    """

    model: str
    perturbation: str
    threshold: float
    saliency: str
    must_hold: str = CLASS_AND_ATTENTION

    @property
    def question(self) -> tuple[str, float, str, str]:
        """The group without its model: groups that answer the same about the same images."""
        return self.perturbation, self.threshold, self.saliency, self.must_hold

    @property
    def claims(self) -> tuple[int, ...]:
        """What is known of its cases: CLASS, and ATTENTION where that was asked about."""
        return (CLASS,) if self.must_hold == CLASS_ALONE else (CLASS, ATTENTION)

    def terms(self) -> str:
        """What must hold, in a few words."""
        if self.must_hold == CLASS_ALONE:
            return "the class alone"
        return f"{self.saliency}, threshold {number(self.threshold)}"


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What is known of n cases of one group, in the plan's order.

    At a scale s of the box a claim is certified where ``holds >= s``, failing where ``fails <= s`` and it is
    not certified, and not settled otherwise.

    Attributes:
        images: names, all different.
        label: ``(n,)`` the true class, UNKNOWN where the data set tells none.
        predicted: ``(n,)`` the class at θ = 0, UNKNOWN without an answer.
        holds: ``(2, n)`` the scale up to which each claim is proven; -inf without an answer.
        fails: ``(2, n)`` the scale from which on a failure is known; inf where none is.
        status: how each case ended; None while it is not finished.
        entries: where it all comes from.
        claims: those that were asked about; of others the rows of `holds` and `fails` say nothing.
    """

    images: tuple[str, ...]
    label: np.ndarray
    predicted: np.ndarray
    holds: np.ndarray
    fails: np.ndarray
    status: tuple[Status | None, ...]
    entries: tuple[Entry, ...]
    claims: tuple[int, ...] = (CLASS, ATTENTION)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def answered(self) -> np.ndarray:
        """``(n,)`` whether there is an answer, a partial one included."""
        return self.predicted != UNKNOWN

    @property
    def correct(self) -> np.ndarray:
        """``(n,)`` whether the class at θ = 0 is the true one; False where either is unknown."""
        return (self.label == self.predicted) & self.answered

    def chosen(self, which: np.ndarray) -> Outcomes:
        """Those cases alone; ``which`` are flags or numbers."""
        numbers = np.arange(len(self))[which]
        return Outcomes(
            tuple(self.images[k] for k in numbers),
            self.label[numbers],
            self.predicted[numbers],
            self.holds[:, numbers],
            self.fails[:, numbers],
            tuple(self.status[k] for k in numbers),
            tuple(self.entries[k] for k in numbers),
            self.claims,
        )


def grouped(entries: Sequence[Entry]) -> dict[Group, Outcomes]:
    """Entries by what they ask, groups and images in the plan's order.

    Entries of a plan made in Python may lack tags: what is not told is taken from the question.
    """
    found: dict[Group, list[Entry]] = {}
    for entry in entries:
        found.setdefault(_group(entry), []).append(entry)
    return {group: outcomes_of(own) for group, own in found.items()}


def outcomes_of(entries: Sequence[Entry]) -> Outcomes:
    """The outcomes of some entries; attention was asked about where it was in all of them."""
    answers = [entry.record.answer if entry.record is not None else None for entry in entries]
    return Outcomes(
        tuple(_image(entry) for entry in entries),
        np.array([_label(e, a) for e, a in zip(entries, answers, strict=True)], np.int64),
        np.array([UNKNOWN if a is None else a["predicted"] for a in answers], np.int64),
        _scales(answers, "holds", missing=0.0, unanswered=-np.inf),
        _scales(answers, "fails", missing=np.inf, unanswered=np.inf),
        tuple(None if entry.record is None else entry.record.status for entry in entries),
        tuple(entries),
        (CLASS,) if any(entry.class_alone for entry in entries) else (CLASS, ATTENTION),
    )


def _group(entry: Entry) -> Group:
    told = {name: entry.tags.get(name) for name in Group._fields}
    question = entry.question
    about = (
        str(told["model"] or question["model"]),
        str(told["perturbation"] or " | ".join(question["perturb"])),
    )
    if entry.class_alone:
        return Group(*about, 0.0, "none", CLASS_ALONE)
    return Group(
        *about,
        float(question["threshold"] if told["threshold"] is None else told["threshold"]),
        str(told["saliency"] or question["saliency"]),
    )


def _image(entry: Entry) -> str:
    return str(entry.tags.get("image") or entry.question["image"])


def _label(entry: Entry, answer: Mapping[str, Any] | None) -> int:
    label = entry.tags.get("label")
    if label is None and answer is not None:
        label = answer.get("dataset_label")
    return UNKNOWN if label is None else int(label)


def _scales(
    answers: Sequence[Mapping[str, Any] | None], name: str, missing: float, unanswered: float
) -> np.ndarray:
    rows = [
        [unanswered if answer is None else _scale(_told(answer, claim, name), missing) for answer in answers]
        for claim in CLAIMS
    ]
    return np.array(rows, np.float64).reshape(len(CLAIMS), len(answers))


def _told(answer: Mapping[str, Any], claim: str, name: str) -> float | None:
    """A scale; None also in answers from before scales were kept."""
    return answer.get("scales", {}).get(claim, {}).get(name)


def _scale(value: float | None, missing: float) -> float:
    return missing if value is None else float(value)
