"""Which of the tensors that a PyTorch module returns holds the logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from steadygaze.errors import ModelError

Leaf = TypeVar("Leaf")
_NAME = "logits"


class LogitsOf(torch.nn.Module):
    """A module that returns the logits among what another module returns."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, image: Tensor) -> Tensor:
        """The logits at a batch of images."""
        return logits_among(self.module(image), Tensor)


def logits_among(output: Any, leaf: type[Leaf]) -> Leaf:
    """The one entry of type `leaf` in a structure of tuples, lists, mappings and records.

    Of several, the one that is named logits is taken.

    Raises ModelError where there is none, or a choice.
    """
    found = list({id(one): (name, one) for name, one in _leaves(output, leaf, "")}.values())
    named = [one for name, one in found if name == _NAME]
    chosen = named if len(named) == 1 else [one for _, one in found]
    if len(chosen) == 1:
        return chosen[0]
    names = ", ".join(repr(name) for name, _ in found if name)
    what = f"{len(found)} tensors{f' ({names})' if names else ''}" if found else f"a {type(output).__name__}"
    raise ModelError(
        f"the module returns {what}, allowed is one tensor, the logits, or one that is named {_NAME!r}; wrap "
        "it in one that does"
    )


def _leaves(output: Any, leaf: type[Leaf], name: str) -> Iterator[tuple[str, Leaf]]:
    if isinstance(output, leaf):
        yield name, output
        return
    if isinstance(output, Mapping):
        parts = [(str(key), part) for key, part in output.items()]
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        parts = [(field.name, getattr(output, field.name)) for field in dataclasses.fields(output)]
    elif isinstance(output, tuple) and type(output) is not tuple:
        parts = list(zip(getattr(output, "_fields", [name] * len(output)), output, strict=True))
    elif isinstance(output, (tuple, list)):
        parts = [(name, part) for part in output]
    else:
        parts = []
    for key, part in parts:
        yield from _leaves(part, leaf, key)
