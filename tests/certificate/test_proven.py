"""Networks of all kinds, with units that are level or tie on whole regions: all is proven, and rightly."""

from __future__ import annotations

import numpy as np
import pytest

from steadygaze import solve
from steadygaze.certificate.writing import write_certificate
from steadygaze_check.cells import Examiner
from steadygaze_check.folder import ROBUST, read
from steadygaze_check.network import Network
from steadygaze_check.points import Points
from variants import Variant

VARIANTS = [
    Variant("no bias", "spot", threshold=0.05),
    Variant("spoilt", "spot", threshold=0.02),
    Variant("pool first", "spot"),
    Variant("pooled pixels", "brightness"),
    Variant("colour conv", "colours", saliency="channel-sum"),
    Variant("side by side", "brightness"),
    Variant("hardtanh", "spot", threshold=0.02),
    Variant("absolute", "spot"),
    Variant("extremes", "spot"),
    Variant("mirrored", "spot", threshold=0.05),
    Variant("spread", "spot", threshold=0.02),
    Variant("mlp", "shift, brighter", clip=None, threshold=1.1),
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_all_cells_are_proven_and_hold_at_points(variant, tmp_path):
    answer = solve(variant.problem, method="sweep", threads=1)
    write_certificate(answer.result, answer.problem, answer.map, answer.around.cells, tmp_path)
    certificate = read(tmp_path)
    question = certificate.question
    network = Network(certificate.network, certificate.image.shape, question["classes"], question["clip"])
    points = Points(certificate, network)
    examiner = Examiner(certificate, network, points.comparison)
    draw, lost = np.random.default_rng(0), 0.0
    assert certificate.cell_kind.min() >= ROBUST
    for cells in examiner.batches():
        kinds, shrink, _ = examiner.examine(cells)
        for cell, kind, factor in zip(cells, kinds, shrink, strict=True):
            corners = certificate.corners(cell)
            size = float(np.prod(np.ptp(corners, axis=0)))
            lost += size * (1 - factor)
            if not factor:
                continue
            assert kind == certificate.cell_kind[cell]
            middle = corners.mean(axis=0)
            theta = middle + factor * (draw.dirichlet(np.ones(len(corners))) @ corners - middle)
            if cell % 5 == 0:
                assert points.kind(int(certificate.cell_piece[cell]), theta) == kind
    assert lost <= 1e-8 * certificate.volume
