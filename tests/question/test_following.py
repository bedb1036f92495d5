"""Grad-CAM maps of networks that are equivariant by construction go where the content goes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from steadygaze.network.reading.load import load_network
from steadygaze.network.saliency import GradCam
from steadygaze.perturbation import Brightness, Chain, Patch, Rotate, Scale, Shear, Translate
from steadygaze.question.inconsistency import by_name as inconsistency
from steadygaze.question.posing import pose


def equivariant(*layers: nn.Module, shape: tuple[int, int, int]) -> nn.Module:
    """No biases, and a head that weighs all places alike: the map moves with the content."""
    body = nn.Sequential(*layers).double()
    with torch.no_grad():
        for layer in body:
            if isinstance(layer, nn.Conv2d):
                layer.weight.abs_()
                layer.bias.zero_()
        places = body(torch.zeros(1, *shape).double()).numel()
        head = nn.Linear(places, 2).double()
        head.weight[0], head.weight[1] = 0.1, 0.0
        head.bias.zero_()
        head.bias[1] = -1.0
    return nn.Sequential(*body, nn.Flatten(), head)


def even(*shape: int) -> nn.Conv2d:
    """A convolution that looks alike from all sides."""
    made = nn.Conv2d(*shape)
    nn.init.constant_(made.weight, 0.2)
    return made


def spot(shape, top, left, height=2, width=2):
    image = np.zeros(shape)
    values = np.random.default_rng(0).uniform(0.2, 0.6, (height, width))
    image[0, top : top + height, left : left + width] = values
    return image


def ask(module, image, *chain, measure="cosine", layer=None):
    return pose(
        load_network(module, input_shape=image.shape), image, Chain(*chain), label=None, clip=(0.0, 1.0),
        saliency=GradCam(layer), inconsistency=inconsistency(measure), threshold=0.3,
    )  # fmt: skip


torch.manual_seed(5)
CASES = {
    "even kernel": ([nn.Conv2d(1, 3, 2, stride=2), nn.ReLU()], (1, 16, 16), (2, 2)),
    "odd kernel": ([nn.Conv2d(1, 3, 3, stride=2), nn.ReLU()], (1, 17, 17), (2, 2)),
    "padded": ([nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.ReLU()], (1, 16, 16), (2, 2)),
    "by four": ([nn.Conv2d(1, 2, 5, stride=4, padding=2), nn.ReLU()], (1, 24, 28), (4, 4)),
    "not square": ([nn.Conv2d(1, 2, (3, 2), stride=(1, 3), padding=(1, 0)), nn.ReLU()], (1, 12, 18), (3, 1)),
    "dilated": ([nn.Conv2d(1, 2, 3, stride=2, dilation=2, padding=2), nn.ReLU()], (1, 16, 16), (2, 2)),
    "max pool": (
        [nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 2, 3, padding=1), nn.ReLU()],
        (1, 20, 16), (2, 2),
    ),
    "average pool": (
        [nn.AvgPool2d(3, 2, padding=1), nn.Conv2d(1, 2, 2, stride=2), nn.ReLU()], (1, 24, 24), (4, 4),
    ),
    "pool behind": ([nn.Conv2d(1, 2, 2, stride=2), nn.ReLU(), nn.AvgPool2d(2)], (1, 16, 16), (2, 2)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("measure", ["cosine", "l2", "top-k"])
def test_a_shift_by_the_stride_moves_the_map_by_one_entry(case, measure):
    layers, shape, (across, along) = CASES[case]
    image = spot(shape, shape[1] // 2 - 1, shape[2] // 2 - 1)
    for word in ("triangles", "bilinear"):
        move = Translate((-across, across), (-along, along), interpolation=word)
        problem = ask(equivariant(*layers, shape=shape), image, move, measure=measure)
        whole = np.array([(0, 0), (across, 0), (-across, 0), (0, along), (across, -along)])
        np.testing.assert_allclose(problem.at(whole).inconsistency, 0, atol=1e-7)
        between = problem.at(np.array([[across / 2, along / 3]])).inconsistency[0]
        assert np.isfinite(between)


@pytest.mark.parametrize(
    ("layers", "size"),
    [
        ([even(1, 2, 2, 2), nn.ReLU()], 16),
        ([even(1, 2, 3, 2, 1), nn.ReLU()], 17),
        ([even(1, 1, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2), even(1, 1, 3, 1, 1), nn.ReLU()], 16),
    ],
)
def test_a_quarter_turn_turns_the_map(layers, size):
    problem = ask(
        equivariant(*layers, shape=(1, size, size)), spot((1, size, size), 4, 9, 3, 2), Rotate(-90, 90)
    )
    np.testing.assert_allclose(problem.at(np.array([[-90.0], [0.0], [90.0]])).inconsistency, 0, atol=1e-9)
    assert problem.at(np.array([[45.0]])).inconsistency[0] < 0.5


def test_it_turns_about_the_centre_of_the_image_where_the_windows_have_another():
    # Entries at pixels 0, 2, ..., 14 of 16: their own centre is pixel 7, that of the image 7.5.
    layers = [even(1, 1, 3, 2, 1), nn.ReLU()]
    image = np.zeros((1, 16, 16))
    image[0] = np.exp(-((np.indices((16, 16)) - [[[7.5]], [[11.5]]]) ** 2).sum(0) / 8) / 2
    for move, theta in (
        (Rotate(-180, 180), 180.0),
        (Rotate(-90, 90), 90.0),
        (Scale(0, 0.3), 0.3),
        (Shear((0, 0.4)), 0.4),
    ):
        problem = ask(equivariant(*layers, shape=(1, 16, 16)), image, move)
        assert problem.at(np.array([[theta]])).inconsistency[0] < 0.01


@pytest.mark.parametrize(
    "move", [Translate((-2, 3), 1.0), Rotate(-20, 30), Scale(-0.2, 0.3), Shear((-0.3, 0.2), 0.2)]
)
def test_over_boxes_it_lies_where_it_is_at_points(move):
    layers = [nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.ReLU()]
    problem = ask(
        equivariant(*layers, shape=(1, 12, 12)), spot((1, 12, 12), 4, 5, 3, 3), move, Brightness(0, 0.1)
    )
    rng = np.random.default_rng(0)
    low, size = problem.box[:, 0], np.ptp(problem.box, axis=1)
    start = low + rng.uniform(0, 0.9, (20, 2)) * size
    boxes = np.stack([start, start + 0.1 * size * rng.uniform(0.01, 1, (20, 1))], axis=2)
    least, most = problem.enclosed_inconsistency(boxes, problem.bounds(boxes, 20))
    for share in rng.uniform(0, 1, (20, 20, 2)):
        at = problem.at(boxes[..., 0] + share * (boxes[..., 1] - boxes[..., 0])).inconsistency
        assert (least - 1e-9 <= at).all()
        assert (at <= most + 1e-9).all()
    assert np.median(most - least) < 1


def test_entries_whose_pixels_are_under_a_patch_are_not_compared():
    layers = [nn.Conv2d(1, 1, 2, stride=2), nn.ReLU()]
    image = spot((1, 8, 8), 1, 1, 6, 6)
    problem = ask(equivariant(*layers, shape=(1, 8, 8)), image, Patch(0, 1, top=3, left=4, height=2, width=2))
    hidden = np.ones((4, 4), bool)
    hidden.reshape(-1)[problem.compared] = False
    # Rows 3 and 4 belong to the second and the third row of entries, columns 4 and 5 to the third column.
    assert {(int(i), int(j)) for i, j in np.argwhere(hidden)} == {(1, 2), (2, 2)}
    np.testing.assert_array_equal(np.isnan(problem.shown(problem.map0[None])[0]), hidden)
    padded = [
        nn.Conv2d(1, 1, 3, stride=2, padding=1),
        nn.ReLU(),
    ]  # entries at 0, 2, 4, 6, each from -1 to 1 about
    problem = ask(equivariant(*padded, shape=(1, 8, 8)), image, Patch(0, 1, top=4, left=5, size=1))
    assert set(range(16)) - set(problem.compared.tolist()) == {10, 11}
    under = Patch(0, 1, top=4, left=5, size=1, compare_under=True)
    assert ask(equivariant(*padded, shape=(1, 8, 8)), image, under).compared is None


def test_maps_of_the_size_of_the_image_are_compared_pixel_by_pixel():
    problem = ask(
        equivariant(nn.Conv2d(1, 1, 3, padding=1), nn.ReLU(), shape=(1, 8, 8)), spot((1, 8, 8), 1, 1, 6, 6),
        Patch(0, 1, top=2, left=3, size=1), Translate((0, 1)),
    )  # fmt: skip
    assert set(range(64)) - set(problem.compared.tolist()) == {19, 20}
