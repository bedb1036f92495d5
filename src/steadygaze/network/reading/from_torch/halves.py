"""PyTorch networks of half precision: the network of real numbers with those weights, compared at their own.

A verdict is about real arithmetic. What is traced, read and replayed is therefore a copy whose weights are
the same numbers in single precision; how far that is from what the module itself computes, rounding at every
step, is looked at once, and must be what its precision explains.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx.node import map_aggregate

from steadygaze.network.reading.from_torch.arguments import HALVES
from steadygaze.network.reading.from_torch.reader import declared_input
from steadygaze.network.reading.from_torch.surroundings import traceless
from steadygaze.network.reading.from_torch.tracing import runnable
from steadygaze.network.reading.halves import compared as halves_compared
from steadygaze.network.reading.originals import Preparation, TorchOriginal


@dataclass(frozen=True)
class Halved:
    """A program as it was handed in, of `precision`, and a module of the same steps in single precision."""

    given: torch.nn.Module
    widened: torch.nn.Module
    precision: torch.dtype


def holds_halves(module: torch.nn.Module) -> bool:
    """Whether any number that the module keeps is of half precision."""
    return any(tensor.dtype in HALVES for tensor in (*module.parameters(), *module.buffers()))


def halved(program: ExportedProgram, module: torch.nn.Module) -> Halved:
    """The two of a program with numbers of half precision, which `module` runs for its logits.

    Conversions to half precision become those to single precision: they are rounding, too.
    """
    kept = [*module.parameters(), *module.buffers()]
    precision = max((one.dtype for one in kept if one.dtype in HALVES), key=_rounding)
    _, declared = declared_input(program)
    with traceless():  # copying warns
        widened: Any = copy.deepcopy(runnable(program)).float()
    for node in list(widened.graph.nodes):
        if str(getattr(node.target, "__name__", node.target)).startswith("_assert_tensor_metadata"):
            widened.graph.erase_node(node)  # it holds numbers against the precision that they had
            continue
        node.args, node.kwargs = (map_aggregate(one, _single) for one in (node.args, node.kwargs))
    widened.recompile()
    return Halved(_Given(module, declared), widened, precision)


def compared(
    halves: Halved, widened: torch.nn.Module, preparation: Preparation, shape: tuple[int, ...]
) -> str:
    """As `halves.compared`; widened is the second of the two with its logits as all that it returns."""
    return halves_compared(
        lambda: TorchOriginal(halves.given, torch.float32, preparation),
        TorchOriginal(widened, torch.float32, preparation),
        str(halves.precision).removeprefix("torch."),
        _rounding(halves.precision),
        shape,
        RuntimeError,
    )


class _Given(torch.nn.Module):
    """A module of half precision that takes and returns single precision."""

    def __init__(self, module: torch.nn.Module, precision: torch.dtype) -> None:
        super().__init__()
        self.module, self.precision = module, precision

    def forward(self, image: Tensor) -> Tensor:
        """What the module makes of the image, rounded to its precision."""
        return self.module(image.to(self.precision)).float()


def _single(given: Any) -> Any:
    return torch.float32 if isinstance(given, torch.dtype) and given in HALVES else given


def _rounding(precision: torch.dtype) -> float:
    return torch.finfo(precision).eps
