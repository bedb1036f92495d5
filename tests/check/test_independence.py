"""The checker shares no code with what it checks."""

from __future__ import annotations

import ast
import subprocess
import sys
import tokenize
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import steadygaze_check
from check.certificates import answer_of, write

FILES = sorted(Path(steadygaze_check.__file__).parent.glob("*.py"))
ALLOWED = {"numpy", "onnx", "onnxruntime", "steadygaze_check"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_module_imports_numpy_and_onnx_alone(path):
    tree = ast.parse(path.read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.split(".")[0] for name in names} <= ALLOWED | sys.stdlib_module_names
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "__import__"]
    if "onnxruntime" in {name.split(".")[0] for name in names}:
        assert path.name == "command.py"


def test_no_module_imports_itself_by_way_of_others():
    graph = {
        path.stem: {
            node.module.split(".")[1]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("steadygaze_check.")
        }
        for path in FILES
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_it_runs_where_steadygaze_cannot_be_imported(tmp_path):
    folder = write(answer_of("dense", 1), tmp_path / "certificate")
    program = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('steadygaze', 'torch', 'numba', 'scipy'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from steadygaze_check.command import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "All claims are certified." in done.stdout


def lines_of_code(path: Path) -> int:
    """Lines that hold code: neither blank, nor a comment, nor a docstring."""
    tree, source = ast.parse(path.read_text()), path.open("rb")
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    told = {
        line
        for node in ast.walk(tree)
        if isinstance(node, documented) and ast.get_docstring(node) is not None
        for line in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
    }
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    silent |= {tokenize.ENCODING, tokenize.ENDMARKER}
    with source:
        tokens = [each for each in tokenize.tokenize(source.readline) if each.type not in silent]
    return len({line for each in tokens for line in range(each.start[0], each.end[0] + 1)} - told)


def test_it_stays_short_enough_to_be_read():
    """A reviewer's evening: some 1740 lines of code, and 740 of words and blanks."""
    assert sum(map(lines_of_code, FILES)) < 1750
    assert sum(len(path.read_text().splitlines()) for path in FILES) < 2480
