"""The documentation as a site: built strictly, complete, and in need of no network."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import steadygaze.campaign
from steadygaze.cli import commands

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("zensical") is None, reason="the extra 'docs' is not installed: no zensical"
)


class Loaded(HTMLParser):
    """What a page loads, and the anchors that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        self.anchors.add(known.get("id") or "")
        if tag in ("script", "img", "iframe", "source") and known.get("src"):
            self.addresses.append(known["src"])
        if tag == "link" and "canonical" not in (known.get("rel") or ""):
            self.addresses.append(known.get("href") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("documentation") / "site"
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/documentation.py"), "--out", str(out)],
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "griffe" not in done.stdout + done.stderr, "a docstring cannot be read: " + done.stdout
    return out


@pytest.fixture(scope="module")
def pages(site) -> dict[str, Loaded]:
    found = {}
    for path in site.rglob("*.html"):
        page = Loaded()
        page.feed(path.read_text(encoding="utf-8"))
        found[path.relative_to(site).as_posix()] = page
    return found


def test_nothing_is_loaded_from_elsewhere(site, pages):
    outside = [a for page in pages.values() for a in page.addresses if re.match(r"\w+:(?!image/)|//", a)]
    assert not [address for address in outside if not address.startswith("data:image/")]
    for style in site.rglob("*.css"):
        assert not re.findall(r"url\(['\"]?(?:https?:)?//", style.read_text(encoding="utf-8")), style


def test_what_pages_load_is_there(site, pages):
    for name, page in pages.items():
        for address in page.addresses:
            if name != "404.html" and not address.startswith("data:"):
                assert (site / name).parent.joinpath(address.split("?")[0].split("#")[0]).exists(), (
                    name,
                    address,
                )


def test_every_public_name_is_in_the_reference(pages):
    anchors = set().union(*(page.anchors for name, page in pages.items() if name.startswith("api/")))
    described = {anchor.rpartition(".")[2] for anchor in anchors}
    assert set(steadygaze.__all__) | set(steadygaze.campaign.__all__) <= described


def test_every_command_is_in_the_reference(site):
    text = (site / "command-line.html").read_text(encoding="utf-8")
    names = []
    for name, command in commands.commands.items():
        names += [name, *(f"{name} {part}" for part in getattr(command, "commands", ()))]
    assert [name for name in names if f"Usage: steadygaze {name} " not in text] == []


def test_every_page_is_in_the_navigation():
    listed = (ROOT / "mkdocs.yml").read_text()
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")]
    assert [page for page in pages if f": {page}" not in listed] == []


def test_the_search_finds_words_of_the_project(site):
    index = (site / "search.json").read_text(encoding="utf-8")
    for word in ("safe scale", "inconsistency", "NotJointlyAffine", "certificate"):
        assert word in index
