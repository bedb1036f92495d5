"""Lines of max pooling by kernels: against sums written out, and of values within the lines."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from steadygaze.enclosing import windows

BOXES, COUNT, INPUTS, WINDOWS, SIZE = 3, 3, 12, 6, 4


def some(kind=np.float64, seed=1):
    """Rows of each box, and lines: of the second, third and last window several inputs may win."""
    rng = np.random.default_rng(seed)
    winner = rng.integers(0, INPUTS, (BOXES, WINDOWS))
    number = np.array([-1, 0, 1, -1, -1, 2])
    places = np.array([[0, 1, 2, 3], [2, 3, 4, -1], [9, 10, -1, -1]])
    weights = rng.normal(size=(BOXES, 3, SIZE)) * (places >= 0)
    weights[0, 1] = 0.0  # below a constant
    offset, size = rng.normal(size=(BOXES, 3)), rng.uniform(1, 2, (BOXES, INPUTS))
    rows = rng.normal(size=(BOXES, 5, WINDOWS))
    rows[:, :, 4], rows[0, 0, 1] = 0.0, 0.0
    lines = (winner, number, places, weights.astype(kind), offset.astype(kind))
    return rows.astype(kind), lines, size.astype(kind)


def written_out(rows, lines, size):
    """The same, window by window, over matrices of the lines."""
    winner, number, places, weights, offset = lines
    before = np.zeros((BOXES, rows.shape[1], INPUTS))
    constant, scale = np.zeros(before.shape[:2]), np.zeros(before.shape[:2])
    for b in range(BOXES):
        below, above, lifted = np.zeros((WINDOWS, INPUTS)), np.zeros((WINDOWS, INPUTS)), np.zeros(WINDOWS)
        for w in range(WINDOWS):
            below[w, winner[b, w]] = 1.0
            if number[w] < 0:
                above[w] = below[w]
                continue
            lifted[w] = offset[b, number[w]]
            for place, weight in zip(places[number[w]], weights[b, number[w]], strict=True):
                above[w, place] += weight if place >= 0 else 0.0
        up, down = np.maximum(rows[b], 0), np.minimum(rows[b], 0)
        before[b], constant[b] = up @ below + down @ above, down @ lifted
        scale[b] = (up @ below + -down @ abs(above)) @ size[b] + -down @ abs(lifted)
    return before, constant, scale


def off(kind=np.float64):
    rows, lines, size = some(kind)
    before, (constant, scale) = windows.rows_before(rows, *lines, size)
    pairs = zip((before, constant, scale), written_out(rows, lines, size), strict=True)
    return max(float(abs(found - own).max()) for found, own in pairs)


def test_rows_are_those_that_are_written_out():
    assert off() <= 1e-12
    assert off(np.float32) <= 1e-5
    rows, lines, size = some()
    shared = windows.rows_before(rows[:1], *lines, size)
    for found, own in zip(shared, windows.rows_before(rows[:1].repeat(3, 0), *lines, size), strict=True):
        np.testing.assert_array_equal(found, own)


def test_numbers_that_are_none_stay_none():
    rows, lines, size = some()
    rows[1, 2, 1] = np.nan
    before, sums = windows.rows_before(rows, *lines, size)
    assert np.isnan(before[1, 2]).any()
    assert np.isnan(sums[1, 1, 2])


def beyond():
    """How far the lines of bands leave out what values within them make of windows."""
    _, (winner, number, places, weights, offset), _ = some()
    rng = np.random.default_rng(3)
    middle = rng.normal(size=(BOXES, 1 + COUNT, INPUTS))
    half = rng.normal(size=(BOXES, 1 + COUNT, INPUTS)) * 0.1
    half[:, 0] = abs(half).sum(axis=1)
    error = rng.uniform(0, 0.1, (BOXES, INPUTS))
    ends, beside = windows.bands_behind(middle, half, error, winner, number, places, weights, offset)
    worst = -np.inf
    for _ in range(300):
        t = np.concatenate([np.ones((BOXES, 1)), rng.choice([-1.0, 1.0, 0.3], (BOXES, COUNT))], axis=1)
        own, width = (np.einsum("bc,bcn->bn", t, part) for part in (middle, half))
        values = own + (width + error) * rng.choice([-1.0, 1.0], own.shape)
        low, high = (np.einsum("bc,bcw->bw", t, part) for part in ends)
        least = np.take_along_axis(values, winner, axis=1)
        most = least.copy()
        for w in np.flatnonzero(number >= 0):
            at = number[w]
            taken = np.where(places[at] >= 0, values[:, places[at]], 0.0)
            most[:, w] = (weights[:, at] * taken).sum(axis=1) + offset[:, at]
        worst = max(worst, float((low - beside[0] - least).max()), float((most - high - beside[1]).max()))
    return worst


def test_values_stay_within_the_lines_of_a_band():
    assert beyond() <= 1e-12


def test_magnitudes_of_bands_are_all_added_up():
    """What rounding is a share of: each product of a weight and a coefficient, and the line below."""
    _, (winner, number, places, weights, offset), _ = some()
    rng = np.random.default_rng(4)
    middle, half = rng.normal(size=(2, BOXES, 1 + COUNT, INPUTS))
    band = (middle, half, np.zeros((BOXES, INPUTS)), winner, number, places, weights, offset)
    ends, beside = windows.bands_behind(*band)
    sizes = abs(middle).sum(axis=1) + abs(half).sum(axis=1)
    wanted = np.take_along_axis(sizes, winner, axis=1) + abs(ends[0]).sum(axis=1)
    for w in np.flatnonzero(number >= 0):
        at = number[w]
        own = np.where(places[at] >= 0, sizes[:, places[at]], 0.0)
        wanted[:, w] += (abs(weights[:, at]) * own).sum(axis=1) + abs(offset[:, at])
    np.testing.assert_allclose(beside[2], wanted, rtol=1e-12)


def changed(monkeypatch, name, old, new):
    source = inspect.getsource(getattr(windows, name).py_func)
    assert old in source
    space = dict(vars(windows))
    exec(source.replace("@kernel\n", "").replace(old, new), space)
    monkeypatch.setattr(windows, name, space[name])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("not entry < 0", "entry < 0"),
        ("own[places[at, j]] += part", "own[places[at, j]] = part"),
        ("constant + lifted", "constant - lifted"),
        ("scale + abs(lifted)", "scale"),
        ("* size[b, winner[b, w]]", ""),
        ("b if len(rows) > 1 else 0", "0"),
    ],
)
def test_faults_in_rows_are_caught(old, new, monkeypatch):
    changed(monkeypatch, "rows_before", old, new)
    assert off() > 1e-6


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.0 if c else offset[b, at]", "0.0"),
        ("weight * own + share * width", "weight * (own + width)"),
        ("above += share", "above += 0.5 * share"),
        ("middle[b, c, best] - half[b, c, best], middle", "middle[b, c, best], middle"),
        ("beside[0, b, w] = beside[1, b, w] = error[b, best]", "beside[0, b, w] = beside[1, b, w] = 0.0"),
    ],
)
def test_faults_in_bands_are_caught(old, new, monkeypatch):
    changed(monkeypatch, "bands_behind", old, new)
    assert beyond() > 1e-6
