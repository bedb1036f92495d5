"""Operators outside the table taken apart into what PyTorch itself makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram, default_decompositions
from torch.export.graph_signature import InputKind

from steadygaze.network.reading.from_torch.surroundings import traceless, undisturbed, unplaced
from steadygaze.network.reading.from_torch.tracing import runnable

# What is taken apart may be made of what is taken apart, such as hstack of cat, in so many steps.
_ROUNDS = 4

Unread: TypeAlias = Callable[[ExportedProgram], "list[fx.Node]"]
"""The nodes of a program that are not read as they are."""


@dataclass(frozen=True)
class Apart:
    """A program in which as much as possible is made of what is read, and what was taken apart, by name."""

    program: ExportedProgram
    whole: Mapping[str, fx.Node]

    def origin(self, node: fx.Node) -> fx.Node | None:
        """The node that was taken apart into this one and others, as the module has it; None for others."""
        return next((self.whole[name] for name in _names_before(node) if name in self.whole), None)


def taken_apart(program: ExportedProgram, unread: Unread) -> Apart:
    """The program with what is not read made of other operators, as far as PyTorch says of which.

    The numbers are the same but for rounding. Weights and inputs stay, but that an open number of images
    becomes one. Nothing is taken apart that is read.
    """
    left = unread(program)
    if left:
        program = _of_one_image(program)
        left = unread(program)
    whole = {node.name: node for node in left}
    made = program
    for number in range(_ROUNDS):
        known = default_decompositions()
        parts: Any = {node.target: known[node.target] for node in left if node.target in known}
        if not (parts or (left and not number)):
            break
        try:
            with traceless():
                # Even with no parts, what only looks at its input in another way is taken apart.
                again = made.run_decompositions(parts)
        except Exception:  # PyTorch's own way of taking it apart fails in half a dozen ways
            break
        left, before = unread(again), left
        made = again
        if [node.target for node in left] == [node.target for node in before]:
            break
    return Apart(made, whole)


def _of_one_image(program: ExportedProgram) -> ExportedProgram:
    """The same operations, names and weights for a single image, where their number is open.

    Each step of a recurrent layer would be taken apart with open sizes, which takes four times as long.
    """
    specs = program.graph_signature.input_specs
    given = {spec.arg.name for spec in specs if spec.kind == InputKind.USER_INPUT}  # type: ignore[union-attr]
    made = [node.meta.get("val") for node in program.graph.nodes if node.name in given]
    if len(made) != 1 or not isinstance(made[0], Tensor):
        return program
    first, *rest = made[0].shape
    if isinstance(first, int) or not all(isinstance(size, int) for size in rest):
        return program
    try:
        with traceless(), undisturbed(gradients=True), unplaced():
            image = torch.zeros((1, *rest), dtype=made[0].dtype)
            return torch.export.export(runnable(program), (image,), strict=False)
    except Exception:  # what was made for any number of images may not be for one
        return program


def _names_before(node: fx.Node) -> Iterator[str]:
    """The names that what is now the node had, the oldest first; none where PyTorch does not keep them."""
    names, sources = [node.name], node.meta.get("from_node")
    while sources:
        source = sources[0]
        names.append(getattr(source, "name", ""))
        sources = getattr(source, "from_node", None)
    return reversed(names)
