"""What runs in the browser, put into the page: modules as one script, style sheets as one style.

A page that is opened from a disk cannot import modules from beside it, so that they are joined here: each
becomes a function that gives what the module exports, after those that it imports.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

_IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./([a-z]+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) (\w+))", re.MULTILINE)


def script(entry: str) -> str:
    """The module `entry`.js of the folder `browser` and all that it imports, as the text of one module."""
    parts: dict[str, str] = {}
    _collect(entry, parts)
    return "\n".join(parts.values())


def style(*names: str) -> str:
    """The style sheets of these names, in order."""
    return "\n".join(_source(f"{name}.css") for name in names)


def source_hash(text: str) -> str:
    """What a content security policy calls an inline script of this text, so that no other one runs."""
    return f"'sha256-{b64encode(sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


def _collect(name: str, parts: dict[str, str], entry: bool = True) -> None:
    source = _source(f"{name}.js")
    for _, other in _IMPORT.findall(source):
        if other not in parts:
            _collect(other, parts, entry=False)
    body = _EXPORT.sub("", _IMPORT.sub(r"const \1 = from_\2;\n", source))
    exported = ", ".join(_EXPORT.findall(source))
    parts[name] = body if entry else f"const from_{name} = (() => {{\n{body}return {{ {exported} }};\n}})();"


def _source(name: str) -> str:
    return files("steadygaze.report").joinpath("browser", name).read_text(encoding="utf-8")
