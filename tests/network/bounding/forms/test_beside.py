"""How far inputs of windows exceed the winner: what they owe to the same coordinates cancels."""

from __future__ import annotations

import pytest
import torch

from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding.forms import relaxing
from steadygaze.network.bounding.forms.beside import beyond
from steadygaze.network.bounding.forms.relaxing import relax
from steadygaze.network.bounding.forms.slack import Slack
from steadygaze.network.pieces import MaxPool

WINDOWS = torch.tensor([[0, 1, 2], [3, 4, -1], [5, 6, 7]])


def forms(equal=False):
    """Eight values over two boxes of two coordinates; of a blank background all are the same."""
    generator = torch.Generator().manual_seed(2)
    rows = torch.rand(2, 3, 8, generator=generator, dtype=torch.float64) - 0.5
    rows = rows[:, :, :1].expand(-1, -1, 8).clone() if equal else rows
    return Forms(rows, torch.full((2, 8), 0.0 if equal else 0.01, dtype=torch.float64), 2)


def test_differences_of_samples_lie_between_the_bounds():
    own, winner = forms(), torch.tensor([[0, 4, 7], [2, 3, 5]])
    asked = torch.ones((2, *WINDOWS.shape), dtype=torch.bool)
    asked[1, 0, 0] = False
    low, high, strays = beyond(own, WINDOWS, winner, asked)
    t = 2 * torch.rand(200, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 1
    values = own.centre + torch.einsum("sbi,bin->sbn", t, own.rows[:, 1:])
    leader = values.gather(2, winner.expand(200, -1, -1))
    away = values[:, :, WINDOWS.clamp_min(0)] - leader[..., None]
    none = (WINDOWS < 0) | (winner[..., None] == WINDOWS) | ~asked
    assert high[none].eq(-torch.inf).all()
    assert low[none].eq(-torch.inf).all()
    assert (none | ((low <= away) & (away <= high))).all()
    assert strays[~none].ge(0.02).all()


def test_windows_of_equal_inputs_need_no_lines(monkeypatch):
    monkeypatch.setattr(relaxing, "_overtaken", lambda *_: pytest.fail("nothing exceeds anything"))
    found = relax(MaxPool(WINDOWS, (8,), (3,)), forms(equal=True), Slack.within(torch.tensor(1e-9)), 4, 0)
    low, high = found.values.bounds()
    least, most = forms(equal=True).bounds()
    assert (low <= least[:, :3]).all()
    assert (most[:, :3] <= high).all()
    torch.testing.assert_close(high - low, (most - least)[:, :3])
