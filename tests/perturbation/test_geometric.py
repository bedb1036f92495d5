"""Translation against scipy, against rolled arrays, and against interpolation written out for one pixel."""

from __future__ import annotations

from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import shift as scipy_shift

from steadygaze.errors import PerturbationError
from steadygaze.perturbation import Chain, Patch, Translate

RNG = np.random.default_rng(5)
IMAGE = RNG.random((2, 6, 7))


def pixel(image, channel, row, column, fill):
    inside = 0 <= row < image.shape[1] and 0 <= column < image.shape[2]
    return image[channel, row, column] if inside else fill


def by_hand(image, dx, dy, fill):
    """Barycentric interpolation of every output pixel between the corners of the triangle round (u, v)."""
    m, n = floor(dx), floor(dy)
    u, v = dx - m, dy - n
    middle = (1, 0) if u >= v else (0, 1)
    corners = np.array([(0, 0), middle, (1, 1)], dtype=float)
    weights = np.linalg.solve(np.vstack([corners.T, np.ones(3)]), np.array([u, v, 1.0]))
    moved = np.zeros_like(image)
    for channel, row, column in np.ndindex(image.shape):
        for weight, (right, down) in zip(weights, corners.astype(int), strict=True):
            source = pixel(image, channel, row - n - down, column - m - right, fill)
            moved[channel, row, column] += weight * source
    return moved


@settings(max_examples=30, deadline=None)
@given(dx=st.floats(-7, 7), dy=st.floats(-6, 6), fill=st.sampled_from([0.0, 0.6]))
def test_apply_is_interpolation_on_triangles(dx, dy, fill):
    moved = Translate((-7, 7), (-6, 6), fill).apply(IMAGE[None], np.array([[dx, dy]]))[0]
    np.testing.assert_allclose(moved, by_hand(IMAGE, dx, dy, fill), atol=1e-12)


@pytest.mark.parametrize("amount", [-2.7, -1.0, -0.25, 0.5, 3.0])
def test_along_one_axis_it_is_the_linear_shift_of_scipy(amount):
    for translate, shift in (
        (Translate((-7, 7), 0), (0, 0, amount)),
        (Translate(0, (-6, 6)), (0, amount, 0)),
    ):
        moved = translate.apply(IMAGE[None], np.array([[amount]]))[0]
        wanted = scipy_shift(IMAGE, shift, order=1, mode="grid-constant", cval=0.0)
        np.testing.assert_allclose(moved, wanted, atol=1e-12)


def test_whole_pixels_move_right_and_down():
    moved = Translate((-3, 3), (-3, 3), fill=(0.5, 0.25)).apply(IMAGE[None], np.array([[2.0, 1.0]]))[0]
    np.testing.assert_array_equal(moved[:, 1:, 2:], IMAGE[:, :-1, :-2])
    assert (moved[0, 0] == 0.5).all()
    assert (moved[1, :, :2] == 0.25).all()


def test_the_expected_map_has_zero_where_uncovered_whatever_the_fill():
    for shape in ((6, 7), (2, 6, 7), (4, 6, 7)):
        map0 = RNG.standard_normal(shape)
        chain = Chain(Translate((-3, 3), 0, fill=0.9))
        expected = chain.expected(map0, np.array([[2.0], [0.0]]))
        assert expected.shape == (2, *shape)
        np.testing.assert_array_equal(expected[0, ..., 2:], map0[..., :-2])
        assert not expected[0, ..., :2].any()
        np.testing.assert_array_equal(expected[1], map0)


def test_moving_out_of_sight_leaves_only_fill():
    moved = Translate((-7, 7), (-6, 6), fill=0.3).apply(IMAGE[None], np.array([[7.0, 0.0]]))
    np.testing.assert_allclose(moved, 0.3)


@pytest.mark.parametrize(
    ("later", "touched"),
    [
        (Translate(2, 1), [(2, 3)]),
        (Translate(0.5, 0), [(1, 1), (1, 2)]),
        (Translate(-0.25, 0.5), [(1, 0), (1, 1), (2, 1)]),
        (Translate(0.25, 0.5), [(1, 1), (2, 1), (2, 2)]),
        (Translate((-1, 1), 0), [(1, 0), (1, 1), (1, 2)]),
        (Translate((0, 0.5), (0, 0.5)), [(1, 1), (1, 2), (2, 1), (2, 2)]),
        (Translate(-5, 0), []),
    ],
)
def test_a_patch_moved_later_hides_every_pixel_that_it_touches(later, touched):
    patch = Patch(0, 1, top=1, left=1, size=1)
    compared = (patch | later).compared((6, 7))
    assert {(int(r), int(c)) for r, c in np.argwhere(~compared)} == set(touched)
    assert (~(later | patch).compared((6, 7))).sum() == 1


@settings(max_examples=30, deadline=None)
@given(
    ends=st.tuples(*[st.floats(0, 2.5)] * 4),
    where=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    corner=st.tuples(st.integers(0, 4), st.integers(0, 4)),
)
def test_hidden_covers_whatever_the_patch_reaches(ends, where, corner):
    dx, dy = (-ends[0] - 0.01, ends[1] + 0.01), (-ends[2] - 0.01, ends[3] + 0.01)
    chain = Patch(0, 1, top=corner[0], left=corner[1], size=2) | Translate(dx, dy)
    marked = np.zeros((1, 6, 7))
    marked[0, corner[0] : corner[0] + 2, corner[1] : corner[1] + 2] = 1
    theta = np.array(
        [[low + share * (high - low) for (low, high), share in zip((dx, dy), where, strict=True)]]
    )
    reached = chain.links[1].apply(marked[None], theta)[0, 0] > 0
    assert not (reached & chain.compared((6, 7))).any()


def test_hidden_is_left_out_unless_asked_for():
    assert Chain(Patch(0, 1, top=1, left=1, size=2)).compared((3, 4, 4)).sum() == 12
    assert Chain(Patch(0, 1, top=1, left=1, size=2, compare_under=True)).compared((4, 4)).all()
    assert Chain(Patch(0, 1, top=1, left=1, size=2, mode="blend")).compared((4, 4)).sum() == 12


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Translate((1, 2)), "range of translate dx is 1.0..2.0, which leaves out 0"),
        (lambda: Translate(0, (2, -2)), "range of translate dy is 2.0..-2.0, which is reversed"),
        (lambda: Translate("a"), "translate dx is 'a'"),
        (lambda: Translate((0, 1, 2)), "translate dx is"),
        (lambda: Translate((0, float("nan"))), "translate dx is nan"),
        (lambda: Translate((0, 8)).check((2, 6, 7)), "translate dx reaches 0..8 pixels; the image has 7"),
        (lambda: Translate(0, (-7, 0)).check((2, 6, 7)), "translate dy reaches -7..0"),
        (lambda: Translate((0, 1), fill=(1, 0, 1)).check((2, 6, 7)), "translate fill names 3 channels"),
    ],
)
def test_refusals(make, sentence):
    with pytest.raises(PerturbationError, match=sentence):
        make()
