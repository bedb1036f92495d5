"""Heads and stems of tutorials that end in products, angles or stretched scales."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn


def body(size: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, size))


class NoisyOr(nn.Module):
    """Multiple-instance learning: a class is there unless no place has it."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Conv2d(3, 4, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        absent = 1 - torch.sigmoid(self.places(x) - 2)
        return 1 - absent.flatten(2).prod(2)


class Margin(nn.Module):
    """ArcFace: a margin is added to the angles between the features and those of each class."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.classes = body(6), nn.Parameter(torch.randn(5, 6))

    def forward(self, x: Tensor) -> Tensor:
        cosine = functional.linear(functional.normalize(self.body(x)), functional.normalize(self.classes))
        return 8 * torch.cos(torch.acos(cosine.clamp(-1 + 1e-6, 1 - 1e-6)) + 0.4)


class Chebyshev(nn.Module):
    """A Kolmogorov-Arnold network of Chebyshev polynomials."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.weights = body(4), nn.Parameter(0.3 * torch.randn(4, 5, 4))
        self.register_buffer("degrees", torch.arange(4.0))

    def forward(self, x: Tensor) -> Tensor:
        angle = torch.tanh(self.body(x))[..., None].clamp(-1 + 1e-6, 1 - 1e-6).acos()
        return torch.einsum("bik,iok->bo", (angle * self.degrees).cos(), self.weights)


class Stretched(nn.Module):
    """Images of galaxies, whose levels are stretched by asinh (Lupton et al., 2004)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = body(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(torch.asinh(8 * x) / 3)


class Hyperbolic(nn.Module):
    """Distances in the Poincaré ball, through the inverse hyperbolic tangent and cosine."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.scale = body(4), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = 0.9 * torch.tanh(self.body(x))
        return self.scale(torch.atanh(x)) + torch.acosh(1 + (x * x).sum(1, keepdim=True) + 0.1)


class Tangent(nn.Module):
    """Angles of view to places on a plane; and powers of several constants."""

    def __init__(self) -> None:
        super().__init__()
        self.body = body(5)
        self.register_buffer("bases", torch.linspace(0.5, 2.5, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return torch.tan(x.clamp(-1.2, 1.2)) + torch.pow(self.bases, x)
