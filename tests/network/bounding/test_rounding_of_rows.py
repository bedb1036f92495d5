"""What rows in float32 lose on their way, held against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from formed import exact
from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding import ends
from steadygaze.network.bounding.backward import Backward
from steadygaze.network.building import GraphBuilder
from steadygaze.network.layers import Dense


def farthest_above(shape, seeds=range(6), plain=False):
    """By how much rows in float32 through a layer ``(outputs, inputs)`` are above the least values, exactly.

    As a share of what they are sums of; below 0 where none is. plain: with weights of 1 and no biases.
    """
    worst = -1.0
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        weight, bias = (
            torch.rand(*own, generator=generator, dtype=torch.float64) for own in (shape, shape[:1])
        )
        if plain:
            weight, bias = torch.ones_like(weight), torch.zeros_like(bias)
        builder = GraphBuilder(shape[1:])
        graph = builder.build(builder.add(Dense(weight, bias), 0, name="dense"))
        rows = torch.rand(2, 3, shape[1], generator=generator, dtype=torch.float64)
        forms = Forms(rows, torch.zeros(2, shape[1], dtype=torch.float64), 2)
        backward = Backward(graph, grounds={0: forms}, sizes={0: forms.most})
        backward.sizes[1] = graph.nodes[1].layer.absolute.forward(forms.most)
        asked = torch.rand(2, 8, shape[0], generator=generator, dtype=torch.float64).to(torch.float32)
        found = backward.narrowed(1).least(asked, 1)
        for box in range(2):
            values = exact(asked[box].double()).dot(exact(weight)).dot(exact(rows[box]).T)
            constant = exact(asked[box].double()).dot(exact(bias))
            least = values[:, 0] + constant - np.abs(values[:, 1:]).sum(axis=1)
            whole = np.abs(values).sum(axis=1) + constant
            over = [
                float((Fraction(own) - true) / all_of_it)
                for own, true, all_of_it in zip(found[box].tolist(), least, whole, strict=True)
            ]
            worst = max(worst, *over)
    return worst


@pytest.mark.parametrize("shape", [(3, 200), (200, 3), (1, 1)])
def test_each_step_counts_its_own_sums(shape):
    # No more is counted than for the products of each sum, of which the end has none in float32.
    assert -(shape[0] + 20) * 2.0**-23 < farthest_above(shape) <= 0


def test_rounding_of_a_step_that_is_left_out_is_caught(monkeypatch):
    rounding = Backward._rounding
    monkeypatch.setattr(Backward, "_rounding", lambda *own: 2.0**-30 * rounding(*own))
    assert farthest_above((200, 3), range(20)) > 0


def test_rounding_of_coefficients_at_the_end_that_is_left_out_is_caught(monkeypatch):
    # A step of one product with 1 is exact.
    monkeypatch.setattr(Backward, "_rounding", lambda own, index, kind: (0 * own.scale(index)).to(kind))
    assert farthest_above((1, 1), range(20), plain=True) <= 0
    monkeypatch.setattr(ends, "_singled", lambda own, _sign, kind: own.to(kind))
    assert farthest_above((1, 1), range(20), plain=True) > 0
