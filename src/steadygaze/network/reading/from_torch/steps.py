"""What a module does to an image, step by step, and the numbers that it reads of tensors on the way."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from steadygaze.network.reading.from_torch.surroundings import undisturbed

_HANDING_ON = ("detach", "alias", "lift_fresh", "lift_fresh_copy", "_assert_tensor_metadata")
# How Python takes a number out of a tensor: by `if`, `float()`, `.item()` and the like.
_READERS = ("__bool__", "__float__", "__index__", "__int__", "item", "tolist")
# How far constants of a module may be from what they are traced to, against the largest: single precision.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Step:
    """An operation on what comes of the image: its name, the plain numbers and the constants it is given."""

    name: str
    plain: tuple[int | float | str, ...]
    constants: tuple[Tensor, ...] = field(compare=False)

    def same_constants(self, other: Step) -> bool:
        """Whether it is given the same constants within rounding."""
        return len(self.constants) == len(other.constants) and all(
            map(_near, self.constants, other.constants)
        )


@dataclass(frozen=True)
class Read:
    """A number read of a tensor, how, and whether that tensor comes of the image."""

    how: str
    value: Any
    of_image: bool


@dataclass(frozen=True)
class Course:
    """What a module did to one image: steps that only hand a tensor on are left out, and so is what it does
    to constants alone, which need not be done in the same steps to be the same."""

    steps: Sequence[Step]
    reads: Sequence[Read]
    products: int  # about how many were made, as `Graph.effort` counts them

    def same_steps(self, other: Course) -> bool:
        """Whether the steps are the same, whatever constants they are given."""
        return self.steps == other.steps

    def same_constants(self, other: Course) -> bool:
        """Whether the steps, which must be the same, are given the same constants within rounding."""
        return all(one.same_constants(two) for one, two in zip(self.steps, other.steps, strict=True))

    @property
    def reads_the_image(self) -> bool:
        """Whether a number was read that comes of the image."""
        return any(read.of_image for read in self.reads)


def course_of(module: Callable[[Tensor], Any], image: Tensor) -> Course:
    """Run the module on a copy of the image, and write down what it does."""
    image = image.clone()
    with undisturbed(gradients=False), _Steps(image) as steps, _Reads(steps) as reads:
        module(image)
    return Course(steps.steps, reads.reads, steps.products)


class Retold(TorchFunctionMode):
    """While it is entered, numbers read of constants are those that were read before, in turn.

    A trace knows shapes alone, no numbers; those that come of the image stay unknown to it.
    """

    def __init__(self, reads: Sequence[Read]) -> None:
        super().__init__()
        self._reads = iter(reads)

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        how = getattr(func, "__name__", "")
        if how in _READERS:
            read = next(self._reads, None)
            if read is not None and read.how == how and not read.of_image:
                return read.value
        return func(*args, **(kwargs or {}))


class _Steps(TorchDispatchMode):
    """Writes down the steps while it is entered; what comes of the image is known by where it is stored."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.products = 0
        # Held, so that no storage is taken for another that lay in the same place before.
        self._touched = {_place(image): image.untyped_storage()}

    def of_image(self, tensor: Tensor) -> bool:
        return _place(tensor) in self._touched

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        tensors = [one for one in _pytree.tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        if not any(map(self.of_image, tensors)):
            return func(*args, **(kwargs or {}))
        self._write(func, args, dict(kwargs or {}), tensors)
        made = func(*args, **(kwargs or {}))
        self.products += _products(func, tensors, made)
        written = tensors if func._schema.is_mutable else ()
        for one in itertools.chain(_pytree.tree_leaves(made), written):
            if isinstance(one, Tensor):
                self._touched[_place(one)] = one.untyped_storage()
        return made

    def _write(self, func: Any, args: Any, kwargs: dict[str, Any], tensors: Sequence[Tensor]) -> None:
        """Write the step down, unless it does nothing: libraries add masks that hide nothing when traced."""
        space, _, name = func._schema.name.removesuffix("_").partition("::")
        constants = [one for one in tensors if not self.of_image(one)]
        if (
            space == "profiler"
            or name in _HANDING_ON
            or (name == "add" and _adds_nothing(tensors, constants))
        ):
            return
        mask = kwargs.get("attn_mask")
        if mask is not None and any(mask is one for one in constants):
            # A softmax sees how far scores are apart.
            apart = mask - mask.amax(dim=-1, keepdim=True)
            constants = [one for one in constants if one is not mask] + [apart] * bool(apart.any())
        leaves = _pytree.tree_leaves((args, kwargs))
        plain = tuple(one for one in leaves if isinstance(one, (int, float, str)))
        self.steps.append(Step(name, plain, tuple(constants)))


class _Reads(TorchFunctionMode):
    """Writes down the numbers that are read of tensors while it is entered."""

    def __init__(self, steps: _Steps) -> None:
        super().__init__()
        self.reads: list[Read] = []
        self._steps = steps

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        made, how = func(*args, **(kwargs or {})), getattr(func, "__name__", "")
        if how in _READERS:
            self.reads.append(Read(how, made, self._steps.of_image(args[0])))
        return made


def _products(func: Any, tensors: Sequence[Tensor], made: Any) -> int:
    """Products in a convolution, or in a product of matrices, of these tensors; 0 in anything else."""
    name = func._schema.name.removeprefix("aten::")
    if name in ("convolution", "_convolution"):
        return tensors[1][0].numel() * made.numel()
    return tensors[-2].shape[-1] * made.numel() if name in ("mm", "addmm", "bmm", "baddbmm") else 0


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _adds_nothing(tensors: Sequence[Tensor], constants: Sequence[Tensor]) -> bool:
    """Whether a constant is added that is 0 and makes the sum no larger, nor more precise."""
    if len(tensors) != 2 or len(constants) != 1:
        return False
    (zero,), (other,) = constants, [one for one in tensors if one is not constants[0]]
    fits = zero.dtype == other.dtype and torch.broadcast_shapes(zero.shape, other.shape) == other.shape
    return fits and not bool(zero.any())


def _near(one: Tensor, two: Tensor) -> bool:
    """Whether two constants are the same within rounding; how they lie in memory does not matter."""
    if one.shape != two.shape or one.dtype != two.dtype:
        return False
    if one.data_ptr() == two.data_ptr() and one.stride() == two.stride():
        return True
    if not one.is_floating_point():
        return torch.equal(one, two)
    if not one.numel():
        return True
    bound = _ROUNDING * float(one.double().abs().nan_to_num(0.0, 0.0, 0.0).max())
    return torch.allclose(one.double(), two.double(), rtol=0.0, atol=bound, equal_nan=True)
