"""Lengths in percent of an image, made pixels: ``patch(opacity=0..1, top=40%, left=40%, size=20%)``.

So one specification serves images of every size. What runs down is of the height (``top``, ``height``,
``dy``), what runs across of the width (``left``, ``width``, ``dx``), and other lengths (``size``, ``sigma``,
``distance``) of the smaller of the two. Where whole pixels are wanted the nearest is taken, for a side at
least one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

from steadygaze.errors import PerturbationError
from steadygaze.perturbation.chain import AbstractPerturbation

NOMINAL = (3, 1000, 1000)
"""The shape of an image that nobody has seen, for checking what is written of it."""

_NUMBER = r"([+-]?(?:\d+(?:\.\d+)?|\.\d+))\s*(%?)"
_SETTING = re.compile(rf"([A-Za-z_]\w*)\s*=\s*{_NUMBER}(?:\s*\.\.\s*{_NUMBER})?\s*(?=[,)])")
_DOWN, _ACROSS, _EITHER = ("top", "height", "dy"), ("left", "width", "dx"), ("size", "sigma", "distance")
_WHOLE, _SIDES = ("top", "left", "height", "width", "size"), ("height", "width", "size")

Given = AbstractPerturbation | str | Sequence["AbstractPerturbation | str"]


def in_pixels(given: Given, shape: tuple[int, ...]) -> Given:
    """Specifications with percents of an image ``(C, H, W)`` in pixels; what holds no percent stays as it is.

    Raises PerturbationError for a percent of what is no length, and for what is no perturbation.
    """
    if isinstance(given, AbstractPerturbation):
        return given
    if isinstance(given, str):
        return texts_in_pixels([given], shape)
    if not isinstance(given, Sequence):
        raise PerturbationError(
            f"the perturbation is {given!r}, of type {type(given).__name__}; it must be one such as "
            "steadygaze.Brightness(-0.3, 0.3), text such as 'brightness(amount=-0.3..0.3)', or a list of "
            "these"
        )
    measured = partial(_measured, shape)
    return [_SETTING.sub(measured, one) if isinstance(one, str) else one for one in given]


def texts_in_pixels(given: Sequence[str], shape: tuple[int, ...]) -> tuple[str, ...]:
    """The same of texts alone."""
    return tuple(_SETTING.sub(partial(_measured, shape), one) for one in given)


def _measured(shape: tuple[int, ...], found: re.Match[str]) -> str:
    """One setting with its numbers in pixels."""
    key, *numbers = found.groups(default="")
    if "%" not in numbers:
        return found[0]
    height, width = shape[-2:]
    lengths = dict.fromkeys(_DOWN, height) | dict.fromkeys(_ACROSS, width)
    lengths |= dict.fromkeys(_EITHER, min(height, width))
    if key not in lengths:
        raise PerturbationError(
            f"{found[0].strip()!r} is in percent, which are of the image's size and stand with "
            f"{', '.join(lengths)}: give a number"
        )
    ends = zip(numbers[::2], numbers[1::2], strict=True)
    return f"{key}={'..'.join(_pixels(key, *end, lengths[key]) for end in ends if end[0])}"


def _pixels(key: str, number: str, percent: str, length: int) -> str:
    if not percent:
        return number
    pixels = float(number) / 100 * length
    if key not in _WHOLE:
        return repr(pixels)
    return str(max(round(pixels), 1 if key in _SIDES else 0))
