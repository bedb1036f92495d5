"""Masks before a softmax: what is hidden counts for nothing, and what only looks hidden is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from oracles import gradients_of, logits_of
from steadygaze.errors import ModelError
from steadygaze.network.reading.load import load_network

SHAPE = (1, 4, 4)
SEEN = torch.tril(torch.ones(4, 4, dtype=torch.bool))
IMAGES = np.random.default_rng(0).uniform(0, 1, (3, *SHAPE))


class Weighted(nn.Module):
    """The image's rows weighted by a softmax of scores of which some are hidden."""

    def __init__(self, hide):
        super().__init__()
        self.hide, self.scores, self.last = hide, nn.Linear(4, 4), nn.Linear(16, 3)

    def forward(self, x):
        weights = torch.softmax(self.hide(3 * self.scores(x)), dim=-1)
        return self.last((weights @ x).flatten(1))


def network(hide) -> nn.Module:
    torch.manual_seed(0)
    return Weighted(hide).eval()


def added(hidden: float, seen: float = 0.0, mask: torch.Tensor = SEEN):
    return lambda scores: scores + torch.where(mask, seen, hidden)


def filled(hidden: float, mask: torch.Tensor = SEEN):
    return lambda scores: scores.masked_fill(~mask, hidden)


LEAST = torch.finfo(torch.float32).min
HIDDEN = {
    "minus infinity added": added(-np.inf),
    "the least number added": added(LEAST),
    "1e30 taken off": added(-1e30),
    "beside other numbers": added(-1e30, -0.5),
    "minus infinity filled in": filled(-np.inf),
    "the least number filled in": filled(LEAST),
}
NONE = SEEN.clone()
NONE[1] = False
REFUSED = {
    # A shift of a whole row is none: in real numbers its softmax is that of the scores.
    "all of a row, added": (added(LEAST, mask=NONE), "hides all scores of some row"),
    "all of a row, filled in": (filled(-np.inf, NONE), "hides all scores of some row"),
    "nearly as much beside it": (added(-1e30, -9.9e29), "adds -9.9e\\+29 .* hides others by -1e\\+30"),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_is_hidden_counts_for_nothing(name):
    module = network(HIDDEN[name])
    imported = load_network(module, input_shape=SHAPE)
    plain = network(added(-np.inf, -0.5 if "other" in name else 0.0)).double()
    images = torch.from_numpy(IMAGES)
    assert np.allclose(imported.graph.forward(images), logits_of(plain, IMAGES), atol=1e-6)
    found = imported.graph.gradient_at(images, 1)
    assert np.allclose(found, gradients_of(plain, IMAGES, 1), atol=1e-6)


@pytest.mark.parametrize("name", REFUSED)
def test_what_only_looks_hidden_is_refused(name):
    hide, message = REFUSED[name]
    with pytest.raises(ModelError, match=message):
        load_network(network(hide), input_shape=SHAPE)


def test_a_tenth_of_it_is_a_number_like_others():
    """Nothing is hidden by it alone: the scores are what they are."""
    imported = load_network(network(added(-8.0)), input_shape=SHAPE)
    plain = network(added(-8.0)).double()
    assert np.allclose(imported.graph.forward(torch.from_numpy(IMAGES)), logits_of(plain, IMAGES), atol=1e-6)
