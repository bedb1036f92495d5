"""What runs in the browser, put into the page: modules as one script, style sheets as one style.

A page that is opened from a disk cannot import modules from beside it, so that they are joined here: each
becomes a function that gives what the module exports, after those that it imports. A part of the package
keeps what is its own in its folder `browser`, and may import what is the report's.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

_IMPORT = re.compile(
    r'^import (\{[^}]*\}) from "(\.|\.\./\.\./report/browser)/([a-z]+)\.js";\n', re.MULTILINE
)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) (\w+))", re.M)


def script(entry: str, part: str = "report") -> str:
    """The module `entry`.js of a part's folder `browser` and all that it imports, as the text of one module.

    Modules of both folders go by their names, of which no two are the same.
    """
    parts: dict[str, str] = {}
    _collect(entry, part, parts)
    return "\n".join(parts.values())


def style(*names: str, part: str = "report") -> str:
    """The style sheets of these names in a part's folder `browser`, in order."""
    return "\n".join(_source(part, f"{name}.css") for name in names)


def source_hash(text: str) -> str:
    """What a content security policy calls an inline script of this text, so that no other one runs."""
    return f"'sha256-{b64encode(sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


def _collect(name: str, part: str, parts: dict[str, str], entry: bool = True) -> None:
    source = _source(part, f"{name}.js")
    for _, folder, other in _IMPORT.findall(source):
        if other not in parts:
            _collect(other, part if folder == "." else "report", parts, entry=False)
    body = _EXPORT.sub("", _IMPORT.sub(r"const \1 = from_\3;\n", source))
    exported = ", ".join(_EXPORT.findall(source))
    parts[name] = body if entry else f"const from_{name} = (() => {{\n{body}return {{ {exported} }};\n}})();"


def _source(part: str, name: str) -> str:
    return files(f"steadygaze.{part}").joinpath("browser", name).read_text(encoding="utf-8")
