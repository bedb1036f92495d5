"""Pictures seen aslant: against PyTorch's reading through a homography of four corners, and over boxes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from enclosed import boxes_in, excess_of, outside, total_error, with_products
from steadygaze.enclosing.enclosures import Enclosure
from steadygaze.errors import NotJointlyAffine, PerturbationError
from steadygaze.perturbation import Brightness, Chain, Patch, Perspective, perspective
from steadygaze.perturbation.notation import chain_of, render
from steadygaze.question.lengths import in_pixels

RNG = np.random.default_rng(43)
GREY = RNG.random((1, 6, 7))
COLOUR = RNG.random((3, 5, 6))


def seen(points, yaw, pitch, distance):
    """Where a camera sees points (4, 2) of the picture: turned in space with matrices, and projected."""
    yaw, pitch = math.radians(yaw), math.radians(pitch)
    # x to the right, y down, z away: the upper edge and the right one go away.
    tilt = np.array(
        [[1, 0, 0], [0, math.cos(pitch), math.sin(pitch)], [0, -math.sin(pitch), math.cos(pitch)]]
    )
    turn = np.array([[math.cos(yaw), 0, -math.sin(yaw)], [0, 1, 0], [math.sin(yaw), 0, math.cos(yaw)]])
    space = np.column_stack([points, np.zeros(len(points))]) @ (turn @ tilt).T
    return distance * space[:, :2] / (distance + space[:, 2:])


def homography(source, target):
    """The 3 x 3 matrix that takes four points to four, its last entry being 1, as kornia solves for it."""
    rows, right = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        right += [u, v]
    return np.append(np.linalg.solve(np.array(rows), np.array(right)), 1.0).reshape(3, 3)


def grid_sampled(image, yaw, pitch, distance, fill=0.0):
    """The image read by PyTorch at the places that the homography of its four corners comes from."""
    height, width = image.shape[-2:]
    half = np.array([(width - 1) / 2, (height - 1) / 2])
    corners = half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    back = np.linalg.inv(homography(corners, seen(corners, yaw, pitch, distance)))
    y, x = np.meshgrid(np.arange(height) - half[1], np.arange(width) - half[0], indexing="ij")
    places = np.stack([x, y, np.ones_like(x)], axis=-1) @ back.T
    grid = torch.tensor(places[..., :2] / places[..., 2:] / half)[None]
    read = torch.nn.functional.grid_sample(torch.tensor(image - fill)[None], grid, align_corners=True)
    return read[0].numpy() + fill


@pytest.mark.parametrize("image", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize(
    "amounts", [(20.0, 0.0), (0.0, -15.0), (-30.0, 25.0), (12.0, 13.0), (-50.0, -3.0), (0.1, 0.1)]
)
@pytest.mark.parametrize(("distance", "fill"), [(7.0, 0.0), (25.0, 0.4)])
def test_images_are_those_that_pytorch_reads(image, amounts, distance, fill):
    yaw, pitch = ((min(amount, -0.1), max(amount, 0.1)) for amount in amounts)
    own = Perspective(yaw, pitch, distance=distance, fill=fill)
    np.testing.assert_allclose(
        own.apply(image[None], np.array([amounts]))[0],
        grid_sampled(image, *amounts, distance, fill),
        atol=1e-11,
    )


def test_yaw_takes_the_right_edge_away_and_pitch_the_upper_one():
    image = np.zeros((1, 41, 41))
    image[0, 5, 5] = image[0, 5, 35] = image[0, 35, 5] = image[0, 35, 35] = 1
    turned, tilted = Perspective((0, 40), (0, 40), distance=60).apply(
        np.broadcast_to(image, (2, *image.shape)), np.array([[30.0, 0.0], [0.0, 30.0]])
    )

    def apart(picture):
        rows, columns = np.nonzero(picture[0] > 0.1)
        left, upper = columns < 20, rows < 20
        return rows[left].max() - rows[left].min(), columns[upper].max() - columns[upper].min()

    left, _ = apart(turned)
    right, _ = apart(turned[..., ::-1])
    _, upper = apart(tilted)
    _, lower = apart(tilted[:, ::-1])
    assert right < 30 < left
    assert upper < 30 < lower


def test_from_far_away_it_only_squeezes():
    far = Perspective((-60, 60), distance=1e9).apply(GREY[None], np.array([[60.0]]))[0]
    np.testing.assert_allclose(far[:, :, 3], GREY[:, :, 3], atol=1e-6)
    np.testing.assert_allclose(far[:, :, 4], GREY[:, :, 5], atol=1e-6)


CHAINS = [
    "perspective(yaw=-20..30, pitch=-10..15, distance=9)",
    "perspective(yaw=-5..40, distance=20, fill=0.3)",
    "brightness(amount=-0.3..0.3) | perspective(pitch=-30..40, distance=12) | exposure(amount=-0.1..0.1)",
    "perspective(yaw=-20..30, pitch=-10..15, distance=9) | rotate(degrees=30) | translate(dx=1)",
]


def repeated(enclosed, count):
    """The one row of an enclosure as so many."""
    parts = (enclosed.centre, enclosed.slopes, enclosed.error)
    return Enclosure(*(np.broadcast_to(part, (count, *part.shape[1:])) for part in parts))


@pytest.mark.parametrize("text", CHAINS)
@pytest.mark.parametrize("image", [GREY, COLOUR], ids=["grey", "colour"])
def test_sampled_images_and_maps_lie_inside(text, image):
    chain = chain_of(text)
    for boxes in boxes_in(chain.box, RNG):
        assert excess_of(chain, image, boxes, RNG, count=12) <= 0


@pytest.mark.parametrize("text", [CHAINS[0], CHAINS[-1]])
def test_a_hundred_thousand_samples_lie_inside(text):
    chain, count = chain_of(text), 12_500
    for box in np.concatenate(list(boxes_in(chain.box, RNG)))[::4][:8]:
        amounts = Enclosure.of_boxes(box[None], chain.products)
        t = RNG.uniform(-1, 1, (count, len(box)))
        thetas = np.clip(box.mean(axis=1) + t * np.ptp(box, axis=1) / 2, *box.T)
        own = with_products(t, chain.products)
        for enclosed, values in (
            (chain.enclose(GREY, amounts), chain.apply(GREY, thetas)),
            (chain.enclose_expected(GREY - 0.4, amounts), chain.expected(GREY - 0.4, thetas)),
        ):
            assert outside(repeated(enclosed, count), values, own) <= 0


def test_the_total_error_falls_with_the_square_of_the_width():
    chain = chain_of(CHAINS[0])
    image = np.random.default_rng(3).random((1, 12, 12))
    first, last = (total_error(chain, image, 2.0**-k) for k in (4, 9))
    assert (first / last) ** (1 / 5) >= 3.3


def test_the_expected_map_moves_as_the_content_does():
    chain = Chain(Perspective((-20, 30), (-10, 15), distance=9))
    theta = np.array([[12.0, -7.0]])
    np.testing.assert_allclose(chain.expected(GREY, theta), chain.apply(GREY, theta), atol=1e-12)
    np.testing.assert_array_equal(chain.expected(GREY, np.zeros((1, 2)))[0], GREY)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("sine", lambda found: found * 1.001),
        ("cosine", lambda found: found * 1.001),
        ("reciprocal", lambda found: found + 1e-3),
        ("every", Enclosure.without_error),
    ],
)
def test_planted_faults_are_seen(monkeypatch, name, fault):
    """The checks above do fail where a function is off, or how far all of them are from their chords."""
    chain = chain_of("perspective(yaw=-20..30, pitch=-10..15, distance=9)")
    boxes = np.array([[[10.0, 10.2], [6.0, 6.1]], [[-19.0, -18.8], [-9.0, -8.9]]])

    def excess():
        return excess_of(chain, GREY, boxes, np.random.default_rng(1), count=60)

    assert excess() <= 0
    for own in ("sine", "cosine", "reciprocal"):
        plain = getattr(perspective, own)
        if name in (own, "every"):
            monkeypatch.setattr(perspective, own, lambda *given, f=plain, **named: fault(f(*given, **named)))
    if name == "every":
        monkeypatch.setattr(Enclosure, "_times", multiplied_roughly)
    assert excess() > 0


def multiplied_roughly(first, second):
    """A product of enclosures without what is of second order."""
    a, b = first.centre, second.centre
    slopes = a[:, None] * second.slopes + b[:, None] * first.slopes
    return Enclosure(a * b, slopes, np.zeros(np.broadcast_shapes(a.shape, b.shape)))


def test_a_patch_hides_what_it_reaches():
    moved = Perspective((-25, 35), (-20, 10), distance=8)
    chain = Patch(0, 1, top=1, left=2, size=2) | moved
    marked = np.zeros((1, 6, 7))
    marked[0, 1:3, 2:4] = 1
    low, high = chain.box[1:].T
    thetas = low + RNG.random((500, 2)) * (high - low)
    reached = (moved.apply(np.broadcast_to(marked, (500, *marked.shape)), thetas)[:, 0] > 0).any(axis=0)
    compared = chain.compared((6, 7))
    assert not (reached & compared).any()
    assert compared.sum() >= (~reached).sum() - 6


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: Perspective((-5, 5), 3, distance=9),
            "pitch is 3.0; it must be a range.* or 0",
        ),
        (lambda: Perspective((-5, 5), distance=0), "distance is 0 pixels; it must be above 0"),
        (lambda: Perspective((1, 2), distance=9), "yaw is 1.0..2.0, which leaves out 0"),
        (lambda: chain_of("perspective(yaw=-5..5)"), "perspective lacks distance"),
        (
            lambda: chain_of("perspective(yaw=-80..80, distance=9)").apply(GREY, np.zeros(1)),
            "turns by up to 80 degrees.*sees past the picture; give smaller ranges, or a larger distance",
        ),
        (
            lambda: chain_of("perspective(pitch=-95..95, distance=900)").apply(GREY, np.zeros(1)),
            "tilts by up to 95",
        ),
        (
            lambda: chain_of("perspective(yaw=-30..30, distance=9) | scale(amount=-0.9)").expected(
                GREY, np.zeros((1, 1))
            ),
            "sees past the picture",
        ),
    ],
)
def test_refusals(make, sentence):
    with pytest.raises(PerturbationError, match=sentence):
        make()


def test_exact_engines_refuse_it_in_one_sentence():
    chain = Perspective((-1, 1), distance=9) | Brightness(0, 1)
    with pytest.raises(NotJointlyAffine, match=r"^perspective has no affine pieces.*--method bound$"):
        chain.affine_pieces(GREY)


def test_it_is_written_as_it_is_read_with_the_distance_in_percent():
    text = "perspective(yaw=-5..5, pitch=-3..4, distance=150%)"
    chain = chain_of(in_pixels(text, (1, 20, 30)))
    assert chain.links[0].constants["distance"] == 30
    assert render(chain) == "perspective(yaw=-5..5, pitch=-3..4, distance=30, fill=0)"
    assert chain.describe() == (
        "picture tilted by -3 to 4 degrees and turned by -5 to 5 in space, seen from 30 pixels before it"
    )
