"""Walls through what is robust: where a map that moves comes down to zero, and where classes tie."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import steadygaze
from check.certificates import sealed
from steadygaze_check.command import main
from verdict.test_ties import CHAINS, TOUCHING, network
from verdict.test_ties import IMAGE as GREY

IMAGE = np.array([[[0.25, 0.5, 0.5]]])


def last_column() -> nn.Module:
    """All attention is in the last column."""
    made = nn.Sequential(nn.Flatten(), nn.Linear(3, 2)).double()
    with torch.no_grad():
        made[1].weight[:] = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
        made[1].bias[:] = torch.tensor([1.0, 0.0])
    return made


def moved(folder: Path, end: float, parameters: int) -> Path:
    """The certificate of a shift that takes the last column just out of the image, or twice as far."""
    chain = steadygaze.Translate(dx=(-0.5, end))
    chain = chain | steadygaze.Brightness(-0.1, 0.1) if parameters == 2 else chain
    answer = steadygaze.verify(last_column(), IMAGE, chain, threshold=0.5, method="sweep", threads=1)
    return answer.save(folder, certificate=True) / "certificate"


def statuses(folder: Path, tmp_path: Path) -> dict[str, str]:
    main([str(folder), "--json", str(tmp_path / "report.json")])
    findings = json.loads((tmp_path / "report.json").read_text())["findings"]
    return {each["claim"]: each["status"] for each in findings}


@pytest.mark.parametrize("parameters", [1, 2])
@pytest.mark.parametrize("end", [1.0, 2.0])
def test_what_ends_where_a_map_vanishes_is_certified(end, parameters, tmp_path):
    assert set(statuses(moved(tmp_path / "answer", end, parameters), tmp_path).values()) == {"certified"}


@pytest.mark.parametrize("parameters", [1, 2])
def test_a_box_in_whose_border_a_map_vanishes_is_not_robust(parameters, tmp_path):
    folder = moved(tmp_path / "answer", 1.0, parameters)
    document = json.loads((folder / "certificate.json").read_text())
    document["claims"].update(verdict="robust", safe_scale=1.0)
    np.save(folder / "failing.npy", np.zeros((0, parameters)))
    assert statuses(sealed(folder, document), tmp_path)["verdict"] == "refuted"


def test_no_r0_goes_on_behind_a_wall_of_ties_beside_a_cell_that_fails(tmp_path):
    """The bounding box of the failing cell, a triangle that meets the wall in its tip, holds the wall."""
    weight = [[1.0, 0.0], [-1.0, 0.0], [10.0, 1.0]]
    model = network(weight, [-0.75, 0.75, -8.4], [[1.0, 1.0, -1.0], [0.0] * 3])
    answer = steadygaze.verify(model, GREY, CHAINS[2], method="sweep", claim="class", threads=1)
    folder = answer.save(tmp_path / "answer", certificate=True) / "certificate"
    assert answer.result.origin.share is None, "the wall is seen"
    assert answer.result.shares.class_changed > 0
    robust = np.flatnonzero(np.load(folder / "cell_kind.npy") == 0)
    np.save(folder / "origin_cells.npy", robust)
    document = json.loads((folder / "certificate.json").read_text())
    document["claims"]["origin"].update(share=answer.result.shares.robust, interior="examined", complete=True)
    assert statuses(sealed(folder, document), tmp_path)["R0"] == "not certified"


def test_no_r0_goes_on_through_a_wall_of_ties_inside_a_cell(tmp_path):
    """One cell for all of the box, which is proven in two parts; classes tie between them."""
    answer = steadygaze.verify(TOUCHING, GREY, CHAINS[1], method="sweep", claim="class", threads=1)
    folder = answer.save(tmp_path / "answer", certificate=True) / "certificate"
    one = {
        "vertices": [[-0.4], [0.4]], "cell_ptr": [0, 2], "cell_vertex": [0, 1], "cell_kind": [0],
        "cell_piece": [0], "cell_region": [0], "origin_cells": [0], "simplices": [[0, 1]],
        "simplex_cell": [0], "apart_cell": np.zeros(0), "apart_normal": np.zeros((0, 1)),
        "failing": np.zeros((0, 1)),
    }  # fmt: skip
    for name, values in one.items():
        np.save(folder / f"{name}.npy", np.array(values).astype(np.load(folder / f"{name}.npy").dtype))
    document = json.loads((folder / "certificate.json").read_text())
    document["claims"]["origin"].update(share=1.0, interior="examined", complete=True)
    found = statuses(sealed(folder, document), tmp_path)
    assert (found["kinds"], found["R0"]) == ("certified", "not certified")
