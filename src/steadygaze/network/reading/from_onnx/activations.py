"""ONNX operators that are smooth activations of one number."""

from __future__ import annotations

from collections.abc import Mapping

from steadygaze.network.reading.assembling import activations, inverses
from steadygaze.network.reading.assembling.assembly import Value
from steadygaze.network.reading.from_onnx.calls import Call, Rule
from steadygaze.network.reading.marks import by_bounds

# The numbers of ONNX's specification, which are those of PyTorch in single precision.
_ALPHA, _GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


def _elu(call: Call) -> Value:
    return activations.elu(call.assembler, call.value(), call.get("alpha", 1.0), 1.0)


def _selu(call: Call) -> Value:
    numbers = call.get("alpha", _ALPHA), call.get("gamma", _GAMMA)
    return activations.elu(call.assembler, call.value(), *numbers)


def _celu(call: Call) -> Value:
    return activations.celu(call.assembler, call.value(), call.get("alpha", 1.0))


RULES: Mapping[str, Rule] = {
    "Acos": by_bounds(lambda call: inverses.arc_cosine(call.assembler, call.value())),
    "Acosh": by_bounds(lambda call: inverses.area_cosine(call.assembler, call.value())),
    "Asin": by_bounds(lambda call: inverses.arc_sine(call.assembler, call.value())),
    "Asinh": by_bounds(activations.smooth("asinh")),
    "Atan": by_bounds(activations.smooth("atan")),
    "Atanh": by_bounds(lambda call: inverses.area_tangent(call.assembler, call.value())),
    "Celu": by_bounds(_celu),
    "Cos": by_bounds(activations.smooth("cos")),
    "Cosh": by_bounds(lambda call: activations.hyperbolic(call.assembler, call.value(), 1.0)),
    "Elu": by_bounds(_elu),
    "HardSwish": by_bounds(activations.smooth("hard-swish")),
    "Mish": by_bounds(activations.smooth("mish")),
    "Selu": by_bounds(_selu),
    "Sin": by_bounds(activations.smooth("sin")),
    "Sinh": by_bounds(lambda call: activations.hyperbolic(call.assembler, call.value(), -1.0)),
    "Softsign": by_bounds(activations.smooth("softsign")),
    "Tan": by_bounds(lambda call: inverses.tangent(call.assembler, call.value())),
}
"""Smooth activations, by name."""
