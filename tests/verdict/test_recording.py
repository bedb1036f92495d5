"""Two questions that differ in anything that can change the answer have different records."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from answers import violated
from steadygaze.answer.result import Result
from steadygaze.perturbation import AbstractAffinePerturbation, Blend, Brightness, Direction, Parameter, Patch
from steadygaze.question.inconsistency import TopK
from steadygaze.question.inconsistency import by_name as inconsistency
from steadygaze.verdict import driver
from steadygaze.verdict.recording import ImageOrigin, described

IMAGE = np.linspace(0.2, 0.8, 16).reshape(1, 4, 4)
BIG = np.linspace(0.2, 0.8, 48).reshape(1, 6, 8)
CLEAR = Image.fromarray(
    np.stack([np.arange(60, 124, 4), np.arange(100, 228, 8)], -1).astype(np.uint8).reshape(4, 4, 2)
)


def network(seed: int = 0, act: type[nn.Module] = nn.LeakyReLU) -> nn.Module:
    """With maps that are nowhere 0."""
    torch.manual_seed(seed)
    first, second, head = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1), nn.Linear(32, 3)
    with torch.no_grad():
        for weight in (first.weight, second.weight, head.weight[0], head.bias[:1]):
            weight.abs_().add_(0.1)
    return nn.Sequential(first, act(), second, act(), nn.Flatten(), head)


class Flat(nn.Module):
    """Takes an image in whatever layout it comes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.dense = nn.Linear(16, 3)

    def forward(self, x):
        return self.dense(torch.flatten(x, 1))


# For every argument of verify that can change the answer two questions, which differ in it alone.
ASKED = {
    "model": [{"model": network()}, {"model": network(1)}, {"model": network(0, nn.Sigmoid)}],
    "image": [{"image": IMAGE}, {"image": IMAGE + 1e-7}],
    "perturbation": [
        {"perturbation": Brightness(-0.1, 0.1)},
        {"perturbation": Brightness(-0.1, 0.2)},
        {"perturbation": "brightness(amount=-0.1..0.1) | contrast(amount=0.1)"},
        {"perturbation": "contrast(amount=0.1) | brightness(amount=-0.1..0.1)"},
        *({"perturbation": Direction(0, 1, array=IMAGE * factor)} for factor in (1, 2)),
        *({"perturbation": Blend(0, 1, target=IMAGE * factor, source="a.npy")} for factor in (1, 0.5)),
        *({"perturbation": Patch(0, 1, top=1, left=1, size=2, compare_under=flag)} for flag in (False, True)),
        {"perturbation": "translate(dx=0..1)"},
        {"perturbation": "translate(dx=0..1, interpolation=bilinear)"},
        {"perturbation": "translate(dx=0..1, dy=1)"},
        {"perturbation": "translate(dx=0..1, fill=1)"},
    ],
    "claim": [{"claim": "attention"}, {"claim": "class"}],
    "saliency": [{"saliency": "gradient"}, {"saliency": "abs-gradient"}, {"saliency": "grad-cam"}],
    "channel_sum": [{"channel_sum": False}, {"channel_sum": True}],
    "layer": [{"saliency": "grad-cam", "layer": "0"}, {"saliency": "grad-cam", "layer": "2"}],
    "baseline": [
        {"saliency": "integrated-gradients", "baseline": baseline}
        for baseline in ("black", "mean", 0.25 * IMAGE, 0.5 * IMAGE)
    ],
    "inconsistency": [{"inconsistency": "cosine"}, {"inconsistency": "l1"}],
    "threshold": [{"threshold": 0.3}, {"threshold": 0.31}],
    "clip": [{"clip": (0.0, 1.0)}, {"clip": (0.0, 0.9)}, {"clip": None}],
    "resize": [{"image": BIG, "resize": size, "crop": (4, 4)} for size in (5, 6)],
    "crop": [{"image": BIG, "crop": cut} for cut in (4, (0, 1, 4, 4), (1, 0, 4, 4))],
    "resampling": [{"image": BIG, "resize": (4, 4), "resampling": how} for how in ("nearest", "bicubic")],
    "background": [{"image": CLEAR, "background": shade} for shade in (0.25, 0.75)],
    "layout": [{"model": Flat(), "layout": layout} for layout in ("chw", "hwc", "flat")],
    "mean": [{"mean": 0.5}, {"mean": 0.45}, {"mean": None}],
    "std": [{"std": 0.25}, {"std": 0.22}, {"std": None}],
}
# What `settings` holds instead: how the answer is looked for, and how far.
SETTINGS = {
    "method", "time_limit", "memory_limit", "regions_limit", "device", "audit", "prove_interior", "reachable",
    "norm", "undecided", "handover", "threads", "spent",
}  # fmt: skip
# The class asked about is the predicted one, or an error; outputs have names in files alone (see
# test_recorded_names); the rest is for the record, or for whoever waits.
BESIDE = {"label", "output", "progress", "image_source", "image_index", "image_label"}


@pytest.fixture
def record(monkeypatch):
    """Pose what is asked, and give its record instead of an answer."""
    monkeypatch.setattr(driver, "solve", lambda problem, **given: described(problem, given["origin"]))

    def make(**asked):
        usual = {"model": network(), "image": IMAGE, "perturbation": Brightness(-0.1, 0.1)}
        return driver.verify(**usual | asked)

    return make


def test_every_argument_of_verify_is_one_or_the_other():
    assert set(inspect.signature(driver.verify).parameters) == set(ASKED) | SETTINGS | BESIDE


@pytest.mark.parametrize("argument", ASKED)
def test_questions_that_differ_have_different_records(argument, record):
    records = [record(**asked) for asked in ASKED[argument]]
    told = [json.dumps(Result.to_dict(answer_of(one))["problem"], sort_keys=True) for one in records]
    assert len(set(told)) == len(told)


def answer_of(problem):
    """An answer, whichever, to carry the record through the schema."""
    given = violated(len(problem.axes()))
    return Result(**{**vars(given), "problem": problem, "safe_scale": None, "origin": None})


def test_the_record_comes_back_from_the_file(record):
    problem = record(saliency="grad-cam", mean=0.5, perturbation=Direction(0, 1, array=IMAGE))
    back = Result.from_json(answer_of(problem).to_json()).problem
    assert back == problem
    assert (back.layer, back.layout, back.mean, back.std, back.output) == ("2", "chw", (0.5,), (1.0,), None)
    assert "at layer '2'" in back.question()
    assert "--layer" in back.layer_sentences()[0]
    assert record().layer_sentences() == []


def test_records_from_before_these_fields_are_still_read():
    document = violated().to_dict()
    later = ("must_hold", "layer", "baseline", "layout", "mean", "std", "output", "k")
    document["problem"] = {key: value for key, value in document["problem"].items() if key not in later}
    del document["problem"]["model"]["graph_sha256"]
    for name in ("sha256", "dataset_class", "conversions"):
        del document["problem"]["image"][name]
    for link in document["problem"]["perturbation"]:
        del link["arrays"], link["type"]
    assert Result.from_dict(document).problem == violated().problem


class Vignette(AbstractAffinePerturbation):
    """Darker to the sides, by a strength and a profile of its own."""

    name = "vignette"
    parameters = (Parameter("amount", "", 0.0, 0.5),)

    def __init__(self, strength: float, profile: np.ndarray) -> None:
        self.strength, self.profile = strength, profile

    def directions(self, image):
        return -image[None] * self.profile * self.strength


def test_what_a_perturbation_of_ones_own_keeps_is_recorded(record):
    ramp = np.linspace(-1, 1, 4) ** 2
    records = [
        record(perturbation=Vignette(strength, profile))
        for strength, profile in ((1.0, ramp), (0.5, ramp), (1.0, ramp / 2))
    ]
    assert len({str(one.perturbation) for one in records}) == 3
    assert records[0].perturbation[0].type.endswith("Vignette")
    assert records[0].perturbation[0].constants == {"strength": 1.0}
    assert list(records[0].perturbation[0].arrays) == ["profile"]


def test_how_many_entries_top_k_counts_is_recorded(record, monkeypatch):
    posed = []
    monkeypatch.setattr(driver, "solve", lambda problem, **_: posed.append(problem))
    record(inconsistency="top-k")
    told = {described(replace(posed[0], inconsistency=TopK(k)), ImageOrigin()).k for k in (3, 0.5)}
    assert told == {3, 0.5}
    assert inconsistency("top-k").k == described(posed[0], ImageOrigin()).k


def test_settings_say_how_the_answer_was_looked_for():
    answer = driver.verify(
        network(), IMAGE, Brightness(-0.1, 0.1), threads=1, norm="l2", method="nearest", audit=3
    )
    told = answer.result.settings
    assert told["norm"] == "l2"
    assert told["audited"] == 3
    assert {"threads", "device", "prove_interior", "reachable", "undecided", "handover"} <= set(told)
