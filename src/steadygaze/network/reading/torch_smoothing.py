"""PyTorch operators that are smooth activations of one number."""

from __future__ import annotations

from steadygaze.network.reading import smoothing
from steadygaze.network.reading.assembly import Value
from steadygaze.network.reading.torch_arguments import COMPUTED, NUMBER, Call, Rows, Rule


def _smooth(function: str) -> Rule:
    return lambda call: call.assembler.smooth(call.value(), function)


def _elu(call: Call) -> Value:
    numbers = (float(call[name]) for name in ("alpha", "scale", "input_scale"))
    return smoothing.elu(call.assembler, call.value(), *numbers)


def _selu(call: Call) -> Value:
    return smoothing.elu(call.assembler, call.value(), smoothing.SELU_ALPHA, smoothing.SELU_SCALE)


def _celu(call: Call) -> Value:
    return smoothing.celu(call.assembler, call.value(), float(call["alpha"]))


_ONE = {"self": COMPUTED}

ROWS: Rows = (
    ("elu", _elu, {"self": COMPUTED, "alpha": NUMBER, "scale": NUMBER, "input_scale": NUMBER}),
    ("selu", _selu, _ONE),
    ("celu", _celu, {"self": COMPUTED, "alpha": NUMBER}),
    ("log_sigmoid", lambda call: smoothing.log_sigmoid(call.assembler, call.value()), _ONE),
    ("mish", _smooth("mish"), _ONE),
    ("hardswish", _smooth("hard-swish"), _ONE),
)
"""Smooth activations, by name and overload."""
