"""What a search is, and what it finds: a map of cells as arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np

from steadygaze.geometry.cells import Cells, concatenate


@dataclass(frozen=True)
class Options:
    """How a search may work; not what it is asked.

    Attributes:
        memory: bytes that the batches in work and the map may take.
        threads: batches worked on at the same time.
    """

    memory: int = 2 << 30
    threads: int = 2


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
        tight: whether the class gap vanishes, within the tolerance, at a vertex of a region.
        conforming: whether the cells meet facet to facet, so that neighbours share vertices by name.
    """

    cells: Cells
    kind: np.ndarray
    region: np.ndarray
    volume: np.ndarray
    inconsistency: np.ndarray
    pattern: np.ndarray
    tight: bool = False
    conforming: bool = True

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
    return CellMap(
        cells=concatenate([m.cells for m in maps]),
        kind=np.concatenate([m.kind for m in maps]),
        region=np.concatenate(
            [np.where(m.region < 0, -1, m.region + f) for m, f in zip(maps, first[:-1], strict=True)]
        ),
        volume=np.concatenate([m.volume for m in maps]),
        inconsistency=np.concatenate([m.inconsistency for m in maps]),
        pattern=np.concatenate([m.pattern for m in maps]),
        tight=any(m.tight for m in maps),
        conforming=all(m.conforming for m in maps),
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
    """

    finished: float
    robust: float
    regions: int
    bytes: int
    work: dict[str, float] = field(default_factory=dict)


class AbstractSearch(ABC):
    """A search never loops, prints, or watches the clock: the driver calls `step` while it is `pending`."""

    name: str
    claim: str

    @abstractmethod
    def pending(self) -> bool:
        """Whether there is work left."""

    @abstractmethod
    def step(self) -> None:
        """Do a little of it."""

    @abstractmethod
    def standing(self) -> Standing:
        """How far the search has come."""

    @abstractmethod
    def found(self) -> CellMap:
        """Everything found so far; what is not judged yet is undecided, so that the map covers the box."""

    @abstractmethod
    def close(self) -> None:
        """Let go of threads; work in progress is finished first."""
