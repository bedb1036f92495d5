"""Where rows end early: behind a convolution that reads values of which few are bent.

Over small boxes most of the first units keep their piece, and what is read of them is affine in the
coordinates t. Of values z = m(t) + d, where d is 0 but for the bent ones, |d_i| <= h_i(t), a convolution W
makes W m(t) + W d. The first is the middle of its band, and a row r for its output takes it as it is. Of
the second it is at least -sum_i |W^T r|_i h_i(t): only bent units need their entry of W^T r. Nothing is
lost by it but errors of the values, which no longer cancel in the convolution: they have to be hardly more
than rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steadygaze.enclosing.enclosures import UNIT
from steadygaze.enclosing.pulled_places import pulled_to
from steadygaze.network.bounding.forms.few_places import few_places, geometry_of, is_told_apart
from steadygaze.network.bounding.rows.bands import Band
from steadygaze.network.layers import AbstractAffine, Conv, Shape

# With more bent units than this share of all in all boxes, a whole convolution back is as fast.
_FEW = 1 / 8
# Errors may be this share of how far values reach: a hundredth of what counts as affine.
_SLIGHT = 1e-6


@dataclass(frozen=True, eq=False)
class FewBent:
    """What rows for the output of a convolution need to end there, over B boxes.

    Attributes:
        layer: the convolution. shape: of its inputs ``(C, H, W)``.
        middle: ``(B, 1 + n, M)`` of its band, and last what a row loses for each unit of its entry.
        places: ``(B, T)`` numbers of the bent inputs, -1 where a box has fewer.
        half: ``(B, 1 + n, T)`` their half widths, functions of the coordinates; 0 where there is none.
    """

    layer: Conv
    shape: Shape
    middle: Tensor
    places: Tensor
    half: Tensor

    @staticmethod
    def of(layer: AbstractAffine, inputs: Band, made: Band) -> FewBent | None:
        """What it needs, with bands ``(C, H, W)`` of its inputs and outputs; None where that does not pay."""
        shape = tuple(inputs.error.shape[1:])
        if not isinstance(layer, Conv) or not is_told_apart(layer, shape):
            return None
        error, reach = (
            own.flatten(1).sum(dim=1) for own in (made.error, made.middle[:, 1:].abs().sum(dim=1))
        )
        half = inputs.half.flatten(2)
        places = few_places(half, share=_FEW) if bool((error <= _SLIGHT * reach).all()) else None
        if places is None:
            return None
        most, at = places.shape[1], places[:, None].expand(-1, half.shape[1], -1)
        own = torch.where(at < 0, 0.0, half.gather(2, at.clamp_min(0)))
        middle, above = made.middle.flatten(2), made.half[:, 0].flatten(1)
        # Half widths are above 0 for all t: their coefficients come to no more than the constant one, but for
        # errors. What bent units add up to is |W| h, and so is what rounding of W^T r and of the sum is of.
        size = middle.abs().sum(dim=1)
        widths = 2 * (above.abs() + made.error.flatten(1))
        terms = (middle.shape[2] + 8) * UNIT * size + (most + layer.terms_backward + 16) * UNIT * widths
        lost = (made.error.flatten(1) + terms) * (1 + 2.0**-20)
        middle = torch.cat([middle, lost[:, None]], dim=1)
        return FewBent(layer, shape, middle, places, own)

    def take(self, chosen: Tensor) -> FewBent:
        """That over some of the boxes."""
        own = (self.middle[chosen], self.places[chosen], self.half[chosen])
        return FewBent(self.layer, self.shape, *own)

    def met(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """What rows ``(B, R, M)`` are at least: ``(B, 1 + n, R)``, but for so much ``(B, R)``.

        They are in float64; ``(1, R, M)`` are those of all boxes.
        """
        found = self.middle[:, :-1] @ rows.mT
        lost = (self.middle[:, -1:] @ rows.abs().mT)[:, 0]
        if not self.places.shape[1]:
            return found, lost
        own = rows.mT.expand(len(self.places), -1, -1).contiguous().numpy()
        weight, places = self.layer.weight.contiguous().numpy(), self.places.numpy()
        pulled = pulled_to(own, weight, places, geometry_of(self.layer, self.shape))
        return found - self.half @ torch.from_numpy(pulled).abs_(), lost
