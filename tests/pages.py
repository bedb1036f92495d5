"""The examples of the documentation: blocks of code, in the order in which a reader comes to them.

A block runs unless the line after it says why not: ``<!-- not run: the file is yours -->``. A block with a
title is a file: ``` ```python title="mynet.py" ```.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)(?P<options>[^\n]*)\n(?P<code>.*?)^(?P=indent)```[ ]*\n"
    r"(?:(?P=indent)<!-- not run: (?P<why>[^\n]*?) -->)?",
    re.DOTALL | re.MULTILINE,
)
#: What is run; anything else that has a name is shown only.
RUN = {"python", "sh", "toml"}
SHOWN = {"text", "bibtex", "json", "yaml", "dockerfile", ""}


@dataclass(frozen=True)
class Block:
    """One block: its language, its code, the file that it is, and why it does not run."""

    language: str
    code: str
    title: str | None
    why: str | None
    line: int

    def commands(self) -> list[str]:
        """The commands of a shell block, without comments."""
        joined = self.code.replace("\\\n", " ")
        lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines())
        return [line for line in lines if line]


def blocks(page: Path) -> list[Block]:
    """All blocks of a page."""
    text = page.read_text(encoding="utf-8") + "\n"
    found = []
    for match in _BLOCK.finditer(text):
        title = re.search(r'title="([^"]+)"', match["options"])
        code = re.sub(rf"^{match['indent']}", "", match["code"], flags=re.MULTILINE)
        line = text.count("\n", 0, match.start("code")) + 1
        found.append(Block(match["language"], code, title and title[1], match["why"], line))
    return found
