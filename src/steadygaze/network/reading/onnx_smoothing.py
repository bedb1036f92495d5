"""ONNX operators that are smooth activations of one number."""

from __future__ import annotations

from collections.abc import Mapping

from steadygaze.network.reading import smoothing
from steadygaze.network.reading.assembly import Value
from steadygaze.network.reading.onnx_calls import Call, Rule

# The numbers of ONNX's specification, which are those of PyTorch in single precision.
_ALPHA, _GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


def _smooth(function: str) -> Rule:
    return lambda call: call.assembler.smooth(call.value(), function)


def _elu(call: Call) -> Value:
    return smoothing.elu(call.assembler, call.value(), call.get("alpha", 1.0), 1.0)


def _selu(call: Call) -> Value:
    numbers = call.get("alpha", _ALPHA), call.get("gamma", _GAMMA)
    return smoothing.elu(call.assembler, call.value(), *numbers)


def _celu(call: Call) -> Value:
    return smoothing.celu(call.assembler, call.value(), call.get("alpha", 1.0))


RULES: Mapping[str, Rule] = {
    "Celu": _celu,
    "Elu": _elu,
    "HardSwish": _smooth("hard-swish"),
    "Mish": _smooth("mish"),
    "Selu": _selu,
    "Softsign": _smooth("softsign"),
}
"""Smooth activations, by name."""
