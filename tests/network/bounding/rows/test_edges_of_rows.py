"""Rows through smooth units with slopes of their own: no wider than CROWN, which knows its rows alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding.bounds import bounds_of
from steadygaze.network.bounding.curves.edges import edges
from steadygaze.network.bounding.tightening import Effort
from steadygaze.network.reading.load import load_network
from steadygaze.network.smooth import Smooth

ACTIVATIONS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "gelu": nn.GELU, "softplus": nn.Softplus}
GAPS = torch.tensor([[1.0, -1.0, 0.0], [1.0, 0.0, -1.0]], dtype=torch.float64)


def problem(name, width):
    """A graph of four dense layers, and forms of pixels over two boxes of two coordinates."""
    torch.manual_seed(5)
    layers = [nn.Flatten()]
    for before, behind in ((16, 12), (12, 12), (12, 12)):
        layers += [nn.Linear(before, behind), ACTIVATIONS[name]()]
    module = nn.Sequential(*layers, nn.Linear(12, 3)).double().eval()
    for parameter in module.parameters():
        parameter.data *= 3.0
    graph = load_network(module, input_shape=(1, 4, 4)).graph
    rows = torch.rand(2, 3, 1, 4, 4, dtype=torch.float64)
    rows[:, 1:] = (rows[:, 1:] - 0.5) * width
    return graph, Forms(rows, torch.zeros(2, 1, 4, 4, dtype=torch.float64), 2)


def crown(graph, pixels):
    """Lower bounds ``(B, 4)`` of gaps and their opposites, by rows alone; nothing of `backward` is in it."""
    nodes, found = graph.nodes, {}

    def least(rows, index):
        constant, source = torch.zeros(rows.shape[:2], dtype=torch.float64), index
        while nodes[source].inputs:
            layer = nodes[source].layer
            if isinstance(layer, Smooth):
                own, up, down = found[source], rows.clamp_min(0), rows.clamp_max(0)
                constant = (
                    constant + (up @ own.below_offset[..., None] + down @ own.above_offset[..., None])[..., 0]
                )
                rows = up * own.below[:, None] + down * own.above[:, None]
            elif hasattr(layer, "weight"):
                constant, rows = constant + rows @ layer.bias, rows @ layer.weight
            source = nodes[source].inputs[0]
        moved = rows @ pixels.rows.flatten(2).mT
        return constant + moved[..., 0] - moved[..., 1:].abs().sum(2)

    for index, node in enumerate(nodes):
        if isinstance(node.layer, Smooth):
            unit = torch.eye(node.shape[0], dtype=torch.float64).expand(2, -1, -1)
            low, high = least(unit, node.inputs[0]), -least(-unit, node.inputs[0])
            found[index] = edges(node.layer, low, high)
    return least(torch.cat([GAPS, -GAPS]).expand(2, -1, -1), graph.last)


@pytest.mark.parametrize("width", [0.02, 0.2, 1.0, 3.0])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_rows_for_units_are_no_wider_than_crown(name, width):
    graph, pixels = problem(name, width)
    bounds = bounds_of(graph, pixels, {graph.last}, {}, 8, effort=Effort.UNITS)
    rows = torch.cat([GAPS, -GAPS]).expand(2, -1, -1)
    found, alone = bounds.backward.least(rows, graph.last), crown(graph, pixels)
    spans = [-(own[:, :2] + own[:, 2:]) for own in (found, alone)]
    # Units are not asked for where that would bring less than a fiftieth.
    assert spans[0].sum() <= spans[1].sum() * (1 + 2e-3)


def test_both_kinds_of_lines_are_the_better_ones_somewhere():
    better = set[bool]()
    for name in ACTIVATIONS:
        for width in (0.2, 1.0, 3.0):
            graph, pixels = problem(name, width)
            backward = bounds_of(graph, pixels, {graph.last}, {}, 8, effort=Effort.UNITS).backward
            rows = torch.cat([GAPS, -GAPS]).expand(2, -1, -1)
            both, own = backward.least(rows, graph.last), replace(backward, others={}).least(rows, graph.last)
            assert (both >= own).all()
            better |= set((both > own).flatten().tolist())
    assert better == {False, True}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gaps_of_images_stay_inside(name):
    for width in (0.02, 0.5, 3.0):
        graph, pixels = problem(name, width)
        low, high = bounds_of(graph, pixels, {graph.last}, {}, 8, effort=Effort.UNITS).gaps(0)
        t = torch.rand(500, 2, dtype=torch.float64) * 2 - 1
        t[:4] = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
        for box in range(2):
            images = pixels.rows[box, 0] + torch.einsum("sn,nchw->schw", t, pixels.rows[box, 1:])
            gaps = graph.forward(images) @ GAPS.T
            assert (gaps >= low[box]).all()
            assert (gaps <= high[box]).all()
