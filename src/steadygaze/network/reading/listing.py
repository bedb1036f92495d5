"""The list of layers that are read, from the tables by which they are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch.nn.functional as functional
from onnx import defs

from steadygaze.network.reading.from_onnx import forms as onnx_forms
from steadygaze.network.reading.from_onnx import operators as onnx_operators
from steadygaze.network.reading.from_onnx import table as onnx_table
from steadygaze.network.reading.from_onnx.heads import LOGARITHMS
from steadygaze.network.reading.from_torch import operators as torch_operators
from steadygaze.network.reading.marks import Sort, sort_of

_HEADS = {"torch": ("softmax", "log_softmax", "sigmoid"), "onnx": tuple(LOGARITHMS)}


@dataclass(frozen=True)
class Listed:
    """The names of one format: by how each is verified, of constants alone, taken off at the end, refused."""

    sorts: Mapping[Sort, tuple[str, ...]]
    constants: tuple[str, ...]
    heads: tuple[str, ...]
    refused: tuple[str, ...]


def onnx_layers() -> Listed:
    """The operators of ONNX files; refused are all others of the standard set."""
    sorts = {name: sort_of(rule) for name, rule in onnx_operators.OPERATORS.items()}
    constants = {*onnx_table.CONSTANT, "If"} - {*sorts}
    known = {*sorts, *constants, *LOGARITHMS}
    others = {one.name for one in defs.get_all_schemas() if one.domain == ""} - known
    return Listed(_by_sort(sorts), _ordered(constants), _HEADS["onnx"], _ordered(others))


def torch_layers() -> Listed:
    """The operators of PyTorch, by name without overload; refused are functions of `torch.nn.functional`.

    Those are read all the same where PyTorch makes them of operators that are read.
    """
    sorts: dict[str, Sort] = {}
    for name, operator in torch_operators.OPERATORS.items():
        base, sort = name.partition(".")[0], sort_of(operator.rule)
        if not base.startswith("_"):
            sorts[base] = sort if sorts.get(base, sort) is sort else Sort.MIXED
    known = {*sorts, *_HEADS["torch"]}
    functions = (name for name, one in vars(functional).items() if callable(one) and name.islower())
    others = {name for name in functions if not name.startswith("_") and _is_layer(name)} - known
    return Listed(_by_sort(sorts), (), _HEADS["torch"], _ordered(others))


def lines() -> list[str]:
    """The list as text, a paragraph for each sort of each format."""
    told: list[str] = []
    for title, listed, others in (
        (f"ONNX (operator sets up to {onnx_forms.LATEST})", onnx_layers(), "refused"),
        ("PyTorch", torch_layers(), "refused, unless PyTorch makes them of the above"),
    ):
        told += [title, ""]
        for sort in Sort:
            told.append(f"  {sort.value}: {', '.join(listed.sorts.get(sort, ())) or 'none'}")
        told.append(f"  as the last layer, taken off: {', '.join(listed.heads)} (sigmoid of a single logit)")
        if listed.constants:
            told.append(f"  of shapes and constants: {', '.join(listed.constants)}")
        told += [f"  {others}: {', '.join(listed.refused)}", ""]
    return told[:-1]


def _by_sort(sorts: Mapping[str, Sort]) -> dict[Sort, tuple[str, ...]]:
    return {sort: _ordered(name for name, one in sorts.items() if one is sort) for sort in Sort}


def _ordered(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names, key=str.lower))


def _is_layer(name: str) -> bool:
    """Whether a name of `torch.nn.functional` is a layer: no loss, no variant, nothing internal."""
    words = ("loss", "entropy", "kl_div", "_with_", "_mm", "torch_function", "dispatch", "assert")
    return not name.endswith("_") and not any(word in name for word in words)
