"""Runs the notebooks of examples/ and keeps what they show: `make notebooks`; `--only NAME` runs one of them.

What differs from run to run and says nothing (times of execution, the machine's Python) is left out.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SECONDS = 600  # for one cell


def executed(path: Path) -> nbformat.NotebookNode:
    """The notebook after a run from top to bottom in a folder of its own. Raises CellExecutionError."""
    book = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        # How the kernel is reached is written down there too, not in the home of whoever runs this.
        NotebookClient(
            book,
            timeout=SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            record_timing=False,
            config=Config(KernelManager={"connection_file": str(Path(folder, "kernel.json"))}),
        ).execute(env=os.environ | {"IPYTHONDIR": folder})
    return book


def kept(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with what is worth keeping."""
    book.metadata = {"language_info": {"name": "python"}}
    for cell in book.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            # A bar that has gone leaves an empty output.
            cell.outputs = [one for one in cell.outputs if one.get("data", {}).get("text/html") != ""]
    return book


def main() -> int:
    """Runs all, or the one named, and writes them in place."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", help="the name of one notebook, without .ipynb")
    only = parser.parse_args().only
    for path in sorted(EXAMPLES.glob("*.ipynb")):
        if only in (None, path.stem):
            nbformat.write(kept(executed(path)), path)
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
