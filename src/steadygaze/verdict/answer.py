"""The answer object: the result as records, the map behind it, and pictures on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from steadygaze.answer.atlas import Atlas
from steadygaze.answer.drawing import Drawing, Exhibit, Interval1D, Polygons
from steadygaze.answer.result import KINDS, Result, Shares, Verdict
from steadygaze.certificate.writing import check_certifiable, write_certificate
from steadygaze.errors import SettingError
from steadygaze.geometry.kinds import ROBUST
from steadygaze.geometry.measure import centres
from steadygaze.geometry.sections import bounds, plane_section
from steadygaze.network.reading.torch_surroundings import on_processor
from steadygaze.question.problem import Problem
from steadygaze.report import write_report
from steadygaze.search.base import CellMap
from steadygaze.verdict.lone import LONE
from steadygaze.verdict.plain import decided_by_rounding
from steadygaze.verdict.reading import Around
from steadygaze.verdict.surveying import survey

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Points along the axis at which curves are drawn where they vary inside cells.
_STEPS = 512


@dataclass(frozen=True)
class PointAnswer:
    """What holds at one point, by plain evaluation of the original model.

    Attributes:
        kind: "robust", "class-changed" or "attention-changed".
        predicted: the class there. class_gap: f_c - max of the others. inconsistency: of the saliency map.
        map_by_rounding: whether units are so near to a breakpoint that the original's own rounding decides on
        its map. Of units that are level the convention decides instead (docs/exactness.md, *Level units*).
    """

    kind: str
    predicted: int
    class_gap: float
    inconsistency: float
    map_by_rounding: bool = False


@dataclass(frozen=True, eq=False)
class Answer:
    """What `verify` returns.

    Attributes:
        result: the contract (`result.json`).
        problem: the question. map: the judged cells.
        around: the robust part that contains 0.
    """

    result: Result
    problem: Problem
    map: CellMap
    around: Around

    @property
    def verdict(self) -> Verdict:
        """Robust, violated or unknown, over the whole box."""
        return self.result.verdict

    @property
    def safe_scale(self) -> float | None:
        """Largest s in [0, 1] with s times the box wholly robust."""
        return self.result.safe_scale

    @property
    def shares(self) -> Shares:
        """Shares of the box by kind."""
        return self.result.shares

    @on_processor()
    def at(self, theta: Sequence[float]) -> PointAnswer:
        """Evaluate the original model at one point of the box. Raises SettingError outside of it."""
        point, box = np.asarray(theta, np.float64).reshape(-1), self.problem.box
        if len(point) != len(box) or not ((box[:, 0] <= point) & (point <= box[:, 1])).all():
            raise SettingError(
                f"theta is {list(theta)}; it must be {len(box)} numbers "
                f"within {[tuple(r) for r in box.tolist()]}"
            )
        points = self.problem.replay(point[None])
        return PointAnswer(
            KINDS[points.kind[0]],
            int(points.predicted[0]),
            float(points.gap[0]),
            float(points.inconsistency[0]),
            bool(decided_by_rounding(self.problem, point[None])[0]),
        )

    def plot(self) -> Figure:
        """The map as a matplotlib figure."""
        from steadygaze.report.figures import figure  # here: matplotlib is slow to import

        return figure(self.result, self.drawing())

    def save(self, folder: str | Path, certificate: bool = False) -> Path:
        """Write result.json, map.png, report.html and witness/ into the folder; returns it.

        certificate: also write certificate/, the answer in numbers that `steadygaze-check` proves or refutes.
        Raises SettingError where the folder cannot be written, or the answer has no certificate.
        """
        if certificate:
            check_certifiable(self.map)
        drawing = replace(self.drawing(), atlas=self._atlas())
        return write_report(self.result, drawing, Path(folder), self._certify if certificate else None)

    @on_processor()
    def _atlas(self) -> Atlas:
        drawing, scale = self._drawing, self.result.safe_scale or 0.0
        with LONE:
            return survey(self.problem, self.map, drawing.polygons, drawing.exhibits, scale)

    @on_processor()
    def _certify(self, folder: Path) -> None:
        write_certificate(self.result, self.problem, self.map, self.around.cells, folder)

    @on_processor()
    def drawing(self) -> Drawing:
        """What the pictures need."""
        return self._drawing

    @cached_property
    def _drawing(self) -> Drawing:
        n, boundary = len(self.problem.box), self.around.boundary
        if n == 1:
            return Drawing(self._intervals(), (), self._exhibits(), boundary)
        slices = tuple(self._polygons(axes) for axes in combinations(range(n), 2))
        return Drawing(None, slices, self._exhibits(), boundary)

    def _intervals(self) -> Interval1D:
        map_ = self.map
        order = np.argsort(centres(map_.cells)[:, 0])
        edges = np.hstack(bounds(map_.cells))[order]
        varies = self.problem.follows_maps | (map_.region[order] < 0)
        # Where values vary inside a cell they are drawn at points within, too.
        parts = np.ceil(varies * np.ptp(edges, axis=1) / np.ptp(edges) * _STEPS).astype(int).clip(1)
        edges, order, varies = _parted(edges, parts), np.repeat(order, parts), np.repeat(varies, parts)
        points = self.problem.at(edges.reshape(-1, 1))
        drift = np.repeat(self._inconsistency(order)[:, None], 2, axis=1)
        drift = np.where(varies[:, None], points.inconsistency.reshape(-1, 2), drift)
        return Interval1D(edges, map_.kind[order], drift, points.gap.reshape(-1, 2))

    def _polygons(self, axes: tuple[int, int]) -> Polygons:
        box = self.problem.box
        if self.map.inner:
            return _proven(box, axes, self.result.safe_scale or 0.0)
        section = plane_section(self.map.cells, axes, box[:, 1] - box[:, 0])
        drift = self._inconsistency(section.cell)
        return Polygons(axes, section.corners, section.ptr, self.map.kind[section.cell], drift, section.cell)

    def _inconsistency(self, cells: np.ndarray) -> np.ndarray:
        region = self.map.region[cells]
        known = region >= 0
        out = np.full(len(cells), np.nan)
        out[known] = self.map.inconsistency[region[known]]
        return out

    def _exhibits(self) -> tuple[Exhibit, ...]:
        chosen = [("original", np.zeros(len(self.problem.box)))]
        worst = self._worst_allowed()
        if worst is not None:
            chosen.append(("worst allowed", worst))
        if self.result.nearest_failure is not None:
            chosen.append(("nearest failing", np.array(self.result.nearest_failure.theta)))
        return tuple(self._exhibit(title, theta) for title, theta in chosen)

    def _worst_allowed(self) -> np.ndarray | None:
        """A point of R0 whose map is the farthest from the expected one (the middle of its cell)."""
        cells = self.around.cells
        if not len(cells):
            return None
        middles = centres(self.map.cells.take(cells)[0])
        drift = self._inconsistency(cells)
        if np.isnan(drift).all():
            some = np.linspace(0, len(cells) - 1, min(len(cells), 256)).astype(int)
            points = self.problem.at(middles[some])
            return middles[some[int(np.where(points.kind == ROBUST, points.inconsistency, -1.0).argmax())]]
        return middles[int(np.nanargmax(drift))]

    def _exhibit(self, title: str, theta: np.ndarray) -> Exhibit:
        problem = self.problem
        points, images = problem.replay(theta[None]), problem.images(theta[None])
        return Exhibit(
            title=title,
            theta=tuple(theta.tolist()),
            image=images[0].numpy(),
            saliency=problem.shown(problem.replayed_maps(images))[0],
            expected=problem.shown(problem.expected_at(theta[None]))[0],
            predicted=int(points.predicted[0]),
            class_gap=float(points.gap[0]),
            inconsistency=float(points.inconsistency[0]),
            kind=int(points.kind[0]),
        )


def _parted(edges: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Each interval ``(M, 2)`` cut into so many equal parts ``(M,)``, in order."""
    number = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    low, high = np.repeat(edges, parts, axis=0).T
    share = np.stack([number, number + 1], axis=1) / np.repeat(parts, parts)[:, None]
    return low[:, None] * (1 - share) + high[:, None] * share


def _proven(box: np.ndarray, axes: tuple[int, int], scale: float) -> Polygons:
    """A section through the box within which all is known to be robust, the rest being left open."""
    (left, right), (low, high) = box[list(axes)] * scale
    corners = np.array([[left, low], [right, low], [right, high], [left, high]])
    return Polygons(axes, corners, np.array([0, 4]), np.array([ROBUST], np.int8), np.array([np.nan]))
