"""The layers that pick: one affine piece per unit, or one input per window."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from steadygaze.geometry.sides import best_of_windows
from steadygaze.network.columns import may_be_within, used_in
from steadygaze.network.layers import AbstractLayer, Shape


@dataclass(frozen=True, eq=False)
class PiecewiseLinear(AbstractLayer):
    """Unit by unit, ``slope * x + offset`` on each piece between breakpoints, continuous.

    breakpoints ``(k,)`` ascend and are the same for all units (k is 1 or 2); slopes and offsets are
    ``(k + 1, 1)``, or ``(k + 1, N)`` with one column per unit in flattened order. A point on a breakpoint
    belongs to the piece below it, so that the derivative of ReLU at 0 is 0. shared says that the model that
    was read has another one there, between those of the pieces, so that it is no witness for this rule.
    """

    breakpoints: Tensor
    slopes: Tensor
    offsets: Tensor
    shared: bool = field(default=False, compare=False)

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    def forward(self, *xs: Tensor) -> Tensor:
        (x,) = xs
        if self.is_relu:
            return x.clamp_min(0.0)
        flat = x.flatten(1)
        if self.is_hinge:
            return torch.where(flat > 0, flat * self.slopes[1], flat * self.slopes[0]).reshape(x.shape)
        out = torch.addcmul(self.offsets[0], flat, self.slopes[0])
        for piece, edge in enumerate(self.breakpoints, start=1):
            above = torch.addcmul(self.offsets[piece], flat, self.slopes[piece])
            out = torch.where(flat > edge, above, out)
        return out.reshape(x.shape)

    def pieces_of(self, x: Tensor, tolerance: Tensor | None = None) -> Tensor:
        """Index of the piece each unit is on, uint8 ``(B, N)``, for pre-activations ``(B, *shape)``.

        A unit within its tolerance of a breakpoint, ``(N,)`` or ``(B, N)``, is on the piece below; None: 0.
        """
        flat = x.flatten(1)
        edges = (
            self.breakpoints
            if tolerance is None
            else [tolerance + mark if mark else tolerance for mark in self.marks]
        )
        pieces = (flat > edges[0]).view(torch.uint8)
        for edge in edges[1:]:
            pieces += flat > edge
        return pieces

    def off(self, x: Tensor) -> list[Tensor]:
        """How far values are off each breakpoint, each in the shape of x."""
        return [(x - edge).abs_() if edge else x.abs() for edge in self.marks]

    def near(self, x: Tensor, slack: Tensor) -> Tensor | None:
        """Which of values ``(B, N)`` are within slack ``(N,)`` of a breakpoint, bool; None where none are."""
        if not may_be_within(x, self.breakpoints, slack):  # mostly
            return None
        ends = [distance <= slack for distance in self.off(x)]
        return ends[0] if len(ends) == 1 else torch.stack(ends).any(dim=0)

    def slopes_of(self, pieces: Tensor, units: Tensor | None = None) -> Tensor:
        """Slope of each unit, or of the units of the given numbers alone, on the given pieces ``(B, N)``."""
        pieces = pieces if units is None else pieces[:, units]
        if self.is_relu:
            return pieces.to(self.slopes.dtype)
        slopes = self.slopes if units is None or self.slopes.shape[1] == 1 else self.slopes[:, units]
        out = torch.where(pieces > 0, slopes[1], slopes[0])
        for piece in range(2, len(slopes)):
            out = torch.where(pieces >= piece, slopes[piece], out)
        return out

    def alive(self, pieces: Tensor) -> Tensor:
        """Numbers of the units whose slope is not 0 in some row of the pieces ``(B, N)``."""
        return used_in(pieces if self.is_relu else self.slopes_of(pieces))

    def transpose(self, g: Tensor, pieces: Tensor) -> Tensor:
        """Vector-Jacobian product of g ``(B, *shape)`` on the given pieces ``(B, N)``; g is overwritten."""
        slopes = pieces if self.is_relu else self.slopes_of(pieces)  # 0 and 1 need not become floats first
        return g.mul_(slopes.reshape(g.shape))

    @cached_property
    def marks(self) -> tuple[float, ...]:
        """The breakpoints as numbers."""
        return tuple(self.breakpoints.tolist())

    @cached_property
    def is_relu(self) -> bool:
        rule = (self.breakpoints.tolist(), self.slopes.tolist(), self.offsets.tolist())
        return rule == ([0.0], [[0.0], [1.0]], [[0.0], [0.0]])

    @cached_property
    def is_hinge(self) -> bool:
        """Whether it bends at 0 alone, where it is 0, and upwards, as ReLU and leaky ReLU do."""
        bends = self.breakpoints.tolist() == [0.0] and not self.offsets.any()
        return bends and bool((self.slopes[0] <= self.slopes[1]).all())

    @cached_property
    def rises(self) -> bool:
        """Whether it falls nowhere."""
        return bool((self.slopes >= 0).all())


@dataclass(frozen=True, eq=False)
class MaxPool(AbstractLayer):
    """The largest input of each window; the first of several equal ones.

    windows ``(N_out, k)``, int64: positions in the flattened input of shape `shape`; -1 marks padding, which
    never wins. `pooled` is the output's shape. k is at most 255. shared says that the model that was read
    shares the gradient between equal inputs, so that there it is no witness for which one wins.
    """

    windows: Tensor
    shape: Shape
    pooled: Shape
    shared: bool = field(default=False, compare=False)

    def output_shape(self, *shapes: Shape) -> Shape:
        del shapes
        return self.pooled

    def forward(self, *xs: Tensor) -> Tensor:
        return self.compete(xs[0])[0]

    def pieces_of(self, x: Tensor, tolerance: Tensor | None = None) -> Tensor:
        """Position in its window of each winner, uint8 ``(B, N_out)``, for inputs ``(B, *shape)``."""
        return self.compete(x, tolerance)[1]

    def compete(self, x: Tensor, tolerance: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`forward` and `pieces_of` at once; inputs that differ by less than `tolerance` count as equal.

        That is a number for each window, ``(N_out,)``, or in each row ``(B, N_out)``.
        """
        flat = x.flatten(1)
        slack = torch.zeros(len(self.windows), dtype=x.dtype) if tolerance is None else tolerance
        slack = slack.to(x.device)
        if slack.ndim < 2:
            slack = slack.expand(len(self.windows)).contiguous()
        if (
            x.device.type == "cpu" and not x.requires_grad and slack.ndim < 2
        ):  # ten times as fast as what follows
            best, place = best_of_windows(flat.numpy(), self.windows.numpy(), slack.numpy())
            return torch.from_numpy(best).reshape(x.shape[0], *self.pooled), torch.from_numpy(place)
        candidates = [self._candidate(flat, position) for position in range(self.windows.shape[1])]
        best = candidates[0]
        for rival in candidates[1:]:  # not amax: its gradient is shared between equal inputs
            best = torch.where(rival > best, rival, best)
        place = torch.zeros(best.shape, dtype=torch.uint8, device=x.device)
        for position in reversed(range(len(candidates))):
            place.masked_fill_(candidates[position] >= best - slack, position)
        return best.reshape(x.shape[0], *self.pooled), place

    def winners(self, pieces: Tensor) -> Tensor:
        """Positions of the winners in the flattened input, int64 ``(B, N_out)``."""
        count, size = self.windows.shape
        starts = torch.arange(0, count * size, size, device=self.windows.device)
        return self.windows.flatten()[pieces + starts]

    def transpose(self, g: Tensor, pieces: Tensor) -> Tensor:
        """Vector-Jacobian product ``(B, *shape)`` of g ``(B, *pooled)`` where the given positions win."""
        out = g.new_zeros((g.shape[0], math.prod(self.shape)))
        out.scatter_add_(1, self.winners(pieces), g.flatten(1))
        return out.reshape(g.shape[0], *self.shape)

    def _candidate(self, flat: Tensor, position: int) -> Tensor:
        index = self.windows[:, position]
        return flat.index_select(1, index.clamp_min(0)).masked_fill(index < 0, -math.inf)
