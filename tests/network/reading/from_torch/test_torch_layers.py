"""Piecewise linear layers of today, from modules and from `.pt2`, against the module itself."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from steadygaze.network.reading.fidelity import check_fidelity
from steadygaze.network.reading.load import load_network

SHAPE = (4, 6, 8)


class Function(nn.Module):
    """A function of a convolution of the image, ended by a dense layer."""

    def __init__(self, body, *parts):
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, padding=1)
        self.parts = nn.ModuleList(parts)
        self.token = nn.Parameter(torch.rand(1, 1, 4) - 0.5)
        self.places = nn.Parameter(torch.rand(1, 49, 4) - 0.5)
        self.mixing = nn.Parameter(torch.rand(4, 3) - 0.5)
        self.heads = nn.Parameter(torch.rand(4, 8, 3) - 0.5)
        self.out = nn.LazyLinear(5)
        self.body = body

    def forward(self, x):
        y = self.body(self, self.first(x))
        return self.out(y.flatten(1))


def through(*parts):
    return lambda m, y: nn.Sequential(*m.parts)(y), parts


def tokens(m, y):
    rows = y.flatten(2).transpose(1, 2)
    return (torch.cat([m.token.expand(rows.shape[0], -1, -1), rows], dim=1) + m.places).relu()


def made_of_constants(m, y):
    """Attention and dropout of what is learnt, which evaluation draws nothing for."""
    places = functional.scaled_dot_product_attention(m.places, m.places, m.places)
    return y.flatten(2).transpose(1, 2).relu() + functional.dropout(places, 0.5, m.training)[:, :48]


def several_times(m, y):
    """Repeated along a new axis in front, which is no batch."""
    return y.flatten(2).expand(3, -1, -1, -1).permute(1, 0, 2, 3).relu()


def recurrent(m, y):
    found, last = m.parts[0](y.flatten(2))
    return torch.cat([found[:, -1], last[0]], dim=1)


SPREAD = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)
CIRCULAR = nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular")


def assigned(module, y):
    """Written into what was empty, into what was zeros, and into itself."""
    out, frame = torch.empty_like(y), y.new_zeros(y.shape[0], 4, 8, 8)
    for channel in range(4):
        out[:, channel] = y[:, channel] * (channel + 1)
    frame[:, :, 1:7] = out
    frame[:, 0, 0] = 0.5
    frame[:, 1::2, :, 3] *= 2
    return frame.relu()


def placed(module, y):
    """Written to places that are named."""
    out = y + 0.25
    out[:, [2, 0]] = 2 * y[:, 1:3]
    return out.relu()


BODIES = {
    "absolute": (lambda m, y: y.abs(), ()),
    "hard sigmoid": through(nn.Hardsigmoid()),
    "soft shrinkage": through(nn.Softshrink(0.3)),
    "threshold": through(nn.Threshold(0.1, 0.1)),
    "hard tanh": through(nn.Hardtanh(-0.2, 0.3)),
    "largest of two": (lambda m, y: torch.maximum(y[:, :2], y[:, 2:]), ()),
    "smallest of two, broadcast": (lambda m, y: torch.min(y, y.mean((2, 3), keepdim=True)), ()),
    "largest of a constant": (lambda m, y: torch.maximum(y, m.token[0, 0][:, None, None]), ()),
    "filled": (
        lambda m, y: torch.cat([torch.maximum(y, torch.full_like(y, 0.1)), torch.ones_like(y[:, :1])], 1)
        + y.new_zeros((y.shape[0], 5, 1, 8)),
        (),
    ),
    "maxout": (lambda m, y: y.unflatten(1, (2, 2)).max(dim=2).values, ()),
    "largest of channels": (lambda m, y: y.amax(1), ()),
    "smallest of a map": (lambda m, y: y.amin((2, 3), keepdim=True), ()),
    "global maximum": through(nn.AdaptiveMaxPool2d(1)),
    "global maximum of a large map": through(nn.ZeroPad2d(8), nn.AdaptiveMaxPool2d(1)),
    "uneven maxima": through(nn.AdaptiveMaxPool2d((4, 5))),
    "uneven averages": through(nn.ReLU(), nn.AdaptiveAvgPool2d((4, 3))),
    "transposed convolution": through(SPREAD, nn.ReLU()),
    "nearest": through(nn.ReLU(), nn.Upsample(scale_factor=2)),
    "bilinear": through(nn.ReLU(), nn.UpsamplingBilinear2d(size=(9, 11))),
    "bilinear by a factor": through(nn.ReLU(), nn.Upsample(scale_factor=1.5, mode="bilinear")),
    "bicubic": through(nn.ReLU(), nn.Upsample(scale_factor=2, mode="bicubic")),
    "area": (lambda m, y: functional.interpolate(y.relu(), size=(4, 3), mode="area"), ()),
    "reflected": through(nn.ReflectionPad2d((1, 2, 0, 3)), nn.ReLU()),
    "replicated": through(nn.ReplicationPad2d(2), nn.ReLU()),
    "circular convolution": through(CIRCULAR, nn.ReLU()),
    "pixel shuffle": through(nn.PixelShuffle(2), nn.ReLU()),
    "pixel unshuffle": through(nn.PixelUnshuffle(2), nn.ReLU()),
    "channel shuffle": through(nn.ChannelShuffle(2), nn.Conv2d(4, 4, 3, groups=2), nn.ReLU()),
    "in one dimension": (
        lambda m, y: nn.Sequential(*m.parts)(y.flatten(2)),
        (nn.Conv1d(4, 3, 5, stride=2, padding=2), nn.ReLU(), nn.MaxPool1d(2), nn.ConvTranspose1d(3, 2, 3)),
    ),
    "averages in one dimension": (
        lambda m, y: nn.Sequential(*m.parts)(y.flatten(2).relu()),
        (nn.AvgPool1d(3, padding=1), nn.BatchNorm1d(4), nn.AdaptiveMaxPool1d(5), nn.AdaptiveAvgPool1d(3)),
    ),
    "class token and places": (tokens, ()),
    "made of constants": (made_of_constants, ()),
    "several times": (several_times, ()),
    "running sums": (lambda m, y: y.cumsum(2).relu(), ()),
    "folded": (lambda m, y: functional.fold(functional.unfold(y, 3).relu(), (6, 8), 3), ()),
    "at places of a grid": (
        lambda m, y: functional.grid_sample(
            y, 2 * m.places[:, :48, :2].reshape(1, 6, 8, 2).expand(len(y), -1, -1, -1), align_corners=False
        ).relu(),
        (),
    ),
    "stacked": (lambda m, y: torch.stack([y, -y], dim=2).relu(), ()),
    "mean of channels": (lambda m, y: y.relu().mean(1, keepdim=True) + y.sum((1, 3), keepdim=True), ()),
    "einsum": (lambda m, y: torch.einsum("bchw,cd->bhwd", y.relu(), m.mixing), ()),
    "a matrix for each channel": (lambda m, y: (y.relu() @ m.heads).relu(), ()),
    "mixing": (lambda m, y: (y.flatten(2).transpose(1, 2) @ m.mixing).relu() - m.mixing[0], ()),
    "expanded": (lambda m, y: y[:, :1].expand(-1, 3, -1, -1) + y[:, :3].relu(), ()),
    "repeated": (lambda m, y: y.repeat(1, 2, 1, 1).relu() + y.repeat_interleave(2, dim=1), ()),
    "rolled and flipped": (lambda m, y: y.roll((1, -2), (2, 3)).relu() + y.flip(3), ()),
    "assigned, channel by channel": (assigned, ()),
    "assigned in places": (placed, ()),
    "other orders": (lambda m, y: y[:, [2, 0, 3, 1]].relu() + y.movedim(1, -1).movedim(-1, 1), ()),
    "steps of channels": (lambda m, y: y[:, ::2].relu(), ()),
    "recurrent": (recurrent, (nn.RNN(48, 5, nonlinearity="relu", batch_first=True),)),
    "recurrent both ways": (
        lambda m, y: m.parts[0](y[:, 0].transpose(0, 1).transpose(0, 1))[0],
        (nn.RNN(8, 3, 2, nonlinearity="relu", batch_first=True, bidirectional=True),),
    ),
}  # fmt: skip


def module_of(name):
    body, parts = BODIES[name]
    torch.manual_seed(sum(map(ord, name)))
    made = Function(body, *copy.deepcopy(parts)).eval()
    with torch.no_grad():
        made(torch.zeros(2, *SHAPE))
        for part in made.modules():
            if isinstance(part, nn.RNN | nn.Conv2d):
                for weight in part.parameters():
                    weight *= 1.5
    return made


def agrees(network, module):
    images = np.random.default_rng(0).uniform(0, 1, (5, *SHAPE))
    assert check_fidelity(network, images).gradient_by == "autograd"
    # The oracle: the module itself, in double precision, one image at a time.
    reference, x = copy.deepcopy(module).double(), torch.from_numpy(images).requires_grad_()
    wide = torch.cat([reference(x[place : place + 1]) for place in range(len(x))])
    (gradient,) = torch.autograd.grad(wide[:, 2].sum(), x)
    assert torch.allclose(network.graph.forward(x.detach()), wide.detach(), atol=1e-7)
    assert torch.allclose(network.graph.gradient_at(x.detach(), 2), gradient, atol=1e-7)
    assert network.graph.piecewise_linear


@pytest.mark.parametrize("name", BODIES)
def test_a_module_agrees_with_its_graph(name):
    module = module_of(name)
    agrees(load_network(module, input_shape=SHAPE), module)


@pytest.mark.parametrize(
    "name",
    ["nearest", "bilinear by a factor", "class token and places", "filled", "maxout",
     "in one dimension",
     "transposed convolution", "expanded", "repeated", "a matrix for each channel", "uneven maxima"],
)  # fmt: skip
def test_a_program_with_an_open_batch_agrees_with_the_module(name, tmp_path):
    module, path = module_of(name), tmp_path / "net.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        batch = ({0: torch.export.Dim("batch", min=2)},)
        program = torch.export.export(module, (torch.zeros(2, *SHAPE),), dynamic_shapes=batch)
        torch.export.save(program, path)
    agrees(load_network(path, input_shape=SHAPE), module)


def test_an_enlarged_map_costs_no_matrix_of_whole_maps():
    """Weights of 2 x 16 x 8 and of 2 x 24 x 12 numbers, not of (3 x 16 x 24) x (3 x 8 x 12)."""
    network = nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Flatten(), nn.Linear(1152, 2))
    graph = load_network(network, input_shape=(3, 8, 12)).graph
    held = [v.numel() for v in vars(graph.nodes[1].layer).values() if isinstance(v, torch.Tensor)]
    assert sorted(held) == [16 * 8, 24 * 12]
