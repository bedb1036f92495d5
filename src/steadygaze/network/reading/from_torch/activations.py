"""PyTorch operators that are smooth activations of one number."""

from __future__ import annotations

from steadygaze.network.reading.assembling import activations, inverses
from steadygaze.network.reading.assembling.assembly import Value
from steadygaze.network.reading.from_torch.arguments import COMPUTED, NUMBER, Call, Rows
from steadygaze.network.reading.marks import by_bounds


def _elu(call: Call) -> Value:
    numbers = (float(call[name]) for name in ("alpha", "scale", "input_scale"))
    return activations.elu(call.assembler, call.value(), *numbers)


def _selu(call: Call) -> Value:
    return activations.elu(call.assembler, call.value(), activations.SELU_ALPHA, activations.SELU_SCALE)


def _celu(call: Call) -> Value:
    return activations.celu(call.assembler, call.value(), float(call["alpha"]))


_ONE = {"self": COMPUTED}

ROWS: Rows = (
    ("elu", by_bounds(_elu), {"self": COMPUTED, "alpha": NUMBER, "scale": NUMBER, "input_scale": NUMBER}),
    ("selu", by_bounds(_selu), _ONE),
    ("celu", by_bounds(_celu), {"self": COMPUTED, "alpha": NUMBER}),
    ("log_sigmoid", by_bounds(lambda call: activations.log_sigmoid(call.assembler, call.value())), _ONE),
    ("arcsinh asinh", by_bounds(activations.smooth("asinh")), _ONE),
    *(
        (names, by_bounds(lambda call, made=made: made(call.assembler, call.value())), _ONE)
        for names, made in (
            ("acos arccos", inverses.arc_cosine),
            ("acosh arccosh", inverses.area_cosine),
            ("arcsin asin", inverses.arc_sine),
            ("arctanh atanh", inverses.area_tangent),
            ("tan", inverses.tangent),
        )
    ),
    ("mish", by_bounds(activations.smooth("mish")), _ONE),
    ("hardswish", by_bounds(activations.smooth("hard-swish")), _ONE),
)
"""Smooth activations, by name and overload."""
