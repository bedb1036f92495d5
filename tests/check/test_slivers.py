"""What is too thin to count by volume, and yet lies all along a range that is told to be robust."""

from __future__ import annotations

import json

import numpy as np
import pytest

from check.certificates import sealed
from check.test_ties import findings_of, written
from verdict.test_ties import network

# The class is lost where the first parameter is above 0.2.
LOST = network([[1.0, 0.0]], [-0.5], [[-1.0], [0.0]], (0.2, 0.0))
HALF, THIN = 0.4, 1e-7


def grid(end, border):
    """Cells of a grid; those around the axis from 0.05 to `end` are one that is called robust."""
    across, along = [-HALF, 0.0, 0.05, border, end, HALF], [-HALF, -THIN, THIN, HALF]
    corner = np.arange(24).reshape(6, 4)
    cells, kinds, simplices, owner = [], [], [], []
    for i in range(5):
        for j in range(3):
            square = corner[i : i + 2, j : j + 2].ravel()
            if (i, j) == (3, 1):
                cells[number := kinds.index(9)] = np.union1d(cells[kinds.index(9)], square)
            else:
                number = len(cells)
                cells.append(square)
                kinds.append(9 if (i, j) == (2, 1) else int(i >= 3))
            simplices += [square[:3], square[1:]]
            owner += [number, number]
    kinds = np.array([0 if kind == 9 else kind for kind in kinds], np.int8)
    return {
        "vertices": np.array([(x, y) for x in across for y in along]),
        "cell_ptr": np.cumsum([0, *map(len, cells)]),
        "cell_vertex": np.concatenate(cells).astype(np.int32),
        "cell_kind": kinds,
        "cell_piece": np.zeros(len(cells), np.int32),
        "cell_region": np.zeros(len(cells), np.int64),
        "origin_cells": np.flatnonzero(kinds == 0),
        "simplices": np.array(simplices, np.int32),
        "simplex_cell": np.array(owner, np.int32),
    }


@pytest.mark.parametrize("border", [0.2 + 2.0**-28, 0.2 - 1e-8], ids=["at a vertex", "beside it"])
def test_a_range_along_a_sliver_is_not_certified(border, tmp_path):
    """The sliver is 8e-8 of the box, and its mean and its corners but those in its middle are robust."""
    folder, failing = written(LOST, tmp_path / "answer"), 0.2 + 1e-7
    arrays = grid(0.3, border) | {"failing": np.array([[failing, 0.1], [0.3 + THIN, 0.0]])}
    for name, value in arrays.items():
        np.save(folder / f"{name}.npy", value)
    document = json.loads((folder / "certificate.json").read_text())
    document["map"].update(cells=len(arrays["cell_kind"]), vertices=24)
    document["claims"]["origin"]["ranges"][0][1] = 0.3
    document["claims"]["nearest_failure"].update(theta=[failing, 0.1], theta_distance=failing / HALF)
    found = findings_of(sealed(folder, document), tmp_path)
    (told,) = [each for each in found if each["claim"] == "ranges" and "parameter 1 " in each["text"]]
    assert told["status"] in ("refuted", "not certified"), told
