"""Grey for networks that want RGB, and the other way round."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from steadygaze.question.images.records import LoadedImage

# Luma of ITU-R BT.601; for 8 bits in whole numbers over 2^16, rounded, as Pillow's convert("L") has it.
_LUMA = np.array([299, 587, 114]) / 1000
_LUMA_FIXED, _HALF, _SHIFT = np.array([19595, 38470, 7471]), 0x8000, 16


def other_channels(loaded: LoadedImage) -> LoadedImage | None:
    """RGB made of a grey image, or grey of an RGB one; None for what came as an array, or has other channels.

    Grey is repeated. RGB becomes its ITU-R 601 luma, in 8 bits, to the last bit as Pillow does it, where the
    image has 8 bits.
    """
    channels = len(loaded.image)
    if not loaded.stored or channels not in (1, 3):
        return None
    if channels == 1:
        return _with(loaded, np.repeat(loaded.image, 3, axis=0), "grey repeated for red, green and blue")
    whole = np.rint(loaded.image * 255)
    if (whole / 255 == loaded.image).all():
        luma = (np.tensordot(_LUMA_FIXED, whole.astype(np.int64), 1) + _HALF) >> _SHIFT
        return _with(loaded, luma[None] / 255, "RGB to grey by ITU-R 601 luma, in 8 bits as Pillow does")
    luma = np.tensordot(_LUMA, loaded.image, 1).clip(0, 1)
    return _with(loaded, luma[None], "RGB to grey by ITU-R 601 luma, not rounded")


def as_many_channels(given: LoadedImage, like: LoadedImage) -> LoadedImage:
    """`given` made grey or RGB where `like` is the other, and it can be; else as it is."""
    other = other_channels(given) if len(given.image) != len(like.image) else None
    return other if other is not None and len(other.image) == len(like.image) else given


def _with(loaded: LoadedImage, image: np.ndarray, how: str) -> LoadedImage:
    return replace(loaded, image=np.ascontiguousarray(image), conversions=(*loaded.conversions, how))
