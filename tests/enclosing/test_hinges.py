"""Units with one bend at 0 over ranges, by kernels: they hold at every point, and no number stays none."""

from __future__ import annotations

import numpy as np
import pytest

from steadygaze.enclosing.hinges import hinges_relaxed, in_all, relu_lines

UNIT, TINY = 2.0**-53, np.finfo(float).tiny
SLOPES = ((0.0, 1.0), (0.1, 1.0), (-1.0, 1.0), (0.5, 0.5))


def ranges(seed=0, boxes=40, units=50):
    rng = np.random.default_rng(seed)
    size = 10.0 ** rng.integers(-9, 6, (boxes, units))
    return np.sort(rng.standard_normal((2, boxes, units)) * size, axis=0)


def points(low, high):
    share = np.linspace(0, 1, 9)[:, None, None]
    inside = np.clip(low + share * (high - low), low, high)
    return np.concatenate([inside, np.clip(np.zeros((1, *low.shape)), low, high)]).astype(np.longdouble)


def relaxed(slopes, low, high):
    beneath = np.zeros_like(low)
    return hinges_relaxed(
        np.tile(np.array(slopes)[:, None], low.shape[1]), low, high, beneath, beneath, UNIT, TINY
    )


@pytest.mark.parametrize("slopes", SLOPES)
def test_values_lie_about_the_line_and_derivatives_about_their_middle(slopes):
    low, high = ranges()
    (slope, offset, deviation, middle, half), two = relaxed(slopes, low, high)
    at = points(low, high)
    values = np.where(at > 0, slopes[1] * at, slopes[0] * at)
    off = np.abs(values - slope * at - offset)
    assert (off <= deviation).all()
    # The line is that of the chord, which no other parallel to it comes closer than.
    size = np.abs(np.stack([low, high])).max(axis=0)
    assert (deviation - off.max(axis=0) <= 1e-14 * size).all()
    for on, own in zip((at < 0, at > 0), slopes, strict=True):
        assert ((np.abs(own - middle) <= half + 1e-15) | ~on.any(axis=0)).all()
    assert (two == ((low < 0) & (high > 0) | (low <= 0) & (high > 0))).all()


def test_a_unit_within_its_tolerance_keeps_its_piece():
    low, high = np.array([[-1e-9, -1.0, -1e-9]]), np.array([[1.0, 1e-9, 1e-9]])
    near = np.full_like(low, 1e-8)
    slopes = np.array([[0.0] * 3, [1.0] * 3])
    (_, _, deviation, middle, half), two = hinges_relaxed(slopes, low, high, near, near, UNIT, TINY)
    assert half.tolist() == [[0, 0, 0]]
    assert middle.tolist() == [[1, 0, 0]]
    assert not two.any()
    assert (deviation > 0).all()  # the value is bounded all the same


@pytest.mark.parametrize("end", [np.nan, np.inf])
def test_ranges_without_an_end_settle_nothing(end):
    low, high = np.full((1, 2), -end), np.array([[end, 1.0]])
    (slope, offset, deviation, _, half), _ = relaxed((0.0, 1.0), low, high)
    assert not np.isfinite(slope + offset + deviation).any()
    assert np.isnan(end) or (half == 0.5).all()
    assert np.isfinite(relaxed((0.0, 1.0), *ranges())[0]).all()


def test_lines_are_below_and_above_relu_and_touch_it():
    low, high = ranges(seed=1)
    below, below_offset, above, above_offset, size = relu_lines(low, high, UNIT)
    at = points(low, high)
    value = np.maximum(at, 0)
    under, over = value - below * at - below_offset, above * at + above_offset - value
    assert (under >= 0).all()
    assert (over >= 0).all()
    assert (np.minimum(under.min(axis=0), over.min(axis=0)) <= 1e-14 * size).all()
    assert (size == np.abs([low, high]).max(axis=0)).all()
    # Of the lines below the one that is nearer to it in the middle.
    assert (below == np.where((low >= 0) | ((high > 0) & (high > -low)), 1, 0)).all()


def test_what_is_in_all_ranges_leaves_out_ends_that_are_no_numbers():
    ends = [
        np.array([own])
        for own in ([0.0, np.nan], [9.0, 4.0], [1.0, -2.0], [7.0, np.nan], [-1.0, -3.0], [8.0, 5.0])
    ]
    assert in_all(*ends).tolist() == [[[1, -2]], [[7, 4]], [[7, 4]]]
