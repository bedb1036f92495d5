"""One node of an ONNX file as the rules of operators see it: its inputs and its attributes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from steadygaze.network.reading.assembling.assembly import Assembler, Value
from steadygaze.network.reading.assembling.held import AbstractHeld


@dataclass(frozen=True)
class Call:
    """One node of the file: its operator's inputs (computed values, constants, or None where left out).

    opset is the version of the operator set. What is held is among the inputs of few operators.
    """

    assembler: Assembler
    inputs: tuple[Value | AbstractHeld | np.ndarray | None, ...]
    attributes: Mapping[str, Any]
    outputs: int
    opset: int

    def value(self, place: int = 0) -> Value:
        """An input that the network computes."""
        found = self._input(place)
        if not isinstance(found, Value):
            raise self.assembler.refuse(
                f"input {place} is a constant",
                "allowed is a value computed from the image; export the network again",
            )
        return found

    def constant(self, place: int, name: str) -> np.ndarray:
        """An input that is fixed in the file."""
        found = self.optional(place, name)
        if found is None:
            raise self.assembler.refuse(f"its {name} is missing", "export the network again")
        return found

    def optional(self, place: int, name: str) -> np.ndarray | None:
        """An input that is fixed in the file, or None."""
        found = self._input(place)
        if isinstance(found, Value):
            raise self.assembler.refuse(
                f"its {name} is computed from the image", f"allowed is a constant {name}; make it a weight"
            )
        return found

    def either(self, place: int) -> Value | np.ndarray | None:
        """An input that may be computed, fixed in the file, or left out."""
        return self._input(place)

    def get(self, name: str, default: Any) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)

    def given(self) -> list[Value | np.ndarray]:
        """The inputs that are not left out, none of which is held."""
        found = (self._input(place) for place in range(len(self.inputs)))
        return [one for one in found if one is not None]

    def _input(self, place: int) -> Value | np.ndarray | None:
        found = self.inputs[place] if place < len(self.inputs) else None
        if isinstance(found, AbstractHeld):
            raise found.refusal(self.assembler)
        return found

    def number(self, place: int, name: str, attribute: str) -> float | None:
        """One number: an attribute in old files, an input in new ones; None if neither."""
        found = self.optional(place, name)
        return self.get(attribute, None) if found is None else float(found.reshape(()))

    def wholes(self, place: int, name: str) -> list[int] | None:
        """Whole numbers: an attribute in old files, an input in new ones; None if neither."""
        found = self.get(name, self.optional(place, name))
        return None if found is None else [int(number) for number in np.ravel(found)]

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front."""
        if not -rank <= axis < rank:
            raise self.assembler.refuse(
                f"its axis is {axis} of a value of {rank} axes", f"allowed are {-rank} to {rank - 1}"
            )
        return axis % rank

    def axes(self, rank: int, place: int = 1) -> list[int] | None:
        """The axes that it names, counted from the front; None if it names none."""
        named = self.wholes(place, "axes")
        if named is None:
            return None
        axes = [self.axis(axis, rank) for axis in named]
        if not axes or len(set(axes)) < len(axes):
            raise self.assembler.refuse(f"its axes are {named}", "allowed is each axis once, at least one")
        return axes

    def reduced(self) -> tuple[list[int], bool]:
        """The axes that a reduction runs over, and whether they stay as axes of one entry."""
        rank, keep = len(self.assembler.shape(self.value())), bool(self.get("keepdims", 1))
        if not self.wholes(1, "axes"):
            return ([] if self.get("noop_with_empty_axes", 0) else list(range(rank))), keep
        return self.axes(rank) or [], keep


Made: TypeAlias = "Value | AbstractHeld | np.ndarray | tuple[Value | np.ndarray, ...]"
Rule: TypeAlias = Callable[[Call], Made]
