"""Small networks of what is taken by bounds, for 1 x 6 x 6 pixels: products, norms, attention, powers.

Used by the tests of bounds, of both readers, and of answers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn


class SqueezeExcitation(nn.Module):
    """Channels weighed by a sigmoid of their own means, behind a hard swish."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.down, self.up = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 2), nn.Linear(2, 4)
        self.out = nn.Linear(4 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.hardswish(self.conv(x))
        gate = torch.sigmoid(self.up(torch.relu(self.down(y.mean((2, 3))))))
        return self.out((y * gate[:, :, None, None]).flatten(1))


class GatedUnits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(36, 16), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(functional.glu(self.first(x.flatten(1)), 1))


class Normed(nn.Module):
    """A perceptron with a norm over its units."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.first, self.norm, self.out = nn.Linear(36, 12), norm, nn.Linear(12, 3)
        nn.init.normal_(norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(functional.gelu(self.norm(self.first(x.flatten(1)))))


class OverMaps(nn.Module):
    """Group and instance norm, ELU and Mish."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(1, 4, 3), nn.Linear(64, 3)
        self.group, self.instance = nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.elu(self.group(self.conv(x)))
        return self.out(functional.mish(self.instance(y)).flatten(1))


class GeneralisedMean(nn.Module):
    """GeM pooling: the third root of the mean of third powers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(1, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.conv(x).clamp(min=1e-2).pow(3).mean((2, 3)).pow(1 / 3))


class UnitLength(nn.Module):
    """A head that sees the direction of its features alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(36, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return 5 * self.out(functional.normalize(self.first(x.flatten(1)), dim=-1))


class LocalResponse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(1, 6, 3), nn.Linear(6 * 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.selu(self.conv(x))
        return self.out(functional.local_response_norm(y, 3, alpha=0.5).flatten(1))


class Functions(nn.Module):
    """One of each function of one number."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(36, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x.flatten(1))
        sums = functional.celu(y, 2.0) + functional.logsigmoid(y) + torch.exp(-y) + functional.elu(y, 0.5)
        return self.out(sums + 1 / (1 + y * y) + y**3 + torch.sqrt(y.square() + 0.1))


class Attention(nn.Module):
    """Patches, a class token, position embeddings, one block of attention and of a perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.norm, self.last = nn.Conv2d(1, 8, 3, 3), nn.LayerNorm(8), nn.LayerNorm(8)
        self.mix, self.project = nn.Linear(8, 24), nn.Linear(8, 8)
        self.wide, self.narrow, self.out = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 3)
        self.place = nn.Parameter(torch.randn(1, 4, 8) / 4)

    def forward(self, x: Tensor) -> Tensor:
        t = self.patch(x).flatten(2).transpose(1, 2) + self.place
        mixed = self.mix(self.norm(t)).reshape(-1, 4, 3, 2, 4).permute(2, 0, 3, 1, 4)
        q, k, v = mixed[0], mixed[1], mixed[2]
        weights = (q @ k.transpose(-2, -1) / 2).softmax(-1)
        t = t + self.project((weights @ v).transpose(1, 2).reshape(-1, 4, 8))
        t = t + self.narrow(functional.gelu(self.wide(self.last(t))))
        return self.out(t.mean(1))


MADE = {
    "squeeze and excitation": SqueezeExcitation,
    "gated units": GatedUnits,
    "layer norm": lambda: Normed(nn.LayerNorm(12)),
    "root mean square norm": lambda: Normed(nn.RMSNorm(12, eps=1e-5)),
    "group and instance norm": OverMaps,
    "generalised mean": GeneralisedMean,
    "unit length": UnitLength,
    "local response": LocalResponse,
    "functions": Functions,
    "attention": Attention,
}


def made(name: str) -> nn.Module:
    """The network of that name, always the same one, in float64."""
    torch.manual_seed(len(name))
    return MADE[name]().double().eval()
