"""Chains on one side of a line along which all pixels bend at once.

Read on triangles, images bend where the fractions of two shifts are equal. A box of parameters within one
cell of the shifts that reaches across has images that are affine in the shifts on either side. What they are
on one, told of the whole box, holds at all points of that side, and nothing is off for the bend.
"""

from __future__ import annotations

import numpy as np

from steadygaze.perturbation.chain import Chain
from steadygaze.perturbation.geometric import Translate
from steadygaze.perturbation.resampling import AbstractResampling


def shares_kinks(chain: Chain) -> bool:
    """Whether enclosures can have coordinates for kinks: of one link that several amounts move places in.

    Those of two would be in the same coordinates; and what reads between pixels behind it would have to read
    each of these.
    """
    moved = [link for link in chain.links if link.moves_map and link.parameters]
    return len(moved) == 1 and isinstance(moved[0], AbstractResampling) and len(moved[0].parameters) > 1


def diagonal_of(chain: Chain) -> tuple[int, int] | None:
    """Numbers of the two parameters whose fractions are equal where pixels bend; None unless there is one."""
    found, first = [], 0
    for link in chain.links:
        if isinstance(link, Translate) and link.bends_diagonally:
            found.append((first, first + 1))
        first += len(link.parameters)
    return found[0] if len(found) == 1 else None


def on_side(chain: Chain, above: bool) -> Chain:
    """A chain with a diagonal, whose enclosures hold on one side of it, for boxes in one cell each.

    above: where the second of the two parameters has the larger fraction.
    """
    links = (
        link.on_side(above) if isinstance(link, Translate) and link.bends_diagonally else link
        for link in chain.links
    )
    return Chain(*links)


def crossed(diagonal: tuple[int, int], boxes: np.ndarray) -> np.ndarray:
    """``(B,)`` bool: which boxes ``(B, n, 2)`` lie in one cell, and have its diagonal inside."""
    own = boxes[:, diagonal]
    # The middle as enclosures of boxes have it, which tells them the cell.
    cells = np.floor(own[..., 0] + (own[..., 1] - own[..., 0]) / 2)
    low, high = own[..., 0] - cells, own[..., 1] - cells
    within = (low >= 0).all(axis=1) & (high <= 1).all(axis=1)
    return within & (low[:, 0] < high[:, 1]) & (low[:, 1] < high[:, 0])
