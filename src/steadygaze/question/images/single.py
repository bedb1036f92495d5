"""An image in a file of its own: a picture, or an array in an ``.npy`` file."""

from __future__ import annotations

from pathlib import Path

from steadygaze.question.images.arrays import array_of_file, as_pixels
from steadygaze.question.images.files import readable
from steadygaze.question.images.pictures import SUFFIXES, read_picture
from steadygaze.question.images.records import Pixels

ENDINGS = (*SUFFIXES, ".npy")
"""By which files that may hold an image are told from others, in small letters."""


def is_image_name(name: str) -> bool:
    """Whether a file of that name may hold an image."""
    return Path(name).suffix.lower() in ENDINGS


def read_file(path: Path, background: tuple[float, ...]) -> Pixels:
    """The pixels of the image in that file, a picture's over `background`. Raises ImageError."""
    with readable(path):
        if path.suffix.lower() == ".npy":
            return as_pixels(array_of_file(path), name=f"the image in {path}")
        return read_picture(path, background)
