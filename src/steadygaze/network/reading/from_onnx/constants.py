"""Constants that an ONNX file computes: chains of Shape, Gather, Concat, Reshape and their like.

Exporters write the arithmetic of shapes into the file. With the batch counted as 1 all of it is known on
reading, and none of it becomes a layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
from onnx import helper

from steadygaze.network.building import check_size

Attributes: TypeAlias = Mapping[str, Any]
Fold: TypeAlias = Callable[[Sequence[Any], Attributes], np.ndarray]


SLICED = ("starts", "ends", "axes", "steps")
"""The inputs of Slice after the first; attributes in old files."""


def fold(operator: str, inputs: Sequence[np.ndarray | None], attributes: Attributes) -> np.ndarray:
    """The constant that `operator` (one of `FOLDS`) makes of constants; inputs left out are None.

    What the file would round to its own precision is kept in float64.

    Raises ValueError, IndexError, TypeError or ArithmeticError as numpy does, if the inputs do not fit.
    """
    exact = [None if one is None else _exact(one) for one in inputs]
    with np.errstate(all="ignore"):  # what is not finite is refused where the network uses it
        return _exact(np.asarray(FOLDS[operator](exact, attributes)))


def _exact(constant: np.ndarray) -> np.ndarray:
    whole = np.issubdtype(constant.dtype, np.integer) or constant.dtype == np.bool_
    return constant if whole else constant.astype(np.float64)


def axes_of(inputs: Sequence[Any], attributes: Attributes) -> tuple[int, ...] | None:
    """The axes of an operator: an attribute in old files, the second input in new ones; None if neither.

    Raises ValueError on an empty list, which runtimes read in different ways.
    """
    named = attributes.get("axes", _input(inputs, 1))
    if named is None:
        return None
    axes = tuple(int(axis) for axis in np.ravel(named))
    if not axes:
        raise ValueError("its list of axes is empty")
    return axes


def slices_of(inputs: Sequence[Any], attributes: Attributes, rank: int) -> tuple[slice, ...]:
    """What Slice keeps, one slice per axis. Raises ValueError where its lists do not go together."""
    given = [attributes.get(name, _input(inputs, i)) for i, name in enumerate(SLICED, start=1)]
    starts, ends, axes, steps = (None if one is None else np.ravel(one).tolist() for one in given)
    starts, ends = starts or [], ends or []
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise ValueError(f"its starts {starts}, ends {ends}, axes {axes} and steps {steps} differ in number")
    places = [axis + rank if axis < 0 else axis for axis in axes]
    if len(set(places)) < len(places) or not all(0 <= place < rank for place in places) or 0 in steps:
        raise ValueError(f"it slices axes {axes} of {rank} in steps of {steps}")
    kept = [slice(None)] * rank
    for start, end, axis, step in zip(starts, ends, places, steps, strict=True):
        # The smallest integer stands for "past the beginning" when going backwards.
        kept[axis] = slice(start, None if step < 0 and end < -(2**30) else end, step)
    return tuple(kept)


def _input(inputs: Sequence[Any], place: int) -> Any:
    return inputs[place] if place < len(inputs) else None


def _cast(inputs: Sequence[Any], attributes: Attributes) -> np.ndarray:
    kind = helper.tensor_dtype_to_np_dtype(attributes["to"])
    if np.issubdtype(kind, np.floating):
        return inputs[0].astype(np.float64)
    cast = inputs[0].astype(kind)
    if np.issubdtype(kind, np.integer):
        # A number that the type does not hold becomes what the machine makes of it.
        whole = np.trunc(np.asarray(inputs[0], np.float64))
        if not np.array_equal(cast.astype(np.float64), whole):
            raise ValueError(f"numbers that {kind} does not hold are cast to it")
    return cast


def _constant_of_shape(inputs: Sequence[Any], attributes: Attributes) -> np.ndarray:
    shape = tuple(int(size) for size in np.ravel(inputs[0]))
    check_size(shape, "a constant of the file")
    value = attributes.get("value")
    return np.full(shape, 0.0 if value is None else np.ravel(value)[0])


def _expand(inputs: Sequence[Any], attributes: Attributes) -> np.ndarray:
    del attributes
    shape = np.broadcast_shapes(np.shape(inputs[0]), tuple(int(size) for size in np.ravel(inputs[1])))
    check_size(shape, "a constant of the file")
    return np.broadcast_to(inputs[0], shape)


def _flatten(inputs: Sequence[Any], attributes: Attributes) -> np.ndarray:
    shape, axis = inputs[0].shape, attributes.get("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        raise ValueError(f"axis {axis} of {shape}")
    return inputs[0].reshape(math.prod(shape[: axis if axis >= 0 else len(shape) + axis]), -1)


def _range(inputs: Sequence[Any], attributes: Attributes) -> np.ndarray:
    del attributes
    start, limit, delta = (np.ravel(one)[0] for one in inputs)
    if delta == 0 or not np.isfinite([start, limit, delta]).all():
        raise ValueError(f"a range from {start} to {limit} in steps of {delta}")
    check_size((max(int((limit - start) / delta) + 1, 1),), "a constant of the file")
    return np.arange(start, limit, delta)


def _reshape(inputs: Sequence[Any], attributes: Attributes) -> np.ndarray:
    array, shape = inputs[0], [int(size) for size in np.ravel(inputs[1])]
    if not attributes.get("allowzero", 0):
        shape = [array.shape[i] if size == 0 else size for i, size in enumerate(shape)]
    return np.reshape(array, shape)


def _shape(inputs: Sequence[Any], attributes: Attributes) -> np.ndarray:
    return shape_of(np.shape(inputs[0]), attributes)


def shape_of(shape: Sequence[int], attributes: Attributes) -> np.ndarray:
    """What Shape says of a value of that shape."""
    return np.array(list(shape)[attributes.get("start", 0) : attributes.get("end")], dtype=np.int64)


def _tile(inputs: Sequence[Any], attributes: Attributes) -> np.ndarray:
    del attributes
    repeats = [int(count) for count in np.ravel(inputs[1])]
    if len(repeats) != inputs[0].ndim or min(repeats, default=1) < 1:
        raise ValueError(f"a constant of {inputs[0].ndim} axes is repeated {repeats} times")
    check_size(tuple(n * k for n, k in zip(inputs[0].shape, repeats, strict=True)), "a constant of the file")
    return np.tile(inputs[0], repeats)


def _unsqueeze(inputs: Sequence[Any], attributes: Attributes) -> np.ndarray:
    return np.expand_dims(inputs[0], axes_of(inputs, attributes) or ())


def _dequantized(inputs: Sequence[Any], attributes: Attributes) -> np.ndarray:
    """(x - zero point) times scale: of all entries, of each place of an axis, or of blocks along it."""
    levels = np.asarray(inputs[0], np.float64)
    axis, block = attributes.get("axis", 1), attributes.get("block_size", 0)
    scale, zero = (
        _spread(given, levels.shape, axis, block)
        for given in (inputs[1], np.zeros(()) if _input(inputs, 2) is None else inputs[2])
    )
    return (levels - zero) * scale


def _spread(given: Any, shape: tuple[int, ...], axis: int, block: int) -> np.ndarray:
    """One number, or what broadcasts to ``shape``; ValueError unless there is one for each place or block."""
    numbers = np.asarray(given, np.float64)
    if numbers.size == 1:
        return numbers.reshape(())
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"axis {axis} of {shape}")
    axis %= len(shape)
    before, size, behind = shape[:axis], shape[axis], shape[axis + 1 :]
    if numbers.shape != ((*before, -(-size // block), *behind) if block else (size,)):
        raise ValueError(f"scales or zero points of shape {numbers.shape} along axis {axis} of {shape}")
    if block:
        return np.take(numbers, np.arange(size) // block, axis)
    return numbers.reshape(-1, *[1] * len(behind))


def _divide(inputs: Sequence[Any], attributes: Attributes) -> np.ndarray:
    del attributes
    a, b = inputs
    if not np.issubdtype(np.result_type(a, b), np.integer):
        return a / b
    if (b == 0).any():
        raise ValueError("it divides by 0")
    # Whole numbers are divided towards zero, where numpy rounds down.
    quotient = a // b
    return quotient + ((quotient < 0) & (quotient * b != a)).astype(quotient.dtype)


def _modulo(inputs: Sequence[Any], attributes: Attributes) -> np.ndarray:
    a, b = inputs
    if np.issubdtype(np.result_type(a, b), np.integer) and (b == 0).any():
        raise ValueError("it takes remainders of a division by 0")
    if attributes.get("fmod", 0):
        return np.fmod(a, b)
    if not np.issubdtype(np.result_type(a, b), np.integer):
        raise ValueError("the remainder of broken numbers is taken without fmod")
    return np.mod(a, b)


def _reduce_product(inputs: Sequence[Any], attributes: Attributes) -> np.ndarray:
    named = attributes.get("axes", _input(inputs, 1))
    if attributes.get("noop_with_empty_axes", 0) and (named is None or not np.size(named)):
        return inputs[0]
    return np.prod(inputs[0], axis=axes_of(inputs, attributes), keepdims=bool(attributes.get("keepdims", 1)))


def _power(inputs: Sequence[Any], attributes: Attributes) -> np.ndarray:
    del attributes
    base, exponent = inputs
    if np.issubdtype(base.dtype, np.integer) and not np.issubdtype(exponent.dtype, np.integer):
        raise ValueError("it raises whole numbers to a power that is none")
    return np.power(base, exponent)


def _joined(function: Callable[[Any, Any], Any]) -> Fold:
    """Of any number of constants, two at a time."""
    return lambda inputs, attributes: reduce(function, inputs)


FOLDS: dict[str, Fold] = {
    "Add": lambda x, a: x[0] + x[1],
    "And": lambda x, a: np.logical_and(*x),
    "Cast": _cast,
    "Ceil": lambda x, a: np.ceil(x[0]),
    "Concat": lambda x, a: np.concatenate(x, axis=a["axis"]),
    "ConstantOfShape": _constant_of_shape,
    "Cos": lambda x, a: np.cos(x[0]),
    "DequantizeLinear": _dequantized,
    "Div": _divide,
    "Equal": lambda x, a: x[0] == x[1],
    "Expand": _expand,
    "Flatten": _flatten,
    "Floor": lambda x, a: np.floor(x[0]),
    "Gather": lambda x, a: np.take(x[0], x[1], axis=a.get("axis", 0)),
    "Greater": lambda x, a: np.greater(*x),
    "GreaterOrEqual": lambda x, a: np.greater_equal(*x),
    "Identity": lambda x, a: x[0],
    "Less": lambda x, a: np.less(*x),
    "LessOrEqual": lambda x, a: np.less_equal(*x),
    "MatMul": lambda x, a: x[0] @ x[1],
    "Max": _joined(np.maximum),
    "Min": _joined(np.minimum),
    "Mod": _modulo,
    "Mul": lambda x, a: x[0] * x[1],
    "Neg": lambda x, a: -x[0],
    "Not": lambda x, a: np.logical_not(x[0]),
    "Or": lambda x, a: np.logical_or(*x),
    "Pow": _power,
    "Range": _range,
    "ReduceProd": _reduce_product,
    "Reshape": _reshape,
    "Shape": _shape,
    "Sin": lambda x, a: np.sin(x[0]),
    "Size": lambda x, a: np.array(np.size(x[0]), np.int64),
    "Slice": lambda x, a: x[0][slices_of(x, a, x[0].ndim)],
    "Sqrt": lambda x, a: np.sqrt(x[0]),
    "Squeeze": lambda x, a: np.squeeze(x[0], axes_of(x, a)),
    "Sub": lambda x, a: x[0] - x[1],
    "Tile": _tile,
    "Transpose": lambda x, a: np.transpose(x[0], a.get("perm")),
    "Unsqueeze": _unsqueeze,
    "Where": lambda x, a: np.where(x[0], x[1], x[2]),
}
"""Operators whose value is known on reading when their inputs are."""
