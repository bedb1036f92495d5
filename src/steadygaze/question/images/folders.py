"""Folders of pictures, with a subfolder for each class."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path, PurePath
from typing import ClassVar, final

from steadygaze.errors import ImageError
from steadygaze.question.images.classes import Classes, classes_of
from steadygaze.question.images.files import LARGEST_SET, check_index, is_file, is_folder, path_of, readable
from steadygaze.question.images.records import Labelled
from steadygaze.question.images.sets import AbstractImageSet, Entry
from steadygaze.question.images.single import ENDINGS, is_image_name, read_file

_PARTS = {"dev", "test", "testing", "train", "training", "val", "valid", "validation"}


@final
class ClassFolder(AbstractImageSet):
    """``folder:FOLDER``: pictures and .npy files in subfolders that are the classes, or in the folder alone.

    Entries go by number, in sorted order, or by their path in the folder. What starts with a dot is passed
    over, and so is what is no picture by its ending.
    """

    kind: ClassVar[str] = "folder"
    keys: ClassVar[tuple[str, ...]] = ("classes",)
    names_files: ClassVar[bool] = True

    def entries(self) -> list[Entry]:
        """Named by their paths in the folder. Raises ImageError."""
        return [self._entry(number, path) for number, path in enumerate(self._paths())]

    def image(self, key: str) -> Labelled:
        """By its number or its path. Raises ImageError."""
        index = None
        if key.isascii() and key.isdigit():
            paths, index = self._paths(), int(key)
            check_index(index, len(paths), self._folder)
            name = paths[index]
        else:
            name = PurePath(key)
        path = self._folder / name
        if ".." in name.parts or not is_file(path):
            raise ImageError(f"There is no file {key!r} in the folder {str(self._folder)!r}: check the name.")
        class_name = _class_of(name)
        label = None if class_name is None else self._classes.of(class_name)
        return Labelled(read_file(path, self.background), label, class_name, index)

    @property
    def _folder(self) -> Path:
        return path_of(self.where)

    @cached_property
    def _subfolders(self) -> list[str]:
        if not is_folder(self._folder):
            raise ImageError(f"There is no folder {str(self._folder)!r}: check the path.")
        with readable(self._folder):
            found = sorted(
                one.name for one in self._folder.iterdir() if one.is_dir() and not one.name.startswith(".")
            )
        parts = [name for name in found if name.lower() in _PARTS]
        if parts and len(parts) == len(found) and "classes" not in self.settings:
            raise ImageError(
                f"The subfolders of {str(self._folder)!r} ({', '.join(parts)}) look like parts of a data set "
                f"rather than classes: name one of them, such as folder:{self._folder / parts[0]}, or the "
                "classes with classes=."
            )
        return found

    @cached_property
    def _classes(self) -> Classes:
        return classes_of(self.settings.get("classes"), self._subfolders, f"the folder {str(self._folder)!r}")

    def _entry(self, number: int, path: PurePath) -> Entry:
        class_name, name = _class_of(path), path.as_posix()
        label = None if class_name is None else self._classes.of(class_name)
        # A path stays right where files are added; one that a reference could not hold goes by its number.
        return Entry(str(number) if ":" in name or "\\" in name else name, name, label)

    def _paths(self) -> list[PurePath]:
        """Of all pictures, within the folder, in order."""
        subfolders = self._subfolders
        with readable(self._folder):
            apart = sorted(one.name for one in self._folder.iterdir() if one.is_file() and _counts(one.name))
        found = [PurePath(name) for name in apart]
        for subfolder in subfolders:
            found += self._inside(subfolder)
        if apart and len(found) > len(apart):
            raise ImageError(
                f"The folder {str(self._folder)!r} holds pictures ({apart[0]}, for one) beside subfolders of "
                "pictures, so that these have no class: move them."
            )
        if not found:
            raise ImageError(
                f"The folder {str(self._folder)!r} holds no pictures: name one with files that end in "
                f"{', '.join(ENDINGS)}, in subfolders that are their classes."
            )
        return found

    def _inside(self, subfolder: str) -> list[PurePath]:
        """At any depth; links to folders are followed at the top alone, as they may lead in circles."""
        found: list[PurePath] = []
        with readable(self._folder / subfolder):
            for place, inner, names in os.walk(self._folder / subfolder, onerror=_raised):
                inner[:] = sorted(name for name in inner if not name.startswith("."))
                below = PurePath(place).relative_to(self._folder)
                found += [below / name for name in sorted(names) if _counts(name)]
        if len(found) > LARGEST_SET:
            raise ImageError(f"The folder {str(self._folder)!r} holds more than {LARGEST_SET:,} pictures.")
        return found


def _class_of(name: PurePath) -> str | None:
    return name.parts[0] if len(name.parts) > 1 else None


def _counts(name: str) -> bool:
    return is_image_name(name) and not name.startswith(".")


def _raised(error: OSError) -> None:
    raise error
