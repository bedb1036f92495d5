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
from steadygaze.answer.drawing import CURVES, Drawing, Exhibit, Interval1D, Polygons
from steadygaze.answer.result import KINDS, Result, Shares, Verdict
from steadygaze.certificate.writing import check_certifiable, write_certificate
from steadygaze.deadline import NEVER, Deadline
from steadygaze.errors import SettingError
from steadygaze.geometry.kinds import ROBUST
from steadygaze.geometry.measure import centres
from steadygaze.geometry.sections import bounds, plane_section
from steadygaze.network.reading.from_torch.surroundings import on_processor
from steadygaze.question.problem import Problem
from steadygaze.report import cell, figure, plot_axis, plot_plane, write_report
from steadygaze.search.base import CellMap
from steadygaze.verdict.along import along
from steadygaze.verdict.lone import LONE
from steadygaze.verdict.measuring import measure
from steadygaze.verdict.plain import decided_by_rounding
from steadygaze.verdict.reading import Around, Scales, scales_of
from steadygaze.verdict.surroundings import interrupts
from steadygaze.verdict.surveying import survey

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Points along the axis at which curves are drawn where they vary inside cells.
_STEPS = 512
# Of cells whose maps vary so many are looked at as so many products take (see `Graph.effort`).
_PRODUCTS = 3 * 10**9

_UNMEASURED = "No likeness was measured: the time was over before one point had been looked at."


@dataclass(frozen=True)
class PointAnswer:
    """What holds at one point, by plain evaluation of the original model.

    Attributes:
        kind: `"robust"`, `"class-changed"` or `"attention-changed"`.
        predicted: the class there.
        class_gap: f_c minus the largest of the other logits; above 0 the class holds.
        inconsistency: how far the saliency map is from the expected one; None where the class alone was asked
            about.
        map_by_rounding: whether units are so near to a breakpoint that the original's own rounding decides
            on its map. Of units that are level the convention decides instead.
    """

    kind: str
    predicted: int
    class_gap: float
    inconsistency: float | None
    map_by_rounding: bool = False


@dataclass(frozen=True, eq=False)
class Answer:
    """What `verify` returns. In a notebook it shows itself.

    Attributes:
        result: the answer as a plain record, which is what `result.json` holds.
        problem: the question; `solve(answer.problem, method=...)` asks it again.
        map: the judged cells.
        around: the robust part that contains 0.
    """

    result: Result
    problem: Problem
    map: CellMap
    around: Around

    @property
    def verdict(self) -> Verdict:
        """Robust, violated or unknown, over the whole box; compare it with `Verdict.ROBUST` or
        `"robust"`."""
        return self.result.verdict

    @property
    def safe_scale(self) -> float | None:
        """Largest s in [0, 1] with s times the box wholly robust; None where the engine does not know."""
        return self.result.safe_scale

    @property
    def shares(self) -> Shares:
        """Shares of the volume of the box by kind; together they are 1."""
        return self.result.shares

    @on_processor()
    def at(self, theta: Sequence[float]) -> PointAnswer:
        """Evaluate the original model at one point of the box, in its own precision.

        Args:
            theta: one amount for each parameter, in the order of the chain.

        Returns:
            What holds there.

        Raises:
            SettingError: if the point has another number of amounts or lies outside of the box.
        """
        point = self._inside(theta)
        points = self.problem.replay(point[None])
        return PointAnswer(
            KINDS[points.kind[0]],
            int(points.predicted[0]),
            float(points.gap[0]),
            None if self.problem.class_alone else float(points.inconsistency[0]),
            bool(decided_by_rounding(self.problem, point[None])[0]),
        )

    @on_processor()
    def measured(self, points: int = 200, seed: int = 0, time_limit: float | None = None) -> Answer:
        """The same answer with other measures of likeness beside it, taken at random points: no claim.

        Pearson's and Spearman's correlation and SSIM of the map with the expected one, where the class holds;
        they are in `result.measured`, and in what `save` writes.

        Args:
            points: how many are drawn, uniformly in the box.
            seed: of the draws.
            time_limit: seconds, None for no limit. The points that were looked at by then, or by Ctrl-C, are
                those that count as drawn.

        Returns:
            The answer with them.

        Raises:
            SettingError: if there are to be no points, the class alone was asked about, or scikit-image is
                not installed.
        """
        with interrupts() as asked:
            deadline = replace(Deadline.after(time_limit), halted=asked)
            found = measure(self.problem, points, seed, deadline)
        if not found.drawn:
            return replace(self, result=replace(self.result, notes=(*self.result.notes, _UNMEASURED)))
        return replace(self, result=replace(self.result, measured=found))

    def _inside(self, theta: Sequence[float]) -> np.ndarray:
        """The point ``(n,)``, of the box."""
        point, box = np.asarray(theta, np.float64).reshape(-1), self.problem.box
        if len(point) != len(box) or not ((box[:, 0] <= point) & (point <= box[:, 1])).all():
            raise SettingError(
                f"theta is {list(theta)}; it must be {len(box)} numbers "
                f"within {[tuple(r) for r in box.tolist()]}"
            )
        return point

    def scales(self, deadline: Deadline = NEVER) -> Scales:
        """How far class and attention hold each, and where they fail, as multiples of the box.

        Where the class alone was asked about nothing is said of attention.
        """
        result = self.result
        found = scales_of(self.map, self.problem.box, result.safe_scale, result.nearest_failure, deadline)
        alone = self.problem.class_alone
        return replace(found, attention_holds=None, attention_fails=None) if alone else found

    def figure(self) -> Figure:
        """The picture of `map.png` as a matplotlib figure that pyplot does not know.

        One parameter: inconsistency and class gap along it. Two: the map of the box. More: the slices through
        0 for each pair.
        """
        return figure(self.result, self.drawing())

    @on_processor()
    def plot(
        self,
        ax: Axes | None = None,
        *,
        axes: tuple[str | int, str | int] | None = None,
        at: Sequence[float] | None = None,
        value: str | None = None,
        legend: bool = True,
    ) -> Axes:
        """Draw the map of the box on matplotlib axes, to stand beside other plots.

        Args:
            ax: the axes to draw on; by default those of a new pyplot figure.
            axes: with three and more parameters, the two to draw across and up, by name
                (`"brightness.amount"`) or place (`0`); by default the first two.
            at: with three and more parameters, the point of the box that the slice goes through, one number
                for each parameter, of which those of `axes` do not matter; by default 0.
            value: with one parameter, the curve to draw: `"inconsistency"` or `"class gap"`; by default the
                first, or where the class alone was asked about, and there is no other, the second.
            legend: whether to say below the axes what is drawn.

        Returns:
            The axes drawn on.

        Raises:
            SettingError: if `axes`, `at` or `value` name nothing that the answer has.
        """
        if len(self.problem.box) == 1:
            allowed = CURVES[self.problem.class_alone :]
            value = allowed[0] if value is None else value
            if value not in allowed:
                raise SettingError(f"the value is {value!r}; allowed: {', '.join(allowed)}")
            return plot_axis(ax, self.result, self._intervals(), value, legend)
        pair = self._pair(axes)
        point = None if at is None else self._inside(at)
        cells = self._polygons(pair, point)
        return plot_plane(ax, self.result, cells, None if point is None else tuple(point.tolist()), legend)

    def _pair(self, axes: tuple[str | int, str | int] | None) -> tuple[int, int]:
        """The places of two parameters."""
        names = [axis.name for axis in self.result.problem.axes()]
        chosen = [names.index(a) if a in names else a for a in axes or (0, 1)]
        if len(chosen) != 2 or chosen[0] == chosen[1] or not set(chosen) <= set(range(len(names))):
            raise SettingError(
                f"the axes are {axes!r}; they must be two of {names}, or their places from 0 on"
            )
        return int(chosen[0]), int(chosen[1])

    def _repr_html_(self) -> str:
        return cell(self.result, self.drawing())

    def __repr__(self) -> str:
        return f"<Answer: {self.result.headline()}>"

    def save(self, folder: str | Path, certificate: bool = False, picture: bool = False) -> Path:
        """Write result.json, report.html and witness/.

        Args:
            folder: where to, made if it is missing; an earlier answer there is replaced in one go.
            certificate: whether to write certificate/ too, the answer in numbers that `steadygaze-check`
                proves or refutes.
            picture: whether to write map.png too, the map as a picture, and to put it into the report for
                browsers without scripts.

        Returns:
            The folder.

        Raises:
            SettingError: if the folder cannot be written, or the answer has no certificate.
        """
        if certificate:
            check_certifiable(self.map)
        drawing = replace(self.drawing(), atlas=self._atlas())
        certify = self._certify if certificate else None
        return write_report(self.result, drawing, Path(folder), certify, picture)

    @on_processor()
    def _atlas(self) -> Atlas:
        drawing, scale = self._drawing, self.result.safe_scale or 0.0
        with LONE:
            return survey(
                self.problem, self.map, drawing.polygons, drawing.exhibits, scale, self.result.problem.image
            )

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
        gap, varying = along(self.problem, edges, varies)
        drift = np.repeat(self._inconsistency(order)[:, None], 2, axis=1)
        drift = np.where(varies[:, None], varying, drift)
        return Interval1D(edges, map_.kind[order], drift, gap)

    def _polygons(self, axes: tuple[int, int], through: np.ndarray | None = None) -> Polygons:
        """The slice along two parameters through 0, or through a point ``(n,)``."""
        box = self.problem.box
        if self.map.inner:
            return _proven(box, axes, self.result.safe_scale or 0.0, through)
        section = plane_section(self.map.cells, axes, box[:, 1] - box[:, 0], through)
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
        worst = None if self.problem.class_alone else self._worst_allowed()
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
            most = int(np.clip(_PRODUCTS // self.problem.graph.effort, 1, 256))
            some = np.linspace(0, len(cells) - 1, min(len(cells), most)).astype(int)
            points = self.problem.at(middles[some])
            return middles[some[int(np.where(points.kind == ROBUST, points.inconsistency, -1.0).argmax())]]
        return middles[int(np.nanargmax(drift))]

    def _exhibit(self, title: str, theta: np.ndarray) -> Exhibit:
        problem, alone = self.problem, self.problem.class_alone
        points, images = problem.replay(theta[None]), problem.images(theta[None])
        return Exhibit(
            title=title,
            theta=tuple(theta.tolist()),
            image=images[0].numpy(),
            saliency=None if alone else problem.shown(points.maps)[0],
            expected=None if alone else problem.shown(problem.expected_at(theta[None]))[0],
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


def _proven(box: np.ndarray, axes: tuple[int, int], scale: float, through: np.ndarray | None) -> Polygons:
    """A section through the box within which all is known to be robust, the rest being left open."""
    if through is not None:
        rest = np.delete(through, axes), np.delete(box * scale, axes, axis=0)
        scale *= bool(((rest[1][:, 0] <= rest[0]) & (rest[0] <= rest[1][:, 1])).all())
    (left, right), (low, high) = box[list(axes)] * scale
    corners = np.array([[left, low], [right, low], [right, high], [left, high]])
    return Polygons(axes, corners, np.array([0, 4]), np.array([ROBUST], np.int8), np.array([np.nan]))
