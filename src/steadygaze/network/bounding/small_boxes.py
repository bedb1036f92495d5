"""Bounds of a network over boxes: of deep smooth ones over small boxes by differences (see `anchored`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

from steadygaze.deadline import NEVER, Deadline
from steadygaze.enclosing.enclosures import Enclosure, Pairs
from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding.anchors.anchored import Anchored, anchored_affine
from steadygaze.network.bounding.anchors.anchored_layers import anchored_joint, anchored_units
from steadygaze.network.bounding.blocks import BlockNorms
from steadygaze.network.bounding.bounds import Bounds, bounds_of
from steadygaze.network.bounding.clipped_pixels import clipped_alike
from steadygaze.network.bounding.forms.derivatives import Derivative, SmoothSlopes
from steadygaze.network.bounding.forms.joint import Factors, Scales, Shares
from steadygaze.network.bounding.forms.relaxing import Choice
from steadygaze.network.bounding.forms.slack import Slack, slacks_over
from steadygaze.network.bounding.polynomials import (
    MOST_BESIDE_KINKS,
    degree_for,
    is_deep,
    kinked_bounds,
    polynomial_bounds,
)
from steadygaze.network.bounding.tightening import Effort
from steadygaze.network.graph import Graph
from steadygaze.network.joint import AbstractJoint
from steadygaze.network.layers import AbstractAffine
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.smooth import Smooth

# Where no pixel moves by more than this: at that size bounds of four deep networks were narrower so.
_SMALL = 2.0**-20
# What the allocator of glibc keeps of freed memory is twice the largest part that was freed, if that is below
# 32 MiB: see mallopt(3), M_MMAP_THRESHOLD.
_KEPT_BYTES = 2**25 - 2**14


def are_small(graph: Graph, pixels: Enclosure) -> np.ndarray:
    """``(B,)`` bool: over which boxes this network is bounded by differences, given its pixels."""
    if not graph.drowns:
        return np.zeros(len(pixels.centre), bool)
    return pixels.spread.reshape(len(pixels.centre), -1).max(axis=1) < _SMALL


def bounds_over(
    pixels: Enclosure,
    graph: Graph,
    nodes: Collection[int],
    tolerances: Mapping[int, Slack],
    room: int,
    start: int = 0,
    effort: Effort = Effort.FORMS,
    deadline: Deadline = NEVER,
    drifting: bool = True,
    norms: BlockNorms | None = None,
    shared: int = 0,
    products: Pairs = (),
    clipped: int | None = None,
) -> Bounds:
    """`bounds_of` pixels that are enclosed, or `bounds_about` them, where all boxes are small.

    With `Effort.PIXELS` what each pixel may be off by, beside what the coordinates do to it, has a symbol, in
    addition to the room. As an error it would be multiplied by the norms of all layers: over a box in which
    every pixel crosses a grid line, as any about 0 has it under an affine map, that is most of what is off.
    shared: where so many of the last coordinates are what pixels share of that, these are the symbols, and,
    where gradients are not asked for, values of deep smooth networks are polynomials beside them; products:
    of the coordinates before. clipped: the node behind the clip of pixels, to which no gradient goes further
    back; pixels that it clips alike are clipped ahead, see `clipped_alike`.

    Where polynomials are asked for it is `polynomial_bounds`, whatever size boxes have; drifting: whether
    their coefficients of coordinates are known to twice the precision, which gradients need, and deep
    networks (`is_deep`). norms: see `polynomial_bounds`.
    """
    _keep_freed_memory()
    if effort is Effort.POLYNOMIALS:
        anchored = Anchored.of(pixels, graph.device, drifting or is_deep(graph))
        degree = degree_for(graph, pixels)
        asks = norms is not None and bool(are_small(graph, pixels).all())
        return polynomial_bounds(
            graph, anchored, nodes, tolerances, degree, start, deadline, norms, asks, room
        )
    apart = effort is Effort.PIXELS
    few = pixels.count - len(products) - shared <= MOST_BESIDE_KINKS
    if apart and shared and not drifting and few and graph.drowns:
        known = (graph, pixels, nodes, tolerances, products, shared, start, deadline, norms)
        return replace(kinked_bounds(*known), room=room)
    if are_small(graph, pixels).all():
        anchored = Anchored.of(pixels, graph.device)
        if apart:
            anchored = replace(anchored, away=_apart(anchored.away, shared))
        most = room + anchored.away.symbols
        found = bounds_about(graph, anchored, nodes, tolerances, most, start, deadline)
    else:
        alike = None
        if clipped is not None and clipped != start and not apart:
            alike = clipped_alike(graph, clipped, pixels)
            pixels, start = (pixels, start) if alike is None else (alike.pixels, clipped)
        known = Forms.of(pixels, graph.device)
        if apart:
            known, effort = _apart(known, shared), Effort.FORMS
        most = room + known.symbols
        found = bounds_of(graph, known, nodes, tolerances, most, start, effort, deadline)
        found = found if alike is None else alike.told(found)
    return replace(found, room=room)


def _apart(pixels: Forms, shared: int) -> Forms:
    """With a symbol for each error; or with so many of the last coordinates as symbols, if there are any."""
    return replace(pixels, count=pixels.count - shared) if shared else pixels.apart()


def bounds_about(
    graph: Graph,
    pixels: Anchored,
    nodes: Collection[int],
    tolerances: Mapping[int, Slack],
    room: int,
    start: int = 0,
    deadline: Deadline = NEVER,
) -> Bounds:
    """The network over boxes, node `start` being known to lie within `pixels` ``(B, C, H, W)``.

    As `bounds_of` with forms alone; every node after `start` depends on it alone.

    Raises Expired where the deadline passes on the way.
    """
    values: dict[int, Anchored] = {start: pixels}
    kept: dict[int, Forms] = {start: pixels.whole} if start in nodes else {}
    slopes: dict[int, Derivative | SmoothSlopes | Choice | Factors | Shares | Scales] = {}
    pull = pixels.anchor.new_zeros((len(pixels.anchor), pixels.away.count))
    doubts, used = pixels.anchor.new_zeros(len(pixels.anchor)), pixels.away.symbols
    own = slacks_over(graph, pixels.anchor, tolerances)
    for index, inputs in graph.walked(values, start, deadline):
        layer = graph.nodes[index].layer
        if isinstance(layer, AbstractAffine):
            values[index] = anchored_affine(layer, *inputs, norm=graph.norm(index))
        else:
            if isinstance(layer, AbstractJoint):
                done = anchored_joint(graph, index, inputs, room, used, nodes)
                blame = done.values.away
            else:
                assert isinstance(layer, PiecewiseLinear | MaxPool | Smooth), "only node 0 is an Input"
                done = anchored_units(layer, inputs[0], own.get(index), room, used)
                blame = done.values.away if isinstance(layer, MaxPool) else inputs[0].away
            values[index], slopes[index] = done.values, done.slopes
            used = max(used, done.values.away.symbols)
            pull, doubts = pull + blame.flattened().blamed(done.deviation), doubts + done.slopes.doubts
        if index in nodes:
            kept[index] = values[index].whole
    return Bounds(graph, kept, slopes, pull, doubts, room, tolerances, None, deadline)


@lru_cache(maxsize=1)
def _keep_freed_memory() -> None:
    """Have forms and rows laid where others were, once for the process.

    Else each is new memory, which the system clears first: up to a third of the time.
    """
    torch.empty(_KEPT_BYTES, dtype=torch.uint8)
