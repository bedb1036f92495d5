"""Data sets of the ``datasets`` package (Hugging Face) on this machine: saved ones, and Parquet files.

Only local files are opened, and pictures are decoded by `pictures`, never by that package. It is an optional
dependency, imported when such a source is read.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from steadygaze.errors import ImageError
from steadygaze.question.images.arrays import as_pixels
from steadygaze.question.images.classes import Classes, classes_of
from steadygaze.question.images.files import (
    check_count,
    check_index,
    is_file,
    is_folder,
    no_such_index,
    path_of,
)
from steadygaze.question.images.pictures import decoded, read_picture
from steadygaze.question.images.records import Labelled, Pixels
from steadygaze.question.images.sets import AbstractImageSet, Entry
from steadygaze.question.images.tables import LABEL_NAMES

_IMAGE_NAMES = ("image", "img", "picture", "photo")


@final
class HubSet(AbstractImageSet):
    """``datasets:PATH:split=test:17``.

    PATH is a folder of ``save_to_disk``, a Parquet file, or a folder of Parquet files whose names begin with
    their split (``test-00000-of-00001.parquet``). The column of images and that of labels are found by their
    types, or named: ``image=``, ``label=``. Labels are class numbers, or names with ``classes=``.
    """

    kind: ClassVar[str] = "datasets"
    keys: ClassVar[tuple[str, ...]] = ("split", "image", "label", "classes")

    def entries(self) -> list[Entry]:
        """Named after their split, ``test:17``. Raises ImageError."""
        rows, column = self._rows, self._label_column
        check_count(len(rows), self._path)
        self._image_column()  # what is wrong with it is said before any case runs
        name = self.settings.get("split") or self._path.stem
        labels = [None] * len(rows) if column is None else rows.values(column)
        return [
            Entry(str(number), f"{name}:{number}", self._labelled(label)[0])
            for number, label in enumerate(labels)
        ]

    def image(self, key: str) -> Labelled:
        """By its number. Raises ImageError."""
        index = int(key)
        check_index(index, len(self._rows), self._path)
        pixels = self._pixels(self._rows.value(self._image_column(), index), index)
        column = self._label_column
        label, name = self._labelled(None if column is None else self._rows.value(column, index))
        return Labelled(pixels, label, name, index)

    @property
    def _path(self) -> Path:
        return path_of(self.where)

    @cached_property
    def _rows(self) -> AbstractRows:
        path, split = self._path, self.settings.get("split")
        if is_file(path) and path.suffix.lower() == ".parquet":
            return ParquetRows(path, [path]) if split is None else self._no_such_split(split, [])
        if not is_folder(path):
            raise ImageError(
                f"There is no folder or .parquet file {str(path)!r}: name what save_to_disk "
                "wrote, or Parquet files."
            )
        if is_file(path / "dataset_dict.json") or is_file(path / "state.json"):
            found = _guarded(path, lambda: import_module("datasets").load_from_disk(str(path)))
            parts = dict(found) if is_file(path / "dataset_dict.json") else {str(found.split or ""): found}
            return SavedRows(path, parts[self._part(split, list(parts))])
        files = sorted(path.rglob("*.parquet"))
        if not files:
            raise ImageError(
                f"The folder {str(path)!r} holds neither a saved data set nor Parquet files: name "
                "one that does."
            )
        splits = {one.stem.split("-")[0]: [] for one in files}
        for one in files:
            splits[one.stem.split("-")[0]].append(one)
        return ParquetRows(path, splits[self._part(split, list(splits))])

    def _part(self, split: str | None, known: list[str]) -> str:
        """The split asked for, or the only one."""
        if split is None and len(known) == 1:
            return known[0]
        return split if split in known else self._no_such_split(split, known)

    def _no_such_split(self, split: str | None, known: list[str]) -> Any:
        asked = "needs a split" if split is None else f"has no split {split!r}"
        names = ", ".join(name for name in known if name) or "none"
        raise ImageError(
            f"{self._path} {asked} (it has {names}): name one, as in datasets:{self.where}:split=NAME:17, or "
            "leave it out where there is none."
        )

    def _image_column(self) -> str:
        found = [name for name, feature in self._rows.features.items() if _is_image(feature)]
        named = [name for name in found if name in _IMAGE_NAMES]
        return self._column("image", found if len(found) == 1 else named)

    @cached_property
    def _label_column(self) -> str | None:
        features = self._rows.features
        found = [name for name, feature in features.items() if type(feature).__name__ == "ClassLabel"]
        found = found or [name for name in features if name in LABEL_NAMES]
        return self._column("label", found) if found or "label" in self.settings else None

    def _column(self, key: str, found: list[str]) -> str:
        """The column that is named, or the only one that can be meant."""
        columns = list(self._rows.features)
        named = self.settings.get(key)
        if named in columns:
            return named
        if named is None and len(found) == 1:
            return found[0]
        asked = f"has no column {named!r}" if named else f"does not say by itself which column is the {key}"
        raise ImageError(
            f"{self._path} {asked} (it has {', '.join(columns)}): name it, as in "
            f"datasets:{self.where}:{key}=NAME:17."
        )

    def _labelled(self, label: Any) -> tuple[int | None, str | None]:
        """The number of the class and its name; none for -1, which means that it is withheld."""
        if label is None or label == -1:
            return None, None
        if isinstance(label, str) and "classes" in self.settings:
            return self._classes.of(label), label
        if not isinstance(label, int) or isinstance(label, bool) or label < 0:
            raise ImageError(
                f"A label of {self._path} is {label!r}, which is no class number: for names say what they "
                f"stand for, as in datasets:{self.where}:classes=FILE, or name another column with label=."
            )
        names = getattr(self._rows.features.get(self._label_column or ""), "names", None)
        return label, names[label] if names and label < len(names) else None

    @cached_property
    def _classes(self) -> Classes:
        setting, column = self.settings["classes"], self._label_column
        names = self._rows.values(column) if setting == "sorted" and column is not None else []
        return classes_of(setting, [name for name in names if isinstance(name, str)], str(self._path))

    def _pixels(self, value: Any, index: int) -> Pixels:
        name = f"image {index} of {self._path}"
        feature = self._rows.features[self._image_column()]
        if type(feature).__name__ in ("Array2D", "Array3D") and value is not None:
            return as_pixels(np.asarray(value, feature.dtype), name=name)
        content = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(content, bytes):
            return decoded(io.BytesIO(content), name, self.background)
        place = value.get("path") if isinstance(value, dict) else None
        if place and is_file(path_of(place)):
            return read_picture(path_of(place), self.background)
        raise ImageError(
            f"{name} is not there: column {self._image_column()!r} holds neither a picture nor the path of a "
            "file on this machine: name another with image=."
        )


class AbstractRows(ABC):
    """Columns of values. features: what the ``datasets`` package knows of each. Methods raise ImageError."""

    features: Mapping[str, Any]

    @abstractmethod
    def __len__(self) -> int:
        """How many rows there are."""

    @abstractmethod
    def value(self, column: str, row: int) -> Any:
        """One value; a picture as its bytes, not decoded."""

    @abstractmethod
    def values(self, column: str) -> list[Any]:
        """All values of a column."""


@final
class SavedRows(AbstractRows):
    """A data set of ``save_to_disk``."""

    def __init__(self, path: Path, dataset: Any) -> None:
        plain = import_module("datasets").Image(decode=False)
        self._path, self.features = path, dict(dataset.features)
        dataset = dataset.with_format(None)
        for name, feature in self.features.items():
            if type(feature).__name__ == "Image":
                dataset = dataset.cast_column(name, plain)
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def value(self, column: str, row: int) -> Any:
        """See `AbstractRows`."""
        return _guarded(self._path, lambda: self._dataset.select_columns([column])[row][column])

    def values(self, column: str) -> list[Any]:
        """See `AbstractRows`."""
        return _guarded(self._path, lambda: list(self._dataset.select_columns([column])[:][column]))


@final
class ParquetRows(AbstractRows):
    """One or several Parquet files of the same columns, of which one group of rows is read at a time."""

    def __init__(self, path: Path, files: list[Path]) -> None:
        self._path = path
        self._files = _guarded(
            path, lambda: [import_module("pyarrow.parquet").ParquetFile(one) for one in files]
        )
        schema = self._files[0].schema_arrow
        self.features = _guarded(
            path, lambda: dict(import_module("datasets").Features.from_arrow_schema(schema))
        )

    def __len__(self) -> int:
        return sum(one.metadata.num_rows for one in self._files)

    def value(self, column: str, row: int) -> Any:
        """See `AbstractRows`."""
        before = 0
        for one in self._files:
            for group in range(one.num_row_groups):
                count = one.metadata.row_group(group).num_rows
                if row < before + count:
                    read = _guarded(self._path, lambda f=one, g=group: f.read_row_group(g, columns=[column]))
                    return read.column(0)[row - before].as_py()
                before += count
        raise no_such_index(row, before, self._path)

    def values(self, column: str) -> list[Any]:
        """See `AbstractRows`."""
        parts = _guarded(self._path, lambda: [one.read(columns=[column]) for one in self._files])
        return [value for part in parts for value in part.column(0).to_pylist()]


def _is_image(feature: Any) -> bool:
    """Whether a column may hold images; a record of bytes and a path is how Parquet files have them."""
    if isinstance(feature, dict):
        return {"bytes", "path"} <= set(feature)
    return type(feature).__name__ in ("Image", "Array2D", "Array3D")


def _guarded(path: Path, read: Any) -> Any:
    """What `read` returns; whatever goes wrong in other packages is one sentence."""
    try:
        return read()
    except ModuleNotFoundError as error:
        raise ImageError(
            f"{path} is read by the package datasets, which is not installed: pip install "
            "'steadygaze[datasets]'."
        ) from error
    except Exception as error:  # these packages raise errors of many kinds for damaged files
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ImageError(f"{path} cannot be read ({reason}): it may be damaged; fetch it again.") from error
