"""Activation regions found from one of their boundary points: which one begins there in a given direction.

At a point on hinges, units are zero and the signs of their values say nothing; the signs of their derivatives
in the direction do, layer by layer, for each derivative is that of the pieces picked before it. So the region
that a path enters is known exactly, however many hinges coincide, and no step of any length is taken.

The same pass gives every hinge of the region as an affine function of theta.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from steadygaze.geometry.sides import pattern_names, pattern_weights
from steadygaze.network.graph import Graph
from steadygaze.network.layers import AbstractAffine
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.regions.fronts import Form
from steadygaze.network.regions.local import SHARE, grown_noise, of_image
from steadygaze.network.regions.piecewise import FAINT, Stages

# How far points of facets may lie off their place, in widths of the box.
_OFF_PLACE = 1e-12


@dataclass(frozen=True)
class Affine:
    """Functions affine in theta, row by row: ``value`` (B, k) at the row's point, ``slope`` (B, n, k)."""

    value: np.ndarray
    slope: np.ndarray

    def take(self, rows: np.ndarray) -> Affine:
        """Some of the rows."""
        return Affine(self.value[rows], self.slope[rows])


@dataclass(frozen=True)
class Activation:
    """B activation regions.

    Attributes:
        points: ``(B, n)`` a point in the closure of each.
        hinges: all hinges of all stages, with the sign that makes them at least 0 on the region: ``(B, H)``.
        pieces: for each piecewise node the piece, or the winner, of every unit, uint8 ``(B, units)``.
        names: ``(B,)`` uint64 pattern names, those of `Stages.sides`.
        packed: ``(B, bytes)`` uint8, the patterns, one bit for a hinge and eight for a window.
        turns: ``(B, H)`` int8, what crossing each hinge alone adds to the side of its column.
        logits: ``(B, K)``.
        tolerance: ``(B, H)`` the tolerance of each hinge there, where regions have their own; else None.
    """

    points: np.ndarray
    hinges: Affine
    pieces: dict[int, np.ndarray]
    names: np.ndarray
    packed: np.ndarray
    turns: np.ndarray
    logits: Affine
    tolerance: np.ndarray | None = None

    @property
    def count(self) -> int:
        """Number of regions."""
        return len(self.points)

    def take(self, rows: np.ndarray) -> Activation:
        """Some of the regions."""
        return Activation(
            self.points[rows],
            self.hinges.take(rows),
            {node: pieces[rows] for node, pieces in self.pieces.items()},
            self.names[rows],
            self.packed[rows],
            self.turns[rows],
            self.logits.take(rows),
            None if self.tolerance is None else self.tolerance[rows],
        )


@dataclass(frozen=True)
class _Rows:
    """A node's values ``(B, *shape)`` at the points and their derivatives ``(B, n, *shape)``.

    noise, wobble: what rounding may leave of the terms of values, and of derivatives in the direction, where
    that is asked for.
    """

    value: Tensor
    slope: Tensor
    noise: Tensor | None = None
    wobble: Tensor | None = None


@dataclass(frozen=True)
class _Found:
    """What one stage adds to the regions."""

    hinges: Affine
    pieces: np.ndarray
    names: np.ndarray
    packed: np.ndarray
    turns: np.ndarray
    tolerance: np.ndarray | None
    near: bool


def regions_from(
    stages: Stages,
    form: Form,
    points: np.ndarray,
    directions: np.ndarray,
    widths: np.ndarray | None = None,
) -> Activation:
    """The regions that contain ``points`` + e ``directions`` (both ``(B, n)``) for all small e > 0.

    form is the perturbed image, affine in theta. A direction must not run along a hinge through its point.
    widths ``(n,)`` of the box: with them regions have tolerances of their own where those of the whole box
    may be too large, and units that lie within them on one side.
    """
    if widths is None or not stages.uneven:
        found, near = _regions(stages, form, points, directions, None)
        if widths is None or not near:  # mostly
            return found
    return _regions(stages, form, points, directions, widths)[0]


def _regions(
    stages: Stages, form: Form, points: np.ndarray, directions: np.ndarray, widths: np.ndarray | None
) -> tuple[Activation, bool]:
    """The regions, with tolerances of their own if widths are given; and whether they should have some."""
    graph = stages.graph
    theta = torch.from_numpy(np.ascontiguousarray(points)).to(graph.device)
    toward = torch.from_numpy(np.ascontiguousarray(directions)).to(graph.device)
    number = {stage.node: k for k, stage in enumerate(stages.stages)}
    nodes: dict[int, Form | _Rows] = {0: form}
    reach = None
    if widths is not None:
        nodes[0] = _noisy(form, theta, toward)
        reach = torch.from_numpy(_OFF_PLACE * widths).to(graph.device)
    found: list[_Found] = []
    pieces = {}
    for index in range(1, len(graph.nodes)):
        node = graph.nodes[index]
        inputs = [nodes[source] for source in node.inputs]
        if index in number:
            nodes[index], stage = _picked(stages, number[index], _rows(inputs[0], theta), toward, reach)
            found.append(stage)
            pieces[index] = stage.pieces
        else:
            assert isinstance(node.layer, AbstractAffine)
            nodes[index] = _mapped(graph, index, inputs, theta, toward)
        for source in set(node.inputs):
            if graph.readers[source][-1] == index:
                del nodes[source]
    own = [stage.tolerance for stage in found if stage.tolerance is not None]
    act = Activation(
        points=np.ascontiguousarray(points),
        hinges=_beside([stage.hinges for stage in found], *points.shape),
        pieces=pieces,
        names=sum((stage.names for stage in found), np.zeros(len(points), np.uint64)),
        packed=_columns([stage.packed for stage in found], len(points), np.uint8),
        turns=_columns([stage.turns for stage in found], len(points), np.int8),
        logits=_affine(_rows(nodes[graph.last], theta)),
        tolerance=_columns(own, len(points), np.float64) if widths is not None else None,
    )
    return act, any(stage.near for stage in found)


def distances_of_hinges(stages: Stages, form: Form, toward: np.ndarray, half: np.ndarray) -> np.ndarray:
    """How far hinges lie from 0 if the network is affine up to there, as it is from 0 on towards ``(n,)``.

    By the L-infinity norm in lengths ``(n,)``, sorted ``(H,)``; hinges that do not move are left out.
    """
    hinges = regions_from(stages, form, np.zeros((1, len(half))), toward[None]).hinges
    reach = np.einsum("nh,n->h", np.abs(hinges.slope[0]), half)
    moving = reach > 0
    return np.sort(np.maximum(hinges.value[0, moving], 0.0) / reach[moving])


def _mapped(
    graph: Graph, index: int, inputs: list[Form | _Rows], theta: Tensor, toward: Tensor
) -> Form | _Rows:
    layer = graph.nodes[index].layer
    assert isinstance(layer, AbstractAffine)
    forms = [each for each in inputs if isinstance(each, Form)]
    if len(forms) == len(inputs):
        return Form(
            layer.forward(*(form.constant[None] for form in forms))[0],
            layer.linear(*(form.directions for form in forms)),
        )
    rows = [_rows(each, theta) for each in inputs]
    slope = layer.linear(*(each.slope.flatten(0, 1) for each in rows)).unflatten(0, theta.shape)
    value = layer.forward(*(each.value for each in rows))
    noises = [each.noise for each in rows if each.noise is not None]
    wobbles = [each.wobble for each in rows if each.wobble is not None]
    if len(noises) < len(rows):
        return _Rows(value, slope)
    noise = grown_noise(graph, index, [each.value for each in rows], noises)
    rates = [torch.einsum("bn,bn...->b...", toward, each.slope) for each in rows]
    return _Rows(value, slope, noise, grown_noise(graph, index, rates, wobbles, constant=False))


def _noisy(form: Form, theta: Tensor, toward: Tensor) -> _Rows:
    rows, at = _rows(form, theta), of_image(form.constant, form.directions, theta)
    rate = toward.abs() @ form.directions.abs().flatten(1)
    return _Rows(rows.value, rows.slope, at.noise, SHARE * rate.reshape(at.noise.shape))


def _rows(node: Form | _Rows, theta: Tensor) -> _Rows:
    if isinstance(node, _Rows):
        return node
    return _Rows(node.at(theta), node.directions.expand(len(theta), *node.directions.shape))


def _picked(
    stages: Stages, number: int, rows: _Rows, toward: Tensor, reach: Tensor | None
) -> tuple[_Rows, _Found]:
    """Pick each unit's piece; returns the stage's output and what it says of the regions.

    reach ``(n,)``: how far points may be off their place, where regions have tolerances of their own.
    """
    node = stages.graph.nodes[stages.stages[number].node]
    value, slope = rows.value.flatten(1), rows.slope.flatten(2)
    noise = None if rows.noise is None else rows.noise.flatten(1)
    wobble = None if rows.wobble is None else rows.wobble.flatten(1)
    flat = _Rows(value, slope, noise, wobble)
    if isinstance(node.layer, MaxPool):
        found = _windows(stages, number, flat, toward, reach)
        winners = node.layer.winners(torch.from_numpy(found.pieces).to(value.device))
        out = value.gather(1, winners)
        tangent = slope.gather(2, winners[:, None].expand(-1, slope.shape[1], -1))
        left = [None if own is None else own.gather(1, winners) for own in (noise, wobble)]
    else:
        assert isinstance(node.layer, PiecewiseLinear)
        found = _units(stages, number, node.layer, flat, toward, reach)
        pieces = torch.from_numpy(found.pieces).to(value.device)
        steep = node.layer.slopes_of(pieces)
        # On the piece that was picked: of a unit that is off not even rounding is left.
        level = node.layer.offsets.expand(-1, value.shape[1]).gather(0, pieces.long())
        out, tangent = level + steep * value, slope * steep[:, None]
        left = [None if own is None else own * steep.abs() for own in (noise, wobble)]
    shape = node.shape
    made = [None if own is None else own.reshape(-1, *shape) for own in left]
    return _Rows(out.reshape(-1, *shape), tangent.reshape(*slope.shape[:2], *shape), *made), found


def _units(
    stages: Stages,
    number: int,
    layer: PiecewiseLinear,
    rows: _Rows,
    toward: Tensor,
    reach: Tensor | None,
) -> _Found:
    value, slope = rows.value, rows.slope
    rate = torch.einsum("bn,bnu->bu", toward, slope)
    whole = torch.from_numpy(stages.tolerances[number]).to(value.device)
    units, marks = value.shape[1], layer.breakpoints.tolist()
    levels, sides, owns, near = [], [], [], False
    for place, mark in enumerate(marks):
        own = whole[place * units : (place + 1) * units]
        level, steep = value - mark if mark else value, own
        off = level.abs()
        if reach is not None:
            assert rows.noise is not None
            assert rows.wobble is not None
            within = rows.noise.clamp_min(SHARE * abs(mark)) + torch.einsum("n,bnu->bu", reach, slope.abs())
            own, steep = torch.minimum(within, own), torch.minimum(rows.wobble, own)
        on = off <= own
        near = near or bool((on & (off > FAINT * own)).any())
        sides.append(torch.where(on, rate > steep, level > 0))
        levels.append(level)
        owns.append(own)
    side = torch.cat(sides, dim=1) if len(sides) > 1 else sides[0]
    sign = side.to(value.dtype).mul_(2).sub_(1)
    signed = (torch.cat(levels, dim=1) if len(levels) > 1 else levels[0]) * sign
    turned = (slope.repeat(1, 1, len(marks)) if len(marks) > 1 else slope) * sign[:, None]
    above = side.to(torch.uint8).cpu().numpy()
    pieces = above.reshape(len(above), len(marks), -1).sum(axis=1, dtype=np.uint8)
    return _Found(
        Affine(signed.cpu().numpy(), turned.cpu().numpy()),
        pieces,
        pattern_names(above, stages.names[number]),
        np.packbits(above, axis=1),
        1 - 2 * above.astype(np.int8),
        None if reach is None else torch.cat(owns, dim=1).cpu().numpy(),
        near,
    )


def _windows(stages: Stages, number: int, rows: _Rows, toward: Tensor, reach: Tensor | None) -> _Found:
    """The winner of each window is the first of those that are largest, then steepest."""
    value, slope = rows.value, rows.slope
    inputs = torch.from_numpy(stages.inputs[number]).to(value.device)
    count, span = inputs.shape
    level = value[:, inputs.reshape(-1)].reshape(-1, count, span)
    steep = slope[:, :, inputs.reshape(-1)].reshape(*slope.shape[:2], count, span)
    rate = torch.einsum("bn,bnws->bws", toward, steep)
    tolerance = torch.from_numpy(stages.tolerances[number]).to(value.device)[:, None]
    behind, own, loose = level.amax(dim=2, keepdim=True) - level, tolerance, tolerance
    if reach is not None:
        assert rows.noise is not None
        assert rows.wobble is not None
        top = level.argmax(dim=2, keepdim=True)
        noise, wobble = rows.noise[:, inputs], rows.wobble[:, inputs]
        leader = steep.gather(3, top[:, None].expand(-1, steep.shape[1], -1, -1))
        moved = torch.einsum("n,bnws->bws", reach, (steep - leader).abs())
        own = torch.minimum(tolerance, noise + noise.gather(2, top) + moved)
        loose = torch.minimum(tolerance, wobble + wobble.gather(2, top))
    first = behind <= own
    near = bool((first & (behind > FAINT * own)).any())
    rate = torch.where(first, rate, -torch.inf)
    best = (rate >= rate.amax(dim=2, keepdim=True) - loose).to(torch.uint8).argmax(dim=2)
    ahead = level.gather(2, best[..., None]) - level
    turned = steep.gather(3, best[:, None, :, None].expand(-1, steep.shape[1], -1, 1)) - steep
    winners = best.to(torch.uint8).cpu().numpy()
    turns = np.arange(span, dtype=np.int8) - winners[..., None].astype(np.int8)
    return _Found(
        Affine(ahead.flatten(1).cpu().numpy(), turned.flatten(2).cpu().numpy()),
        stages.pieces_of_sides(winners, number),
        pattern_names(winners, stages.names[number]),
        winners,
        turns.reshape(len(winners), -1),
        None if reach is None else own.flatten(1).cpu().numpy(),
        near,
    )


def hinge_weights(stages: Stages) -> tuple[np.ndarray, np.ndarray]:
    """What the column of each hinge of `Activation.hinges` counts in a name, and the hinge's tolerance."""
    weights, tolerances = [np.zeros(0, np.uint64)], [np.zeros(0)]
    for number, names in enumerate(stages.names):
        span = stages.inputs[number].shape[1] if number in stages.inputs else 1
        weights.append(np.repeat(pattern_weights(names), span))
        tolerances.append(np.repeat(stages.tolerances[number], span))
    return np.concatenate(weights), np.concatenate(tolerances)


def hinge_windows(stages: Stages) -> np.ndarray:
    """The window that each hinge of `Activation.hinges` belongs to, ``(H,)``; -1 for those of other units."""
    windows, count = [np.zeros(0, np.int64)], 0
    for number, names in enumerate(stages.names):
        if number in stages.inputs:
            windows.append(np.repeat(count + np.arange(len(names)), stages.inputs[number].shape[1]))
            count += len(names)
        else:
            windows.append(np.full(len(names), -1))
    return np.concatenate(windows)


def _affine(rows: _Rows) -> Affine:
    return Affine(rows.value.flatten(1).cpu().numpy(), rows.slope.flatten(2).cpu().numpy())


def _beside(parts: list[Affine], count: int, n: int) -> Affine:
    if not parts:
        return Affine(np.zeros((count, 0)), np.zeros((count, n, 0)))
    return Affine(
        np.concatenate([part.value for part in parts], axis=1),
        np.concatenate([part.slope for part in parts], axis=2),
    )


def _columns(parts: list[np.ndarray], count: int, kind: type) -> np.ndarray:
    return np.concatenate(parts, axis=1) if parts else np.zeros((count, 0), kind)
