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
        ("weight * own + abs(weight) * width", "weight * (own + width)"),
        ("above += abs", "above += 0.5 * abs"),
        ("row[best] - wide[best], row", "row[best], row"),
        (
            "beside[0, b, w] = beside[1, b, w] = error[b, winner[b, w]]",
            "beside[0, b, w] = beside[1, b, w] = 0.0",
        ),
    ],
)
def test_faults_in_bands_are_caught(old, new, monkeypatch):
    changed(monkeypatch, "bands_behind", old, new)
    assert beyond() > 1e-6


# -- by ranges alone

PLACES = np.array([[0, 1, 2, 3], [-1, 3, 4, 5], [6, 7, -1, -1], [8, 9, 10, 11]])
AT = np.array([0.5, 0.25, 0.4])


def ranges(seed):
    rng = np.random.default_rng(seed)
    low = rng.normal(size=(BOXES, INPUTS))
    return low, low + rng.exponential(size=low.shape)


def inputs_of(own, number):
    """``(B, W, k)`` by windows; a number where a window has none."""
    return np.where(PLACES >= 0, own[:, PLACES], number)


def mistakes():
    """What kernels tell of ranges that they should not."""
    found = 0
    for seed in range(8):
        low, high = ranges(seed)
        least, most = inputs_of(low, -np.inf), inputs_of(high, -np.inf)
        for rectified in (False, True):
            place, winner, rival, contested = windows.told_apart(low, high, PLACES, AT, rectified)
            here = (1 - AT[:, None, None]) * least + AT[:, None, None] * most
            found += (place[..., 0] != here.argmax(axis=2)).sum()
            found += (
                winner != np.take_along_axis(np.broadcast_to(PLACES, rival.shape), place, 2)[..., 0]
            ).sum()
            floor = np.take_along_axis(least, place, 2)
            others = most > (np.maximum(floor, 0) if rectified else floor)
            np.put_along_axis(others, place, False, 2)
            found += (rival != others).sum() + (contested != others.any(axis=(0, 2))).sum()
        tolerance = np.full(winner.shape, 0.1)
        may, near = windows.may_win(low, high, PLACES, winner, place[..., 0].astype(np.uint8), tolerance)
        others = most >= floor - 0.1
        np.put_along_axis(others, place, False, 2)
        found += (may != others).sum() + (near != others.any(axis=(0, 2))).sum()
        made = windows.largest_between(low, high, PLACES)
        found += (made != [least.max(axis=2), most.max(axis=2)]).sum()
        kept, whole = windows.kept_between(low, high, PLACES, winner)
        wanted = np.maximum(np.where(most > 0, least, -np.inf).max(axis=2), floor[..., 0])
        found += (kept != wanted).sum()
        found += (whole != (np.where(most > 0, -np.inf, most).max(axis=2) <= wanted)).sum()
    return found


def test_ranges_tell_who_wins():
    assert not mistakes()


def test_ends_that_are_no_numbers_tell_nothing():
    low, high = ranges(1)
    low[:, 4] = high[:, 4] = np.nan
    place, winner, rival, _ = windows.told_apart(low, high, PLACES, AT, False)
    assert rival[:, 1, 2].all()
    assert windows.may_win(low, high, PLACES, winner, place[..., 0], np.zeros(winner.shape))[0][:, 1, 2].all()
    least, most = windows.largest_between(low, high, PLACES)
    np.testing.assert_array_equal(least[:, 1], np.maximum(low[:, 3], low[:, 5]))
    assert (most[:, 1] == np.inf).all()
    assert not windows.kept_between(low, high, PLACES, winner)[1][:, 1].any()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("told_apart", "* low[b, own] + at[b] *", "* high[b, own] + at[b] *"),
        ("told_apart", "not high[b, windows[w, k]] <= floor", "high[b, windows[w, k]] <= floor"),
        ("told_apart", "k != best and", ""),
        ("told_apart", "rectified and floor < 0", "floor < 0"),
        ("may_win", "- tolerance[b, w]", ""),
        ("may_win", "k != place[b, w] and", ""),
        ("largest_between", "_larger(low[b, own]", "_larger(high[b, own]"),
        ("largest_between", "own >= 0", "own > 0"),
        ("kept_between", "high[b, own] > 0", "low[b, own] > 0"),
        ("kept_between", "left_out <= kept", "left_out > kept"),
        ("kept_between", "low[b, winner[b, w]], -np.inf", "-np.inf, -np.inf"),
    ],
)
def test_faults_in_what_ranges_tell_are_caught(name, old, new, monkeypatch):
    monkeypatch.setattr(windows, "_larger", lambda one, other: one if one > other else other)
    monkeypatch.setattr(windows, "_or_infinite", lambda one: one if one == one else np.inf)
    changed(monkeypatch, name, old, new)
    assert mistakes()
