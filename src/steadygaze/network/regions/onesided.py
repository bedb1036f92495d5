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

from steadygaze.deadline import NEVER, Deadline
from steadygaze.geometry.half_widths import inward
from steadygaze.geometry.sides import pattern_names, pattern_weights
from steadygaze.network.graph import Graph
from steadygaze.network.layers import AbstractAffine
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.regions.fronts import Form
from steadygaze.network.regions.local import SHARE, grown_noise, of_image
from steadygaze.network.regions.piecewise import Stages

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

    noise, wobble: what rounding may leave of the terms of values, and of derivatives; None: not asked for.
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


def regions_from(
    stages: Stages,
    form: Form,
    points: np.ndarray,
    directions: np.ndarray,
    widths: np.ndarray | None = None,
) -> Activation:
    """The regions that contain ``points`` + e ``directions`` (both ``(B, n)``) for all small e > 0.

    form is the perturbed image, affine in theta. A direction must not run along a hinge through its point.
    widths ``(n,)`` of the box: with them regions have tolerances of their own if terms are very unlike.
    """
    found, pieces, logits, spans = _followed(stages, form, points, directions, widths)
    own = [stage.tolerance for stage in found if stage.tolerance is not None]
    return Activation(
        points=np.ascontiguousarray(points),
        hinges=_beside([stage.hinges for stage in found], *points.shape),
        pieces=pieces,
        names=sum((stage.names for stage in found), np.zeros(len(points), np.uint64)),
        packed=_columns([stage.packed for stage in found], len(points), np.uint8),
        turns=_columns([stage.turns for stage in found], len(points), np.int8),
        logits=logits,
        tolerance=None if spans is None else _columns(own, len(points), np.float64),
    )


def _followed(
    stages: Stages,
    form: Form,
    points: np.ndarray,
    directions: np.ndarray,
    widths: np.ndarray | None = None,
    deadline: Deadline = NEVER,
) -> tuple[list[_Found], dict[int, np.ndarray], Affine, Tensor | None]:
    """What each stage adds to the regions, the pieces by nodes, the logits, and the widths as a tensor."""
    graph = stages.graph
    theta = torch.from_numpy(np.ascontiguousarray(points)).to(graph.device)
    toward = torch.from_numpy(np.ascontiguousarray(directions)).to(graph.device)
    number = {stage.node: k for k, stage in enumerate(stages.stages)}
    nodes: dict[int, Form | _Rows] = {0: form}
    spans = None
    if widths is not None and stages.uneven:
        nodes[0], spans = _noisy(form, theta), torch.from_numpy(widths).to(graph.device)
    found: list[_Found] = []
    pieces = {}
    for index, inputs in graph.walked(nodes, deadline=deadline):
        if index in number:
            nodes[index], stage = _picked(stages, number[index], _rows(inputs[0], theta), toward, spans)
            found.append(stage)
            pieces[index] = stage.pieces
        else:
            nodes[index] = _mapped(graph, index, inputs, theta)
    return found, pieces, _affine(_rows(nodes[graph.last], theta)), spans


def distances_of_hinges(
    stages: Stages, form: Form, box: np.ndarray, half: np.ndarray, deadline: Deadline = NEVER
) -> np.ndarray:
    """How far hinges of the box ``(n, 2)`` lie from 0 if the network is affine up to there, sorted ``(H,)``.

    It is taken as it is from 0 on into the box. By the L-infinity norm in lengths ``(n,)``; hinges that do
    not move, or lie outside of the box, are left out.

    Raises Expired where the deadline passes on the way.
    """
    zero, farthest = np.zeros((1, len(half))), float((np.abs(box) / half[:, None]).max())
    distances = [np.zeros(0)]
    for stage in _followed(stages, form, zero, inward(box)[None], deadline=deadline)[0]:
        reach, value = half @ np.abs(stage.hinges.slope[0]), stage.hinges.value[0]
        near = np.flatnonzero((value <= farthest * reach) & (reach > 0))
        distances.append(np.maximum(value[near], 0.0) / reach[near])
    return np.sort(np.concatenate(distances))


def _mapped(graph: Graph, index: int, inputs: tuple[Form | _Rows, ...], theta: Tensor) -> Form | _Rows:
    layer = graph.nodes[index].layer
    assert isinstance(layer, AbstractAffine)
    forms = [each for each in inputs if isinstance(each, Form)]
    if len(forms) == len(inputs):
        return Form(
            layer.forward(*(form.constant[None] for form in forms))[0],
            layer.linear(*(form.directions for form in forms)),
        )
    rows = [_rows(each, theta) for each in inputs]
    slopes = [each.slope.flatten(0, 1) for each in rows]
    slope = layer.linear(*slopes).unflatten(0, theta.shape)
    value = layer.forward(*(each.value for each in rows))
    noises = [each.noise for each in rows if each.noise is not None]
    wobbles = [each.wobble.flatten(0, 1) for each in rows if each.wobble is not None]
    if len(noises) < len(rows):
        return _Rows(value, slope)
    noise = grown_noise(graph, index, [each.value for each in rows], noises)
    wobble = grown_noise(graph, index, slopes, wobbles, constant=False)
    return _Rows(value, slope, noise, wobble.unflatten(0, theta.shape))


def _noisy(form: Form, theta: Tensor) -> _Rows:
    rows, at = _rows(form, theta), of_image(form.constant, form.directions, theta)
    return _Rows(rows.value, rows.slope, at.noise, SHARE * rows.slope.abs())


def _rows(node: Form | _Rows, theta: Tensor) -> _Rows:
    if isinstance(node, _Rows):
        return node
    return _Rows(node.at(theta), node.directions.expand(len(theta), *node.directions.shape))


def _picked(
    stages: Stages, number: int, rows: _Rows, toward: Tensor, spans: Tensor | None
) -> tuple[_Rows, _Found]:
    """Pick each unit's piece; returns the stage's output and what it says of the regions.

    spans ``(n,)``: the widths of the box, where regions have tolerances of their own.
    """
    node = stages.graph.nodes[stages.stages[number].node]
    value, slope = rows.value.flatten(1), rows.slope.flatten(2)
    noise = None if rows.noise is None else rows.noise.flatten(1)
    wobble = None if rows.wobble is None else rows.wobble.flatten(2)
    flat = _Rows(value, slope, noise, wobble)
    if isinstance(node.layer, MaxPool):
        found = _windows(stages, number, flat, toward, spans)
        winners = node.layer.winners(torch.from_numpy(found.pieces).to(value.device))
        of_slopes = winners[:, None].expand(-1, slope.shape[1], -1)
        out, tangent = value.gather(1, winners), slope.gather(2, of_slopes)
        noise = None if noise is None else noise.gather(1, winners)
        wobble = None if wobble is None else wobble.gather(2, of_slopes)
    else:
        assert isinstance(node.layer, PiecewiseLinear)
        found = _units(stages, number, node.layer, flat, toward, spans)
        pieces = torch.from_numpy(found.pieces).to(value.device)
        steep = node.layer.slopes_of(pieces)
        # On the piece that was picked: of a unit that is off not even rounding is left.
        level = node.layer.offsets.expand(-1, value.shape[1]).gather(0, pieces.long())
        out, tangent = level + steep * value, slope * steep[:, None]
        noise = None if noise is None else noise * steep.abs()
        wobble = None if wobble is None else wobble * steep.abs()[:, None]
    shape = node.shape
    return _Rows(
        out.reshape(-1, *shape),
        tangent.reshape(*slope.shape[:2], *shape),
        None if noise is None else noise.reshape(-1, *shape),
        None if wobble is None else wobble.reshape(*slope.shape[:2], *shape),
    ), found


def _units(
    stages: Stages,
    number: int,
    layer: PiecewiseLinear,
    rows: _Rows,
    toward: Tensor,
    spans: Tensor | None,
) -> _Found:
    value, slope = rows.value, rows.slope
    rate = torch.einsum("bn,bnu->bu", toward, slope)
    whole = torch.from_numpy(stages.tolerances[number]).to(value.device)
    units, marks = value.shape[1], layer.breakpoints.tolist()
    levels, sides, owns = [], [], []
    for place, mark in enumerate(marks):
        own = whole[place * units : (place + 1) * units]
        level, loose = value - mark if mark else value, own
        if spans is not None:
            left, unsteady = _left_over(rows, toward, spans)
            own, loose = torch.minimum(left + SHARE * abs(mark), own), torch.minimum(unsteady, own)
        sides.append(torch.where(level.abs() <= own, rate > loose, level > 0))
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
        None if spans is None else torch.cat(owns, dim=1).cpu().numpy(),
    )


def _left_over(rows: _Rows, toward: Tensor, spans: Tensor) -> tuple[Tensor, Tensor]:
    """What rounding may leave of each unit anywhere in a region, and of its derivative in the direction.

    A region is not known before its hinges are: its affine pieces are taken all over the box. Vertices that
    are found by clipping lie off their place, besides.
    """
    assert rows.noise is not None
    assert rows.wobble is not None
    moved = rows.wobble + _OFF_PLACE * rows.slope.abs()
    left = rows.noise + torch.einsum("n,bnu->bu", spans, moved)
    return left, torch.einsum("bn,bnu->bu", toward.abs(), rows.wobble)


def _windows(stages: Stages, number: int, rows: _Rows, toward: Tensor, spans: Tensor | None) -> _Found:
    """The winner of each window is the first of those that are largest, then steepest."""
    value, slope = rows.value, rows.slope
    inputs = torch.from_numpy(stages.inputs[number]).to(value.device)
    count, span = inputs.shape
    level = value[:, inputs.reshape(-1)].reshape(-1, count, span)
    steep = slope[:, :, inputs.reshape(-1)].reshape(*slope.shape[:2], count, span)
    rate = torch.einsum("bn,bnws->bws", toward, steep)
    whole = torch.from_numpy(stages.tolerances[number]).to(value.device)[:, None]
    left = own = loose = whole
    if spans is not None:
        left, unsteady = (part[:, inputs] for part in _left_over(rows, toward, spans))
        top = level.argmax(dim=2, keepdim=True)
        own = torch.minimum(whole, left + left.gather(2, top))
        loose = torch.minimum(whole, unsteady + unsteady.gather(2, top))
    first = level >= level.amax(dim=2, keepdim=True) - own
    rate = torch.where(first, rate, -torch.inf)
    best = (rate >= rate.amax(dim=2, keepdim=True) - loose).to(torch.uint8).argmax(dim=2)
    if spans is not None:
        own = torch.minimum(whole, left + left.gather(2, best[..., None]))
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
        None if spans is None else own.flatten(1).cpu().numpy(),
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
