"""Changes that cover a part of the image: what is covered is not compared in the maps."""

from __future__ import annotations

from typing import final

import numpy as np

from steadygaze.enclosing.enclosures import Enclosure
from steadygaze.errors import PerturbationError
from steadygaze.perturbation.photometric import AbstractAffineAmount
from steadygaze.perturbation.records import Constant, Setting
from steadygaze.perturbation.settings import channels, choice, per_channel, varying, whole


@final
class Patch(AbstractAffineAmount):
    """A rectangle M of one colour over the image; maps are not compared under it.

    Args:
        low: least opacity, a pure number, at most 0; without `high` a constant opacity.
        high: largest opacity; at 1 a blended patch hides what is under it.
        top: row of its upper edge, counted from 0.
        left: column of its left edge, counted from 0.
        size: side of a square, in pixels, instead of `height` and `width`.
        height: rows.
        width: columns.
        value: the colour, one number or one for each channel.
        mode: `"add"`, x + opacity M value, which every chain takes; or `"blend"`, x + opacity M (value -
            x), whose opacity multiplies what varies before it, so that such a chain is for bounds.
        compare_under: whether maps are compared under the patch too.

    Raises:
        PerturbationError: if the range is reversed, empty, not finite or leaves out 0, the size is given
            twice or not at all, or the mode is none of these; and, when the chain meets the image, if the
            patch does not lie in it or `value` has another number of channels.
    """

    name = "patch"
    modes = ("add", "blend")
    settings = (
        Setting("opacity", "amount"),
        Setting("top", "whole"),
        Setting("left", "whole"),
        Setting("size", "whole"),
        Setting("height", "whole"),
        Setting("width", "whole"),
        Setting("value", "channels"),
        Setting("mode", "word", modes),
        Setting("compare_under", "flag"),
    )

    def __init__(
        self,
        low: float,
        high: float | None = None,
        *,
        top: int,
        left: int,
        size: int | None = None,
        height: int | None = None,
        width: int | None = None,
        value: float | tuple[float, ...] = 1.0,
        mode: str = "add",
        compare_under: bool = False,
    ) -> None:
        self.parameters, amount = varying(self.name, "opacity", "", low, high)
        height, width = _sides(size, height, width)
        self.top, self.left = whole("patch top", top, 0), whole("patch left", left, 0)
        self.height, self.width = whole("patch height", height, 1), whole("patch width", width, 1)
        self.value = channels("patch value", value)
        self.mode = choice("patch mode", mode, self.modes)
        if not isinstance(compare_under, bool):
            raise PerturbationError(f"patch compare_under is {compare_under!r}; allowed: true, false")
        self.compare_under = compare_under
        placed: dict[str, Constant] = {
            "top": self.top,
            "left": self.left,
            "height": self.height,
            "width": self.width,
            "value": self.value,
            "mode": self.mode,
        }
        under: dict[str, Constant] = {"compare_under": True} if compare_under else {}
        self.constants = {**amount, **placed, **under}

    def check(self, shape: tuple[int, int, int]) -> None:
        """Raise PerturbationError unless the patch lies in the image and has a value for each channel."""
        if self.top + self.height > shape[1] or self.left + self.width > shape[2]:
            raise PerturbationError(
                f"the patch covers rows {self.top}..{self.top + self.height - 1} and columns "
                f"{self.left}..{self.left + self.width - 1}; the image has rows 0..{shape[1] - 1} and "
                f"columns 0..{shape[2] - 1}: move the patch or make it smaller"
            )
        per_channel("patch value", self.value, shape[0])

    def changed(self, images: np.ndarray, amount: np.ndarray) -> np.ndarray:
        """The rectangle of each image replaced."""
        changed = images.copy()
        under = changed[(..., *self._place())]
        value = per_channel("patch value", self.value, images.shape[1])
        under[...] = (1 - amount) * under + amount * value if self.mode == "blend" else under + amount * value
        return changed

    def direction(self, images: np.ndarray) -> np.ndarray:
        """M value, or M (value - x)."""
        value = per_channel("patch value", self.value, images.shape[1])
        mask = self._mask(images.shape[-2:])
        return (
            mask * (value - images) if self.mode == "blend" else np.broadcast_to(mask * value, images.shape)
        )

    def enclosed(self, images: Enclosure, amount: Enclosure) -> Enclosure:
        """x + amount M value, or (1 - amount M) x + amount M value."""
        under = amount * self._mask(images.shape[-2:])
        added = under * per_channel("patch value", self.value, images.shape[0])
        return (1.0 - under) * images + added if self.mode == "blend" else images + added

    def hidden(self, size: tuple[int, int]) -> np.ndarray | None:
        """The rectangle, unless it is compared."""
        return None if self.compare_under else self._mask(size)

    def describe(self) -> str:
        """In plain words."""
        verb = "blended in" if self.mode == "blend" else "added"
        return (
            f"a patch of {self.height} x {self.width} pixels at row {self.top}, column {self.left} {verb} "
            f"with opacity {self.amount_in_words()}"
        )

    def _place(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def _mask(self, size: tuple[int, ...]) -> np.ndarray:
        mask = np.zeros(size, dtype=bool)
        mask[self._place()] = True
        return mask


def _sides(size: int | None, height: int | None, width: int | None) -> tuple[int | None, int | None]:
    """Height and width from whichever way they were given."""
    if size is None and height is not None and width is not None:
        return height, width
    if size is not None and height is None and width is None:
        return size, size
    raise PerturbationError(
        f"the patch has size {size}, height {height} and width {width}; "
        "give either size, or both height and width"
    )
