"""Questions of which rounding leaves every box open: the search ends, and of no others."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import steadygaze as sg
from steadygaze.geometry.kinds import UNDECIDED
from steadygaze.search import branch_and_bound
from steadygaze.search.base import Options
from steadygaze.search.boxes import gauges_of
from steadygaze.search.branch_and_bound import BranchAndBound
from variants import Variant

IMAGE = np.full((4, 4), 0.5)


def saturated():
    """Sigmoids of 100 and more: their slopes are differences of 1 and what rounds to 1."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Sigmoid(), nn.Linear(3, 2))
    with torch.no_grad():
        module[1].weight.abs_().add_(0.5)
        module[1].bias.fill_(100.0)
    return module


def test_a_search_ends_where_rounding_rules_the_map_everywhere():
    """Without a limit it cut its box into 2^24 parts."""
    answer = sg.verify(saturated(), IMAGE, "brightness(amount=-0.05..0.05)")
    assert answer.result.shares.undecided == 1.0
    assert answer.result.settings["stopped"] is None
    assert answer.result.regions["boxes"] < 20_000
    assert answer.result.notes[-1].startswith("Bounds leave open even the smallest box at 0")


def test_the_class_of_the_same_is_decided():
    assert sg.verify(saturated(), IMAGE, "brightness(amount=-0.05..0.05)", claim="class").verdict == "robust"


def test_a_search_goes_on_where_boxes_are_decided_away_from_0(monkeypatch):
    """Near 0 all are left open, as where hinges meet there, and wide ones everywhere."""
    judge, variant = branch_and_bound.judge_boxes, Variant("mlp", "brightness", threshold=2.0)

    def blind_near_zero(problem, boxes, *rest):
        judged = judge(problem, boxes, *rest)
        wide = np.ptp(boxes[:, 0], axis=1) > 2.0**-18 * np.ptp(problem.box[0])
        judged.kind[wide | (gauges_of(boxes, problem.box) < 2.0**-6)] = UNDECIDED
        return judged

    monkeypatch.setattr(branch_and_bound, "judge_boxes", blind_near_zero)
    search = BranchAndBound(variant.problem, Options(handover=False))
    try:
        while search.pending() and not search._counts["boxes_given_up"]:
            search.step()
    finally:
        search.close()
    assert search._nowhere is False
    assert search.pending()
