"""Where rows end: functions of the coordinates below and above values, and what rows sum up on their way.

Rows end at nodes whose values are affine in the coordinates, but for little; and right behind a layer that is
not affine and reads such a node, since the lines of its units are functions of the coordinates there. What a
row takes from the one below or from the one above each value is then a product, whatever the layer is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from steadygaze.enclosing.enclosures import UNIT
from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding.rows.bands import Band
from steadygaze.network.bounding.rows.lines import lost, unit_of


@dataclass(frozen=True, eq=False)
class End:
    """Functions of coordinates and symbols below and above M values, over B boxes.

    Attributes:
        lower: ``(B, 1 + n + symbols + 1, M)`` coefficients of those below, and last what a row loses for
            each unit of its entry, rounding included. upper: of those above; what a row loses is negative.
        count: n, the number of coordinates.
        lost: ``(B, 1)`` what rows in float32 may lose besides; None in float64.
        alike: whether those below and above differ in nothing but what a row loses; both are then `lower`.
        weights: ``(M, k)``, where k other values have errors ``(B, k)`` of their own, which no other end
            tells of: what they add to the M values. None elsewhere.
        errors: these.
    """

    lower: Tensor
    upper: Tensor
    count: int
    lost: Tensor | None = None
    alike: bool = False
    weights: Tensor | None = None
    errors: Tensor | None = None

    @staticmethod
    def of(forms: Forms) -> End:
        """The end of rows at values that have these forms."""
        flat = forms.flattened()
        lower = _lower(flat.rows, flat.error, flat.size)
        return End(lower, lower, forms.count, alike=True)

    @staticmethod
    def of_errors(rows: Tensor, weights: Tensor, errors: Tensor, size: Tensor, rounding: Tensor) -> End:
        """The end of rows at values ``(M,)`` whose errors are known as what is made of others' errors.

        rows: ``(B, 1 + n, M)`` functions of the coordinates. weights ``(M, k)`` and errors ``(B, k)``: see
        the class. size: ``(B, M)``, at least the sum of the magnitudes of all. rounding: ``(B, M)``, of which
        nothing cancels.
        """
        lower = _lower(rows, rounding, size)
        return End(lower, lower, rows.shape[1] - 1, alike=True, weights=weights, errors=errors)

    @staticmethod
    def of_band(band: Band) -> End:
        """The end of rows at values within this band."""
        middle, half = band.middle.flatten(2), band.half.flatten(2)
        size = (middle.abs() + half.abs()).sum(dim=1)
        return _between(middle - half, middle + half, band.error.flatten(1), size, middle.shape[1] - 1)

    def take(self, chosen: Tensor) -> End:
        """That over some of the boxes."""
        lower = self.lower[chosen]
        return replace(
            self,
            lower=lower,
            upper=lower if self.alike else self.upper[chosen],
            lost=None if self.lost is None else self.lost[chosen],
            errors=None if self.errors is None else self.errors[chosen],
        )

    def mapped(self, move: Callable[[Tensor], Tensor]) -> End:
        """That of what a function makes of the values, ``(B, C, M)``; it picks values, or sets some to 0."""
        assert self.weights is None, "values of dense layers are not seen in windows"
        lower = move(self.lower)
        upper = lower if self.alike else move(self.upper)
        lost = None if self.lost is None else _lost(lower, upper)
        return replace(self, lower=lower, upper=upper, lost=lost)

    def to(self, kind: torch.dtype) -> End:
        """The same for rows in float32."""
        lower = _singled(self.lower, 1.0, kind)
        upper = lower if self.alike else _singled(self.upper, -1.0, kind)
        return replace(self, lower=lower, upper=upper, lost=_lost(lower, upper))

    def met(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """What rows ``(B, R, M)`` are at least: ``(B, 1 + n + symbols, R)``, but for so much ``(B, R)``.

        Errors of other values are part of the latter, as rows meet each end once.
        """
        # In float64 whatever rows are in: of as many products float32 would lose as much as all steps before.
        rows, lower = rows.to(torch.float64), self.lower.to(torch.float64)
        if self.alike:
            found, error = lower[:, :-1] @ rows.mT, (lower[:, -1:] @ rows.abs().mT)[:, 0]
        else:
            found = lower @ rows.clamp_min(0.0).mT + self.upper.to(torch.float64) @ rows.clamp_max(0.0).mT
            found, error = found[:, :-1], found[:, -1]
        if self.weights is not None and self.errors is not None:
            error = error + ((rows @ self.weights).abs_() @ self.errors[..., None])[..., 0]
        return found, error if self.lost is None else error + self.lost


def least_of(below: Tensor) -> Tensor:
    """Least values ``(B, R)`` over the box of functions ``(B, 1 + n, R)``, rounded down."""
    return below[:, 0] - below[:, 1:].abs().sum(dim=1) * (1 + 2.0**-40)


def _between(below: Tensor, above: Tensor, error: Tensor, size: Tensor, count: int) -> End:
    allowed = _allowed(error, size)
    return End(torch.cat([below, allowed], dim=1), torch.cat([above, -allowed], dim=1), count)


def _lower(rows: Tensor, error: Tensor, size: Tensor) -> Tensor:
    return torch.cat([rows, _allowed(error, size)], dim=1)


def _allowed(error: Tensor, size: Tensor) -> Tensor:
    """What a row loses for each unit of its entry, ``(B, 1, M)``."""
    terms = (size.shape[1] + 8) * UNIT
    return ((error + terms * size) * (1 + 4 * terms))[:, None]


def _singled(own: Tensor, sign: float, kind: torch.dtype) -> Tensor:
    """One side of an end in float32; sign: that of what a row loses."""
    # Each coefficient is rounded once, and what is lost, too.
    lost = (sign * own[:, -1] + 2.0**-23 * own[:, :-1].abs().sum(dim=1)) * (1 + 2.0**-20)
    return torch.cat([own[:, :-1], sign * lost[:, None]], dim=1).to(kind)


def _lost(lower: Tensor, upper: Tensor) -> Tensor:
    size = torch.maximum(lower.abs().sum(dim=1), upper.abs().sum(dim=1))
    return (size.shape[1] + 8) * unit_of(lower) * lost(size)


class Sums:
    """What R rows have summed up so far: constants, coefficients, and what is lost, over B boxes.

    All are kept as they come, and are added up at the end: a step of a row is then a product or two.
    """

    def __init__(self) -> None:
        self._constants = list[Tensor]()
        self._errors = list[Tensor]()
        self._coefficients = list[Tensor]()

    def raised(self, constant: Tensor) -> None:
        """Take in constants ``(B, R)``, float64."""
        self._constants.append(constant)

    def blurred(self, error: Tensor) -> None:
        """Take in what rows lose ``(B, R)``, float64."""
        self._errors.append(error)

    def ended(self, found: Tensor, error: Tensor) -> None:
        """Take in what became of rows at an end: see `End.met`."""
        self._coefficients.append(found)
        self._errors.append(error)

    def mirror(self) -> None:
        """Go on with the rows and their opposites, ``(B, 2 R)``; none of them has come to an end."""
        self._constants = [torch.cat([own, -own], dim=1) for own in self._constants]
        self._errors = [torch.cat([own, own], dim=1) for own in self._errors]

    def repeat(self, number: Tensor, constant: Tensor, rounding: Tensor) -> None:
        """Go on with some of the rows once more, ``(B, R + T)``; none of them has come to an end.

        number ``(B, T)``: of these. constant, rounding: what was last taken in, but for these ``(B, T)``.
        """
        self._constants = _repeated(self._constants, number, constant)
        self._errors = _repeated(self._errors, number, rounding)

    @property
    def have_ended(self) -> bool:
        """Whether some of the rows have come to an end."""
        return bool(self._coefficients)

    def below(self, count: int) -> Tensor:
        """Functions ``(B, 1 + n, R)`` of n coordinates that rows are above, rounded down."""
        width = max(own.shape[1] for own in self._coefficients)
        parts = [
            own if own.shape[1] == width else torch.nn.functional.pad(own, (0, 0, 0, width - own.shape[1]))
            for own in self._coefficients
        ]
        coefficients = _added(parts)
        size = (
            _added([own.abs() for own in parts]).sum(dim=1) if len(parts) > 1 else parts[0].abs().sum(dim=1)
        )
        error = _added(self._errors)
        centre = coefficients[:, 0]
        if self._constants:
            constants = torch.stack(torch.broadcast_tensors(*self._constants))
            centre = centre + constants.sum(dim=0)
            size = size + constants.abs().sum(dim=0)
        terms = width + 8 + len(parts) + len(self._constants)
        if width > 1 + count:
            centre = centre - coefficients[:, 1 + count :].abs().sum(dim=1)
        # The errors are themselves sums of many roundings.
        centre = centre - error * (1 + 2.0**-30) - terms * UNIT * (size + error)
        return torch.cat([centre[:, None], coefficients[:, 1 : 1 + count]], dim=1)


def _repeated(parts: list[Tensor], number: Tensor, last: Tensor) -> list[Tensor]:
    """With some columns once more, of the last of the parts with others instead; see `Sums.repeat`."""
    every = [own.expand(len(number), -1) for own in parts]
    before = [torch.cat([own, own.gather(1, number)], dim=1) for own in every[:-1]]
    return [*before, torch.cat([every[-1], last], dim=1)]


def _added(parts: list[Tensor]) -> Tensor:
    """Their sum; some may be those of one box, and stand for every one."""
    return parts[0] if len(parts) == 1 else torch.stack(torch.broadcast_tensors(*parts)).sum(dim=0)
