"""Every perturbation and chain: the affine pieces tile the box and are what ``apply`` says, map included."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from steadygaze.perturbation.notation import chain_of

RNG = np.random.default_rng(7)
COLOUR = RNG.random((3, 6, 7))
GREY = RNG.random((1, 7, 6))
BLANK = np.zeros((1, 7, 6))
PATCH = "patch(opacity=0..1, top=1, left=2, height=3, width=2, mode={})"

CHAINS = [
    "brightness(amount=-0.3..0.3)",
    "contrast(amount=-0.5..1)",
    PATCH.format("add"),
    PATCH.format("blend"),
    "blend(amount=0..1, target=blur, sigma=1.3)",
    "blend(amount=0..1, target=fog, colour=0.8)",
    "translate(dx=-2..2, dy=0)",
    "translate(dx=-2.3..1.6, dy=1, fill=0.4)",
    "translate(dx=0, dy=-1.5..2)",
    "translate(dx=-2..2, dy=0.5)",
    "translate(dx=-1.25..2, dy=-0.7, fill=0.5)",
    "translate(dx=0.3, dy=-1.1..2.4)",
    "translate(dx=-1..1, dy=-1..1)",
    "translate(dx=-1.3..2.6, dy=-0.2..1.9, fill=0.3)",
    "translate(dx=-0.2..0.3, dy=-0.4..0.1)",
    "translate(dx=-6..6, dy=-1e-3..0)",
    "contrast(amount=-0.2..0.2) | brightness(amount=-0.1..0.1)",
    "brightness(amount=-0.1..0.2) | patch(opacity=0..1, top=0, left=0, size=2)",
    "brightness(amount=-0.1..0.2) | blend(amount=0..1, target=blur)",
    "translate(dx=-1.5..1, dy=0) | contrast(amount=0.3) | brightness(amount=0..0.2)",
    "translate(dx=-1.5..1, dy=-0.25..0.75) | brightness(amount=0..0.2)",
    "brightness(amount=0.2) | translate(dx=-1..1, dy=-0.5..0.5, fill=0.9) | " + PATCH.format("add"),
    "patch(opacity=0..1, top=1, left=1, size=2) | translate(dx=0.4, dy=-1) | brightness(amount=-0.2..0)",
    PATCH.format("blend") + " | brightness(amount=-0.2..0) | patch(opacity=0..1, top=5, left=4, size=1)",
    "contrast(amount=-0.1..0.1) | brightness(amount=0..0.1) | patch(opacity=0..0.5, top=3, left=3, size=3)"
    " | patch(opacity=0..0.3, top=1, left=1, size=2)",
    "translate(dx=-1..1, dy=-0.5..0.7) | brightness(amount=0..0.1)"
    " | patch(opacity=0..1, top=3, left=3, size=3)",
]
CASES = [(text, image) for text in CHAINS for image in (GREY, COLOUR)] + [
    ("saturation(amount=-1..1)", COLOUR),
    ("brightness(amount=-0.1..0.2) | saturation(amount=-1..1)", COLOUR),
    (
        "blend(amount=0..1, target=grey) | patch(opacity=0..1, top=1, left=1, size=2, value=(0.1, 0.5, 1))",
        COLOUR,
    ),
    ("translate(dx=-1..0.5, fill=(0.1, 0.5, 1)) | patch(opacity=-1..1, top=1, left=1, size=2)", COLOUR),
    # Nothing of the image varies where the second link looks, whatever their names say.
    ("contrast(amount=-1..1) | translate(dx=-1..1, fill=0.5)", np.full((1, 7, 6), 0.5)),
    (PATCH.format("blend") + " | patch(opacity=0..1, top=4, left=4, size=2, mode=blend)", GREY),
]


def inside(vertices, count):
    """Random points of the convex hull, the vertices themselves first."""
    weights = RNG.exponential(size=(count, len(vertices)))
    return np.vstack([vertices, weights / weights.sum(axis=1, keepdims=True) @ vertices])


def volume(vertices):
    return np.ptp(vertices) if vertices.shape[1] == 1 else ConvexHull(vertices).volume


@pytest.mark.parametrize(("text", "image"), CASES, ids=[f"{text}-{len(image)}" for text, image in CASES])
def test_the_affine_form_is_what_apply_says(text, image):
    chain = chain_of(text)
    pieces, maps = chain.affine_pieces(image), chain.expected_pieces(image - 0.4)
    assert len(pieces) == len(maps)
    for piece, expected in zip(pieces, maps, strict=True):
        thetas = inside(piece.polytope.vertices, 6)
        np.testing.assert_allclose(piece.image.at(thetas), chain.apply(image, thetas), rtol=0, atol=1e-12)
        np.testing.assert_allclose(
            expected.at(thetas), chain.expected(image - 0.4, thetas), rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("text", CHAINS)
def test_the_pieces_tile_the_box(text):
    chain = chain_of(text)
    polytopes = [piece.polytope for piece in chain.affine_pieces(GREY)]
    total = sum(volume(polytope.vertices) for polytope in polytopes)
    assert total == pytest.approx(np.prod(np.diff(chain.box, axis=1)), rel=1e-9)
    for polytope in polytopes:
        assert (polytope.vertices >= chain.box[:, 0]).all()
        assert (polytope.vertices <= chain.box[:, 1]).all()
        assert (polytope.facets.sum(axis=1) == len(chain.box)).all()
    # Equal volume and no gap: random points fall into one piece each, by the inequalities of the hull.
    points = RNG.uniform(chain.box[:, 0], chain.box[:, 1], size=(50, len(chain.box)))
    held = sum(within(polytope.vertices, points) for polytope in polytopes)
    assert (held == 1).all()


def within(vertices, points):
    if vertices.shape[1] == 1:
        return ((points >= vertices.min()) & (points <= vertices.max()))[:, 0].astype(int)
    equations = ConvexHull(vertices).equations
    return (points @ equations[:, :-1].T + equations[:, -1] <= 0).all(axis=1).astype(int)


def varies_everything(text):
    return not any(set(link.constants) & {"amount", "opacity", "dx", "dy"} for link in chain_of(text).links)


@pytest.mark.parametrize("text", [text for text in CHAINS if varies_everything(text)])
def test_at_zero_nothing_changes(text):
    chain = chain_of(text)
    np.testing.assert_array_equal(chain.apply(GREY, np.zeros(len(chain.box)))[0], GREY)


def test_equal_pixels_stay_exactly_equal():
    """A blank background must meet its hinges all at once: no rounding may tell its pixels apart."""
    for text in ("translate(dx=-2..2, dy=-1..1)", "translate(dx=-2..2, dy=0.3) | brightness(amount=0..0.3)"):
        image = np.full((1, 7, 6), 0.1)
        for piece in chain_of(text).affine_pieces(image):
            middle = np.s_[:, 2:-2, 2:-2]
            assert len(np.unique(piece.image.base[middle])) == 1
            assert all(len(np.unique(direction[middle])) == 1 for direction in piece.image.directions)
    assert all(not piece.image.base.any() for piece in chain_of("translate(dx=-2..2)").affine_pieces(BLANK))


def test_neighbouring_pieces_share_their_vertices_exactly():
    pieces = chain_of("translate(dx=-1.3..2.6, dy=-0.2..1.9)").affine_pieces(GREY)
    corners = np.vstack([piece.polytope.vertices for piece in pieces])
    exact = np.unique(corners, axis=0)
    rounded = np.unique(corners.round(9), axis=0)
    assert len(exact) == len(rounded)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("translate(dx=-2..2, dy=0)", 4),
        ("translate(dx=-2.5..2, dy=3)", 5),
        ("translate(dx=-2..2, dy=0.5)", 8),
        ("translate(dx=-2..2, dy=-2..2)", 32),
        ("translate(dx=0..0.5, dy=0..0.25)", 2),
        ("translate(dx=0..0.3, dy=0.30000000000000004)", 1),
    ],
)
def test_how_many_pieces(text, count):
    assert len(chain_of(text).affine_pieces(GREY)) == count
