"""Which convolution Grad-CAM looks at, however a network is written down, and where its map stands."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from steadygaze.errors import SettingError
from steadygaze.network.building import GraphBuilder
from steadygaze.network.convolutions import Standing, convolutions, standing
from steadygaze.network.digests import digests
from steadygaze.network.layers import Concat, Conv, Dense, Permute, Reshape
from steadygaze.network.reading.load import load_network
from steadygaze.network.saliencies import by_name
from steadygaze.network.saliency import GradCam


def graph_of(module, shape=(1, 12, 12)):
    return load_network(module.double().eval(), input_shape=shape).graph


class Block(nn.Module):
    """A residual sum, or a concatenation, whose branches are written in either order."""

    def __init__(self, first: bool, joined: str = "sum", alike: bool = False) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.joined = first, joined
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.a = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding=1)
        self.down = nn.Conv2d(4, 4, 1, stride=2)
        if alike:  # two branches of the same shape
            self.a = self.b = nn.Identity()
            self.down, self.b = (nn.Conv2d(4, 4, 1, stride=2) for _ in range(2))
        self.head = nn.Linear(4 * 36 * (2 if joined == "concatenation" else 1), 3)

    def forward(self, x):
        h = torch.relu(self.stem(x))
        if self.first:
            d = self.down(h)
            y = self.b(torch.relu(self.a(h)))
        else:
            y = self.b(torch.relu(self.a(h)))
            d = self.down(h)
        whole = (d + y if self.first else y + d) if self.joined == "sum" else torch.cat([y, d], 1)
        return self.head(torch.relu(whole).flatten(1))


@pytest.mark.parametrize("joined", ["sum", "concatenation"])
@pytest.mark.parametrize("alike", [False, True])
def test_one_function_has_one_layer_to_look_at(joined, alike):
    either, other = (graph_of(Block(first, joined, alike)) for first in (True, False))
    assert [one.name for one in convolutions(either)] == [one.name for one in convolutions(other)]
    if not alike:
        assert [one.name for one in convolutions(either)] == ["b", "down", "a", "stem"]
    assert digests(either)[-1] == digests(other)[-1]
    images = torch.rand(5, 1, 12, 12, dtype=torch.float64)
    assert torch.allclose(GradCam().maps(either, images, 1), GradCam().maps(other, images, 1), atol=1e-12)


class Shared(nn.Module):
    """One convolution for two inputs: only what it reads tells its two places apart."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first = first
        self.left, self.right, self.twice = (nn.Conv2d(1, 1, 3, padding=1) for _ in range(3))
        self.head = nn.Linear(144, 3)

    def forward(self, x):
        def one():
            return self.twice(torch.relu(self.left(x)))

        def two():
            return self.twice(torch.relu(self.right(x)))

        parts = [one(), two()] if self.first else [two(), one()]
        return self.head(torch.relu(parts[0] + parts[1]).flatten(1))


def test_what_is_read_decides_between_equal_weights():
    either, other = graph_of(Shared(True)), graph_of(Shared(False))
    assert [one.name for one in convolutions(either)][:2] == ["twice", "twice#2"]
    images = torch.rand(5, 1, 12, 12, dtype=torch.float64)
    for layer in ("twice", "twice#2", "left"):
        one, two = (GradCam(layer).maps(graph, images, 1) for graph in (either, other))
        assert torch.allclose(one, two, atol=1e-12)


def test_a_digest_tells_functions_apart():
    torch.manual_seed(0)
    modules = {}
    for name, stride, act in (("plain", 1, nn.ReLU()), ("tanh", 1, nn.Tanh()), ("strided", 2, nn.ReLU())):
        torch.manual_seed(0)
        convolution = nn.Conv2d(1, 2, 3, stride=stride)
        modules[name] = nn.Sequential(
            convolution, act, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)
        )
    last = {name: digests(graph_of(module))[-1] for name, module in modules.items()}
    with torch.no_grad():
        modules["plain"][0].weight[0, 0, 0, 0] += 1e-6
    last["moved"] = digests(graph_of(modules["plain"]))[-1]
    assert len(set(last.values())) == 4


def test_a_convolution_with_a_single_place_is_a_dense_layer_by_another_name():
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 10), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.Flatten()
    )
    assert [one.name for one in convolutions(graph_of(module))] == ["0", "4", "2"]


def test_a_layer_can_be_chosen_by_name():
    graph = graph_of(Block(True))
    assert GradCam().settled(graph).layer == "b"
    assert by_name("grad-cam", layer="stem").map_shape(graph) == (12, 12)
    assert by_name("grad-cam", layer="a").map_shape(graph) == (6, 6)
    with pytest.raises(SettingError, match="the layer is 'c', allowed are b, down, a, stem; choose one"):
        by_name("grad-cam", layer="c").settled(graph)
    with pytest.raises(SettingError, match="'b' and the saliency 'gradient', which looks at the pixels"):
        by_name("gradient", layer="b")


# -- where entries stand


def middle(kernel, dilation=1):
    return dilation * (kernel - 1) / 2


def stands(module, shape):
    whole = nn.Sequential(*module, nn.Flatten(), nn.LazyLinear(2)).double()
    whole(torch.zeros(1, *shape).double())
    graph = graph_of(whole, shape)
    return standing(graph, GradCam().node(graph))


@pytest.mark.parametrize(
    ("layers", "shape", "origin", "step"),
    [
        ([nn.Conv2d(1, 1, 3, padding=1)], (1, 8, 10), (0, 0), (1, 1)),
        ([nn.Conv2d(1, 1, 2, stride=2)], (1, 8, 8), (0.5, 0.5), (2, 2)),
        ([nn.Conv2d(1, 1, (3, 4), stride=(2, 4), padding=(1, 0))], (1, 9, 12), (1.5, 0), (4, 2)),
        ([nn.Conv2d(1, 1, 3, dilation=2, padding=1)], (1, 8, 8), (1, 1), (1, 1)),
        ([nn.Conv2d(1, 1, 3), nn.ReLU(), nn.Conv2d(1, 1, 3, stride=2)], (1, 9, 9), (2, 2), (2, 2)),
        ([nn.MaxPool2d(2), nn.Conv2d(1, 1, 3, padding=1)], (1, 8, 8), (0.5, 0.5), (2, 2)),
        ([nn.MaxPool2d(3, 2, padding=1), nn.Conv2d(1, 1, 3, padding=1)], (1, 9, 9), (0, 0), (2, 2)),
        ([nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.Conv2d(1, 1, 1)], (1, 8, 8), (0, 0), (2, 2)),
        ([nn.AvgPool2d((2, 1)), nn.Conv2d(1, 1, 1)], (1, 8, 8), (0, 0.5), (1, 2)),
        ([nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(1, 1, 1)], (1, 8, 8), (1, 1), (2, 2)),
        ([nn.ZeroPad2d((0, 1, 2, 0)), nn.Conv2d(1, 1, 2)], (1, 8, 8), (0.5, -1.5), (1, 1)),
        ([nn.ReflectionPad2d((1, 1, 2, 0)), nn.Conv2d(1, 1, (3, 2))], (1, 8, 8), (-0.5, -1), (1, 1)),
        ([nn.Upsample(scale_factor=2), nn.Conv2d(1, 1, 1)], (1, 8, 8), (-0.25, -0.25), (0.5, 0.5)),
        (
            [nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(1, 1, 1)],
            (1, 8, 8),
            (-0.25, -0.25),
            (0.5, 0.5),
        ),
        ([nn.ConvTranspose2d(1, 1, 3, 2, 1), nn.Conv2d(1, 1, 1)], (1, 8, 8), (0, 0), (0.5, 0.5)),
        ([nn.AdaptiveAvgPool2d(4), nn.Conv2d(1, 1, 1)], (1, 8, 8), (0.5, 0.5), (2, 2)),
        ([nn.AdaptiveAvgPool2d(3), nn.Conv2d(1, 1, 1)], (1, 7, 7), (1, 1), (2, 2)),
        ([nn.AdaptiveAvgPool2d(3), nn.Conv2d(1, 1, 1)], (1, 8, 8), (5 / 6, 5 / 6), (8 / 3, 8 / 3)),
    ],
    ids=str,
)  # fmt: skip
def test_entries_stand_at_the_middles_of_their_windows(layers, shape, origin, step):
    found = stands(layers, shape)
    np.testing.assert_allclose(found.origin, origin, atol=1e-12)
    np.testing.assert_allclose(found.column, (step[0], 0), atol=1e-12)
    np.testing.assert_allclose(found.row, (0, step[1]), atol=1e-12)


SIDES = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(0, 1), st.integers(1, 2))


@settings(max_examples=4, deadline=None)
@given(layers=st.lists(st.tuples(SIDES, SIDES, st.booleans()), min_size=1, max_size=3))
def test_they_are_the_middles_of_what_an_entry_sees(layers):
    made, shape = [], (1, 29, 33)
    for rows, columns, pools in layers:
        kernel, stride, padding, dilation = zip(rows, columns, strict=True)
        padding = tuple(min(p, k // 2) for p, k in zip(padding, kernel, strict=True))
        if pools:
            made.append(nn.AvgPool2d(kernel, stride, padding))
        else:
            made.append(nn.Conv2d(1, 1, kernel, stride, padding, dilation))
            nn.init.constant_(made[-1].weight, 1.0)
    network = nn.Sequential(*made, nn.Conv2d(1, 1, 1)).double()
    nn.init.constant_(network[-1].weight, 1.0)
    image = torch.ones(1, *shape, dtype=torch.float64, requires_grad=True)
    out = network(image)
    if min(out.shape[2:]) < 3:
        return
    found = stands(list(network), shape)
    middle = [size // 2 - 1 for size in out.shape[2:]]
    for i, j in np.add(middle, [(0, 0), (0, 1), (1, 0)]):
        (own,) = torch.autograd.grad(out[0, 0, i, j], image, retain_graph=True)
        rows, columns = np.nonzero(own[0, 0].numpy())
        inside = rows.min() > 0 and columns.min() > 0 and rows.max() < 28 and columns.max() < 32
        if not inside:
            continue
        seen = (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2
        stand = np.array(found.origin) + j * np.array(found.column) + i * np.array(found.row)
        np.testing.assert_allclose(stand, seen, atol=1e-9)


def test_axes_that_change_places_are_followed():
    b = GraphBuilder((2, 6, 8))
    turned = b.add(Permute((0, 2, 1)), 0, name="turned")
    conv = b.add(
        Conv(torch.ones(1, 2, 2, 3).double(), torch.zeros(1).double(), stride=(2, 1)), turned, name="conv"
    )
    flat = b.add(Reshape((16,)), conv, name="flat")
    graph = b.build(b.add(Dense(torch.ones(2, 16).double(), torch.zeros(2).double()), flat, name="logits"))
    assert standing(graph, conv) == Standing((0.5, 1.0), (0.0, 1.0), (2.0, 0.0))


def test_where_an_entry_is_in_no_one_place_the_map_is_stretched():
    b = GraphBuilder((1, 8, 8))
    folded = b.add(Reshape((1, 4, 16)), 0, name="folded")
    both = b.add(Concat(1), folded, folded, name="both")
    conv = b.add(Conv(torch.ones(1, 1, 1, 1).double(), torch.zeros(1).double()), both, name="conv")
    flat = b.add(Reshape((128,)), conv, name="flat")
    graph = b.build(b.add(Dense(torch.ones(2, 128).double(), torch.zeros(2).double()), flat, name="logits"))
    assert standing(graph, conv) == Standing((-0.25, 0.0), (0.5, 0.0), (0.0, 1.0))


def test_functional_convolutions_have_names_too():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(2, 1, 3, 3))
            self.head = nn.Linear(200, 2)

        def forward(self, x):
            return self.head(torch.relu(functional.conv2d(x, self.w)).flatten(1))

    (only,) = convolutions(graph_of(Plain()))
    assert only.name
    assert GradCam(only.name).settled(graph_of(Plain())).layer == only.name
