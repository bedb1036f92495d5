"""Rows that end behind a convolution of values of which few are bent: as tight as all the way, and sound."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest
import torch

from bent_cases import BOXES, CLASSES, COUNT, WINDOWS, known
from steadygaze.enclosing import pulled_places
from steadygaze.network.bounding.rows import few_bent
from steadygaze.network.bounding.rows.ends import least_of
from steadygaze.network.bounding.rows.few_bent import FewBent


def both(graph, backward):
    """Bounds of all logits and their opposites by rows that end early, and by rows that do not."""
    rows = torch.cat([torch.eye(CLASSES), -torch.eye(CLASSES)]).double()[None]
    whole = backward.grounded_alone()
    return tuple(least_of(own.below(rows, graph.last)) for own in (backward, whole))


@pytest.mark.parametrize("name", WINDOWS)
def test_rows_that_end_early_say_what_whole_ones_say(name):
    graph, _, backward = known(name)
    (few,) = backward.early.values()
    assert 0 < few.places.shape[1] < few_bent._FEW * 6 * 10 * 9
    assert (few.places < 0).any()  # not all boxes have as many
    early, whole = both(graph, backward)
    torch.testing.assert_close(early, whole, rtol=1e-9, atol=1e-9)
    chosen = torch.tensor([2, 0])
    torch.testing.assert_close(both(graph, backward.take(chosen))[0], early[chosen], rtol=1e-12, atol=1e-12)


def test_rows_that_begin_where_they_end_have_their_opposites():
    _, _, backward = known("plain")
    (start,) = backward.early
    size = (BOXES, backward.sizes[start][0].numel())
    chosen = torch.rand(size, generator=torch.Generator().manual_seed(1)) < 0.1
    for few in (chosen, chosen & (chosen.cumsum(dim=1) < 9)):
        found = zip(backward.units(start, few), backward.grounded_alone().units(start, few), strict=True)
        for early, whole in found:
            torch.testing.assert_close(early, whole, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", WINDOWS)
def test_all_rounding_is_counted(name):
    """Functions of the coordinates are nowhere above the values, not by the last digit."""
    graph, pixels, backward = known(name)
    assert backward.early
    excess = -np.inf
    rng = np.random.default_rng(6)
    rows = torch.cat([torch.eye(CLASSES), -torch.eye(CLASSES)]).double()[None]
    below = backward.below(rows, graph.last)
    for _ in range(200):
        t = torch.from_numpy(rng.choice([-1.0, 1.0, 0.4, 0.0], (BOXES, COUNT)))
        images = pixels.centre + torch.einsum("bi,bi...->b...", t, pixels.rows[:, 1:])
        values = graph.forward(images) @ rows[0].T
        at = torch.cat([torch.ones((BOXES, 1), dtype=torch.float64), t], dim=1)
        excess = max(excess, float((torch.einsum("bi,bir->br", at, below) - values).max()))
    assert excess <= 0


def test_it_is_for_few_bent_units_with_hardly_an_error(monkeypatch):
    assert not known("plain", error=1e-4)[2].early
    assert not known("skipped")[2].early  # there the way past it would no longer cancel
    monkeypatch.setattr(few_bent, "_FEW", 0.0)
    assert not known("plain")[2].early


def off(name):
    graph, _, backward = known(name)
    early, whole = both(graph, backward)
    return float((early - whole).abs().max()), float((early - whole).max())


def test_places_of_another_box_are_caught(monkeypatch):
    made = FewBent.of

    def wrong(*bands):
        few = made(*bands)
        return None if few is None else replace(few, places=few.places.roll(1, 0))

    monkeypatch.setattr(FewBent, "of", staticmethod(wrong))
    assert off("plain")[0] > 1e-6


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("row + above", "row"),
        ("// down * made_wide", "// down * made_high"),
        ("x // across >= made_wide", "x // across > made_wide"),
        ("y % down", "y % across"),
        ("j * step_across", "j * step_down"),
        ("output * made_high * made_wide", "channel * made_high * made_wide"),
    ],
)
def test_faults_in_what_comes_back_to_bent_units_are_caught(old, new, monkeypatch):
    source = inspect.getsource(pulled_places.pulled_to.py_func)
    assert source.count(old) == 1
    space = dict(vars(pulled_places))
    exec(source.replace("@kernel\n", "").replace(old, new), space)
    monkeypatch.setattr(few_bent, "pulled_to", space["pulled_to"])
    found = list[float]()
    for name in WINDOWS:
        try:
            found.append(off(name)[0])
        except IndexError:
            found.append(1.0)
    assert max(found) > 1e-6


def test_half_widths_that_are_left_out_are_caught(monkeypatch):
    monkeypatch.setattr(
        few_bent, "pulled_to", lambda rows, _w, places, _n: np.zeros((*places.shape, rows.shape[2]))
    )
    assert off("plain")[1] > 1e-6
