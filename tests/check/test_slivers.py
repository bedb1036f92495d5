"""What is too thin to count by volume, and yet lies all along a range that is told to be robust."""

from __future__ import annotations

import json

import numpy as np
import pytest

from check.certificates import sealed
from check.test_ties import findings_of, written
from steadygaze_check.command import main
from steadygaze_check.folder import UNDECIDED
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


def around_0(half, below, above):
    """Cells of a grid; those within `half` of 0, right of it, are one that is called robust."""
    across, along = [-HALF, 0.0, below, above, half, HALF], [-HALF, -half, half, HALF]
    corner = np.arange(24).reshape(6, 4)
    cells, kinds, simplices, owner, small = [], [], [], [], None
    for i in range(5):
        for j in range(3):
            square = corner[i : i + 2, j : j + 2].ravel()
            if j == 1 and small is not None and i < 4:
                cells[number := small] = np.union1d(cells[small], square)
            else:
                number = len(cells)
                small = number if (i, j) == (1, 1) else small
                cells.append(square)
                kinds.append((0, 0, UNDECIDED, 1, 1)[i])
            simplices += [square[:3], square[1:]]
            owner += [number, number]
    return {
        "vertices": np.array([(x, y) for x in across for y in along]),
        "cell_ptr": np.cumsum([0, *map(len, cells)]),
        "cell_vertex": np.concatenate(cells).astype(np.int32),
        "cell_kind": np.array(kinds, np.int8),
        "cell_piece": np.zeros(len(cells), np.int32),
        "cell_region": np.zeros(len(cells), np.int64),
        "origin_cells": np.zeros(0, np.int64),
        "simplices": np.array(simplices, np.int32),
        "simplex_cell": np.array(owner, np.int32),
    }


def test_a_region_as_small_as_what_is_not_proven_is_not_certified(tmp_path):
    """The class is lost at 2.5e-4 of the box, and 4.5e-4 is claimed: a square of 2e-7 of the box."""
    border, scale = float(np.float32(1e-4)), 4.5e-4
    model = network([[1.0, 0.0]], [-0.5], [[-1.0], [0.0]], (border, 0.0))
    folder, half = written(model, tmp_path / "answer", method="nearest"), HALF * scale * (1 + 1e-7)
    below, above, failing = border * (1 - 1e-6), border * (1 + 1e-6), half * (1 + 1e-7)
    arrays = around_0(half, below, above) | {"failing": np.array([[failing, 0.0]])}
    for name, value in arrays.items():
        np.save(folder / f"{name}.npy", value)
    document = json.loads((folder / "certificate.json").read_text())
    document["map"].update(cells=len(arrays["cell_kind"]), vertices=24)
    claims, robust, unknown = document["claims"], 0.5 + below / 2 / HALF, (above - below) / 2 / HALF
    claims.update(safe_scale=scale, radius={"norm": "linf", "value": scale}, origin=None)
    claims["shares"].update(robust=robust, class_changed=1 - robust - unknown, undecided=unknown)
    claims["nearest_failure"].update(theta=[failing, 0.0], theta_distance=failing / HALF, distance=scale)
    claims["nearest_failure"].update(class_gap=border - failing)
    found = {each["claim"]: each["status"] for each in findings_of(sealed(folder, document), tmp_path)}
    assert {found[each] for each in ("safe scale", "radius", "nearest failure")} == {"not certified"}, found


@pytest.mark.parametrize("gap", [1e-4, 3e-4])
def test_what_ends_very_near_to_0_is_certified(gap, tmp_path, capsys):
    """The border at which classes tie is nearer to the safe scale than to 0, as rounding goes."""
    model = network([[1.0, 0.0]], [-0.5], [[-1.0], [0.0]], (gap, 0.0))
    assert main([str(written(model, tmp_path / "answer", method="nearest"))]) == 0, capsys.readouterr().out
