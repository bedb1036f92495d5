"""Chains: names, boxes, refusals, and perturbations of one's own."""

from __future__ import annotations

import numpy as np
import pytest

from steadygaze.errors import NotJointlyAffine, PerturbationError
from steadygaze.geometry.polytope import interval
from steadygaze.perturbation import (
    AbstractAffinePerturbation,
    AbstractPerturbation,
    AbstractPiecewiseAffinePerturbation,
    Blend,
    Brightness,
    Chain,
    Contrast,
    Parameter,
    Patch,
    Saturation,
    Translate,
)

IMAGE = np.random.default_rng(11).random((3, 6, 6))
PATCH = Patch(0, 1, top=1, left=1, size=2)
BLENDED = Patch(0, 1, top=1, left=1, size=2, mode="blend")


class Vignette(AbstractAffinePerturbation):
    name = "vignette"
    parameters = (Parameter("amount", "", 0.0, 0.5),)

    def directions(self, image):
        return -image[None] * np.linspace(-1, 1, image.shape[-1]) ** 2


class Square(AbstractAffinePerturbation):
    """Affine in its amount, not in the image."""

    name = "square"
    parameters = (Parameter("amount", "", 0.0, 1.0),)

    def directions(self, image):
        return image[None] ** 2


class Fold(AbstractPiecewiseAffinePerturbation):
    """x + |theta| on two pieces; ``sign`` plants a fault."""

    name = "fold"
    parameters = (Parameter("amount", "", -1.0, 1.0),)

    def __init__(self, sign=1.0):
        self.sign = sign

    def apply(self, images, thetas):
        return images + np.abs(thetas)[:, :, None, None]

    def pieces(self):
        return interval(-1, 0), interval(0, 1)

    def affine_parts(self, images, piece):
        return images, np.full((len(images), 1, *images.shape[1:]), self.sign * np.sign(piece.centre[0]))


class Gamma(AbstractPerturbation):
    name = "gamma"
    parameters = (Parameter("amount", "", -0.5, 0.5),)

    def apply(self, images, thetas):
        return images ** (1 + thetas[:, :, None, None])


def test_parameters_stand_side_by_side_under_names_of_their_own():
    chain = Brightness(-0.3, 0.3) | PATCH | Contrast(0.2) | Patch(0, 0.5, top=0, left=0, size=1)
    assert [p.name for p in chain.parameters] == ["brightness.amount", "patch.opacity", "patch#2.opacity"]
    assert chain.box.tolist() == [[-0.3, 0.3], [0, 1], [0, 0.5]]
    assert [p.unit for p in chain.parameters] == ["pixel value", "", ""]
    assert not chain.moves_map
    assert not (chain | Translate(1, 0)).moves_map
    assert (chain | Translate((-1, 1), 0)).moves_map


def test_chains_unroll_and_keep_the_order():
    inner = Contrast(0, 1) | Brightness(0, 1)
    chain = PATCH | inner
    assert [link.name for link in chain.links] == ["patch", "contrast", "brightness"]
    one = Brightness(0, 1).apply(Contrast(0, 1).apply(IMAGE[None], np.array([[0.4]])), np.array([[0.2]]))
    np.testing.assert_array_equal(inner.apply(IMAGE, np.array([0.4, 0.2])), one)


def test_apply_takes_an_image_or_a_batch():
    thetas = np.array([[0.1], [0.2]])
    chain = Chain(Brightness(0, 1))
    np.testing.assert_array_equal(chain.apply(IMAGE, thetas), chain.apply(np.stack([IMAGE, IMAGE]), thetas))


def test_the_description_is_plain():
    words = (Brightness(-0.3, 0.3) | PATCH | Translate((-2, 2), 0)).describe()
    assert words == (
        "brightness changed by -0.3 to 0.3, then a patch of 2 x 2 pixels at row 1, column 1 added "
        "with opacity 0 to 1, then content moved -2 to 2 pixels to the right and 0 down"
    )


@pytest.mark.parametrize(
    ("first", "second", "way_out"),
    [
        (Brightness(-0.1, 0.1), Contrast(-0.1, 0.1), "put contrast before brightness"),
        (Brightness(-0.1, 0.1), BLENDED, "put patch before brightness"),
        (Brightness(-0.1, 0.1), Translate((-1, 1), 0), "put translate before brightness"),
        (PATCH, Translate((-1, 1), (-1, 1)), "put translate before patch"),
        (Translate((-1, 1), 0), Contrast(-0.1, 0.1), ""),
        (Saturation(-1, 1), Contrast(-0.1, 0.1), ""),
        (Brightness(-0.1, 0.1), Blend(0, 1, target="fog"), "put blend before brightness"),
        (Translate((-1, 1), 0), Translate(0, (-1, 1)), ""),
        (Vignette(), Contrast(-0.1, 0.1), ""),
        (Brightness(-0.1, 0.1), Vignette(), "put vignette before brightness"),
        (Brightness(-0.1, 0.1), Square(), "put square before brightness"),
    ],
)
def test_products_of_parameters_are_refused_in_one_sentence(first, second, way_out):
    chain = Chain(first, second)
    with pytest.raises(NotJointlyAffine) as caught:
        chain.affine_pieces(IMAGE)
    sentence = str(caught.value)
    assert sentence.startswith(f"{chain.names[0]} and then {chain.names[1]} multiply each other's parameters")
    assert "or use --method bound" in sentence
    assert "as constants" in sentence
    assert ("put " in sentence) == bool(way_out)
    assert way_out in sentence
    assert "\n" not in sentence
    assert ". " not in sentence
    if way_out:
        assert len(Chain(second, first).affine_pieces(IMAGE)) >= 1


def test_the_refusal_names_the_links_that_clash_not_their_neighbours():
    with pytest.raises(NotJointlyAffine, match=r"^patch#2 and then translate multiply"):
        (
            Patch(0.4, top=0, left=0, size=1) | Patch(0, 1, top=2, left=2, size=2) | Translate((-1, 1))
        ).affine_pieces(IMAGE)


def test_what_is_not_piecewise_affine_is_refused_but_still_applies():
    chain = Brightness(0, 0.1) | Gamma()
    with pytest.raises(NotJointlyAffine, match="gamma has no affine pieces"):
        chain.affine_pieces(IMAGE)
    assert chain.apply(IMAGE, np.zeros(2)) == pytest.approx(IMAGE[None])


def test_an_own_affine_perturbation_needs_only_directions():
    chain = Vignette() | Brightness(-0.1, 0.1)
    (piece,) = chain.affine_pieces(IMAGE)
    ramp = np.linspace(-1, 1, 6) ** 2
    np.testing.assert_allclose(chain.apply(IMAGE, np.array([0.3, 0.1]))[0], IMAGE * (1 - 0.3 * ramp) + 0.1)
    np.testing.assert_allclose(piece.image.at(np.array([[0.3, 0.1]]))[0], IMAGE * (1 - 0.3 * ramp) + 0.1)
    assert chain.box.tolist() == [[0, 0.5], [-0.1, 0.1]]
    assert chain.compared((6, 6)).all()
    assert "vignette with amount from 0 to 0.5" in chain.describe()


def test_an_own_direction_may_depend_on_the_image_in_any_way_where_nothing_varied_before():
    (piece,) = (Contrast(0.5) | Square()).affine_pieces(IMAGE)
    stretched = 0.5 + 1.5 * (IMAGE - 0.5)
    np.testing.assert_allclose(piece.image.directions[0], stretched**2)


def test_an_own_piecewise_perturbation_is_compared_with_its_apply():
    pieces = Chain(Fold()).affine_pieces(IMAGE)
    assert [piece.image.directions[0].flat[0] for piece in pieces] == [-1, 1]
    with pytest.raises(PerturbationError, match=r"differ from its apply\(\) by 2 at theta"):
        Chain(Fold(sign=-1.0)).affine_pieces(IMAGE)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (
            np.zeros((3, 6, 6)),
            r"shape \(3, 6, 6\); one direction for each parameter is needed, \(1, 3, 6, 6\)",
        ),
        (np.full((1, 3, 6, 6), np.nan), "NaN or infinite"),
    ],
)
def test_an_own_direction_is_checked(array, sentence):
    class Own(AbstractAffinePerturbation):
        name = "own"
        parameters = (Parameter("amount", "", 0.0, 1.0),)

        def directions(self, image):
            return array

    with pytest.raises(PerturbationError, match=sentence):
        Chain(Own()).affine_pieces(IMAGE)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Chain(), "holds no perturbation"),
        (lambda: Chain("brightness"), "each link must be a perturbation"),
        (lambda: Chain(Brightness(0.3)).affine_pieces(IMAGE), "nothing varies"),
        (
            lambda: Chain(Patch(0, 1, top=5, left=5, size=2)).affine_pieces(IMAGE),
            "the patch covers rows 5..6",
        ),
        (lambda: Chain(Saturation(0, 1)).apply(IMAGE[:1], np.zeros(1)), "3 channels"),
        (lambda: Parameter("amount", "", 0.5, 1.0), "leaves out 0"),
    ],
)
def test_refusals(make, sentence):
    with pytest.raises(PerturbationError, match=sentence):
        make()
