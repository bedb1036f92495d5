"""Bands through layers of which few inputs are bent: as by whole products, and sound to the last bit."""

from __future__ import annotations

import inspect
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from bent_cases import WINDOWS, known
from steadygaze.enclosing import sent_places
from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding import tightening
from steadygaze.network.bounding.bounds import bounds_of
from steadygaze.network.bounding.forms import few_places
from steadygaze.network.bounding.forms.affine import affine
from steadygaze.network.bounding.rows import bands
from steadygaze.network.bounding.rows.bands import Band, moved, moved_by_few
from steadygaze.network.bounding.tightening import Effort
from steadygaze.network.layers import Conv, Dense

SHAPE, BOXES, COUNT = (3, 7, 6), 3, 2
LAYERS = [*WINDOWS, "dense"]


@pytest.fixture(autouse=True)
def _few_however_little(monkeypatch):
    monkeypatch.setattr(bands, "_LITTLE", 0)


def layer_of(name):
    generator = torch.Generator().manual_seed(7)
    if name == "dense":
        weight = torch.randn(11, 126, generator=generator, dtype=torch.float64)
        return Dense(weight, torch.randn(11, generator=generator, dtype=torch.float64))
    stride, padding, dilation, size = WINDOWS[name]
    weight = torch.randn(5, 3, *size, generator=generator, dtype=torch.float64)
    return Conv(weight, torch.randn(5, generator=generator, dtype=torch.float64), stride, padding, dilation)


def bent_somewhere(shape, share=0.1):
    """Forms, and a band that differs from them at some places of each box; ranges."""
    rng = np.random.default_rng(11)

    def numbers(*size):
        return torch.from_numpy(rng.standard_normal(size))

    rows, error = numbers(BOXES, 1 + COUNT + 2, *shape), 1e-9 * numbers(BOXES, *shape).abs()
    middle, half = rows[:, : 1 + COUNT].clone(), torch.zeros(BOXES, 1 + COUNT, *shape, dtype=torch.float64)
    some = torch.from_numpy(rng.random((BOXES, 1, *shape)) < share)
    some[0].flatten()[0] = True  # the first place counts as any
    some[2] = False  # a box without any
    middle = torch.where(some, middle + numbers(*middle.shape), middle)
    half = torch.where(some, numbers(*half.shape) * 0.1, half)
    half[:, 0] = half.abs().sum(dim=1)
    band = Band(middle, half, error)
    low, high = band.bounds
    return Forms(rows, error, COUNT), band, (low - 0.1, high + 0.2)


def of_few(name):
    """What is known behind a layer by few places, and by whole products."""
    layer = layer_of(name)
    shape = (126,) if name == "dense" else SHAPE
    forms, band, ranges = bent_somewhere(shape)
    found = moved_by_few(layer, band, ranges, forms, affine(layer, forms))
    return found, moved(layer, [band], [ranges]), (layer, forms, band)


@pytest.mark.parametrize("name", LAYERS)
def test_few_places_say_what_whole_products_say(name):
    found, whole, _ = of_few(name)
    assert found is not None
    for own, other in zip(found[0].bounds + found[1], whole[0].bounds + whole[1], strict=True):
        torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found[0].middle, whole[0].middle, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[0].half, whole[0].half, rtol=1e-12, atol=1e-12)
    # No more than a handful of roundings is added.
    assert (found[0].error <= 8 * whole[0].error).all()


def test_a_dense_layer_of_few_products_is_multiplied_whole(monkeypatch):
    monkeypatch.undo()
    assert of_few("dense")[0] is None


@pytest.mark.parametrize("name", LAYERS)
def test_what_rounding_does_is_within_the_error_exactly(name):
    (band, _), _, (layer, _, before) = of_few(name)
    matrix = layer.linear(torch.eye(126, dtype=torch.float64).reshape(126, *before.error.shape[1:]))
    matrix, bias = matrix.flatten(1).T, layer.constant((tuple(before.error.shape[1:]),)).flatten()
    exact = [[Fraction(float(w)) for w in row] for row in matrix]
    for box in range(2):
        inner, width = (own[box].flatten(1) for own in (before.middle, before.half))
        rows = [[Fraction(float(v)) for v in row] for row in inner]
        widths = [[Fraction(float(v)) for v in row] for row in width]
        spared = before.error[box].flatten()
        for unit in range(0, len(matrix), 9):
            off = sum(abs(w) * Fraction(float(e)) for w, e in zip(exact[unit], spared, strict=True))
            for j in range(1 + COUNT):
                middle = sum(w * v for w, v in zip(exact[unit], rows[j], strict=True))
                middle += Fraction(float(bias[unit])) if not j else 0
                half = sum(abs(w) * v for w, v in zip(exact[unit], widths[j], strict=True))
                off += abs(middle - Fraction(float(band.middle[box, j].flatten()[unit])))
                off += abs(half - Fraction(float(band.half[box, j].flatten()[unit])))
            assert off <= Fraction(float(band.error[box].flatten()[unit]))


def test_many_places_and_layers_of_several_groups_are_left_to_whole_products():
    forms, band, ranges = bent_somewhere(SHAPE, share=0.6)
    layer = layer_of("plain")
    assert moved_by_few(layer, band, ranges, forms, affine(layer, forms)) is None
    rows = Dense(layer_of("dense").weight[:, :7], layer_of("dense").bias)  # each of 18 rows by itself
    forms, band, ranges = bent_somewhere((18, 7))
    assert moved_by_few(rows, band, ranges, forms, affine(rows, forms)) is None
    forms, band, ranges = bent_somewhere(SHAPE)
    one_by_one = replace(layer, weight=layer.weight[:3, :1], bias=layer.bias[:3], groups=3)
    assert moved_by_few(one_by_one, band, ranges, forms, affine(one_by_one, forms)) is None


def test_numbers_that_are_none_count_as_other_than_0():
    numbers = torch.zeros(1, 2, 40, dtype=torch.float64)
    numbers[0, 1, 7] = torch.nan
    assert few_places.few_places(numbers).tolist() == [[7]]


@pytest.mark.parametrize("error", [0.0, 1e-3])
@pytest.mark.parametrize("name", WINDOWS)
def test_bounds_are_those_of_whole_products(name, error, monkeypatch):
    """Also where pixels are off their affine parts, where rows do not end early."""
    graph, pixels, _ = known(name, error)
    found, asked = [], []
    few = bands.few_places

    def counted(*numbers):
        asked.append(few(*numbers))
        return asked[-1]

    monkeypatch.setattr(bands, "few_places", counted)
    for done in (moved_by_few, lambda *_: None):
        monkeypatch.setattr(tightening, "moved_by_few", done)
        found.append(bounds_of(graph, pixels, {graph.last}, {}, 8, effort=Effort.UNITS).gaps(1))
    assert any(places is not None for places in asked)
    for own, other in zip(*found, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-8, atol=1e-8)


FAULTS = [
    ("dilated", "i * step_down", "i"),
    ("strided", "column + left", "column"),
    ("strided", "y % down or", ""),
    ("plain", "weight[channel, i, j]", "weight[0, i, j]"),
    ("plain", "+=", "="),
    ("plain", "if place < 0", "if place < 1"),
]


@pytest.mark.parametrize(("name", "right", "wrong"), FAULTS)
def test_faults_planted_in_the_kernel_are_caught(name, right, wrong, monkeypatch):
    source = inspect.getsource(sent_places.sent_from.py_func)
    assert source.count(right) == 1
    space = dict(vars(sent_places))
    exec(source.replace(right, wrong).replace("@kernel\n", ""), space)
    monkeypatch.setattr(few_places, "sent_from", space["sent_from"])
    with pytest.raises(AssertionError):
        test_few_places_say_what_whole_products_say(name)
