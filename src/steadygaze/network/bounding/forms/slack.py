"""How close to a breakpoint, or to the lead in a window, counts as on it, over boxes.

At points each unit has one tolerance (`regions.rounding.tolerances_of`). Bounds must say of a box what is
said at all its points: a unit keeps its piece where it is within the tolerance everywhere, and is surely on
the next one where it is beyond it everywhere. Where windows are told apart ahead of the activation that they
read (`simplify.pooled_first`), tolerances are still those of the network as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from steadygaze.network.graph import Graph
from steadygaze.network.layers import AbstractLayer
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.varying import AbstractVarying

# Smooth functions are as steep as this, or as flat, where it matters which of two inputs is the larger.
_STEEPEST, _FLATTEST = 10.0, 1e-3


@dataclass(frozen=True, eq=False)
class Slack:
    """Tolerances of the units, or windows, of one node, ``(N,)`` or of each box ``(B, N)``.

    Attributes:
        least: what is no farther from a breakpoint, or ahead by no more, counts as on it at every point.
        most: what is farther does at none.
        settled: whether that holds whatever the image is, also where tolerances vary.
    """

    least: Tensor
    most: Tensor
    settled: bool = False

    @classmethod
    def within(cls, tolerance: Tensor) -> Slack:
        """Where the tolerance is known."""
        return cls(tolerance, tolerance)

    @classmethod
    def none(cls, like: Tensor) -> Slack:
        """Where nothing but a breakpoint itself counts as on it."""
        return cls.within(like.new_zeros(()))

    def no_more_than(self, tolerance: Tensor) -> Slack:
        """At images whose own tolerance ``(B, N)`` is known."""
        if self.settled:
            return self
        return Slack(torch.minimum(self.least, tolerance), torch.minimum(self.most, tolerance))


class Slacks(dict[int, Slack]):
    """Of each node that picks; where they vary from image to image, over the whole box."""

    def __init__(self, slacks: Mapping[int, Slack], varying: AbstractVarying | None = None) -> None:
        super().__init__(slacks)
        self.varying = varying


def slacks_of(graph: Graph, moved: Graph, tolerances: Mapping[int, Tensor]) -> dict[int, Slack]:
    """Of `moved`, which is the graph itself or `pooled_first` of it, given the tolerances of the graph.

    Values that differ by less than a window's tolerance behind the activation are equal there; ahead of it
    they are equal if they differ by less than what its slope makes that. And the largest value is on the
    piece of the one that wins, which may be any that is equal to it, by that one's tolerance.
    """
    found = {node: Slack.within(own) for node, own in tolerances.items()}
    for index, node in enumerate(moved.nodes):
        pool, activation = node.layer, graph.nodes[index].layer
        if pool is activation or not isinstance(pool, MaxPool):
            continue
        (behind,) = graph.readers[index]
        flattest, steepest = _slopes_of(activation)
        bends = isinstance(activation, PiecewiseLinear)
        leading = Slack(tolerances[behind] / steepest, tolerances[behind] / flattest, settled=not bends)
        found[index] = leading
        del found[behind]
        if bends:
            own = tolerances[index][pool.windows.clamp_min(0)]
            nowhere = pool.windows < 0
            found[behind] = Slack(
                own.masked_fill(nowhere, torch.inf).amin(dim=1),
                own.masked_fill(nowhere, 0.0).amax(dim=1) + leading.most,
            )
    return found


def slacks_over(graph: Graph, middles: Tensor, slacks: Mapping[int, Slack]) -> Mapping[int, Slack]:
    """Of each box, given the pixels ``(B, C, H, W)`` in its middle.

    Where tolerances vary they are what rounding leaves there. As much as at points, and no more: what bounds
    add for rounding of their own leaves units in doubt.
    """
    varying = slacks.varying if isinstance(slacks, Slacks) else None
    if varying is None:
        return slacks
    there = varying.of(graph.values_at(middles, range(len(graph.nodes))))
    return {node: slack.no_more_than(there[node]) for node, slack in slacks.items()}


def _slopes_of(activation: AbstractLayer) -> tuple[float, float]:
    """The least slope of an activation that is not 0, and the largest."""
    if not isinstance(activation, PiecewiseLinear):
        return _FLATTEST, _STEEPEST
    slopes = activation.slopes[activation.slopes > 0]
    return float(slopes.min()), float(slopes.max())
