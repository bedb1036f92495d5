"""From the names of classes to their numbers.

Without a word on it the names of folders count in sorted order, as torchvision's ImageFolder has it. Where
the names are numbers and say otherwise, or come from a table, the setting ``classes`` decides: ``sorted``,
``numbers``, names in the order of their numbers (``cat,dog``), or a file of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from steadygaze.errors import ImageError
from steadygaze.question.images.files import is_file, path_of, readable

_FORMS = (
    "classes=sorted, classes=numbers, classes=cat,dog or classes=FILE (one name a line, or JSON: a list of "
    "names, or an object of names and numbers)"
)
_LARGEST_FILE = 2**24


@dataclass(frozen=True)
class Classes:
    """Numbers by name; numbers as names stand for themselves where `numbered`."""

    numbers: Mapping[str, int]
    numbered: bool
    where: str

    def of(self, name: str) -> int:
        """The number of a class. Raises ImageError where it has none."""
        if name in self.numbers:
            return self.numbers[name]
        if self.numbered and is_number(name):
            return int(name)
        known = ", ".join(list(self.numbers)[:8]) or "none"
        raise ImageError(
            f"The class {name!r} of {self.where} has no number (known: {known}): write {_FORMS}."
        )


def is_number(name: str) -> bool:
    """Whether it is written as a whole number from 0."""
    return name.isascii() and name.isdigit() and len(name) < 10


def classes_of(setting: str | None, names: Iterable[str], where: str) -> Classes:
    """The numbers of the classes of these names, in whatever order they come, as `setting` says.

    Raises ImageError where they cannot be told.
    """
    ordered = sorted(set(names))
    counted = {name: number for number, name in enumerate(ordered)}
    numeric = all(map(is_number, ordered))
    if setting is None and numeric and any(int(name) != number for name, number in counted.items()):
        shown = ", ".join([*ordered[:6], *(["..."] if len(ordered) > 6 else [])])
        raise ImageError(
            f"The classes of {where} are named {shown}: as numbers these are other classes than by their "
            "place in sorted order, which torchvision's ImageFolder takes; say which with classes=numbers or "
            "classes=sorted."
        )
    if setting in (None, "sorted"):
        return Classes(counted, False, where)
    if setting == "numbers":
        return Classes({}, True, where)
    path = path_of(setting)
    if is_file(path):
        return Classes(_of_file(setting), False, where)
    if "," not in setting:
        raise ImageError(f"There is no file {setting!r} of the classes of {where}: write {_FORMS}.")
    return Classes(_counted([name.strip() for name in setting.split(",")], setting), False, where)


def _of_file(name: str) -> dict[str, int]:
    path = path_of(name)
    with readable(path):
        if path.stat().st_size > _LARGEST_FILE:
            raise ImageError(f"{name} has more than {_LARGEST_FILE:,} bytes, too much for a list of classes.")
        try:
            text = path.read_text(encoding="utf-8-sig")
            listed: Any = json.loads(text) if path.suffix.lower() == ".json" else text.splitlines()
        except ValueError as error:  # no UTF-8, or no JSON
            raise ImageError(f"{name} is no list of classes ({error}): write {_FORMS}.") from error
    if isinstance(listed, list) and all(isinstance(one, str) for one in listed):
        return _counted([one.strip() for one in listed if one.strip()], name)
    if isinstance(listed, dict) and all(type(number) is int and number >= 0 for number in listed.values()):
        return dict(listed)
    raise ImageError(f"{name} is no list of classes: write {_FORMS}.")


def _counted(names: list[str], where: str) -> dict[str, int]:
    numbers = {name: number for number, name in enumerate(names)}
    if len(numbers) < len(names) or not names:
        raise ImageError(
            f"{where} names {len(names)} classes, {len(numbers)} of them different: name each once."
        )
    return numbers
