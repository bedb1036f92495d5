"""Tensors that modules keep as plain attributes, for a copy of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor


def kept_tensors(module: torch.nn.Module) -> dict[int, Any]:
    """Copies, by identity, of tensors that modules keep as plain attributes, and that deepcopy refuses.

    Weights that are computed before each call are of the kind: pruning, weight and spectral norm.
    """
    kept = [tensor for part in module.modules() for tensor in _tensors_in(vars(part))]
    # A hook that puts by what it sees has put by what tracing showed it the last time: no numbers.
    shown = {id(tensor): None for tensor in kept if isinstance(tensor, FakeTensor)}
    computed = (tensor for tensor in kept if not tensor.is_leaf and id(tensor) not in shown)
    return {id(tensor): tensor.detach().clone() for tensor in computed} | shown


def _tensors_in(kept: object) -> Iterator[Tensor]:
    """A tensor, or those of lists and dictionaries, such as what a network keeps for its next call."""
    if isinstance(kept, Tensor):
        yield kept
    elif isinstance(kept, Mapping):
        for one in kept.values():
            yield from _tensors_in(one)
    elif isinstance(kept, (list, tuple)):
        for one in kept:
            yield from _tensors_in(one)
