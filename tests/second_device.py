"""A second device where there is none: tensors whose numbers lie in main memory, and which say `cuda`.

Between them and others PyTorch's rules hold: operands of an operation are on one device (but for numbers
without axes), what it makes is there, too, and NumPy sees tensors of the processor alone. So code that leaves
a tensor behind on the wrong device fails as it would on a GPU. How fast or how exact one is it does not show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

_PROCESSOR, _SECOND = torch.device("cpu"), torch.device("cuda:0")
# What a tensor of the second device says of itself.
_SAID = {Tensor.device.__get__: _SECOND, Tensor.is_cuda.__get__: True, Tensor.is_cpu.__get__: False}
_FOR_NUMPY = (Tensor.numpy, Tensor.__array__)
_INDEXING = (Tensor.__getitem__, Tensor.__setitem__)


class Moved(Tensor):
    """A tensor of the second device."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        """Every operation that takes one."""
        del types
        return _called(func, args, kwargs or {})


class _Watched(TorchFunctionMode):
    """Every other operation, such as those that make tensors on a device."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        del types
        return _called(func, args, kwargs or {})


@contextmanager
def second_device() -> Iterator[None]:
    """Where `cuda` is such a device, in threads of pools, too."""
    submit = ThreadPoolExecutor.submit

    def watched(pool: ThreadPoolExecutor, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        def inside(*args: Any, **kwargs: Any) -> Any:
            with _Watched():
                return work(*args, **kwargs)

        return submit(pool, inside, *args, **kwargs)

    with (
        patch.object(torch.cuda, "is_available", lambda: True),
        patch.object(torch.cuda, "synchronize", lambda: None),
        patch.object(ThreadPoolExecutor, "submit", watched),
        _Watched(),
    ):
        yield


def _called(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    given = tree_leaves((args, kwargs))
    tensors = [each for each in given if isinstance(each, Tensor)]
    devices = [torch.device(each).type for each in given if _is_device(each)]
    moved = "cuda" in devices or any(isinstance(each, Moved) for each in tensors)
    if func is torch.device or not moved:
        return func(*args, **kwargs)
    with torch._C.DisableTorchFunction():
        if isinstance(args[0], Moved):
            if func in _SAID:
                return _SAID[func]
            if func in _FOR_NUMPY:
                raise TypeError("a tensor of cuda:0 is not converted to numpy: use Tensor.cpu() first")
        there = _is_there(func, args, tensors, devices)
        made = func(*tree_map(_plain, args), **tree_map(_plain, kwargs))
        if not there:
            return made
        return tree_map(lambda each: each.as_subclass(Moved) if isinstance(each, Tensor) else each, made)


def _is_there(
    func: Callable[..., Any], args: tuple[Any, ...], tensors: list[Any], devices: list[str]
) -> bool:
    """Whether what the operation makes is there. Raises RuntimeError where operands are on two devices."""
    if func is Tensor.cpu or func is Tensor.cuda:
        return func is Tensor.cuda
    if func is Tensor.type_as or (func is Tensor.to and len(tensors) > 1):
        return isinstance(args[1], Moved)
    if func is Tensor.copy_:
        return isinstance(args[0], Moved)
    if func is Tensor.to and devices:
        return devices[-1] == "cuda"
    if func in _INDEXING:
        tensors = _placed(args)
        if len(tensors) == 1:
            return isinstance(args[0], Moved)
    on = [isinstance(each, Moved) for each in tensors]
    if any(on) and any(not own and each.dim() for own, each in zip(on, tensors, strict=True)):
        shapes = [(type(each).__name__, tuple(each.shape)) for each in tensors]
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found {shapes}")
    return any(on) or devices[-1] == "cuda"


def _placed(args: tuple[Any, ...]) -> list[Any]:
    """What of an indexed tensor, indices and a value has to be on one device.

    Indices of a tensor there may be here, but not the other way round; values are copied from anywhere into
    slices, but not to where tensors say.
    """
    indices = [each for each in tree_leaves(args[1]) if isinstance(each, Tensor)]
    wrong = [] if isinstance(args[0], Moved) else indices
    return [args[0], *wrong, *(each for each in args[2:] if indices and isinstance(each, Tensor))]


def _is_device(given: object) -> bool:
    return isinstance(given, torch.device) or (isinstance(given, str) and given in ("cpu", "cuda", "cuda:0"))


def _plain(given: Any) -> Any:
    if isinstance(given, Moved):
        return given.as_subclass(Tensor)
    return _PROCESSOR if _is_device(given) else given
