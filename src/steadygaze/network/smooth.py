"""Smooth activations: values and derivatives, and what is known of each (see `bounding/curves/enclosing`)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from steadygaze.network.families import EXPONENTIAL, FAMILIES
from steadygaze.network.layers import AbstractLayer, Shape
from steadygaze.network.rule import Places, Rule

# All derivatives of the bell-shaped terms below are 0 in float64 from here on; it keeps 0 * inf out.
_FAR = 40.0
# The same for Mish, which comes to its limits like exp(-|x|).
_FAR_OUT = 750.0

_GAUSS = 1 / math.sqrt(2 * math.pi)
_TWO_BY_ROOT_PI = 2 / math.sqrt(math.pi)
# Approximate GELU is x sigmoid(v), v = scale x (1 + cube x²) (Hendrycks and Gimpel, 2016, section 2).
_GELU_SCALE, _GELU_CUBE = 2 * math.sqrt(2 / math.pi), 0.044715


@dataclass(frozen=True, eq=False)
class Smooth(AbstractLayer):
    """One smooth function, unit by unit.

    `function` is its name in `RULES` or `EXPONENTIAL`; or in `FAMILIES`, which make it from `numbers`.
    """

    function: str
    numbers: tuple[float, ...] = ()

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    def forward(self, *xs: Tensor) -> Tensor:
        return self.rule.value(xs[0])

    def derivative(self, x: Tensor) -> Tensor:
        """f' of each unit, ``(B, N)``, for pre-activations ``(B, *shape)``.

        A root has an infinite slope at 0; there it is that of the piece below, on which it stays 0.
        """
        flat = x.flatten(1)
        slopes = self.rule.derivative(flat)
        is_root = self.function == "power" and 0 < self.numbers[0] < 1
        return slopes.masked_fill_(flat <= 0, 0.0) if is_root else slopes

    def transpose(self, g: Tensor, derivative: Tensor) -> Tensor:
        """Vector-Jacobian product of g ``(B, *shape)`` at the given derivatives ``(B, N)``; overwrites g."""
        return g.mul_(derivative.reshape(g.shape))

    @property
    def rises(self) -> bool:
        """Whether its derivative is above 0 at every number, as that of sigmoid is."""
        rule = self.rule
        if rule.turns or not math.isinf(rule.floor):
            return False
        return bool(rule.derivative(torch.zeros((), dtype=torch.float64)) > 0)

    @property
    def rule(self) -> Rule:
        """What is known of the function."""
        if self.function in FAMILIES:
            return FAMILIES[self.function](*self.numbers)
        return EXPONENTIAL.get(self.function) or RULES[self.function]


# -- the functions: sigmoid


def _bell(x: Tensor) -> Tensor:
    """sigmoid', without the cancellation of s (1 - s)."""
    return torch.sigmoid(x) * torch.sigmoid(-x)


def _bell_slope(x: Tensor) -> Tensor:
    """sigmoid''."""
    return _bell(x) * (torch.sigmoid(-x) - torch.sigmoid(x))


def _bell_places(level: Tensor) -> tuple[Tensor, ...]:
    """sigmoid'(z) = level: with s = (1 ± r) / 2, r = sqrt(1 - 4 level), z is ± log((1 + r)² / (4 level))."""
    level = level.clamp_min(torch.finfo(level.dtype).tiny)
    root = (1 - 4 * level).clamp_min(0.0).sqrt()
    z = 2 * torch.log1p(root) - torch.log(4 * level)
    return (z, -z)


def _bell_slope_places(level: Tensor) -> tuple[Tensor, ...]:
    """sigmoid''(z) = level: with t = -tanh(z / 2) that is t³ - t + 4 level = 0, whose roots are cosines."""
    angle = torch.acos((-6 * math.sqrt(3) * level).clamp(-1.0, 1.0)) / 3
    within = 1 - torch.finfo(level.dtype).eps
    roots = (2 / math.sqrt(3) * torch.cos(angle - 2 * math.pi * k / 3) for k in range(3))
    return tuple(-2 * torch.atanh(root.clamp(-within, within)) for root in roots)


def _logit(level: Tensor) -> tuple[Tensor, ...]:
    """sigmoid(z) = level."""
    kind = torch.finfo(level.dtype)
    level = level.clamp(kind.tiny, 1 - kind.eps)
    return (torch.log(level) - torch.log1p(-level),)


# -- the error function, SiLU and GELU


def _erf_slope(x: Tensor) -> Tensor:
    return _TWO_BY_ROOT_PI * torch.exp(-x.square())


def _erf_places(level: Tensor) -> tuple[Tensor, ...]:
    """2 / sqrt(pi) exp(-z²) = level."""
    z = (math.log(_TWO_BY_ROOT_PI) - torch.log(level.clamp_min(torch.finfo(level.dtype).tiny))).clamp_min(0.0)
    return (z.sqrt(), -z.sqrt())


def _silu_slope(x: Tensor) -> Tensor:
    return torch.sigmoid(x) + x * _bell(x)


def _silu_second(x: Tensor) -> Tensor:
    return 2 * _bell(x) + x * _bell_slope(x)


def _gauss(x: Tensor) -> Tensor:
    return _GAUSS * torch.exp(-x.square() / 2)


def _gelu_second(x: Tensor) -> Tensor:
    x = x.clamp(-_FAR, _FAR)
    return (2 - x.square()) * _gauss(x)


def _gelu_inner(x: Tensor) -> Tensor:
    return _GELU_SCALE * x * (1 + _GELU_CUBE * x.square())


def _gelu_inner_slope(x: Tensor) -> Tensor:
    return _GELU_SCALE * (1 + 3 * _GELU_CUBE * x.square())


def _gelu_tanh_slope(x: Tensor) -> Tensor:
    near = x.clamp(-_FAR, _FAR)
    inner = _gelu_inner(near)
    return torch.sigmoid(_gelu_inner(x)) + near * _bell(inner) * _gelu_inner_slope(near)


def _gelu_tanh_second(x: Tensor) -> Tensor:
    x = x.clamp(-_FAR, _FAR)
    inner, slope, second = _gelu_inner(x), _gelu_inner_slope(x), 6 * _GELU_SCALE * _GELU_CUBE * x
    return _bell(inner) * (2 * slope + x * second) + x * _bell_slope(inner) * slope.square()


# -- the arctangent


def _atan_slope(x: Tensor) -> Tensor:
    return (1 + x.square()).reciprocal()


def _atan_places(level: Tensor) -> tuple[Tensor, ...]:
    """1 / (1 + z²) = level."""
    z = (level.clamp(torch.finfo(level.dtype).tiny, 1.0).reciprocal() - 1).sqrt()
    return (z, -z)


# -- the inverse hyperbolic sine


def _asinh_slope(x: Tensor) -> Tensor:
    return (1 + x.square()).rsqrt()


def _asinh_places(level: Tensor) -> tuple[Tensor, ...]:
    """1 / sqrt(1 + z²) = level."""
    level = level.clamp(torch.finfo(level.dtype).tiny, 1.0)
    z = ((1 - level) * (1 + level)).sqrt() / level  # no square of it, which would overflow
    return (z, -z)


# -- sine and cosine


def _sine_places(level: Tensor) -> tuple[Tensor, ...]:
    """sin z = level."""
    z = torch.asin(level.clamp(-1.0, 1.0))
    return (z, math.pi - z)


def _cosine_places(level: Tensor) -> tuple[Tensor, ...]:
    """cos z = level."""
    z = torch.acos(level.clamp(-1.0, 1.0))
    return (z, -z)


# -- functions of pieces: ELU, softsign, hard swish; and Mish


def _fixed(*values: float) -> Places:
    """The same places whatever the slope, for functions of pieces: where these meet, on either side."""
    return lambda level: tuple(torch.full_like(level, value) for value in values)


def _log_or_zero(level: Tensor) -> tuple[Tensor, ...]:
    """exp(z) = level for z < 0; and 0, where the pieces meet."""
    z = torch.log(level.clamp(torch.finfo(level.dtype).tiny, 1.0))
    return (z, torch.zeros_like(level))


def _softsign_places(level: Tensor) -> tuple[Tensor, ...]:
    """1 / (1 + |z|)² = level; and 0."""
    z = level.clamp(torch.finfo(level.dtype).tiny, 1.0).rsqrt() - 1
    return (z, -z, torch.zeros_like(level))


def _softsign_slope_places(level: Tensor) -> tuple[Tensor, ...]:
    """2 / (1 + |z|)³ = |level|; and 0."""
    z = (2 / level.abs().clamp(torch.finfo(level.dtype).tiny, 2.0)) ** (1 / 3) - 1
    return (z, -z, torch.zeros_like(level))


def _hard_swish_slope(x: Tensor) -> Tensor:
    """At -3 and 3 it is that of the outer pieces, as PyTorch has it."""
    return torch.where(x <= -3, 0.0, torch.where(x >= 3, 1.0, x / 3 + 0.5))


def _mish_parts(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """t = tanh(y), 1 - t² without its cancellation, and sigmoid(x), for y = softplus(x)."""
    y = torch.logaddexp(x, torch.zeros_like(x))
    rest = torch.where(y < 350, torch.cosh(y.clamp_max(350.0)).reciprocal().square(), 0.0)
    return torch.tanh(y), rest, torch.sigmoid(x)


def _mish_slope(x: Tensor) -> Tensor:
    near = x.clamp(-_FAR_OUT, _FAR_OUT)
    t, rest, s = _mish_parts(near)
    return t + near * rest * s


def _mish_second(x: Tensor) -> Tensor:
    x = x.clamp(-_FAR_OUT, _FAR_OUT)
    t, rest, s = _mish_parts(x)
    return rest * s * (2 + x * (torch.sigmoid(-x) - 2 * t * s))


_AFTER, _BEFORE = math.nextafter(-3.0, 0.0), math.nextafter(3.0, 0.0)

RULES: dict[str, Rule] = {
    # s' = (1 - t²) / 4 with t = 1 - 2 s in (-1, 1). s'' = t (1 - t²) / 4 is largest at t² = 1/3, where it is
    # 1 / (6 sqrt 3). s''' = s' (1 - 6 s') with s' in (0, 1/4]: between -1/8 and 1/24.
    "sigmoid": Rule(
        torch.sigmoid,
        _bell,
        _bell_slope,
        steepest=0.25,
        curvature=0.0962251,
        third=0.125,
        bends=(0.0,),
        slopes=_bell_places,
        seconds=_bell_slope_places,
    ),
    # 2 sigmoid(2 z) - 1: 8 and 16 times the bounds of sigmoid.
    "tanh": Rule(
        torch.tanh,
        lambda x: 4 * _bell(2 * x),
        lambda x: 8 * _bell_slope(2 * x),
        steepest=1.0,
        curvature=0.7698004,
        third=2.0,
        bends=(0.0,),
        slopes=lambda level: tuple(z / 2 for z in _bell_places(level / 4)),
        seconds=lambda level: tuple(z / 2 for z in _bell_slope_places(level / 8)),
    ),
    # f'' = -2 z f' is largest at z² = 1/2, sqrt(8 / (pi e)); f''' = (4 z² - 2) f' at 0, 4 / sqrt(pi).
    "erf": Rule(
        torch.erf,
        _erf_slope,
        lambda x: -2 * x * _erf_slope(x),
        steepest=1.1283792,
        curvature=0.9678829,
        third=2.2567584,
        bends=(0.0,),
        slopes=_erf_places,
    ),
    # log(1 + exp z), whose derivative is sigmoid: f'' <= 1/4, and f''' is sigmoid''.
    "softplus": Rule(
        lambda x: torch.logaddexp(x, torch.zeros_like(x)),
        torch.sigmoid,
        _bell,
        steepest=1.0,
        curvature=0.25,
        third=0.0962251,
        slopes=_logit,
        seconds=_bell_places,
    ),
    # z s(z) (Elfwing, Uchibe and Doya, 2018). f'' = s' (2 - z tanh(z / 2)) is 1/2 at 0 and changes sign once
    # on each side, as z tanh(z / 2) grows with |z|. f''' = 3 s'' + z s''' is 0.30818152 at most, at ±1.03196.
    "silu": Rule(
        lambda x: x * torch.sigmoid(x),
        _silu_slope,
        _silu_second,
        steepest=1.0998394,
        curvature=0.5,
        third=0.3081816,
        turns=(-1.278464542761074,),
        bends=(-2.399357280515468, 2.399357280515468),
    ),
    # z Phi(z) (Hendrycks and Gimpel, 2016). f'' = (2 - z²) phi is largest at 0, sqrt(2 / pi). f''' is
    # (z³ - 4 z) phi, largest where z⁴ - 7 z² + 4 = 0: 0.77877 at z² = (7 - sqrt 33) / 2.
    "gelu": Rule(
        lambda x: x * torch.special.ndtr(x),
        lambda x: torch.special.ndtr(x) + x * _gauss(x),
        _gelu_second,
        steepest=1.1289042,
        curvature=0.7978846,
        third=0.7788,
        turns=(-0.7517915246935645,),
        bends=(-math.sqrt(2), math.sqrt(2)),
    ),
    # exp(z) - 1 below 0, where all derivatives are exp(z); z above (Clevert, Unterthiner, Hochreiter, 2016).
    "elu": Rule(
        lambda x: torch.where(x > 0, x, torch.expm1(x.clamp_max(0.0))),
        lambda x: torch.where(x > 0, 1.0, torch.exp(x.clamp_max(0.0))),
        lambda x: torch.where(x > 0, 0.0, torch.exp(x.clamp_max(0.0))),
        steepest=1.0,
        curvature=1.0,
        third=1.0,
        slopes=_log_or_zero,
        seconds=_log_or_zero,
    ),
    # z / (1 + |z|): f'' = -2 sign(z) / (1 + |z|)³, and f''' = 6 / (1 + |z|)^4.
    "softsign": Rule(
        lambda x: x / (1 + x.abs()),
        lambda x: (1 + x.abs()).square().reciprocal(),
        lambda x: -2 * x.sign() / (1 + x.abs()) ** 3,
        steepest=1.0,
        curvature=2.0,
        third=6.0,
        bends=(0.0,),
        slopes=_softsign_places,
        seconds=_softsign_slope_places,
    ),
    # f' = 1 / (1 + z²), f'' = -2 z f'² is largest at z² = 1/3, 3 sqrt(3) / 8; its own derivative
    # (6 z² - 2) f'³ at 0.
    "atan": Rule(
        torch.atan,
        _atan_slope,
        lambda x: -2 * (x * _atan_slope(x)) * _atan_slope(x),
        steepest=1.0,
        curvature=0.6495191,
        third=2.0,
        bends=(0.0,),
        slopes=_atan_places,
    ),
    # f' = (1 + z²)^(-1/2), f'' = -z f'³ is largest at z² = 1/2, 2 / (3 sqrt 3); its own derivative
    # (2 z² - 1) f'^5 at 0.
    "asinh": Rule(
        torch.asinh,
        _asinh_slope,
        lambda x: -(x * _asinh_slope(x)) * _asinh_slope(x) * _asinh_slope(x),
        steepest=1.0,
        curvature=0.3849002,
        third=1.0,
        bends=(0.0,),
        slopes=_asinh_places,
    ),
    "sin": Rule(
        torch.sin,
        torch.cos,
        lambda x: -torch.sin(x),
        steepest=1.0,
        curvature=1.0,
        third=1.0,
        turns=(-math.pi / 2, math.pi / 2),
        bends=(0.0, math.pi),
        slopes=_cosine_places,
        seconds=lambda level: _sine_places(-level),
        period=2 * math.pi,
    ),
    "cos": Rule(
        torch.cos,
        lambda x: -torch.sin(x),
        lambda x: -torch.cos(x),
        steepest=1.0,
        curvature=1.0,
        third=1.0,
        turns=(0.0, math.pi),
        bends=(-math.pi / 2, math.pi / 2),
        slopes=lambda level: _sine_places(-level),
        seconds=lambda level: _cosine_places(-level),
        period=2 * math.pi,
    ),
    # z clip(z + 3, 0, 6) / 6 (Howard et al., 2019): f' is z / 3 + 1/2 between -3 and 3, and jumps there: its
    # extremes are next to these.
    "hard-swish": Rule(
        lambda x: torch.where(x < -3, 0.0, torch.where(x > 3, x, x * (x.clamp(-3.0, 3.0) + 3) / 6)),
        _hard_swish_slope,
        lambda x: torch.where(x.abs() > 3, 0.0, torch.full_like(x, 1 / 3)),
        steepest=1.5,
        curvature=1 / 3,
        third=0.0,
        turns=(-1.5,),
        bends=(_AFTER, _BEFORE),
        slopes=lambda level: (3 * level - 1.5, *_fixed(-3.0, 3.0)(level)),
        seconds=_fixed(-3.0, _AFTER, _BEFORE, 3.0),
    ),
    # z tanh(softplus(z)) (Misra, 2020): f'' and f''' are largest at -0.0879 and 0.7155, by mpmath.
    "mish": Rule(
        lambda x: x * _mish_parts(x)[0],
        _mish_slope,
        _mish_second,
        steepest=1.0884982,
        curvature=0.6442047,
        third=0.5884121,
        turns=(-1.1924312145154952,),
        bends=(-2.256376396360793, 1.4905711794854284),
    ),
    # z s(v(z)). f'' is largest at 0, 2 s' v' = sqrt(2 / pi); f''' is 0.77669146 at most, at ±0.78757.
    "gelu-tanh": Rule(
        lambda x: x * torch.sigmoid(_gelu_inner(x)),
        _gelu_tanh_slope,
        _gelu_tanh_second,
        steepest=1.1289931,
        curvature=0.7978846,
        third=0.7766915,
        turns=(-0.7524614220710163,),
        bends=(-1.4185040087908288, 1.4185040087908288),
    ),
}
"""The functions by their names."""
