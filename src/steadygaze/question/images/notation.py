"""The names of images: ``kind:where:setting=value:entry``, taken apart.

The entry is a number, or the name of a file inside a folder; for many images numbers, ``0..99`` or
``7,20..29``, both ends included, or nothing for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from steadygaze.question.images.files import is_folder, path_of

_NUMBER = r"\d{1,18}"
_NUMBERS = re.compile(rf"{_NUMBER}(\.\.{_NUMBER})?(,{_NUMBER}(\.\.{_NUMBER})?)*", re.ASCII)
_FILE = re.compile(r"[^/\\:][^:]*[/\\][^:]*|[^/\\:]+\.[A-Za-z0-9]+")


@dataclass(frozen=True)
class Reference:
    """One source, taken apart. `entry` is empty where none is given."""

    kind: str
    where: str
    settings: Mapping[str, str] = field(default_factory=dict)
    entry: str = ""

    @property
    def is_one(self) -> bool:
        """Whether the entry is one: a number, or the name of a file."""
        return bool(self.entry) and (self.entry.isdigit() or not self.spans)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First and last number of each range that the entry names; none where it is a file's name."""
        if not _NUMBERS.fullmatch(self.entry):
            return []
        ends = [part.split("..") for part in self.entry.split(",")]
        return [(int(pair[0]), int(pair[-1])) for pair in ends]

    def to(self, entry: str) -> str:
        """The reference, as text, to one image of the same source."""
        settings = [f"{key}={value}" for key, value in self.settings.items()]
        return ":".join(part for part in (self.kind, self.where, *settings, entry) if part)


def parsed(kind: str, rest: str, keys: tuple[str, ...], files: bool) -> Reference:
    """What stands behind ``kind:``, taken apart.

    keys: the settings that the kind has; files: whether entries may be names of files.
    """
    parts = re.split(rf":(?=(?:{'|'.join(keys)})=)", rest) if keys else [rest]
    last, entry = parts[-1], ""
    head, colon, tail = last.rpartition(":")
    if not colon and kind == "digits":
        head, tail, colon = "", last, ":"
    if colon and (
        _NUMBERS.fullmatch(tail) or (files and _FILE.fullmatch(tail) and not is_folder(path_of(rest)))
    ):
        parts[-1], entry = head, tail
    settings = dict(part.split("=", 1) for part in parts[1:])
    return Reference(kind, parts[0], settings, entry)
