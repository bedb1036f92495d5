"""ONNX operators that multiply matrices, with leading axes, and Einstein's sums."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from steadygaze.network.reading.assembling import contracting
from steadygaze.network.reading.assembling.assembly import Value
from steadygaze.network.reading.from_onnx.calls import Call, Rule
from steadygaze.network.reading.marks import mixed


def _matmul(call: Call) -> Value:
    asm = call.assembler
    first, second = call.given()  # the form of the operator has two inputs
    if isinstance(first, Value) and isinstance(second, Value):
        return contracting.matrix_product(asm, first, second)
    matrix, x = (second, first) if isinstance(first, Value) else (first, call.value(1))
    assert isinstance(matrix, np.ndarray)
    assert isinstance(x, Value)
    # Without leading axes, or with some of one entry that the value has, too.
    plain = 2 <= matrix.ndim <= len(asm.shape(x)) and math.prod(matrix.shape[:-2]) == 1
    if not plain:
        return contracting.matrix_product(asm, first, second)
    flat = matrix.reshape(matrix.shape[-2:])
    return asm.dense(x, flat.T, None) if isinstance(first, Value) else asm.matmul_left(flat, x)


def _einsum(call: Call) -> Value:
    return contracting.einsum(call.assembler, call.get("equation", b"").decode(), call.given())


RULES: Mapping[str, Rule] = {"Einsum": mixed(_einsum), "MatMul": mixed(_matmul)}
"""Operators that multiply by constants, by name."""
