"""Perturbations in text: ``brightness(amount=-0.3..0.3)``, ``translate(dx=-2..2, dy=0)``.

    chain    = link { "|" link }
    link     = name "(" [ setting { "," setting } ] ")"
    setting  = key "=" value
    value    = number ".." number      varies
             | number                  constant
             | "(" number { "," number } ")"      one for each channel
             | true | false | word | file name, quoted where it holds one of , | ( ) or ends in spaces

Which keys a name has, and of which kind, is said by the classes themselves (``BUILT_IN``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from steadygaze.errors import PerturbationError, meant
from steadygaze.perturbation import BUILT_IN
from steadygaze.perturbation.chain import AbstractPerturbation, Chain
from steadygaze.perturbation.photometric import Blend
from steadygaze.perturbation.records import Constant, Setting

_NUMBER = r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\s*\.\.\s*({_NUMBER})")
_PLAIN = re.compile(_NUMBER)
_LINK = re.compile(r"([A-Za-z][\w-]*)\s*\((.*)\)", re.DOTALL)
_DECIMAL_COMMA = re.compile(r"\d,\d+\s*\.\.|\.\.\s*[+-]?\d+,\d")
# As printed pages and word processors write it.
_MINUS_SIGN = "\N{MINUS SIGN}"
_WHOLE = re.compile(r"[+-]?\d+")
# 8 bytes each: 800 MB, above any image that a network takes and below what fills a machine.
_MOST_VALUES = 10**8

_EXPECTED = {
    "amount": "a range such as -0.3..0.3, or a single finite number",
    "range": "a range such as -2..2, or a single finite number",
    "number": "a number",
    "whole": "a whole number",
    "flag": "true or false",
    "channels": "a number, or one for each channel such as (0.2, 0.5, 1)",
    "array": "a .npy or .png file",
}


def parse(text: str) -> AbstractPerturbation:
    """The perturbation that ``text`` names; with '|', the chain.

    Raises PerturbationError naming what is wrong and what is allowed: the name, the key, the value, the file.
    """
    links = [_parse_link(part.strip()) for part in _split(text, "|")]
    return links[0] if len(links) == 1 else Chain(*links)


def chain_of(*given: AbstractPerturbation | str | Sequence[AbstractPerturbation | str]) -> Chain:
    """One chain of perturbations, of specifications and of sequences of either, in their order."""
    links: list[AbstractPerturbation] = []
    for one in given:
        if isinstance(one, str):
            links.append(parse(one))
        elif isinstance(one, list | tuple):
            links.append(chain_of(*one))
        else:
            links.append(one)  # pyright: ignore[reportArgumentType] (Chain refuses what is no perturbation)
    return Chain(*links)


def render(perturbation: AbstractPerturbation) -> str:
    """The specification of ``perturbation``, from which ``parse`` makes it again.

    Arrays that were not read from a file, and perturbations of one's own, have no specification: for them the
    text only shows what they are.
    """
    if isinstance(perturbation, Chain):
        return " | ".join(render(link) for link in perturbation.links)
    amounts = {p.name: f"{_shown(p.low)}..{_shown(p.high)}" for p in perturbation.parameters}
    values = amounts | {name: _shown(value) for name, value in perturbation.constants.items()}
    known = [setting.name for setting in perturbation.settings if setting.name in values]
    order = known + [name for name in values if name not in known]
    return f"{perturbation.name}({', '.join(f'{name}={values[name]}' for name in order)})"


def _split(text: str, separator: str) -> list[str]:
    """The parts of ``text`` between separators; what stands in quotes or brackets is not cut."""
    parts, quote, depth = [""], "", 0
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign == separator and depth == 0:
            parts.append("")
            continue
        depth += 0 if quote else {"(": 1, ")": -1}.get(sign, 0)
        parts[-1] += sign
    return parts


def _parse_link(text: str) -> AbstractPerturbation:
    match = _LINK.fullmatch(text)
    if match is None:
        raise PerturbationError(f"the perturbation {text!r} cannot be read; write {_examples()}")
    name, inside = match.groups()
    known = {cls.name: cls for cls in BUILT_IN}
    if name not in known:
        blends = f"; blend(amount=0..0.3, target={name}) blends with it" if name in Blend.words else ""
        raise PerturbationError(f"there is no perturbation named {name!r}{meant(name, known)}{blends}")
    settings = {setting.name: setting for setting in known[name].settings}
    low_high: list[float] = []
    values: dict[str, Any] = {}
    for key, value in _pairs(name, inside, settings).items():
        read = _value(f"{name} {key}", settings[key], value)
        if settings[key].kind == "amount":
            low_high = list(read) if isinstance(read, tuple) else [read]
        else:
            values[key] = read
            if settings[key].kind == "array" and not isinstance(read, str):
                values["source"] = _unquoted(value)
    _complete(name, settings, low_high, values)
    return known[name](*low_high, **values)


def _pairs(name: str, inside: str, settings: dict[str, Setting]) -> dict[str, str]:
    """The text of each key, all known and none given twice."""
    pairs: dict[str, str] = {}
    for part in _split(inside, ",") if inside.strip() else []:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value:
            raise PerturbationError(
                f"{part.strip()!r} in {name} is not of the form key=value; {_keyed(settings, part, inside)}"
            )
        if key not in settings:
            raise PerturbationError(f"{name} has no setting {key!r}; allowed: {', '.join(settings)}")
        if key in pairs:
            raise PerturbationError(f"{name} names {key} twice, {pairs[key]} and {value}; give it once")
        pairs[key] = value
    return pairs


def _keyed(settings: dict[str, Setting], part: str, inside: str) -> str:
    """What to write instead of a part of a link without a key."""
    if _DECIMAL_COMMA.search(inside):
        return "write numbers with a point, such as 0.3: a comma ends a setting"
    first = next(iter(settings))
    if _RANGE.fullmatch(part.strip()) or _PLAIN.fullmatch(part.strip()):
        return f"name what it is, such as {first}={part.strip()}"
    return f"its settings: {', '.join(settings)}"


def _complete(name: str, settings: dict[str, Setting], low_high: list[float], values: dict[str, Any]) -> None:
    """Refuse a specification that lacks what the perturbation cannot be without."""
    needed = {"top", "left", "array", "target", "distance"} & set(settings)
    missing = [key for key in settings if key in needed and key not in values]
    amount = next((key for key, setting in settings.items() if setting.kind == "amount"), None)
    if amount is not None and not low_high:
        missing.insert(0, amount)
    if missing:
        raise PerturbationError(f"{name} lacks {' and '.join(missing)}; its settings: {', '.join(settings)}")


def _value(where: str, setting: Setting, text: str) -> Any:
    kind = setting.kind
    if kind != "array":
        text = text.replace(_MINUS_SIGN, "-")
    if kind in ("amount", "range") and (match := _RANGE.fullmatch(text)):
        return float(match[1]), float(match[2])
    if kind in ("amount", "range", "number", "channels") and _PLAIN.fullmatch(text):
        return float(text)
    if kind == "channels" and text.startswith("(") and text.endswith(")"):
        numbers = [part.strip() for part in text[1:-1].split(",")]
        if all(_PLAIN.fullmatch(one) for one in numbers):
            return tuple(float(one) for one in numbers)
    if kind == "whole" and _WHOLE.fullmatch(text):
        return int(text)
    if kind == "flag" and text in ("true", "false"):
        return text == "true"
    if text in setting.words:
        return text
    if kind == "array":
        return _array(where, _unquoted(text), setting.words)
    expected = ", ".join(setting.words) or _EXPECTED[kind]
    raise PerturbationError(f"{where} is {text!r}; allowed: {expected}")


def _array(where: str, name: str, words: Sequence[str]) -> np.ndarray:
    """The array of a file, (C, H, W) or (H, W): .npy as it is, .png in [0, 1]."""
    path = Path(name)
    allowed = ", ".join([*words, _EXPECTED["array"]])
    if path.suffix.lower() not in (".npy", ".png"):
        raise PerturbationError(f"{where} is {name!r}; allowed: {allowed}")
    if not path.is_file():
        raise PerturbationError(f"{where} names the file {name!r}, which does not exist; allowed: {allowed}")
    try:
        return _npy(path) if path.suffix.lower() == ".npy" else _png(path)
    except (OSError, ValueError, EOFError, SyntaxError) as problem:
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise PerturbationError(
            f"{where} names the file {name!r}, which cannot be read: {reason}"
        ) from problem


def _npy(path: Path) -> np.ndarray:
    # Mapped first: a header that claims more than the file holds, or too much, costs no memory.
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    _limited(mapped.size)
    return np.array(mapped)


def _png(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path, formats=("PNG",)) as picture:
        _limited(picture.width * picture.height * 3)
        grey = picture.mode in ("1", "L")
        pixels = np.asarray(picture.convert("L" if grey else "RGB"), dtype=np.float64) / 255
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


def _limited(values: int) -> None:
    if values > _MOST_VALUES:
        raise ValueError(f"it holds {values} values, more than {_MOST_VALUES}")


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _shown(value: Constant) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"({', '.join(_shown(one) for one in value)})"
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, str) and re.search(r"[,|()]|^\s|\s$", value):
        return f'"{value}"'
    return str(value)


def _examples() -> str:
    return "a name and its settings, such as brightness(amount=-0.3..0.3) or translate(dx=-2..2, dy=0)"
