"""The nearest failure as a point that anybody can replay: it fails in the original model, and by a margin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from steadygaze.answer.result import KINDS, Failure
from steadygaze.deadline import NEVER, Deadline, Expired
from steadygaze.errors import InternalCheckError
from steadygaze.geometry.half_widths import distances, half_widths
from steadygaze.geometry.kinds import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST
from steadygaze.geometry.measure import centres
from steadygaze.geometry.sections import Nearest
from steadygaze.network.integrated import IntegratedGradients
from steadygaze.question.points import Points
from steadygaze.question.problem import Problem
from steadygaze.search.base import CellMap
from steadygaze.verdict.plain import PlainEvaluation, decided_by_rounding
from steadygaze.verdict.reading import failures_by_distance, located

# Failing cells that are tried for a witness before none is believed to exist.
_TRIES = 50
# By how much a witness may be farther from 0 than its cell, relatively. The first is below the digits that
# are shown; the others are for where the model, in its own precision, does not fail so near to the border.
_FARTHER = (1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3, 3e-3, 1e-2, 1e-1, 1.0, np.inf)
# What is farther fails by more, but for rounding: where the first of these points fail, and the last, all do.
_SOME = np.array([0, 1, 2, len(_FARTHER) - 1])
# Rounding in single precision leaves some 1e-5 of an inconsistency; what is farther off by this much is so.
_CLEARLY = 1e-3
# A corner that is farther by less is no farther.
_NO_LONGER = 1e-300


@dataclass(frozen=True)
class Witness:
    """A failing point that replays in the original model."""

    failure: Failure
    theta: np.ndarray


class Tries:
    """Where the original model is tried in a map's failing cells, nearest first; found as far as asked for.

    Going through them raises Expired where the deadline passes on the way.
    """

    def __init__(
        self, problem: Problem, map_: CellMap, norm: str = "linf", deadline: Deadline = NEVER
    ) -> None:
        near = failures_by_distance(map_, problem.box, norm, deadline)
        self._double = problem.network.original.differentiates_in_double
        self._left = (
            _Try(int(map_.kind[found.cell]), found.distance, _inwards(problem, map_, found, norm))
            for found in near
        )
        self._first: list[_Try] = []
        self._none, self._expired = np.zeros((0, len(problem.box))), False

    def ahead(self) -> np.ndarray:
        """The points ``(k, n)`` whose maps are tried first, the likely witness first, if any."""
        try:
            self._first = self._first or list(islice(self._left, 1))
        except Expired:
            self._expired = True
        if not self._first:
            return self._none
        # Where the class is lost, only the one that is taken needs a map (see `_replayed`); and what rounds
        # in double precision mostly decides at the first (see `_steadily_changed`).
        (first,) = self._first
        return first.thetas[_SOME[:1] if self._double or first.kind == CLASS_CHANGED else _SOME]

    def __iter__(self) -> Iterator[_Try]:
        if self._expired:
            raise Expired("the time is over: no failing cell is known to be the nearest")
        return chain(self._first, self._left)


@dataclass(frozen=True)
class _Try:
    """A failing cell, its distance from 0, and the points ``(k, n)`` in it that are tried."""

    kind: int
    distance: float
    thetas: np.ndarray


def find_witness(
    problem: Problem,
    map_: CellMap,
    norm: str = "linf",
    deadline: Deadline = NEVER,
    tries: Tries | None = None,
    plain: PlainEvaluation | None = None,
) -> Witness | None:
    """The nearest failure, inside its cell, where the original model fails as the map says.

    On the cell's border rounding decides what the model does, and decides otherwise in another runtime: the
    witness is as deep inside as the shown digits of its distance allow, or, where the model holds there, one
    step farther than where it fails from there on. Failing points that the map knows of beside its cells
    count as they are. Where the deadline passes on the way, some failure is taken.

    tries: those of the map, if they are begun. plain: an evaluation that may know the points ahead.
    """
    tries = Tries(problem, map_, norm, deadline) if tries is None else tries
    try:
        inside = _in_cells(problem, tries, norm, deadline, plain)
    except Expired:
        inside = _somewhere(problem, map_, norm)
    beside = None if map_.failing is None else _nearest_of(problem, _not_robust(problem, map_), norm)
    known = [inside, beside]
    return min((w for w in known if w is not None), key=lambda w: w.failure.distance, default=None)


def _not_robust(problem: Problem, map_: CellMap) -> np.ndarray:
    """Of the failing points that the map knows of beside its cells, those that it does not prove robust.

    Where units lie within rounding of a breakpoint a single point may have another map than all around it.
    Raises InternalCheckError where rounding does not explain it.
    """
    assert map_.failing is not None
    held = [
        len(cells) > 0 and bool((map_.kind[cells] == ROBUST).all())
        for cells in located(map_, map_.failing, problem.tolerance)
    ]
    contradicting = map_.failing[held]
    if len(contradicting):
        sure = contradicting[~decided_by_rounding(problem, contradicting)]
        if len(sure) and (slip := _nearest_of(problem, sure, "linf")) is not None:
            raise InternalCheckError(
                f"theta = {slip.theta.tolist()} fails, and all cells around it are called robust: the answer "
                f"is withheld; please report this case"
            )
    return map_.failing[~np.array(held, bool)]


def _somewhere(problem: Problem, map_: CellMap, norm: str) -> Witness | None:
    """Of the middles of failing cells, as many as are tried at most, the nearest that replays."""
    failing = np.flatnonzero((map_.kind == CLASS_CHANGED) | (map_.kind == ATTENTION_CHANGED))
    some = failing[np.argsort(-map_.volume[failing], kind="stable")[:_TRIES]]
    return _nearest_of(problem, centres(map_.cells.take(some)[0]), norm)


def _nearest_of(problem: Problem, thetas: np.ndarray, norm: str) -> Witness | None:
    """The nearest of the points ``(B, n)`` at which the original model fails; None if none does by then."""
    distance = distances(thetas, half_widths(problem.box), norm)
    order = np.argsort(distance)
    # Where a single map takes long, the nearest that fails is the last that is looked at.
    size = 1 if isinstance(problem.saliency, IntegratedGradients) else max(1, len(thetas))
    for start in range(0, len(thetas), size):
        block = order[start : start + size]
        try:
            points = problem.replay(thetas[block])
        except Expired:
            return None
        failing = np.flatnonzero(points.failing & legal(problem, thetas[block]))
        if len(failing):
            first = int(failing[0])
            return _witness(problem, points, thetas[block], first, float(distance[block[first]]), norm)
    return None


def _in_cells(
    problem: Problem, tries: Tries, norm: str, deadline: Deadline, plain: PlainEvaluation | None
) -> Witness | None:
    for number, one in enumerate(tries):
        deadline.ask()
        if number == _TRIES:
            return None
        thetas, kind = one.thetas, one.kind
        if (points := _steadily_changed(problem, thetas[:1], kind, plain)) is not None:
            return _witness(problem, points, thetas, 0, one.distance, norm)
        points, failing = _replayed(problem, thetas[_SOME], kind, plain)
        k = 0
        if not failing.all():
            points, failing = _replayed(problem, thetas, kind, plain)
            last = int(np.flatnonzero(~failing).max(initial=-1))
            k = 0 if last < 0 else min(last + 2, len(failing) - 1)
        if failing[-1]:
            if points is None:
                points, thetas, k = _replay(problem, thetas[k : k + 1], plain), thetas[k : k + 1], 0
            if points.kind[k] == kind:  # several points at once may be rounded otherwise than one
                return _witness(problem, points, thetas, k, one.distance, norm)
    return None


def _steadily_changed(
    problem: Problem, theta: np.ndarray, kind: int, plain: PlainEvaluation | None
) -> Points | None:
    """What the original model makes of one point ``(1, n)``, where its map differs there whatever is rounded.

    That is where rounding can neither put a unit on another piece nor bring class gap or inconsistency to
    where they would be another kind: what is near to the point then says nothing more. None elsewhere. Units
    that only single precision may put on another piece matter where the model's gradients are taken in it.
    """
    double = problem.network.original.differentiates_in_double
    if kind != ATTENTION_CHANGED or plain is None or not plain.steady(theta[0], double):
        return None
    points, failing = _replayed(problem, theta, kind, plain)
    assert points is not None
    held = points.gap > problem.rounding_of_original()
    far = points.inconsistency > problem.threshold + _CLEARLY
    return points if (failing & held & far).all() else None


def _replayed(
    problem: Problem, thetas: np.ndarray, kind: int, plain: PlainEvaluation | None
) -> tuple[Points | None, np.ndarray]:
    """What the original model makes of points ``(B, n)``, and where it fails as is said, ``(B,)``.

    Where the class is lost it is not asked for maps: of one point alone, which is taken, the map is needed.
    """
    points = None if kind == CLASS_CHANGED else _replay(problem, thetas, plain)
    failing = problem.lost(thetas) if points is None else points.kind == kind
    return points, failing & legal(problem, thetas)


def _replay(problem: Problem, thetas: np.ndarray, plain: PlainEvaluation | None) -> Points:
    """What the original model makes of points ``(B, n)``."""
    known = None if plain is None else plain.known(thetas)
    return problem.replay(thetas) if known is None else problem.replay(thetas, known)


def _inwards(problem: Problem, map_: CellMap, found: Nearest, norm: str) -> np.ndarray:
    """Points of the cell, ``(k, n)``, that are farther and farther from its nearest one, and from its border.

    On the way from the nearest point to each corner the distance from 0 is convex, so that it is known how
    far one may go. The mean of where one arrives is well inside the part of the cell that is near enough.
    """
    cells = map_.cells
    corners = cells.theta[cells.idx[cells.ptr[found.cell] : cells.ptr[found.cell + 1]]]
    longer = distances(corners, half_widths(problem.box), norm) - found.distance
    room = np.array(_FARTHER) * found.distance if found.distance else np.full(len(_FARTHER), np.inf)
    share = np.minimum(1.0, room[:, None] / np.maximum(longer, _NO_LONGER))
    thetas = found.point + (share[..., None] * (corners - found.point)).mean(axis=1)
    return np.clip(thetas, problem.box[:, 0], problem.box[:, 1])


def _witness(
    problem: Problem, points: Points, thetas: np.ndarray, k: int, distance: float, norm: str
) -> Witness:
    gap, inconsistency = float(points.gap[k]), float(points.inconsistency[k])
    failure = Failure(
        theta=tuple(thetas[k].tolist()),
        kind=KINDS[points.kind[k]],
        distance=distance,
        class_gap=gap,
        inconsistency=None if problem.class_alone else inconsistency,
        predicted=int(points.predicted[k]),
        theta_distance=float(distances(thetas[k][None], half_widths(problem.box), norm)[0]),
        margin=-gap if points.kind[k] == CLASS_CHANGED else inconsistency - problem.threshold,
    )
    return Witness(failure, thetas[k])


def legal(problem: Problem, thetas: np.ndarray) -> np.ndarray:
    """Whether the images at theta are in the clip's range (anything, without a clip), ``(B,)``."""
    if problem.clip is None:
        return np.ones(len(thetas), bool)
    images = problem.images(thetas).flatten(1)
    return ((images >= problem.clip[0]) & (images <= problem.clip[1])).all(dim=1).numpy()
