"""Rows of one entry through affine layers: against the layers themselves; and planted faults."""

from __future__ import annotations

import pytest
import torch

from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding.bounds import bounds_of
from steadygaze.network.bounding.forms import single_entries
from steadygaze.network.bounding.forms.single_entries import linear_of, transpose_of
from steadygaze.network.layers import Conv, Dense
from steadygaze.network.reading.load import load_network

GENERATOR = torch.Generator().manual_seed(5)


def drawn(*shape):
    return torch.randn(shape, generator=GENERATOR, dtype=torch.float64)


CONVOLUTIONS = {
    "plain": ((3, 3), {}),
    "strided": ((4, 4), {"stride": (2, 2), "padding": (1, 1)}),
    "uneven": ((3, 2), {"stride": (2, 1), "padding": (2, 0), "dilation": (2, 1)}),
    "wide steps": ((2, 3), {"stride": (3, 4), "padding": (1, 3), "dilation": (1, 2)}),
}
LAYERS = {
    "dense": (Dense(drawn(7, 90), drawn(7)), (90,)),
    **{
        name: (Conv(drawn(5, 3, *kernel), drawn(5), **options), (3, 9, 10))
        for name, (kernel, options) in CONVOLUTIONS.items()
    },
}


@pytest.fixture(autouse=True)
def _however_few(monkeypatch):
    monkeypatch.setattr(single_entries, "_FEW", 1)
    monkeypatch.setattr(single_entries, "_FEW_ROWS", 1)


def rows_of(shape):
    """Of each entry one row, and some that are 0 or have more entries."""
    size = int(torch.tensor(shape).prod())
    rows = torch.zeros((size + 4, size), dtype=torch.float64)
    rows[range(size), range(size)] = drawn(size)
    rows[size + 1], rows[size + 2, :2] = drawn(size), drawn(2)
    return rows[torch.randperm(len(rows), generator=GENERATOR)].reshape(-1, *shape)


def off(name):
    """How far rows are from what the layer makes of them, forward and back."""
    layer, shape = LAYERS[name]
    rows, gradients = rows_of(shape), rows_of(layer.output_shape(shape))
    forward = linear_of(layer, rows) - layer.linear(rows)
    (back,) = transpose_of(layer, gradients, (shape,))
    (own,) = layer.transpose(gradients, (shape,))
    return float(forward.abs().max()), float((back - own).abs().max())


@pytest.mark.parametrize("name", LAYERS)
def test_rows_of_one_entry_become_what_the_layer_makes_of_them(name):
    assert max(off(name)) <= 1e-13


def test_what_is_no_number_stays_none():
    for layer, shape in LAYERS.values():
        for value in (torch.nan, torch.inf):
            rows = torch.zeros((3, *shape), dtype=torch.float64)
            rows.flatten(1)[:, 40] = value
            found, own = linear_of(layer, rows), layer.linear(rows)
            assert torch.equal(found.isfinite(), own.isfinite())


@pytest.mark.parametrize("name", ["plain", "conv"])
def test_bounds_of_networks_are_the_same(monkeypatch, name):
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 3),
        torch.nn.MaxPool2d(2) if name == "plain" else torch.nn.ReLU(),
        torch.nn.ReLU(),
        torch.nn.Conv2d(6, 8, 2),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(8 if name == "plain" else 72, 3),
    ).double()
    graph = load_network(module, input_shape=(1, 6, 6)).graph
    rows = 0.05 * drawn(2, 3, 1, 6, 6)
    pixels = Forms(rows, torch.zeros((2, 1, 6, 6), dtype=torch.float64), 2)
    found = []
    for few in (1, 2**60):
        monkeypatch.setattr(single_entries, "_FEW", few)
        bounds = bounds_of(graph, pixels, {graph.last}, {}, 20)
        seed = Forms.exact(graph.seed(2, 1), 2)
        found.append((*bounds.gaps(0), *bounds.pull_back(seed, 0).bounds()))
    for ours, whole in zip(*found, strict=True):
        torch.testing.assert_close(ours, whole, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["_stamp", "_stamp_back"])
def test_entries_in_another_channel_are_caught(monkeypatch, name):
    own = single_entries._unravelled
    monkeypatch.setattr(
        single_entries, "_unravelled", lambda place, shape: (0 * place, *own(place, shape)[1:])
    )
    assert off("strided")[name == "_stamp_back"] > 1e-3


def test_other_rows_taken_for_such_are_caught(monkeypatch):
    own = single_entries._places
    monkeypatch.setattr(single_entries, "_places", lambda flat: own(flat).clamp_min(0))
    assert min(off("plain")) > 1e-3


def test_places_are_the_same_with_the_kernel_and_without():
    rows = rows_of((6, 5)).flatten(1)
    scattered = rows.mT.contiguous().mT  # the kernel takes only rows that lie one after the other
    found = single_entries._places(rows)
    assert torch.equal(found, single_entries._places(scattered))
    assert sorted(found[found >= 0].tolist()) == [0, 0, *range(30)]
