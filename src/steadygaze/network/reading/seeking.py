"""Images at which an imported network may differ from its original: each unit is seen on each piece.

What is read in part (a slope, a bound, an argument given per channel) shows only where the units concerned
are on the piece concerned, which few images of a small box reach. So images are sought, in the legal range
and beyond it, until each unit of each layer was seen on each of its pieces, or time is up: random ones,
shades, single channels, scaled ones, and then, for units still missing, steps along the gradient of their own
input.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain, zip_longest

import torch
from torch import Tensor

from steadygaze.network.graph import Graph
from steadygaze.network.pieces import MaxPool, PiecewiseLinear

# Candidates evaluated at once, and units that are driven to a piece at once.
_BATCH = 16
# How far beyond the legal range candidates are scaled.
_SCALES = (3.0, -1.0, 20.0, -20.0)
# A step along a unit's gradient goes this much farther than to its breakpoint, were the network affine.
_BEYOND = (1.3, 4.0)


def telling_images(graph: Graph, images: Tensor, most: int, seconds: float) -> Tensor:
    """Up to so many images ``(k, C, H, W)``, each of which shows a unit on a piece that none before it does.

    images ``(B, C, H, W)`` are compared anyway: what they show counts as seen. Smooth units have no pieces;
    networks of these alone get a few random images.
    """
    began = time.perf_counter()
    generator = torch.Generator().manual_seed(0)
    if not graph.piecewise:
        return next(_random(images, generator))[: most // 4]
    seen = {index: _nothing_seen(graph, index) for index in graph.piecewise}
    _note(graph, seen, images)
    kept: list[Tensor] = []
    for batch in chain(_random(images, generator), _driven(graph, seen, images)):
        chosen = _note(graph, seen, batch)
        kept += [batch[row] for row in chosen]
        if len(kept) >= most or time.perf_counter() - began > seconds or all(s.all() for s in seen.values()):
            break
    return torch.stack(kept[:most]) if kept else images[:0]


def _nothing_seen(graph: Graph, index: int) -> Tensor:
    """Which pieces ``(pieces, N)`` each unit was seen on: at first none but those that padding has."""
    layer = graph.nodes[index].layer
    if isinstance(layer, MaxPool):
        return (layer.windows < 0).T.clone()
    assert isinstance(layer, PiecewiseLinear)
    units = int(torch.Size(graph.nodes[index].shape).numel())
    return torch.zeros((len(layer.breakpoints) + 1, units), dtype=torch.bool)


def _note(graph: Graph, seen: dict[int, Tensor], batch: Tensor) -> list[int]:
    """Note what the images show; returns the rows that show something that none before them does."""
    pieces = graph.pieces_at(batch)
    chosen = []
    for row in range(len(batch)):
        new = False
        for index, known in seen.items():
            at = pieces[index][row].long()[None]
            new = new or not bool(known.gather(0, at).all())
            known.scatter_(0, at, True)
        if new:
            chosen.append(row)
    return chosen


def _random(images: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """Random images and shades, single channels, and all of these scaled."""
    shape = images.shape[1:]
    first = images[:1]
    noise = torch.rand((_BATCH, *shape), generator=generator, dtype=torch.float64)
    yield noise
    shades = torch.linspace(0, 1, 4, dtype=torch.float64)[:, None, None, None].expand(-1, *shape)
    lone = torch.eye(shape[0], dtype=torch.float64)[: _BATCH // 2, :, None, None]
    yield torch.cat([shades, 1 - first, lone.expand(-1, *shape), first * (1 - lone), first * lone])
    for scale in _SCALES:
        own = torch.rand((_BATCH // 2, *shape), generator=generator, dtype=torch.float64)
        yield torch.cat([scale * first, scale * (2 * own - 1), scale * (own < 0.1)])


def _driven(graph: Graph, seen: dict[int, Tensor], images: Tensor) -> Iterator[Tensor]:
    """For units that were not seen on some piece, images that bring them there, were the network affine."""
    pending = [_missing(index, known) for index, known in seen.items()]
    wanted = (each for column in zip_longest(*pending) for each in column if each is not None)
    steps: list[Tensor] = []
    for index, unit, piece in wanted:
        if seen[index][piece, unit]:  # seen in the meantime
            continue
        steps += _steps(graph, index, unit, piece, images[:1])
        if len(steps) >= _BATCH:
            yield torch.cat(steps)
            steps = []
    if steps:
        yield torch.cat(steps)


def _missing(index: int, known: Tensor) -> Iterator[tuple[int, int, int]]:
    """Node, unit and piece of what was not seen, in an order that comes around to all parts of a layer."""
    order = torch.randperm(known.shape[1], generator=torch.Generator().manual_seed(index))
    for unit in order.tolist():
        for piece in range(len(known)):
            if not known[piece, unit]:
                yield index, unit, piece


def _steps(graph: Graph, index: int, unit: int, piece: int, start: Tensor) -> list[Tensor]:
    """Images ``(1, C, H, W)`` on the way from `start` to where the unit is on the piece."""
    node = graph.nodes[index]
    source = node.inputs[0]
    value = graph.values_at(start, (source,))[source].flatten(1)
    seed = torch.zeros_like(value)
    if isinstance(node.layer, MaxPool):
        window = node.layer.windows[unit]
        rivals = window[(window >= 0) & (window != window[piece])]
        seed[0, window[piece]] = 1.0
        if len(rivals):
            best = rivals[value[0, rivals].argmax()]
            seed[0, best] = -1.0
        lacking = float(-(seed * value).sum())
    else:
        assert isinstance(node.layer, PiecewiseLinear)
        seed[0, unit] = 1.0
        marks = node.layer.breakpoints.tolist()
        low, high = ([-float("inf"), *marks][piece], [*marks, float("inf")][piece])
        now = float(value[0, unit])
        lacking = low - now if now <= low else high - now
    pulled = graph.pull_back(
        seed.reshape(1, *graph.nodes[source].shape), graph.pieces_at(start), start=source
    )
    slope = float((pulled**2).sum())
    if not slope:
        return []
    nudge = lacking + (1e-3 if lacking >= 0 else -1e-3) * (1 + abs(lacking))
    return [start + far * nudge / slope * pulled for far in _BEYOND]
