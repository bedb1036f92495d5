"""Affine layers over boxes of parameters: forms move exactly, but for rounding."""

from __future__ import annotations

import math
import operator
from functools import reduce

import torch
from torch import Tensor

from steadygaze.enclosing.forms import Forms, together
from steadygaze.network.bounding.forms.single_entries import linear_of
from steadygaze.network.layers import AbstractAffine, Add


def affine(
    layer: AbstractAffine, *inputs: Forms, norm: float | None = None, differences: bool = False
) -> Forms:
    """What an affine layer makes of forms; several are set side by side, to be one linear function.

    norm: see `norm_of`. differences: whether the forms are of differences, which know no constant part.
    """
    if isinstance(layer, Add):  # the lengths of errors of two vectors add up at most
        return reduce(operator.add, inputs)
    symbols = max((forms.symbols for forms in inputs), default=0)
    flat = [(forms.with_symbols(symbols) if len(inputs) > 1 else forms).flattened() for forms in inputs]
    sizes = [math.prod(forms.shape) for forms in inputs]
    rows = flat[0].rows if len(flat) == 1 else torch.cat([forms.rows for forms in flat], dim=2)
    error = flat[0].error if len(flat) == 1 else torch.cat([forms.error for forms in flat], dim=1)

    def parts(joined: Tensor) -> tuple[Tensor, ...]:
        split = joined.split(sizes, dim=1)
        return tuple(part.reshape(len(part), *forms.shape) for part, forms in zip(split, inputs, strict=True))

    constant = None if differences else layer.constant(tuple(forms.shape for forms in inputs))
    length = flat[0].length if len(flat) == 1 else together(flat)
    return Forms(rows, error, flat[0].count, length=length).linear(
        lambda x: linear_of(layer, *parts(x)) if len(inputs) == 1 else layer.linear(*parts(x)),
        lambda x: layer.absolute.linear(*parts(x)),
        layer.terms_forward,
        constant,
        norm,
    )
