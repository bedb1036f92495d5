"""Inputs of windows beside each other, as forms: what all of them owe to the same coordinates cancels."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from steadygaze.enclosing.forms import Forms
from steadygaze.geometry.sides import ahead_of_winners

#: Inputs of a window that exceed its winner by less than this share of it count as equal to it.
EQUAL = 2.0**-40


def or_anything(forms: Forms) -> Forms:
    """The same, with an infinite error where numbers are none: no comparison tells of those."""
    lost = (forms.size + forms.error).isnan()
    if not lost.any():
        return forms
    rows, error = forms.rows.masked_fill(lost[:, None], 0.0), forms.error.masked_fill(lost, torch.inf)
    return replace(forms, rows=rows, error=error, length=None)


def gathered(forms: Forms, index: Tensor) -> Forms:
    """The entries ``(B, M)`` of forms ``(N,)`` at the given positions."""
    rows = forms.rows.gather(2, index[:, None].expand(-1, forms.rows.shape[1], -1))
    # One error may stand in several places: their length is that of what is gathered.
    return replace(forms, rows=rows, error=forms.error.gather(1, index), length=None)


def beyond(forms: Forms, windows: Tensor, winner: Tensor, asked: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """By how much inputs of windows ``(N, k)`` exceed the winner ``(B, N)``: least, most, and their strays.

    All ``(B, N, k)``; where an input is not asked for, a window has none, or it is the winner, the first two
    are -inf.
    """
    # A kernel takes a fifth of what operations on whole tensors do, and is alike on all devices.
    parts = (own.cpu().numpy() for own in (forms.rows, forms.error, windows, winner, asked))
    low, high, strays = ahead_of_winners(*parts, known=1 + forms.count)
    device = winner.device
    return (
        torch.from_numpy(low).to(device),
        torch.from_numpy(high).to(device),
        torch.from_numpy(strays).to(device),
    )
