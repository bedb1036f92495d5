"""Networks whose second convolution reads values of which few are bent, over three boxes."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding.bounds import bounds_of
from steadygaze.network.bounding.tightening import Effort
from steadygaze.network.reading.load import load_network

COUNT, CLASSES, BOXES = 2, 4, 3
# Stride, padding, dilation and size of the kernel of the second convolution; along rows and columns.
WINDOWS = {
    "plain": ((1, 1), (0, 0), (1, 1), (3, 3)),
    "strided": ((2, 3), (1, 2), (1, 1), (4, 5)),
    "dilated": ((1, 2), (2, 0), (2, 1), (3, 2)),
    "far apart": ((3, 2), (0, 1), (1, 1), (1, 2)),
}


class Skipped(nn.Module):
    """What the second convolution reads is added to what it makes."""

    def __init__(self):
        super().__init__()
        self.ahead, self.second = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x):
        x = torch.relu(self.ahead(x))
        return torch.relu(x + self.second(x))


def known(name, error=0.0):
    """The graph, pixels of three boxes, and what rows need on their way back."""
    torch.manual_seed(3)
    if name == "skipped":
        middle = [Skipped()]
    else:
        stride, padding, dilation, size = WINDOWS[name]
        second = nn.Conv2d(6, 5, size, stride, padding, dilation)
        middle = [nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), second, nn.ReLU()]
    module = nn.Sequential(*middle, nn.Flatten(), nn.LazyLinear(CLASSES)).double()
    module(torch.zeros(1, 2, 10, 9, dtype=torch.float64))
    graph = load_network(module, input_shape=(2, 10, 9)).graph
    rng = np.random.default_rng(5)
    rows = torch.from_numpy(rng.uniform(-1, 1, (BOXES, 1 + COUNT, 2, 10, 9)))
    rows[:, 1:] *= torch.tensor([0.02, 0.05, 0.002])[:, None, None, None, None]
    pixels = Forms(rows, torch.full((BOXES, 2, 10, 9), error, dtype=torch.float64), COUNT)
    return graph, pixels, bounds_of(graph, pixels, {graph.last}, {}, 8, effort=Effort.UNITS).backward
