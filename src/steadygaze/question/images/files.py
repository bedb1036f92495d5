"""Reading files that may be damaged, or claim more than they hold: each trouble becomes one sentence."""

from __future__ import annotations

import gzip
import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from steadygaze.errors import ImageError

LARGEST_IMAGE = 2**24
"""Most values of one image: far beyond any network that can be verified, far below what memory holds."""

LARGEST_SET = 2**24
"""Most images of a set that is listed."""

_CHUNK = 2**20

Stream = IO[bytes] | gzip.GzipFile


def path_of(text: str) -> Path:
    """The path, a leading ~ read as the shell would."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # ~somebody, who has no home here
        return Path(text)


def is_file(path: Path) -> bool:
    """Whether there is such a file, as far as one may look."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a folder that may not be entered, a name too long or with a null byte
        return False


def is_folder(path: Path) -> bool:
    """Whether there is such a folder, as far as one may look."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns what the readers of damaged files raise into one sentence."""
    try:
        yield
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        reason = str(error) or type(error).__name__
        raise ImageError(f"{path} cannot be read ({reason}): it may be damaged; fetch it again.") from error


def exactly(stream: Stream, count: int, path: Path) -> bytes:
    """That many bytes. Raises ImageError where the file ends before."""
    content = stream.read(count)
    if len(content) != count:
        raise ImageError(f"{path} ends too early: its header claims more than it holds; fetch it again.")
    return content


def skip(stream: Stream, count: int, path: Path) -> None:
    """Leaves bytes unread, a little at a time: a compressed stream cannot jump."""
    while count > 0:
        exactly(stream, min(count, _CHUNK), path)
        count -= _CHUNK


def check_index(index: int, count: int, path: Path) -> None:
    """Raises ImageError where a set that holds `count` images has none of that number."""
    if index >= count:
        raise no_such_index(index, count, path)


def no_such_index(index: int, count: int, path: Path) -> ImageError:
    """What is wrong with the number of an image beyond the last."""
    return ImageError(
        f"There is no image {index} in {path}: it holds {count}, numbered from 0; choose another."
    )


def check_count(count: int, path: Path) -> None:
    """Of the images of a set that are to be listed. Raises ImageError where there are none, or too many."""
    if not 0 < count <= LARGEST_SET:
        raise ImageError(
            f"{path} holds {count:,} images by its header; a set is listed with at least one and at most "
            f"{LARGEST_SET:,}: name the images that you mean by their numbers, or mend the file."
        )


def check_size(shape: tuple[int, ...], path: Path) -> None:
    """Of one image, before memory is taken. Raises ImageError where it is empty or too large."""
    if not 0 < math.prod(shape) <= LARGEST_IMAGE:
        raise ImageError(
            f"The images of {path} are of shape {shape} by its header; an image must have at least one value "
            f"and at most {LARGEST_IMAGE:,}: crop or shrink it, or mend the file."
        )
