"""The records, their schema and their words."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import answers
from steadygaze.answer.result import Radius, Result, Shares, Verdict, schema
from steadygaze.errors import InternalCheckError, UsageError

# The contract, written out a second time on purpose: a key that goes missing here breaks users' scripts.
TOP = {
    "schema", "problem", "method", "claim", "verdict", "reason", "shares", "origin", "safe_scale",
    "nearest_failure", "regions", "timing", "versions", "tolerance", "settings", "radius", "notes",
    "measured",
}  # fmt: skip


@pytest.mark.parametrize("make", [answers.robust, answers.violated, answers.unknown])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_json_goes_out_and_comes_back(make, n):
    result = make(n)
    text = result.to_json()
    assert Result.from_json(text) == result
    assert set(json.loads(text)) == TOP
    assert json.loads(text)["schema"] == "steadygaze/result/1"


def test_keys_of_the_contract():
    document = answers.violated().to_dict()
    assert set(document["problem"]) >= {
        "model", "image", "perturbation", "clip", "saliency", "inconsistency", "threshold",
    }  # fmt: skip
    assert set(document["problem"]["model"]) >= {"path", "sha256", "units", "parameters"}
    assert set(document["problem"]["image"]) >= {"source", "index", "shape", "label", "predicted"}
    assert document["problem"]["perturbation"][0] == {
        "name": "brightness",
        "constants": {},
        "parameters": [{"name": "amount", "unit": "of full brightness", "range": [-0.3, 0.3]}],
        "arrays": {},
        "type": None,
    }
    assert set(document["shares"]) == {"robust", "class_changed", "attention_changed", "undecided"}
    assert set(document["origin"]) == {"share", "ranges", "outer_boundary", "holes", "interior", "complete"}
    assert set(document["nearest_failure"]) == {
        "theta", "kind", "distance", "class_gap", "inconsistency", "predicted", "theta_distance", "margin",
    }  # fmt: skip


def test_the_schema_is_itself_valid_and_closed():
    Draft202012Validator.check_schema(schema())
    document = answers.violated().to_dict() | {"extra": 1}
    with pytest.raises(UsageError, match="extra"):
        Result.from_dict(document)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("verdict",), "perhaps"),
        (("claim",), "everything"),
        (("safe_scale",), 1.5),
        (("shares", "robust"), -0.1),
        (("nearest_failure", "kind"), "robust"),
        (("problem", "image", "shape"), [8, 8]),
        (("problem", "model", "sha256"), "xyz"),
        (("origin", "ranges"), [[0.0]]),
        (("schema",), "steadygaze/result/2"),
    ],
)
def test_a_document_that_breaks_the_schema_is_refused_by_place(path, value):
    document = answers.violated().to_dict()
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(UsageError, match=path[-1]):
        Result.from_dict(document)


def test_text_that_is_no_json_is_refused():
    with pytest.raises(UsageError, match="not JSON"):
        Result.from_json("{")


def test_a_document_that_contradicts_itself_is_refused():
    document = answers.violated().to_dict() | {"verdict": "robust"}
    with pytest.raises(UsageError, match="contradicts itself"):
        Result.from_dict(document)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("problem", "threshold"), math.nan),
        (("safe_scale",), math.nan),
        (("origin", "share"), math.nan),
        (("origin", "ranges", 0, 1), math.inf),
        (("origin", "ranges", 0, 1), 10**400),
        (("origin", "ranges", 0, 0), -1e9),
        (("origin", "ranges", 0, 0), 1e-3),
        (("problem", "perturbation", 0, "parameters", 0, "range", 0), 10**400),
        (("problem", "perturbation", 0, "parameters", 0, "range", 0), 1e308),
        (("timing", "total"), -math.inf),
    ],
)
def test_numbers_that_no_answer_has_are_refused(path, value):
    document = json.loads(answers.violated().to_json())
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(UsageError, match="result"):
        Result.from_json(json.dumps(document))


def test_text_that_is_nested_without_end_is_refused():
    with pytest.raises(UsageError, match="not JSON"):
        Result.from_json("[" * 100_000)


def test_a_box_without_0_is_no_box_of_changes():
    document = answers.violated().to_dict() | {"origin": None}
    document["problem"]["perturbation"][0]["parameters"][0]["range"] = [0.1, 0.2]
    with pytest.raises(UsageError, match="contradicts itself"):
        Result.from_dict(document)


def test_numpy_values_become_json():
    result = replace(answers.violated(), safe_scale=np.float64(0.5), regions={"visited": np.int64(3)})
    document = json.loads(result.to_json())
    assert document["safe_scale"] == 0.5
    assert document["regions"] == {"visited": 3}


@pytest.mark.parametrize("value", [math.nan, math.inf, object()])
def test_what_json_cannot_hold_is_never_written(value):
    with pytest.raises(InternalCheckError, match="timing"):
        replace(answers.violated(), timing={"total": value}).to_json()


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_shares_sum_to_one_or_are_refused(parts):
    if abs(math.fsum(parts) - 1) <= 1e-9:
        Shares(*parts)
    else:
        with pytest.raises(InternalCheckError):
            Shares(*parts)


def test_shares_may_be_unknown_but_not_too_large():
    assert Shares(0.4, None, None, None).failing is None
    assert Shares(None, 0.25, 0.5, None).failing == 0.75
    with pytest.raises(InternalCheckError, match="sum to 1"):
        Shares(0.9, 0.2, None, None)


def test_a_verdict_has_no_truth_value():
    for verdict in Verdict:
        with pytest.raises(UsageError, match="three values"):
            bool(verdict)
    assert Verdict.ROBUST == "robust"
    assert Verdict.ROBUST != Verdict.UNKNOWN


@pytest.mark.parametrize(
    "slip",
    [
        {"shares": Shares(0.9, 0.1, 0.0, 0.0)},
        {"shares": Shares(0.9, 0.0, 0.1, 0.0)},
        {"shares": Shares(0.9, 0.0, 0.0, 0.1)},
        {"nearest_failure": answers.violated().nearest_failure},
    ],
)
def test_no_slip_turns_into_robust(slip):
    with pytest.raises(InternalCheckError, match="withheld"):
        replace(answers.robust(), **slip)


def test_violated_needs_a_witness():
    with pytest.raises(InternalCheckError, match="witness"):
        replace(answers.violated(), nearest_failure=None)


def test_nothing_fails_in_what_is_said_to_be_robust():
    told = answers.violated()
    with pytest.raises(InternalCheckError, match="safe scale"):
        replace(told, safe_scale=0.9)
    with pytest.raises(InternalCheckError, match="radius"):
        replace(told, radius=Radius("linf", told.nearest_failure.distance * 1.01))
    assert replace(told, radius=Radius("linf", told.nearest_failure.distance)).radius


def test_one_entry_per_parameter():
    with pytest.raises(InternalCheckError, match=r"origin\.ranges"):
        replace(answers.violated(3), origin=answers.violated(2).origin)


def test_headlines():
    assert answers.robust().headline().startswith("Robust: everywhere in the box the answer stays class 7")
    assert answers.violated().headline() == (
        "Violated: the class changes in 25.0 % of the box; only the attention changes in 20.0 %; "
        "50.0 % is proven robust; 5.0 % is undecided."
    )
    assert answers.unknown().headline() == "Unknown: 60.0 % is proven robust; 40.0 % is undecided."
    blank = Shares(None, None, None, None)
    assert replace(answers.unknown(), shares=blank).headline() == "Unknown: nothing was proven."


def test_ranges_in_words():
    assert answers.violated().range_sentences() == (
        "brightness.amount may go from -0.18 to 0.1665, the others at 0 (asked: -0.3 to 0.3).",
        "patch.opacity may go from 0 to 0.5551, the others at 0 (asked: 0 to 1).",
    )
    nothing = replace(answers.violated().origin, ranges=((0.0, 0.0), (0.0, 0.5)))
    assert replace(answers.violated(), origin=nothing).range_sentences()[0] == (
        "brightness.amount: no safe range was proven, the others at 0 (asked: -0.3 to 0.3)."
    )
    assert ", the others" not in answers.violated(1).range_sentences()[0]
    assert replace(answers.violated(), origin=None).range_sentences() == ()


def test_the_nearest_failure_in_words():
    assert answers.violated().failure_sentence() == (
        "Nearest known failure: at brightness.amount = 0.18, patch.opacity = 0 the class stays 7, "
        "but the attention moves (inconsistency 0.30000001 > 0.3, class gap 0.8)."
    )
    other = replace(answers.violated().nearest_failure, kind="class-changed", predicted=3, inconsistency=None)
    assert (
        "the class becomes 3 (class gap 0.8)"
        in replace(answers.violated(), nearest_failure=other).failure_sentence()
    )
    assert answers.robust().failure_sentence() == "No failing point is known."
    complete = replace(answers.violated(), shares=Shares(0.5, 0.25, 0.25, 0.0))
    assert complete.failure_sentence().startswith("Nearest failure: at")


def test_safe_scale_in_words():
    scales = {
        None: "not determined",
        0.0: "not proven",
        1.0: "whole box is robust",
        0.412345: "to 0.4123 of its size",
    }
    for scale, words in scales.items():
        assert words in replace(answers.unknown(), safe_scale=scale).safe_scale_sentence()


def test_a_perturbation_used_twice_is_numbered():
    twice = replace(answers.problem(1), perturbation=answers.LINKS[:1] * 2)
    assert [axis.name for axis in twice.axes()] == ["brightness[1].amount", "brightness[2].amount"]


def test_the_question_names_everything_asked():
    question = replace(answers.problem(2), channel_sum=True).question()
    for part in (
        "brightness.amount from -0.3 to 0.3",
        "patch.opacity from 0 to 1",
        "class 7",
        "0.3 (cosine)",
        "summed",
    ):
        assert part in question
