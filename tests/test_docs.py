"""What the pages say must be so: links lead somewhere, every example runs and prints what is shown."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pages import ROOT, RUN, SHOWN, blocks
from steadygaze.cli import run as steadygaze
from steadygaze_check.command import main as steadygaze_check

PAGES = sorted(
    {
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/*.md"),
        *ROOT.glob("studies/*/*.md"),
        ROOT / "tests/README.md",
    }
)
#: Pages whose examples take longer than ten seconds.
SLOW = {"docs/choosing.md", "docs/notebooks.md", "docs/campaigns.md", "docs/gate.md", "docs/tutorial.md"}
ANSWERED = (0, 10, 20)
#: Commands of campaigns that show no progress.
LOOKING_ON = {"status", "list", "export", "presets", "report"}


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def with_examples() -> list:
    pages = [page for page in PAGES if any(block.language in RUN and not block.why for block in blocks(page))]
    return [
        pytest.param(page, id=named(page), marks=[pytest.mark.slow] if named(page) in SLOW else [])
        for page in pages
    ]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    missing = [name for name in targets if "://" not in name and not (page.parent / name).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_elsewhere_are_well_formed_and_encrypted(page):
    for address in re.findall(r"\w+://[^\s)>`\"]+", page.read_text()):
        assert re.fullmatch(r"https://[\w.-]+\.\w+(/[^\s]*)?", address), address


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_block_is_run_or_says_why_not(page):
    for block in blocks(page):
        assert block.language in RUN | SHOWN, f"line {block.line}: a block of {block.language!r}"
        assert block.why is None or len(block.why.split()) > 2, f"line {block.line}: say why in words"


@pytest.mark.parametrize("page", with_examples())
def test_the_examples_of_a_page_run_in_turn(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    before = set(sys.modules)
    names: dict[str, object] = {"__name__": "example"}
    printed = ""
    try:
        for block in blocks(page):
            where = f"{named(page)}:{block.line}"
            if block.why:
                printed = ""
            elif block.title:
                Path(block.title).write_text(block.code)
            elif block.language == "python" and "__main__" in block.code:  # a program, which starts others
                Path("program.py").write_text(block.code)
                done = subprocess.run(
                    [sys.executable, "program.py"], capture_output=True, text=True, check=True
                )
                printed = done.stdout
            elif block.language == "python":
                exec(compile(block.code, where, "exec"), names)
                printed = capsys.readouterr().out
            elif block.language == "sh":
                for command in block.commands():
                    carry_out(command)
                printed = capsys.readouterr().out
            elif block.language == "toml":
                Path("case.toml").write_text(block.code)
                assert steadygaze(["verify", "case.toml", "--quiet"]) in ANSWERED, where
            elif block.language == "text" and printed:
                for line in block.code.splitlines():
                    assert line.removesuffix("...").rstrip() in printed, where
    finally:
        for module in {name for name in set(sys.modules) - before if hasattr(sys.modules[name], "__file__")}:
            if str(getattr(sys.modules[module], "__file__", "")).startswith(str(tmp_path)):
                del sys.modules[module]
        if "matplotlib.pyplot" in sys.modules:
            sys.modules["matplotlib.pyplot"].close("all")


def carry_out(command: str) -> None:
    """One line of a shell; those of steadygaze in this process, which spares the imports."""
    program, *arguments = shlex.split(command.removeprefix(".venv/bin/"))
    if program == "steadygaze":
        looks_on = arguments[0] in ("compare", "layers", "schema") or set(arguments[:2]) & LOOKING_ON
        assert steadygaze([*arguments, *([] if looks_on else ["--quiet"])]) in ANSWERED, command
    elif program == "steadygaze-check":
        assert steadygaze_check(arguments) == 0, command
    else:
        program = sys.executable if program == "python" else program
        subprocess.run([program, *arguments], check=True, timeout=120)
