"""The notebooks run from top to bottom, and say what they are kept to say."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(ROOT.glob("examples/*.ipynb"))
MOST_KEPT = 500_000  # bytes of a notebook with its pictures


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "scripts/notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def said(book) -> list[str]:
    """What cells printed, and plain values; without the seconds that an answer took."""
    texts = []
    for cell in book.cells:
        for output in cell.get("outputs", []):
            plain = output.get("text") or output.get("data", {}).get("text/plain", "")
            texts.append("<picture>" if plain.startswith("<Figure") else plain)
    return texts


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_small_and_with_what_it_showed(path, script):
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert path.stat().st_size < MOST_KEPT
    assert said(book)
    assert script.kept(nbformat.from_dict(book)) == book, (
        "run `make notebooks`, which leaves out what is not kept"
    )
    assert "/home/" not in path.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_says_what_is_kept(path, script, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setattr(sys, "argv", ["notebooks.py"])
    assert said(script.kept(script.executed(path))) == said(nbformat.read(path, as_version=4))
