"""Places of a function, such as those where it turns, as they lie in intervals; a period repeats them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# Places that are repeated so far from 0 would be rounded by more than enclosures make up for.
_FAR = 2.0**24


def met(places: Sequence[Tensor], period: float, low: Tensor, high: Tensor) -> list[Tensor]:
    """Places, in the shape of low and high, moved into ``[low, high]``: to an end where they lie outside.

    Of those that a period repeats the first and the last inside; where the interval is `far`, the places
    themselves, for values of the function alone.
    """
    if math.isinf(period):
        return [place.clamp(low, high) for place in places]
    away = far(period, low, high)
    found = list[Tensor]()
    for place in places:
        first = place + period * torch.ceil((low - place) / period)
        last = place + period * torch.floor((high - place) / period)
        found += [torch.where(away, place, own.clamp(low, high)) for own in (first, last)]
    return found


def far(period: float, low: Tensor, high: Tensor) -> Tensor:
    """Whether an interval comes so far that its places are not known; never without a period."""
    reach = torch.maximum(low.abs(), high.abs())
    return reach > (_FAR if math.isfinite(period) else math.inf)
