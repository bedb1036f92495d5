"""Units in doubt beside polynomials: deep networks multiply by their norms what has no symbol."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from anchored_cases import COUNT, pixels_of
from steadygaze.enclosing import forms
from steadygaze.network.bounding.polynomials import polynomial_bounds
from steadygaze.network.bounding.taylor.polynomial import FEW_DOUBTS
from steadygaze.network.reading.load import load_network


class Gated(nn.Module):
    """Residual blocks of rectifiers, each of whose channels is weighed by its own means."""

    def __init__(self, blocks=8, channels=8):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.out = nn.Conv2d(1, channels, 3, padding=1), nn.Linear(channels, 3)
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2 * blocks))
        self.gates = nn.ModuleList(nn.Linear(channels, channels) for _ in range(blocks))

    def forward(self, x):
        x = torch.relu(self.stem(x))
        for first, second, gate in zip(self.convs[::2], self.convs[1::2], self.gates, strict=True):
            y = second(torch.relu(first(x)))
            x = torch.relu(x + 2 * y * torch.sigmoid(gate(y.mean((2, 3))))[:, :, None, None])
        return self.out(x.mean((2, 3)))


def widths(room, share=None, monkeypatch=None):
    """How wide bounds of the logits of such a network are, over the width of values at points of the box."""
    if share is not None:
        whole = forms.fresh_symbols
        monkeypatch.setattr(forms, "fresh_symbols", lambda x, most, _=None: whole(x, most, share))
    graph = load_network(Gated().double().eval(), input_shape=(1, 6, 6)).graph
    rng = np.random.default_rng(1)
    pixels = pixels_of(rng, 2.0**-5)
    found = polynomial_bounds(graph, pixels, {graph.last}, {}, 2, room=room).values[graph.last]
    t = torch.from_numpy(rng.uniform(-1, 1, (200, COUNT)))
    rows = pixels.away.rows[0].flatten(1)
    images = (pixels.anchor.flatten() + rows[0] + t @ rows[1:]).reshape(-1, 1, 6, 6)
    logits = graph.values_at(images, [graph.last])[graph.last]
    low, high = found.bounds()
    sampled = logits.amax(dim=0) - logits.amin(dim=0)
    assert (low[0] <= logits.amin(dim=0)).all()
    assert (high[0] >= logits.amax(dim=0)).all()
    return float(((high - low)[0] / sampled).max())


def test_no_unit_in_doubt_is_an_error_where_there_is_room_for_all():
    """However little it is beside its line, what is an error grows by the norms of all layers behind it."""
    assert widths(1000) < 3
    assert widths(FEW_DOUBTS) > 1000


def test_units_that_are_next_to_their_lines_have_a_symbol_as_well(monkeypatch):
    assert widths(1000, 0.05, monkeypatch) > 30
