"""One node of an ONNX file with the values of its inputs, as the rules of `operators` see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from steadygaze.errors import ModelError


@dataclass(frozen=True)
class Node:
    """One node of the file with the values of its inputs (None where left out), of that operator set."""

    operator: str
    inputs: Sequence[Tensor | None]
    attributes: Mapping[str, Any]
    outputs: int
    opset: int

    @property
    def x(self) -> Tensor:
        """The first input."""
        return self[0]

    def __getitem__(self, place: int) -> Tensor:
        found = self.optional(place)
        if found is None:
            raise ModelError(f"{self.operator} lacks input {place}; export the network again")
        return found

    def optional(self, place: int) -> Tensor | None:
        """An input that may be left out."""
        return self.inputs[place] if place < len(self.inputs) else None

    def get(self, name: str, default: Any) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)

    def text(self, name: str, default: str) -> str:
        """An attribute that is a word."""
        return self.attributes.get(name, default.encode()).decode()

    def whole(self, name: str, place: int) -> list[int] | None:
        """Whole numbers that older files give as an attribute and newer ones as an input; None if neither."""
        if name in self.attributes:
            return [int(number) for number in self.attributes[name]]
        found = self.optional(place)
        return None if found is None else [int(number) for number in found.reshape(-1).tolist()]

    def axes(self, place: int, rank: int) -> list[int] | None:
        """Axes counted from the front, or None if the node names none."""
        found = self.whole("axes", place)
        return None if found is None else [axis + rank if axis < 0 else axis for axis in found]


Rule: TypeAlias = Callable[[Node], "Tensor | tuple[Tensor, ...]"]
