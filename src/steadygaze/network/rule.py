"""What is known of one smooth function of one number: the record that enclosures are made from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

Curve: TypeAlias = Callable[[Tensor], Tensor]
Places: TypeAlias = Callable[[Tensor], Sequence[Tensor]]


@dataclass(frozen=True)
class Rule:
    """What is known of one function f, on all of R or from `floor` on.

    Attributes:
        value, derivative, second: f, f', f'', elementwise in float64, for any finite argument from floor on.
        steepest: at least sup|f'|, infinite where it is not known: lines beside f are no steeper.
        curvature: at least sup|f''|. third: at least sup|f'''|. Where places are known neither is read.
        turns: all z with f'(z) = 0. bends: all z with f''(z) = 0.
        slopes: places that hold all z with f'(z) = λ, given λ, or None where there is no closed form.
            Other places among them do no harm. Where f' jumps, or f'' does, both sides of the jump are among
            the places (and, for the ranges, among turns and bends), as numbers just beside each other.
        seconds: the same for f''(z) = λ.
        floor: the least argument that there is: who puts the function into a network knows that no value
            before it is less.
        period: of f, infinite where it has none; turns, bends and places are then those of one period.
    """

    value: Curve
    derivative: Curve
    second: Curve
    steepest: float = math.inf
    curvature: float = math.inf
    third: float = math.inf
    turns: tuple[float, ...] = ()
    bends: tuple[float, ...] = ()
    slopes: Places | None = None
    seconds: Places | None = None
    floor: float = -math.inf
    period: float = math.inf
