"""Slopes of the lines below the last units that bend, chosen for each row by what they should make of it.

`lines` takes the one of two slopes that is closest in the middle of a unit's range. Where a range reaches as
far below 0 as above, that is hardly a choice, and each row is better off with one of its own: most of all
that of units that no other units read, since their inputs are known best. A row's bound is the least value of
an affine function of the coordinates, at some point of the box. A unit whose input is above 0 there takes the
steeper slope, one whose input is below 0 the other. About where that point is, and what the row would gain,
bands of the inputs tell before the row has gone any further (`chosen`): so the rows that should gain
go on twice, with both choices, in one pass.

That only chooses. Lines of any slope between both of the function's are below it, and what rows with them say
is computed as that of any others, its rounding counted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from steadygaze.enclosing.enclosures import UNIT
from steadygaze.enclosing.forms import numbers_of
from steadygaze.enclosing.turning import chosen, turned
from steadygaze.network.bounding.rows.bands import Band
from steadygaze.network.bounding.rows.ends import Sums
from steadygaze.network.bounding.rows.few_units import Few
from steadygaze.network.bounding.rows.lines import AbstractLines, Lines
from steadygaze.network.pieces import PiecewiseLinear

# Rows that should gain no more than this share of how far they reach do not go on twice; nor do more than
# half of all, where they have more entries than that on their way: of a network of two convolutions
# (mnist-cgt-r30) all of them took an eighth of a box's time, and half leave most of what is gained.
_WORTH, _SHARE, _FEW = 0.01, 2, 2**15


@dataclass(frozen=True, eq=False)
class LastBend:
    """The last node with units, each of which bends upwards at 0.

    band: of its inputs. widest: the largest number of values of any node before.
    """

    layer: PiecewiseLinear
    band: Band
    widest: int

    def repeated(
        self,
        own: Tensor | Few,
        pulled: Tensor | Few,
        lines: AbstractLines,
        sums: Sums,
        twice: list[Tensor],
    ) -> Tensor | Few:
        """Rows before the units, of those behind them, and of some once more: see `Backward.below`.

        pulled: what the lines made of them, which the sums know.
        """
        assert isinstance(lines, Lines), "of windows there is no last bend"
        count = lines.below.shape[1]
        slopes, band = (
            self.layer.slopes.expand(2, count),
            (self.band.middle.flatten(2), self.band.half.flatten(2)),
        )
        if isinstance(own, Few):
            rows, slopes, lines = own.rows, slopes[:, own.places], lines.of_units(own.places)
            band = (band[0][:, :, own.places], band[1][:, :, own.places])
        else:
            rows = own
        ahead = numbers_of((rows, slopes, lines.below, lines.above, *band))
        limit = max(rows.shape[1] // _SHARE, _FEW // self.widest)
        found, *others = chosen(*ahead, _WORTH, limit)
        if not found.any():
            return pulled
        parts = numbers_of((rows, slopes, *lines.sides, lines.below, lines.above, lines.size))
        again = turned(*parts, found, *others, UNIT, count + 8)
        number, made, constant, rounding = (torch.from_numpy(part).to(rows.device) for part in again)
        sums.repeat(number, constant, rounding)
        twice.append(number)
        if isinstance(pulled, Few):
            return replace(pulled, rows=torch.cat([pulled.rows, made], dim=1))
        return torch.cat([pulled, made], dim=1)
