"""Every answer is held against the network: points of cells and of all that is claimed, evaluated plainly.

What a search calls a cell is compared with what is there, at interior points of cells and at random theta;
and what is read off its map where a slip would show first: just inside the safe scale, at the ends of the
safe ranges, just nearer than the radius, and at the nearest failure. The kind must agree at each point whose
kind rounding leaves no doubt about. No setting switches this off; it may take a small share of the time that
the search took.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from steadygaze.answer.result import KINDS, Failure, Origin, Radius
from steadygaze.deadline import Expired
from steadygaze.errors import InternalCheckError
from steadygaze.geometry.draws import unit_draws
from steadygaze.geometry.half_widths import distances, half_widths
from steadygaze.geometry.kinds import ROBUST, UNDECIDED
from steadygaze.geometry.measure import centres
from steadygaze.question.problem import Problem
from steadygaze.search.base import CellMap
from steadygaze.verdict.plain import PlainEvaluation
from steadygaze.verdict.reading import Locator
from steadygaze.verdict.seen import Evaluated, Seen

# The check may take so much of the search's time, or so many seconds, whichever is more.
_SHARE, _SECONDS = 0.05, 1e-3
# Points evaluated at once: at first as many as so many products take forward (see `Graph.effort`), and those
# in any case; then as many as there seems to be time for, which is taken to be this many times as much as the
# last ones took.
_FIRST, _MOST = 4, 64
_PRODUCTS = 7 * 10**6
_CAUTION = 1.25
# Of the time this share is kept for random theta, which are looked up in the map, where so much of it is
# enough to find the boxes around all cells, at so many coordinates of corners a second.
_LOOKING_UP, _PREPARING = 1 / 3, 1 / 5
_COORDINATES = 5e7
# Up to so many decided cells all of them are looked at, and then more points in each; of more cells, so many
# of a kind that are the largest, the smallest, around the robust part's boundary, or any.
_ALL, _EXTREME, _AROUND, _ANY = 96, 4, 24, 64
# Borders are looked for in a stretch of so many cells.
_STRETCH = 4096
# Rounds of further random points in the cells that are looked at.
_ROUNDS = 4
# Random theta that are looked up in the map, points of what is claimed to be robust, and points on each
# range.
_THETAS, _SURFACE, _ON_THE_WAY = 24, 96, 8
# How far inside of what is claimed the points lie, relatively.
_INSIDE = 1e-6


@dataclass(frozen=True)
class Claims:
    """What the answer reads off its maps; as in `answer.result.Result`."""

    safe_scale: float | None
    origin: Origin | None
    radius: Radius | None
    failure: Failure | None


@dataclass(frozen=True)
class Held:
    """How hard was looked, and what came up on the way.

    Attributes:
        agreeing, close: points that agree, and points too close to a border to tell.
        seconds: how long it took.
        by_rounding: ``(1 + k,)`` bool, whether rounding in single precision may decide on the map of the
            unperturbed image, and on that of the nearest failure where one is claimed.
        there: what the network makes of these, if that is at hand.
    """

    agreeing: int
    close: int
    seconds: float
    by_rounding: np.ndarray
    there: Evaluated | None = None


# From so many products of one image on (see `Graph.effort`) a network is large.
_LARGE = 10**8


@dataclass(frozen=True)
class _Point:
    """A point at which something is said: what kind it is, and who says so."""

    theta: np.ndarray
    kind: int
    who: str


def budget_of(seconds: float) -> float:
    """Seconds that the check may take after a search of so many."""
    return max(_SECONDS, _SHARE * seconds)


def hold(
    problem: Problem,
    maps: Sequence[CellMap],
    claims: Claims,
    seconds: float,
    ahead: Prepared | None = None,
    first: int | None = None,
    late: bool = False,
) -> Held:
    """Hold maps, and what is read off them, against plain evaluation, for about so many seconds.

    ahead: what is `prepared` of the same, if it is; the seconds that this took count. first: how many points
    are looked at in any case, if that is fewer than usual. late: whether the time is over: where nothing is
    said of any point, nothing is learnt of the network then, nor of a large one ever: it takes as long as
    four points.

    Raises InternalCheckError, with the theta, at the first point of another kind than is said, beyond
    rounding; or where a point of the box lies in no cell of a map that covers it.
    """
    began = time.perf_counter() - (ahead.seconds if ahead is not None else 0.0)
    ends = began + seconds
    failing = _failing(claims)
    hasty = late or problem.network.graph.effort >= _LARGE
    if hasty and ahead is None and not failing and next(_said(problem, maps, claims), None) is None:
        return Held(0, 0, time.perf_counter() - began, np.zeros(1, bool))
    if ahead is None:
        ahead = prepared(problem, maps, claims, _thetas(problem, failing), _thetas(problem, ()), first)
    plain, block = ahead.plain, [*failing, *ahead.first]
    near = chain(block, ahead.others)
    known = [map_ for map_ in maps if _preparing(map_) < _PREPARING * seconds]
    # The nearest failure is the first that is looked at, and behind the unperturbed image.
    noted = 1 + (claims.failure is not None)
    looked = [_look(plain, near, len(block), ends - bool(known) * _LOOKING_UP * seconds, began, noted)]
    if known and ends - time.perf_counter() > _CAUTION * (looked[0].least + sum(map(_preparing, known))):
        far = _in_turn([_at_random(problem, map_) for map_ in known])
        looked.append(_look(plain, far, 1, ends))
    if ends - time.perf_counter() > _CAUTION * looked[0].least:
        looked.append(_look(plain, near, 1, ends))
    agreeing, close = sum(one.agreeing for one in looked), sum(one.close for one in looked)
    try:
        seen = looked[0].first or plain.at(_thetas(problem, ()), noted=1)
    except Expired:
        return Held(agreeing, close, time.perf_counter() - began, np.zeros(1, bool))
    there = seen.evaluated.take(slice(noted))
    return Held(agreeing, close, time.perf_counter() - began, seen.by_rounding, there)


@dataclass(frozen=True)
class Prepared:
    """What is to be looked at, evaluated ahead as far as it is looked at in any case.

    Attributes:
        plain: the evaluation, which knows the first points and whatever else was to be evaluated with them.
        first, others: points of cells and of what is claimed, but for the nearest failure.
        seconds: how long it took.
    """

    plain: PlainEvaluation
    first: tuple[_Point, ...]
    others: Iterator[_Point]
    seconds: float


def prepared(
    problem: Problem,
    maps: Sequence[CellMap],
    claims: Claims,
    failing: np.ndarray,
    also: np.ndarray,
    first: int | None = None,
) -> Prepared:
    """Choose the points, and evaluate the first of them in one pass.

    Args:
        problem: the question. maps: of the searches.
        claims: what is read off them; of the nearest failure nothing need be known.
        failing: theta ``(k, n)`` to evaluate with them, the first where the nearest failure is likely to be.
        also: further theta ``(B, n)``.
        first: how many points are looked at in any case, if that is fewer than usual.
    """
    began = time.perf_counter()
    points = _said(problem, maps, claims)
    usual = _at_first(problem)
    chosen = tuple(islice(points, usual if first is None else min(first, usual)))
    ahead = np.concatenate([failing[:1], _thetas(problem, chosen), failing[1:], also])
    plain = PlainEvaluation(problem, ahead=ahead)
    return Prepared(plain, chosen, points, time.perf_counter() - began)


def _said(problem: Problem, maps: Sequence[CellMap], claims: Claims) -> Iterator[_Point]:
    """Points of what is claimed, but for the nearest failure, and of cells, in turn."""
    return _in_turn([_claimed(problem, claims), *map(_in_cells, maps)])


def _at_first(problem: Problem) -> int:
    """How many points are looked at in any case."""
    return min(max(_PRODUCTS // problem.network.graph.effort, _FIRST), _MOST)


@dataclass(frozen=True)
class _Looked:
    """Points of some blocks that agree, others, the seconds of the quickest block (0 without any), and what
    was seen of the first.
    """

    agreeing: int
    close: int
    least: float
    first: Seen | None


def _look(
    plain: PlainEvaluation,
    points: Iterator[_Point],
    size: int,
    ends: float,
    began: float | None = None,
    noted: int = 0,
) -> _Looked:
    """Compare blocks of points, the first of so many; go on as long as there is time for one more.

    A point takes at most what those of the block before took on the mean, where that was no larger; and a
    block, however small, what the quickest took. The first began at `began`, by default now. One that takes
    longer than the whole run may is left. noted: of the first block, as in `PlainEvaluation.at`.
    """
    agreeing, close, least, first = 0, 0, np.inf, None
    before = time.perf_counter() if began is None else began
    while block := list(islice(points, size)):
        try:
            seen = _compared(plain, block, noted if first is None else 0)
        except Expired:
            break
        clear, first = int(seen.clear.sum()), first or seen
        agreeing, close = agreeing + clear, close + len(block) - clear
        now = time.perf_counter()
        spent, before = now - before, now
        least, left = min(least, spent), (ends - now) / _CAUTION
        if left < least:
            break
        size = int(np.clip(left / spent * len(block), 1, _MOST))
    return _Looked(agreeing, close, least if np.isfinite(least) else 0.0, first)


def _compared(plain: PlainEvaluation, points: Sequence[_Point], noted: int) -> Seen:
    """What is seen at the points; raises InternalCheckError at one that is not what is said."""
    seen = plain.at(np.array([point.theta for point in points]), noted)
    for number, point in enumerate(points):
        if not seen.possible[number, point.kind]:
            raise InternalCheckError(
                f"theta = {point.theta.tolist()} is {KINDS[seen.kind[number]]} ({seen.margins(number)}), and "
                f"{point.who} {KINDS[point.kind]}: the answer is withheld; please report this case"
            )
    return seen


def _thetas(problem: Problem, points: Sequence[_Point]) -> np.ndarray:
    """Theta ``(B, n)`` of points."""
    return np.array([point.theta for point in points]).reshape(-1, len(problem.box))


def _in_turn(sources: Iterable[Iterator[_Point]]) -> Iterator[_Point]:
    """One of each, again and again, until all are at their end."""
    left = list(sources)
    while left:
        for source in tuple(left):
            point = next(source, None)
            if point is None:
                left.remove(source)
            else:
                yield point


# -- what is read off the map


def _failing(claims: Claims) -> list[_Point]:
    """The nearest failure, if there is one."""
    failure = claims.failure
    if failure is None:
        return []
    who = "as the nearest failure it is said to be"
    return [_Point(np.array(failure.theta), KINDS.index(failure.kind), who)]


def _claimed(problem: Problem, claims: Claims) -> Iterator[_Point]:
    box = problem.box
    half = half_widths(box)
    sources: list[Iterator[_Point]] = []
    if claims.safe_scale:
        sources.append(_on_scaled_box(box * claims.safe_scale * (1 - _INSIDE)))
    if claims.origin is not None:
        sources.append(_on_ranges(np.array(claims.origin.ranges)))
    if claims.radius is not None and claims.radius.value:
        sources.append(_on_ball(box, half, claims.radius))
    return _in_turn(sources)


def _on_scaled_box(box: np.ndarray) -> Iterator[_Point]:
    """Corners, and random points of the box's surface and of its inside."""
    n = len(box)
    for number, drawn in enumerate(unit_draws(5, _SURFACE, n + 2)):
        draw = drawn[:n].copy()
        if number % 3 == 0:
            draw = draw.round()
        elif number % 3 == 1:
            draw[int(n * drawn[n])] = drawn[n + 1].round()
        theta = box[:, 0] + draw * (box[:, 1] - box[:, 0])
        yield _Point(theta, ROBUST, "within the safe scale all is said to be")


def _on_ranges(ranges: np.ndarray) -> Iterator[_Point]:
    """The ends of safe ranges, and points on the way to each."""
    for inside in (1 - _INSIDE, *unit_draws(5, 1, _ON_THE_WAY)[0]):
        for axis, end in zip(*np.nonzero(ranges), strict=True):
            theta = np.zeros(len(ranges))
            theta[axis] = ranges[axis, end] * inside
            yield _Point(theta, ROBUST, "on the safe ranges all is said to be")


def _on_ball(box: np.ndarray, half: np.ndarray, radius: Radius) -> Iterator[_Point]:
    """Random points just nearer to 0 than the radius, and nearer, brought into the box."""
    rng = np.random.default_rng(5)
    for number in range(_SURFACE):
        direction = rng.standard_normal(len(box))
        if radius.norm == "linf":
            direction = np.clip(direction * rng.uniform(1, 3), -1, 1)
        length = radius.value * (1 - _INSIDE if number % 2 == 0 else rng.random())
        theta = direction / distances(direction[None], np.ones(len(box)), radius.norm) * length * half
        yield _Point(np.clip(theta, box[:, 0], box[:, 1]), ROBUST, "within the radius all is said to be")


# -- cells


def _in_cells(map_: CellMap) -> Iterator[_Point]:
    """Interior points of cells: their middles, then random ones in the same cells."""
    chosen = _cells_to_see(map_)
    cells, rng = map_.cells, None
    middles = centres(cells.take(chosen)[0])
    for round_ in range(_ROUNDS):
        for number, cell in enumerate(chosen):
            theta = middles[number]
            if round_:
                rng = rng or np.random.default_rng(7)  # which few answers come to
                corners = cells.theta[cells.idx[cells.ptr[cell] : cells.ptr[cell + 1]]]
                theta = rng.dirichlet(np.ones(len(corners))) @ corners
            yield _Point(theta, int(map_.kind[cell]), "the cell around it is called")


def _cells_to_see(map_: CellMap) -> np.ndarray:
    """Numbers of cells, the most telling ones first."""
    decided = np.flatnonzero((map_.kind != UNDECIDED) & (map_.volume > 0))
    if len(decided) <= _ALL:
        return decided[np.argsort(-map_.volume[decided], kind="stable")]
    # Drawn ahead: a generator takes longer to begin than all the rest here.
    draws, columns = unit_draws(6, _ANY, UNDECIDED + 1), []
    for kind in range(UNDECIDED):
        own = decided[map_.kind[decided] == kind]
        if not len(own):
            continue
        k = min(_EXTREME, len(own))
        size = map_.volume[own]
        columns += [own[np.argpartition(-size, k - 1)[:k]], own[np.argpartition(size, k - 1)[:k]]]
        columns.append(own[(draws[:, kind] * len(own)).astype(np.int64)])
    border = _at_border(map_, int(draws[0, UNDECIDED] * len(map_.kind)))
    border = border[np.argsort(unit_draws(6, _STRETCH, 1)[: len(border), 0])]
    columns += [border[map_.kind[border] == kind][:_AROUND] for kind in range(UNDECIDED)]
    # The first of each column, then the second of each, and so on.
    rows = np.concatenate([np.arange(len(column)) for column in columns])
    ordered = np.concatenate(columns)[np.argsort(rows, kind="stable")]
    return np.array(list(dict.fromkeys(ordered.tolist())), np.int64)


def _at_border(map_: CellMap, start: int) -> np.ndarray:
    """Cells that share a vertex with one of another kind, of a stretch of the map that begins at a cell."""
    first = max(0, min(start, len(map_.kind) - _STRETCH))
    last = min(first + _STRETCH, len(map_.kind))
    cells, kind = map_.cells, map_.kind[first:last]
    ptr = cells.ptr[first : last + 1]
    idx, owner = cells.idx[ptr[0] : ptr[-1]], np.repeat(kind, np.diff(ptr))
    low, high = np.full(len(cells.theta), UNDECIDED + 1, np.int8), np.full(len(cells.theta), -1, np.int8)
    np.minimum.at(low, idx, owner)
    np.maximum.at(high, idx, owner)
    touching = np.logical_or.reduceat(low[idx] != high[idx], ptr[:-1] - ptr[0])
    return first + np.flatnonzero(touching & (map_.volume[first:last] > 0))


# -- random theta


def _preparing(map_: CellMap) -> float:
    """Seconds until random theta can be looked up in a map, about."""
    return 0.0 if map_.inner else map_.cells.idx.size * map_.cells.dimension / _COORDINATES


def _at_random(problem: Problem, map_: CellMap) -> Iterator[_Point]:
    """Random theta with the kind of the one cell that holds each."""
    box = problem.box
    thetas = box[:, 0] + unit_draws(8, _THETAS, len(box)) * (box[:, 1] - box[:, 0])
    if map_.inner:  # the cells stand for more of the box than they cover
        whole = not map_.rest and bool((map_.kind == ROBUST).all())
        return iter([_Point(theta, ROBUST, "the whole box is called") for theta in thetas if whole])
    return _looked_up(map_, thetas, Locator(map_, problem.tolerance))


def _looked_up(map_: CellMap, thetas: np.ndarray, locator: Locator) -> Iterator[_Point]:
    for theta in thetas:
        cells = locator.at(theta)
        if not len(cells) and not map_.rest:
            raise InternalCheckError(
                f"theta = {theta.tolist()} lies in no cell of the map: the answer is withheld; please report "
                "this case"
            )
        kinds = set(map_.kind[cells].tolist())
        if len(kinds) == 1 and UNDECIDED not in kinds:
            yield _Point(theta, kinds.pop(), "the map says it is")
