"""The command line that asks one case of a campaign again, alone."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from steadygaze.question.case import KEEPING, Case

IMAGE = "\0"  # where the image stands in `command`
_FIRST = ("model", "image", "perturb")
_SWITCHES = {  # what turns a flag on, and off where it is on by itself
    "channel_sum": ("--channel-sum", None),
    "prove_interior": ("--prove-interior", None),
    "reachable": ("--reachable", None),
    "handover": (None, "--no-handover"),
}


def command(question: Mapping[str, Any]) -> str:
    """``steadygaze verify ...`` for a question as a store keeps it, with `IMAGE` in the image's place.

    Settings that are as they would be anyway are left out. Paths count from where the campaign was run.
    """
    words = ["steadygaze", "verify", shlex.quote(question["model"]), "--image", IMAGE]
    for text in question["perturb"]:
        words += ["--perturb", shlex.quote(text)]
    for field in fields(Case):
        name, value = field.name, question.get(field.name, field.default)
        usual = None if field.default is MISSING else field.default
        if name in (*_FIRST, *KEEPING) or _plain(value) == _plain(usual):
            continue
        if name in _SWITCHES:
            word = _SWITCHES[name][0 if value else 1]
            words += [word] if word else []
        else:
            # With = a value may begin with a minus sign.
            words.append(f"--{name.replace('_', '-')}={shlex.quote(_written(name, value))}")
    return " ".join(words)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _written(name: str, value: Any) -> str:
    if value is None:
        return "none"  # only the clip has a default that none of them takes
    if isinstance(value, list | tuple):
        return ("x" if name == "resize" else ",").join(map(repr, value))
    return str(value)
