"""The document of all numbers: plain values, no number without its n and its unsettled part."""

from __future__ import annotations

import json

import pytest

from recorded import entry
from steadygaze.aggregate import grouped, summary_of
from steadygaze.campaign import Status

ENTRIES = [
    entry("a", (1, None, 1, None), label=0, ranges=[[-0.1, 0.1]]),
    entry("b", (1, None, 0.4, 0.4), label=1, predicted=1, ranges=[[-0.04, 0.06]],
          failure={"kind": "attention-changed", "theta": [-0.04], "distance": 0.4}),
    entry("c", (0.2, 0.2, 0.2, 0.2), label=1, predicted=0, ranges=[[-0.02, 0.1]]),
    entry("d", None, label=None, status=Status.CRASHED),
    entry("a", (0.5, None, 0.5, None), model="two", label=0),
    entry("b", (1, None, 1, None), model="two", label=1, predicted=1),
]  # fmt: skip


def rates(node):
    """All rates in a document."""
    if isinstance(node, dict):
        if {"low", "certain"} <= set(node):
            yield node
        for part in node.values():
            yield from rates(part)
    elif isinstance(node, list):
        for part in node:
            yield from rates(part)


def test_the_document_is_plain_and_every_rate_has_its_n():
    document = summary_of(grouped(ENTRIES))
    json.dumps(document, allow_nan=False)
    found = list(rates(document))
    assert len(found) > 50
    assert all({"n", "certain", "unsettled", "interval"} <= set(rate) for rate in found)


def test_a_group_tells_who_ended_how_and_what_is_worst():
    group = summary_of(grouped(ENTRIES))["groups"][0]
    assert (group["model"], group["n"], group["answered"], group["labelled"]) == ("one", 4, 3, 3)
    assert group["ended"] == {"solved": 3, "crashed": 1}
    assert [case["image"] for case in group["worst"]] == ["c", "b", "a"]
    assert group["worst"][1]["theta"] == [-0.04]
    curves = group["curves"]
    assert curves["scale"] == [0, 0.2, 0.4, 1]
    assert curves["class_robust"] == {"certain": [3, 3, 2, 2], "unsettled": [1, 1, 1, 1]}
    assert curves["attention_robust"] == {"certain": [3, 3, 2, 1], "unsettled": [1, 1, 1, 1]}
    assert curves["other_reason"] == {"certain": [0, 0, 0, 1], "unsettled": [1, 1, 1, 1]}
    scales = group["scales"]["attention"]
    assert (scales["n"], scales["known"]) == (4, 3)
    assert scales["quantiles"] == pytest.approx([0.2, 0.24, 0.3, 0.4, 0.7, 0.88, 1.0])
    (reach,) = group["ranges"]
    assert (reach["parameter"], reach["n"], reach["known"]) == ("amount", 4, 3)
    assert reach["low"][0] == -0.1
    assert reach["high"][0] == 0.06
    assert [(row["label"], row["accuracy"]["certain"], row["accuracy"]["n"]) for row in group["classes"]] == [
        (0, 1, 1),
        (1, 1, 2),
    ]


def test_models_that_were_asked_the_same_are_paired():
    pairs = summary_of(grouped(ENTRIES))["pairs"]
    assert {(p["first_model"], p["second_model"], p["claim"]) for p in pairs} == {
        ("one", "two", "class"),
        ("one", "two", "attention"),
    }
    (whole,) = [p for p in pairs if p["claim"] == "attention" and p["scale"] == 1.0]
    assert (whole["n"], whole["only_first"], whole["only_second"], whole["unsettled"]) == (2, 1, 1, 1)
