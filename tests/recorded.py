"""Entries of a store as they would be read, made without running anything."""

from __future__ import annotations

from typing import Any

from steadygaze.campaign import Entry, Machine, Record, Status, make_case


def entry(
    image: str,
    scales: tuple[float | None, float | None, float | None, float | None] | None,
    *,
    model: str = "one",
    label: int | None = 0,
    predicted: int = 0,
    status: Status = Status.SOLVED,
    threshold: float = 0.3,
    ranges: list[list[float]] | None = None,
    failure: dict[str, Any] | None = None,
    claim: str = "attention",
) -> Entry:
    """One image; ``scales`` are: class holds, fails, attention holds, fails; None: no answer.

    Asked about the class alone, with the claim "class", it has no use for the last two.
    """
    case = make_case(
        {"model": "digits-mlp", "image": "digits:2", "perturb": ["brightness(amount=-0.1..0.1)"]},
        {"claim": claim},
    )
    answer = None
    if scales is not None:
        answer = {
            "verdict": "unknown",
            "label": predicted,
            "predicted": predicted,
            "dataset_label": None,
            "scales": {
                "class": {"holds": scales[0], "fails": scales[1]},
                "attention": {"holds": scales[2], "fails": scales[3]},
            },
            "axes": [{"name": "amount", "unit": "", "low": -0.1, "high": 0.1}],
            "ranges": ranges,
            "nearest_failure": failure,
        }
    tags = {
        "model": model,
        "image": image,
        "perturbation": "light",
        "threshold": threshold,
        "saliency": "gradient",
        "label": label,
    }
    machine = Machine("", "", 1, 1, 1)
    record = Record(status, "", 1.0, {}, machine, "2026-01-01T00:00:00", answer)
    if claim == "class":
        tags |= {"threshold": None, "saliency": "none"}
    return Entry(f"{model}-{image}-{threshold}-{claim}", "plan", tags, {**case.__dict__}, record)
