"""Some rows of the values of many nodes, of which few are looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import final

from torch import Tensor


@final
class TakenRows(Mapping[int, Tensor]):
    """Values ``(B, *shape)`` by node, of which each is cut to some rows when it is first asked for."""

    def __init__(self, values: Mapping[int, Tensor], rows: slice | Tensor) -> None:
        self._values, self._rows = values, rows
        self._taken: dict[int, Tensor] = {}

    def __getitem__(self, node: int) -> Tensor:
        if node not in self._taken:
            self._taken[node] = self._values[node][self._rows]
        return self._taken[node]

    def __iter__(self) -> Iterator[int]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
