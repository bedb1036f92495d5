"""Turning, zooming, shearing and moving between pixels: against PyTorch, by hand, and over boxes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from enclosed import boxes_in, excess_of, total_error
from sparing import sparing
from steadygaze.enclosing import bilinear, resampling
from steadygaze.enclosing.enclosures import Enclosure
from steadygaze.errors import NotJointlyAffine, PerturbationError
from steadygaze.perturbation import Affine, Brightness, Chain, Patch, Rotate, Scale, Shear, Translate
from steadygaze.perturbation.notation import chain_of

RNG = np.random.default_rng(41)
GREY = RNG.random((1, 6, 7))
COLOUR = RNG.random((3, 5, 6))


def grid_sampled(image, forward, shift=(0.0, 0.0)):
    """PyTorch's bilinear reading of ``image`` where content at (x, y) goes to forward @ (x, y) + shift."""
    height, width = image.shape[-2:]
    back = np.linalg.inv(np.array(forward))
    # PyTorch's coordinates run from -1 to 1 between the outer pixels' centres, and so need scaling.
    scale = np.array([(width - 1) / 2, (height - 1) / 2])
    matrix = back * scale[None] / scale[:, None]
    offset = -back @ np.array(shift) / scale
    theta = torch.tensor(np.column_stack([matrix, offset]))[None]
    grid = torch.nn.functional.affine_grid(theta, [1, len(image), height, width], align_corners=True)
    return torch.nn.functional.grid_sample(
        torch.tensor(image)[None], grid, mode="bilinear", padding_mode="zeros", align_corners=True
    )[0].numpy()


def turned(degrees):
    # Rows run down: counter-clockwise to the eye takes right (1, 0) to up, (0, -1).
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [[cos, sin], [-sin, cos]]


REFERENCES = [
    *[(Rotate(-180, 180), (a,), turned(a), (0, 0)) for a in (-170.0, -30.0, -0.5, 12.3, 90.0, 133.0)],
    *[(Scale(-0.9, 2), (a,), np.eye(2) * (1 + a), (0, 0)) for a in (-0.7, -0.1, 0.3, 1.7)],
    *[
        (Shear((-1, 1), (-1, 1)), (a, b), np.array([[1, 0], [b, 1]]) @ [[1, a], [0, 1]], (0, 0))
        for a, b in ((0.3, 0.0), (0.0, -0.4), (0.5, 0.7), (-0.2, 0.9))
    ],
    *[
        (Translate((-3, 3), (-3, 3), interpolation="bilinear"), shift, np.eye(2), shift)
        for shift in ((0.3, 0.6), (-1.25, 2.0), (-2.9, -2.9))
    ],
    *[
        (
            Affine((-180, 180), (-0.5, 1), (-1, 1), (-3, 3), (-3, 3)),
            (degrees, scale, shear, *shift),
            np.array(turned(degrees)) @ (np.eye(2) * (1 + scale)) @ [[1, shear], [0, 1]],
            shift,
        )
        for degrees, scale, shear, shift in (
            (12.0, 0.1, 0.0, (0.0, 0.0)),
            (-40.0, -0.3, 0.4, (1.3, -0.6)),
            (133.0, 0.8, -0.7, (-2.0, 2.5)),
        )
    ],
]


@pytest.mark.parametrize(
    ("own", "other"),
    [
        ("affine(degrees=-20..30)", "rotate(degrees=-20..30)"),
        ("affine(scale=-0.3..0.4)", "scale(amount=-0.3..0.4)"),
        ("affine(shear=-0.5..0.3)", "shear(x=-0.5..0.3)"),
        (
            "affine(dx=-2..1, dy=-1..3, fill=0.4)",
            "translate(dx=-2..1, dy=-1..3, fill=0.4, interpolation=bilinear)",
        ),
    ],
)
def test_one_amount_of_an_affine_map_is_the_change_of_that_name(own, other):
    first, second = chain_of(own), chain_of(other)
    low, high = first.box.T
    thetas = low + RNG.random((6, len(low))) * (high - low)
    np.testing.assert_allclose(first.apply(COLOUR, thetas), second.apply(COLOUR, thetas), atol=1e-12)
    np.testing.assert_allclose(first.expected(COLOUR, thetas), second.expected(COLOUR, thetas), atol=1e-12)
    boxes = np.stack([thetas - 1e-3 * (thetas - low), thetas + 1e-3 * (high - thetas)], axis=2)
    wide, narrow = (chain.enclose(COLOUR, boxes).error.max() for chain in (first, second))
    assert wide <= 1.5 * narrow + 1e-9


def composed(clockwise, zoom, shear_angle, shift):
    """Where random affine transforms take content: moved last, about the centre, in torchvision's words.

    Its inverse map is written out with tan(shear); kornia's get_affine_matrix2d makes the same product, of
    a turn by -angle in its own counter-clockwise count, and a shear matrix with -tan(shear).
    """
    angle, shear = math.radians(clockwise), math.radians(shear_angle)
    a, b = math.cos(angle), -math.cos(angle) * math.tan(shear) - math.sin(angle)
    c, d = math.sin(angle), -math.sin(angle) * math.tan(shear) + math.cos(angle)
    return zoom * np.array([[a, b], [c, d]]), shift


@pytest.mark.parametrize(
    ("degrees", "scale", "shear_angle", "shift"),
    [(25.0, 0.2, 0.0, (0.0, 0.0)), (-12.0, -0.1, 20.0, (0.5, -1.25)), (3.0, 0.0, -35.0, (-1.0, 0.75))],
)
def test_random_affine_transforms_count_angles_the_other_way(degrees, scale, shear_angle, shift):
    own = Affine((-90, 90), (-0.5, 1), (-1, 1), (-3, 3), (-3, 3))
    theta = np.array([[degrees, scale, -math.tan(math.radians(shear_angle)), *shift]])
    reference = grid_sampled(COLOUR, *composed(-degrees, 1 + scale, shear_angle, shift))
    np.testing.assert_allclose(Chain(own).apply(COLOUR, theta)[0], reference, rtol=0, atol=1e-12)


def test_an_affine_map_is_read_once():
    """A chain reads at every link, which blurs; the order is shear, scale, rotate, translate."""
    smooth = np.add.outer(np.arange(9.0), 2 * np.arange(9.0))[None]  # bilinear reading is exact on it
    turned_last = "shear(x=0.2) | scale(amount=0.1) | rotate(degrees=-20..20)"
    links = f"{turned_last} | translate(dx=0.4, interpolation=bilinear)"
    own = "affine(shear=0.2, scale=0.1, degrees=-20..20, dx=0.4)"
    chained, once = (chain_of(text).apply(smooth, np.array([[7.0]]))[0] for text in (links, own))
    np.testing.assert_allclose(once[:, 3:6, 3:6], chained[:, 3:6, 3:6], atol=1e-9)
    rough = RNG.random((1, 9, 9))
    chained, once = (chain_of(text).apply(rough, np.array([[7.0]]))[0] for text in (links, own))
    assert np.ptp(once[:, 2:7, 2:7]) > np.ptp(chained[:, 2:7, 2:7])


@pytest.mark.parametrize(("perturbation", "theta", "forward", "shift"), REFERENCES)
@pytest.mark.parametrize("image", [GREY, COLOUR], ids=["grey", "colour"])
def test_apply_is_the_grid_sample_of_pytorch(perturbation, theta, forward, shift, image):
    changed = Chain(perturbation).apply(image, np.array([theta]))[0]
    np.testing.assert_allclose(changed, grid_sampled(image, forward, shift), rtol=0, atol=1e-12)
    expected = Chain(perturbation).expected(image, np.array([theta]))[0]
    np.testing.assert_allclose(expected, changed, atol=0)


def test_a_quarter_turn_to_the_left_is_that_of_numpy():
    square = RNG.random((2, 5, 5))
    changed = Rotate(0, 90).apply(square[None], np.array([[90.0]]))[0]
    np.testing.assert_allclose(changed, np.rot90(square, axes=(1, 2)), atol=1e-12)


def test_zooming_enlarges_and_shearing_keeps_the_middle_row():
    spot = np.zeros((1, 7, 7))
    spot[0, 2:5, 2:5] = 1
    assert Scale(0, 1).apply(spot[None], np.array([[1.0]])).sum() > 3 * spot.sum()
    sheared = Shear((0, 1)).apply(GREY[:, :5][None], np.array([[1.0]]))[0]
    np.testing.assert_allclose(sheared[:, 2], GREY[:, 2], atol=1e-12)
    np.testing.assert_allclose(sheared[:, 3, 1:], GREY[:, 3, :-1], atol=1e-12)


@pytest.mark.parametrize("make", [Rotate, Scale, lambda a, b=None: Shear(a if b is None else (a, b), 0.2)])
def test_a_constant_is_the_same_at_that_amount(make):
    constant, varying = make(0.25), make(-0.5, 0.5)
    assert constant.parameters == ()
    np.testing.assert_array_equal(
        constant.apply(GREY[None], np.zeros((1, 0))), varying.apply(GREY[None], np.array([[0.25]]))
    )


def test_fill_comes_in_from_outside_and_the_expected_map_takes_0():
    chain = Chain(Scale(-0.5, 0, fill=(0.1, 0.2, 0.3)))
    changed = chain.apply(COLOUR, np.array([-0.5]))[0]
    np.testing.assert_allclose(changed[:, 0, 0], [0.1, 0.2, 0.3])
    assert chain.expected(COLOUR, np.array([-0.5]))[0, :, 0, 0].tolist() == [0, 0, 0]


def test_maps_may_have_any_axes_before_the_last_two():
    chain = Chain(Rotate(-30, 30))
    thetas = np.array([[10.0], [-20.0]])
    whole = chain.expected(COLOUR, thetas)
    assert whole.shape == (2, *COLOUR.shape)
    np.testing.assert_array_equal(chain.expected(COLOUR[1], thetas), whole[:, 1])
    boxes = np.array([[[-10.0, 20.0]]])
    np.testing.assert_array_equal(
        chain.enclose_expected(COLOUR[1], boxes).centre, chain.enclose_expected(COLOUR, boxes).centre[:, 1]
    )


# -- over boxes

CHAINS = [
    "rotate(degrees=-40..60, fill=0.3)",
    "rotate(degrees=-180..180)",
    "scale(amount=-0.5..1)",
    "scale(amount=-0.95..4, fill=0.5)",
    "shear(x=-0.5..0.5)",
    "shear(x=0.3, y=-0.6..0.5)",
    "shear(x=-0.5..0.5, y=-0.3..0.4, fill=0.7)",
    "translate(dx=-3..3)",
    "translate(dx=-3..3, dy=-2..3)",
    "translate(dx=0.25, dy=-3..3, fill=0.6)",
    "translate(dx=-2.5..3, dy=-2..3, interpolation=bilinear)",
    "translate(dx=-3..3, dy=0.25, interpolation=bilinear, fill=0.2)",
    "affine(degrees=-20..30, scale=-0.3..0.4)",
    "affine(degrees=10, scale=-0.3..0.4, shear=-0.2..0.3, dx=-1..2, dy=0.5, fill=0.3)",
    "affine(dx=-1..2, dy=-1..1, shear=0.1)",
    "rotate(degrees=-40..60, fill=0.3) | scale(amount=-0.3..0.4)",
    "brightness(amount=-0.3..0.3) | translate(dx=-2..2)",
    "translate(dx=-2..2, dy=-1..1) | contrast(amount=-0.5..0.5) | rotate(degrees=-20..20)",
    "rotate(degrees=12) | shear(x=-0.2..0.2, y=-0.2..0.2) | brightness(amount=-0.1..0.2) | scale(amount=0.3)",
    "scale(amount=-0.3..0.3) | patch(opacity=0..1, top=1, left=1, size=2, mode=blend)"
    " | translate(dx=-2..2, dy=-2..2, fill=0.4)",
]
# Whole and half pixels, where the reading bends, and theta = 0.
KNOTS = (0.0, -1.0, 1.0, 2.0, 0.25, 0.5)


@pytest.mark.parametrize("text", sparing(CHAINS))
@pytest.mark.parametrize("image", [GREY, COLOUR], ids=["grey", "colour"])
def test_sampled_images_and_maps_lie_inside(text, image):
    chain = chain_of(text)
    assert not chain.why_not_enclosable()
    for boxes in boxes_in(chain.box, RNG, KNOTS):
        assert excess_of(chain, image, boxes, RNG, knots=KNOTS) <= 0


@pytest.mark.parametrize("text", CHAINS)
def test_the_total_error_falls_with_the_square_of_the_width(text):
    """Pixels where the reading bends are as many as the box is wide, and each error as large as that."""
    chain = chain_of(text)
    image = np.random.default_rng(3).random((1, 24, 24))
    first, last = (total_error(chain, image, 2.0**-k) for k in (4, 9))
    # Over five halvings, for whether a kink is met is a matter of chance for a single one.
    assert last < 1e-8 or (first / last) ** (1 / 5) >= 3.3


def test_inside_one_piece_a_shift_on_triangles_is_exact():
    chain = chain_of("translate(dx=-3..3, dy=-2..3)")
    inside = np.array([[[0.1, 0.3], [0.4, 0.9]], [[-1.4, -1.1], [1.05, 1.2]]])
    assert chain.enclose(GREY, inside).error.max() < 1e-12
    across = np.array([[[0.1, 0.5], [0.4, 0.9]]])
    assert chain.enclose(GREY, across).error.max() > 1e-3


def test_inside_one_cell_a_bilinear_shift_is_exact_with_the_product_of_both_amounts():
    chain = chain_of("translate(dx=-3..3, dy=-2..3, interpolation=bilinear)")
    assert chain.products == ((0, 1),)
    inside = np.array([[[0.1, 0.9], [0.0, 1.0]], [[-1.4, -1.1], [1.05, 1.2]]])
    assert chain.enclose(GREY, Enclosure.of_boxes(inside, chain.products)).error.max() < 1e-12
    assert chain.enclose(GREY, inside).error.max() > 1e-3
    assert chain_of("translate(dx=-3..3, interpolation=bilinear)").products == ()


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("rotate(degrees=-10..10)", 0.7),
        ("scale(amount=-0.1..0.1)", 0.6),
        ("affine(degrees=-9..9, scale=-0.1..0.1)", 0.7),
    ],
)
def test_coordinates_of_products_take_up_most_of_what_bends(text, share):
    chain = chain_of(text)
    image = np.random.default_rng(3).random((1, 12, 12))
    bent, plain = (total_error(chain, image, 0.05, products=own) for own in (chain.products, ()))
    assert bent < share * plain


@pytest.mark.parametrize("count", [0, 1])
def test_any_number_of_amounts_moves_maps(count):
    """No maps at all, where the time for points is over."""
    maps = Rotate(-9, 9).expect(np.ones((count, 3, 5, 5)), np.zeros((count, 1)))
    assert maps.shape == (count, 3, 5, 5)


def test_products_of_a_chain_are_those_of_its_links():
    chain = chain_of(
        "brightness(amount=-0.1..0.1) | affine(degrees=-9..9, scale=-0.1..0.1) | translate(dx=-1..1)"
    )
    assert chain.products == ((1, 1), (1, 2), (2, 2))


def test_a_kink_is_enclosed_tightly():
    """A ramp up and down again, moved across its top: nothing smaller than half its height holds it."""
    ramp = np.array([[[0.0, 0.0, 1.0, 0.0, 0.0]]])
    enclosed = chain_of("translate(dx=-1..1)").enclose(ramp, np.array([[[-0.5, 0.5]]]))
    assert enclosed.error[0, 0, 0, 2] == pytest.approx(0.25, abs=1e-12)
    assert enclosed.centre[0, 0, 0, 2] == pytest.approx(0.75, abs=1e-12)
    assert enclosed.slopes[0, 0, 0, 0, 2] == pytest.approx(0.0, abs=1e-12)


def test_a_blank_background_stays_exactly_blank():
    image = np.zeros((1, 9, 9))
    image[0, 4, 4] = 1
    for text in ("rotate(degrees=-9..9)", "translate(dx=-1..1, dy=-1..1)", "scale(amount=-0.1..0.1)"):
        enclosed = chain_of(text).enclose(image, chain_of(text).box[None])
        assert enclosed.error[0, 0, 0].max() == 0
        assert not enclosed.centre[0, 0, 0].any()
        assert enclosed.error[0, 0, 4, 4] > 0


def test_no_error_is_larger_than_the_image_says_anyway():
    for text in ("rotate(degrees=-180..180)", "translate(dx=-3..3, dy=-2..3)", "scale(amount=-0.9..3)"):
        assert chain_of(text).enclose(GREY, chain_of(text).box[None]).error.max() <= 0.5 + 1e-12


@pytest.mark.parametrize("fault", ["_steepness", "_first_crossing", "_time", "_piece"])
def test_planted_faults_are_seen(monkeypatch, fault):
    """The checks above do fail where the kernel misses kinks or leaves out how far places are off.

    Run in Python, for what is compiled cannot be changed.
    """
    for name in (
        "_place",
        "_value",
        "_steepness",
        "_first_crossing",
        "_time",
        "_piece",
        "_swept",
        "_fitted_along",
    ):
        monkeypatch.setattr(bilinear, name, getattr(bilinear, name).py_func)
    monkeypatch.setattr(resampling, "walked", bilinear.walked.py_func)
    chain = chain_of("rotate(degrees=-40..60, fill=0.3)")
    boxes = np.array([[[-40.0, -10.0]], [[10.0, 14.0]], [[20.0, 50.0]]])

    def excess():
        return excess_of(chain, GREY, boxes, np.random.default_rng(1), count=60)

    assert excess() <= 0
    plain = getattr(bilinear, fault)
    faulty = {
        "_steepness": lambda *given: (*(0.01 * steep for steep in plain(*given)[:2]), *plain(*given)[2:]),
        "_first_crossing": lambda x, step, low, high: plain(x, step, low, high) + np.sign(step),
        "_time": lambda *given: np.inf,
        "_piece": lambda *given: (plain(*given)[0] + 0.01, plain(*given)[1]),
    }
    monkeypatch.setattr(bilinear, fault, faulty[fault])
    assert excess() > 0


@pytest.mark.parametrize(
    "text",
    [
        "rotate(degrees=-40..60)",
        "translate(dx=-3..3, dy=-2..2.8, interpolation=bilinear)",
        "affine(scale=-0.9..1, shear=-2..2.5)",
    ],
)
def test_a_product_taken_for_another_is_seen(monkeypatch, text):
    chain = chain_of(text)
    middle = chain.box.mean(axis=1)
    boxes = (middle[:, None] + 0.05 * (chain.box - middle[:, None]))[None]
    assert excess_of(chain, GREY, boxes, np.random.default_rng(1), count=60) <= 0
    plain = resampling._pairs_followed
    monkeypatch.setattr(resampling, "_pairs_followed", lambda *given: dict.fromkeys(plain(*given), 0))
    assert excess_of(chain, GREY, boxes, np.random.default_rng(1), count=60) > 0


@pytest.mark.parametrize("left_out", ["errors of places", "what is taken off", "nothing"])
def test_what_is_taken_off_is_put_back(monkeypatch, left_out):
    chain = chain_of("affine(degrees=-40..40, scale=-0.5..0.8, dx=-1..1)")
    boxes = np.stack([0.3 * chain.box, 0.2 * chain.box + 0.5 * chain.box[:, 1:]])
    plain = resampling.put_back

    def less(fitted, u_slopes, u_error, v_slopes, v_error, *others):
        if left_out == "errors of places":
            u_error, v_error = np.zeros_like(u_error), np.zeros_like(v_error)
        elif left_out == "what is taken off":
            fitted = np.concatenate([fitted[:2], np.zeros_like(fitted[2:7]), fitted[7:]])
        plain(fitted, u_slopes, u_error, v_slopes, v_error, *others)

    monkeypatch.setattr(resampling, "put_back", less)
    excess = excess_of(chain, GREY, boxes, np.random.default_rng(1), count=60)
    assert (excess <= 0) == (left_out == "nothing")


def test_places_are_told_in_the_coordinates_that_move_them(monkeypatch):
    """What is made of amounts takes as long as it has coordinates, and most stand for products."""
    chain, counts = chain_of("affine(degrees=-9..9, scale=-0.1..0.1) | translate(dx=-1..1)"), []
    plain = resampling.resampled

    def counting(values, u, v, *others, **how):
        counts.append((values.count, u.count, v.count))
        return plain(values, u, v, *others, **how)

    monkeypatch.setattr(resampling, "resampled", counting)
    enclosed = chain.enclose(GREY, Enclosure.of_boxes(chain.box[None], chain.products))
    assert counts == [(6, 2, 2), (6, 1, 1)]
    assert enclosed.slopes[0, [0, 1, 2]].any(axis=(1, 2, 3)).all()


# -- what a patch hides


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["rotate", "scale", "shear", "translate", "affine"]),
    share=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
    corner=st.tuples(st.integers(0, 4), st.integers(0, 4)),
)
def test_hidden_covers_whatever_the_patch_reaches(kind, share, corner):
    moved = {
        "rotate": Rotate(-35, 50),
        "scale": Scale(-0.6, 1.5),
        "shear": Shear((-0.5, 0.2), (-0.3, 0.6)),
        "translate": Translate((-1.5, 2), (-0.5, 1.2), interpolation="bilinear"),
        "affine": Affine((-20, 30), 0.1, (-0.3, 0.2), dx=(-1, 1)),
    }[kind]
    chain = Patch(0, 1, top=corner[0], left=corner[1], size=2) | moved
    marked = np.zeros((1, 6, 7))
    marked[0, corner[0] : corner[0] + 2, corner[1] : corner[1] + 2] = 1
    low, high = chain.box[1:].T
    theta = low + np.array(share[: len(low)]) * (high - low)
    reached = moved.apply(marked[None], theta[None])[0, 0] > 0
    assert not (reached & chain.compared((6, 7))).any()


def test_what_a_patch_cannot_reach_is_compared():
    compared = (Patch(0, 1, top=4, left=4, size=1) | Rotate(-180, 180)).compared((9, 9))
    assert compared[0].all()
    assert compared.sum() >= 72
    far = (Patch(0, 1, top=0, left=4, size=1) | Rotate(-10, 10)).compared((9, 9))
    assert far[2:].all()
    assert not far[0, 4]


# -- refusals


def test_exact_engines_refuse_them_in_one_sentence():
    for moved in (
        Rotate(-1, 1),
        Scale(0, 1),
        Shear((0, 1)),
        Affine((0, 1)),
        Translate((0, 1), interpolation="bilinear"),
    ):
        chain = moved | Brightness(0, 1)
        with pytest.raises(NotJointlyAffine, match=f"^{moved.name} has no affine pieces.*--method bound$"):
            chain.affine_pieces(GREY)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Scale(-1, 1), "scale amount reaches -1; it must be above -1"),
        (lambda: Affine(scale=(-1, 1)), "affine scale reaches -1; it must be above -1"),
        (lambda: Affine(dx=(1, 2)), "affine dx"),
        (lambda: Scale(-2), "scale amount reaches -2"),
        (lambda: Rotate(5, 10), "leaves out 0"),
        (lambda: Rotate(-5, 5, fill=(0.1, 0.2)).check((3, 5, 5)), "rotate fill names 2 channels"),
        (lambda: Shear((1, 0)), "range of shear x is 1.0..0.0, which is reversed"),
        (lambda: Shear("a"), "shear x is 'a'"),
        (
            lambda: Translate((0, 1), interpolation="cubic"),
            "translate interpolation is 'cubic'; allowed: triangles, bilinear",
        ),
    ],
)
def test_refusals(make, sentence):
    with pytest.raises(PerturbationError, match=sentence):
        make()


def test_descriptions_are_plain():
    assert (
        chain_of("rotate(degrees=-5..10)").describe() == "content turned -5 to 10 degrees counter-clockwise"
    )
    assert chain_of("scale(amount=0.1)").describe() == "content zoomed by 0.1 about the centre"
    assert chain_of("shear(x=-1..1)").describe() == "content sheared by -1 to 1 along x and 0 along y"
    assert "bilinear" in chain_of("translate(dx=-1..1, interpolation=bilinear)").describe()


def test_of_kinks_a_quadratic_leaves_little():
    """In boxes that grid lines cross; lines and products alone leave 0.054 of pixels between 0 and 1."""
    chain = chain_of("affine(degrees=-5..5, scale=-0.1..0.1, dx=-0.6..0.6)")
    box = 0.25 * chain.box[None]
    amounts = Enclosure.of_boxes(box, chain.products)
    images = Enclosure.exact(np.broadcast_to(GREY, (1, *GREY.shape)), amounts.count)
    assert chain.enclose(images, amounts).error.mean() < 0.03


@pytest.mark.parametrize(
    "given",
    [
        (0.0, 0.3, 0.0, 0.0, -1.0, 0.0, 1.0, 1.0),  # largest along an edge
        (0.0, 0.2, -0.1, 0.5, -1.0, -1.0, 1.0, 1.0),  # inside
        (0.0, 0.1, 0.2, 0.0, 2.0, -1.0, 0.5, 0.5),  # a saddle
        (0.3, 0.1, 0.2, 0.4, 2.0, 1.0, 0.5, 0.7),  # least inside
    ],
)
def test_the_range_of_a_quadratic_is_that_of_samples(given):
    constant, across, down, twist, bow_u, bow_v, half_u, half_v = given
    h, k = np.meshgrid(*(np.linspace(-half, half, 401) for half in (half_u, half_v)))
    values = constant + across * h + down * k + twist * h * k + bow_u * h * h + bow_v * k * k
    low, high = bilinear._quadratic.py_func(*given)
    assert low <= values.min()
    assert values.max() <= high
    assert high - low <= np.ptp(values) + 1e-4


def test_quadratics_that_are_flat_along_a_line_are_enclosed():
    """-(h - k)² + 0.2 (h - k): the vertex is a whole line, inside of the box."""
    h, k = np.meshgrid(*(np.linspace(-1, 1, 401),) * 2)
    values = -((h - k) ** 2) + 0.2 * (h - k)
    low, high = bilinear._quadratic.py_func(0.0, 0.2, -0.2, 2.0, -1.0, -1.0, 1.0, 1.0)
    assert low <= values.min()
    assert values.max() <= high <= values.max() + 1e-4
