"""Pixels clipped ahead of the network, where many of them are clipped alike.

Pixels of one value that brightness and contrast change alike are one function of the amounts, and so is what
the clip makes of them: over a blank background hundreds bend in one kink. As errors, or as symbols of their
own, nothing of that cancels. Here each such kink is one coordinate more, which all of its pixels share, and
all that follows sees what they do together: in forms, and in rows on their way back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from steadygaze.enclosing.enclosures import UNIT, Enclosure
from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding.bounds import Bounds
from steadygaze.network.bounding.forms.relaxing import or_all_numbers, piecewise_relaxed
from steadygaze.network.graph import Graph
from steadygaze.network.pieces import PiecewiseLinear

# Kinks that are followed at most, and what they may leave of all deviations: what is left are errors.
_MOST, _LEFT = 32, 0.02
# A deviation is more than rounding from this share of the pixel on.
_ROUNDED = 16 * UNIT


@dataclass(frozen=True, eq=False)
class ClippedPixels:
    """What the clip makes of pixels over B boxes.

    Attributes:
        pixels: with one coordinate for each kink, behind the n that they had.
        blame: ``(B, kinks, n)``, what part of each kink these are to blame for.
        doubts: ``(B,)`` how many of the kinks lie in a box.
    """

    pixels: Enclosure
    blame: Tensor
    doubts: Tensor

    def told(self, bounds: Bounds) -> Bounds:
        """Bounds that begin behind the clip, as ones over boxes of the n coordinates alone."""
        count, pull = self.blame.shape[2], bounds.pull
        blamed = pull[:, :count] + (pull[:, count:, None] * self.blame.to(pull.device)).sum(dim=1)
        return replace(bounds, pull=blamed, doubts=bounds.doubts + self.doubts.to(pull.device))


def clipped_alike(graph: Graph, clip: int, pixels: Enclosure) -> ClippedPixels | None:
    """Pixels ``(B, C, H, W)`` behind the node that clips them.

    None where nothing bends, or in more kinks than are followed.

    f(v) is slope v + offset + g(v), |g| <= deviation, over all v that a pixel may be. Of pixels v = F + e of
    one function F of the coordinates and errors e below the same bound, g(F) is one function, too, and
    f(v) - f(F) at most e times the steepest slope.
    """
    layer, flat = graph.nodes[clip].layer, Forms.of(pixels, torch.device("cpu")).flattened()
    assert isinstance(layer, PiecewiseLinear), "a clip has linear pieces"
    nothing, layer = flat.error.new_zeros(()), layer.to(flat.error.device)
    slope, offset, deviation, _ = piecewise_relaxed(layer, *or_all_numbers(*flat.bounds()), nothing, nothing)
    bent = deviation > _ROUNDED * flat.most
    some = bent.any(dim=0).nonzero()[:, 0]
    if not len(some) or not torch.isfinite(deviation).all():
        return None
    known = torch.cat([flat.rows, flat.error[:, None]], dim=1)[:, :, some]
    kink = torch.unique(known.flatten(0, 1), dim=1, return_inverse=True)[1]
    # To the last bit what the first of its pixels has.
    first = some[_first_of_each(kink)]
    for own in (slope, offset, deviation):
        own[:, some] = own[:, first[kink]]
    order = _followed(torch.where(bent, deviation, 0.0)[:, some], kink)
    if order is None:
        return None
    places, first = kink == order[:, None], first[order]
    shared = deviation.new_zeros((len(deviation), len(order), deviation.shape[1]))
    shared[:, :, some] = places * torch.where(bent, deviation, 0.0)[:, None, some]
    # Pixels on one piece are as exact as they are, such as those that are clipped to a constant.
    followed = bent & torch.zeros_like(bent).index_fill(1, some[places.any(dim=0)], value=True)
    apart = layer.slopes.abs().max() * flat.error * (1 + 4 * UNIT)
    made = flat.bent(slope, offset, torch.where(followed, apart, deviation))
    own = flat.rows[:, 1:, first].abs().mT
    shape = (len(deviation), -1, *pixels.shape)
    return ClippedPixels(
        Enclosure(
            made.centre.reshape(pixels.centre.shape).numpy(),
            torch.cat([made.rows[:, 1:], shared], dim=1).reshape(shape).numpy(),
            made.error.reshape(pixels.centre.shape).numpy(),
        ),
        own / own.sum(dim=2, keepdim=True).clamp_min(torch.finfo(own.dtype).tiny),
        bent[:, first].sum(dim=1).to(own.dtype),
    )


def _first_of_each(kink: Tensor) -> Tensor:
    """The first pixel ``(kinks,)`` of each number ``(M,)``."""
    found = kink.new_full((int(kink.max()) + 1,), len(kink))
    return found.scatter_reduce(0, kink, torch.arange(len(kink)), "amin")


def _followed(deviation: Tensor, kink: Tensor) -> Tensor | None:
    """The kinks ``(kinks,)`` that make up nearly all deviations ``(B, M)``; None if they are too many.

    kink: ``(M,)`` the number of each pixel's own.
    """
    weight = deviation.new_zeros((len(deviation), int(kink.max()) + 1)).index_add(1, kink, deviation)
    share = weight / weight.sum(dim=1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
    order = share.amax(dim=0).argsort(descending=True, stable=True)[:_MOST]
    moves = weight.sum(dim=1) > 0
    return order if (1 - share[moves][:, order].sum(dim=1) <= _LEFT).all() else None
