"""Certificates of the class alone: certified as others are, and never taken for another question."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import steadygaze
from check.certificates import network, sealed
from steadygaze_check.command import main

LIGHT = "brightness(amount=-0.2..0.3)"
WIDE = "brightness(amount=-1..2)"
ASKED = {
    1: ("pool", [LIGHT], {}),
    2: ("residual", [WIDE, "patch(opacity=0..3, top=1, left=1, height=2, width=2, mode=add, value=1)"], {}),
    "clipped": ("conv", ["contrast(amount=-0.3..0.3)", LIGHT], {"clip": (0.15, 0.75)}),
    "moved": ("dense", ["translate(dx=-1..1)"], {}),
}


def written(asked: object, folder: Path, **options: object) -> Path:
    kind, chain, settings = ASKED[asked]
    image = np.random.default_rng(0).random((1, 6, 6)) * 0.5 + 0.2
    given = {"clip": None, "claim": "class", "method": "sweep", "threads": 1, **settings, **options}
    answer = steadygaze.verify(network(kind), image, chain, **given)
    return answer.save(folder, certificate=True) / "certificate"


@pytest.mark.parametrize("asked", ASKED)
def test_all_claims_are_certified_and_said_to_be_of_the_class(asked, tmp_path, capsys):
    folder = written(asked, tmp_path / "answer")
    assert main([str(folder), "--json", str(tmp_path / "report.json")]) == 0, capsys.readouterr().out
    assert "asked: the class alone" in capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["asked"] == "the class alone"
    assert sum(report["certified"].values()) == pytest.approx(1, abs=1e-9)
    assert report["certified"]["attention_changed"] == 0
    question = told(folder)["question"]
    assert (question["saliency"]["name"], question["inconsistency"]["name"]) == ("none", "none")
    assert (question["threshold"], question["moves_map"]) == (0, False)
    assert told(folder)["beyond_proof"] is None


def test_what_a_nearest_search_proves_of_the_class_is_certified(tmp_path, capsys):
    folder = written(2, tmp_path / "answer", method="nearest")
    assert main([str(folder), "--json", str(tmp_path / "report.json")]) in (0, 20), capsys.readouterr().out
    status = {
        each["claim"]: each["status"]
        for each in json.loads((tmp_path / "report.json").read_text())["findings"]
    }
    assert status["safe scale"] == status["radius"] == status["nearest failure"] == "certified"


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    return written(2, tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> Path:
    return written(2, tmp_path_factory.mktemp("both"), claim="attention", threshold=0.05)


def told(folder: Path) -> dict:
    return json.loads((folder / "certificate.json").read_text())


def as_attention(folder: Path, document: dict) -> None:
    document["question"] |= {"saliency": {"name": "gradient", "channel_sum": False}, "threshold": 0.05}
    document["question"]["inconsistency"] = {"name": "cosine"}
    np.save(folder / "compared.npy", np.ones(36, bool))


def other_kind(folder: Path, document: dict) -> None:
    kind = np.load(folder / "cell_kind.npy")
    np.save(folder / "cell_kind.npy", np.where(kind == 0, 2, kind).astype(np.int8))
    shares = document["claims"]["shares"]
    shares.update(robust=0.0, attention_changed=shares["robust"])


def flipped(folder: Path, document: dict) -> None:
    kind = np.load(folder / "cell_kind.npy")
    kind[-1] = 1 - kind[-1]
    np.save(folder / "cell_kind.npy", kind)


ALTERED = {
    "it was attention": (as_attention, (10,)),
    "with a threshold": (lambda _, d: d["question"].update(threshold=0.3), (2,)),
    "with a measure": (lambda _, d: d["question"].update(inconsistency={"name": "cosine"}), (2,)),
    "with a map": (
        lambda _, d: d["question"].update(saliency={"name": "gradient", "channel_sum": False}),
        (2,),
    ),
    "with entries": (lambda f, _: np.save(f / "compared.npy", np.ones(1, bool)), (2,)),
    "attention is lost": (other_kind, (10,)),
    "a kind": (flipped, (10,)),
    "the verdict": (lambda _, d: d["claims"].update(verdict="robust"), (10,)),
    "the scale": (lambda _, d: d["claims"].update(safe_scale=d["claims"]["safe_scale"] * 1.001), (10,)),
    "the failure": (lambda _, d: d["claims"]["nearest_failure"].update(kind="attention-changed"), (10,)),
}


@pytest.mark.parametrize("what", ALTERED)
def test_what_was_changed_is_refused(what, alone, tmp_path, capsys):
    folder = shutil.copytree(alone, tmp_path / "certificate")
    change, codes = ALTERED[what]
    document = told(folder)
    change(folder, document)
    assert main([str(sealed(folder, document))]) in codes, capsys.readouterr().out


def test_attention_that_is_lost_is_not_passed_off_as_the_class_that_is_kept(both, tmp_path, capsys):
    folder = shutil.copytree(both, tmp_path / "certificate")
    document = told(folder)
    assert document["claims"]["shares"]["attention_changed"] > 0
    document["question"]["saliency"]["name"] = "none"
    assert main([str(sealed(folder, document))]) == 2
    assert "about the class alone, and about maps" in capsys.readouterr().err
    document["question"] |= {"inconsistency": {"name": "none"}, "threshold": 0}
    np.save(folder / "compared.npy", np.zeros(36, bool))
    assert main([str(sealed(folder, document))]) == 10, capsys.readouterr().out
