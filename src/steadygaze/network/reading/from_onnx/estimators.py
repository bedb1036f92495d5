"""What files of estimators compute that is a layer: the scaling of features (ai.onnx.ml)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from steadygaze.network.reading.assembling.assembly import Value
from steadygaze.network.reading.from_onnx.calls import Call, Rule

DOMAIN = "ai.onnx.ml"
"""The set of operators of estimators."""


def _scaled(call: Call) -> Value:
    """Scaler: ``(x - offset) * scale``, one number of each for all features, or one for each."""
    asm, width = call.assembler, call.assembler.shape(call.value())[-1:]
    unknown = {*call.attributes} - {"offset", "scale"}
    offset, scale = (np.asarray(call.get(name, ()), np.float64) for name in ("offset", "scale"))
    if unknown or any(one.shape not in ((1,), width) for one in (offset, scale)):
        raise asm.refuse(
            f"its attributes are {', '.join(sorted(call.attributes)) or 'none'}",
            "allowed are offset and scale, with one number for all features or one for each",
        )
    return asm.scale_shift(call.value(), scale, -offset * scale)


ESTIMATORS: Mapping[str, Rule] = {"Scaler": _scaled}
"""Operators of estimators that are layers, by name."""
