"""Bounds of a network over boxes by polynomials in the coordinates (see `polynomial`)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from torch.nn import functional

from steadygaze.deadline import NEVER, Deadline
from steadygaze.enclosing.enclosures import UNIT, Enclosure, Pairs
from steadygaze.enclosing.forms import Forms
from steadygaze.enclosing.monomials import Monomials, monomials
from steadygaze.network.bounding.anchors.anchored import Anchored, anchored_affine
from steadygaze.network.bounding.anchors.anchored_layers import BENDING, bent_apart
from steadygaze.network.bounding.block_growth import BlocksAhead
from steadygaze.network.bounding.blocks import BlockNorms
from steadygaze.network.bounding.bounds import Bounds
from steadygaze.network.bounding.forms.slack import Slack, slacks_over
from steadygaze.network.bounding.taylor.polynomial import FEW_DOUBTS, ROUNDING, drift_of, most_rows_of
from steadygaze.network.bounding.taylor.polynomial_layers import Bends, followed_joint, followed_units
from steadygaze.network.bounding.taylor.polynomial_slopes import PolynomialSlopes
from steadygaze.network.graph import Graph
from steadygaze.network.joint import AbstractJoint
from steadygaze.network.layers import AbstractAffine, Conv, Dense
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.smooth import Smooth

# The highest degree for one, two, three and four coordinates, where no pixel moves by more than the number.
# Over small boxes higher ones add nothing but time; nor do they where units of the network bend, or where it
# is so large that boxes take seconds, and so deep then that rounding is more than what they add.
_DEGREES = (
    (2.0**-22, (3, 3, 3, 3)),
    (2.0**-18, (4, 4, 3, 3)),
    (2.0**-9, (8, 6, 5, 4)),
    (math.inf, (16, 8, 6, 5)),
)
_FEW, _LARGE = (8, 5, 4, 3), 10**8
# Beside kinks, of which no product is followed.
_BESIDE_KINKS = (3, 2, 2, 2)
#: So many coordinates may be followed beside kinks.
MOST_BESIDE_KINKS = len(_BESIDE_KINKS)
# Behind more convolutions and dense layers than these values alone need to know what coordinates do to twice
# the precision, too: over 2^-16 of brightness a gap of 215 of them is 5e11 wide, and 2e-4 over 2^-12 so.
_DEEP = 100


def are_followed(graph: Graph, count: int) -> bool:
    """Whether values of this network are followed as polynomials in so many coordinates."""
    return graph.drowns and 0 < count <= len(_FEW)


def is_deep(graph: Graph) -> bool:
    """Whether coefficients of coordinates are to be known to twice the precision for values alone, too."""
    return sum(isinstance(node.layer, Conv | Dense) for node in graph.nodes) > _DEEP


def most_rows(graph: Graph, count: int) -> int:
    """How many coefficients there are at most for one number, with so many coordinates."""
    m = monomials(count, _FEW[count - 1] if _takes_few(graph) else _DEGREES[-1][1][count - 1])
    return most_rows_of(m) if graph.piecewise else m.rows


def degree_for(graph: Graph, pixels: Enclosure) -> int:
    """Up to which degree, over boxes of which all pixels are enclosed."""
    spread = float(pixels.spread.max(initial=0.0))
    degree = next(degrees for most, degrees in _DEGREES if spread <= most)[pixels.count - 1]
    return min(degree, _FEW[pixels.count - 1]) if _takes_few(graph) else degree


def _takes_few(graph: Graph) -> bool:
    """Whether it is large, or units bend, those apart that clip pixels."""
    return graph.effort > _LARGE or any(graph.nodes[node].inputs != (0,) for node in graph.piecewise)


def polynomial_bounds(
    graph: Graph,
    pixels: Anchored,
    nodes: Collection[int],
    tolerances: Mapping[int, Slack],
    degree: int,
    start: int = 0,
    deadline: Deadline = NEVER,
    norms: BlockNorms | None = None,
    asks: bool = False,
    room: int = FEW_DOUBTS,
) -> Bounds:
    """The network over boxes, node `start` being known to lie within `pixels` ``(B, C, H, W)``.

    As `bounds_of` with forms alone; every node after `start` depends on it alone. In what is kept, products
    of coordinates up to the degree are symbols; and where pixels bend, what of that is alike. Where pixels
    have a drift, all values have one. norms: of blocks, where errors are followed through these as a whole;
    asks: whether any may be worked out that are not known yet. room: for how many units in doubt, see
    `with_doubts`.

    Raises Expired where the deadline passes on the way.
    """
    if pixels.drift is None:
        pixels = replace(pixels, drift=pixels.away.rows[:, :0])
    clip, bends = _bends_of(graph, pixels, start, tolerances)
    added = 0 if bends is None or bends.alike is None else int(bends.alike.max()) + 1
    count = pixels.away.count
    m = monomials(count + added, min(degree, _DEGREES[-1][1][count + added - 1]))
    away, drift = pixels.away.without_symbols().with_symbols(m.rows - 1 - count), drift_of(pixels)
    if drift.shape[1]:
        drift = functional.pad(drift, (0, 0) * (drift.ndim - 2) + (0, added))
    pixels = Anchored(pixels.anchor, away, drift)
    return _through(graph, m, pixels, (clip, bends), nodes, tolerances, start, deadline, norms, asks, room)


def kinked_bounds(
    graph: Graph,
    pixels: Enclosure,
    nodes: Collection[int],
    tolerances: Mapping[int, Slack],
    products: Pairs,
    kinks: int,
    start: int = 0,
    deadline: Deadline = NEVER,
    norms: BlockNorms | None = None,
) -> Bounds:
    """The network over boxes, as `polynomial_bounds`; the last coordinates of pixels are kinks they share.

    Values are followed as polynomials in the coordinates of the parameters, to the second degree or third,
    and beside these linearly in the kinks. Coordinates of pixels that stand for `products` of the parameters'
    own become these. Blocks are asked for their norms, as far as there is time for that.

    Raises Expired as that does.
    """
    count = pixels.count - len(products) - kinks
    m = monomials(count, _BESIDE_KINKS[count - 1], kinks)
    known = Anchored.of(pixels, graph.device)
    away = _of_products(m, known.away, products)
    pixels_of = Anchored(known.anchor, away, away.rows[:, :0])
    found = _through(graph, m, pixels_of, (None, None), nodes, tolerances, start, deadline, norms, True)
    # Of products none are left to be blamed.
    return replace(found, pull=functional.pad(found.pull, (0, len(products))))


def _of_products(m: Monomials, forms: Forms, products: Pairs) -> Forms:
    """Forms in monomials whose coordinates are variables, products (twice one: 2 t² - 1), and kinks."""
    count, rows = m.variables, forms.rows
    made = rows.new_zeros((len(rows), m.rows + m.beside, *forms.shape))
    made[:, : 1 + count] = rows[:, : 1 + count]
    made[:, m.rows :] = rows[:, 1 + count + len(products) :]
    for number, pair in enumerate(products):
        own = rows[:, 1 + count + number]
        if pair[0] == pair[1]:
            made[:, 0] -= own
            own = 2 * own
        made[:, m.place(pair)] += own
    # Each constant and each coefficient is one sum of a few.
    rounding = (len(products) + 2) * UNIT * made.abs().sum(dim=1)
    rounding = rounding + (len(products) + 2) * UNIT * rows.abs().sum(dim=1)
    return Forms(made, forms.error, count, length=forms.length).loosened(rounding * (1 + ROUNDING))


def _through(
    graph: Graph,
    m: Monomials,
    pixels: Anchored,
    bent: tuple[int | None, Bends | None],
    nodes: Collection[int],
    tolerances: Mapping[int, Slack],
    start: int,
    deadline: Deadline,
    norms: BlockNorms | None,
    asks: bool,
    room: int = FEW_DOUBTS,
) -> Bounds:
    """See `polynomial_bounds`; pixels are polynomials; bent: what clips them, and how they bend there."""
    (clip, bends), count = bent, pixels.away.count
    ahead = None if norms is None else BlocksAhead(graph, norms, asks, deadline)
    values: dict[int, Anchored] = {start: pixels if ahead is None else ahead.begun(start, pixels)}
    kept: dict[int, Forms] = {start: pixels.whole} if start in nodes else {}
    slopes: dict[int, PolynomialSlopes] = {}
    pull, used = pixels.anchor.new_zeros((len(pixels.anchor), count)), 0
    slacks = slacks_over(graph, pixels.anchor, tolerances)
    for index, inputs in graph.walked(values, start, deadline):
        layer, line = graph.nodes[index].layer, None
        if isinstance(layer, AbstractAffine):
            values[index] = anchored_affine(layer, *inputs, norm=graph.norm(index))
        else:
            if isinstance(layer, AbstractJoint):
                done = followed_joint(m, graph, index, inputs, nodes)
            else:
                assert isinstance(layer, PiecewiseLinear | MaxPool | Smooth), "only node 0 is an Input"
                own = bends if index == clip else None
                done = followed_units(m, layer, inputs[0], slacks.get(index), own, used, room)
            values[index], slopes[index], line = done.values, done.slopes, done.line
            used = max(used, done.values.away.symbols)
            pull = pull + done.values.change.flattened().blamed(done.rest.flatten(1))
        if ahead is not None:
            values[index] = ahead.passed(index, values[index], slopes.get(index), line)
        if index in nodes:
            kept[index] = values[index].whole.undivided()
    nothing = pull.new_zeros(len(pull))
    return Bounds(graph, kept, {}, pull, nothing, 0, tolerances, None, deadline, slopes, False, norms, asks)


def _bends_of(
    graph: Graph, pixels: Anchored, start: int, tolerances: Mapping[int, Slack]
) -> tuple[int | None, Bends | None]:
    """The node that clips pixels, and how they bend there; None where no more variables can be followed.

    What many pixels do at once, as those at an end of the clip under a patch do, is one variable more.
    Nothing is alike where nothing bends, or more in one box than can be followed.
    """
    clips = [node for node in graph.piecewise if graph.nodes[node].inputs == (start,)]
    most = len(_FEW) - pixels.away.count
    if len(clips) != 1 or most < 1:
        return None, None
    (clip,), flat = clips, pixels.flattened()
    layer = graph.nodes[clip].layer
    if not isinstance(layer, PiecewiseLinear):
        return None, None
    apart = bent_apart(layer, flat, tolerances.get(clip, Slack.none(flat.anchor)))
    crossing = apart[2] > BENDING * flat.change.most
    found = torch.full(crossing.shape, -1, dtype=torch.int64)
    if crossing.any():
        known = [flat.anchor[:, None], drift_of(flat), flat.away.rows, flat.away.error[:, None]]
        parts = torch.cat(known, dim=1)
        for box, own in enumerate(crossing.cpu()):
            alike = torch.unique(parts[box].mT[own.to(parts.device)], dim=0, return_inverse=True)[1].cpu()
            if len(alike) and int(alike.max()) < most:
                found[box, own] = alike
    return clip, Bends(apart, found.to(crossing.device) if (found >= 0).any() else None)
