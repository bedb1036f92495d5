"""What values cannot leave whatever the image, entry by entry, against images drawn far and wide."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from steadygaze.errors import ModelError
from steadygaze.network.joint import MatrixProduct, Multiply
from steadygaze.network.layers import Pad
from steadygaze.network.reading.assembling import entries, picking, ranges
from steadygaze.network.reading.assembling.assembly import Assembler
from steadygaze.network.reading.assembling.ranges import range_of
from steadygaze.network.reading.fidelity import check_fidelity
from steadygaze.network.reading.load import load_network
from steadygaze.network.taking import Take

SHAPE = (2, 3, 4)


def rectified(asm):
    return asm.leaky_relu(asm.pixels, 0.0)


def squared_columns(asm):
    """Rows of one number below 0 and three above: only one column of the products is known."""
    x = asm.pixels
    q = asm.leaky_relu(asm.scale_shift(x, 2.0, 0.1), 0.0)
    v = asm.append(Pad(((0, 0), (0, 0), (0, 1)), 1.0), asm.crop(x, 3, 0, 3))
    return asm.append(MatrixProduct(), q, asm.append(MatrixProduct(), asm.permute(q, (0, 1, 3, 2)), v))


BODIES = {
    "framed": lambda asm: asm.pad(rectified(asm), ((0, 0), (0, 0), (1, 0), (0, 2)), -0.5),
    "cropped": lambda asm: asm.crop(asm.pad(rectified(asm), ((0, 0), (0, 0), (1, 1), (0, 0)), -2.0), 2, 1, 4),
    "cropped and framed": lambda asm: asm.append(Pad(((0, 0), (-1, 2), (1, -2)), 3.0), rectified(asm)),
    "turned": lambda asm: asm.permute(BODIES["framed"](asm), (0, 3, 1, 2)),
    "taken": lambda asm: asm.append(
        Take(torch.tensor([3, 0, 0]), 1), asm.permute(BODIES["framed"](asm), (0, 1, 2, 3))
    ),
    "joined": lambda asm: asm.concat([asm.pixels, rectified(asm), asm.scale_shift(rectified(asm), -1, 2)], 2),
    "with an axis more": lambda asm: asm.reshape(BODIES["joined"](asm), (1, 2, 1, 9, 4)),
    "in a row": lambda asm: asm.reshape(BODIES["joined"](asm), (1, 72)),
    "shifted": lambda asm: asm.scale_shift(BODIES["joined"](asm), np.linspace(-1, 2, 4), 0.25),
    "added": lambda asm: asm.add(BODIES["joined"](asm), BODIES["joined"](asm)),
    "clamped": lambda asm: asm.clip(BODIES["joined"](asm), -0.5, 1.5),
    "multiplied": lambda asm: asm.append(Multiply(), BODIES["joined"](asm), BODIES["joined"](asm)),
    "matrices": squared_columns,
    "cosines": lambda asm: asm.smooth(asm.clip(BODIES["joined"](asm), -0.5, 1.5), "cos"),
}


def spread(asm, axes=(1, 2, 3), of=None, less=None):
    """The largest number less the smallest, as images are stretched to what a screen shows."""
    x = asm.pixels if of is None else of(asm)
    other = x if less is None else less(asm)
    least = picking.negative(asm, picking.largest(asm, picking.negative(asm, other), axes, True, False))
    return asm.add(picking.largest(asm, x, axes, True, False), picking.negative(asm, least))


BODIES |= {
    "spread": spread,
    "spread of columns": lambda asm: spread(asm, (2,)),
    "spread of many": lambda asm: spread(asm, of=many),
    "of another": lambda asm: spread(asm, less=lambda asm: asm.scale_shift(asm.pixels, 1.0, 0.5)),
    "of other windows": lambda asm: asm.add(
        picking.largest(asm, asm.pixels, (1, 2), True, False),
        picking.largest(asm, picking.negative(asm, asm.pixels), (1, 3), True, False),
    ),
    "of the same twice": lambda asm: asm.add(
        picking.largest(asm, asm.pixels, (1, 2, 3), True, False),
        picking.largest(asm, asm.pixels, (1, 2, 3), True, False),
    ),
}


def many(asm):
    """More numbers than one window holds, so that the largest is that of parts of them."""
    x = asm.reshape(asm.pixels, (1, 24, 1, 1))
    return asm.expand(x, (1, 24, 8, 8))


def entries_of(shape):
    """Each entry alone, and boxes of several."""
    spans = [[(0, size), *((i, i + 1) for i in range(size)), (0, max(1, size - 1))] for size in shape]
    return itertools.product(*spans)


def made(name):
    asm = Assembler(SHAPE)
    value = BODIES[name](asm)
    return asm.nodes, value.node, asm.build(value)


def beyond(name):
    """How far images' values are beyond their ranges, at most; 0 or less if they are not."""
    nodes, last, graph = made(name)
    generator = np.random.default_rng(1)
    images = generator.normal(size=(400, *SHAPE)) * 10.0 ** generator.integers(-3, 4, (400, 1, 1, 1))
    values = graph.values_at(torch.from_numpy(images), [last])[last]
    worst = -math.inf
    for part in [None, *entries_of(nodes[last].shape)]:
        low, high = range_of(nodes, last, part)
        seen = values if part is None else values[:, *(slice(*span) for span in part)]
        worst = max(worst, low - float(seen.min()), float(seen.max()) - high)
    return worst


@pytest.mark.parametrize("name", BODIES)
def test_values_stay_within_their_ranges(name):
    assert beyond(name) <= 0


def test_the_largest_less_the_smallest_is_known_not_to_be_below_0():
    for name in BODIES:
        if name.startswith("spread"):
            assert ends_of(name)[0] == 0
        elif name.startswith("of "):
            assert ends_of(name)[0] == -math.inf


def ends_of(name):
    nodes, last, _ = made(name)
    return range_of(nodes, last)


def test_each_entry_is_known_as_far_as_its_own_inputs_are():
    nodes, last, _ = made("joined")
    rows = [range_of(nodes, last, ((0, 2), (row, row + 1), (0, 4))) for row in range(9)]
    assert rows[:3] == [(-math.inf, math.inf)] * 3
    assert rows[3:6] == [(0.0, math.inf)] * 3
    assert [high for _, high in rows[6:]] == pytest.approx([2.0] * 3)
    nodes, last, _ = made("matrices")
    assert range_of(nodes, last)[0] == -math.inf
    assert range_of(nodes, last, ((0, 2), (0, 3), (3, 4)))[0] == 0
    nodes, last, _ = made("cropped")
    assert range_of(nodes, last)[0] == 0  # its frame is cut off again


@pytest.mark.parametrize(
    ("name", "body"), [("Permute", "turned"), ("Concat", "joined"), ("Pad", "framed"), ("Take", "taken")]
)
def test_an_entry_taken_for_its_neighbour_is_seen(name, body, monkeypatch):
    plain = entries.entries_read

    def moved(layer, part, shapes):
        read = plain(layer, part, shapes)
        if type(layer).__name__ != name:
            return read
        if name == "Concat":
            return read[::-1]
        if name == "Pad":
            return [entries.whole(shapes[0])]
        return [tuple((0, 1) for _ in shapes[0])]

    monkeypatch.setattr(ranges, "entries_read", moved)
    if name == "Pad":
        monkeypatch.setattr(ranges, "reads_frame", lambda layer, part, shape: False)
    assert beyond(body) > 0


class LinearAttention(torch.nn.Module):
    """Of EfficientViT (Cai et al., ICCV 2023): a column of ones in the values makes what is divided by."""

    def __init__(self, padded: bool = True, epsilon: float = 1e-4) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.qkv = torch.nn.Conv2d(1, 12, 2, stride=2)
        self.out = torch.nn.Linear(36, 4)
        self.padded, self.epsilon = padded, epsilon

    def forward(self, x):
        q, k, v = self.qkv(x).flatten(2).transpose(1, 2).chunk(3, dim=-1)
        q, k = q.relu(), k.relu()
        if self.padded:
            v = torch.nn.functional.pad(v, (0, 1), value=1.0)
            made = q @ (k.transpose(1, 2) @ v)
            made = made[..., :-1] / (made[..., -1:] + self.epsilon)
        else:
            made = q @ (k.transpose(1, 2) @ v) / (q @ k.sum(1, keepdim=True).transpose(1, 2) + self.epsilon)
        return self.out(made.flatten(1))


@pytest.mark.parametrize("padded", [True, False])
def test_linear_attention_is_read(padded):
    module = LinearAttention(padded).eval()
    network = load_network(module, input_shape=(1, 6, 6))
    images = torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    check_fidelity(network, images.numpy())
    torch.testing.assert_close(
        network.graph.forward(images), module.double()(images).detach(), rtol=1e-9, atol=1e-9
    )


def test_what_may_come_below_0_is_not_divided_by():
    with pytest.raises(ModelError, match="divides by a computed value that may be below 0"):
        load_network(LinearAttention(epsilon=-1e-4).eval(), input_shape=(1, 6, 6))


@pytest.mark.parametrize(("low", "high"), [(-1.5, 1.2), (-0.2, 1.5), (0.3, 0.4), (-1.4, -1.0), (-1.5, 1.6)])
def test_a_cosine_between_its_zeros_is_known_not_to_be_below_0(low, high):
    asm = Assembler((1, 1, 1))
    least, most = range_of(asm.nodes, asm.smooth(asm.clip(asm.pixels, low, high), "cos").node)
    true = min(math.cos(low), math.cos(high)) if high < math.pi / 2 else -1.0
    assert true - 1e-9 <= least <= true
    assert most == 1.0
