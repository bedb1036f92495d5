"""Images and saliency maps of single points as PNG files, and the arrays behind them as .npy."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from steadygaze.answer.drawing import Exhibit

SHOWN_SIDE = 280  # an image is enlarged, pixel by pixel, to at least this many pixels
NEGATIVE, POSITIVE = (33, 78, 150), (178, 34, 24)  # blue against red, white at zero
NOT_COMPARED = (205, 205, 205)


@dataclass(frozen=True)
class Pictures:
    """PNG bytes of one exhibit. ``difference`` is actual minus expected, both scaled to unit norm.

    The maps are None where there are none.
    """

    image: bytes
    saliency: bytes | None = None
    expected: bytes | None = None
    difference: bytes | None = None

    def named(self) -> Mapping[str, bytes]:
        """The pictures that go into the witness folder, by what they show."""
        found = {"image": self.image, "saliency": self.saliency, "expected": self.expected}
        return {name: png for name, png in found.items() if png is not None}


def pictures(exhibit: Exhibit, side: int = SHOWN_SIDE) -> Pictures:
    """The exhibit's image, map, expected map and difference; the three maps share one scale of colours.

    ``side``: pixels that the longer side has at least, by whole repetition.
    """
    if exhibit.saliency is None or exhibit.expected is None:
        return Pictures(_png(_pixels(exhibit.image), side))
    actual, expected = _unit(_flat(exhibit.saliency)), _unit(_flat(exhibit.expected))
    largest = max((float(np.nanmax(np.abs(m), initial=0.0)) for m in (actual, expected)), default=0.0)
    maps = [_png(_diverging(part, largest), side) for part in (actual, expected, actual - expected)]
    return Pictures(_png(_pixels(exhibit.image), side), *maps)


def write_witness(exhibits: tuple[Exhibit, ...], folder: Path) -> None:
    """``worst-allowed-saliency.png``, ``worst-allowed-saliency.npy``, ... into ``folder``, which is made."""
    folder.mkdir()
    for exhibit in exhibits:
        stem = exhibit.title.replace(" ", "-")
        for part, png in pictures(exhibit).named().items():
            (folder / f"{stem}-{part}.png").write_bytes(png)
            np.save(folder / f"{stem}-{part}.npy", getattr(exhibit, part), allow_pickle=False)


def _flat(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """One number per pixel: the sum over the channels, ``(H, W)``."""
    return values if values.ndim == 2 else values.sum(axis=0)


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    norm = float(np.sqrt(np.nansum(values**2)))
    return values / norm if norm > 0 else values


def _pixels(image: NDArray[np.float64]) -> NDArray[np.uint8]:
    """``(C, H, W)`` in [0, 1] as ``(H, W, 3)``; other numbers of channels than 3 as their grey mean."""
    colours = image if len(image) == 3 else np.repeat(image.mean(axis=0, keepdims=True), 3, axis=0)
    return np.rint(255 * np.clip(colours, 0, 1)).astype(np.uint8).transpose(1, 2, 0)


def _diverging(values: NDArray[np.float64], largest: float) -> NDArray[np.uint8]:
    """``(H, W)`` as ``(H, W, 3)``: white at 0, full colour at ``largest``, grey where not compared."""
    place = np.nan_to_num(values / largest if largest > 0 else values, nan=0.0)[..., None]
    full = np.where(place < 0, np.array(NEGATIVE, float), np.array(POSITIVE, float))
    colours = 255 + np.minimum(np.abs(place), 1) * (full - 255)
    colours[np.isnan(values)] = NOT_COMPARED
    return np.rint(colours).astype(np.uint8)


def _png(pixels: NDArray[np.uint8], side: int) -> bytes:
    factor = max(1, -(-side // max(pixels.shape[:2])))
    enlarged = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    stream = io.BytesIO()
    # Looking for the best compression takes eight times as long, for a twentieth of the size.
    Image.fromarray(np.ascontiguousarray(enlarged)).save(stream, "PNG")
    return stream.getvalue()
