"""Scores of which a constant mask hides some from a softmax: minus infinity, added or filled in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from steadygaze.errors import ModelError
from steadygaze.network.reading.assembling import stepping
from steadygaze.network.reading.assembling.assembly import Assembler, Value
from steadygaze.network.reading.assembling.held import AbstractHeld
from steadygaze.network.reading.assembling.stepping import Operand

# What is added to scores to hide them: minus infinity, or the least number of single precision. Beside one
# that is seen, to which at least a tenth of that is added, a softmax makes 0 of it, to the last of 10^29
# digits, as long as scores differ by less than 10^29; single precision holds none above 3 10^38.
_HIDING, _SEEN = -1e30, -1e29


@dataclass(frozen=True, eq=False)
class Masked(AbstractHeld):
    """Scores, and which of them the softmax sees, broadcast against them from the last axis on."""

    scores: Value
    kept: np.ndarray

    def refusal(self, asm: Assembler) -> ModelError:
        return asm.refuse(
            "it takes numbers of which a mask makes some minus infinity",
            "allowed is a softmax right behind the mask; fill in finite numbers otherwise",
        )


def hides(constant: np.ndarray) -> bool:
    """Whether adding a constant hides something."""
    return bool((constant <= _HIDING).any())


def hides_all(constant: np.ndarray) -> bool:
    """Whether adding a constant hides all that it is added to."""
    return bool((constant <= _HIDING).all())


def raised(asm: Assembler, x: Value, constant: np.ndarray) -> Value | Masked:
    """``x + constant``, of which minus infinities hide what they are added to.

    Raises ModelError where something is added that is neither.
    """
    if not hides(constant):
        return asm.scale_shift(x, 1.0, constant)
    kept = constant > _HIDING
    finite = np.where(kept, constant, 0.0)
    if (least := float(finite.min())) < _SEEN:
        raise asm.refuse(
            f"its mask adds {least:g} to some scores and hides others by {float(constant.min()):g}",
            f"allowed are numbers of at least {_SEEN:g} beside minus infinity (or {_HIDING:g} and less); "
            "hide both by minus infinity",
        )
    return masked(asm, asm.scale_shift(x, 1.0, finite) if finite.any() else x, kept)


def masked(asm: Assembler, x: Value, kept: np.ndarray) -> Masked:
    """The scores where `kept` is true; the others are hidden.

    Raises ModelError where the mask does not leave the shape of the scores as it is.
    """
    shape = asm.shape(x)
    try:
        full = np.broadcast_shapes(shape, kept.shape)
    except ValueError:
        full = ()
    if full != shape:
        raise asm.refuse(
            f"a mask of shape {kept.shape} is put on scores of shape {shape}",
            "allowed are masks that leave the shape of the scores as it is; expand the scores beforehand",
        )
    return Masked(x, kept)


def kept_of(asm: Assembler, x: Masked) -> np.ndarray:
    """Which scores are seen, in their full shape."""
    return np.broadcast_to(x.kept, asm.shape(x.scores))


def chosen(asm: Assembler, mask: np.ndarray, first: Operand, second: Operand) -> Value | AbstractHeld:
    """The first where the mask is true, else the second; minus infinities beside scores hide them."""
    for scores, fill, kept in ((first, second, mask), (second, first, ~mask)):
        if isinstance(scores, Value) and isinstance(fill, np.ndarray) and hides_all(fill):
            return masked(asm, scores, kept)
    return stepping.chosen(asm, mask, first, second)
