"""Checks of a map as a whole, by code that no search shares: its cover, and the audit by the original."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from steadygaze.answer.result import KINDS
from steadygaze.deadline import NEVER, Deadline, Expired
from steadygaze.errors import InternalCheckError
from steadygaze.geometry.draws import unit_draws
from steadygaze.geometry.kinds import CLASS_CHANGED, ROBUST, UNDECIDED
from steadygaze.geometry.sides import best_of_windows
from steadygaze.network.pieces import MaxPool
from steadygaze.network.regions.piecewise import flat_array
from steadygaze.question.points import in_parts
from steadygaze.question.problem import Problem
from steadygaze.search.base import CellMap
from steadygaze.verdict.plain import PlainEvaluation, decided_by_rounding
from steadygaze.verdict.reading import located

# Points drawn to see whether their activation patterns are among the map's; of large networks fewer, those
# that so many products take (see `Graph.effort`).
_DRAWN, _LEAST_DRAWN, _EFFORT = 64, 2, 2 * 10**9
# Where cells cover the box, so that volumes tell what is lost, one for so many regions, and so many at least.
_REGIONS_EACH, _FEWER_DRAWN = 8, 32
# A unit farther off a breakpoint than this share of what counts as on it is not on it by rounding alone; one
# that is farther off than that other share is on a piece of its own, whatever the corners say.
_OFF, _ON = 1e-4, 1 + 1e-6
# So many such units are tried on either piece; where there are more, nothing can be told.
_MOST_TRIED = 12
# At points an inconsistency this close to the threshold says nothing against a map.
_CLOSE = 1e-6


def check_volume(problem: Problem, map_: CellMap) -> None:
    """Volumes must add up to the box's. Raises InternalCheckError."""
    total, whole = float(map_.volume.sum()) + map_.rest, problem.volume
    if not abs(total - whole) <= problem.tolerance.cover * whole:
        raise InternalCheckError(
            f"the cells of the map cover {total!r} of the box's volume {whole!r}, which leaves a gap or an "
            "overlap: the answer is withheld; please report this case"
        )


def check_patterns(
    problem: Problem,
    map_: CellMap,
    thetas: np.ndarray,
    deadline: Deadline = NEVER,
    plain: PlainEvaluation | None = None,
) -> None:
    """Patterns at theta ``(B, n)`` must be known, as far as time allows (see `drawn_for_patterns`).

    plain: an evaluation that may know them ahead. Raises InternalCheckError.
    """
    try:
        if len(thetas):
            _check_patterns(problem, map_, thetas, deadline, plain)
    except Expired:  # fewer points were looked at
        return


def drawn_for_patterns(problem: Problem, map_: CellMap) -> np.ndarray:
    """The theta ``(B, n)`` at which patterns must be known; none where nothing is decided."""
    told = not map_.inner and not map_.rest
    most = min(max(len(map_.pattern) // _REGIONS_EACH, _FEWER_DRAWN), _DRAWN) if told else _DRAWN
    count = min(max(_EFFORT // problem.graph.effort, _LEAST_DRAWN), most)
    return _draw(problem, 0 if (map_.kind == UNDECIDED).all() else count, seed=1)


def _check_patterns(
    problem: Problem,
    map_: CellMap,
    thetas: np.ndarray,
    deadline: Deadline,
    plain: PlainEvaluation | None,
) -> None:
    deadline.ask()
    if ((map_.region < 0) & (map_.kind != UNDECIDED)).any() and not map_.rest:
        _check_cells(problem, map_, thetas, deadline)
    if not len(map_.pattern):
        return
    if map_.inner and map_.rest:  # it claims neither all patterns nor to have a cell for each point
        return
    names = _patterns_at(problem, thetas, plain)
    known = np.sort(map_.pattern)
    nearest = known[np.minimum(np.searchsorted(known, names), len(known) - 1)]
    strange = np.flatnonzero(names != nearest)
    if not len(strange):
        return
    for row, objection in zip(strange, _objections(problem, map_, thetas[strange], deadline), strict=True):
        if objection and not _explained(problem, thetas[row], names[row], known):
            raise InternalCheckError(
                f"theta = {thetas[row].tolist()} {objection}: the answer is withheld; please report this case"
            )


def _objections(problem: Problem, map_: CellMap, thetas: np.ndarray, deadline: Deadline) -> Iterator[str]:
    """What an unknown pattern at each theta ``(B, n)`` says against the map; "" where it may be unknown."""
    if map_.inner:
        for _ in thetas:
            yield "has an activation pattern that is not in the map, which claims to hold all"
        return
    # On a hinge, or where the map is undecided, a pattern may be unknown; then the point must lie in a cell.
    for cells in located(map_, thetas, problem.tolerance, deadline):
        # A box that bounds decided has no pattern of its own.
        if map_.rest and len(cells) == 1 and map_.region[cells[0]] >= 0 and map_.kind[cells[0]] != UNDECIDED:
            yield "lies in a cell of the map and has another activation pattern"
        elif not map_.rest and not len(cells):
            yield "lies in no cell of the map"
        else:
            yield ""


def _explained(problem: Problem, theta: np.ndarray, name: np.uint64, known: np.ndarray) -> bool:
    """Whether a pattern is known but for units about as far off a breakpoint as counts as on it.

    On which piece such a unit is, the corners of its cell tell, where it may be farther off: nearly level
    units stay so near over whole cells. Those that are off by rounding alone are on the piece below anywhere.

    name: of the pattern at theta ``(n,)``. known: names, uint64.
    """
    changes = _other_pieces(problem, theta)
    if len(changes) > _MOST_TRIED:
        return True
    tried = np.array([name])
    for change in changes:
        tried = np.concatenate([tried, tried + change])
    return bool(np.isin(tried, known).any())


def _other_pieces(problem: Problem, theta: np.ndarray) -> np.ndarray:
    """What the name of the pattern at theta ``(n,)`` changes by with each such unit: uint64 ``(units,)``."""
    stages, changes = problem.stages, [np.zeros(0, np.uint64)]
    values = problem.graph.values_at(problem.unclipped(theta[None]), range(len(problem.graph.nodes)))
    for number, (stage, slack) in enumerate(zip(stages.stages, stages.slacks_of(values), strict=True)):
        source, slack = flat_array(values[stage.source]), slack.reshape(-1)
        if isinstance(problem.graph.nodes[stage.node].layer, MaxPool):
            off, own, on = (
                best_of_windows(source, stages.inputs[number], share * slack)[1][0].astype(np.int64)
                for share in (_OFF, 1, _ON)
            )
            others = [off - own, on - own]
        else:
            columns = stages.columns(source, number, np.arange(len(slack)))[0]
            near = (np.abs(columns) > _OFF * slack) & (np.abs(columns) <= _ON * slack)
            others = [near * np.where(columns > slack, -1, 1)]
        for other in others:
            units = np.flatnonzero(other)
            changes.append(other[units].astype(np.uint64) * stages.weights[number][units])
    return np.concatenate(changes)


def _patterns_at(problem: Problem, thetas: np.ndarray, plain: PlainEvaluation | None) -> np.ndarray:
    """Names uint64 ``(B,)`` of the patterns at theta ``(B, n)``."""
    known = None if plain is None or problem.stages.uneven else plain.known(thetas)
    if known is None:
        return problem.stages.pattern_names_at(problem.unclipped(thetas))
    first = problem.pixels
    sources = {stage.source for stage in problem.stages.stages}
    values = {node: known[node - first] for node in sources if node >= first}
    if first:  # what the clip reads
        values[0] = problem.unclipped(thetas)
    return problem.stages.pattern_names_of(values, len(thetas))


def _check_cells(problem: Problem, map_: CellMap, thetas: np.ndarray, deadline: Deadline) -> None:
    """Raise InternalCheckError where one of the points lies in no cell of a map that covers the box."""
    for theta, cells in zip(thetas, located(map_, thetas, problem.tolerance, deadline), strict=True):
        if not len(cells):
            raise InternalCheckError(
                f"theta = {theta.tolist()} lies in no cell of the map: the answer is withheld; please report "
                "this case"
            )


def audit(problem: Problem, map_: CellMap, count: int, deadline: Deadline = NEVER) -> int:
    """Compare the map with the original model at `count` random theta; returns how many the map decides.

    Where the deadline passes on the way, at fewer, which the number tells.

    Raises InternalCheckError, with the theta, at the first mismatch that is not within rounding of the
    model's own precision; where that decides on which side of a breakpoint units are, nothing is decided.
    """
    decided = 0
    for thetas in in_parts(_draw(problem, count, seed=2), problem.graph.effort):
        if deadline.passed():
            break
        decided += _audited(problem, map_, thetas, deadline)
    return decided


def _audited(problem: Problem, map_: CellMap, thetas: np.ndarray, deadline: Deadline) -> int:
    """How many of theta ``(B, n)`` the map decides, and the original says the same of."""
    decided = 0
    try:
        points, slack = problem.at(thetas), problem.rounding_of_original()
        replayed = problem.replay(thetas)
    except Expired:
        return 0
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
        if said != kind and CLASS_CHANGED not in (kind, said) and not close:
            close = bool(decided_by_rounding(problem, theta[None])[0])
            decided -= close
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


def _draw(problem: Problem, count: int, seed: int) -> np.ndarray:
    box = problem.box
    return box[:, 0] + unit_draws(seed, count, len(box)) * (box[:, 1] - box[:, 0])
