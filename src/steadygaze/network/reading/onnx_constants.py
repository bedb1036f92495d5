"""Constants that an ONNX file computes: chains of Shape, Gather, Concat, Reshape and their like.

Exporters write the arithmetic of shapes into the file. With the batch counted as 1 all of it is known on
reading, and none of it becomes a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from onnx import helper

from steadygaze.network.graph import check_size

Attributes: TypeAlias = Mapping[str, Any]
Fold: TypeAlias = Callable[[Sequence[Any], Attributes], np.ndarray]


def fold(operator: str, inputs: Sequence[np.ndarray | None], attributes: Attributes) -> np.ndarray:
    """The constant that `operator` (one of `FOLDS`) makes of constants; inputs left out are None.

    Raises ValueError, IndexError or TypeError as numpy does, if the inputs do not fit.
    """
    return np.asarray(FOLDS[operator](inputs, attributes))


def axes_of(inputs: Sequence[Any], attributes: Attributes) -> tuple[int, ...] | None:
    """The axes of an operator: an attribute in old files, the second input in new ones; None if neither."""
    if "axes" in attributes:
        return tuple(int(axis) for axis in attributes["axes"])
    if len(inputs) > 1 and inputs[1] is not None:
        return tuple(int(axis) for axis in np.ravel(inputs[1]))
    return None


def slices_of(inputs: Sequence[Any], attributes: Attributes, rank: int) -> tuple[slice, ...]:
    """What Slice keeps, one slice per axis."""
    names = ("starts", "ends", "axes", "steps")
    given = [attributes.get(name, _input(inputs, i)) for i, name in enumerate(names, start=1)]
    starts, ends, axes, steps = (None if one is None else np.ravel(one).tolist() for one in given)
    kept = [slice(None)] * rank
    axes = range(len(starts or ())) if axes is None else axes
    for place, axis in enumerate(axes):
        step = 1 if steps is None else steps[place]
        end = (ends or ())[place]
        # The smallest integer stands for "past the beginning" when going backwards.
        kept[axis] = slice((starts or ())[place], None if step < 0 and end < -(2**31) else end, step)
    return tuple(kept)


def _input(inputs: Sequence[Any], place: int) -> Any:
    return inputs[place] if place < len(inputs) else None


def _constant_of_shape(inputs: Sequence[Any], attributes: Attributes) -> np.ndarray:
    shape = tuple(int(size) for size in np.ravel(inputs[0]))
    check_size(shape, "a constant of the file")
    value = attributes.get("value")
    return np.full(shape, np.float32(0) if value is None else np.ravel(value)[0])


def _expand(inputs: Sequence[Any], attributes: Attributes) -> np.ndarray:
    del attributes
    shape = np.broadcast_shapes(np.shape(inputs[0]), tuple(int(size) for size in np.ravel(inputs[1])))
    check_size(shape, "a constant of the file")
    return np.broadcast_to(inputs[0], shape)


def _range(inputs: Sequence[Any], attributes: Attributes) -> np.ndarray:
    del attributes
    start, limit, delta = (np.ravel(one)[0] for one in inputs)
    check_size((max(int((limit - start) / delta) + 1, 1),), "a constant of the file")
    return np.arange(start, limit, delta)


def _reshape(inputs: Sequence[Any], attributes: Attributes) -> np.ndarray:
    array, shape = inputs[0], [int(size) for size in np.ravel(inputs[1])]
    if not attributes.get("allowzero", 0):
        shape = [array.shape[i] if size == 0 else size for i, size in enumerate(shape)]
    return np.reshape(array, shape)


def _unsqueeze(inputs: Sequence[Any], attributes: Attributes) -> np.ndarray:
    return np.expand_dims(inputs[0], axes_of(inputs, attributes) or ())


def _divide(inputs: Sequence[Any], attributes: Attributes) -> np.ndarray:
    del attributes
    a, b = inputs
    # Integers are divided towards zero; shapes are never negative, so that is rounding down.
    return a // b if np.issubdtype(np.result_type(a, b), np.integer) else a / b


def _reduce_product(inputs: Sequence[Any], attributes: Attributes) -> np.ndarray:
    return np.prod(inputs[0], axis=axes_of(inputs, attributes), keepdims=bool(attributes.get("keepdims", 1)))


FOLDS: dict[str, Fold] = {
    "Add": lambda x, a: x[0] + x[1],
    "Cast": lambda x, a: x[0].astype(helper.tensor_dtype_to_np_dtype(a["to"])),
    "Concat": lambda x, a: np.concatenate(x, axis=a["axis"]),
    "ConstantOfShape": _constant_of_shape,
    "Div": _divide,
    "Expand": _expand,
    "Flatten": lambda x, a: x[0].reshape(int(np.prod(x[0].shape[: a.get("axis", 1)])), -1),
    "Gather": lambda x, a: np.take(x[0], x[1], axis=a.get("axis", 0)),
    "Identity": lambda x, a: x[0],
    "MatMul": lambda x, a: x[0] @ x[1],
    "Mul": lambda x, a: x[0] * x[1],
    "Neg": lambda x, a: -x[0],
    "Range": _range,
    "ReduceProd": _reduce_product,
    "Reshape": _reshape,
    "Shape": lambda x, a: np.array(np.shape(x[0])[a.get("start", 0) : a.get("end")], dtype=np.int64),
    "Slice": lambda x, a: x[0][slices_of(x, a, x[0].ndim)],
    "Sqrt": lambda x, a: np.sqrt(x[0]),
    "Squeeze": lambda x, a: np.squeeze(x[0], axes_of(x, a)),
    "Sub": lambda x, a: x[0] - x[1],
    "Transpose": lambda x, a: np.transpose(x[0], a.get("perm")),
    "Unsqueeze": _unsqueeze,
}
"""Operators whose value is known on reading when their inputs are."""
