"""Inputs of windows beside each other, as forms: what all of them owe to the same coordinates cancels."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from steadygaze.geometry.forms import Forms

# Numbers that are taken at once, so that they stay in the cache.
_CACHED = 2**18


def gathered(forms: Forms, index: Tensor) -> Forms:
    """The entries ``(B, M)`` of forms ``(N,)`` at the given positions."""
    rows = forms.rows.gather(2, index[:, None].expand(-1, forms.rows.shape[1], -1))
    # One error may stand in several places: their length is that of what is gathered.
    return replace(forms, rows=rows, error=forms.error.gather(1, index), length=None)


def beyond(forms: Forms, windows: Tensor, winner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """By how much inputs of windows ``(N, k)`` exceed the winner ``(B, N)``: least, most, and their strays.

    All ``(B, N, k)``; where a window has no input, or it is the winner, the first two are -inf.
    """
    count, width = windows.shape
    own = gathered(forms, winner)
    # As many places of all windows at once as stay in the cache.
    span = max(1, _CACHED // max(1, own.rows.numel()))
    found = list[list[Tensor]]()
    for first in range(0, width, span):
        index = windows[:, first : first + span].mT.clamp_min(0)
        taken = len(index)
        others = gathered(forms, index.flatten().expand(len(winner), -1))
        leader = replace(own, rows=own.rows.repeat(1, 1, taken), error=own.error.repeat(1, taken))
        away = others + -leader
        parts = (*away.bounds(), away.strays)
        found.append([part.reshape(len(winner), taken, count).mT for part in parts])
    low, high, strays = (torch.cat(parts, dim=2) for parts in zip(*found, strict=True))
    none = (windows < 0) | (windows == winner[..., None])
    return low.masked_fill(none, -torch.inf), high.masked_fill(none, -torch.inf), strays
