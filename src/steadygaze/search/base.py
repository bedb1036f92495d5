"""What a search is, and what it finds: a map of cells as arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, ParamSpec, TypeVar, final

import numpy as np
import torch

from steadygaze.answer.drawing import BoundaryPieces
from steadygaze.deadline import NEVER, Deadline
from steadygaze.geometry.cells import Cells, concatenate
from steadygaze.geometry.kinds import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST, UNDECIDED
from steadygaze.geometry.measure import volumes

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Options:
    """How a search may work; not what it is asked.

    Attributes:
        memory: bytes that the batches in work and the map may take.
        threads: batches worked on at the same time.
        norm: how `nearest` measures distance, "linf" or "l2", in half-widths of the box.
        examine: whether `gbs` examines the inside of the boundary too.
        reachable: whether `bfs` stays within what is reachable from 0 through robust parts.
        undecided: the share of the box that `bound` may leave undecided once a failure is known; None for
            none where exact engines can take over, and 0.01 elsewhere.
        handover: whether `bound` leaves boxes in which few units change their piece to an exact engine.
        deadline: when to stop, in the middle of a step if need be.
        alone: entered for what one thread does while no other has anything to do.
    """

    memory: int = 2 << 30
    threads: int = 2
    norm: str = "linf"
    examine: bool = False
    reachable: bool = False
    undecided: float | None = None
    handover: bool = True
    deadline: Deadline = NEVER
    alone: Callable[[], AbstractContextManager[object]] = nullcontext


@dataclass(frozen=True)
class CellMap:
    """Judged cells, structure of arrays.

    Attributes:
        cells: the polytopes.
        kind: ``(cells,)`` int8, ROBUST, CLASS_CHANGED, ATTENTION_CHANGED or UNDECIDED.
        region: ``(cells,)`` number of the activation region that each cell is a part of; -1 where regions are
            not known.
        volume: ``(cells,)``.
        inconsistency: ``(regions,)`` of the map on each region; nan where it is not known or not constant.
        pattern: ``(regions,)`` uint64, name of each region's activation pattern.
        ties: where a class gap vanishes, within the tolerance, on class-robust cells, or a map that moves
            vanishes on robust ones: the faces of theirs, as polytopes of any dimension down to points; None
            for nowhere. No point of them is robust, though cells on all sides may be. Borders along which the
            class changes inside a region are not in it.
        conforming: whether the cells meet facet to facet, so that neighbours share vertices by name.
        rest: volume of the box that lies in no cell, because the search has not examined it. Cells then may
            be flat: the facets behind which it begins, undecided.
        failing: ``(k, n)`` points in undecided cells at which class or attention fails, where some are known.
        inner: whether cells are parts inside those that they stand for; they then cover next to nothing of
            the box.
        within: multiple of the box up to which every cell that is not robust is known.
    """

    cells: Cells
    kind: np.ndarray
    region: np.ndarray
    volume: np.ndarray
    inconsistency: np.ndarray
    pattern: np.ndarray
    ties: Cells | None = None
    conforming: bool = True
    rest: float = 0.0
    failing: np.ndarray | None = None
    inner: bool = False
    within: float = np.inf

    def blocking(self, kinds: Sequence[int] = (CLASS_CHANGED, ATTENTION_CHANGED, UNDECIDED)) -> Cells:
        """Where robustness is not proven: the cells of these kinds, and ties."""
        among = np.zeros(UNDECIDED + 1, bool)
        among[list(kinds)] = True
        cells, _ = self.cells.take(np.flatnonzero(among[self.kind]))
        return cells if self.ties is None else concatenate([cells, self.ties])

    @property
    def bytes(self) -> int:
        """Memory that the map takes."""
        c = self.cells
        arrays = (
            c.theta,
            c.names,
            c.ptr,
            c.idx,
            c.mask,
            self.kind,
            self.region,
            self.volume,
            self.inconsistency,
        )
        return sum(a.nbytes for a in arrays) + self.pattern.nbytes


def joined(maps: list[CellMap]) -> CellMap:
    """One map of the cells of several, in order; regions are renumbered."""
    first = np.cumsum([0] + [len(m.pattern) for m in maps])
    failing = [m.failing for m in maps if m.failing is not None]
    ties = [m.ties for m in maps if m.ties is not None]
    return CellMap(
        cells=concatenate([m.cells for m in maps]),
        kind=np.concatenate([m.kind for m in maps]),
        region=np.concatenate(
            [np.where(m.region < 0, -1, m.region + f) for m, f in zip(maps, first[:-1], strict=True)]
        ),
        volume=np.concatenate([m.volume for m in maps]),
        inconsistency=np.concatenate([m.inconsistency for m in maps]),
        pattern=np.concatenate([m.pattern for m in maps]),
        ties=concatenate(ties) if ties else None,
        conforming=all(m.conforming for m in maps),
        rest=sum(m.rest for m in maps),
        failing=np.concatenate(failing) if failing else None,
    )


def unexamined(cells: Cells, flat: bool = False) -> CellMap:
    """Cells that nobody has judged, undecided; flat ones have no volume."""
    count = cells.count
    return CellMap(
        cells=cells,
        kind=np.full(count, UNDECIDED, np.int8),
        region=np.full(count, -1),
        volume=np.zeros(count) if flat else volumes(cells),
        inconsistency=np.zeros(0),
        pattern=np.zeros(0, np.uint64),
    )


@dataclass(frozen=True)
class Standing:
    """How far a search has come.

    Attributes:
        finished: share of the box that is judged.
        robust: share of the box that is judged robust.
        regions: activation regions visited.
        bytes: memory that the map takes so far.
        work: seconds by phase, summed over threads.
        counts: further numbers for the record.
        radius: distance from 0, in half-widths of the box, within which all is examined and robust; None
            where the search does not go by distance.
        reached: how far from 0 all is known to be robust, in the box's own shape, of a search that follows it
            without answering by it; for guesses alone.
    """

    finished: float
    robust: float
    regions: int
    bytes: int
    work: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    radius: float | None = None
    reached: float | None = None


@dataclass(frozen=True)
class Enclosed:
    """The robust part that contains 0, as a search tells it that knows it without a map of the whole box.

    Attributes:
        cells: numbers in the map of those of its cells that were found. share: of the box that its boundary
            encloses, less the holes that are known.
        ranges: ``(n, 2)`` safe range of each parameter, the others at 0.
        outline: corners of the outer boundary, for two parameters. holes: theirs, None where unknown.
        examined: whether everything inside the boundary was looked at.
        boundary: the pieces of its outer boundary, where it was followed.
    """

    cells: np.ndarray
    share: float
    ranges: np.ndarray
    outline: tuple[tuple[float, float], ...] | None
    holes: tuple[tuple[tuple[float, float], ...], ...] | None
    examined: bool
    boundary: BoundaryPieces | None = None


def advanced(was: Standing, new: list[CellMap], whole: float, **now: Any) -> Standing:
    """The standing after more cells of a box of volume `whole` were judged; `now` are fields that change."""
    return replace(
        was,
        finished=was.finished + sum(float(m.volume.sum()) for m in new) / whole,
        robust=was.robust + sum(float(m.volume[m.kind == ROBUST].sum()) for m in new) / whole,
        **now,
    )


@final
class _Threads(ThreadPoolExecutor):
    """Threads that keep a record for gradients where the one that begins them does: each has its own mode."""

    def __init__(self, threads: int, name: str) -> None:
        super().__init__(threads, name, initializer=torch.get_num_threads)
        self._unrecorded = torch.is_inference_mode_enabled()

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        return super().submit(torch.inference_mode(self._unrecorded)(fn), *args, **kwargs)


def threads_of(options: Options, name: str) -> ThreadPoolExecutor:
    """The threads of a search. torch's products in each use as many threads as torch was told to.

    That number holds in a thread only once it has been asked for there: until then a product takes all cores,
    and where another process has one of them, waits for it.
    """
    return _Threads(options.threads, name)


class AbstractSearch(ABC):
    """A search never loops or prints: the driver calls `step` while it is `pending`.

    A step asks its deadline wherever it may take long, and may end with Expired; what it had in hand is then
    undecided, and no further step is made.
    """

    name: str
    claim: str

    @abstractmethod
    def pending(self) -> bool:
        """Whether there is work left."""

    @abstractmethod
    def step(self) -> None:
        """Do a little of it. Raises Expired where the deadline passes on the way."""

    @abstractmethod
    def standing(self) -> Standing:
        """How far the search has come."""

    @abstractmethod
    def found(self) -> CellMap:
        """Everything found so far; what is not judged yet is undecided, so that the map covers the box."""

    @abstractmethod
    def enclosed(self) -> Enclosed | None:
        """The robust part around 0 where it is known otherwise than from the map; else None."""

    @abstractmethod
    def close(self) -> None:
        """Let go of threads; work in progress is finished first."""
