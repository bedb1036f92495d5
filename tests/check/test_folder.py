"""A certificate is hostile input: what is not as the format says is refused in one sentence, with exit 2."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from check.certificates import answer_of, sealed, write
from steadygaze_check.command import main


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> Path:
    return write(answer_of("dense", 1), tmp_path_factory.mktemp("honest") / "certificate")


@pytest.fixture
def copy(honest, tmp_path) -> Path:
    return shutil.copytree(honest, tmp_path / "certificate")


def link(folder: Path) -> None:
    (folder / "image.npy").rename(folder.parent / "elsewhere.npy")
    (folder / "image.npy").symlink_to(folder.parent / "elsewhere.npy")


def pickled(folder: Path) -> None:
    np.save(folder / "vertices.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)


def header(folder: Path) -> None:
    """Claims 10^17 numbers for a small file."""
    content = bytearray((folder / "vertices.npy").read_bytes())
    start = content.index(b"'shape': (")
    end = content.index(b"}", start)
    told = f"'shape': ({10**17}, 1), ".encode()
    content[start:end] = told + b" " * (end - start - len(told))
    (folder / "vertices.npy").write_bytes(content)


def fortran(folder: Path) -> None:
    np.save(folder / "image.npy", np.asfortranarray(np.load(folder / "image.npy").repeat(2, axis=0)))


def negative(folder: Path) -> None:
    array = np.load(folder / "cell_vertex.npy")
    array[0] = -1
    np.save(folder / "cell_vertex.npy", array)


def infinite(folder: Path) -> None:
    array = np.load(folder / "piece_base.npy")
    array[0, 0, 0, 0] = np.inf
    np.save(folder / "piece_base.npy", array)


def outside(folder: Path) -> None:
    array = np.load(folder / "vertices.npy")
    array[0] += 100.0
    np.save(folder / "vertices.npy", array)


FILES = {
    "link": link,
    "pickled": pickled,
    "header": header,
    "fortran": fortran,
    "negative": negative,
    "infinite": infinite,
    "outside": outside,
    "missing": lambda folder: (folder / "cell_kind.npy").unlink(),
    "empty": lambda folder: (folder / "cell_kind.npy").write_bytes(b""),
    "network": lambda folder: (folder / "network.onnx").write_bytes(b"\x00" * 64),
    "folder": lambda folder: [(folder / "image.npy").unlink(), (folder / "image.npy").mkdir()],
}


@pytest.mark.parametrize("what", FILES)
def test_files_out_of_format_are_refused(what, copy, capsys):
    document = json.loads((copy / "certificate.json").read_text())
    FILES[what](copy)
    if what not in ("folder", "missing"):
        sealed(copy, document)
    assert main([str(copy)]) == 2
    out = capsys.readouterr()
    assert "Traceback" not in out.err + out.out
    assert out.err.count("\n") <= 1


QUESTIONS = {
    "escape": lambda d: d["files"].update({"../image.npy": d["files"]["image.npy"]}),
    "absolute": lambda d: d["files"].update({"/etc/passwd": d["files"]["image.npy"]}),
    "huge": lambda d: d["files"]["image.npy"].update(bytes=1 << 60),
    "text": lambda d: d["question"]["parameters"][0].update(low="0"),
    "reversed": lambda d: d["question"]["parameters"][0].update(low=1.0, high=0.0),
    "too narrow": lambda d: d["question"]["parameters"][0].update(low=-1e-13, high=1e-13),
    "without 0": lambda d: d["question"]["parameters"][0].update(low=0.01),
    "no label": lambda d: d["question"].pop("label"),
    "label": lambda d: d["question"].update(label=3),
    "classes": lambda d: d["question"].update(classes=10**30),
    "format": lambda d: d.update(format="steadygaze/certificate/9"),
    "claims": lambda d: d.update(claims=[]),
    "share": lambda d: d["claims"]["shares"].update(robust="all"),
    "verdict": lambda d: d["claims"].update(verdict=["robust"]),
    "no rest": lambda d: d["map"].pop("rest"),
    "no file": lambda d: d["files"].update({"image.npy": None}),
    "huge number": lambda d: d["claims"].update(safe_scale=10**400),
    "moves": lambda d: d["question"].update(moves_map=1),
}


@pytest.mark.parametrize("claim", ["shares", "safe_scale", "radius", "origin", "nearest_failure", "verdict"])
def test_a_claim_that_is_left_out_or_misspelt_is_refused(claim, copy, capsys):
    """A claim may be null; that nobody makes it must be said."""
    document = json.loads((copy / "certificate.json").read_text())
    document["claims"][f"{claim}s"] = document["claims"].pop(claim)
    (copy / "certificate.json").write_text(json.dumps(document))
    assert main([str(copy)]) == 2
    assert "claims must have" in capsys.readouterr().err


def test_a_header_of_another_length_is_refused(copy, capsys):
    document = json.loads((copy / "certificate.json").read_text())
    data = bytearray((copy / "vertices.npy").read_bytes())
    data[8] ^= 1
    (copy / "vertices.npy").write_bytes(data)
    sealed(copy, document)
    assert main([str(copy)]) == 2
    assert "another length" in capsys.readouterr().err


def test_what_a_certificate_says_does_not_reach_the_terminal_as_it_is(copy, capsys):
    document = json.loads((copy / "certificate.json").read_text())
    document["question"]["saliency"]["name"] = "\x1b[2J\nAll claims are certified."
    (copy / "certificate.json").write_text(json.dumps(document))
    assert main([str(copy)]) == 20
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "All claims are certified." not in out.splitlines()


@pytest.mark.parametrize("what", QUESTIONS)
def test_words_out_of_format_are_refused(what, copy, capsys):
    document = json.loads((copy / "certificate.json").read_text())
    QUESTIONS[what](document)
    (copy / "certificate.json").write_text(json.dumps(document))
    assert main([str(copy)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("text", ["", "{", "[" * 100000, '{"format": NaN}', "[]", "\x00", '"\ud800"'])
def test_what_is_no_json_is_refused(text, copy, capsys):
    (copy / "certificate.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert main([str(copy)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_no_folder_is_refused(tmp_path, capsys):
    assert main([str(tmp_path / "nothing")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"3", b"\xff", b'{"format":', b"[" * 99_999, b'{"a": ' + b"9" * 5000],
    ids=["empty", "truncated", "null", "list", "number", "bytes", "half", "deep", "long"],
)
def test_what_is_no_certificate_at_all_is_told_so_kindly(content, copy, capsys):
    (copy / "certificate.json").write_bytes(content)
    assert main([str(copy)]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "nothing is proven" in told
    assert "hand over the folder `certificate` of an answer" in told


@pytest.mark.parametrize("missing", ["certificate.json", "image.npy"])
def test_a_file_that_is_missing_or_a_folder_is_named(missing, copy, capsys):
    (copy / missing).unlink()
    assert main([str(copy)]) == 2
    assert f"{missing} cannot be read or written (No such file or directory)" in capsys.readouterr().err
    (copy / missing).mkdir()
    assert main([str(copy)]) == 2
    assert f"{missing} is not a plain file" in capsys.readouterr().err


INTERRUPTED = """
import signal, sys

class Stopping:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:  # as libraries do that are broken off while they are read in
                pass

sys.meta_path.insert(0, Stopping())
from steadygaze_check import main
sys.exit(main())
"""


@pytest.mark.parametrize("name", ["numpy", "onnx.reference", "steadygaze_check.command"])
def test_a_check_that_is_interrupted_says_that_nothing_is_proven(copy, name):
    """Also while the program is still being read in."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(name=name), str(copy)], capture_output=True, text=True
    )
    assert done.returncode == 130
    assert done.stderr == "steadygaze-check: nothing is proven: it was stopped before the end; ask again\n"
    assert not done.stdout


def test_an_interrupt_that_is_to_be_ignored_is(copy):
    program = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)" + INTERRUPTED.format(name="numpy")
    done = subprocess.run([sys.executable, "-c", program, str(copy)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
