"""Images in the size and cut that are asked for: resized first, then cropped, as torchvision's transforms.

Values are resampled by Pillow, channel by channel: 8-bit ones in 8 bits, which is what Pillow does to a whole
picture, others in single precision.
"""

from __future__ import annotations

import numpy as np

from steadygaze.errors import ImageError
from steadygaze.question.framing import Framing
from steadygaze.question.images.files import LARGEST_IMAGE
from steadygaze.question.images.records import Pixels


def framed(pixels: Pixels, framing: Framing, name: str) -> Pixels:
    """The pixels in the size and cut that are asked for.

    Raises ImageError where the cut leaves the image, or what is left is too large. name: for errors.
    """
    pixels = _cropped(_resized(pixels, framing, name), framing.crop, name)
    if pixels.values.size > LARGEST_IMAGE:
        channels, height, width = pixels.values.shape
        raise ImageError(
            f"{name} is {_size(height, width)} and has {channels} channels, more than the {LARGEST_IMAGE:,} "
            "values that an image may have: make it smaller, for example with --resize 224x224."
        )
    return pixels


def _resized(pixels: Pixels, framing: Framing, name: str) -> Pixels:
    channels, height, width = pixels.values.shape
    if framing.resize is None or _target(framing.resize, height, width) == (height, width):
        return pixels
    new_height, new_width = _target(framing.resize, height, width)
    if channels * new_height * new_width > LARGEST_IMAGE:
        raise ImageError(
            f"{name} would be {_size(new_height, new_width)} after --resize, more than the {LARGEST_IMAGE:,} "
            "values that an image may have: choose a smaller size."
        )
    values = _resampled(pixels.values, new_height, new_width, framing.resampling)
    how = f"resized from {_size(height, width)} to {_size(new_height, new_width)}, {framing.resampling}"
    if values.dtype != np.uint8:
        how += " in single precision"
        if values.min() < 0 or values.max() > 1:
            values, how = values.clip(0, 1), f"{how}, cut to [0, 1]"
    return pixels.converted(values, how)


def _cropped(pixels: Pixels, crop: tuple[int, ...] | None, name: str) -> Pixels:
    if crop is None:
        return pixels
    _, height, width = pixels.values.shape
    if len(crop) == 4:
        left, top, new_width, new_height = crop
        where = f"from column {left}, row {top}"
    else:
        new_height, new_width = crop if len(crop) == 2 else crop * 2
        # As torchvision's center_crop rounds: halves to the even number.
        top, left = round((height - new_height) / 2), round((width - new_width) / 2)
        where = "from the centre"
    if (top, left, new_height, new_width) == (0, 0, height, width):
        return pixels
    if min(top, left) < 0 or top + new_height > height or left + new_width > width:
        raise ImageError(
            f"{name} is {_size(height, width)}; a crop of {_size(new_height, new_width)} {where} does not "
            "lie inside: crop less, or make the image larger with --resize."
        )
    values = pixels.values[:, top : top + new_height, left : left + new_width]
    return pixels.converted(
        values, f"cropped from {_size(height, width)} to {_size(new_height, new_width)} {where}"
    )


def _size(height: int, width: int) -> str:
    return f"{height} high, {width} wide"


def _target(resize: tuple[int, ...], height: int, width: int) -> tuple[int, int]:
    """Height and width; of a shorter edge as torchvision works the longer one out."""
    if len(resize) == 2:
        return resize[0], resize[1]
    (edge,) = resize
    longer = int(edge * max(height, width) / min(height, width))
    return (edge, longer) if height <= width else (longer, edge)


def _resampled(values: np.ndarray, height: int, width: int, resampling: str) -> np.ndarray:
    """(C, H, W) in another size: uint8 stays so, all else is float64 that went through single precision."""
    from PIL import Image  # only what is resized, or a picture, needs it

    method = Image.Resampling[resampling.upper()]
    dtype = np.uint8 if values.dtype == np.uint8 else np.float32
    channels = [
        np.asarray(Image.fromarray(np.ascontiguousarray(channel, dtype)).resize((width, height), method))
        for channel in values
    ]
    out = np.stack(channels)
    return out if dtype == np.uint8 else out.astype(np.float64)
