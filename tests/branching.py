"""Networks whose branches meet again, each with units of its own: for 6 by 6 pixels."""

from __future__ import annotations

import torch
from torch import nn


class Concatenated(nn.Module):
    """Branches of different activations side by side, and the input once more behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3, padding=1)
        self.second = nn.Conv2d(1, 2, 3, padding=1)
        self.third = nn.Conv2d(4, 3, 3, padding=1)
        self.head = nn.Linear(27 + 36, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sides = [torch.relu(self.first(x)), nn.functional.leaky_relu(self.second(x), 0.2)]
        pooled = nn.functional.max_pool2d(torch.relu(self.third(torch.cat(sides, 1))), 2)
        return self.head(torch.cat([pooled.flatten(1), (sides[0][:, :1] - x).flatten(1)], 1))


class Twice(nn.Module):
    """A sum of a branch with itself, a difference of branches, and a skip around everything."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(36, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = torch.relu(self.first(x.flatten(1)))
        z = z + z
        return self.head(nn.functional.hardtanh(torch.relu(self.second(z)) - z) + 0.1 * z)


class Opposed(nn.Module):
    """Two layers whose units are the same but for their biases, the second taken from the first."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(36, 8), nn.Linear(36, 8), nn.Linear(8, 3)
        with torch.no_grad():
            self.second.weight.copy_(self.first.weight)
            self.second.bias.copy_(self.first.bias - 0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        return self.head(torch.relu(self.first(x)) - torch.relu(self.second(x)))


BRANCHING = {"concatenated": Concatenated, "twice": Twice, "opposed": Opposed}
