"""A point at which classes tie is no robust one for the checker either, and no failing one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import steadygaze
from check.certificates import sealed
from steadygaze_check.command import main
from steadygaze_check.faces import Faces
from steadygaze_check.region import Region
from verdict.test_ties import AT_0, AT_A_POINT, CHAINS, DEAD_BEYOND, IMAGE, TOUCHING

NETWORKS = {"wall": TOUCHING, "point": AT_A_POINT, "at 0": AT_0}


def written(model: object, folder: Path, **options: object) -> Path:
    given = {"claim": "class", "method": "sweep", "threads": 1, **options}
    return steadygaze.verify(model, IMAGE, CHAINS[2], **given).save(folder, certificate=True) / "certificate"


def findings_of(folder: Path, tmp_path: Path) -> list[dict[str, str]]:
    main([str(folder), "--json", str(tmp_path / "report.json")])
    return json.loads((tmp_path / "report.json").read_text())["findings"]


@pytest.mark.parametrize("name", NETWORKS)
def test_what_ends_at_ties_is_certified(name, tmp_path, capsys):
    folder = written(NETWORKS[name], tmp_path / "answer", method="nearest")
    assert main([str(folder)]) == 0, capsys.readouterr().out


def beyond(document: dict) -> None:
    """All of it robust, as it is but for the ties."""
    document["claims"].update(safe_scale=1.0, radius={"norm": "linf", "value": 1.0})
    document["claims"]["origin"].update(
        ranges=[[-0.4, 0.4]] * 2, share=1.0, interior="examined", complete=True
    )


def robust(document: dict) -> None:
    document["claims"]["verdict"] = "robust"


CHANGED = {
    ("wall", beyond): {"safe scale", "radius", "ranges", "R0"},
    ("at 0", beyond): {"safe scale", "radius", "ranges", "R0"},
    ("point", robust): {"verdict"},
}


@pytest.mark.parametrize(
    ("case", "wanted"), CHANGED.items(), ids=[f"{name}, {change.__name__}" for name, change in CHANGED]
)
def test_more_than_that_is_refuted(case, wanted, tmp_path):
    name, change = case
    folder = written(NETWORKS[name], tmp_path / "answer", method="nearest")
    document = json.loads((folder / "certificate.json").read_text())
    change(document)
    found = findings_of(sealed(folder, document), tmp_path)
    assert {each["claim"] for each in found if each["status"] == "refuted"} == wanted


def test_a_tie_is_no_witness(tmp_path):
    """The class is told to change where it does no more than tie."""
    folder = written(DEAD_BEYOND, tmp_path / "answer")
    document = json.loads((folder / "certificate.json").read_text())
    document["claims"]["verdict"] = "violated"
    document["claims"]["nearest_failure"] = {
        "theta": [0.2, 0.0], "kind": "class-changed", "distance": 0.3125, "theta_distance": 0.5,
        "class_gap": 0.0, "inconsistency": None, "predicted": 0, "norm": "linf",
    }  # fmt: skip
    np.save(folder / "failing.npy", np.array([[0.2, 0.0]]))
    status = {each["claim"]: each["status"] for each in findings_of(sealed(folder, document), tmp_path)}
    assert status["verdict"] == status["nearest failure"] == "not certified"
    assert status["safe scale"] == "certified"


@pytest.mark.parametrize("name", NETWORKS)
def test_ties_that_the_writer_leaves_out_are_found(name, tmp_path):
    """All of it robust, and no point listed at which classes tie."""
    folder = written(NETWORKS[name], tmp_path / "answer", method="nearest")
    np.save(folder / "failing.npy", np.zeros((0, 2)))
    document = json.loads((folder / "certificate.json").read_text())
    beyond(document)
    robust(document)
    found = findings_of(sealed(folder, document), tmp_path)
    refuted = {each["claim"] for each in found if each["status"] == "refuted"}
    assert refuted >= {"verdict", "safe scale", "radius", "ranges"}


def test_a_face_is_parted_from_a_line_that_passes_beside_it():
    """The line crosses the plane of the face, and is farther out along it than the face is."""
    line = Region(np.array([[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]))
    beside = np.array([[0.2, -0.1, 0.3], [0.8, 0.3, -0.1], [0.5, 0.3, 0.3]])
    across = beside - np.array([0.0, 0.15, 0.15])
    faces = Faces([beside, across], np.ones(3))
    assert [each is across for each in faces.met(line)] == [True]
