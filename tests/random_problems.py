"""Random small problems with much that coincides: equal pixels, doubled and opposite units, rows of zeros."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import nn

from steadygaze.perturbation import Brightness, Chain, Contrast, Direction, Patch, Translate
from steadygaze.perturbation.chain import AbstractPerturbation
from variants import Variant

SIDE = 5
PIXELS = SIDE * SIDE


@dataclass(frozen=True)
class RandomVariant(Variant):
    """A problem made from a seed, with `parameters` of them; with `moving` the first shifts the image."""

    seed: int = 0
    parameters: int = 2
    moving: bool = False

    def __str__(self) -> str:
        return f"{self.seed} of {self.parameters}{', moving' if self.moving else ''}"

    @cached_property
    def made(self) -> nn.Module:
        """The network."""
        torch.manual_seed(self.seed)
        return random_network(np.random.default_rng(self.seed))

    @property
    def module(self) -> nn.Module:
        """The network as PyTorch knows it."""
        return self.made

    @cached_property
    def image(self) -> np.ndarray:
        """The unperturbed image."""
        return random_image(np.random.default_rng(self.seed + 1))

    @cached_property
    def perturbation(self) -> Chain:
        """The chain."""
        return random_chain(np.random.default_rng(self.seed + 2), self.parameters, self.moving)


def random_problem(seed: int, parameters: int, moving: bool = False) -> RandomVariant:
    """The problem of a seed; whether pixels are clipped, the map and its threshold are drawn, too."""
    rng = np.random.default_rng(seed + 3)
    clip = (0.0, 1.0) if rng.random() < 0.6 else None
    saliency = "gradient" if moving else str(rng.choice(["gradient", "abs-gradient"], p=[0.7, 0.3]))
    inconsistency = "cosine" if moving else str(rng.choice(["cosine", "l1", "l2", "linf"]))
    threshold = float(rng.choice([0.05, 0.3, 0.6] if inconsistency == "cosine" else [0.2, 0.5, 1.0]))
    return RandomVariant(
        "random", "random", clip, saliency, inconsistency, threshold,
        seed=seed, parameters=parameters, moving=moving,
    )  # fmt: skip


def random_image(rng: np.random.Generator) -> np.ndarray:
    """Blank but for a pixel, of one grey, of a few greys, or noise."""
    image = np.zeros((1, SIDE, SIDE))
    kind = rng.integers(4)
    if kind == 0:
        image[0, 1, 1] = 1.0
    elif kind == 1:
        image[:] = rng.choice([0.25, 0.5])
    elif kind == 2:
        image[:] = rng.choice([0.0, 0.25, 0.5, 1.0], image.shape)
    else:
        image[:] = rng.random(image.shape)
    return image


def random_network(rng: np.random.Generator) -> nn.Module:
    """Dense or convolutional, its weights as they are, on a grid, without biases, or with equal units."""
    classes, wide = int(rng.choice([2, 3])), int(rng.choice([4, 8]))
    activation = (nn.ReLU, nn.ReLU, nn.Hardtanh)[rng.integers(3)]
    stride, kind = int(rng.choice([1, 2])), rng.integers(10)
    if kind < 5:
        layers = [nn.Flatten(), nn.Linear(PIXELS, wide), activation(), nn.Linear(wide, 5), activation()]
    else:
        layers = [nn.Conv2d(1, 2, 3, padding=1), activation(), nn.MaxPool2d(2, stride), nn.Flatten()]
        layers += [nn.LazyLinear(4), activation()] if kind < 8 else []
    module = nn.Sequential(*layers, nn.LazyLinear(classes)).double().eval()
    with torch.no_grad():
        module(torch.zeros(1, 1, SIDE, SIDE, dtype=torch.float64))
    factor, spoiling = float(rng.choice([1.0, 3.0])), rng.integers(6)
    with torch.no_grad():
        for layer in module:
            if not isinstance(layer, nn.Linear | nn.Conv2d):
                continue
            layer.weight *= factor
            if spoiling == 1:
                layer.weight.copy_(torch.round(layer.weight * 4) / 4)
                layer.bias.copy_(torch.round(layer.bias * 4) / 4)
            elif spoiling == 2:
                layer.bias.zero_()
            elif spoiling > 2 and len(layer.weight) > 3:
                multiple = (0.0, -1.0, 3.0)[spoiling - 3]
                layer.weight[1], layer.bias[1] = multiple * layer.weight[0], multiple * layer.bias[0]
    return module


def random_chain(rng: np.random.Generator, parameters: int, moving: bool) -> Chain:
    """So many parameters, 0 in the middle of their ranges, elsewhere inside or at an end."""
    links: list[AbstractPerturbation] = []
    if moving:
        links.append(Translate(dx=(-1.0, 1.0)))
    elif parameters > 1 and rng.random() < 0.4:
        links.append(Contrast(-0.3, 0.3))
    if rng.random() < 0.6 and len(links) < parameters:
        links.append(Brightness(*((-0.3, 0.3), (0.0, 0.4), (-0.1, 0.5))[rng.integers(3)]))
    while len(links) < parameters:
        low, high = ((-0.5, 0.5), (0.0, 1.0), (-0.2, 0.6))[rng.integers(3)]
        if rng.random() < 0.6:
            top, left = rng.integers(0, SIDE - 1, 2)
            links.append(Patch(low, high, top=int(top), left=int(left), size=int(rng.choice([1, 2]))))
        else:
            array = rng.choice([-1.0, 0.0, 1.0], (1, SIDE, SIDE))
            array[0, 0, 0] = 1.0
            links.append(Direction(low, high, array=array))
    return Chain(*links)
