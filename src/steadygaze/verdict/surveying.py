"""What the page can tell of any theta: which cell it lies in, and what the network says there.

Where regions are known, one point of a region tells all of it: logits are affine on it and gradient maps are
constant. Regions are looked at in the order in which that tells most, as long as the time for it lasts; where
they are not known, points of a grid are, coarse ones first.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from steadygaze.answer.asked import ImageInfo
from steadygaze.answer.atlas import Atlas, CellTable, FloatArray, Forms, HalfSpaces, Sheet, Stops, Stretches
from steadygaze.answer.drawing import Exhibit, Polygons
from steadygaze.certificate.cells import piece_of_cells
from steadygaze.errors import NotJointlyAffine
from steadygaze.geometry.cells import Cells, from_polytopes
from steadygaze.geometry.draws import unit_draws
from steadygaze.geometry.kinds import ROBUST
from steadygaze.geometry.measure import centres, facets
from steadygaze.geometry.planes import planes_of_facets
from steadygaze.geometry.sections import bounds
from steadygaze.network.regions.pushing import push_forward
from steadygaze.network.saliency import AbstractGradientSaliency
from steadygaze.question.problem import Problem
from steadygaze.report.raster import owners
from steadygaze.search.base import CellMap

# Looking takes about so many seconds of its thread, and ends at so many points; so many are looked at at
# once, or of large networks as many as so many products take (see `Graph.effort`).
_SECONDS, _MOST_STOPS, _TOGETHER, _EFFORT = 0.4, 6000, 128, 10**9
# Facets whose planes are worked out; corners of polygons that are kept as such; else elements of a picture
# along a side.
_MOST_FACETS, _MOST_CORNERS, _SIDE = 100_000, 320_000, 420
# Points of a grid, by the number of parameters; with more of them, of the last.
_GRID = (0, 257, 33, 11, 6, 5)
_MOST_GRID = 4096
# Bins across each parameter, of each of which the largest region comes first.
_BINS = 16
# Planes that differ by less, in widths of the box, are one.
_SAME = 1e-10
# A share of the box below which it does not matter that regions are not known.
_NEXT_TO_NOTHING = 1e-3
# What is told of maps where none was asked about.
_NO_MAPS: dict[str, None] = {"saliency": None, "inconsistency": None}
# Forms of a picture that are kept; with more pieces each point that is looked at has its own.
_MOST_NUMBERS = 2_000_000


def survey(
    problem: Problem,
    map_: CellMap,
    polygons: Sequence[Polygons],
    exhibits: Sequence[Exhibit],
    safe_scale: float,
    image: ImageInfo,
) -> Atlas:
    """The atlas of an answer.

    `polygons` and `exhibits` are its drawing's; `safe_scale` and `image`, which may name a class, are its
    result's.
    """
    atlas = _Survey(problem, map_, polygons, exhibits, safe_scale).atlas()
    return replace(atlas, classes=_named(atlas.classes, image))


@dataclass(frozen=True, eq=False)
class _Survey:
    problem: Problem
    map: CellMap
    polygons: Sequence[Polygons]
    exhibits: Sequence[Exhibit]
    safe_scale: float

    def atlas(self) -> Atlas:
        problem, map_ = self.problem, self.map
        cells, ground = self._ground()
        gradient = isinstance(problem.saliency, AbstractGradientSaliency)
        same_map = gradient and not problem.saliency.varies
        stops = self._stops(time.thread_time() + _SECONDS)
        return Atlas(
            classes=tuple(map(str, range(problem.graph.classes))),
            cells=cells,
            cell_count=map_.cells.count,
            region_count=len(map_.pattern),
            ground=ground,
            stops=stops,
            image=self._image_forms,
            expected=self._expected_forms,
            pieces=self._pieces(),
            gram=self._gram() if stops.angles is not None else None,
            same_inconsistency=same_map and not problem.follows_maps,
            same_map=same_map,
            same_scores=self._affine,
        )

    # -- where cells lie

    @property
    def _low(self) -> np.ndarray:
        return self.problem.box[:, 0]

    @property
    def _widths(self) -> np.ndarray:
        return self.problem.box[:, 1] - self.problem.box[:, 0]

    def _placed(self, theta: np.ndarray, axes: Sequence[int] | None = None) -> np.ndarray:
        chosen = slice(None) if axes is None else list(axes)
        return (theta - self._low[chosen]) / self._widths[chosen]

    def _table(self, number: np.ndarray) -> CellTable:
        map_ = self.map
        region = map_.region[number]
        drift = np.full(len(number), np.nan)
        known = (region >= 0) & (not self.problem.class_alone)
        drift[known] = map_.inconsistency[region[known]]
        return CellTable(number, map_.kind[number], region, map_.volume[number] / self.problem.volume, drift)

    def _ground(self) -> tuple[CellTable, Stretches | HalfSpaces | tuple[Sheet, ...]]:
        map_, n = self.map, len(self.problem.box)
        if map_.inner:
            return self._proven_box()
        number = np.flatnonzero(map_.volume > 0)
        some = map_.cells if len(number) == map_.cells.count else map_.cells.take(number)[0]
        if n == 1:
            low, high = bounds(some) if some.count else (np.zeros((0, 1)),) * 2
            return self._table(number), Stretches(self._placed(np.hstack([low, high]), (0, 0)))
        if n > 2 and some.count and len(some.idx) < _MOST_FACETS * n:
            found = facets(some)
            if len(found.cell) <= _MOST_FACETS:
                return self._table(number), self._half_spaces(some, found.cell, found.bit, found.key)
        return self._sheets()

    def _proven_box(self) -> tuple[CellTable, HalfSpaces]:
        """One cell: the part of the box within which all is known to be robust."""
        n, scale = len(self.problem.box), self.safe_scale
        low, high = self._placed(self.problem.box.T * scale)
        table = CellTable(
            np.zeros(1, np.int64),
            np.full(1, ROBUST, np.int8),
            np.full(1, -1),
            np.full(1, scale**n),
            np.full(1, np.nan),
        )
        side = np.arange(1, n + 1)
        facet = np.concatenate([side, -(side + n)])
        planes = np.concatenate([np.eye(n), np.eye(n)])
        offset = np.concatenate([high, low])
        return table, HalfSpaces(planes, offset, np.array([0, 2 * n]), facet, low[None], high[None])

    def _half_spaces(self, cells: Cells, cell: np.ndarray, bit: np.ndarray, key: np.ndarray) -> HalfSpaces:
        """The cells by the planes of their facets, each plane once."""
        _, first, each = np.unique(key, return_index=True, return_inverse=True)
        planes = planes_of_facets(cells, cell[first], bit[first], self._widths)
        normal, offset = planes.normal, planes.offset - planes.normal @ (self._low / self._widths)
        main = np.abs(np.round(normal, 6)).argmax(axis=1)
        turned = normal[np.arange(len(main)), main] < 0
        normal[turned], offset[turned] = -normal[turned], -offset[turned]
        _, kept, same = np.unique(
            np.rint(np.hstack([normal, offset[:, None]]) / _SAME).astype(np.int64),
            axis=0, return_index=True, return_inverse=True,
        )  # fmt: skip
        plane = same.reshape(-1)[each.reshape(-1)]
        normal, offset = normal[kept], offset[kept]
        inside = self._placed(centres(cells))[cell]
        below = np.einsum("kn,kn->k", normal[plane], inside) <= offset[plane]
        order = np.argsort(cell, kind="stable")
        ptr = np.concatenate([[0], np.cumsum(np.bincount(cell, minlength=cells.count))])
        low, high = map(self._placed, bounds(cells))
        return HalfSpaces(normal, offset, ptr, np.where(below, plane + 1, -(plane + 1))[order], low, high)

    def _sheets(self) -> tuple[CellTable, tuple[Sheet, ...]]:
        """The cells that the sections through 0 meet, or of very many those that a picture of them shows."""
        drawn = []
        for part in self.polygons:
            assert part.cell is not None
            picture = None
            if len(part.points) * len(self.polygons) > _MOST_CORNERS:
                box = self.problem.box[list(part.axes)]
                extent = (box[0, 0], box[0, 1], box[1, 0], box[1, 1])
                owner = owners(part.points, part.offsets, extent, (_SIDE, _SIDE))
                picture = np.concatenate([part.cell, [-1]])[owner]  # UNCOVERED is -1, the entry appended last
            drawn.append((part, picture))
        shown = [part.cell if picture is None else picture[picture >= 0] for part, picture in drawn]
        number = np.unique(np.concatenate(shown)) if shown else np.zeros(0, np.int64)
        row = np.full(self.map.cells.count + 1, -1)
        row[number] = np.arange(len(number))
        none = np.zeros((0, 2)), np.zeros(1, np.int64)
        sheets = tuple(
            Sheet(part.axes, row[part.cell], self._placed(part.points, part.axes), part.offsets)
            if picture is None
            else Sheet(part.axes, np.zeros(0, np.int64), *none, row[picture])
            for part, picture in drawn
        )
        return self._table(number), sheets

    # -- pictures that are affine

    @cached_property
    def _affine(self) -> bool:
        """Whether logits are affine on regions."""
        return self.problem.is_exact

    @cached_property
    def _in_pieces(self) -> bool:
        """Whether the image is affine on pieces."""
        try:
            return bool(self.problem.pieces)
        except NotJointlyAffine:
            return False

    def _pieces(self) -> HalfSpaces | None:
        if not self._in_pieces or len(self.problem.pieces) == 1:
            return None
        tiles = from_polytopes(tuple(piece.polytope for piece in self.problem.pieces))
        found = facets(tiles)
        return self._half_spaces(tiles, found.cell, found.bit, found.key)

    @cached_property
    def _image_forms(self) -> Forms | None:
        problem = self.problem
        count = (1 + len(problem.box)) * problem.image.size
        if not self._in_pieces or count * len(problem.pieces) > _MOST_NUMBERS:
            return None
        return Forms(
            np.stack([piece.image.base for piece in problem.pieces]),
            np.stack([piece.image.directions for piece in problem.pieces]),
        )

    @cached_property
    def _expected_forms(self) -> Forms | None:
        problem, n = self.problem, len(self.problem.box)
        if problem.class_alone:
            return None
        shape = problem.map0.shape
        if not problem.moves_map:
            base = _flat(problem.shown(problem.map0[None]))
            return Forms(base, np.zeros((1, n, *base.shape[1:])))
        if not self._in_pieces or (1 + n) * problem.map0.numel() * len(problem.pieces) > _MOST_NUMBERS:
            return None
        parts = [np.concatenate([form.base[None], form.directions]) for form in problem.expected_pieces]
        if problem.inconsistency.counts_entries and problem.compared is not None:  # left out, not 0
            whole = np.zeros((len(parts), n + 1, problem.map0.numel()))
            whole[..., problem.compared.numpy()] = np.stack(parts)
            parts = list(whole)
        shown = [_flat(problem.shown(torch.from_numpy(part).reshape(n + 1, *shape))) for part in parts]
        return Forms(np.stack([part[0] for part in shown]), np.stack([part[1:] for part in shown]))

    @property
    def _by_angles(self) -> bool:
        """Whether the inconsistency follows from the angle between two maps, one constant, one affine."""
        problem = self.problem
        gradient = isinstance(problem.saliency, AbstractGradientSaliency) and not problem.saliency.varies
        return self._affine and gradient and problem.moves_map and problem.inconsistency.turns

    def _gram(self) -> np.ndarray:
        whole = (np.concatenate([f.base[None], f.directions]) for f in self.problem.expected_pieces)
        return np.stack([part @ part.T for part in whole])

    # -- what the network says

    def _stops(self, until: float) -> Stops:
        """Looks at the exhibits' points, then regions, then a grid where regions are not known."""
        problem, n = self.problem, len(self.problem.box)
        shown = np.array([exhibit.theta for exhibit in self.exhibits]).reshape(-1, n)
        cell, theta = self._telling_cells()
        region = self.map.region[cell]
        known = float(self.map.volume[self.map.region >= 0].sum()) / problem.volume
        if known < 1 - _NEXT_TO_NOTHING or not self._affine:
            grid = self._grid()
            theta, region = np.concatenate([theta, grid]), np.concatenate([region, np.full(len(grid), -1)])
            cell = np.concatenate([cell, np.full(len(grid), -1)])
        theta = np.concatenate([shown, theta])[:_MOST_STOPS]
        region = np.concatenate([np.full(len(shown), -1), region])[:_MOST_STOPS]
        piece = np.full(len(theta), -1)
        if self._affine:
            own = np.concatenate([np.full(len(shown), -1), cell])[:_MOST_STOPS]
            standing = np.flatnonzero(own >= 0)
            piece[standing] = piece_of_cells(self.map.cells.take(own[standing])[0], problem.pieces)
        parts: list[Stops] = []
        together = int(np.clip(_EFFORT // problem.graph.effort, 1, _TOGETHER))
        for first in range(0, len(theta), together):
            if first >= len(shown) and parts and time.thread_time() > until:
                break
            some = slice(first, first + together)
            parts.append(self._look(theta[some], region[some], piece[some]))
        return _joined(parts)

    def _telling_cells(self) -> tuple[np.ndarray, np.ndarray]:
        """The largest cell of each region and its middle, first one in each part of the box, then by size."""
        map_ = self.map
        cells = np.flatnonzero((map_.region >= 0) & (map_.volume > 0))
        if not len(cells) or not self._affine:
            return np.zeros(0, np.int64), np.zeros((0, len(self.problem.box)))
        cells = cells[np.argsort(-map_.volume[cells], kind="stable")]
        cells = cells[np.sort(np.unique(map_.region[cells], return_index=True)[1])]
        middles = centres(map_.cells.take(cells)[0])
        bins = np.clip((self._placed(middles) * _BINS).astype(int), 0, _BINS - 1)
        first = np.zeros(len(cells), bool)
        first[np.unique(bins, axis=0, return_index=True)[1]] = True
        order = np.concatenate([np.flatnonzero(first), np.flatnonzero(~first)])
        return cells[order], middles[order]

    def _grid(self) -> np.ndarray:
        """Points of a grid over the box, of a coarse one first; random ones where corners are too many."""
        n = len(self.problem.box)
        if 2**n > _MOST_GRID:
            return self._low + unit_draws(8, _MOST_GRID, n) * self._widths
        side = _GRID[n] if n < len(_GRID) else max(2, int(_MOST_GRID ** (1 / n)))
        at = np.arange(side)
        level = np.where(at == 0, 30, np.log2(np.maximum(at & -at, 1))).astype(int)
        index = np.stack(np.meshgrid(*[at] * n, indexing="ij"), axis=-1).reshape(-1, n)
        order = np.argsort(-level[index].min(axis=1), kind="stable")
        return self._low + index[order] / (side - 1) * self._widths

    def _look(self, theta: np.ndarray, region: np.ndarray, piece: np.ndarray) -> Stops:
        """Evaluates the imported network at theta ``(B, n)``."""
        problem, n = self.problem, len(self.problem.box)
        images = problem.images(theta)
        logits, pieces = problem.graph.logits_and_pieces(problem.unclipped(theta))
        slopes = np.zeros((len(theta), n, problem.graph.classes))
        for number in np.unique(piece[piece >= 0]):
            rows = torch.from_numpy(np.flatnonzero(piece == number))
            own = {node: part[rows] for node, part in pieces.items()}
            along = torch.from_numpy(np.ascontiguousarray(problem.pieces[number].image.directions))
            moved = push_forward(
                problem.graph, along.to(problem.graph.device), own, problem.graph.last, len(rows)
            )
            slopes[rows.numpy()] = moved.cpu().numpy()
        maps = _NO_MAPS if problem.class_alone else self._maps(images, theta, piece)
        return Stops(
            theta,
            np.where(piece >= 0, region, -1),
            logits.cpu().numpy(),
            slopes,
            image=None if self._image_forms is not None else images.numpy(),
            **maps,
        )

    def _maps(
        self, images: torch.Tensor, theta: np.ndarray, piece: np.ndarray
    ) -> dict[str, FloatArray | None]:
        """What `Stops` has of the maps at images ``(B, C, H, W)``, by its names."""
        problem = self.problem
        maps, expected = problem.maps_at(images), problem.expected_at(theta)
        actual, wanted = map(self._compared, (maps, expected))
        return {
            "saliency": _flat(problem.shown(maps)),
            "inconsistency": problem.inconsistency.between(actual, wanted).numpy(),
            "expected": None if self._expected_forms is not None else _flat(problem.shown(expected)),
            "angles": self._angles(maps.flatten(1).numpy(), piece) if self._by_angles else None,
        }

    def _compared(self, maps: torch.Tensor) -> torch.Tensor:
        """The entries of maps ``(B, ...)`` that are compared, ``(B, P)``."""
        chosen = self.problem.compared
        return maps.flatten(1) if chosen is None else maps.flatten(1)[:, chosen]

    def _angles(self, maps: np.ndarray, piece: np.ndarray) -> np.ndarray:
        """What `Stops.angles` holds, of whole maps ``(B, P)`` that lie on these pieces; 0 on none."""
        angles = np.zeros((len(maps), len(self.problem.box) + 2))
        actual = self._compared(torch.from_numpy(maps)).numpy()
        for number in np.unique(piece[piece >= 0]):
            form, rows = self.problem.expected_pieces[number], piece == number
            angles[rows, 0] = maps[rows] @ form.base  # whose entries that are not compared are 0
            angles[rows, 1:-1] = maps[rows] @ form.directions.T
            angles[rows, -1] = np.linalg.norm(actual[rows], axis=1)
        return angles


def _named(numbers: Sequence[str], image: ImageInfo) -> tuple[str, ...]:
    """The classes with the name that the data set gives to one of them, where it does."""
    known = image.dataset_class is not None and image.dataset_label in range(len(numbers))
    return tuple(
        str(image.dataset_class) if known and k == image.dataset_label else number
        for k, number in enumerate(numbers)
    )


def _flat(maps: np.ndarray) -> np.ndarray:
    """Maps ``(B, C, h, w)`` or ``(B, h, w)`` summed over the channels."""
    return maps if maps.ndim == 3 else maps.sum(axis=1)


def _joined(parts: Sequence[Stops]) -> Stops:
    columns: dict[str, Any] = {
        name: None if value is None else np.concatenate([getattr(part, name) for part in parts])
        for name, value in vars(parts[0]).items()
    }
    return Stops(**columns)
