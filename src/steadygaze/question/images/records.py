"""What reading an image gives: its pixels, what was done to get them, and what a data set says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True, eq=False)
class Pixels:
    """Pixels on their way to the network.

    values: (C, H, W), uint8 or float64 in [0, 1]; conversions: what was done to get them, in order, in words.
    """

    values: np.ndarray
    conversions: tuple[str, ...] = ()

    def converted(self, values: np.ndarray, how: str) -> Pixels:
        """Other values, and how they were made of these."""
        return Pixels(values, (*self.conversions, how))


@dataclass(frozen=True, eq=False)
class Labelled:
    """One image of a set and what the set says of it: its true class, that class's name, its number."""

    pixels: Pixels
    label: int | None = None
    class_name: str | None = None
    index: int | None = None


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """An image and where it comes from.

    Attributes:
        image: float64 `(C, H, W)` in [0, 1].
        label: the true class as the data set gives it, None where it gives none.
        source: as the user wrote it, None for what came as an array.
        index: its number in the data set, None where it has none.
        class_name: what the data set calls the class.
        conversions: what was done to the pixels that were stored, in order, in words.
        stored: whether they come from a picture or a data set, which may be made grey or RGB as a network
            wants, where an array is taken as it is.
    """

    image: np.ndarray
    label: int | None = None
    source: str | None = None
    index: int | None = None
    class_name: str | None = None
    conversions: tuple[str, ...] = ()
    stored: bool = False


class ImageEntry(NamedTuple):
    """One image of a source.

    Attributes:
        name: short, and no other image of the source has it.
        reference: names this image wherever an image is asked for, with no other setting needed.
        label: its true class, None where the source gives none.
    """

    name: str
    reference: str
    label: int | None
