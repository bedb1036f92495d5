"""What a file computes that is no layer by itself, held until an operator makes one of it."""

from __future__ import annotations

from abc import ABC, abstractmethod

from steadygaze.errors import ModelError
from steadygaze.network.reading.assembling.assembly import Assembler

NO_JUMPS = "around a jump no linear bound holds, and the gradient does not show it"
"""Why what jumps is refused."""
# Operators that jump by themselves, as ONNX and PyTorch name them, in small letters.
_JUMPING = ("bucketize", "ceil", "fix", "floor", "fmod", "frac", "hardmax", "hardshrink", "heaviside", "mod")
_JUMPING += ("remainder", "round", "trunc")
# Those that sort what they are given.
_ORDERING = ("argsort", "kthvalue", "median", "msort", "nanmedian", "quantile", "sort", "topk")


def way_out_of(operator: str) -> str | None:
    """What to do about an operator of computed values, by its name; None where there is nothing to say."""
    name = operator.lower()
    if name in _ORDERING:
        return (
            "it puts computed values in order; take their largest or smallest instead (amax, amin, max pool)"
        )
    if name == "dft" or "fft_" in name:
        return "write it as products with the constant matrices of the transform, which are linear layers"
    if name == "sinc":
        return (
            "it is sin(pi x) divided by pi x, which may be 0; use sin, tanh or atan instead, or leave it out"
        )
    if name == "cumprod":
        return (
            "write the products out: for two classes x[:, :1] and x[:, :1] * x[:, 1:2], put together by cat"
        )
    if name.startswith("fake_quantize"):
        return (
            f"it rounds as a quantized network does, and so jumps: {NO_JUMPS}; hand in the network as it was "
            "before quantization was prepared"
        )
    if name not in _JUMPING:
        return None
    return (
        f"it jumps: {NO_JUMPS}; use a continuous form (clamp, Softshrink, the value itself), or leave it out"
    )


class AbstractHeld(ABC):
    """Something computed from the image that few operators take."""

    @abstractmethod
    def refusal(self, asm: Assembler) -> ModelError:
        """The error of another operator that is handed it."""
