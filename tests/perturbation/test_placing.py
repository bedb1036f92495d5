"""Amounts that are constant have made the unperturbed image: the expected map moves by what varies alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclosed import excess_of
from steadygaze.errors import PerturbationError
from steadygaze.perturbation import (
    AbstractPerturbation,
    Blur,
    Brightness,
    Chain,
    Contrast,
    Gamma,
    Parameter,
    Patch,
    Perspective,
    Rotate,
    Scale,
    Shear,
    Translate,
)
from steadygaze.perturbation.placing import IN_PLACE, Placement, moved_by

SIZE = (7, 8)
MAP = np.random.default_rng(0).standard_normal((2, *SIZE))


def amount(low: float, high: float) -> st.SearchStrategy[tuple[float, ...]]:
    """A range that holds 0, or a constant, as arguments."""
    ends = st.floats(0.05, 1).flatmap(lambda width: st.just((low * width, high * width)))
    return ends | st.floats(low, high).map(lambda one: (one,))


def one_or_range(low: float, high: float) -> st.SearchStrategy[float | tuple[float, ...]]:
    return amount(low, high).map(lambda ends: ends if len(ends) == 2 else ends[0])


WORDS = st.sampled_from(["triangles", "bilinear"])
LINKS = st.one_of(
    st.builds(
        lambda dx, dy, word: Translate(dx, dy, interpolation=word),
        one_or_range(-2, 2), one_or_range(-2, 2), WORDS,
    ),
    amount(-30, 30).map(lambda ends: Rotate(*ends)),
    amount(-0.4, 0.5).map(lambda ends: Scale(*ends)),
    amount(-20, 20).map(lambda ends: Perspective(ends if len(ends) == 2 else 0.0, distance=40)),
    st.builds(Shear, one_or_range(-0.3, 0.3), one_or_range(-0.3, 0.3)),
    amount(-0.3, 0.3).map(lambda ends: Brightness(*ends)),
    amount(-0.3, 0.3).map(lambda ends: Gamma(*ends)),
    st.just(Patch(0, 1, top=1, left=2, size=2)),
    st.just(Blur(0.5)),
)  # fmt: skip
CHAINS = st.lists(LINKS, min_size=1, max_size=4).map(lambda links: Chain(*links, Contrast(0, 0.1)))
EXACT = st.lists(st.builds(Translate, one_or_range(-2, 2), one_or_range(-2, 2)), min_size=1, max_size=2).map(
    lambda links: Chain(*links, Contrast(0.2))
)


@settings(max_examples=60, deadline=None)
@given(chain=CHAINS)
def test_at_zero_nothing_has_changed(chain):
    zero = np.zeros((1, len(chain.box)))
    np.testing.assert_array_equal(chain.expected(MAP, zero)[0], MAP)
    low, high = chain.enclose_expected(MAP, np.zeros((1, len(chain.box), 2))).bounds()
    assert (low[0] <= MAP).all()
    assert (high[0] >= MAP).all()
    assert (high - low).max() <= 1e-9


@settings(max_examples=25, deadline=None)
@given(chain=CHAINS, share=st.floats(0, 0.9), width=st.floats(0.01, 0.1))
def test_enclosures_hold_the_expected_map_whatever_is_constant(chain, share, width):
    low, size = chain.box[:, 0], chain.box[:, 1] - chain.box[:, 0]
    box = np.stack([low + share * size, low + (share + width) * size], axis=1)
    assert excess_of(chain, np.abs(MAP[:1]) / 4, box[None], np.random.default_rng(0), count=3) <= 0


@settings(max_examples=25, deadline=None)
@given(chain=EXACT.filter(lambda chain: chain.parameters), share=st.floats(0, 1))
def test_affine_pieces_say_the_same_as_the_expected_map(chain, share):
    try:
        forms = chain.expected_pieces(MAP)
        pieces = chain.affine_pieces(np.abs(MAP[:1]) / 4)
    except PerturbationError:  # two shifts that multiply each other
        return
    for piece, form in zip(pieces, forms, strict=True):
        corner, centre = piece.polytope.vertices[0], piece.polytope.centre
        theta = (corner + share * (centre - corner))[None]
        np.testing.assert_allclose(form.at(theta), chain.expected(MAP, theta), atol=1e-12)


# A map that is the image itself shows how content moves, wherever the grid makes that exact.
SQUARE = np.zeros((1, 9, 9))
SQUARE[0, 3:6, 4:6] = np.arange(1, 7).reshape(3, 2)


@pytest.mark.parametrize(
    ("chain", "theta"),
    [
        (Translate(dx=1) | Translate(dx=(-1, 1)), [-1.0]),
        (Translate(dx=(-2, 2), dy=1), [2.0]),
        (Translate(dx=1, dy=(-1, 2)), [2.0]),
        (Translate(dx=(-1, 1)) | Translate(dx=1), [1.0]),
        (Translate(dx=(-1, 1)) | Rotate(90), [1.0]),
        (Translate(dx=(-1, 2), dy=(0, 1), interpolation="bilinear") | Rotate(-90), [2.0, 1.0]),
        (Translate(dx=(-1, 1)) | Rotate(90) | Translate(dy=1) | Rotate(180), [-1.0]),
        (Rotate(90) | Translate(dx=(-1, 1)), [1.0]),
        (Rotate(0, 90) | Translate(dx=1), [90.0]),
        (Rotate(-180, 180) | Translate(dx=1, dy=-1) | Brightness(0.0), [180.0]),
        (Translate(dx=1) | Rotate(0, 90) | Rotate(90), [90.0]),
        (Rotate(-90, 0) | Translate(dx=(-1, 1)) | Translate(dy=1), [-90.0, 1.0]),
        (Shear(x=(-1, 1)) | Rotate(90), [1.0]),
        (Shear(x=(-1, 1)) | Translate(dy=1), [-1.0]),
        (Shear(x=(-1, 1), y=1), [-1.0]),
        (Shear(x=1, y=(-1, 1)), [1.0]),
    ],
    ids=repr,
)
def test_the_expected_map_goes_where_the_content_goes(chain, theta):
    chain = chain if isinstance(chain, Chain) else Chain(chain)
    at, zero = np.array([theta]), np.zeros((1, len(theta)))
    # The sheared square leaves no pixel of the picture, but not all of it falls on pixels.
    x0, moved = chain.apply(SQUARE, zero)[0], chain.apply(SQUARE, at)[0]
    assert moved.any()
    assert not np.allclose(moved, x0)
    np.testing.assert_allclose(chain.expected(x0, at)[0], moved, atol=1e-9)


BLOB = np.exp(-sum((axis - 15.3) ** 2 for axis in np.indices((31, 33))) / 18)[None]


@pytest.mark.parametrize(
    "chain",
    [
        Rotate(-40, 40) | Translate(dx=3, dy=-2),
        Scale(-0.3, 0.4) | Translate(dx=3) | Rotate(30),
        Translate(dx=(-3, 3)) | Scale(0.4),
        Translate(dx=(-3, 3)) | Shear(x=0.3, y=0.2),
        Shear(x=(-0.3, 0.3), y=0.3) | Rotate(50),
        Translate(dx=2) | Rotate(-40, 40) | Scale(-0.2) | Translate(dx=(-2, 2), dy=1.5),
    ],
    ids=repr,
)
def test_between_pixels_it_goes_there_too_as_far_as_reading_twice_lets_it(chain):
    image = np.roll(BLOB, (-4, 3), axis=(1, 2))
    for theta in (chain.box[:, 0], chain.box[:, 1]):
        x0 = chain.apply(image, np.zeros((1, len(theta))))[0]
        moved, expected = chain.apply(image, theta[None])[0], chain.expected(x0, theta[None])[0]
        assert np.abs(moved - expected).max() < 0.06 < 0.15 < np.abs(moved - x0).max()


def test_what_was_moved_out_of_the_picture_does_not_come_back():
    chain = Translate(dx=3) | Translate(dx=(-3, 3))
    x0 = chain.apply(SQUARE, np.zeros((1, 1)))[0]
    back = chain.expected(x0, np.array([[-3.0]]))[0]
    np.testing.assert_array_equal(back[..., :6], x0[..., 3:])
    assert not back[..., 6:].any()


@pytest.mark.parametrize("word", ["triangles", "bilinear"])
def test_entries_of_a_coarser_map_move_by_pixels_over_the_stride(word):
    grid = Placement(np.diag([4.0, 2.0]), np.array([0.5, 0.5]))  # 4 pixels to the right, 2 down
    chain = Chain(Translate((-8, 8), (-4, 4), interpolation=word)).placed(grid)
    moved = chain.expected(MAP, np.array([[4.0, 0.0], [0.0, -2.0], [2.0, 0.0]]))
    np.testing.assert_array_equal(moved[0][..., 1:], MAP[..., :-1])
    np.testing.assert_array_equal(moved[1][..., :-1, :], MAP[..., 1:, :])
    np.testing.assert_allclose(moved[2][..., 1:], (MAP[..., 1:] + MAP[..., :-1]) / 2, atol=1e-15)


def test_entries_of_a_coarser_map_turn_about_the_centre_of_the_image():
    # Entries at pixels 1, 3, 5, ... of 9: the centre of the image is between none of a map of 4 entries.
    entries = np.arange(16.0).reshape(4, 4)
    centred = Placement(2 * np.eye(2), np.array([0.0, 0.0]))
    chain = Chain(Rotate(-90, 90))
    np.testing.assert_allclose(
        chain.placed(centred).expected(entries, np.array([[90.0]]))[0], np.rot90(entries), atol=1e-12
    )
    # Entries at pixels 0, 2, 4, 6: one entry in from the upper left, and turned about pixel 4.
    off = Placement(2 * np.eye(2), np.array([-1.0, -1.0]))
    turned = chain.placed(off).expected(entries, np.array([[90.0]]))[0]
    padded = np.zeros((5, 5))
    padded[:4, :4] = entries
    np.testing.assert_allclose(turned, np.rot90(padded)[:4, :4], atol=1e-12)
    scaled = Chain(Scale(-0.5, 1)).placed(off).expected(entries, np.array([[1.0]]))[0]
    np.testing.assert_allclose(scaled[::2, ::2], entries[1:3, 1:3])


class Sideways(AbstractPerturbation):
    """A shift of one's own by whole pixels, wrapped round."""

    name, moves_map = "sideways", True
    parameters = (Parameter("by", "pixels", 0.0, 2.0),)

    def apply(self, images, thetas):
        return np.stack([np.roll(i, int(t[0]), -1) for i, t in zip(images, thetas, strict=True)])

    def expect(self, maps, thetas):
        return self.apply(maps, thetas)


def test_an_own_perturbation_moves_maps_of_its_own_image_alone():
    plain = Rotate(20) | Translate(dx=1) | Sideways() | Brightness(0.1)
    np.testing.assert_array_equal(plain.expected(MAP, np.array([[2.0]]))[0], np.roll(MAP, 2, -1))
    for chain in (Sideways() | Translate(dx=1), Chain(Sideways()).placed(moved_by(1, 0))):
        with pytest.raises(PerturbationError, match=r"sideways moves the expected map and does not say how"):
            chain.expected(MAP, np.array([[2.0]]))


def test_placements_are_composed_from_the_right():
    turn = Rotate(90).at_zero()
    both = turn.of(moved_by(1, 0))
    x, y = both.at(np.array([0.0]), np.array([0.0]))
    np.testing.assert_allclose([x[0], y[0]], [0, 1], atol=1e-15)
    assert IN_PLACE.is_identity
    assert not turn.is_identity
