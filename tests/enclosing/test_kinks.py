"""Images about pixels that places cross grid lines at: where they lie, with kinks as coordinates."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from steadygaze.enclosing import kinks as kinks_of_pixels
from steadygaze.enclosing.enclosures import Enclosure
from steadygaze.enclosing.kinks import _shared_directions, kinked
from steadygaze.enclosing.resampling import framed
from steadygaze.perturbation import (
    Affine,
    Brightness,
    Chain,
    Exposure,
    Patch,
    Perspective,
    Rotate,
    Shear,
    Translate,
)
from steadygaze.perturbation.siding import shares_kinks

IMAGE = np.random.default_rng(5).random((2, 7, 6))
CHAINS = {
    "turn and zoom": Chain(Affine(degrees=(-9, 5), scale=(-0.05, 0.05), fill=0.4)),
    "turn and shift": Chain(Affine(degrees=(-5, 5), dx=(-1, 1), dy=(-0.5, 1))),
    "shift": Chain(Affine(dx=(-1, 1), dy=(-0.5, 1))),
    "all": Chain(Affine(degrees=(-5, 5), scale=(-0.05, 0.05), shear=(-0.1, 0.1), dx=(-1, 1), dy=(-0.5, 1))),
    "from zero": Chain(Affine(degrees=(0, 5), scale=(0, 0.05))),
    "tilted": Chain(Perspective(yaw=(-15, 15), pitch=(-10, 5), distance=12)),
    "sheared, with others": Chain(
        Brightness(-0.1, 0.1),
        Shear((-0.1, 0.1), (-0.2, 0.1)),
        Exposure(-0.1, 0.2),
        Patch(0, 0.5, top=1, left=1, size=2),
    ),
}


def over(chain, box, kinks):
    return chain.enclose(IMAGE, Enclosure.of_boxes(box[None], chain.products, kinks=kinks))


@pytest.mark.parametrize("kinks", [1, 2, 7, 40, 512])
@pytest.mark.parametrize("name", CHAINS)
def test_images_lie_within(name, kinks):
    chain, rng = CHAINS[name], np.random.default_rng(1)
    for box in (
        chain.box,
        chain.box / 8,
        chain.box * 2.0**-14,
        chain.box * 2.0**-30,
        chain.box * 0.25 + 1e-4,
    ):
        low, high = (end[0] for end in over(chain, box, kinks).bounds())
        thetas = box[:, 0] + rng.random((60, len(box))) * np.ptp(box, axis=1)
        thetas[::3] = np.where(
            rng.random(thetas[::3].shape) < 0.4, rng.choice(box.ravel(), thetas[::3].shape), 0.0
        )
        thetas = np.clip(thetas, *box.T)
        images = chain.apply(IMAGE, thetas)
        assert (low - images).max() <= 1e-15
        assert (images - high).max() <= 1e-15


@pytest.mark.parametrize(
    ("name", "directions"), [("shift", 2), ("turn and shift", 13), ("turn and zoom", 54)]
)
def test_all_that_is_first_order_is_told_with_a_kink_for_each_direction(name, directions):
    """Of turns with a shift one for each row and column."""
    chain = CHAINS[name]
    box = 2.0**-20 * chain.box
    found = over(chain, box, 64)
    used = found.slopes[0, -64:].any(axis=(1, 2, 3))
    assert used[:directions].all() if name != "turn and zoom" else used.sum() <= directions
    assert used.sum() <= directions
    moved = found.spread.max()
    assert found.error.max() < 1e-4 * moved
    assert over(chain, box, 0).error.max() > 0.1 * moved


def test_the_more_kinks_there_are_the_less_is_left():
    chain = CHAINS["turn and zoom"]
    box = 2.0**-20 * chain.box
    left = [over(chain, box, kinks).error.sum() for kinks in (0, 4, 10, 32, 64)]
    assert all(later < 0.8 * before for before, later in pairwise(left))


def test_directions_are_shared_where_kinks_are_long_and_sparse():
    """Of 400 a quarter circle, of which pixels bend along the first half ten times as much, 40 are shared."""
    angles = np.linspace(0.02, 1.5, 400)
    ways = np.stack([np.cos(angles), np.sin(angles)]).reshape(1, 2, 20, 20).repeat(2, axis=0)
    ways /= np.abs(ways).sum(axis=1, keepdims=True)
    sizes = np.where(angles < 0.76, 10.0, 1.0).reshape(1, 20, 20).repeat(2, axis=0)
    _, _, rests, nodes = _shared_directions(ways, 40, sizes)
    first = int((np.arctan2(nodes[:, 1], nodes[:, 0]) < 0.76).sum())
    assert len(nodes) == 40
    # The third root of 100 times as many: 0.82 of all.
    assert 31 <= first <= 35
    even = _shared_directions(ways, 40)[2]
    lengths = [np.sqrt(((own[1] * sizes) ** 2).sum()) for own in (rests, even)]
    assert lengths[0] < 0.7 * lengths[1]


def test_as_few_directions_as_there_may_be_are_shared_of_pixels_that_do_not_bend():
    rng = np.random.default_rng(0)
    ways = rng.normal(size=(2, 2, 6, 6))
    nodes = _shared_directions(ways, 5, np.zeros((2, 6, 6)))[-1]
    assert 1 <= len(nodes) <= 5
    assert np.isfinite(nodes).all()


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("kinks", [1, 2, 5, 30])
def test_kinks_are_made_of_shared_ones_up_to_what_is_told(n, kinks):
    rng = np.random.default_rng(n)
    ways = rng.normal(size=(2, n, 4, 5)) * rng.choice([1.0, 1e-12, 0.0], (2, n, 4, 5), p=[0.8, 0.1, 0.1])
    ways[:, :, 0] = ways[:, :, 1] * -3.0
    ways[:, :, 2, 0] = 0.0
    numbers, shares, rests, nodes = _shared_directions(ways, kinks)
    assert len(nodes) <= kinks
    assert np.abs(np.abs(nodes).sum(axis=1) - 1).max() < 1e-15
    t = np.concatenate([rng.uniform(-1, 1, (300, n)), rng.choice([-1.0, 0.0, 1.0], (100, n))])
    # Across the lines along which kinks bend.
    t[:100] -= (t[:100] * nodes[0]).sum(axis=1, keepdims=True) / (nodes[0] ** 2).sum() * nodes[0]
    t = t[(np.abs(t) <= 1).all(axis=1)]
    kink = np.abs(np.einsum("anyx,pn->payx", ways, t))
    shared = np.abs(t @ nodes.T)
    made = sum(share * shared[:, number] for number, share in zip(numbers, shares, strict=True))
    for axis, (rest, spread) in enumerate(rests.swapaxes(0, 1)):
        assert (np.abs(kink[:, axis] - made[:, axis] + rest) <= spread).all()


def test_one_link_alone_has_kinks_and_nothing_reads_behind_it():
    for name, chain in CHAINS.items():
        assert shares_kinks(chain), name
    turned = CHAINS["turn and zoom"].links[0]
    for links in (
        (Rotate(-5, 5),),
        (Brightness(-0.1, 0.1),),
        (turned, CHAINS["tilted"].links[0]),
        (turned, Rotate(-5, 5)),
        (Translate((-1, 1), (-1, 1)),),
    ):
        assert not shares_kinks(Chain(*links))
    assert shares_kinks(Chain(turned, Rotate(3), Brightness(-0.1, 0.1)))


@pytest.mark.parametrize("kinks", [3, 7, 12])
def test_images_are_what_the_shared_kinks_make_of_them(kinks, monkeypatch):
    """At points of a box whose middle is 0, with the kinks' own values: nothing but the error is left."""
    chain, rng = Chain(Affine(degrees=(-5, 5), scale=(-0.05, 0.05), fill=0.4)), np.random.default_rng(4)
    box = 2.0**-20 * chain.box
    seen = list[np.ndarray]()

    def noted(*given):
        found = _shared_directions(*given)
        seen.append(found[-1])
        return found

    monkeypatch.setattr(kinks_of_pixels, "_shared_directions", noted)
    found = chain.enclose(IMAGE, Enclosure.of_boxes(box[None], (), kinks=kinks))
    (nodes,) = seen
    t = rng.uniform(-1, 1, (4000, 2))
    t[::2] /= np.abs(t[::2]).max(axis=1, keepdims=True)
    coordinates = np.zeros((len(t), 2 + kinks))
    coordinates[:, :2], coordinates[:, 2 : 2 + len(nodes)] = t, 2 * np.abs(t @ nodes.T) - 1
    made = found.centre[0] + np.tensordot(coordinates, found.slopes[0], axes=1)
    left = np.abs(chain.apply(IMAGE, t * box[:, 1]) - made)
    assert (left <= found.error[0] + 1e-15).all()
    assert (left.max(axis=0) > 0.5 * found.error[0]).mean() > 0.5


@pytest.mark.parametrize("tilted", [0.0, 1.0])
def test_both_ends_of_what_mixed_kinks_leave_are_met(tilted):
    """Between (0.3, 0.7) and (0.7, 0.3): at t = (1, -1) both are 0.4, and |t_1 + t_2| / 2 is 0."""
    image = np.array([0.2 + 0.03 * tilted, 0.9, 0.2]).reshape(1, 1, 1, 3)
    ways = np.array([[0.3, 0.7], [0.001, 0.001], [0.7, 0.3]]) * 2.0**-20
    slopes = np.zeros((1, 2, 1, 3))
    slopes[0, :, 0] = ways.T
    across = Enclosure(np.arange(3.0).reshape(1, 1, 3), slopes, np.zeros((1, 1, 3)))
    down = Enclosure(np.zeros((1, 1, 3)), np.zeros_like(slopes), np.zeros((1, 1, 3)))
    found = kinked(framed(image, np.zeros(1)), across, down, np.arange(2), 4, 2)
    t = np.stack(np.meshgrid(*[np.linspace(-1, 1, 41)] * 2), axis=-1).reshape(-1, 2)
    nodes = np.array([[0.7, 0.3], [0.3, 0.7]])
    g = 2 * np.abs(t @ nodes.T) - 1
    away = t @ ways[1]
    values = 0.9 + np.where(away > 0, away * (image[0, 0, 0, 2] - 0.9), -away * (image[0, 0, 0, 0] - 0.9))
    made = found.centre[0, 0, 0, 1] + np.concatenate([t, g], axis=1) @ found.slopes[0, :, 0, 0, 1]
    # Of 0.002 the quarter of 0.8, by as much as one pixel differs from the mean of those beside it.
    error = 0.002 * 0.2 * (0.7 - 0.015 * tilted) * 2.0**-20
    assert found.error[0, 0, 0, 1] == pytest.approx(error, rel=1e-6)
    assert (values - made).max() == pytest.approx(error, rel=1e-6)
    assert (values - made).min() == pytest.approx(-error, rel=1e-6)


def test_where_nothing_moves_images_are_what_they_are():
    for name, chain in CHAINS.items():
        still = np.zeros_like(chain.box)
        found = over(chain, still, 7)
        assert found.spread.max() == 0.0, name
        assert np.abs(found.centre - chain.apply(IMAGE, still[None, :, 0])).max() <= found.error.max() + 1e-15
        assert found.error.max() < 1e-12


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("far", [2.0**-12, 0.25, 0.9])
def test_both_ends_of_what_two_kinks_multiply_to_are_met(far, seed):
    """Shifts along both axes: each kink is a coordinate, and the product of both is all that is left."""
    image = np.random.default_rng(seed).normal(size=(1, 1, 3, 3)) ** 3
    slopes, still = np.zeros((2, 1, 2, 1, 1)), np.zeros((1, 1, 1))
    slopes[0, 0, 0], slopes[1, 0, 1] = far, far
    across, down = (Enclosure(still, own, still) for own in slopes)
    found = kinked(image, across, down, np.arange(2), 4, 2)
    t = np.stack(np.meshgrid(*[np.linspace(-1, 1, 5)] * 2), axis=-1).reshape(-1, 2)
    # Directions in the order of their angles: that of columns first.
    coordinates = np.concatenate([t, 2 * np.abs(t) - 1], axis=1)
    made = found.centre[0, 0, 0, 0] + coordinates @ found.slopes[0, :, 0, 0, 0]
    x, y = np.abs(far * t).T
    columns, rows = (1 + np.sign(t).astype(int)).T
    pixels = image[0, 0]
    values = (
        (1 - x) * (1 - y) * pixels[1, 1] + x * (1 - y) * pixels[1, columns]
        + (1 - x) * y * pixels[rows, 1] + x * y * pixels[rows, columns]
    )  # fmt: skip
    error = found.error[0, 0, 0, 0]
    rounding = 1e-13 * np.abs(image).max()
    assert (values - made).max() == pytest.approx(error, rel=1e-6, abs=rounding)
    assert (values - made).min() == pytest.approx(-error, rel=1e-6, abs=rounding)


def test_places_beyond_the_cells_about_a_pixel_are_not_told():
    image, still = np.ones((1, 1, 3, 3)), np.zeros((1, 1, 1))
    for far, told in ((0.999, True), (1.001, False)):
        across = Enclosure(still, np.array([far, 0.0]).reshape(1, 2, 1, 1), still)
        down = Enclosure(still, np.zeros((1, 2, 1, 1)), still)
        for places in ((across, down), (down, across)):
            found = kinked(image, *places, np.arange(2), 4, 2)
            assert np.isfinite(found.error).all() == told
