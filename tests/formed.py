"""How affine forms are tested: forms of every kind, and what their coordinates and symbols may be."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from steadygaze.enclosing.forms import ANY, SIGN, Forms

#: What is known of symbols that a test wants: two-valued ones, a product of these, its product with a third.
MIXED = ((ANY, ANY), (SIGN, SIGN), (SIGN, SIGN), (1, 2), (SIGN, SIGN), (3, 4), (ANY, ANY))


def some_forms(
    rng: np.random.Generator,
    *,
    boxes: int = 3,
    count: int = 2,
    symbols: int = 3,
    shape: tuple[int, ...] = (4,),
    spread: float = 1.0,
    error: float = 0.1,
    origin: tuple[tuple[int, int], ...] | None = None,
) -> Forms:
    """Random forms; some entries have no coefficients, and some no error."""
    symbols = symbols if origin is None else len(origin)
    rows = rng.standard_normal((boxes, 1 + count + symbols, *shape))
    rows[:, 1:] *= spread * (rng.random((boxes, count + symbols, *shape)) < 0.8)
    errors = error * rng.random((boxes, *shape)) * (rng.random((boxes, *shape)) < 0.7)
    known = None if origin is None else torch.tensor(origin).expand(boxes, -1, -1).clone()
    return Forms(torch.from_numpy(rows), torch.from_numpy(errors), count, known)


def coordinates(rng: np.random.Generator, boxes: int, count: int) -> Tensor:
    """Coordinates ``(B, n)``: inside, on faces, at corners."""
    t = rng.uniform(-1, 1, (boxes, count))
    return torch.from_numpy(np.where(rng.random(t.shape) < 0.4, np.sign(t), t))


def symbols_of(rng: np.random.Generator, forms: Forms) -> Tensor:
    """What the symbols ``(B, symbols)`` may be: some at their ends, two-valued ones always, products so."""
    boxes = len(forms.rows)
    s = coordinates(rng, boxes, forms.symbols).numpy()
    origin = np.full((boxes, forms.symbols, 2), ANY)
    if forms.origin is not None:
        known = min(forms.symbols, forms.origin.shape[1])
        origin[:, :known] = forms.origin[:, :known]
    for symbol in range(forms.symbols):
        first, second = origin[:, symbol].T
        s[:, symbol] = np.where(first == SIGN, rng.choice([-1.0, 1.0], boxes), s[:, symbol])
        product = s[np.arange(boxes), first.clip(0)] * s[np.arange(boxes), second.clip(0)]
        s[:, symbol] = np.where(first >= 0, product, s[:, symbol])
    return torch.from_numpy(s)


def affine_part(forms: Forms, t: Tensor, s: Tensor) -> Tensor:
    """The forms without their errors at coordinates ``(B, n)`` and the first symbols ``(B, k)``."""
    factors = torch.cat([torch.ones_like(t[:, :1]), t, s], dim=1)[:, : forms.rows.shape[1]]
    return torch.einsum("bk,bk...->b...", factors, forms.rows[:, : factors.shape[1]])


def drawn(rng: np.random.Generator, forms: Forms, t: Tensor, s: Tensor) -> Tensor:
    """Values that the forms allow there: errors at their ends, 0, or between."""
    share = torch.from_numpy(rng.choice([-1.0, 0.0, 1.0, 0.3], tuple(forms.error.shape)))
    return affine_part(forms, t, s) + share * forms.error


def excess(forms: Forms, values: Tensor, t: Tensor, s: Tensor) -> float:
    """How far the values lie outside at most; the rounding of this comparison is allowed.

    Symbols of the forms beyond those that s knows may be whatever they like.
    """
    known = 1 + t.shape[1] + s.shape[1]
    loose = forms.error + forms.rows[:, known:].abs().sum(dim=1)
    away = (values - affine_part(forms, t, s)).abs() - loose
    low, high = forms.bounds()
    beyond = torch.maximum(low - values, values - high)
    return float((torch.maximum(away, beyond) - 1e-13 * (1 + values.abs())).max())


def exact(tensor: Tensor) -> np.ndarray:
    """The same numbers as fractions, without any rounding."""
    return np.vectorize(Fraction, otypes=[object])(tensor.numpy())
