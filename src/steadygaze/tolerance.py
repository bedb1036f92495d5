"""Every epsilon in one place, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """How close to zero counts as zero.

    Attributes:
        hinge: a hinge, or a class gap, is zero at a vertex below this share of the sum of the absolute terms
            that make it up. Rounding leaves some 1e-15 of that sum and interpolation a few times as much;
            hinges that really differ are farther apart than 1e-9 of it even among a million.
        margin: an inconsistency this close to the threshold is undecided. Rounding leaves some 1e-14 of a
            cosine.
        rounding: of the terms that make up an entry of a map rounding leaves no more than this share; where
            they cancel, an inconsistency that may come to the threshold so is undecided, too.
        vanishing: a saliency map below this share of the original one has no direction that rounding leaves
            standing; and the original one is zero where it is below this share of the absolute terms that
            make it up.
        cover: the volumes of all cells must add up to that of the box within this share. Each carries some
            1e-15 of the box, and errors of a million of them do not conspire.
        located: a point lies in a cell if the cones from it over the cell's facets exceed its volume by less
            than this share.
        remainder: curved boundaries inside regions are followed until less than this share of them is
            undecided (with n > 2 parameters less than remainder^(2 / n): following a surface costs far more
            than following a curve).
    """

    hinge: float = 1e-11
    margin: float = 1e-9
    rounding: float = 2e-15
    vanishing: float = 1e-11
    cover: float = 1e-9
    located: float = 1e-7
    remainder: float = 1e-4
