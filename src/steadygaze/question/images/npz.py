"""Archives of arrays, as ``numpy.savez`` writes them: ``images`` and perhaps ``labels``."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar, final

import numpy as np

from steadygaze.errors import ImageError
from steadygaze.question.images.arrays import CHANNEL_COUNTS, ArrayHeader, array_header, checked, entry_of
from steadygaze.question.images.files import Stream, check_count, exactly, is_file, path_of, readable
from steadygaze.question.images.records import Labelled, Pixels
from steadygaze.question.images.sets import AbstractImageSet, Entry


@final
class NpzArchive(AbstractImageSet):
    """``npz:FILE``: `images` (N, H, W) or (N, H, W, C) with C of 1 or 3, perhaps `labels` (N,).

    Of the archive only the bytes up to the image asked for are read.
    """

    kind: ClassVar[str] = "npz"

    def entries(self) -> list[Entry]:
        """Named after the file, ``test:17``. Raises ImageError."""
        with self._opened() as archive:
            with archive.open("images.npy") as stream:
                count = self._header(stream).shape[0]
            check_count(count, self._path)
            labels = self._labels(archive, count)
        name = self._path.stem
        return [
            Entry(str(index), f"{name}:{index}", None if labels is None else int(labels[index]))
            for index in range(count)
        ]

    def image(self, key: str) -> Labelled:
        """By its number. Raises ImageError."""
        index, path = int(key), self._path
        with self._opened() as archive:
            with self._kept("images", partial(archive.open, "images.npy")) as stream:
                header = self._header(stream)
                pixels = entry_of(stream, header, index, path)
            label = self._label(archive, header.shape[0], index)
        values = np.moveaxis(pixels if len(header.shape) == 4 else pixels[..., None], -1, 0)
        return Labelled(Pixels(checked(values, f"image {index} of {path}")), label, index=index)

    @property
    def _path(self) -> Path:
        return path_of(self.where)

    @contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        path = self._path
        if not is_file(path):
            raise ImageError(f"There is no npz file {str(path)!r}: check the path.")
        with readable(path), zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            if "images.npy" not in members:
                keys = ", ".join(name.removesuffix(".npy") for name in members[:8]) or "nothing"
                raise ImageError(
                    f"{path} has no key 'images' (it has {keys}): save images=... and labels=... in it."
                )
            yield archive

    def _header(self, stream: Stream) -> ArrayHeader:
        """Of the images."""
        header = array_header(stream, self._path)
        layout = header.shape[1:]
        if len(layout) != 2 and not (len(layout) == 3 and layout[-1] in CHANNEL_COUNTS):
            raise ImageError(
                f"The images of {self._path} are of shape {header.shape}; it must be (N, H, W) or (N, H, W, "
                "C) with C of 1 or 3: move the axes with numpy.moveaxis."
            )
        return header

    def _label(self, archive: zipfile.ZipFile, images: int, index: int) -> int | None:
        """The label of one of that many images, None where the archive has none."""
        if "labels.npy" not in archive.namelist():
            return None
        with self._kept("labels", partial(archive.open, "labels.npy")) as stream:
            return int(entry_of(stream, self._labels_header(stream, images), index, self._path))

    def _labels(self, archive: zipfile.ZipFile, images: int) -> np.ndarray | None:
        """All labels."""
        if "labels.npy" not in archive.namelist():
            return None
        with archive.open("labels.npy") as stream:
            header = self._labels_header(stream, images)
            content = exactly(stream, images * header.dtype.itemsize, self._path)
        return np.frombuffer(content, header.dtype)

    def _labels_header(self, stream: Stream, images: int) -> ArrayHeader:
        header = array_header(stream, self._path)
        if header.shape != (images,) or header.dtype.kind not in "ui":
            raise ImageError(
                f"The labels of {self._path} are {header.dtype} of shape {header.shape}; they must be "
                f"integers of shape ({images},), one for each image: save them anew."
            )
        return header
