"""What the original's own arithmetic leaves of terms that cancel, and which pieces that may choose."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from steadygaze.network import coarse
from steadygaze.network.columns import may_be_within
from steadygaze.network.graph import Graph
from steadygaze.network.joint import AbstractJoint
from steadygaze.network.layers import AbstractAffine
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.varying import at_values

# Of terms that cancel single precision leaves less than this share, in sums of up to some thousand terms.
_SINGLE = 1e-6
#: What double precision leaves of that, a thousandfold.
DOUBLE = 2e-6
# Below this share of its tolerance a unit is on a breakpoint whatever its terms are, for values between
# vertices carry rounding of the largest ones. Tolerances become that part of a distance that tells.
_LEAST, _APART = 1e-3, 1 / 8


def picked_by_noise(
    layer: PiecewiseLinear | MaxPool, gaps: list[Tensor], noise: Tensor, of_rivals: bool = False
) -> Tensor:
    """Which units, or windows, ``(B, N)``, the noise ``(B, inputs)`` may put on either piece.

    of_rivals: whether the noise of inputs that lose a window anyway does not count: what ties without any of
    its own ties in every runtime.
    """
    if isinstance(layer, PiecewiseLinear):
        return torch.stack([(gap <= noise) & (noise > 0) for gap in gaps]).any(dim=0)
    own = noise[:, layer.windows.clamp_min(0)].masked_fill(layer.windows < 0, 0.0).amax(dim=2)
    rivals = torch.stack([gap <= own for gap in gaps], dim=2)  # the winner is one of these
    if of_rivals:
        each = noise[:, layer.windows.clamp_min(0)].masked_fill(layer.windows < 0, 0.0)
        own = each.masked_fill(~rivals, 0.0).amax(dim=2)
    return (rivals.sum(dim=2) > 1) & (own > 0)


def noise_at(
    graph: Graph,
    x: Tensor,
    values: Mapping[int, Tensor] | None = None,
    last: int | None = None,
    sure_biases: bool = False,
) -> dict[int, Tensor]:
    """What single precision may leave of terms that cancel, ``(B, *shape)`` of each node; 0 where all are 0.

    Of each layer a share of the sum of its absolute terms. From there on these errors are taken to be
    independent, so that their squares go on by the squares of the weights (absolute sums would multiply with
    each layer, and call every unit of a deep network doubtful), times the slope of each unit on a piece that
    it may be on: nothing passes a rectifier that is off. values are those of nodes that are at hand: of all,
    or they are found again. Behind node `last` none is told; None: of all.
    """
    if values is None or len(values) < len(graph.nodes):
        values = graph.values_at(x, range(len(graph.nodes)))
    noise = {0: _SINGLE * x.abs()}
    for index, node in enumerate(graph.nodes[1 : None if last is None else last + 1], start=1):
        before = [noise[source] for source in node.inputs]
        if isinstance(node.layer, AbstractAffine):
            own = _SINGLE * coarse.magnitude(node.layer, *(values[source] for source in node.inputs))
            if sure_biases:
                weighed = node.layer.absolute.linear(*(values[source].abs() for source in node.inputs))
                own = own.masked_fill(weighed == 0, 0.0)
            passed = coarse.squares(graph, index, *(each.square() for each in before))
            noise[index] = (passed + own.square()).sqrt()
        elif isinstance(node.layer, PiecewiseLinear):
            flat, own = values[node.inputs[0]].flatten(1), before[0].flatten(1)
            if node.layer.is_relu:
                steepest = flat + own > 0
            else:
                ends = [node.layer.slopes_of(node.layer.pieces_of(end)) for end in (flat - own, flat + own)]
                steepest = torch.stack(ends).abs().amax(dim=0)
            noise[index] = (steepest * own).reshape(values[index].shape)
        elif isinstance(node.layer, MaxPool):
            noise[index] = node.layer.forward(before[0])
        elif isinstance(node.layer, AbstractJoint):
            grown = node.layer.terms_on(tuple(before), *(values[source] for source in node.inputs))
            noise[index] = grown + _SINGLE * values[index].abs()
        else:
            noise[index] = before[0] + _SINGLE * values[index].abs()
    return noise


def leads(layer: MaxPool, flat: Tensor) -> list[Tensor]:
    """By how much each position of a window loses to the winner."""
    best = layer.forward(flat.reshape(len(flat), *layer.shape)).flatten(1)
    columns = layer.windows.T
    return [torch.where(column < 0, torch.inf, best - flat[:, column.clamp_min(0)]) for column in columns]


def gaps_of(layer: PiecewiseLinear | MaxPool, flat: Tensor) -> list[Tensor]:
    """How far inputs ``(B, N)`` of a layer are from each of its kinks."""
    return layer.off(flat) if isinstance(layer, PiecewiseLinear) else leads(layer, flat)


def near_of(layer: PiecewiseLinear | MaxPool, flat: Tensor, slack: Tensor) -> Tensor | None:
    """Which units, or windows, ``(B, N)`` have inputs ``(B, N)`` within slack of a kink; bool.

    slack: ``(N,)`` or ``(B, N)``.

    None where no unit has, as mostly.
    """
    if isinstance(layer, PiecewiseLinear):
        return layer.near(flat, slack)
    level: Tensor | None = None
    for lead in leads(layer, flat):  # not stacked, for windows of large networks are many
        here = (lead <= slack).to(torch.int16)
        level = here if level is None else level.add_(here)
    return None if level is None else level > 1


def picked_at(graph: Graph, x: Tensor, values: Mapping[int, Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """At which pixels ``(B, C, H, W)`` noise may put some unit, or window, on either piece: ``(B,)``; and
    which of these are more than a convention explains: windows in which biases tie do so in every runtime.

    values: as in `noise_at`.
    """
    if values is None or len(values) < len(graph.nodes):
        values = graph.values_at(x, range(len(graph.nodes)))
    last = max(graph.piecewise, default=0)
    units, windows = _picked(graph, values, noise_at(graph, x, values, last))
    if not windows.any():
        return units, units
    sure = noise_at(graph, x, values, last, sure_biases=True)
    return units | windows, units | _picked(graph, values, sure, of_rivals=True)[1]


def _picked(
    graph: Graph, values: Mapping[int, Tensor], noise: Mapping[int, Tensor], of_rivals: bool = False
) -> tuple[Tensor, Tensor]:
    """In which rows noise may put some unit, and in which some window, on either piece: ``(B,)`` each."""
    units = torch.zeros(len(values[0]), dtype=torch.bool, device=values[0].device)
    windows = units.clone()
    for index in graph.piecewise:
        layer, source = graph.nodes[index].layer, graph.nodes[index].inputs[0]
        assert isinstance(layer, PiecewiseLinear | MaxPool)
        gaps = gaps_of(layer, values[source].flatten(1))
        found = picked_by_noise(layer, gaps, noise[source].flatten(1), of_rivals).any(dim=1)
        windows, units = (windows | found, units) if isinstance(layer, MaxPool) else (windows, units | found)
    return units, windows


def apart(
    graph: Graph, values: Mapping[int, Tensor], tolerances: Mapping[int, Tensor], original: int = 0
) -> dict[int, Tensor]:
    """The tolerances ``(units,)`` of nodes that pick, smaller where units lie within them, but not at 0.

    A tolerance is a share of the largest terms that a unit ever sums. With weights of 1e-8 beside 1e8 a unit
    of small terms, where the large ones are 0, is within it and yet on one side of its breakpoint, all over a
    region: then the map has its slope there, and so the tolerance must be less than the distance.

    Args:
        values: ``(B, *shape)`` of all nodes.
        tolerances: the distance from a breakpoint, or the lead over another input, is 0 within so much.
        original: the row of the unperturbed image, the only one in which windows are looked at.
    """
    found, within = dict(tolerances), dict[int, Tensor]()
    for index, slack in tolerances.items():
        layer, source = graph.nodes[index].layer, graph.nodes[index].inputs[0]
        if not isinstance(layer, PiecewiseLinear | MaxPool):
            continue
        rows = slice(original, original + 1) if isinstance(layer, MaxPool) else slice(None)
        flat = values[source][rows].flatten(1)
        if isinstance(layer, PiecewiseLinear) and not may_be_within(flat, layer.breakpoints, slack):
            continue  # mostly
        gaps = torch.stack(gaps_of(layer, flat))
        near = (gaps <= slack) & (gaps > _LEAST * slack)
        if near.any():
            within[index] = gaps.masked_fill(~near, torch.inf)
    noise = _noise_of_some(graph, values, within, original)
    for index, gaps in within.items():
        layer, slack = graph.nodes[index].layer, tolerances[index]
        own = noise[graph.nodes[index].inputs[0]].flatten(1)
        if isinstance(layer, MaxPool):
            own = own[original][layer.windows.clamp_min(0)].masked_fill(layer.windows < 0, 0.0).amax(dim=1)
        least = gaps.masked_fill(gaps <= DOUBLE * own, torch.inf).amin(dim=(0, 1))
        found[index] = torch.minimum(slack, (_APART * least).maximum(_LEAST * slack))
    return found


def _noise_of_some(
    graph: Graph, values: Mapping[int, Tensor], within: Mapping[int, Tensor], original: int
) -> dict[int, Tensor]:
    """`noise_at` where it is asked for: of the inputs of nodes, in the rows in which some gap is finite.

    Mostly one row of five has any: in the others there are zeros.
    """
    sources = {graph.nodes[index].inputs[0] for index in within}
    if not sources:
        return {}
    asked = torch.zeros(len(values[0]), dtype=torch.bool, device=values[0].device)
    for index, gaps in within.items():
        if isinstance(graph.nodes[index].layer, MaxPool):
            asked[original] = True
        else:
            asked |= gaps.isfinite().any(dim=2).any(dim=0)
    some = {node: value[asked] for node, value in values.items()}
    noise, found = noise_at(graph, some[0], some, max(sources)), dict[int, Tensor]()
    for source in sources:
        found[source] = torch.zeros_like(values[source])
        found[source][asked] = noise[source]
    return found


def level_at(graph: Graph, x: Tensor, tolerances: Mapping[int, Tensor]) -> Tensor:
    """At which pixels ``(B, C, H, W)`` noise may move some unit off a breakpoint, or out of a tie.

    On it means within the tolerances of `Graph.pieces_at`. Units that sum zeros are not among them, but for
    those of which the original has a slope in between there, and does not follow the convention. ``(B,)``.
    """
    return level_of(graph, graph.values_at(x, range(len(graph.nodes))), tolerances)


def level_of(graph: Graph, values: Mapping[int, Tensor], tolerances: Mapping[int, Tensor]) -> Tensor:
    """`level_at` the pixels at which all nodes have these values."""
    x, level, slacks = values[0], {}, at_values(tolerances, lambda: values)
    for index in graph.piecewise:
        layer, source = graph.nodes[index].layer, graph.nodes[index].inputs[0]
        if not isinstance(layer, PiecewiseLinear | MaxPool):
            continue
        near = near_of(layer, values[source].flatten(1), slacks[index])
        if near is not None:
            level[index] = near
    found = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    level = {index: units for index, units in level.items() if units.any()}
    if not level:  # mostly: what noise would do, nobody needs to know
        return found
    noise = noise_at(graph, x, values, max(level))
    for index, units in level.items():
        layer, own = graph.nodes[index].layer, noise[graph.nodes[index].inputs[0]].flatten(1)
        assert isinstance(layer, PiecewiseLinear | MaxPool)
        if isinstance(layer, MaxPool):
            own = own[:, layer.windows.clamp_min(0)].masked_fill(layer.windows < 0, 0.0).amax(dim=2)
        found |= (units if layer.shared else units & (own > 0)).any(dim=1)
    return found


def between_at(graph: Graph, x: Tensor) -> Tensor:
    """At which pixels ``(B, C, H, W)`` some unit is exactly on a breakpoint, or windows tie, and the original
    has a slope in between there: ``(B,)``."""
    values = graph.values_at(x, range(len(graph.nodes)))
    found = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for index in graph.piecewise:
        layer, source = graph.nodes[index].layer, graph.nodes[index].inputs[0]
        if isinstance(layer, PiecewiseLinear | MaxPool) and layer.shared:
            near = near_of(layer, values[source].flatten(1), x.new_zeros(()))
            if near is not None:
                found |= near.any(dim=1)
    return found
