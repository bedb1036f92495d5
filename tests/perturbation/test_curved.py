"""Hue, gamma and blur: against matrices, colour tables and scipy, and over boxes."""

from __future__ import annotations

import colorsys
from itertools import pairwise

import numpy as np
import pytest
from mpmath import mp
from scipy.ndimage import gaussian_filter

from enclosed import boxes_in, excess_of, total_error
from steadygaze.enclosing.enclosures import Enclosure
from steadygaze.errors import NotJointlyAffine, PerturbationError
from steadygaze.perturbation import Blend, Blur, Brightness, Chain, Gamma, Hue, curved
from steadygaze.perturbation.notation import chain_of

RNG = np.random.default_rng(51)
GREY = RNG.random((1, 6, 7))
COLOUR = RNG.random((3, 5, 6))
# Pixels at and near 0, where roots are steep, at 1, and beyond either.
HARD = np.array([0.0, 1e-300, 1e-12, 1e-3, 0.5, 1.0, 1.5, -0.2])[None, None]

# -- what they are

TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


def test_hue_turns_i_and_q_and_keeps_luma():
    for degrees in (-200.0, -30.0, 12.0, 90.0):
        changed = Hue(-360, 360).apply(COLOUR[None], np.array([[degrees]]))[0]
        before, after = (np.einsum("ij,jhw->ihw", TO_YIQ, image) for image in (COLOUR, changed))
        np.testing.assert_allclose(after[0], before[0], atol=1e-12)
        turned = (before[1] + 1j * before[2]) * np.exp(-1j * np.deg2rad(degrees))
        np.testing.assert_allclose(after[1] + 1j * after[2], turned, atol=1e-12)


def test_hue_goes_from_red_to_yellow_to_green_as_colour_circles_do():
    red = np.array([0.7, 0.3, 0.3]).reshape(1, 3, 1, 1)
    hues = []
    for degrees in (0.0, 30.0, 60.0, 120.0):
        colour = Hue(0, 180).apply(red, np.array([[degrees]])).ravel()
        hues.append(colorsys.rgb_to_hsv(*colour)[0])
    assert hues == sorted(hues)
    assert hues[0] == 0
    assert 0.1 < hues[2] < 0.3


def test_a_grey_picture_has_no_hue_to_turn():
    grey = np.broadcast_to(GREY, (1, 3, 6, 7))
    np.testing.assert_allclose(Hue(0, 180).apply(grey, np.array([[77.0]])), grey, atol=1e-15)


def test_gamma_is_a_power_of_what_is_above_0():
    changed = Gamma(-0.9, 2).apply(HARD[None], np.array([[-0.5]]))[0]
    np.testing.assert_allclose(changed[..., :7], np.sqrt(HARD[..., :7]))
    assert changed[..., 7] == 0


@pytest.mark.parametrize("sigma", [0.3, 0.8, 1.5, 2.0])
def test_blur_is_the_gaussian_of_scipy_at_a_fixed_radius(sigma):
    changed = Blur(0, 2).apply(COLOUR[None], np.array([[sigma]]))[0]
    wanted = gaussian_filter(COLOUR, sigma, axes=(1, 2), mode="reflect", radius=8)
    np.testing.assert_allclose(changed, wanted, atol=1e-13)


def test_a_constant_blur_is_what_blend_ends_at():
    blend = Blend(0, 1, target="blur", sigma=1.3).apply(COLOUR[None], np.array([[1.0]]))
    np.testing.assert_allclose(Blur(1.3).apply(COLOUR[None], np.zeros((1, 0))), blend, atol=1e-14)


def test_blur_is_continuous_at_0_and_leaves_blank_images_alone():
    changed = Blur(0, 1).apply(np.stack([COLOUR] * 3), np.array([[0.0], [1e-200], [1e-3]]))
    np.testing.assert_array_equal(changed, np.stack([COLOUR] * 3))
    blank = np.full((1, 1, 4, 9), 0.3)
    np.testing.assert_allclose(Blur(0, 3).apply(blank, np.array([[2.2]])), blank, atol=1e-15)


@pytest.mark.parametrize("make", [Hue, Gamma, lambda a, b=None: Blur(a) if b is None else Blur(0, b / 2)])
def test_a_constant_is_the_same_at_that_amount(make):
    constant, varying = make(0.25), make(-0.5, 0.5)
    assert constant.parameters == ()
    np.testing.assert_allclose(
        constant.apply(COLOUR[None], np.zeros((1, 0))),
        varying.apply(COLOUR[None], np.array([[0.25]])),
        atol=1e-15,
    )


# -- over boxes

CHAINS = [
    "gamma(amount=-0.5..1)",
    "gamma(amount=-0.999..3)",
    "blur(sigma=0..2)",
    "blur(sigma=0..0.2)",
    "brightness(amount=-0.2..0.3) | gamma(amount=-0.5..1)",
    "contrast(amount=-0.6..1) | gamma(amount=0..1)",
    "contrast(amount=0.4) | gamma(amount=-0.3) | brightness(amount=0..0.2)",
    "brightness(amount=-0.2..0.3) | blur(sigma=0..2) | contrast(amount=-0.6..1)",
    "rotate(degrees=-20..30) | blur(sigma=0..1.5) | shear(x=-0.1..0.2)",
    "blur(sigma=0.7) | gamma(amount=-0.5..0.5) | blur(sigma=0..1)",
    "brightness(amount=-0.1..0.1) | blur(sigma=0.7) | gamma(amount=0.5) | blur(sigma=0..1)",
]
COLOURED = [
    "hue(degrees=-180..360)",
    "contrast(amount=-1..1) | hue(degrees=-90..120) | saturation(amount=-1..1)",
]
COLOURED += ["brightness(amount=-0.2..0.2) | hue(degrees=30) | gamma(amount=-0.2..0.4)"]
CASES = [(text, image) for text in CHAINS for image in (GREY, COLOUR)] + [(text, COLOUR) for text in COLOURED]


@pytest.mark.parametrize(("text", "image"), CASES)
def test_sampled_images_lie_inside(text, image):
    chain = chain_of(text)
    assert not chain.why_not_enclosable()
    for boxes in boxes_in(chain.box, RNG):
        assert excess_of(chain, image, boxes, RNG) <= 0


@pytest.mark.parametrize("text", CHAINS[:2] + CHAINS[4:7])
def test_hard_pixels_lie_inside(text):
    chain = chain_of(text)
    for boxes in boxes_in(chain.box, RNG):
        assert excess_of(chain, HARD, boxes, RNG) <= 0


@pytest.mark.parametrize(("text", "image"), CASES)
def test_the_total_error_falls_with_the_square_of_the_width(text, image):
    chain = chain_of(text)
    errors = [total_error(chain, 0.2 + 0.6 * image, 2.0**-k) for k in (5, 6, 7)]
    for first, second in pairwise(errors):
        assert second < 1e-9 or first / second >= 3


def test_no_error_is_larger_than_the_image_says_anyway():
    for text in ("blur(sigma=0..3)", "gamma(amount=-0.9..5)", "rotate(degrees=-180..180) | blur(sigma=0..3)"):
        assert chain_of(text).enclose(GREY, chain_of(text).box[None]).error.max() <= 0.5 + 1e-12


def test_errors_of_the_image_go_through_the_whole_matrix():
    known = Enclosure.exact(COLOUR[None], 1)
    images = known.widened(1e-3)
    half_turn = Enclosure.of_boxes(np.array([[[180.0, 180.0]]]))
    # A half turn is 2 luma - x: what is 1e-3 off a channel is at most so much off.
    luma = TO_YIQ[0]
    wanted = 1e-3 * np.abs(2 * luma[None] - np.eye(3)).sum(axis=1)
    error = Hue(-180, 180).enclose(images, half_turn).error[0, :, 0, 0]
    np.testing.assert_allclose(error, wanted, rtol=1e-2)
    blurred = Blur(0, 2).enclose(images, Enclosure.of_boxes(np.array([[[1.0, 1.0]]])))
    np.testing.assert_allclose(blurred.error, 1e-3, rtol=1e-9)


def test_where_nothing_differs_nothing_is_uncertain():
    blank = Blur(0, 2).enclose(Enclosure.exact(np.full((1, 1, 8, 8), 0.4), 1), sigmas(0.0, 2.0))
    assert blank.radius.max() < 1e-12
    grey = chain_of("hue(degrees=-180..180)").enclose(np.full((3, 2, 2), 0.4), np.array([[[-180.0, 180.0]]]))
    assert grey.radius.max() < 1e-13


@pytest.mark.parametrize("high", [1e-3, 0.05, 0.15])
def test_pixels_far_from_all_others_stay_what_they_are_where_sigma_is_small(high):
    """So windows over a blank background that tie at 0 tie there, too: a pixel moves by what weights are."""
    spot = np.zeros((1, 1, 9, 9))
    spot[..., 4, 4] = 1.0
    moved = np.abs(Blur(0, 1).enclose(Enclosure.exact(spot, 1), sigmas(0.0, high)).bounds())
    weight = np.exp(-1 / (2 * high**2))
    beside, diagonal = moved[..., 4, 5].max(), moved[..., 5, 5].max()
    assert beside <= weight**0.9 + 1e-300
    assert diagonal <= weight**1.8 + 1e-300


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.04), (0.0, 0.3), (0.3, 0.31), (0.2, 3.0), (2.0, 3.0)])
def test_computed_weights_are_as_close_to_the_true_ones_as_is_said(low, high):
    """The true ones to fifty digits."""
    blur = Blur(0, 3)
    said = blur._rounding(np.array([[low]]), np.array([[high]]))[0]
    for sigma in np.linspace(low, high, 60):
        with mp.workdps(50):
            width = mp.mpf(float(sigma))
            raw = [mp.exp(-(mp.mpf(k) ** 2) / (2 * width**2)) if sigma else mp.mpf(0) for k in range(1, 13)]
            true = [one / (1 + 2 * mp.fsum(raw)) for one in raw]
            found = blur._weights(np.array([sigma]))
            off = np.array([float(abs(mp.mpf(float(a)) - b)) for a, b in zip(found, true, strict=True)])
        assert (off <= said).all()


def sigmas(low, high):
    return Enclosure.of_boxes(np.array([[[low, high]]]))


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 0.01), (0.0, 0.2), (0.0, 0.5), (0.2, 0.3), (0.5, 0.6), (1.0, 1.3), (2.9, 3.0)]
)
def test_the_bound_of_the_weights_curvature_holds(low, high):
    """Against second differences of the weights on a fine grid."""
    blur = Blur(0, 3)
    bound = blur._curvature(np.array([[low]]), np.array([[high]]))[1][0]
    grid = np.linspace(low, high, 4001)[:, None]
    weights, step = blur._weights(grid), grid[1, 0] - grid[0, 0]
    found = np.abs(weights[2:] - 2 * weights[1:-1] + weights[:-2]).max(axis=0) / step**2
    assert (found <= bound * (1 + 1e-6) + 1e-15 / step**2).all()
    assert (bound <= 50 * found + 1e-6 + 1e-15 / step**2)[found > 1e-3].all()


@pytest.mark.parametrize("fault", ["weights", "chroma", "convex"])
def test_planted_faults_are_seen(monkeypatch, fault):
    if fault == "weights":
        weights = Blur._weights
        monkeypatch.setattr(Blur, "_weights", lambda self, sigma: 1.01 * weights(self, sigma))
        chain = Chain(Blur(0, 2))
        reference = np.stack([gaussian_filter(COLOUR, s, axes=(1, 2), radius=8) for s in (0.5, 1.0)])
        enclosed = chain.enclose(COLOUR, np.array([[[0.5, 0.5]], [[1.0, 1.0]]]))
        assert (np.abs(reference - enclosed.centre) > enclosed.error).any()
        return
    text = "hue(degrees=-90..120)" if fault == "chroma" else "gamma(amount=-0.5..1)"
    boxes = np.array([[[-30.0, 60.0]]]) if fault == "chroma" else np.array([[[-0.4, 0.6]]])
    assert excess_of(chain_of(text), COLOUR, boxes, RNG) <= 0
    if fault == "chroma":
        plain = curved.sine
        monkeypatch.setattr(curved, "sine", lambda x: -plain(x))
    else:
        middle = curved.convex
        monkeypatch.setattr(curved, "convex", lambda *given: middle(*given).without_error())
    assert excess_of(chain_of(text), COLOUR, boxes, RNG) > 0


# -- refusals


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: Hue(-5, 5).check((1, 4, 4)),
            r"an image of 3 channels \(red, green, blue\), got 1",
        ),
        (lambda: Gamma(-1, 1), "gamma amount reaches -1; it must be above -1"),
        (lambda: Blur(-1, 1), "blur sigma reaches -1 pixels; it must be at least 0"),
        (lambda: Blur(-0.5), "blur sigma reaches -0.5"),
        (lambda: Blur(1, 2), "leaves out 0"),
    ],
)
def test_refusals(make, sentence):
    with pytest.raises(PerturbationError, match=sentence) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_exact_engines_refuse_them_in_one_sentence():
    for link in (Hue(-5, 5), Gamma(0, 1), Blur(0, 1)):
        with pytest.raises(NotJointlyAffine, match=f"^{link.name} has no affine pieces.*--method bound$"):
            (Brightness(0, 1) | link).affine_pieces(COLOUR)


def test_descriptions_are_plain():
    assert chain_of("hue(degrees=-5..10)").describe() == "hue turned by -5 to 10 degrees"
    assert chain_of("gamma(amount=0.1)").describe() == "gamma changed by 0.1"
    assert chain_of("blur(sigma=0..2)").describe() == "blurred by 0 to 2 pixels"
