"""Bounds of a network over boxes by polynomials in the coordinates (see `polynomial`)."""

from __future__ import annotations

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

# The highest degree for one, two, three and four coordinates: where some pixel moves by more than the first
# number, than the second, and else. Over small boxes higher ones add nothing but time.
_WIDE, _SMALL = 2.0**-12, 2.0**-20
_DEGREES = ((8, 4, 2), (5, 4, 2), (4, 3, 2), (3, 3, 2))


def are_followed(graph: Graph, count: int) -> bool:
    """Whether values of this network are followed as polynomials in so many coordinates."""
    return graph.drowns and 0 < count <= len(_DEGREES)


def degree_for(pixels: Enclosure) -> int:
    """Up to which degree, over boxes of which all pixels are enclosed."""
    spread = float(pixels.spread.max(initial=0.0))
    return _DEGREES[pixels.count - 1][(spread <= _WIDE) + (spread <= _SMALL)]


def polynomial_bounds(
    graph: Graph,
    pixels: Anchored,
    nodes: Collection[int],
    tolerances: Mapping[int, Tensor],
    degree: int,
    start: int = 0,
    deadline: Deadline = NEVER,
) -> Bounds:
    """The network over boxes, node `start` being known to lie within `pixels` ``(B, C, H, W)``.

    As `bounds_of` with forms alone; every node after `start` depends on it alone. In what is kept, products
    of coordinates up to the degree are symbols.

    Raises Expired where the deadline passes on the way.
    """
    m = monomials(pixels.away.count, degree)
    pixels = Anchored(pixels.anchor, pixels.away.without_symbols().with_symbols(m.rows - 1 - m.variables))
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
            pull = pull + blamed(done.values.away.flattened(), done.rest.flatten(1))
        if index in nodes:
            kept[index] = values[index].whole
    nothing = pull.new_zeros(len(pull))
    return Bounds(graph, kept, slopes, pull, nothing, 0, tolerances, None, deadline)
