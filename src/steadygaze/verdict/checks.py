"""Checks that no search can skip, made by code that no search shares: cover, witness, audit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from steadygaze.answer.result import KINDS, Failure
from steadygaze.deadline import NEVER, Deadline, Expired
from steadygaze.errors import InternalCheckError
from steadygaze.geometry.kinds import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST, UNDECIDED
from steadygaze.geometry.measure import centres
from steadygaze.question.problem import Points, Problem
from steadygaze.search.base import CellMap
from steadygaze.verdict.reading import failures_by_distance, located

# Points drawn to see whether their activation patterns are among the map's.
_DRAWN = 64
# Failing cells that are tried for a witness before none is believed to exist.
_TRIES = 50
# At points an inconsistency this close to the threshold says nothing against a map.
_CLOSE = 1e-6


def check_cover(problem: Problem, map_: CellMap, deadline: Deadline = NEVER) -> None:
    """Volumes must add up to the box's, and patterns at random theta must be known, as far as time allows.

    Raises InternalCheckError.
    """
    total, whole = float(map_.volume.sum()) + map_.rest, problem.volume
    if not abs(total - whole) <= problem.tolerance.cover * whole:
        raise InternalCheckError(
            f"the cells of the map cover {total!r} of the box's volume {whole!r}, which leaves a gap or an "
            "overlap: the answer is withheld; please report this case"
        )
    if (map_.kind == UNDECIDED).all():
        return
    try:
        _check_patterns(problem, map_, deadline)
    except Expired:  # fewer points were looked at
        return


def _check_patterns(problem: Problem, map_: CellMap, deadline: Deadline) -> None:
    thetas = _draw(problem, _DRAWN, seed=1)
    if ((map_.region < 0) & (map_.kind != UNDECIDED)).any():
        _check_points(problem, map_, thetas, deadline)
    if not len(map_.pattern):
        return
    names = problem.stages.pattern_names_at(problem.unclipped(thetas))
    strange = thetas[~np.isin(names, map_.pattern)]
    if map_.inner:
        if len(strange) and not map_.rest:
            raise InternalCheckError(
                f"theta = {strange[0].tolist()} has an activation pattern that is not in the map, which "
                "claims to hold all: the answer is withheld; please report this case"
            )
        return
    # On a hinge, or where the map is undecided, a pattern may be unknown; then the point must lie in a cell.
    for theta, cells in zip(strange, located(map_, strange, problem.tolerance, deadline), strict=True):
        if map_.rest and len(cells) == 1 and map_.kind[cells[0]] != UNDECIDED:
            raise InternalCheckError(
                f"theta = {theta.tolist()} lies in a cell of the map and has another activation pattern: the "
                "answer is withheld; please report this case"
            )
        if not map_.rest and not len(cells):
            raise InternalCheckError(
                f"theta = {theta.tolist()} lies in no cell of the map: the answer is withheld; please report "
                "this case"
            )


def _check_points(problem: Problem, map_: CellMap, thetas: np.ndarray, deadline: Deadline) -> None:
    """Cells that are no parts of regions are held against plain evaluation of the imported network.

    Raises InternalCheckError where a point lies in no cell, or in one that says otherwise than it is there.
    """
    points = problem.at(thetas)
    for number, cells in enumerate(located(map_, thetas, problem.tolerance, deadline)):
        theta, kinds = thetas[number], set(map_.kind[cells].tolist())
        if not kinds and not map_.rest:
            raise InternalCheckError(
                f"theta = {theta.tolist()} lies in no cell of the map: the answer is withheld; please report "
                "this case"
            )
        said = points.kind[number]
        near = (
            abs(points.gap[number]) <= problem.gap_tolerance.max()
            or abs(points.inconsistency[number] - problem.threshold) <= _CLOSE
        )
        if kinds and said not in kinds and UNDECIDED not in kinds and not near:
            raise InternalCheckError(
                f"theta = {theta.tolist()} is {KINDS[said]}, and the map says {KINDS[min(kinds)]}: the "
                "answer is withheld; please report this case"
            )


def audit(problem: Problem, map_: CellMap, count: int, deadline: Deadline = NEVER) -> int:
    """Compare the map with the original model at `count` random theta; returns how many the map decides.

    Where the deadline passes on the way, at fewer, which the number tells.

    Raises InternalCheckError, with the theta, at the first mismatch that is not within rounding of the
    model's own precision.
    """
    if not count:
        return 0
    thetas, decided = _draw(problem, count, seed=2), 0
    points, slack = problem.at(thetas), problem.rounding_of_original()
    replayed = problem.replay(thetas)
    for number, cells in enumerate(_in_time(located(map_, thetas, problem.tolerance, deadline))):
        theta, kinds = thetas[number], set(map_.kind[cells].tolist())
        if map_.inner and not map_.rest:  # all of the box is robust, the cells tell it at a few places only
            kinds = {ROBUST}
        if not kinds and map_.rest:
            continue
        if not kinds:
            raise InternalCheckError(
                f"audit: theta = {theta.tolist()} lies in no cell of the map; please report this case"
            )
        if len(kinds) > 1 or UNDECIDED in kinds:
            continue
        decided += 1
        said, (kind,) = replayed.kind[number], kinds
        close = abs(replayed.gap[number]) <= slack or (
            abs(points.inconsistency[number] - problem.threshold) <= _CLOSE
            and CLASS_CHANGED not in (kind, said)
        )
        if said != kind and not close:
            raise InternalCheckError(
                f"audit: at theta = {theta.tolist()} the map says {KINDS[kind]} and the model {KINDS[said]} "
                f"(class gap {replayed.gap[number]:.6g}, inconsistency "
                f"{replayed.inconsistency[number]:.6g}); please report this case"
            )
    return decided


def _in_time(found: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """What comes before the deadline passes."""
    try:
        yield from found
    except Expired:
        return


@dataclass(frozen=True)
class Witness:
    """A failing point that replays in the original model, and the distance of its cell from 0."""

    failure: Failure
    theta: np.ndarray


def find_witness(
    problem: Problem, map_: CellMap, norm: str = "linf", deadline: Deadline = NEVER
) -> Witness | None:
    """The nearest failure, a little inside its cell, where the original model fails as the map says.

    On the cell's border rounding decides what the model does, and decides otherwise in another batch: the
    witness is one step farther inside than where the model fails from there on. Failing points that the map
    knows of beside its cells count as they are. Where the deadline passes on the way, some failure is taken.
    """
    try:
        inside = _witness_in_cells(problem, map_, norm, deadline)
    except Expired:
        inside = _witness_somewhere(problem, map_, norm)
    known = [inside, _witness_at_points(problem, map_, norm)]
    return min((w for w in known if w is not None), key=lambda w: w.failure.distance, default=None)


def _witness_at_points(problem: Problem, map_: CellMap, norm: str) -> Witness | None:
    return None if map_.failing is None else _nearest_of(problem, map_.failing, norm)


def _witness_somewhere(problem: Problem, map_: CellMap, norm: str) -> Witness | None:
    """Of the middles of failing cells, as many as are tried at most, the nearest that replays."""
    failing = np.flatnonzero((map_.kind == CLASS_CHANGED) | (map_.kind == ATTENTION_CHANGED))
    some = failing[np.argsort(-map_.volume[failing], kind="stable")[:_TRIES]]
    return _nearest_of(problem, centres(map_.cells.take(some)[0]), norm)


def _nearest_of(problem: Problem, thetas: np.ndarray, norm: str) -> Witness | None:
    if not len(thetas):
        return None
    half = (problem.box[:, 1] - problem.box[:, 0]) / 2
    distance = np.linalg.norm(thetas / half, np.inf if norm == "linf" else 2, axis=1)
    order = np.argsort(distance)
    thetas = thetas[order]
    points = problem.replay(thetas)
    failing = np.flatnonzero((points.kind != ROBUST) & legal(problem, thetas))
    return _witness(points, thetas, int(failing[0]), distance[order]) if len(failing) else None


def _witness_in_cells(problem: Problem, map_: CellMap, norm: str, deadline: Deadline) -> Witness | None:
    for number, found in enumerate(failures_by_distance(map_, problem.box, norm, deadline)):
        deadline.ask()
        if number == _TRIES:
            return None
        cells, _ = map_.cells.take(np.array([found.cell]))
        inside = cells.theta.mean(axis=0)
        steps = np.concatenate([[0.0], 10.0 ** np.arange(-9.0, 0.0), [0.3, 0.6, 1.0]])[:, None]
        thetas = np.clip(found.point + steps * (inside - found.point), problem.box[:, 0], problem.box[:, 1])
        points = problem.replay(thetas)
        failing = (points.kind == map_.kind[found.cell]) & (points.kind != ROBUST) & legal(problem, thetas)
        if failing[-1]:
            k = int(np.flatnonzero(~failing).max(initial=-1)) + 2
            k = min(k, len(failing) - 1)
            return _witness(points, thetas, k, np.full(len(thetas), found.distance))
    return None


def _witness(points: Points, thetas: np.ndarray, k: int, distance: np.ndarray) -> Witness:
    failure = Failure(
        theta=tuple(thetas[k].tolist()),
        kind=KINDS[points.kind[k]],
        distance=float(distance[k]),
        class_gap=float(points.gap[k]),
        inconsistency=float(points.inconsistency[k]),
        predicted=int(points.predicted[k]),
    )
    return Witness(failure, thetas[k])


def legal(problem: Problem, thetas: np.ndarray) -> np.ndarray:
    """Whether the images at theta are in the clip's range (anything, without a clip), ``(B,)``."""
    if problem.clip is None:
        return np.ones(len(thetas), bool)
    images = problem.images(thetas).flatten(1)
    return ((images >= problem.clip[0]) & (images <= problem.clip[1])).all(dim=1).numpy()


def _draw(problem: Problem, count: int, seed: int) -> np.ndarray:
    draws = np.random.default_rng(seed).random((count, len(problem.box)))
    return problem.box[:, 0] + draws * (problem.box[:, 1] - problem.box[:, 0])
