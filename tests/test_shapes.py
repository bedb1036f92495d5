"""Networks of shapes that no benchmark has: every engine answers them as plain evaluation does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import steadygaze as sg
from variants import SHAPES, Variant, mismatches

ENGINES = ("sweep", "bfs", "gbs", "nearest", "bound", "auto")


@pytest.mark.parametrize("method", ENGINES)
@pytest.mark.parametrize(
    ("bias", "label"),
    [((-5.0, 2.0, 1.0, -5.0), 1), ((-5.0, -5.0, -5.0, 2.0), 3), ((-5.0, -5.0, 2.0, 1.0), 2)],
    ids=["two alive", "one alive", "two alive at the end"],
)
def test_rectified_logits_few_of_which_are_alive(method, bias, label):
    """By hand: at brightness a the logits are relu(bias + 0.5 + a), so that their order stays."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.ReLU())
    with torch.no_grad():
        module[1].weight.copy_(torch.eye(4))
        module[1].bias.copy_(torch.tensor(bias))
    answer = sg.verify(module, np.full((1, 2, 2), 0.5), sg.Brightness(0, 0.1), method=method, threads=1)
    assert answer.problem.label == label
    assert answer.verdict.value == "robust"
    assert answer.shares.robust == pytest.approx(1)


@pytest.mark.parametrize("method", ENGINES)
def test_classes_that_are_both_off_are_told_apart_by_nothing(method):
    """By hand: logits relu(0.2 - 4 a) and 0: beyond a = 0.05 both are 0, and no class is the larger."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(1, 2), nn.ReLU()).double()
    with torch.no_grad():
        module[1].weight.copy_(torch.tensor([[-4.0], [0.0]]))
        module[1].bias.copy_(torch.tensor([2.2, -1.0]))
    answer = sg.verify(
        module, np.full((1, 1, 1), 0.5), sg.Brightness(0, 0.1), method=method, threads=1, time_limit=5
    )
    assert answer.verdict.value != "robust"
    assert answer.result.safe_scale is None or answer.result.safe_scale == pytest.approx(0.5, abs=1e-6)
    assert answer.at([0.02]).kind == "robust"


@pytest.mark.parametrize("method", ENGINES)
@pytest.mark.parametrize("variant", SHAPES, ids=str)
def test_every_engine_agrees_with_plain_evaluation(variant: Variant, method):
    answer = sg.verify(
        variant.module, variant.image, variant.perturbation, method=method, clip=variant.clip,
        threshold=variant.threshold, threads=1,
    )  # fmt: skip
    wrong, decided = mismatches(variant, answer.map, variant.draw(60))
    assert not wrong
    assert decided or method in ("gbs", "nearest")
