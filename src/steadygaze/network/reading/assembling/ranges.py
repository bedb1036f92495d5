"""What a node's values cannot leave, whatever the image: read off the layers before it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from steadygaze.network.graph import Node
from steadygaze.network.joint import MatrixProduct, Multiply, Normalise, Softmax
from steadygaze.network.layers import (
    AbstractAffine,
    AbstractWeighing,
    Add,
    Concat,
    Conv,
    Dense,
    Pad,
    Permute,
    Reshape,
    ScaleShift,
)
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.reading.assembling.entries import Part, entries_read, reads_frame, whole
from steadygaze.network.smooth import Smooth
from steadygaze.network.taking import Take

_KNOWN = {
    "sigmoid": (0.0, 1.0),
    "softplus": (0.0, math.inf),
    "exp": (0.0, math.inf),
    "elu": (-1.0, math.inf),
    # Half of pi lies above the float64 next to it.
    "atan": (-math.nextafter(math.pi / 2, 2.0), math.nextafter(math.pi / 2, 2.0)),
    **dict.fromkeys(("tanh", "erf", "softsign", "sin", "cos"), (-1.0, 1.0)),
}
# More than rounding may add to a sum of products, as a share.
_ROUNDING = 2.0**-36


def range_of(nodes: Sequence[Node], index: int, part: Part | None = None) -> tuple[float, float]:
    """Numbers that no entry of the node's output is below or above in real arithmetic; or infinite.

    part: the entries that are asked for; None for all. Of the inputs only those are looked at that these
    depend on: of ``q (k v)`` one column may be a sum of weights, and the others anything.
    """
    node = nodes[index]
    layer = node.layer
    if isinstance(layer, Smooth):
        return _of_cosine(nodes, node, part) if layer.function == "cos" else _of_smooth(layer)
    if isinstance(layer, Softmax):
        return 0.0, 1.0
    if isinstance(layer, Normalise):
        limit = math.sqrt(node.shape[-1]) * (1 + _ROUNDING)
        return -limit, limit
    if not node.inputs or (isinstance(layer, AbstractAffine) and not _is_weighing(layer)):
        return -math.inf, math.inf
    part, shapes = whole(node.shape) if part is None else part, [nodes[own].shape for own in node.inputs]
    read = zip(node.inputs, entries_read(layer, part, shapes), strict=True)
    known = [range_of(nodes, source, own) for source, own in read if own is not None]
    if isinstance(layer, PiecewiseLinear):
        return _of_pieces(layer, *known[0])
    if isinstance(layer, Multiply | MatrixProduct):
        return (0.0 if min(low for low, _ in known) >= 0 else -math.inf), math.inf
    if isinstance(layer, ScaleShift):
        return _of_scale_shift(layer, *known[0])
    if isinstance(layer, Pad) and reads_frame(layer, part, shapes[0]):
        known.append((layer.value, layer.value))
    if isinstance(layer, MaxPool | Pad | Concat | Permute | Reshape | Take):  # numbers as they are
        return min(low for low, _ in known), max(high for _, high in known)
    assert isinstance(layer, AbstractAffine), "all other layers are affine"
    ends = [_end(layer, shapes, [one[side] for one in known], sign) for side, sign in ((0, -1.0), (1, 1.0))]
    if isinstance(layer, Add) and ends[0] < 0 and _is_span(nodes, *node.inputs):
        return 0.0, ends[1]
    return ends[0], ends[1]


def _is_span(nodes: Sequence[Node], one: int, other: int) -> bool:
    """Whether a sum is of the largest numbers of some windows and those of minus the same: no less than 0."""
    ends = [_signed(nodes, one), _signed(nodes, other)]
    depth = 0
    while all(sign > 0 and isinstance(nodes[own].layer, MaxPool) for sign, own in ends):
        first, second = (nodes[own].layer for _, own in ends)
        assert isinstance(first, MaxPool)
        assert isinstance(second, MaxPool)
        if not torch.equal(first.windows, second.windows):
            return False
        ends = [_signed(nodes, nodes[own].inputs[0]) for _, own in ends]
        depth += 1
    (sign, own), (opposite, same) = ends
    return depth > 0 and own == same and sign == -opposite


def _signed(nodes: Sequence[Node], index: int) -> tuple[float, int]:
    """The node whose numbers, in their order, are those of a node times 1 or -1; and that number."""
    sign = 1.0
    while True:
        layer = nodes[index].layer
        if isinstance(layer, ScaleShift) and not layer.shift.any() and bool((layer.scale.abs() == 1).all()):
            if layer.scale.unique().numel() > 1:
                return sign, index
            sign *= float(layer.scale.flatten()[0])
        elif not isinstance(layer, Reshape):
            return sign, index
        (index,) = nodes[index].inputs


def _is_weighing(layer: AbstractAffine) -> bool:
    """Whether no weight is below 0; scales may be."""
    if isinstance(layer, Dense | Conv):
        return bool((layer.weight >= 0).all())
    return isinstance(layer, AbstractWeighing | Pad | ScaleShift)


def _end(
    layer: AbstractAffine, shapes: Sequence[tuple[int, ...]], ends: Sequence[float], sign: float
) -> float:
    """What inputs that are all at an end make: the same end of the outputs, as no weight is below 0."""
    if not all(map(math.isfinite, ends)):
        return sign * math.inf
    inputs = [torch.full((1, *s), end, dtype=torch.float64) for s, end in zip(shapes, ends, strict=True)]
    made = layer.forward(*inputs)
    slack = _ROUNDING * float(layer.magnitude(*inputs).max()) if any(ends) else 0.0
    return float(made.min()) - slack if sign < 0 else float(made.max()) + slack


def _of_scale_shift(layer: ScaleShift, low: float, high: float) -> tuple[float, float]:
    """Both ends of each entry, through its own scale; unknown where an end is that is multiplied."""
    scale, shift = torch.broadcast_tensors(layer.scale, layer.shift)
    at = torch.stack([torch.where(scale == 0, 0.0, scale * end) for end in (low, high)])
    made = at + shift
    # A number that is only moved in sign, or only raised from 0 or to 0, is not rounded.
    exact = (at == 0) | (((shift == 0) | (made == 0)) & (scale.abs() == 1))
    slack = torch.where(exact | made.isinf(), 0.0, _ROUNDING * (at.abs() + shift.abs()))
    return float((made - slack).min()), float((made + slack).max())


def _of_pieces(layer: PiecewiseLinear, low: float, high: float) -> tuple[float, float]:
    """Values at the breakpoints and at what ends the argument has."""
    inner = [float(edge) for edge in layer.breakpoints if low < float(edge) < high]
    values: list[Tensor] = []
    for place in (low, *inner, high):
        piece = sum(place > float(edge) for edge in layer.breakpoints)
        slope, offset = layer.slopes[piece], layer.offsets[piece]
        values.append(torch.where(slope == 0, 0.0, slope * place) + offset)
    slack = [_slack(value, place) for value, place in zip(values, (low, *inner, high), strict=True)]
    return (
        min(float(value.min()) - more for value, more in zip(values, slack, strict=True)),
        max(float(value.max()) + more for value, more in zip(values, slack, strict=True)),
    )


def _slack(value: Tensor, place: float) -> float:
    """What rounding may do to values at a place: nothing where they are 0 or the place itself."""
    finite = value[value.isfinite()]
    plain = bool(((finite == 0) | (finite.abs() == abs(place))).all())
    return 0.0 if plain else _ROUNDING * float(finite.abs().max())


def _of_cosine(nodes: Sequence[Node], node: Node, part: Part | None) -> tuple[float, float]:
    """Between -pi/2 and pi/2 no less than at the end farther from 0, and not below 0."""
    low, high = range_of(nodes, node.inputs[0], part)
    if max(-low, high) > math.pi / 2:
        return _KNOWN["cos"]
    return max(0.0, math.cos(max(-low, high, 0.0)) - _ROUNDING), 1.0


def _of_smooth(layer: Smooth) -> tuple[float, float]:
    if layer.function in _KNOWN:
        return _KNOWN[layer.function]
    if layer.function == "power":
        exponent, floor = layer.numbers
        if exponent > 0 and floor > 0:
            return floor**exponent * (1 - _ROUNDING), math.inf
        if exponent < 0 < floor:
            return 0.0, floor**exponent * (1 + _ROUNDING)
        return (0.0 if floor >= 0 or exponent % 2 == 0 else -math.inf), math.inf
    return -math.inf, math.inf
