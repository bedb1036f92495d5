"""Bounds of a network over boxes by polynomials in the coordinates (see `polynomial`)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from torch import Tensor

from steadygaze.deadline import NEVER, Deadline
from steadygaze.geometry.enclosures import Enclosure
from steadygaze.geometry.forms import Forms
from steadygaze.geometry.monomials import monomials
from steadygaze.network.bounding.anchored import Anchored, anchored_affine
from steadygaze.network.bounding.bounds import Bounds
from steadygaze.network.bounding.polynomial_layers import followed_joint, followed_units
from steadygaze.network.bounding.polynomial_slopes import PolynomialSlopes
from steadygaze.network.bounding.relaxing import blamed
from steadygaze.network.graph import Graph
from steadygaze.network.joint import AbstractJoint
from steadygaze.network.layers import AbstractAffine
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.smooth import Smooth

# The highest degree for one, two, three and four coordinates, where no pixel moves by more than the number.
# Over small boxes higher ones add nothing but time; nor do they where units of the network bend.
_DEGREES = (
    (2.0**-22, (3, 3, 3, 3)),
    (2.0**-16, (4, 4, 3, 3)),
    (2.0**-9, (8, 6, 5, 4)),
    (math.inf, (16, 12, 8, 5)),
)
_OF_BENT = (8, 5, 4, 3)


def are_followed(graph: Graph, count: int) -> bool:
    """Whether values of this network are followed as polynomials in so many coordinates."""
    return graph.drowns and 0 < count <= len(_OF_BENT)


def most_rows(graph: Graph, count: int) -> int:
    """How many coefficients there are at most for one number, with so many coordinates."""
    return monomials(count, _OF_BENT[count - 1] if _is_bent(graph) else _DEGREES[-1][1][count - 1]).rows


def degree_for(graph: Graph, pixels: Enclosure) -> int:
    """Up to which degree, over boxes of which all pixels are enclosed."""
    spread = float(pixels.spread.max(initial=0.0))
    degree = next(degrees for most, degrees in _DEGREES if spread <= most)[pixels.count - 1]
    return min(degree, _OF_BENT[pixels.count - 1]) if _is_bent(graph) else degree


def _is_bent(graph: Graph) -> bool:
    """Whether units bend, those apart that clip pixels."""
    return any(graph.nodes[node].inputs != (0,) for node in graph.piecewise)


def polynomial_bounds(
    graph: Graph,
    pixels: Anchored,
    nodes: Collection[int],
    tolerances: Mapping[int, Tensor],
    degree: int,
    start: int = 0,
    deadline: Deadline = NEVER,
) -> Bounds:
    """The network over boxes, node `start` being known to lie within `pixels` ``(B, C, H, W)``, with a drift.

    As `bounds_of` with forms alone; every node after `start` depends on it alone. In what is kept, products
    of coordinates up to the degree are symbols.

    Raises Expired where the deadline passes on the way.
    """
    m = monomials(pixels.away.count, degree)
    away = pixels.away.without_symbols().with_symbols(m.rows - 1 - m.variables)
    pixels = Anchored(pixels.anchor, away, pixels.drift)
    values: dict[int, Anchored] = {start: pixels}
    kept: dict[int, Forms] = {start: pixels.whole} if start in nodes else {}
    slopes: dict[int, PolynomialSlopes] = {}
    pull = pixels.anchor.new_zeros((len(pixels.anchor), m.variables))
    for index, inputs in graph.walked(values, start, deadline):
        layer = graph.nodes[index].layer
        if isinstance(layer, AbstractAffine):
            values[index] = anchored_affine(layer, *inputs, norm=graph.norm(index))
        else:
            if isinstance(layer, AbstractJoint):
                done = followed_joint(m, graph, index, inputs, nodes)
            else:
                assert isinstance(layer, PiecewiseLinear | MaxPool | Smooth), "only node 0 is an Input"
                done = followed_units(m, layer, inputs[0], tolerances.get(index))
            values[index], slopes[index] = done.values, done.slopes
            pull = pull + blamed(done.values.change.flattened(), done.rest.flatten(1))
        if index in nodes:
            kept[index] = values[index].whole
    nothing = pull.new_zeros(len(pull))
    return Bounds(graph, kept, slopes, pull, nothing, 0, tolerances, None, deadline)
