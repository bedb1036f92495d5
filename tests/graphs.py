"""Graphs built by hand, node by node, without a reader."""

from __future__ import annotations

import torch

from steadygaze.network.building import GraphBuilder
from steadygaze.network.graph import Graph
from steadygaze.network.layers import Add, Concat, Conv, Dense, Reshape
from steadygaze.network.pieces import MaxPool, PiecewiseLinear


def rand(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.5


def relu(low=0.0):
    return PiecewiseLinear(
        torch.zeros(1).double(), torch.tensor([[low], [1.0]]).double(), torch.zeros(2, 1).double()
    )


def residual_graph(seed=0) -> Graph:
    """A convolution, a max-pool, a residual block, a concatenation and two dense layers, built by hand."""
    b = GraphBuilder((2, 8, 8))
    first = b.add(Conv(rand(4, 2, 3, 3, seed=seed), rand(4, seed=seed + 1), padding=(1, 1)), 0, name="first")
    act = b.add(relu(), first, name="act")
    place = torch.arange(4 * 64).reshape(4, 4, 2, 4, 2).permute(0, 1, 3, 2, 4).reshape(-1, 4)
    pool = b.add(MaxPool(place, (4, 8, 8), (4, 4, 4)), act, name="pool")
    inner = b.add(
        Conv(rand(4, 4, 3, 3, seed=seed + 2), rand(4, seed=seed + 3), padding=(1, 1)), pool, name="inner"
    )
    inner_act = b.add(relu(0.2), inner, name="inner act")
    total = b.add(Add(), inner_act, pool, name="total")
    joined = b.add(Concat(0), total, inner_act, name="joined")
    flat = b.add(Reshape((8 * 16,)), joined, name="flat")
    hidden = b.add(Dense(rand(20, 128, seed=seed + 4), rand(20, seed=seed + 5)), flat, name="hidden")
    hidden_act = b.add(relu(), hidden, name="hidden act")
    return b.build(
        b.add(Dense(rand(5, 20, seed=seed + 6), rand(5, seed=seed + 7)), hidden_act, name="logits")
    )
