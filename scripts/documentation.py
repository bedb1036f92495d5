"""Builds the documentation as a site: `python scripts/documentation.py [--out site]`, which is `make docs`.

The pages of docs/ are laid out beside pages from elsewhere in the repository, the notebooks with what they
showed, and the help texts of the command line; zensical makes the site of them, strictly. It opens from disk,
without a network.
"""

from __future__ import annotations

import argparse
import json
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from steadygaze.cli import commands

ROOT = Path(__file__).resolve().parent.parent
# Pages that lie elsewhere in the repository, and what they are called in the site.
ELSEWHERE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "studies/nfm2023/README.md": "nfm2023.md",
    "tests/README.md": "tests.md",
}
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")
# A line of its own in a page: the help text of that command is put there.
HELP = re.compile(r"^<!-- help:(.*)-->$", re.MULTILINE)
# The theme asks for this script, with which the search works on pages opened from disk; docs/assets/ has it.
SHIM = "https://unpkg.com/iframe-worker/shim"


def place(source: str) -> str:
    """Where a file of the repository stands in the site."""
    return ELSEWHERE.get(source) or source.removeprefix("docs/").replace(".ipynb", ".md")


def moved(text: str, source: str) -> str:
    """The text of a page with its links as they must be in the site.

    Links to pages of the site lead there; of links to other files of the repository the words are left.
    ``source``: the page's path in the repository.
    """
    here = posixpath.dirname(place(source))

    def link(match: re.Match[str]) -> str:
        words, target, anchor = match[1], match[2], match[3] or ""
        if "://" in target:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path.startswith("docs/") or path in ELSEWHERE or path.endswith(".ipynb"):
            return f"[{words}]({posixpath.relpath(place(path), here or '.')}{anchor})"
        return words

    return LINK.sub(link, text)


def notebook(text: str) -> str:
    """A notebook as Markdown: its cells, and what they printed and showed."""
    return "\n\n".join(part for cell in json.loads(text)["cells"] for part in _cell(cell))


def _cell(cell: dict[str, Any]) -> list[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return [source]
    return [f"```python\n{source}\n```", *map(_output, cell["outputs"])]


def _output(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return f"```text\n{''.join(output['text']).rstrip()}\n```"
    shown = output.get("data", {})
    if "text/html" in shown:
        # On one line, for Markdown would read what is indented or comes after a blank line.
        page = " ".join("".join(shown["text/html"]).split())
        return f'<div class="output">{page}</div>'
    if "image/png" in shown:
        png = "".join("".join(shown["image/png"]).split())
        return f'<img class="paper" alt="What the cell drew" src="data:image/png;base64,{png}">'
    return f"```text\n{''.join(shown.get('text/plain', ''))}\n```"


def help_text(command: str) -> str:
    """What ``steadygaze COMMAND --help`` prints."""
    arguments = [*command.split(), "--help"]
    done = CliRunner().invoke(
        commands, arguments, prog_name="steadygaze", terminal_width=84, catch_exceptions=False
    )
    return f"```text\n{done.output.rstrip()}\n```"


def pages() -> Iterator[tuple[str, str]]:
    """The place in the site and the text of every page."""
    found = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.ipynb"), *(ROOT / name for name in ELSEWHERE)]
    for path in sorted(found):
        source, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        text = moved(notebook(text) if path.suffix == ".ipynb" else text, source)
        yield place(source), HELP.sub(lambda match: help_text(match[1]), text)


def assemble(work: Path) -> None:
    """Lay out the folder that zensical builds from."""
    for path in ROOT.glob("docs/**/*"):
        if path.is_file() and path.suffix != ".md":
            copy = work / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    for name, text in pages():
        page = work / "docs" / name
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    (work / "mkdocs.yml").write_text(
        settings.replace("paths: [src]", f"paths: ['{ROOT / 'src'}']"), encoding="utf-8"
    )


def build(out: Path) -> int:
    """Build the site into a folder, which is replaced; returns 0 where all links lead somewhere."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        assemble(work)
        zensical = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
        code = subprocess.run(zensical, cwd=work, check=False).returncode
        if code:
            return code
        for page in work.glob("site/**/*.html"):
            up = "../" * (len(page.relative_to(work / "site").parts) - 1)
            text = page.read_text(encoding="utf-8")
            page.write_text(text.replace(SHIM, f"{up}assets/iframe-worker.js"), encoding="utf-8")
        shutil.rmtree(out, ignore_errors=True)
        shutil.move(work / "site", out)
    return 0


def main() -> int:
    """Builds the site and says where it is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="the folder of the site  [site]")
    out = parser.parse_args().out
    code = build(out)
    if code == 0:
        print(f"The documentation: {out / 'index.html'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
