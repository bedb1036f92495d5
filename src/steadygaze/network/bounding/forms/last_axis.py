"""Sums, means and differences along the last axis, and what rounding may add to them."""

from __future__ import annotations

import torch
from torch import Tensor

from steadygaze.enclosing.enclosures import UNIT
from steadygaze.enclosing.forms import Forms

# What rounding in a handful of operations may add, as a share.
_ROUNDING = 2.0**-40
# Of more numbers than so many parts are summed.
_PART = 32


def share_of(x: Tensor) -> float:
    """Makes up for rounding sums along the last axis and a few more operations."""
    return 64 * (x.shape[-1] + 4) * UNIT


def root_of(size: int) -> float:
    """The square root, rounded up."""
    return size**0.5 * (1 + _ROUNDING)


def others(x: Tensor) -> Tensor:
    """Sums of the other numbers >= 0 along the last axis, rounded up."""
    return (summed(x) * (1 + share_of(x)) - x).clamp_min(0.0)


def summed(x: Tensor) -> Tensor:
    """Sums along the last axis, in its shape."""
    return x.sum(dim=-1, keepdim=True).expand(x.shape)


def mean(x: Tensor) -> Tensor:
    """Means along the last axis, which keeps one entry."""
    return total(x) / x.shape[-1]


def total(x: Tensor) -> Tensor:
    """Sums along the last axis, which keeps one entry: of sums of parts, where there are many numbers.

    Rounding then adds what it adds to a sum of `terms_of` numbers.
    """
    size = x.shape[-1]
    if size <= _PART:
        return x.sum(dim=-1, keepdim=True)
    parts = -(-size // _PART)
    padded = torch.nn.functional.pad(x, (0, parts * _PART - size))
    return total(padded.unflatten(-1, (parts, _PART)).sum(dim=-1))


def terms_of(size: int) -> int:
    """See `total`."""
    return size if size <= _PART else _PART + terms_of(-(-size // _PART))


def levelled(forms: Forms) -> Forms:
    """Less the mean along the last axis."""
    less, more = (lambda x: _centred(x, -1.0)), (lambda x: _centred(x, 1.0))
    return forms.linear(less, more, terms_of(forms.shape[-1]) + 2, norm=1 + _ROUNDING)


def _centred(x: Tensor, sign: float) -> Tensor:
    return x + sign * mean(x)
