"""Regions are judged each for itself: it does not matter which others come with them, nor in what order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from steadygaze.geometry.cells import Cells
from steadygaze.geometry.kinds import CLASS_CHANGED, ROBUST
from steadygaze.search import sweep
from steadygaze.search.base import CellMap
from steadygaze.search.judging import judge
from variants import FOLLOWED, NETS, Variant, swept

CASES = [NETS[0], FOLLOWED[-2], FOLLOWED[5], FOLLOWED[6]]


@dataclass(frozen=True)
class Asked:
    """What one batch of a search is judged by."""

    variant: Variant
    piece: int
    cells: Cells
    logits: torch.Tensor
    patterns: np.ndarray
    pieces_of: object

    def judged(self, order: np.ndarray) -> CellMap:
        """The map of some of the regions, in the given order."""
        cells, kept = self.cells.take(order)
        return judge(
            self.variant.problem,
            self.piece,
            cells,
            self.logits[torch.from_numpy(kept)],
            self.patterns[order],
            lambda rows: self.pieces_of(order[rows]),
        )


def batch_of(variant: Variant, monkeypatch) -> Asked:
    """The batch with the most regions that keep the class, of those with one that does not."""
    batches = []

    def noted(_problem, *arguments):
        map_ = judge(_problem, *arguments)
        lost = len(np.unique(map_.region[map_.kind == CLASS_CHANGED]))
        batches.append((min(lost, 1), arguments[1].count, Asked(variant, *arguments[:5])))
        return map_

    monkeypatch.setattr(sweep, "judge", noted)
    swept(variant.problem)
    return max(batches, key=lambda batch: batch[:2])[2]


def volumes_of(map_: CellMap, regions: int) -> np.ndarray:
    """How much of each region is of each kind, ``(regions, 4)``."""
    found = np.zeros((regions, 4))
    np.add.at(found, (map_.region, map_.kind), map_.volume)
    return found


@pytest.mark.parametrize("variant", CASES, ids=str)
def test_the_order_of_regions_does_not_matter(variant, monkeypatch):
    batch = batch_of(variant, monkeypatch)
    count = batch.cells.count
    plain = volumes_of(batch.judged(np.arange(count)), count)
    lost = np.flatnonzero(plain[:, CLASS_CHANGED] == plain.sum(axis=1))
    held = np.flatnonzero(plain[:, CLASS_CHANGED] == 0)
    assert len(lost)
    assert len(held) > 1
    slack = 2 * variant.tolerance.remainder * plain.sum() if variant.problem.follows_maps else 1e-9
    rng = np.random.default_rng(3)
    for ahead in (0, 1, 2):  # so many regions of another class come first
        rest = rng.permutation(np.setdiff1d(np.arange(count), [*lost[:ahead], held[0]]))
        order = np.array([*lost[:ahead], held[0], *rest])
        found = volumes_of(batch.judged(order), count)
        assert found == pytest.approx(plain[order], abs=slack)


def test_a_region_alone_is_judged_as_among_others(monkeypatch):
    batch = batch_of(FOLLOWED[-1], monkeypatch)
    plain = volumes_of(batch.judged(np.arange(batch.cells.count)), batch.cells.count)
    slack = 2 * FOLLOWED[-1].tolerance.remainder * plain.sum()
    for region in np.argsort(-plain[:, ROBUST])[:4]:
        found = volumes_of(batch.judged(np.array([region])), 1)
        assert found[0] == pytest.approx(plain[region], abs=slack)
