"""What an argument of a PyTorch operator may be, and a call whose arguments have all been held against that.

An operator of the table declares every argument that it has. One that is not declared, or that holds anything
but what is declared, is refused by name: nothing that is handed to an operator goes unread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from steadygaze.errors import ModelError
from steadygaze.network.reading.assembling.assembly import Assembler, Value

PRECISIONS = (torch.float32, torch.float64)
"""The kinds of numbers that a network may compute in: all others cut, or round more than is verified."""

HALVES = (torch.float16, torch.bfloat16)
"""Half precision, whose numbers are taken as the real ones that they are."""


@dataclass(frozen=True)
class Argument:
    """What one argument may be: in words, and as a test."""

    words: str
    fits: Callable[[Any], bool]

    def __or__(self, other: Argument) -> Argument:
        return Argument(f"{self.words} or {other.words}", lambda given: self.fits(given) or other.fits(given))


def only(*values: Any) -> Argument:
    """One of these values, of the same type."""
    return Argument(
        " or ".join(map(repr, values)),
        lambda given: any(type(given) is type(value) and given == value for value in values),
    )


def whole_numbers(*lengths: int, least: int | None = None) -> Argument:
    """A whole number, or so many of them; of any number where no length is named."""
    size = f" ({' or '.join(map(str, lengths))} of them)" if lengths else ""
    bound = "" if least is None else f" of at least {least}"
    return Argument(
        f"whole numbers{bound}{size}",
        lambda given: (
            isinstance(given, Sequence)
            and (not lengths or len(given) in lengths)
            and all(_is_whole(one) and (least is None or one >= least) for one in given)
        ),
    )


def weights(*axes: int) -> Argument:
    """A constant tensor of real numbers with that many axes; with any where none is named."""
    size = f" with {' or '.join(map(str, axes))} axes" if axes else ""
    return Argument(
        f"a constant tensor{size}", lambda given: _is_constant(given) and (not axes or given.ndim in axes)
    )


def unread(why: str) -> Argument:
    """Anything: it does not bear on the numbers, for the reason given."""
    return Argument(f"anything ({why})", lambda given: not isinstance(given, Value))


def _is_whole(given: Any) -> bool:
    return isinstance(given, int) and not isinstance(given, bool)


def _is_constant(given: Any) -> bool:
    # A weight may be of half precision: its numbers are what they are, and are taken as such.
    return (
        isinstance(given, Tensor)
        and given.layout == torch.strided
        and not (given.is_complex() or given.is_quantized or given.is_meta)
    )


COMPUTED = Argument("a value computed from the image", lambda given: isinstance(given, Value))
SEVERAL = Argument(
    "values computed from the image and constant tensors",
    lambda given: (
        isinstance(given, Sequence) and all(isinstance(one, Value) or _is_constant(one) for one in given)
    ),
)
NONE = Argument("None", lambda given: given is None)
FLAG = Argument("True or False", lambda given: isinstance(given, bool))
NUMBER = Argument(
    "a finite number",
    lambda given: isinstance(given, (int, float)) and not isinstance(given, bool) and math.isfinite(given),
)
LIMIT = Argument(
    "a number",
    lambda given: isinstance(given, (int, float)) and not isinstance(given, bool) and not math.isnan(given),
)
WHOLE = Argument("a whole number", _is_whole)
COUNT = Argument("a whole number of at least 1", lambda given: _is_whole(given) and given >= 1)
WEIGHTS = weights()
CONSTANT = NUMBER | WEIGHTS
OPERAND = COMPUTED | CONSTANT
PRECISION = NONE | Argument(
    "float32 or float64", lambda given: isinstance(given, torch.dtype) and given in PRECISIONS
)
PROCESSOR = NONE | Argument(
    "the processor", lambda given: isinstance(given, torch.device) and given.type == "cpu"
)
FORMAT = unread("an order in memory")


def extent(least: int) -> Argument:
    """Rows and columns: a number for both, or one for each."""
    return Argument("a whole number", lambda given: WHOLE.fits(given) and given >= least) | whole_numbers(
        1, 2, least=least
    )


def deep_extent(least: int) -> Argument:
    """Slices, rows and columns: a number for all, or one for each."""
    return Argument("a whole number", lambda given: WHOLE.fits(given) and given >= least) | whole_numbers(
        1, 3, least=least
    )


@dataclass(frozen=True)
class Call:
    """One operation of the traced module; `arguments` holds all of them by name, defaults filled in."""

    assembler: Assembler
    arguments: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def value(self, name: str = "self") -> Value:
        """An argument that the network computes."""
        found = self.arguments[name]
        if not isinstance(found, Value):
            raise self.refuse(name, COMPUTED.words)
        return found

    def constant(self, name: str) -> np.ndarray:
        """A weight, or a number, float64."""
        found = self.optional(name)
        if found is None:
            raise self.refuse(name, CONSTANT.words)
        return found

    def optional(self, name: str) -> np.ndarray | None:
        """A weight, or a number, float64; None where there is none."""
        found = self.arguments[name]
        if isinstance(found, Value):
            raise self.refuse(name, CONSTANT.words)
        return None if found is None else _numbers(found)

    def parts(self, name: str) -> list[Value | np.ndarray]:
        """Values that the network computes, and constants float64, of a list of both."""
        return [one if isinstance(one, Value) else _numbers(one) for one in self.arguments[name]]

    def part(self, name: str) -> Value | np.ndarray:
        """A value that the network computes, or a constant float64."""
        found = self.arguments[name]
        return found if isinstance(found, Value) else self.constant(name)

    def shape(self, name: str = "self") -> tuple[int, ...]:
        """Shape of a computed argument, the batch counted as 1."""
        return self.assembler.shape(self.value(name))

    def refuse(self, name: str, allowed: str) -> ModelError:
        """The error of an argument that is not what is allowed."""
        computed = isinstance(self.arguments[name], Value)
        return self.assembler.refuse(
            f"its argument {name!r} is {_shown(self.arguments[name])}",
            f"allowed is {allowed}; {'make it a parameter' if computed else 'use it that way'}",
        )


def _numbers(found: Any) -> np.ndarray:
    return found.detach().double().numpy() if isinstance(found, Tensor) else np.asarray(found, np.float64)


Rule: TypeAlias = Callable[[Call], Any]
Rows: TypeAlias = "tuple[tuple[str, Rule, Mapping[str, Argument]], ...]"
"""Names of operators that mean the same, what they mean, and what each of their arguments may be."""


@dataclass(frozen=True)
class Operator:
    """What an operator means, and what each of its arguments may be."""

    rule: Rule
    arguments: Mapping[str, Argument]

    def __call__(self, assembler: Assembler, given: Mapping[str, Any]) -> Any:
        """The operation appended to `assembler`: a `Value`, or a list of them.

        `given` holds every argument of the operator's schema by name. Raises ModelError, naming the argument.
        """
        call = Call(assembler, given)
        for name, value in given.items():
            allowed = self.arguments.get(name)
            if allowed is None:
                raise assembler.refuse(f"its argument {name!r} is not known here", "use another form of it")
            if not allowed.fits(value):
                raise call.refuse(name, allowed.words)
        return self.rule(call)


def _shown(given: Any) -> str:
    if isinstance(given, Value):
        return "computed from the image"
    if isinstance(given, Tensor):
        return f"a tensor of shape {tuple(given.shape)} of {str(given.dtype).removeprefix('torch.')}"
    if isinstance(given, Sequence) and any(isinstance(one, (Tensor, Value)) for one in given):
        return f"({', '.join(map(_shown, given))})"
    return repr(given)
