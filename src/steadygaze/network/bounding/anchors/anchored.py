"""Values over small boxes as differences from those at a point, of which much more is known.

Forms tell values over a box up to the rounding of its middle, some 1e-16 of it for each layer, and however
small the box is, that is multiplied by the norms of all layers behind: in deep networks of norms and
attention by 1e8 and more, and once more on the way back. Here a value is a number that is known, its anchor,
and a difference from it, for which the forms are. What comes of anchors is computed to twice the precision
(`centres`), and what float64 leaves of it is the middle of the difference. Everything else that is off,
rounding and what bends, is a share of the difference: it shrinks with the box.

Coefficients of the coordinates may be known in the same way: they are the drift. What comes of it is computed
to twice the precision, too, and what is off is then a share of what is beside anchor and drift.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from steadygaze.enclosing.double_double import Precise
from steadygaze.enclosing.enclosures import UNIT, Enclosure
from steadygaze.enclosing.error_free import two_sum
from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding.anchors.centres import levelled_values, precise_drift, precise_value
from steadygaze.network.bounding.forms.affine import affine
from steadygaze.network.bounding.forms.last_axis import levelled
from steadygaze.network.layers import AbstractAffine

# What rounding in a handful of operations may add, as a share.
_ROUNDING = 2.0**-40


@dataclass(frozen=True, eq=False)
class Anchored:
    """Values over boxes: anchors and drifts, which are known, plus what is beside them.

    Attributes:
        anchor: ``(B, *shape)``. drift: ``(B, k, *shape)``, coefficients of the coordinates, and of the first
            symbols, if it has more rows than there are coordinates; None for 0.
        away: what is beside.
    """

    anchor: Tensor
    away: Forms
    drift: Tensor | None = None

    @staticmethod
    def of(enclosure: Enclosure, device: torch.device, drifting: bool = False) -> Anchored:
        """Those of an enclosure: anchors are its centre, and differences begin with its rest.

        drifting: whether its slopes are drift.
        """
        rest, error = enclosure.beside
        slopes = enclosure.slopes
        if not drifting:
            error = (error + UNIT * np.abs(slopes).sum(axis=1)) * (1 + _ROUNDING)
            rest = np.concatenate([rest[:, :1], rest[:, 1:] + slopes], axis=1)
        parts = (
            torch.from_numpy(np.require(own, requirements=["C", "W"])).to(device)
            for own in (enclosure.centre, rest, error, slopes)
        )
        anchor, rows, error, drift = parts
        return Anchored(anchor, Forms(rows, error, enclosure.count), drift if drifting else None)

    @cached_property
    def change(self) -> Forms:
        """The differences from the anchors."""
        if self.drift is None or not self.drift.shape[1]:
            return self.away
        rows = self.away.rows.clone()
        moving = rows[:, 1 : 1 + self.drift.shape[1]]
        moving += self.drift
        return replace(self.away, rows=rows).loosened(UNIT * moving.abs().sum(dim=1) * (1 + _ROUNDING))

    @property
    def whole(self) -> Forms:
        """The values themselves."""
        change = self.change
        rows = change.rows.clone()
        rows[:, 0] += self.anchor
        return replace(change, rows=rows).loosened(UNIT * rows[:, 0].abs())

    @property
    def hull(self) -> Forms:
        """The values, and all between them and the anchors."""
        return self.whole.loosened(self.away.centre.abs())

    def take(self, chosen: Tensor) -> Anchored:
        """The values over some boxes."""
        drift = None if self.drift is None else self.drift[chosen]
        return Anchored(self.anchor[chosen], self.away.take(chosen), drift)

    def reshaped(self, *shape: int) -> Anchored:
        """The same numbers in another shape."""
        drift = self.drift
        if drift is not None:
            drift = drift.reshape(*drift.shape[:2], *shape)
        return Anchored(self.anchor.reshape(len(self.anchor), *shape), self.away.reshaped(*shape), drift)

    def flattened(self) -> Anchored:
        """The same numbers with shape ``(N,)``."""
        drift = None if self.drift is None else self.drift.flatten(2)
        return Anchored(self.anchor.flatten(1), self.away.flattened(), drift)


def moved(centre: Precise, away: Forms, drift: Precise | None = None) -> Anchored:
    """What is beside a centre and a drift, as what is beside the numbers in float64 closest to their middles.

    centre ``(B, *shape)``, drift ``(B, k, *shape)``.
    """
    rows = away.rows.clone()
    rows[:, 0] += centre.low
    rounding = centre.error + UNIT * rows[:, 0].abs()
    anchor, rows[:, 0] = two_sum(centre.high, rows[:, 0])
    if drift is None:
        return Anchored(anchor, replace(away, rows=rows).loosened(rounding))
    first = slice(1, 1 + drift.high.shape[1])
    moving = rows[:, first] + drift.low
    known, rows[:, first] = two_sum(drift.high, moving)
    rounding = rounding + (drift.error + UNIT * moving.abs()).sum(dim=1)
    return Anchored(anchor, replace(away, rows=rows).loosened(rounding * (1 + _ROUNDING)), known)


def anchored_level(x: Anchored) -> Anchored:
    """Values less their mean along the last axis."""
    drift = None if x.drift is None else levelled_values(x.drift)
    return moved(levelled_values(x.anchor), levelled(x.away), drift)


def anchored_affine(layer: AbstractAffine, *inputs: Anchored, norm: float | None) -> Anchored:
    """What an affine layer makes of values; norm: see `norm_of`."""
    centre = precise_value(layer, *(values.anchor for values in inputs))
    away = affine(layer, *(values.away for values in inputs), norm=norm, differences=True)
    drifts = [values.drift for values in inputs if values.drift is not None]
    return moved(centre, away, precise_drift(layer, *drifts) if drifts else None)
