"""Perturbations that one can start from, under a name: the files of ``presets/``, plain TOML.

A preset says in one sentence what it stands for, and lists its perturbations in the words of the command
line, with lengths in percent of the image (`lengths`).
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from steadygaze.errors import SettingError, meant


@dataclass(frozen=True)
class Preset:
    """A chain of perturbations with a name. stands_for: what it stands for, one sentence."""

    name: str
    stands_for: str
    perturb: tuple[str, ...]


@cache
def presets() -> dict[str, Preset]:
    """All that there are, by name, in the order of the alphabet."""
    found: dict[str, Preset] = {}
    folder = files("steadygaze.question") / "presets"
    for file in sorted(folder.iterdir(), key=lambda one: one.name):
        name, dot, ending = file.name.rpartition(".")
        if dot and ending == "toml":
            document = tomllib.loads(file.read_text(encoding="utf-8"))
            found[name] = Preset(name, document["stands-for"], tuple(document["perturb"]))
    return found


def preset(name: str) -> Preset:
    """The one of that name. Raises SettingError where there is none."""
    known = presets()
    if name not in known:
        raise SettingError(f"there is no preset {name!r}{meant(name, known)}")
    return known[name]
