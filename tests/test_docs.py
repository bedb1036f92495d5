"""What the pages say must be so: links lead somewhere, examples run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from steadygaze import cli
from steadygaze.perturbation.notation import parse
from steadygaze.question.images import load_image

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("studies/*/*.md"), ROOT / "tests/README.md"]


def blocks(page: str, language: str) -> list[str]:
    """The examples of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    missing = [name for name in targets if "://" not in name and not (page.parent / name).exists()]
    assert not missing


def test_the_command_line_example_is_understood():
    (command,) = [block for block in blocks("README.md", "sh") if "--perturb" in block]
    specifications = re.findall(r"--perturb '([^']+)'", command)
    assert [parse(text).name for text in specifications] == ["brightness", "patch"]
    assert load_image(re.findall(r"--image (\S+)", command)[0]).image.shape == (1, 8, 8)


def test_the_case_example_is_understood():
    (text,) = blocks("docs/formats.md", "toml")
    case = tomllib.loads(text)
    assert [parse(one).name for one in case["perturb"]] == ["brightness", "patch"]
    assert load_image(case["image"]).label == 0


def test_the_example_of_a_campaign_runs(tmp_path):
    (example,) = blocks("docs/campaigns.md", "python")
    (tmp_path / "digits.py").write_text(example.replace("workers=2", "workers=1"))
    done = subprocess.run(
        [sys.executable, "digits.py"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=200
    )
    assert "2 cases in" in done.stdout
    assert "4 cases in" in done.stdout
    assert "no work was done" in done.stdout
    assert done.stdout.count(" solved ") == 4


@pytest.mark.slow
def test_the_first_campaign_says_what_the_page_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/campaigns.md").read_text()
    (tmp_path / "digits.toml").write_text(
        re.findall(r'```toml title="digits.toml"\n(.*?)```', page, re.DOTALL)[0]
    )
    commands = [line for block in blocks("docs/campaigns.md", "sh") for line in block.splitlines()]
    assert len(commands) == 5
    for command in commands:
        assert cli.run(shlex.split(command)[1:]) == 0
    said = capsys.readouterr().out
    (shown,) = blocks("docs/campaigns.md", "text")
    assert all(line.removesuffix("...") in said for line in shown.splitlines())
    assert (tmp_path / "cases.csv").is_file()


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    (example,) = blocks("README.md", "python")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert capsys.readouterr().out
    assert (tmp_path / "my-answer" / "result.json").is_file()
