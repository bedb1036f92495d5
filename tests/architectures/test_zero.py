"""Roots and divisions at 0: what has no finite slope there is never called robust for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import nn

from oracles import logits_of
from steadygaze.errors import ModelError, SettingError
from steadygaze.network.reading.load import load_network
from steadygaze.perturbation import Brightness, Contrast
from steadygaze.verdict.driver import verify


class Around(nn.Module):
    """A function of four sums of the pixels less 1/2, which are all 0 for a grey image."""

    def __init__(self, body):
        super().__init__()
        torch.manual_seed(1)
        self.first, self.body, self.last = nn.Linear(16, 4, bias=False), body, nn.Linear(4, 3)

    def forward(self, x):
        return self.last(self.body(self.first((x - 0.5).flatten(1))))


BODIES = {
    "unit length": lambda v: functional.normalize(v, dim=1),
    "unit length, written out": lambda v: v / v.norm(dim=1, keepdim=True),
    "a small number added": lambda v: v / (v.norm(dim=1, keepdim=True) + 1e-6),
    "roots": lambda v: torch.sqrt(functional.relu(v)),
    "shares": lambda v: v / functional.relu(v).sum(1, keepdim=True),
    "standardised": lambda v: (v - v.mean(1, keepdim=True)) / (v.std(1, keepdim=True) + 1e-5),
}
IMAGE = np.random.default_rng(0).uniform(0.3, 0.7, (1, 4, 4))


@pytest.mark.parametrize("name", BODIES)
def test_a_range_through_zero_is_robust_where_samples_are(name):
    module = Around(BODIES[name]).eval()
    answer = verify(module, IMAGE, Contrast(-1.2, 0.1), regions_limit=100)
    assert sum(answer.shares.values()) == pytest.approx(1)
    # Beyond -1 the image is its negative, and the class another.
    scale = answer.safe_scale or 0.0
    thetas = np.linspace(-1.2, 0.1, 131) * scale
    images = 0.5 + (1 + thetas[:, None, None, None]) * (IMAGE - 0.5)
    logits = logits_of(module.double(), images)
    assert np.isfinite(logits).all()
    assert (logits.argmax(1) == logits[-1].argmax()).all()


@pytest.mark.parametrize("name", ["unit length, written out", "shares"])
def test_an_image_at_zero_is_refused_with_why(name):
    with pytest.raises(ModelError, match=r"not finite .* divides by 0, add a small number"):
        verify(Around(BODIES[name]).eval(), np.full((1, 4, 4), 0.5), Brightness(-0.1, 0.1), regions_limit=50)


def test_a_root_at_zero_has_the_slope_of_the_piece_below():
    grey = np.full((1, 4, 4), 0.5)
    for name in ("unit length", "a small number added", "roots"):
        network = load_network(Around(BODIES[name]).eval(), input_shape=(1, 4, 4))
        assert network.graph.gradient_at(torch.from_numpy(grey[None]), 0).isfinite().all()
    with pytest.raises(SettingError, match="no attention to follow"):
        verify(Around(BODIES["roots"]).eval(), grey, Brightness(-0.1, 0.1), regions_limit=50)
