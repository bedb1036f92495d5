"""Which of the tensors that a PyTorch module returns holds the logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from steadygaze.errors import ModelError, SettingError

Leaf = TypeVar("Leaf")
_NAME = "logits"
# What is returned beside logits: relative and absolute differences that single precision explains.
_ROUNDING = (1e-4, 1e-6)


class LogitsOf(torch.nn.Module):
    """A module that returns the logits among what another module returns; `asked` as in `logits_among`."""

    def __init__(self, module: torch.nn.Module, asked: str | None = None) -> None:
        super().__init__()
        self.module = module
        self.asked = asked

    def forward(self, image: Tensor) -> Tensor:
        """The logits at a batch of images."""
        return logits_among(self.module(image), Tensor, self.asked)


def logits_among(
    output: Any, leaf: type[Leaf], asked: str | None = None, shown: Callable[[Leaf], str] | None = None
) -> Leaf:
    """One entry of type `leaf` in a structure of tuples, lists, mappings and records of any depth.

    The one that is `asked` for by its name, by its last name alone where only one has it ('logits' for
    'head.logits'), or by its number from 0 on. Where none is asked for: the only one, or the only one whose
    last name is logits. shown makes the words that a message has beside each name.

    Raises SettingError where none has the name asked for, ModelError where there is none, or a choice.
    """
    found = _entries(output, leaf)
    if asked is not None:
        return _asked(found, asked, output, shown)
    named = [one for name, one in found.items() if _last(name) == _NAME]
    chosen = named if len(named) == 1 else list({id(one): one for one in found.values()}.values())
    if len(chosen) == 1:
        return chosen[0]
    way_out = "name it with --output NAME (output=...), or wrap the module in one that returns it"
    raise ModelError(
        f"the module returns {_listed(found, output, shown)}, allowed is one tensor, the logits, or one that "
        f"is named {_NAME!r}; {way_out if found else 'let it return the logits'}"
    )


def told_by_others(outputs: Sequence[Any]) -> str | None:
    """The name of the one tensor that all others of the same structure are made of, where none is named so.

    outputs: what a module returns for several images, of one row each. What may be made of logits are their
    softmax, its logarithm, their sigmoid, and the class that they are largest for.
    """
    found = [_entries(output, Tensor) for output in outputs]
    real = [name for name, one in found[0].items() if one.is_floating_point()]
    if len(found[0]) < 2 or any(_last(name) == _NAME for name in found[0]):
        return None
    sources = [
        name
        for name in real
        if all(_is_made_of(made, one[name]) for one in found for other, made in one.items() if other != name)
    ]
    return sources[0] if len(sources) == 1 else None


def _is_made_of(made: Tensor, logits: Tensor) -> bool:
    z, given = logits.detach().double().flatten(), made.detach().double().flatten()
    if not made.is_floating_point() and len(given) == 1 < len(z):
        return int(given) == int(z.argmax())
    if len(given) != len(z):
        return False
    several = (torch.softmax(z, 0), torch.log_softmax(z, 0)) if len(z) > 1 else ()
    return any(torch.allclose(given, one, *_ROUNDING) for one in (torch.sigmoid(z), *several))


def name_of(output: Any, leaf: type[Leaf], chosen: Leaf) -> str:
    """The name of an entry, and in brackets how many there are; nothing where it is the only one."""
    found = _entries(output, leaf)
    if len({id(one) for one in found.values()}) < 2:
        return ""
    name = next(name for name, one in found.items() if one is chosen)
    return f"output {name!r} of {', '.join(map(repr, found))}"


def _asked(found: Mapping[str, Leaf], asked: str, output: Any, shown: Callable[[Leaf], str] | None) -> Leaf:
    if asked in found:
        return found[asked]
    named = [one for name, one in found.items() if _last(name) == asked]
    if len(named) == 1:
        return named[0]
    if asked.isdecimal() and int(asked) < len(found):
        return list(found.values())[int(asked)]
    raise SettingError(
        f"the output is {asked!r}, but the module returns {_listed(found, output, shown)}; allowed are the "
        "names of these, and their numbers from 0 on; name one of these"
    )


def _listed(found: Mapping[str, Leaf], output: Any, shown: Callable[[Leaf], str] | None) -> str:
    if not found:
        return f"a {type(output).__name__} without tensors"
    sizes = {name: f" {shown(one)}" if shown else "" for name, one in found.items()}
    count = "1 tensor" if len(found) == 1 else f"{len(found)} tensors"
    return f"{count} ({', '.join(f'{name!r}{size}' for name, size in sizes.items())})"


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _entries(output: Any, leaf: type[Leaf]) -> dict[str, Leaf]:
    """The entries by name, in order: keys, fields and numbers, joined by dots."""
    found: dict[str, Leaf] = {}
    for name, one in _leaves(output, leaf, ()):
        full = ".".join(name) or "0"
        while full in found:  # a key may hold a dot
            full += "'"
        found[full] = one
    return found


def _leaves(output: Any, leaf: type[Leaf], name: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Leaf]]:
    if isinstance(output, leaf):
        yield name, output
        return
    if isinstance(output, Mapping):
        parts = [(str(key), part) for key, part in output.items()]
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        parts = [(field.name, getattr(output, field.name)) for field in dataclasses.fields(output)]
    elif isinstance(output, (tuple, list)):
        fields = getattr(output, "_fields", range(len(output)))
        parts = [(str(key), part) for key, part in zip(fields, output, strict=True)]
    else:
        parts = []
    for key, part in parts:
        yield from _leaves(part, leaf, (*name, key))
