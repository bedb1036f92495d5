"""Arrays that grow at the end, and an index that finds names in them."""

from __future__ import annotations

import numpy as np

from steadygaze.geometry.bits import fill_table, find_slot, kernel


class Growing:
    """Rows of one kind, appended in batches; room doubles, so that appending costs constant time a row."""

    def __init__(self, shape: tuple[int, ...], kind: type) -> None:
        self._room = np.empty((64, *shape), kind)
        self._count = 0

    @property
    def rows(self) -> np.ndarray:
        """All rows, as a view that is good until the next append."""
        return self._room[: self._count]

    @property
    def bytes(self) -> int:
        """Memory held."""
        return self._room.nbytes

    def append(self, rows: np.ndarray) -> None:
        """Add rows at the end."""
        need = self._count + len(rows)
        if need > len(self._room):
            room = np.empty((max(need, 2 * len(self._room)), *self._room.shape[1:]), self._room.dtype)
            room[: self._count] = self.rows
            self._room = room
        self._room[self._count : need] = rows
        self._count = need


class NameIndex:
    """Finds rows by their 64-bit names."""

    def __init__(self) -> None:
        self.names = Growing((), np.uint64)
        self._table = fill_table(self.names.rows, 0, 64)

    @property
    def bytes(self) -> int:
        """Memory held."""
        return self.names.bytes + self._table.nbytes

    def find(self, names: np.ndarray) -> np.ndarray:
        """Row of each name, -1 where it is new."""
        return _find(self._table, self.names.rows, names)

    def append(self, names: np.ndarray) -> None:
        """Enter names that are new and differ from one another, as the next rows."""
        first = len(self.names.rows)
        self.names.append(names)
        every = self.names.rows
        if 2 * len(every) > len(self._table):
            self._table = fill_table(every, len(every), 2 * len(every))
        else:
            _enter(self._table, every, first)


@kernel
def _find(table, names, wanted):
    out = np.empty(len(wanted), np.int64)
    for k in range(len(wanted)):
        out[k] = table[find_slot(table, names, wanted[k])]
    return out


@kernel
def _enter(table, names, first):
    for v in range(first, len(names)):
        table[find_slot(table, names, names[v])] = v
