"""Windows over three axes, several maps of one image, and frames of minus infinity, as modules have them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from steadygaze.errors import ModelError
from steadygaze.network.reading.assembling import volumes
from steadygaze.network.reading.fidelity import check_fidelity
from steadygaze.network.reading.load import load_network

SHAPE = (4, 6, 8)


class Function(nn.Module):
    """A function of the image, with parts of its own, ended by a dense layer."""

    def __init__(self, body, *parts):
        super().__init__()
        torch.manual_seed(1)
        self.parts = nn.ModuleList(part() for part in parts)
        self.body, self.out = body, nn.LazyLinear(5)

    def forward(self, x):
        return self.out(self.body(self.parts, x).flatten(1))


def frames(x):
    """The channels as slices of one channel."""
    return x.unsqueeze(1)


def halves(x):
    """Two channels of two slices."""
    return x.unflatten(1, (2, 2))


def patches(x):
    """Twelve small maps of one image, as rows of a batch."""
    rows = x.unflatten(2, (3, 2)).unflatten(4, (4, 2)).permute(0, 2, 4, 1, 3, 5)
    return rows.reshape(-1, 4, 2, 2)


BODIES = {
    # Roy et al., HybridSN, IEEE GRSL 2020: bands of a picture as slices.
    "bands": Function(
        lambda p, x: functional.max_pool3d(p[1](p[0](frames(x)).relu()).relu(), (1, 2, 2)),
        lambda: nn.Conv3d(1, 3, (3, 3, 3), padding=(0, 1, 1)),
        lambda: nn.Sequential(nn.BatchNorm3d(3), nn.Conv3d(3, 2, (2, 1, 3), stride=(1, 1, 2))),
    ),
    "groups and steps": Function(
        lambda p, x: p[0](halves(x)).relu(),
        lambda: nn.Conv3d(2, 6, 2, stride=(1, 2, 3), padding=1, dilation=(2, 1, 1), groups=2, bias=False),
    ),
    "same": Function(lambda p, x: p[0](halves(x)), lambda: nn.Conv3d(2, 2, (1, 3, 5), padding="same")),
    "pools": Function(
        lambda p, x: functional.avg_pool3d(functional.max_pool3d(frames(x), 2, 1, ceil_mode=True), (3, 2, 1)),
    ),
    "global": Function(
        lambda p, x: functional.adaptive_avg_pool3d(p[0](frames(x)).relu(), 1),
        lambda: nn.Conv3d(1, 3, 3),
    ),
    "uneven": Function(
        lambda p, x: torch.cat(
            [functional.adaptive_max_pool3d(halves(x), (1, 4, 3)), halves(x)[:, :, :1, :4, :3]], 1
        )
    ),
    "patches": Function(
        lambda p, x: p[0](patches(x)).relu().flatten(1).reshape(x.shape[0], -1),
        lambda: nn.Conv2d(4, 3, 2, padding=1, groups=1),
    ),
    "patches pooled": Function(
        lambda p, x: functional.adaptive_avg_pool2d(p[0](patches(x)).relu(), 1).reshape(x.shape[0], -1),
        lambda: nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False), nn.BatchNorm2d(4)),
    ),
    # As models from other frameworks have "same" padding before a max pooling.
    "frame": Function(
        lambda p, x: functional.max_pool2d(
            functional.pad(p[0](x), (0, 1, 1, 1), value=-float("inf")), 3, 2
        ),
        lambda: nn.Conv2d(4, 2, 1),
    ),
    "repeated rows": Function(
        lambda p, x: (p[0](x).flatten(2).repeat_interleave(3, dim=0) * torch.tensor([[[1.0]], [[2]], [[-1]]]))
        .relu()
        .reshape(x.shape[0], -1),
        lambda: nn.Conv2d(4, 2, 3),
    ),
}  # fmt: skip


def images(count=4):
    return np.random.default_rng(1).uniform(0, 1, (count, *SHAPE))


def made(name):
    module = copy.deepcopy(BODIES[name]).eval()
    module(torch.zeros(1, *SHAPE))
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm2d, nn.BatchNorm3d)):
            part.running_mean.uniform_(-0.2, 0.2)
            part.running_var.uniform_(0.5, 2.0)
    return module


def apart(name):
    """How far the network read is from the module, image by image."""
    module = made(name)
    network = load_network(module, input_shape=SHAPE)
    check_fidelity(network, images())
    rows = torch.from_numpy(images())
    ours, module = network.graph.forward(rows), module.double().requires_grad_(False)
    return max(float((ours[i] - module(rows[i : i + 1])[0]).abs().max()) for i in range(len(rows)))


@pytest.mark.parametrize("name", BODIES)
def test_it_is_read_as_the_module_computes_it(name):
    assert apart(name) <= 1e-9


def test_slices_in_another_order_are_seen(monkeypatch):
    plain = volumes._sliced

    def turned(asm, x):
        channels, depth, height, width = asm.shape(x)[1:]
        swapped = asm.permute(x, (0, 2, 1, 3, 4))
        return asm.reshape(swapped, (1, channels * depth, height, width)) if depth > 1 else plain(asm, x)

    monkeypatch.setattr(volumes, "_sliced", turned)
    monkeypatch.setattr("steadygaze.network.reading.fidelity.check_fidelity", lambda *_: None)
    module = made("groups and steps")
    network = load_network(module, input_shape=SHAPE)
    rows = torch.from_numpy(images())
    assert (network.graph.forward(rows) - module.double()(rows)).abs().max() > 1e-3


def test_a_frame_of_minus_infinity_is_for_a_max_pooling_alone():
    module = Function(lambda p, x: functional.pad(x, (1, 0), value=-float("inf")).relu())
    module.eval()(torch.zeros(1, *SHAPE))
    with pytest.raises(ModelError, match="frame of minus infinity; allowed is a max pooling right behind"):
        load_network(module, input_shape=SHAPE)
    rounded = Function(
        lambda p, x: functional.max_pool2d(
            functional.pad(x, (1, 1), value=-float("inf")), 3, 2, ceil_mode=True
        )
    )
    rounded.eval()(torch.zeros(1, *SHAPE))
    with pytest.raises(ModelError, match="hang over the end of a frame"):
        load_network(rounded, input_shape=SHAPE)


def test_rows_of_logits_are_refused_all_the_same():
    module = Function(lambda p, x: x.repeat_interleave(2, dim=0))
    module.eval()(torch.zeros(1, *SHAPE))
    with pytest.raises(ModelError):
        load_network(module, input_shape=SHAPE)


class Keeping(nn.Module):
    """Keeps what it computed of its weights for its next call, as LeViT and TinyViT do."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.rand(6))
        self.out = nn.LazyLinear(5)
        self.kept, self.last = {}, []

    def forward(self, x):
        if "bias" not in self.kept:
            self.kept["bias"] = self.bias[[0, 2, 1, 3, 5, 4]]
            self.last.append((self.bias * 2,))
        return self.out((x.mean(1) + self.kept["bias"][:, None]).relu().flatten(1))


def test_a_module_that_keeps_tensors_with_gradients_is_read_after_a_call():
    module = Keeping().eval()
    module(torch.zeros(1, *SHAPE))
    kept = module.kept["bias"]
    assert not kept.is_leaf
    network = load_network(module, input_shape=SHAPE)
    check_fidelity(network, images())
    assert module.kept["bias"] is kept
