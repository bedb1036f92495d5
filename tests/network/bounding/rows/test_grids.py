"""Pooling in steps: told apart from all other, and the windows are those that the pool has."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from steadygaze.network.bounding.rows import grids
from steadygaze.network.bounding.rows.grids import averaging, grid_of
from steadygaze.network.layers import AveragePool
from steadygaze.network.pieces import MaxPool
from steadygaze.network.reading.load import load_network


def pool_of(module, shape=(2, 9, 8)):
    """The pool that a module is read as; behind a convolution and an activation that falls."""
    layers = [nn.Conv2d(shape[0], shape[0], 1), nn.GELU(), module, nn.Flatten(), nn.LazyLinear(2)]
    network = nn.Sequential(*layers).double()
    network(torch.zeros(1, *shape, dtype=torch.float64))
    nodes = load_network(network, input_shape=shape, layout="chw").graph.nodes
    (found,) = (node.layer for node in nodes if isinstance(node.layer, MaxPool | AveragePool))
    return found


@pytest.mark.parametrize(
    ("module", "step", "first", "span"),
    [
        (nn.MaxPool2d(2), (2, 2), (0, 0), (2, 2)),
        (nn.MaxPool2d((3, 2), (2, 1), (1, 0)), (2, 1), (-1, 0), (3, 2)),
        (nn.MaxPool2d(2, 1, dilation=2), (1, 1), (0, 0), (3, 3)),
        (nn.MaxPool2d(3, 3, ceil_mode=True), (3, 3), (0, 0), (3, 3)),
    ],
)
def test_windows_that_go_in_steps(module, step, first, span):
    grid = grid_of(pool_of(module))
    assert (grid.step, grid.first, grid.span) == (step, first, span)


def test_windows_that_go_in_no_steps():
    windows = grids._windows(grid_of(pool_of(nn.MaxPool2d(2))), (2, 9, 8), (2, 4, 4)).flatten(0, 2)
    assert grid_of(MaxPool(windows, (2, 9, 8), (2, 4, 4))) is not None
    assert grid_of(MaxPool(windows.roll(1, 0), (2, 9, 8), (2, 4, 4))) is None
    assert grid_of(MaxPool(windows.flip(0), (2, 9, 8), (2, 4, 4))) is None
    assert grid_of(MaxPool(windows, (144,), (32,))) is None
    # Windows of another channel, and over several, are none of these.
    other = torch.where(windows < 72, windows + 72, windows - 72)
    assert grid_of(MaxPool(other, (2, 9, 8), (2, 4, 4))) is None


@pytest.mark.parametrize(
    "module",
    [nn.AvgPool2d(2), nn.AvgPool2d((3, 2), (2, 3), (1, 0)), nn.AvgPool2d(3, 1), nn.AdaptiveAvgPool2d((3, 4))],
)
def test_averages_are_the_convolution(module):
    pool = pool_of(module)
    convolution = averaging(pool, 2)
    values = torch.randn(3, 2, 9, 8, dtype=torch.float64)
    found, wanted = convolution.forward(values), pool.forward(values)
    # A convolution pads on both sides alike; what comes of the second is never asked for.
    found = found[:, :, : wanted.shape[2], : wanted.shape[3]]
    torch.testing.assert_close(found, wanted, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(
    "module", [nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.AdaptiveAvgPool2d((4, 3))]
)
def test_averages_that_weigh_otherwise_at_the_edges(module):
    assert averaging(pool_of(module), 2) is None
