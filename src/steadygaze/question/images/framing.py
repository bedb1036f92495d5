"""Size and cut of an image: resized first, then cropped, as torchvision's usual transforms do.

Values are resampled by Pillow, channel by channel: 8-bit ones in 8 bits, which is what Pillow does to a whole
picture, others in single precision.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steadygaze.errors import ImageError, SettingError
from steadygaze.question.images.files import LARGEST_IMAGE
from steadygaze.question.images.records import Pixels

RESAMPLINGS = ("bilinear", "bicubic", "nearest", "lanczos")


@dataclass(frozen=True)
class Framing:
    """What is done to stored pixels before the network sees them.

    resize: the shorter edge, as ``(256,)``, or ``(height, width)``; crop: ``(height, width)`` of the centre,
    ``(edge,)`` for a square one, or ``(left, top, width, height)``; all in pixels. resampling: one of
    RESAMPLINGS, as Pillow names them. background: what shows through where a picture is transparent, grey or
    one value for each channel, in [0, 1]. Raises SettingError.
    """

    resize: tuple[int, ...] | None = None
    crop: tuple[int, ...] | None = None
    resampling: str = "bilinear"
    background: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        _check("resize", self.resize, (1, 2), "one edge such as 256 or HxW such as 224x224", 0)
        _check("crop", self.crop, (1, 2, 4), "HxW such as 224x224 or left,top,width,height", 2)
        if self.resampling not in RESAMPLINGS:
            raise SettingError(f"the resampling is {self.resampling!r}; allowed: {', '.join(RESAMPLINGS)}")
        if len(self.background) not in (1, 3) or not all(0 <= value <= 1 for value in self.background):
            raise SettingError(
                f"the background is {self.background}; it must be one number within 0 and 1, or three for "
                "red, green and blue, such as 1 for white"
            )

    @property
    def keeps_size(self) -> bool:
        """Whether neither size nor cut is asked for."""
        return self.resize is None and self.crop is None

    def applied(self, pixels: Pixels, name: str) -> Pixels:
        """The pixels in the size and cut that are asked for.

        Raises ImageError where the cut leaves the image, or what is left is too large. name: for errors.
        """
        pixels = self._cropped(self._resized(pixels, name), name)
        if pixels.values.size > LARGEST_IMAGE:
            channels, height, width = pixels.values.shape
            raise ImageError(
                f"{name} is {_size(height, width)} and has {channels} channels, more than "
                f"the {LARGEST_IMAGE:,} values that an image may have: make "
                "it smaller, for example with --resize 224x224."
            )
        return pixels

    def _resized(self, pixels: Pixels, name: str) -> Pixels:
        channels, height, width = pixels.values.shape
        if self.resize is None or _target(self.resize, height, width) == (height, width):
            return pixels
        new_height, new_width = _target(self.resize, height, width)
        if channels * new_height * new_width > LARGEST_IMAGE:
            raise ImageError(
                f"{name} would be {_size(new_height, new_width)} after --resize, more than "
                f"the {LARGEST_IMAGE:,} values that an image may have: choose a smaller size."
            )
        values = _resampled(pixels.values, new_height, new_width, self.resampling)
        how = f"resized from {_size(height, width)} to {_size(new_height, new_width)}, {self.resampling}"
        if values.dtype != np.uint8:
            how += " in single precision"
            if values.min() < 0 or values.max() > 1:
                values, how = values.clip(0, 1), f"{how}, cut to [0, 1]"
        return pixels.converted(values, how)

    def _cropped(self, pixels: Pixels, name: str) -> Pixels:
        if self.crop is None:
            return pixels
        _, height, width = pixels.values.shape
        if len(self.crop) == 4:
            left, top, new_width, new_height = self.crop
            where = f"from column {left}, row {top}"
        else:
            new_height, new_width = self.crop if len(self.crop) == 2 else self.crop * 2
            # As torchvision's center_crop rounds: halves to the even number.
            top, left = round((height - new_height) / 2), round((width - new_width) / 2)
            where = "from the centre"
        if (top, left, new_height, new_width) == (0, 0, height, width):
            return pixels
        if min(top, left) < 0 or top + new_height > height or left + new_width > width:
            raise ImageError(
                f"{name} is {_size(height, width)}; a crop of {_size(new_height, new_width)} {where} does "
                "not lie inside: crop less, or make the image larger with --resize."
            )
        values = pixels.values[:, top : top + new_height, left : left + new_width]
        how = f"cropped from {_size(height, width)} to {_size(new_height, new_width)} {where}"
        return pixels.converted(values, how)


def framing_of(
    resize: Any = None, crop: Any = None, resampling: str = "bilinear", background: Any = 1.0
) -> Framing:
    """A framing from what a user hands in: 256, "224x224", (224, 224), or None. Raises SettingError."""
    return Framing(
        None if resize is None else sizes("resize", resize),
        None if crop is None else sizes("crop", crop),
        resampling,
        _shades(background),
    )


def sizes(option: str, value: Any) -> tuple[int, ...]:
    """Whole numbers: one, several, or text such as ``224x224`` and ``0,0,224,224``. Raises SettingError."""
    parts = re.split("[x,]", value) if isinstance(value, str) else value
    parts = parts if isinstance(parts, Sequence) else [parts]
    try:
        if any(isinstance(part, bool | float) for part in parts):
            raise TypeError("no whole number")
        return tuple(int(part) for part in parts)
    except (TypeError, ValueError):
        raise SettingError(
            f"{option} is {value!r}; it must be whole numbers of pixels, such as 224x224 (height x width)"
        ) from None


def _shades(value: Any) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in (value if isinstance(value, Sequence) else [value]))
    except (TypeError, ValueError):
        raise SettingError(
            f"the background is {value!r}; it must be one number, or three for red, green and blue"
        ) from None


def _check(option: str, value: tuple[int, ...] | None, counts: tuple[int, ...], form: str, free: int) -> None:
    """Of four numbers the first `free` may be 0."""
    if value is None:
        return
    free = free if len(value) == 4 else 0
    if len(value) not in counts or min(value) < 0 or min(value[free:]) < 1 or max(value) > LARGEST_IMAGE:
        raise SettingError(f"{option} is {'x'.join(map(str, value))}; it must be {form}, in pixels")


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
