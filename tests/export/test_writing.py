"""The folder for other verifiers: what is in it, and that it says what the answer says of the class."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

import variants
from onnx_files import node, with_head
from steadygaze import SettingError, cli, solve
from steadygaze.export import writing
from steadygaze.export.expectation import expected_of
from steadygaze.export.writing import write_export
from steadygaze.question.limits import Limits


@pytest.mark.parametrize("variant", variants.FEW, ids=str)
def test_what_is_expected_is_so_at_points(variant):
    answer = solve(variant.problem, method="sweep", threads=1)
    expected = expected_of(answer)
    assert np.isclose(sum(expected["shares"].values()), 1)
    thetas = variant.draw(300)
    gaps = variant.problem.at(thetas).gap
    assert abs((gaps < 0).mean() - expected["shares"]["class_changed"]) < 0.1
    scale = expected["safe_scale_of_class"]
    assert (variant.problem.at(thetas * scale * (1 - 1e-9)).gap > 0).all()
    for piece in expected["pieces"]:
        if piece["answer"] == "sat":
            assert variant.problem.replay(np.array([piece["witness"]])).gap[0] <= 0
        if piece["answer"] == "unsat":
            assert piece["witness"] is None
    answers = {piece["answer"] for piece in expected["pieces"]}
    assert expected["answer"] == ("sat" if "sat" in answers else "unsat")
    assert ("sat" in answers) == (expected["shares"]["class_changed"] > 1e-9)


def test_attention_is_left_out():
    """A tiny threshold fails the attention nearly everywhere; the class question does not see it."""
    variant = variants.FEW[0]
    strict = replace(variant.problem, threshold=1e-3)
    loose, tight = (expected_of(solve(p, method="sweep", threads=1)) for p in (variant.problem, strict))
    assert loose["shares"] == pytest.approx(tight["shares"])
    assert loose["safe_scale_of_class"] == pytest.approx(tight["safe_scale_of_class"])


def test_a_stopped_run_expects_nothing_it_has_not_seen():
    answer = solve(variants.FEW[0].problem, method="sweep", threads=1, limits=Limits(None, 2.0, 1))
    if answer.map.rest or (answer.map.kind == 3).any():
        assert all(piece["answer"] != "unsat" for piece in expected_of(answer)["pieces"])


def test_the_command_writes_all_of_it(tmp_path, capsys):
    out = tmp_path / "handed"
    spec = ["--perturb", "translate(dx=-1..1)", "--image", "digits:357", "--out", str(out), "--quiet"]
    assert cli.run(["export", "digits-mlp", *spec]) == 0
    told = capsys.readouterr().out
    expected = json.loads((out / "expected.json").read_text())
    assert len(expected["pieces"]) == 2
    for piece in expected["pieces"]:
        for name in (piece["network"], piece["property"], piece["property_2"]):
            assert (out / name).is_file()
            assert name in told
            assert name in (out / "README.md").read_text()
    assert not [path for path in tmp_path.iterdir() if path != out], "nothing is left beside the folder"


def test_what_has_no_affine_pieces_is_refused_before_any_work(tmp_path, capsys):
    spec = ["--perturb", "rotate(degrees=-3..3)", "--image", "digits:357", "--out", str(tmp_path / "handed")]
    assert cli.run(["export", "no-such-network.onnx", *spec]) == 2
    assert "rotate has no affine pieces, and an export writes" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_earlier_export_with_more_pieces_is_replaced(tmp_path):
    more, fewer = (solve(variants.FEW[k].problem, method="sweep", threads=1) for k in (5, 0))
    write_export(more, tmp_path)
    (tmp_path / "notes.txt").write_text("kept")
    paths = write_export(fewer, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*(path.name for path in paths), "notes.txt"}
    assert len(list(tmp_path.glob("piece-*.onnx"))) == 1


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    answer = solve(variants.FEW[0].problem, method="sweep", threads=1)
    with pytest.raises(SettingError, match="choose another --out"):
        write_export(answer, tmp_path / "file" / "handed")


def test_a_grey_picture_for_a_network_of_rgb(tmp_path, monkeypatch):
    """What does not fit the picture may fit what the network gets."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.arange(9, 90, dtype=np.uint8).reshape(9, 9)[:6, :6].copy()).save("grey.png")
    onnx.save(with_head([node("LeakyRelu", None)], {}, 108, shape=(3, 6, 6)), "net.onnx")
    colour = "patch(opacity=0..0.1, top=1, left=1, size=2, value=(1, 0, 0))"
    assert cli.run(["export", "net.onnx", "--image", "grey.png", "--perturb", colour, "--quiet"]) == 0
    assert (tmp_path / "steadygaze-export" / "piece-0.onnx").is_file()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("last", ["piece-0.onnx", "README.md", "expected.json"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_comes_between_leaves_the_earlier_export_whole(tmp_path, monkeypatch, last, error):
    more, fewer = (solve(variants.FEW[k].problem, method="sweep", threads=1) for k in (5, 0))
    write_export(more, tmp_path / "handed")
    (tmp_path / "handed" / "notes.txt").write_text("kept")
    before, usual = contents(tmp_path / "handed"), Path.replace

    def failing(path, target):
        if path.parent.name == "fresh" and path.name == last:
            raise error
        return usual(path, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises((SettingError, KeyboardInterrupt)):
        write_export(fewer, tmp_path / "handed")
    assert contents(tmp_path / "handed") == before
    assert [path.name for path in tmp_path.iterdir()] == ["handed"]


def test_a_new_folder_appears_with_all_of_its_files_or_not_at_all(tmp_path, monkeypatch):
    answer = solve(variants.FEW[0].problem, method="sweep", threads=1)
    monkeypatch.setattr(writing, "_readme", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_export(answer, tmp_path / "deep" / "handed")
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    paths = write_export(answer, tmp_path / "deep" / "handed")
    assert set(contents(tmp_path / "deep" / "handed")) == {path.name for path in paths}
