"""IDX files: a magic number, the sizes as big-endian 32-bit integers, then the bytes.

As MNIST ships them (Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits").
"""

from __future__ import annotations

import gzip
import struct
from functools import partial
from pathlib import Path
from typing import ClassVar, final

import numpy as np

from steadygaze.errors import ImageError
from steadygaze.question.images.files import (
    Stream,
    check_count,
    check_index,
    check_size,
    exactly,
    is_file,
    path_of,
    readable,
    skip,
)
from steadygaze.question.images.records import Labelled, Pixels
from steadygaze.question.images.sets import AbstractImageSet, Entry

_MAGIC = {"images": b"\x00\x00\x08\x03", "labels": b"\x00\x00\x08\x01"}


@final
class IdxPair(AbstractImageSet):
    """``idx:FOLDER``, the files that start with t10k, and ``idx:FOLDER:train``, with their labels if any."""

    kind: ClassVar[str] = "idx"

    def entries(self) -> list[Entry]:
        """Named ``t10k:17``, ``train:17``. Raises ImageError."""
        part, images = self._part, self._images()
        with readable(images), _opened(images) as stream:
            count = _sizes(stream, images, "images")[0]
        check_count(count, images)
        labels = _file(self._folder, part, "labels")
        if labels is None:
            return [Entry(str(index), f"{part}:{index}", None) for index in range(count)]
        with readable(labels), _opened(labels) as stream:
            _check_pair(stream, labels, count)
            known = exactly(stream, count, labels)
        return [Entry(str(index), f"{part}:{index}", label) for index, label in enumerate(known)]

    def image(self, key: str) -> Labelled:
        """By its number. Raises ImageError."""
        index, path = int(key), self._images()
        with readable(path), self._kept(path, partial(_opened, path)) as stream:
            count, height, width = _sizes(stream, path, "images")
            check_size((height, width), path)
            check_index(index, count, path)
            skip(stream, index * height * width, path)
            bytes_ = exactly(stream, height * width, path)
        pixels = Pixels(np.frombuffer(bytes_, np.uint8).reshape(1, height, width))
        path = _file(self._folder, self._part, "labels")
        if path is None:
            return Labelled(pixels, index=index)
        with readable(path), self._kept(path, partial(_opened, path)) as stream:
            _check_pair(stream, path, count)
            skip(stream, index, path)
            return Labelled(pixels, exactly(stream, 1, path)[0], index=index)

    @property
    def _folder(self) -> Path:
        return path_of(self.where.removesuffix(":train"))

    @property
    def _part(self) -> str:
        return "train" if self.where.endswith(":train") else "t10k"

    def _images(self) -> Path:
        path = _file(self._folder, self._part, "images")
        if path is None:
            raise ImageError(
                f"There is no {self._part}-images-idx3-ubyte (or .gz) in the folder {str(self._folder)!r}: "
                "name the folder that holds the IDX files as the data set ships them."
            )
        return path


def _file(folder: Path, part: str, content: str) -> Path | None:
    """The file under either of the names that are in use."""
    dimension = {"images": 3, "labels": 1}[content]
    names = [f"{part}-{content}{mark}idx{dimension}-ubyte{end}" for mark in "-." for end in ("", ".gz")]
    return next((folder / name for name in names if is_file(folder / name)), None)


def _opened(path: Path) -> Stream:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _sizes(stream: Stream, path: Path, content: str) -> tuple[int, ...]:
    """The sizes that the header claims."""
    magic = stream.read(4)
    if magic != _MAGIC[content]:
        raise ImageError(
            f"{path} starts with {magic.hex() or 'nothing'}, not with {_MAGIC[content].hex()} as IDX "
            f"{content} do: it is another file, or compressed without the ending .gz."
        )
    return struct.unpack(f">{magic[3]}I", exactly(stream, 4 * magic[3], path))


def _check_pair(stream: Stream, path: Path, images: int) -> None:
    """The header of the labels, which must be as many as the images."""
    (labels,) = _sizes(stream, path, "labels")
    if labels != images:
        raise ImageError(f"{path} has {labels} labels for {images} images: the two files are no pair.")
