"""Tables of paths and labels, as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, final

from steadygaze.errors import ImageError
from steadygaze.question.images.classes import Classes, classes_of, is_number
from steadygaze.question.images.files import LARGEST_SET, is_file, no_such_index, path_of, readable
from steadygaze.question.images.records import Labelled
from steadygaze.question.images.sets import AbstractImageSet, Entry
from steadygaze.question.images.single import is_image_name, read_file

PATH_NAMES = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img")
LABEL_NAMES = ("label", "class", "target", "category", "class_id", "label_id", "y")
_DELIMITERS = ("\t", ";")  # else a comma


@dataclass(frozen=True)
class _Row:
    """A path as it is written, and a label; `line` counts from 1."""

    path: str
    label: str | None
    line: int


@final
class Table(AbstractImageSet):
    """``csv:FILE``: a path and perhaps a label on each line, with or without a header.

    Paths count from the table's folder. Columns are separated by commas, semicolons or tabs; those of the
    path and the label are found by their names in the header, or named (``path=``, ``label=``); without a
    header they are the first two. Labels are numbers, or names with ``classes=``. Empty lines are passed
    over.
    """

    kind: ClassVar[str] = "csv"
    keys: ClassVar[tuple[str, ...]] = ("path", "label", "classes")

    def entries(self) -> list[Entry]:
        """Named by their paths as written, numbered where a path comes twice. Raises ImageError."""
        rows = list(self._rows())
        if not rows:
            raise ImageError(f"{self._file} holds no images: write a path and a label on each line.")
        seen: dict[str, int] = {}
        entries = []
        for number, row in enumerate(rows):
            seen[row.path] = seen.get(row.path, 0) + 1
            name = row.path if seen[row.path] == 1 else f"{row.path} ({seen[row.path]})"
            entries.append(Entry(str(number), name, self._label(row)[0]))
        return entries

    def image(self, key: str) -> Labelled:
        """By its number. Raises ImageError."""
        index, count = int(key), 0
        for row in self._rows():
            if count == index:
                label, name = self._label(row)
                path = self._file.parent / path_of(row.path)
                if not is_file(path):
                    raise ImageError(
                        f"There is no image file {str(path)!r}, which line {row.line} of {self._file} names: "
                        "paths count from the folder of the table."
                    )
                return Labelled(read_file(path, self.background), label, name, index)
            count += 1
        raise no_such_index(index, count, self._file)

    @property
    def _file(self) -> Path:
        return path_of(self.where)

    def _rows(self) -> Iterator[_Row]:
        path = self._file
        if not is_file(path):
            raise ImageError(f"There is no table {str(path)!r}: check the path.")
        try:
            with readable(path), path.open(encoding="utf-8-sig", newline="") as stream:
                delimiter = next((mark for mark in _DELIMITERS if mark in stream.readline()), ",")
        except UnicodeDecodeError as error:
            raise ImageError(f"{path} is no text in UTF-8 ({error.reason}): save it as such.") from error
        yield from self._parsed(delimiter)

    def _parsed(self, delimiter: str) -> Iterator[_Row]:
        path, places = self._file, None
        try:
            with readable(path), path.open(encoding="utf-8-sig", newline="") as stream:
                reader = csv.reader(stream, delimiter=delimiter, strict=True)
                for number, fields in enumerate(reader):
                    if number > LARGEST_SET:
                        raise ImageError(f"{path} has more than {LARGEST_SET:,} lines: split it.")
                    if not any(field.strip() for field in fields):
                        continue
                    if places is None:
                        places, is_header = self._columns([field.strip() for field in fields])
                        if is_header:
                            continue
                    yield self._row(fields, places, reader.line_num)
        except (UnicodeDecodeError, csv.Error) as error:
            raise ImageError(f"{path} is no CSV in UTF-8 ({error}): save it as such.") from error

    def _row(self, fields: list[str], places: tuple[int, int | None], line: int) -> _Row:
        place, label = places
        if len(fields) <= max(place, label or 0) or not fields[place].strip():
            raise ImageError(f"Line {line} of {self._file} lacks a path or a label: complete or remove it.")
        return _Row(fields[place].strip(), None if label is None else fields[label].strip(), line)

    def _columns(self, first: list[str]) -> tuple[tuple[int, int | None], bool]:
        """Where path and label stand, by the first line, and whether that is a header."""
        lower = [name.lower() for name in first]
        wanted = {key: self.settings[key] for key in ("path", "label") if key in self.settings}
        missing = [name for name in wanted.values() if name not in first]
        if missing:
            raise ImageError(
                f"{self._file} has no column {missing[0]!r}; its first line has {', '.join(first)}: name "
                "one of these."
            )
        found = {
            "path": [place for place, name in enumerate(lower) if name in PATH_NAMES],
            "label": [place for place, name in enumerate(lower) if name in LABEL_NAMES],
        }
        if not wanted and (is_image_name(first[0]) or is_file(self._file.parent / path_of(first[0]))):
            return (0, 1 if len(first) > 1 else None), False
        places = found | {key: [first.index(name)] for key, name in wanted.items()}
        _settle_pair(places, len(first))
        for key, several in places.items():
            if len(several) > 1 or (key == "path" and not several):
                raise ImageError(
                    f"The {key} column of {self._file} is not clear from its first line ({', '.join(first)})"
                    f": name it, as in csv:{self.where}:path=NAME:label=NAME."
                )
        return (places["path"][0], places["label"][0] if places["label"] else None), True

    def _label(self, row: _Row) -> tuple[int | None, str | None]:
        """The number of the class, and its name where it has one."""
        if row.label is None or row.label == "":
            return None, None
        if "classes" in self.settings:
            return self._classes.of(row.label), row.label
        if not is_number(row.label):
            raise ImageError(
                f"The label on line {row.line} of {self._file} is {row.label!r}, which is no class number: "
                f"say what names stand for, as in csv:{self.where}:classes=FILE, or classes=sorted for their "
                "sorted order."
            )
        return int(row.label), None

    @cached_property
    def _classes(self) -> Classes:
        setting = self.settings["classes"]
        names = {row.label for row in self._rows() if row.label} if setting == "sorted" else set[str]()
        return classes_of(setting, names, str(self._file))


def _settle_pair(places: dict[str, list[int]], count: int) -> None:
    """Of one column it is the path, and of two the second is what the first is not."""
    if count == 1:
        places["path"] = [0]
    for key, other in (("path", "label"), ("label", "path")):
        if count == 2 and not places[key] and len(places[other]) == 1:
            places[key] = [1 - places[other][0]]
