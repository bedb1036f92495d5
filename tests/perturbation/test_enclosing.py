"""Enclosures over boxes hold what ``apply`` and ``expect`` make of sampled theta."""

from __future__ import annotations

import numpy as np
import pytest

from enclosed import boxes_in, excess_of, total_error
from steadygaze.enclosing.enclosures import Enclosure
from steadygaze.errors import NotEnclosable, PerturbationError
from steadygaze.geometry.polytope import interval
from steadygaze.perturbation import (
    BUILT_IN,
    AbstractAffinePerturbation,
    AbstractPerturbation,
    AbstractPiecewiseAffinePerturbation,
    Blur,
    Brightness,
    Chain,
    Contrast,
    Parameter,
    Rotate,
    Saturation,
    Translate,
)
from steadygaze.perturbation.notation import chain_of
from variants import CHAINS, picture

RNG = np.random.default_rng(31)
GREY = RNG.random((1, 6, 7))
COLOUR = RNG.random((3, 5, 6))
PATCH = "patch(opacity=0..1, top=1, left=2, height=3, width=2, value=0.7, mode={})"

PHOTOMETRIC = [
    "brightness(amount=-0.3..0.3)",
    "contrast(amount=-0.5..1)",
    PATCH.format("add"),
    PATCH.format("blend"),
    "blend(amount=0..1, target=blur, sigma=1.3)",
    "blend(amount=0..1, target=fog, colour=0.8)",
    "brightness(amount=-0.3..0.3) | contrast(amount=-0.5..1)",
    "contrast(amount=-1..1) | contrast(amount=-1..1) | contrast(amount=0.3)",
    "contrast(amount=0.2) | brightness(amount=-0.1..0.2) | " + PATCH.format("blend"),
    "contrast(amount=-0.5..0.5) | blend(amount=0..1, target=blur) | contrast(amount=-0.5..0.5)",
    "brightness(amount=0..0.2) | blend(amount=0.4, target=blur) | contrast(amount=-0.5..0.5) | "
    + PATCH.format("add"),
]
CASES = [(text, image) for text in PHOTOMETRIC for image in (GREY, COLOUR)] + [
    ("saturation(amount=-1..1)", COLOUR),
    ("blend(amount=0..1, target=grey) | contrast(amount=-0.5..1) | saturation(amount=-1..1)", COLOUR),
    (
        "contrast(amount=-0.5..1) | saturation(amount=0.3) | "
        "patch(opacity=0..1, top=1, left=1, size=2, value=(0.1, 0.5, 1), mode=blend)",
        COLOUR,
    ),
]


@pytest.mark.parametrize(("text", "image"), CASES, ids=[f"{text}-{len(image)}" for text, image in CASES])
def test_sampled_images_lie_inside(text, image):
    chain = chain_of(text)
    assert not chain.why_not_enclosable()
    for boxes in boxes_in(chain.box, RNG):
        assert excess_of(chain, image, boxes, RNG) <= 0


@pytest.mark.parametrize("text", [text for text, _ in CASES if text.count("..") == 1])
def test_one_affine_link_is_exact(text):
    image = COLOUR
    chain = chain_of(text)
    enclosed = chain.enclose(image, chain.box[None])
    assert enclosed.error.max() < 1e-14


@pytest.mark.parametrize(("text", "image"), CASES)
def test_errors_fall_with_the_square_of_the_width(text, image):
    chain = chain_of(text)
    errors = [total_error(chain, image, 0.1 * 0.5**k) for k in range(3)]
    assert errors[0] >= 3 * errors[1] or errors[0] < 1e-9
    assert errors[1] >= 3 * errors[2] or errors[1] < 1e-9


def test_errors_of_the_image_go_through_what_multiplies_it():
    images = Enclosure(GREY[None], np.zeros((1, 1, *GREY.shape)), np.full((1, *GREY.shape), 1e-3))
    amounts = Enclosure.of_boxes(np.array([[[-0.6, -0.4]]]))
    enclosed = Contrast(-1, 1).enclose(images, amounts)
    np.testing.assert_allclose(enclosed.error, 0.6e-3, rtol=1e-9)
    colours = Enclosure(COLOUR[None], np.zeros((1, 1, *COLOUR.shape)), np.full((1, *COLOUR.shape), 1e-3))
    grey = Saturation(-1, 1).enclose(colours, Enclosure.of_boxes(np.array([[[-1.0, -1.0]]])))
    np.testing.assert_allclose(grey.error, 1e-3, rtol=1e-9)


def test_a_blank_pixel_stays_what_it_is():
    image = np.zeros((1, 6, 6))
    chain = chain_of("contrast(amount=0) | brightness(amount=0..0.3)")
    low, high = chain.enclose(image, chain.box[None]).bounds()
    assert low.min() >= -1e-15
    assert len(np.unique(low)) == len(np.unique(high)) == 1


def test_the_expected_map_of_photometric_chains_does_not_move():
    map0 = RNG.standard_normal(GREY.shape)
    enclosed = chain_of("contrast(amount=-1..1) | brightness(amount=0..1)").enclose_expected(
        map0, np.array([[[-1.0, 1.0], [0.0, 1.0]]] * 3)
    )
    assert enclosed.is_exact
    assert enclosed.count == 2
    np.testing.assert_array_equal(enclosed.centre, np.broadcast_to(map0, (3, *map0.shape)))


# -- perturbations of one's own


class Vignette(AbstractAffinePerturbation):
    name = "vignette"
    parameters = (Parameter("amount", "", 0.0, 0.5),)

    def directions(self, image):
        return -image[None] * np.linspace(-1, 1, image.shape[-1]) ** 2


class Carried(Vignette):
    """Vignette that says how it takes images which an earlier link varies."""

    def enclose(self, images, amounts):
        return images + amounts.reshaped(1, 1, 1) * (images * -(np.linspace(-1, 1, images.shape[-1]) ** 2))


class Waves(AbstractPerturbation):
    """x + sin(a) b x²: neither affine in its amounts nor in the image; derivatives are bounded."""

    name = "waves"
    parameters = (Parameter("a", "", -1.0, 2.0), Parameter("b", "", 0.0, 1.5))

    def apply(self, images, thetas):
        a, b = thetas.T[:, :, None, None, None]
        return images + np.sin(a) * b * images**2

    def slope_bounds(self, image, lows, highs):
        square = np.broadcast_to(image**2, (len(lows), *image.shape))
        (a0, b0), (a1, b1) = (ends.T[:, :, None, None, None] for ends in (lows, highs))
        slope = np.cos(a0), np.cos(a1)
        most = np.where((a0 <= 0) & (a1 >= 0), 1.0, np.maximum(*slope))
        a_ends = np.stack([c * b for c in (np.minimum(*slope), most) for b in (b0, b1)])
        b_most = np.where((a0 <= np.pi / 2) & (a1 >= np.pi / 2), 1.0, np.maximum(np.sin(a0), np.sin(a1)))
        b_ends = np.stack([np.minimum(np.sin(a0), np.sin(a1)), b_most])
        return (
            np.stack([a_ends.min(axis=0) * square, b_ends.min(axis=0) * square], axis=1),
            np.stack([a_ends.max(axis=0) * square, b_ends.max(axis=0) * square], axis=1),
        )


class Ranged(AbstractPerturbation):
    """x^(1 + a), of which only least and largest values are given."""

    name = "ranged"
    parameters = (Parameter("a", "", -0.5, 1.0),)

    def apply(self, images, thetas):
        return images ** (1 + thetas[:, :, None, None])

    def interval(self, image, lows, highs):
        return self.apply(image[None], highs), self.apply(image[None], lows)


class Fold(AbstractPiecewiseAffinePerturbation):
    """x + |theta| on two pieces."""

    name = "fold"
    parameters = (Parameter("amount", "", -1.0, 1.0),)

    def apply(self, images, thetas):
        return images + np.abs(thetas)[:, :, None, None]

    def pieces(self):
        return interval(-1, 0), interval(0, 1)

    def affine_parts(self, images, piece):
        return images, np.full((len(images), 1, *images.shape[1:]), np.sign(piece.centre[0]))


class Silent(AbstractPerturbation):
    name = "silent"
    parameters = (Parameter("amount", "", 0.0, 1.0),)

    def apply(self, images, thetas):
        return images * np.exp(thetas)[:, :, None, None]


class Wanderer(Silent):
    name = "wanderer"
    moves_map = True

    def interval(self, image, lows, highs):
        return self.apply(image[None], lows), self.apply(image[None], highs)


@pytest.mark.parametrize(
    "chain",
    [
        Chain(Vignette()),
        Chain(Waves()),
        Chain(Ranged()),
        Chain(Fold()),
        Contrast(0.3) | Waves() | Contrast(-0.5, 0.5),
        Fold() | Carried() | Brightness(-0.1, 0.1),
        Contrast(-0.5, 0.5) | Carried(),
    ],
    ids=repr,
)
def test_own_perturbations_are_enclosed_by_what_they_say(chain):
    for boxes in boxes_in(chain.box, RNG):
        assert excess_of(chain, COLOUR, boxes, RNG) <= 0


def test_the_mean_value_form_is_of_second_order_and_an_interval_is_not():
    for chain, factor in ((Chain(Waves()), 3.0), (Chain(Ranged()), 1.9)):
        first, second = (total_error(chain, COLOUR, width) for width in (0.05, 0.025))
        assert first >= factor * second


def test_affine_pieces_are_enclosed_exactly_away_from_kinks():
    enclosed = Chain(Fold()).enclose(GREY, np.array([[[0.1, 0.9]], [[-0.2, 0.4]]]))
    assert enclosed.error[0].max() < 1e-12
    assert enclosed.error[1].min() > 0.1


@pytest.mark.parametrize(
    ("chain", "sentence"),
    [
        (Chain(Silent()), "silent does not say where its images lie over a box of amounts"),
        (
            Brightness(0, 1) | Waves(),
            "waves bounds its images only where no varying perturbation comes before",
        ),
        (Brightness(0, 1) | Vignette(), "vignette bounds its images only where"),
        (Waves() | Waves(), "waves#2 bounds its images only where"),
        (Chain(Wanderer()), "wanderer moves the expected map and does not say where it lies"),
    ],
    ids=repr,
)
def test_what_cannot_be_enclosed_is_refused_in_one_sentence_beforehand(chain, sentence):
    reason = chain.why_not_enclosable()
    assert sentence in reason
    assert "--method bound" in reason
    assert "define its" in reason
    assert ". " not in reason
    with pytest.raises(NotEnclosable) as caught:
        chain.enclose(COLOUR, chain.box[None])
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (lambda image: (image, image), r"shapes \(3, 5, 6\) and \(3, 5, 6\); both must be \(1, 3, 5, 6\)"),
        (lambda image: (image[None], image[None] - 1), "reversed"),
        (lambda image: (image[None] * np.nan, image[None]), "not finite"),
    ],
)
def test_bounds_of_ones_own_are_checked(found, sentence):
    class Own(Silent):
        name = "own"

        def interval(self, image, lows, highs):
            return found(image)

    with pytest.raises(PerturbationError, match=sentence):
        Chain(Own()).enclose(COLOUR, np.array([[[0.0, 1.0]]]))


@pytest.mark.parametrize("name", sorted(CHAINS))
def test_every_chain_of_the_variants_is_enclosed(name):
    chain = Chain(CHAINS[name])
    image = picture(3 if {"hue", "saturation"} & set(chain.names) else 1)
    for boxes in boxes_in(chain.box, RNG):
        assert excess_of(chain, image, boxes, RNG, count=6) <= 0


@pytest.mark.parametrize("name", sorted(CHAINS))
def test_images_stay_where_it_is_said_that_they_do(name):
    chain = Chain(CHAINS[name])
    image = picture(3 if {"hue", "saturation"} & set(chain.names) else 1)
    if chain.stays_within(0.0, 1.0):
        thetas = RNG.uniform(*chain.box.T, (200, len(chain.box)))
        images = chain.apply(image, thetas)
        assert images.min() >= -1e-12
        assert images.max() <= 1 + 1e-12


def test_only_what_interpolates_stays_within_limits():
    moved = [
        Rotate(-9, 9, fill=(0.2, 0.9)),
        Translate((-1, 1), fill=1.0),
        Translate((-1, 1), interpolation="bilinear"),
        Blur(0, 2),
    ]
    assert all(link.stays_within(0.0, 1.0) for link in moved)
    assert Chain(*moved).stays_within(0.0, 1.0)
    assert not Chain(*moved, Contrast(-0.1, 0.1)).stays_within(0.0, 1.0)
    assert not Rotate(-9, 9, fill=(0.2, 1.1)).stays_within(0.0, 1.0)
    assert not Translate((-1, 1), fill=-0.1).stays_within(0.0, 1.0)


def test_every_built_in_says_where_its_images_lie():
    assert not [cls.name for cls in BUILT_IN if not declares(cls)]
    named = {name for chain in CHAINS.values() for name in Chain(chain).names}
    assert {cls.name for cls in BUILT_IN} <= {name.partition("#")[0] for name in named}


def declares(cls):
    """Whether the class has an enclosure of its own, and one of its map if that moves."""
    images = cls.enclose is not AbstractPerturbation.enclose
    return images and (not cls.moves_map or cls.enclose_expected is not AbstractPerturbation.enclose_expected)
