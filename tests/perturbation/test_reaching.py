"""Hidden are the pixels that some of a patch reaches for some amounts, and no others: by brute force."""

from __future__ import annotations

import numpy as np
import pytest

from steadygaze.perturbation import (
    Affine,
    Blur,
    Brightness,
    Chain,
    Patch,
    Perspective,
    Rotate,
    Scale,
    Shear,
    Translate,
    reaching,
)
from steadygaze.perturbation.reaching import Near

SIZE = (9, 8)
PLACES = [(3, 2, 2, 1), (4, 4, 1, 1), (0, 5, 3, 3)]  # top, left, height, width
MOVES = [
    Translate(dy=(-1, 1)),
    Translate(dy=(-1, 1), interpolation="bilinear"),
    Translate(dx=(-1.5, 2), dy=(-0.3, 0), interpolation="bilinear"),
    Translate(dx=(-1, 1), dy=0.5, interpolation="bilinear"),
    Translate(dx=1, dy=(0, 0.25), interpolation="bilinear"),
    Translate(dx=(-1, 1), dy=(-0.5, 0.5)),
    Translate(dx=(0, 1), dy=(0, 1)),
    Translate(dx=0.25, dy=0.5),
    Rotate(-10, 10),
    Rotate(0, 90),
    Rotate(-180, 180),
    Rotate(-0.01, 0.01),
    Rotate(90),
    Scale(-0.5, 1),
    Scale(0, 0.2),
    Scale(-0.25),
    Shear(x=(-0.5, 0.5)),
    Shear(y=(0, 1)),
    Shear(x=(-0.5, 0.5), y=(-0.25, 0.25)),
    Shear(x=(0, 1), y=(-1, 0)),
    Shear(x=(0, 2), y=(0, 1)),
    Shear(x=(-1, 1), y=0.5),
    Shear(x=0.5, y=(-1, 1)),
    Affine(degrees=(-8, 5)),
    Affine(scale=(0, 0.2), dy=(-1, 1)),
]
# Of these, pixels beside the patch touch it on faces and curves of amounts, along which boxes may pile up.
TOUCHING = [
    Affine(degrees=(0, 8), scale=(0, 0.1)),
    Affine(degrees=(-8, 0), scale=(-0.1, 0.05)),
    Affine(degrees=(-8, 8), scale=(0, 0.1), shear=(-0.1, 0)),
    Affine(scale=(0, 0.1), dx=(-1, 0), dy=(-1, 1)),
    Perspective(yaw=(-6, 0), pitch=(-0.5, 0.4), distance=16),
    Perspective(yaw=(0, 6), pitch=(-6, 0), distance=12),
    Perspective(yaw=(-6, 6), distance=16),
]


def brute(chain: Chain, mask: np.ndarray) -> np.ndarray:
    """Where shares of the mask arrive, the amounts walked through densely, all ends among them."""
    count = {0: 1, 1: 1025, 2: 65, 3: 17}[len(chain.parameters)]
    ways = np.meshgrid(*[np.linspace(p.low, p.high, count) for p in chain.parameters], indexing="ij")
    thetas = np.stack([way.ravel() for way in ways], axis=1) if ways else np.zeros((1, 0))
    shares, first = np.broadcast_to(mask * 1.0, (len(thetas), 1, *mask.shape)), 0
    for link in chain.links:
        last = first + len(link.parameters)
        shares, first = link.apply(shares, thetas[:, first:last]), last
    return (shares > 1e-12).any(axis=(0, 1))


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("move", [*MOVES, *TOUCHING], ids=repr)
def test_a_moved_patch_hides_what_it_reaches_and_nothing_else(move, place):
    patch = Patch(0, 1, top=place[0], left=place[1], height=place[2], width=place[3])
    chain = patch | Brightness(-0.1, 0.1) | move
    mask = patch.hidden(SIZE)
    hidden = ~chain.compared((1, *SIZE))
    np.testing.assert_array_equal(hidden, brute(Chain(move), mask))
    np.testing.assert_array_equal(~(move | patch).compared(SIZE), mask)


@pytest.mark.parametrize(
    "moves",
    [
        (Translate(dx=(-1, 1), interpolation="bilinear"), Translate(dy=(0, 0.5))),
        (Translate(dx=1), Rotate(-20, 30)),
        (Rotate(-20, 30), Scale(0.3)),
        (Shear(x=0.25), Shear(y=(-0.5, 0))),
        (Scale(-0.2, 0), Rotate(0, 45)),
    ],
    ids=repr,
)
def test_so_it_does_where_two_links_move_it(moves):
    patch = Patch(0, 1, top=2, left=3, height=2, width=2)
    hidden = ~(patch | Chain(*moves)).compared(SIZE)
    np.testing.assert_array_equal(hidden, brute(Chain(*moves), patch.hidden(SIZE)))


def test_two_patches_hide_what_either_reaches():
    first, second = Patch(0, 1, top=1, left=1, size=1), Patch(0, 1, top=6, left=5, size=1)
    move = Shear(x=(-0.5, 0.5))
    apart = (first | move).compared(SIZE) & second.hidden(SIZE).__invert__()
    np.testing.assert_array_equal((first | move | second).compared(SIZE), apart)


def test_a_patch_that_two_axes_would_touch_only_together_hides_no_more():
    # Turned by a little, the pixel right of the centre comes nearer to it than one pixel, and so do all four.
    hidden = ~(Patch(0, 1, top=4, left=4, size=1) | Rotate(-1, 1)).compared((9, 9))
    around = {(4, 4), (3, 4), (5, 4), (4, 3), (4, 5)}
    assert {(int(r), int(c)) for r, c in np.argwhere(hidden)} == around
    # Zoomed about the centre, the pixel there covers its neighbours; zoomed out, it stays alone.
    assert (~(Patch(0, 1, top=4, left=4, size=1) | Scale(0, 0.5)).compared((9, 9))).sum() == 9
    assert (~(Patch(0, 1, top=4, left=4, size=1) | Scale(-0.5, 0)).compared((9, 9))).sum() == 1


def test_large_pictures_take_no_longer_than_reading_them():
    chain = Patch(0, 1, top=90, left=100, size=50) | Shear(x=(0, 1), y=(-1, 1))
    assert 2500 < (~chain.compared((224, 224))).sum() < 224 * 224


def test_a_patch_blurred_later_still_hides_what_it_covers_alone():
    compared = (Patch(0, 1, top=1, left=1, size=2) | Blur(0, 1)).compared((6, 6))
    assert (~compared).sum() == 4


@pytest.mark.parametrize(
    "move",
    [
        *TOUCHING,
        # Four amounts that pull against each other.
        Affine(degrees=(0, 0.01), scale=(-0.0001, 0), shear=(-0.03, 0.02), dx=(-0.3, 0.2)),
    ],
    ids=repr,
)
def test_boxes_along_what_only_touches_do_not_pile_up(move, monkeypatch):
    looked_at, plain = [], Near.together

    def counting(near, across, down):
        looked_at.append(len(across.centre))
        return plain(near, across, down)

    most = 64
    monkeypatch.setattr(reaching, "MOST_BOXES", most)
    monkeypatch.setattr(Near, "together", counting)
    hidden = ~(Patch(0, 1, top=3, left=2, height=2, width=3) | move).compared((1, *SIZE))
    beside = 4  # pixels that come near along both axes at once, one at each corner
    assert max(looked_at[1:], default=0) <= beside * 2 * most
    assert hidden[3:5, 2:5].all()
    assert not hidden[-2:].any()
