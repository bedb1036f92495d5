"""The folder of an answer: all or nothing, and nobody else's files touched."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

import answers
from steadygaze.answer.drawing import BoundaryPieces
from steadygaze.answer.result import Result
from steadygaze.errors import InternalCheckError, SettingError
from steadygaze.report import figures, still, write_report
from steadygaze.report import folder as module

DRAWING = answers.drawing(side=3)


@pytest.fixture(autouse=True)
def _small_maps(monkeypatch):
    monkeypatch.setattr(figures, "PIXELS", 50)
    monkeypatch.setattr(still, "DOTS_PER_INCH", 30)


def names_in(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_whole_answer_is_written(tmp_path):
    folder = write_report(answers.violated(), DRAWING, tmp_path / "deep" / "answer", picture=True)
    assert names_in(folder) == ["map.png", "report.html", "result.json", "witness"]
    assert Result.from_json((folder / "result.json").read_text()) == answers.violated()
    with Image.open(folder / "map.png") as picture:
        assert picture.size[0] > 200
    names = {path.name for path in (folder / "witness").iterdir()}
    for title in ("original", "worst-allowed", "nearest-failing"):
        for part in ("image", "saliency", "expected"):
            assert {f"{title}-{part}.png", f"{title}-{part}.npy"} <= names
    saved = np.load(folder / "witness" / "nearest-failing-saliency.npy", allow_pickle=False)
    assert (saved == DRAWING.exhibits[2].saliency).all()


def test_a_second_answer_replaces_the_first_and_leaves_other_files(tmp_path):
    write_report(answers.violated(), DRAWING, tmp_path, picture=True)
    (tmp_path / "notes.txt").write_text("mine")
    robust = answers.drawing(side=3).__class__(None, DRAWING.polygons, DRAWING.exhibits[:1])
    write_report(answers.robust(), robust, tmp_path)
    assert Result.from_json((tmp_path / "result.json").read_text()) == answers.robust()
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not list((tmp_path / "witness").glob("nearest*"))
    assert names_in(tmp_path) == ["notes.txt", "report.html", "result.json", "witness"]


@pytest.mark.parametrize("step", ["page", "write_witness", "map_png"])
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_the_earlier_answer_whole(tmp_path, monkeypatch, step, interruption):
    write_report(answers.violated(), DRAWING, tmp_path)
    before = contents(tmp_path)

    def interrupt(*_: object) -> None:
        raise interruption

    monkeypatch.setattr(module, step, interrupt)
    with pytest.raises(interruption):
        write_report(answers.robust(), DRAWING, tmp_path, picture=True)
    assert contents(tmp_path) == before


def test_a_result_that_breaks_its_schema_replaces_nothing(tmp_path):
    write_report(answers.violated(), DRAWING, tmp_path)
    before = contents(tmp_path)
    broken = answers.robust()
    object.__setattr__(broken, "claim", "everything")
    with pytest.raises((InternalCheckError, KeyError)):
        write_report(broken, DRAWING, tmp_path)
    assert contents(tmp_path) == before


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SettingError, match="--out"):
            module.check_folder(place)
    module.check_folder(tmp_path / "new" / "one")
    assert names_in(tmp_path) == ["file"]


def test_a_full_disk_is_told_in_one_sentence(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_witness", full)
    (tmp_path / "earlier").mkdir()
    for name in ("", "earlier", "earlier/deep/answer", "new"):
        with pytest.raises(SettingError, match="No space left"):
            write_report(answers.violated(), DRAWING, tmp_path / name)
    assert [path.name for path in tmp_path.rglob("*")] == ["earlier"]  # no folder that was made for it


def test_what_others_put_into_a_new_folder_meanwhile_stays(tmp_path, monkeypatch):
    def fails(*_: object) -> None:
        (tmp_path / "deep" / "theirs").write_text("kept")
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_witness", fails)
    with pytest.raises(KeyboardInterrupt):
        write_report(answers.violated(), DRAWING, tmp_path / "deep" / "answer")
    assert [path.name for path in tmp_path.rglob("*")] == ["deep", "theirs"]


def test_the_pieces_of_a_boundary_are_kept_and_an_earlier_answers_are_not(tmp_path):
    pieces = BoundaryPieces(
        np.zeros((4, 3)), np.array([0, 0, 1, 1]), np.array(["class changes", "unexamined"])
    )
    bounded = dataclasses.replace(DRAWING, boundary=pieces)
    write_report(answers.violated(), bounded, tmp_path)
    with np.load(tmp_path / "boundary.npz") as kept:
        assert kept["corners"].shape == (4, 3)
        assert kept["kind"].tolist() == ["class changes", "unexamined"]
    write_report(answers.violated(), DRAWING, tmp_path)
    assert not (tmp_path / "boundary.npz").exists()
