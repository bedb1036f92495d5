"""Small problems of every kind, one line each; batteries run over all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
import torch
from torch import nn

from oracles import MAPS, Locator, Sampled, grad_cam_of, gradients_of, logits_of, sampled
from steadygaze.geometry.kinds import UNDECIDED
from steadygaze.network.reading.load import load_network
from steadygaze.network.saliencies import by_name as saliency_by_name
from steadygaze.perturbation import (
    Affine,
    Blend,
    Blur,
    Brightness,
    Chain,
    Contrast,
    Direction,
    Exposure,
    Gamma,
    Hue,
    Patch,
    Perspective,
    Rotate,
    Saturation,
    Scale,
    Shear,
    Translate,
)
from steadygaze.perturbation.chain import AbstractPerturbation
from steadygaze.question.inconsistency import by_name as inconsistency_by_name
from steadygaze.question.posing import pose
from steadygaze.question.problem import Problem
from steadygaze.search.base import AbstractSearch, CellMap, Options
from steadygaze.search.sweep import Sweep
from steadygaze.tolerance import Tolerance

# -- networks


class Residual(nn.Module):
    """Two branches that are added, then a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.third = nn.Conv2d(3, 3, 3, padding=1)
        self.head = nn.Linear(108, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        x = torch.relu(x + self.third(torch.relu(self.second(x))))
        return self.head(x.flatten(1))


class TwoReaders(nn.Module):
    """Rectified units that two layers read, a dense one and a sum or a concatenation; rectified logits."""

    def __init__(self, beside: bool) -> None:
        super().__init__()
        self.beside = beside
        self.first, self.second = nn.Linear(36, 8), nn.Linear(8, 8)
        self.head = nn.Linear(16 if beside else 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x.flatten(1)))
        y = torch.relu(self.second(x))
        return torch.relu(self.head(torch.cat([x, y], dim=1) if self.beside else x + y))


class Absolute(nn.Module):
    """|x|."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.abs()


class Extremes(nn.Module):
    """Channels in pairs: the larger of each, less the smaller of each and a constant."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = x[:, ::2], x[:, 1::2]
        return torch.maximum(first, second) - 0.5 * torch.minimum(first, torch.full_like(first, 0.2))


class Recurrent(nn.Module):
    """Rows one after the other, the last state of a layer that keeps one."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.RNN(6, 4, nonlinearity="relu", batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(1.5 * self.cell(x.flatten(1, 2))[0][:, -1])


def ended(*last: nn.Module, outputs: int = 3) -> nn.Module:
    """Dense layers with something behind the logits, or other numbers of them."""
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, outputs), *last)


def mostly_off(module: nn.Module) -> nn.Module:
    """Of six classes few are ever above 0."""
    with torch.no_grad():
        module[3].bias[[0, 1, 3, 5]] -= 9.0
        module[3].bias[[2, 4]] += 1.0
    return module


def mlp(activation: Callable[[], nn.Module], inputs: int = 36, width: int = 10) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(inputs, width),
        activation(),
        nn.Linear(width, 8),
        activation(),
        nn.Linear(8, 3),
    )


def prelu() -> nn.Module:
    made = nn.PReLU()
    nn.init.constant_(made.weight, 0.3)
    return made


def convolutional(*middle: nn.Module, channels: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, 3, 3, padding=1), *middle, nn.Flatten(), nn.LazyLinear(3))


def batch_norm() -> nn.Module:
    made = nn.BatchNorm2d(3)
    nn.init.uniform_(made.running_mean, -0.3, 0.3)
    nn.init.uniform_(made.running_var, 0.5, 2.0)
    nn.init.uniform_(made.weight, -1.0, 1.5)
    return made


def spoilt(module: nn.Module) -> nn.Module:
    """With units that are zero, doubled, always off and always on, as pruned networks have them."""
    first, second = (layer for layer in module if isinstance(layer, nn.Linear) and layer.out_features > 3)
    with torch.no_grad():
        first.weight[0], first.bias[0] = 0.0, 0.0
        first.weight[2], first.bias[2] = first.weight[1], first.bias[1]
        first.weight[4], first.bias[4] = -2 * first.weight[3], -2 * first.bias[3]
        first.bias[5] = -50.0
        second.bias[0] = 50.0
        second.weight[1], second.bias[1] = second.weight[2], second.bias[2]
    return module


def without_bias(module: nn.Module) -> nn.Module:
    """Units that see only blank pixels are 0 wherever the clip holds those at 0."""
    module(torch.zeros(1, 1, 6, 6, dtype=next(module.parameters()).dtype))
    with torch.no_grad():
        for layer in module:
            if getattr(layer, "bias", None) is not None:
                layer.bias.zero_()
    return module


def dead_layer(module: nn.Module) -> nn.Module:
    """All units of the second layer are always on: nothing is cut there."""
    with torch.no_grad():
        module[3].bias += 50.0
    return module


def idle(module: nn.Module) -> nn.Module:
    """Most units of the first layer are off everywhere, as in trained networks."""
    with torch.no_grad():
        module[1].bias -= 0.5
    return module


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: mlp(nn.ReLU),
    "wide": lambda: mlp(nn.ReLU, width=40),
    "idle": lambda: idle(mlp(nn.ReLU, width=60)),
    "leaky": lambda: mlp(lambda: nn.LeakyReLU(0.1)),
    "prelu": lambda: mlp(prelu),
    "hardtanh": lambda: mlp(nn.Hardtanh),
    "relu6": lambda: mlp(nn.ReLU6),
    "spoilt": lambda: spoilt(mlp(nn.ReLU)),
    "dead layer": lambda: dead_layer(mlp(nn.ReLU)),
    "no bias": lambda: without_bias(convolutional(nn.ReLU(), nn.Flatten(), nn.LazyLinear(8), nn.ReLU())),
    "max pool": lambda: convolutional(nn.ReLU(), nn.MaxPool2d(2)),
    "pool first": lambda: convolutional(nn.MaxPool2d(3, stride=2, padding=1), nn.ReLU()),
    "average pool": lambda: convolutional(batch_norm(), nn.ReLU(), nn.AvgPool2d(2)),
    "residual": Residual,
    "rectified logits": lambda: mostly_off(ended(nn.ReLU(), outputs=6)),
    "leaky logits": lambda: ended(nn.LeakyReLU(0.2)),
    "clipped logits": lambda: ended(nn.Hardtanh(-2.0, 2.0)),
    "pooled logits": lambda: ended(
        nn.Unflatten(1, (1, 3, 2)), nn.MaxPool2d((1, 2)), nn.ReLU(), nn.Flatten(), outputs=6
    ),
    "two classes": lambda: ended(outputs=2),
    "no hidden layer": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 3)),
    "only rectified": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 3), nn.ReLU()),
    "rectified twice": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Hardtanh(), nn.Linear(8, 3)
    ),
    "rectified pixels": lambda: nn.Sequential(nn.ReLU(), *mlp(nn.ReLU)),
    "pooled pixels": lambda: nn.Sequential(nn.MaxPool2d(2, 1), *mlp(nn.ReLU, inputs=25)),
    "conv logits": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 3, 4), nn.ReLU(), nn.Flatten()
    ),
    "read twice": lambda: TwoReaders(beside=False),
    "side by side": lambda: TwoReaders(beside=True),
    "absolute": lambda: mlp(Absolute),
    "hard sigmoid": lambda: mlp(nn.Hardsigmoid),
    "shrunk": lambda: mlp(lambda: nn.Softshrink(0.2)),
    "extremes": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, stride=2), Extremes(), nn.Flatten(), nn.Linear(18, 3)
    ),
    "mirrored": lambda: nn.Sequential(
        nn.ReflectionPad2d((1, 0, 2, 1)),
        nn.Conv2d(1, 2, 3, stride=3),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
        nn.AdaptiveMaxPool2d((3, 2)),
        nn.Flatten(),
        nn.LazyLinear(3),
    ),
    "spread": lambda: nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=2),
        nn.ReLU(),
        nn.ConvTranspose2d(2, 2, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Upsample(size=(4, 5), mode="bilinear"),
        nn.Flatten(),
        nn.LazyLinear(3),
    ),
    "recurrent": Recurrent,
    "sigmoid": lambda: mlp(nn.Sigmoid),
    "tanh": lambda: mlp(nn.Tanh),
    "gelu": lambda: mlp(nn.GELU),
    "selu": lambda: mlp(nn.SELU),
    "mish": lambda: mlp(nn.Mish),
    "hard swish": lambda: mlp(nn.Hardswish),
    "softplus": lambda: mlp(lambda: nn.Softplus(beta=3.0)),
    "silu conv": lambda: convolutional(batch_norm(), nn.SiLU(), nn.MaxPool2d(2)),
    "colour mlp": lambda: mlp(nn.ReLU, inputs=108),
    "colour conv": lambda: convolutional(nn.ReLU(), nn.MaxPool2d(2), channels=3),
}


@cache
def network(name: str) -> nn.Module:
    """The network, with weights large enough that the box holds many regions and several classes."""
    torch.manual_seed(sum(map(ord, name)))
    module = NETWORKS[name]().double().eval()
    channels = 3 if name.startswith("colour") else 1
    with torch.no_grad():
        module(torch.zeros(1, channels, 6, 6, dtype=torch.float64))
        for layer in module.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                layer.weight *= 2.0
    return module


def picture(channels: int) -> np.ndarray:
    """A bright stroke on a blank background: many pixels are equal, and 0, as in scanned digits."""
    rng = np.random.default_rng(channels)
    image = np.zeros((channels, 6, 6))
    image[:, 1:5, 2:4] = rng.uniform(0.3, 1.0, (channels, 4, 2))
    image[:, 2, 1:5] = 1.0
    return image


# -- perturbations

NOISE = np.random.default_rng(8).uniform(-1, 1, (1, 6, 6))
BRIGHT = Brightness(-0.3, 0.3)
SPOT = Patch(0, 1, top=1, left=1, size=2)
RED_SPOT = Patch(0, 1, top=3, left=3, size=2, value=(1, 0, 0.5))
USUAL = Tolerance()
CHAINS: dict[str, AbstractPerturbation] = {
    "brightness": BRIGHT,
    "one-sided": Brightness(0, 0.4),
    "spot": BRIGHT | SPOT,
    "blended spot": Patch(0, 1, top=2, left=2, height=3, width=2, value=0.4, mode="blend") | BRIGHT,
    "contrast": Contrast(-0.5, 0.5) | BRIGHT,
    "direction": Direction(-1, 1, array=NOISE),
    "fog": Blend(0, 0.6, target="fog") | BRIGHT,
    "colours": Saturation(-1, 1) | BRIGHT,
    "colour spot": Saturation(-1, 0.5)
    | Brightness(-0.2, 0.2)
    | Patch(0, 1, top=3, left=3, size=2, value=(1, 0, 0.5)),
    "three": Contrast(-0.3, 0.3) | BRIGHT | SPOT,
    "four": Contrast(-0.2, 0.2) | BRIGHT | SPOT | Direction(0, 0.5, array=NOISE),
    "shift": Translate(dx=(-1.5, 2.5)),
    "shift both": Translate(dx=(-0.6, 1.2), dy=(-0.5, 0.5)),
    "shift, brighter": Translate(dx=(-1.0, 1.0)) | Brightness(-0.2, 0.2),
    # Not piecewise affine: for bounds.
    "product": BRIGHT | Contrast(-0.3, 0.3),
    "turn": Rotate(-15, 15),
    "zoom, brighter": Scale(-0.2, 0.2) | BRIGHT,
    "askew": Affine(degrees=(-10, 15), scale=(-0.1, 0.2), shear=0.1) | Exposure(-0.1, 0.1),
    "aslant": Perspective(yaw=(-15, 20), pitch=(-10, 5), distance=12),
    "sheared": Shear(x=(-0.2, 0.2), y=(-0.1, 0.1)),
    "bilinear shift": Translate(dx=(-0.6, 1.2), dy=(-0.5, 0.5), interpolation="bilinear"),
    "blurred": Blur(0, 1) | BRIGHT,
    "gamma": Gamma(-0.3, 0.5),
    "hue": Hue(-40, 60) | BRIGHT,
}


# -- problems


@dataclass(frozen=True)
class Variant:
    """One small problem, and how to answer it slowly."""

    net: str
    chain: str
    clip: tuple[float, float] | None = (0.0, 1.0)
    saliency: str = "gradient"
    inconsistency: str = "cosine"
    threshold: float = 0.3
    tolerance: Tolerance = USUAL
    device: str = "cpu"

    def __str__(self) -> str:
        extras = [] if self.clip else ["no clip"]
        extras += [
            word
            for word, usual in ((self.saliency, "gradient"), (self.inconsistency, "cosine"))
            if word != usual
        ]
        return ", ".join([self.net, self.chain, *extras])

    @property
    def module(self) -> nn.Module:
        """The network as PyTorch knows it."""
        return network(self.net)

    @cached_property
    def image(self) -> np.ndarray:
        """The unperturbed image."""
        return picture(3 if self.net.startswith("colour") else 1)

    @cached_property
    def perturbation(self) -> Chain:
        """The chain."""
        return Chain(CHAINS[self.chain])

    @cached_property
    def problem(self) -> Problem:
        """The question as the searches take it."""
        summed = self.saliency == "channel-sum"
        network = load_network(self.module, input_shape=self.image.shape)
        return pose(
            replace(network, graph=network.graph.to(self.device)),
            self.image,
            self.perturbation,
            label=None,
            saliency=saliency_by_name("gradient" if summed else self.saliency, channel_sum=summed),
            inconsistency=inconsistency_by_name(self.inconsistency),
            threshold=self.threshold,
            clip=self.clip,
            tolerance=self.tolerance,
        )

    @cached_property
    def map(self) -> CellMap:
        """What the sweep finds."""
        return swept(self.problem)

    def draw(self, count: int, seed: int = 0) -> np.ndarray:
        """Random theta of the box."""
        box = self.perturbation.box
        return box[:, 0] + np.random.default_rng(seed).random((count, len(box))) * (box[:, 1] - box[:, 0])

    def images(self, thetas: np.ndarray) -> np.ndarray:
        """The images that the network gets."""
        images = self.perturbation.apply(self.image, thetas)
        return images if self.clip is None else np.clip(images, *self.clip)

    def sampled(self, thetas: np.ndarray) -> Sampled:
        """The verdict at points, from the PyTorch module alone."""
        images = self.images(np.concatenate([np.zeros((1, thetas.shape[1])), thetas]))
        logits = logits_of(self.module, images)
        label = int(logits[0].argmax())
        maps = self._maps(images, label)
        original, maps = maps[0], maps[1:]
        expected = self.perturbation.expected(original, thetas) if self.perturbation.moves_map else original
        whole = maps.shape[-2:] == self.image.shape[-2:]
        compared = self.perturbation.compared(self.image.shape) if whole else np.ones(maps.shape[1:], bool)
        return sampled(
            logits[1:],
            maps,
            expected,
            compared,
            label=label,
            inconsistency=self.inconsistency,
            threshold=self.threshold,
        )

    def _maps(self, images: np.ndarray, label: int) -> np.ndarray:
        if self.saliency == "grad-cam":
            # The last convolution with what scales and activates it directly.
            layer = next(own for own in self.module if isinstance(own, nn.ReLU | nn.SiLU))
            return grad_cam_of(self.module, layer, images, label)
        if self.saliency == "softmax-gradient":
            return gradients_of(nn.Sequential(self.module, nn.Softmax(1)), images, label)
        gradients = gradients_of(self.module, images, label)
        return gradients * images if self.saliency == "gradient-x-input" else MAPS[self.saliency](gradients)


def mismatches(variant: Variant, map_: CellMap, thetas: np.ndarray) -> tuple[list[np.ndarray], int]:
    """Theta at which the map says otherwise than the PyTorch module, and at how many it says anything.

    Raises AssertionError where two cells hold the same point.
    """
    plain, locator = variant.sampled(thetas), Locator(map_.cells)
    wrong, decided = [], 0
    for k, theta in enumerate(thetas):
        found = locator.strictly(theta)
        assert len(found) <= 1, "cells overlap"
        if not found or map_.kind[found[0]] == UNDECIDED:
            continue
        decided += 1
        close = abs(plain.gap[k]) < 1e-9 or abs(plain.inconsistency[k] - variant.threshold) < 1e-7
        if map_.kind[found[0]] != plain.kind[k] and not close:
            wrong.append(theta)
    return wrong, decided


def swept(problem: Problem, threads: int = 1, memory: int = 2 << 30) -> CellMap:
    """The whole map."""
    torch.set_num_threads(1)
    search = Sweep(problem, Options(memory=memory, threads=threads))
    try:
        while search.pending():
            search.step()
        return search.found()
    finally:
        search.close()


def searched(search: AbstractSearch) -> AbstractSearch:
    """The search, come to its end, with its threads ended."""
    torch.set_num_threads(1)
    try:
        while search.pending():
            search.step()
    finally:
        search.close()
    return search


# Thresholds are such that most boxes hold two or three kinds of cells.
STRICT = {"prelu": 0.1, "hardtanh": 0.02, "spoilt": 0.02, "average pool": 0.02, "no bias": 0.05}
STRICT |= {"hard sigmoid": 0.01, "mirrored": 0.05, "spread": 0.02, "recurrent": 0.02}
SMOOTH = ("sigmoid", "tanh", "gelu", "softplus", "silu conv", "selu", "mish", "hard swish")
# Shapes that no benchmark has: the last layer picks, there is no hidden one, or others than a dense one read.
SHAPED = (
    "rectified logits", "leaky logits", "clipped logits", "pooled logits", "two classes", "no hidden layer",
    "only rectified", "rectified twice", "rectified pixels", "pooled pixels", "conv logits", "read twice",
    "side by side",
)  # fmt: skip
SHAPES = [Variant(net, "blended spot" if place % 3 else "brightness") for place, net in enumerate(SHAPED)]
NETS = [
    Variant(net, "spot", threshold=STRICT.get(net, 0.3))
    for net in NETWORKS
    if not net.startswith("colour") and net not in (*SMOOTH, *SHAPED)
]
PERTURBED = [
    Variant("mlp", "brightness"),
    Variant("mlp", "brightness", clip=None),
    Variant("wide", "one-sided"),
    Variant("no bias", "brightness", threshold=0.05),
    Variant("no bias", "contrast", threshold=0.05),
    Variant("max pool", "direction"),
    Variant("mlp", "spot", clip=None),
    Variant("max pool", "spot", clip=None),
    Variant("leaky", "blended spot"),
    Variant("mlp", "contrast"),
    Variant("average pool", "contrast", clip=(-0.5, 1.25)),
    Variant("mlp", "fog"),
    Variant("colour mlp", "colours"),
    Variant("colour conv", "colours", saliency="channel-sum"),
    Variant("colour mlp", "colour spot", clip=None),
    Variant("mlp", "three"),
    Variant("max pool", "three", clip=None),
    Variant("mlp", "four", clip=None),
    Variant("hardtanh", "four", clip=None),
]
MEASURED = [
    Variant("wide", "spot", saliency="abs-gradient", threshold=0.1),
    Variant("mlp", "spot", inconsistency="l1", threshold=0.3),
    Variant("wide", "spot", inconsistency="l2", threshold=0.7),
    Variant("leaky", "spot", inconsistency="linf", threshold=0.4),
    Variant("wide", "contrast", inconsistency="top-k(3)", threshold=0.4),
    Variant("max pool", "direction", threshold=0.9),
    Variant("wide", "spot", threshold=0.0),
]
FOLLOWED = [
    Variant("mlp", "shift"),
    Variant("mlp", "shift", clip=None, inconsistency="l2", threshold=0.9),
    Variant("wide", "shift", threshold=0.6),
    Variant("mlp", "shift both", clip=None),
    Variant("leaky", "shift both", threshold=0.2),
    Variant("mlp", "shift, brighter"),
    Variant("max pool", "shift, brighter", clip=None, threshold=0.5),
    Variant("mlp", "shift, brighter", clip=None, threshold=1.1),
    Variant("max pool", "spot", saliency="grad-cam", threshold=0.02),
    Variant("average pool", "spot", saliency="grad-cam", threshold=0.05, clip=None),
    Variant("wide", "spot", saliency="gradient-x-input"),
    Variant("max pool", "contrast", saliency="gradient-x-input", inconsistency="l2", threshold=0.4),
    Variant("colour mlp", "colours", saliency="gradient-x-input", clip=None, threshold=0.2),
]
VARIANTS = [*NETS, *PERTURBED, *MEASURED]
EVERY = [*VARIANTS, *FOLLOWED, *SHAPES]
# What no exact engine takes: smooth networks, and maps that vary within a region.
INEXACT = [
    Variant("sigmoid", "spot", threshold=0.05),
    Variant("tanh", "three"),
    Variant("gelu", "shift", threshold=0.5),
    Variant("selu", "spot", threshold=0.05),
    Variant("mish", "contrast", clip=None),
    Variant("hard swish", "spot", threshold=0.1),
    Variant("softplus", "contrast", clip=None, saliency="abs-gradient", threshold=0.1),
    Variant("silu conv", "spot", saliency="grad-cam", threshold=0.05),
    Variant("sigmoid", "brightness", saliency="softmax-gradient", threshold=0.1),
    Variant("mlp", "spot", saliency="softmax-gradient"),
    Variant("max pool", "direction", saliency="softmax-gradient", clip=None),
    Variant("wide", "spot", saliency="gradient-x-input", inconsistency="l1"),
    Variant("gelu", "shift, brighter", saliency="gradient-x-input"),
]
# A few that are quick and unlike each other, for what has to be answered several times.
FEW = [
    Variant("mlp", "spot"),
    Variant("no bias", "brightness", threshold=0.05),
    Variant("max pool", "spot"),
    Variant("spoilt", "contrast", clip=None, threshold=0.05),
    Variant("mlp", "three"),
    Variant("mlp", "shift, brighter"),
]


def with_tolerance(variant: Variant, factor: float) -> Variant:
    """The same problem with all that counts as zero larger or smaller by a factor."""
    usual = variant.tolerance
    return replace(
        variant, tolerance=replace(usual, hinge=usual.hinge * factor, vanishing=usual.vanishing * factor)
    )
