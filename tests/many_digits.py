"""Layers and networks computed by mpmath, entry by entry: arrays of objects, without a batch axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import mpmath
import numpy as np
import torch
from torch import Tensor

from steadygaze.network.graph import Graph
from steadygaze.network.joint import MatrixProduct, Multiply, Normalise, Softmax
from steadygaze.network.layers import AbstractAffine, AbstractLayer, AveragePool
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.smooth import Smooth

_SCALE, _CUBE = mpmath.mpf(2 * math.sqrt(2 / math.pi)), mpmath.mpf(0.044715)

FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "tanh": mpmath.tanh,
    "erf": mpmath.erf,
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "gelu": lambda x: x * mpmath.ncdf(x),
    "gelu-tanh": lambda x: x / (1 + mpmath.exp(-_SCALE * x * (1 + _CUBE * x * x))),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "elu": lambda x: x if x > 0 else mpmath.expm1(x),
    "softsign": lambda x: x / (1 + abs(x)),
    "atan": mpmath.atan,
    "asinh": mpmath.asinh,
    "hard-swish": lambda x: x * min(max(x + 3, 0), 6) / 6,
    "mish": lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))),
    "exp": mpmath.exp,
}
"""Functions of one number, by the names that the package gives them."""


def exactly(values: Tensor | np.ndarray) -> np.ndarray:
    """The same numbers in mpmath."""
    return np.vectorize(lambda x: mpmath.mpf(float(x)), otypes=[object])(np.asarray(values))


def value_of(layer: AbstractLayer, *xs: np.ndarray) -> np.ndarray:
    """The layer's output at inputs without a batch axis."""
    if isinstance(layer, AveragePool):
        return np.matmul(np.matmul(exactly(layer.rows), xs[0]), exactly(layer.columns).T)
    if isinstance(layer, AbstractAffine):
        return _affine(layer, xs)
    if isinstance(layer, Multiply):
        return xs[0] * xs[1]
    if isinstance(layer, MatrixProduct):
        return np.matmul(*xs)
    (x,) = xs
    if isinstance(layer, Normalise):
        return np.apply_along_axis(_normalised(layer), -1, x)
    if isinstance(layer, Softmax):
        kept = np.ones(x.shape, bool) if layer.kept is None else layer.kept.expand(x.shape).numpy()
        powers = np.where(kept, np.vectorize(mpmath.exp, otypes=[object])(x), mpmath.mpf(0))
        return powers / powers.sum(axis=-1, keepdims=True)
    if isinstance(layer, MaxPool):
        flat = x.reshape(-1)
        best = [max(flat[int(k)] for k in window if k >= 0) for window in layer.windows]
        return np.array(best, dtype=object).reshape(layer.pooled)
    flat = x.reshape(-1)
    if isinstance(layer, PiecewiseLinear):
        found = [_on_its_piece(layer, unit, value) for unit, value in enumerate(flat)]
    else:
        assert isinstance(layer, Smooth)
        found = [_function(layer)(value) for value in flat]
    return np.array(found, dtype=object).reshape(x.shape)


def logits_of(graph: Graph, x: np.ndarray) -> np.ndarray:
    """The logits of a network at pixels ``(C, H, W)``."""
    values = [x]
    for node in graph.nodes[1:]:
        values.append(value_of(node.layer, *(values[source] for source in node.inputs)))
    return values[-1]


def _affine(layer: AbstractAffine, xs: tuple[np.ndarray, ...]) -> np.ndarray:
    """By the matrix that the layer is on unit vectors, of which nothing is rounded, and its constant part."""
    shapes = [x.shape for x in xs]
    count = sum(x.size for x in xs)

    def parts(rows: Tensor) -> tuple[Tensor, ...]:
        split = rows.split([math.prod(shape) for shape in shapes], dim=1)
        return tuple(part.reshape(-1, *shape) for part, shape in zip(split, shapes, strict=True))

    columns = layer.linear(*parts(torch.eye(count, dtype=torch.float64)))
    constant = layer.forward(*parts(torch.zeros((1, count), dtype=torch.float64)))[0]
    joined = np.concatenate([x.reshape(-1) for x in xs])
    matrix = columns.reshape(count, -1).numpy()
    total = exactly(constant.reshape(-1))
    for source, target in zip(*np.nonzero(matrix), strict=True):
        total[target] += mpmath.mpf(float(matrix[source, target])) * joined[source]
    return total.reshape(tuple(constant.shape))


def _normalised(layer: Normalise) -> Callable[[np.ndarray], np.ndarray]:
    def normalised(x: np.ndarray) -> np.ndarray:
        away = x - sum(x) / len(x) if layer.centred else x
        return away / mpmath.sqrt(sum(away * away) / len(x) + mpmath.mpf(layer.epsilon))

    return normalised


def _on_its_piece(layer: PiecewiseLinear, unit: int, x: Any) -> Any:
    piece = sum(x > edge for edge in layer.marks)
    column = unit if layer.slopes.shape[1] > 1 else 0
    return mpmath.mpf(float(layer.slopes[piece, column])) * x + mpmath.mpf(
        float(layer.offsets[piece, column])
    )


def _function(layer: Smooth) -> Callable[[Any], Any]:
    if layer.function == "power":
        return lambda x: x ** mpmath.mpf(layer.numbers[0])
    if layer.function == "log":
        return mpmath.log
    return FUNCTIONS[layer.function]
