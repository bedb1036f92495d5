"""In which size and cut an image is asked for; `images.resizing` does it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steadygaze.errors import SettingError

RESAMPLINGS = ("bilinear", "bicubic", "nearest", "lanczos")
_LARGEST_EDGE = 2**24


@dataclass(frozen=True)
class Framing:
    """What is done to stored pixels before the network sees them: resized first, then cropped.

    Attributes:
        resize: in pixels, the shorter edge, as `(256,)`, or `(height, width)`; None to keep the size.
        crop: in pixels, `(height, width)` of the centre, `(edge,)` for a square one, or `(left, top, width,
            height)`; None to keep all.
        resampling: `"bilinear"`, `"bicubic"`, `"nearest"` or `"lanczos"`, as Pillow names them.
        background: what shows through where a picture is transparent, grey or one value for each channel,
            in [0, 1].

    Raises:
        SettingError: if sizes are not above 0, or a name or a value is not allowed.
    """

    resize: tuple[int, ...] | None = None
    crop: tuple[int, ...] | None = None
    resampling: str = "bilinear"
    background: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        _check("resize", self.resize, (1, 2), "one edge such as 256 or HxW such as 224x224")
        _check("crop", self.crop, (1, 2, 4), "HxW such as 224x224 or left,top,width,height")
        if self.resampling not in RESAMPLINGS:
            raise SettingError(
                f"the resampling is {self.resampling!r}; choose one of {', '.join(RESAMPLINGS)}"
            )
        if len(self.background) not in (1, 3) or not all(0 <= value <= 1 for value in self.background):
            raise SettingError(
                f"the background is {self.background}; it must be one number within 0 and 1, or three for "
                "red, green and blue, such as 1 for white"
            )


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


def _check(option: str, value: tuple[int, ...] | None, counts: tuple[int, ...], form: str) -> None:
    """Sizes are at least 1, the place of a cut at least 0."""
    if value is None:
        return
    place, size = (value[:2], value[2:]) if len(value) == 4 else ((), value)
    if len(value) not in counts or min(place, default=0) < 0 or min(size) < 1 or max(value) > _LARGEST_EDGE:
        raise SettingError(f"{option} is {'x'.join(map(str, value))}; it must be {form}, in pixels")
