"""Arrays as images: of NumPy, of torch, and in ``.npy`` files.

Values are uint8, divided by 255, or floating point in [0, 1].
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from steadygaze.errors import ImageError
from steadygaze.question.images.files import LARGEST_IMAGE, Stream, check_index, check_size, exactly, skip
from steadygaze.question.images.records import Pixels

CHANNEL_COUNTS = (1, 3)
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def as_image(array: Any, *, name: str = "the image") -> np.ndarray:
    """A NumPy array, a torch tensor or anything NumPy takes as an image: float64 (C, H, W) in [0, 1], a copy.

    (H, W) is one channel. Three axes are (C, H, W), unless the last is 1 or 3 and the first is neither: then
    (H, W, C). uint8 is divided by 255; floating point must lie in [0, 1]. Raises ImageError.
    """
    return scaled(as_pixels(array, name=name).values)


def as_pixels(array: Any, *, name: str = "the image") -> Pixels:
    """The same with uint8 left as it is. Raises ImageError."""
    values = _from_user(array)
    if values.ndim not in (2, 3):
        hint = ": drop the batch axis, image[0]" if values.ndim == 4 and len(values) == 1 else ""
        raise ImageError(
            f"The shape of {name} is {values.shape}; it must be (H, W), (C, H, W) or (H, W, C){hint}."
        )
    if not 0 < values.size <= LARGEST_IMAGE:
        raise ImageError(
            f"The shape of {name} is {values.shape}, {values.size} values; "
            f"it must have at least one and at most {LARGEST_IMAGE:,}: crop or shrink it."
        )
    if values.ndim == 2:
        values = values[None]
    elif values.shape[-1] in CHANNEL_COUNTS and values.shape[0] not in CHANNEL_COUNTS:
        values = np.moveaxis(values, -1, 0)
    return Pixels(checked(values, name))


def scaled(values: np.ndarray) -> np.ndarray:
    """float64 in [0, 1], contiguous, a copy, of values that were checked."""
    return np.ascontiguousarray(values) / 255 if values.dtype == np.uint8 else np.array(values, order="C")


def checked(values: np.ndarray, name: str) -> np.ndarray:
    """uint8 as it is, floating point in [0, 1] as float64. Raises ImageError for anything else."""
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind != "f":
        # A cast to uint8 would wrap the numbers of 16 bits around.
        white = {"bool": 1, "uint16": 65535}.get(values.dtype.name, 255)
        raise ImageError(
            f"The values of {name} are of type {values.dtype}; they must be uint8 (0 to 255) or floating "
            f"point (0 to 1): divide them by what white is, such as image / {white}."
        )
    image = np.array(values, dtype=np.float64, order="C")
    if not np.isfinite(image).all():
        raise ImageError(
            f"The values of {name} include NaN or infinity; they must lie in [0, 1]: mend the data."
        )
    if image.min() < 0 or image.max() > 1:
        raise ImageError(
            f"The values of {name} reach from {image.min():g} to {image.max():g}; they must lie in [0, 1]: "
            "scale them, and give a network's own normalisation as mean and std."
        )
    return image


def _from_user(array: Any) -> np.ndarray:
    """As NumPy sees it; torch is looked at only where the caller has imported it already."""
    torch = sys.modules.get("torch")
    try:
        if torch is not None and isinstance(array, torch.Tensor):
            plain = array.detach().cpu()
            return (plain.double() if plain.is_floating_point() else plain).numpy()
        return np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ImageError(
            f"A {type(array).__name__} is no image ({reason}): hand in a NumPy array, or a dense tensor."
        ) from error


# The header of an npy stream is read by NumPy, the data by us, so that no more is taken than one image.


@dataclass(frozen=True)
class ArrayHeader:
    """What an npy stream says of its data, which follow."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype


def array_header(stream: Stream, path: Path) -> ArrayHeader:
    """Raises ImageError unless the data are numbers of a fixed size."""
    try:
        version = np.lib.format.read_magic(stream)
        header = ArrayHeader(*_HEADERS[version](stream))
    except Exception as error:  # NumPy lets through whatever Python's own parser says of a damaged header
        raise ImageError(
            f"{path} is not an array file as NumPy writes it: save it with numpy.save."
        ) from error
    if len(header.shape) > 8 or min(header.shape, default=0) < 0:
        raise ImageError(f"{path} claims the shape {header.shape[:9]}: it may be damaged; fetch it again.")
    if header.dtype.kind not in "uif":
        raise ImageError(
            f"{path} holds values of type {header.dtype}; only numbers are read, never pickled objects: "
            "save it as uint8 or float."
        )
    return header


def array_of_file(path: Path) -> np.ndarray:
    """What an npy file holds. Raises ImageError, and what `files.readable` turns into one."""
    with path.open("rb") as stream:
        header = array_header(stream, path)
        check_size(header.shape, path)
        content = exactly(stream, math.prod(header.shape) * header.dtype.itemsize, path)
    order = "F" if header.fortran_order else "C"
    return np.frombuffer(content, header.dtype).reshape(header.shape, order=order)


def entry_of(stream: Stream, header: ArrayHeader, index: int, path: Path) -> np.ndarray:
    """Entry `index` along the first axis of the array whose header was just read. Raises ImageError."""
    shape = header.shape[1:]
    check_size(shape, path)
    check_index(index, header.shape[0], path)
    if header.fortran_order and shape:
        raise ImageError(f"{path} is stored column by column: save it with numpy.ascontiguousarray.")
    size = math.prod(shape) * header.dtype.itemsize
    skip(stream, index * size, path)
    return np.frombuffer(exactly(stream, size, path), header.dtype).reshape(shape)
