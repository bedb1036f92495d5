"""How a network is fed: what it wants of an image in [0, 1], and whether what it declares fits that image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from steadygaze.deadline import NEVER, Deadline
from steadygaze.errors import ModelError, SettingError
from steadygaze.network.building import check_size
from steadygaze.network.reading.assembling.assembly import Assembler, Value
from steadygaze.network.reading.originals import LAYOUTS, Layout, Preparation

# Not asked for: the layout that the declared input leaves no doubt about, else that of PyTorch.
AUTO = "auto"
# Of grey and coloured images: what tells the axis of channels from those of pixels.
_CHANNELS = (1, 3, 4)


def never_late(effort: int) -> Deadline:
    """No end, however many products an image takes."""
    del effort
    return NEVER


@dataclass(frozen=True)
class Wish:
    """How the network is to be fed, and which of its outputs is asked for (None: it has to tell itself).

    layout: "auto" is that of PyTorch, but where the declared input fits another alone (see `fitted`).
    late: when it is too late to go on reading, by how many products an image takes (see `Graph.effort`).
    """

    image_shape: tuple[int, ...]
    layout: Layout | Literal["auto"]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    output: str | None
    late: Callable[[int], Deadline] = never_late

    def prepared(self) -> Preparation:
        """How to feed a network that declares no input."""
        return self._in(self._first, _row(self.image_shape, self._first), True)

    @property
    def _first(self) -> Layout:
        """The layout asked for, or PyTorch's."""
        return "chw" if self.layout == AUTO else self.layout

    @property
    def _allowed(self) -> tuple[Layout, ...]:
        """The layouts that may be taken, the first that fits.

        Colours are never flattened without being asked: some networks want channel after channel, others
        pixel after pixel, and their declared inputs are alike.
        """
        if self.layout != AUTO:
            return (self.layout,)
        return LAYOUTS if self.image_shape[0] == 1 else ("chw", "hwc")

    def _in(self, layout: Layout, row: tuple[int, ...], batched: bool) -> Preparation:
        return Preparation(layout, self.mean, self.std, row, batched)

    def note(self, preparation: Preparation) -> str | None:
        """A sentence where the declared input chose the layout, else None."""
        if preparation.layout == self._first:
            return None
        return f"takes images in layout {preparation.layout}, as its input is declared"

    def assembler(self, preparation: Preparation) -> tuple[Assembler, Value]:
        """An assembler and the value in it that the network takes."""
        assembler = Assembler(self.image_shape)
        mean, std = np.reshape(self.mean, (-1, 1, 1)), np.reshape(self.std, (-1, 1, 1))
        scale = preparation.scale
        x = assembler.scale_shift(assembler.pixels, scale / std, -scale * mean / std)
        x = assembler.permute(x, (0, 2, 3, 1)) if preparation.layout == "hwc" else x
        return assembler, assembler.reshape(x, (1,) * preparation.batched + preparation.row)

    def fitted(self, declared: tuple[int | str | None, ...]) -> Preparation:
        """How to feed a network that declares an input of these sizes (a name or None: open)."""
        sizes = tuple(size if isinstance(size, int) else None for size in declared)
        for layout in self._allowed:
            found = _fit(sizes, self.image_shape, layout)
            if found is not None:
                _check_symbols(declared, (1, *found[0]) if found[1] else found[0])
                return self._in(layout, *found)
        raise ModelError(self._misfit(sizes))

    def _meant(self, sizes: tuple[int | None, ...]) -> Layout:
        """In which layout a declared input is to be read that no image fits yet."""
        if self.layout == AUTO and len(sizes) > 2 and sizes[-1] in _CHANNELS and sizes[-3] not in _CHANNELS:
            return "hwc"
        return self._first

    def _misfit(self, sizes: tuple[int | None, ...]) -> str:
        """What to say of a declared input that no allowed layout fits."""
        shown = "x".join("any" if size is None else str(size) for size in sizes)
        one = (1, *sizes[1:])
        several = bool(sizes) and sizes[0] is not None
        if several and any(_fit(one, self.image_shape, layout) for layout in self._allowed):
            return (
                f"the network takes {sizes[0]} images at once ({shown}), got images of shape "
                f"{self.image_shape}, allowed is one at a time, or any number; export it again with a batch "
                "of 1 or an open one (dynamic_shapes, dynamic_axes)"
            )
        others = [layout for layout in LAYOUTS if _fit(sizes, self.image_shape, layout) is not None]
        if not others:
            way_out = _other_image(sizes, self.image_shape, self._meant(sizes))
        elif self.layout == AUTO:
            way_out = "use layout flat if it takes one channel after the other, as PyTorch flattens images"
        else:
            way_out = f"use layout {' or '.join(others)}"
        if not others and sizes and sizes[0] not in (1, None):
            way_out += ", and export the network with a batch of 1 or an open one"
        row = _row(self.image_shape, self._first)
        return (
            f"the network takes an input of shape {shown}, got images of shape {self.image_shape} in layout "
            f"{self._first!r}, which come to it as 1x{'x'.join(map(str, row))}; {way_out}"
        )


def wish_of(
    input_shape: tuple[int, int, int],
    layout: str,
    mean: float | Sequence[float] | None,
    std: float | Sequence[float] | None,
    output: str | int | None,
    late: Callable[[int], Deadline] = never_late,
) -> Wish:
    """The wish of these settings, as `load_network` has them. Raises ModelError or SettingError."""
    check_size(tuple(input_shape), "the image")
    means, stds = _normalisation(mean, std, input_shape[0])
    return Wish(tuple(input_shape), _checked_layout(layout), means, stds, _checked_output(output), late)


def _other_image(sizes: tuple[int | None, ...], image_shape: tuple[int, ...], layout: Layout) -> str:
    """What to do about an image of another size or of other channels than those declared."""
    resized = "use an image of the network's own size, or resize it with --resize"
    if layout == "flat" or len(sizes) < 3:
        return f"{resized} HxW"
    height, width, channels = sizes[-3:] if layout == "hwc" else (*sizes[-2:], sizes[-3])
    if channels in (None, image_shape[0]):
        return f"{resized} {'HxW' if None in (height, width) else f'{height}x{width}'}"
    told = f"use an image of {channels} channel{'' if channels == 1 else 's'}, as the network has"
    return (
        told
        if (height, width) == image_shape[1:]
        else f"{told}, and of its size, {height or 'H'}x{width or 'W'}"
    )


def _row(image_shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    channels, height, width = image_shape
    rows = {"chw": image_shape, "hwc": (height, width, channels), "flat": (math.prod(image_shape),)}
    return rows[layout]


def _fit(
    sizes: tuple[int | None, ...], image_shape: tuple[int, ...], layout: Layout
) -> tuple[tuple[int, ...], bool] | None:
    """The shape of one image as declared, and whether a batch axis stands before it; None if none fits.

    An open first axis is the batch, never an axis of the image: it would take one image as several.
    """
    row = _row(image_shape, layout)
    candidates = [(sizes[1:], True)] if sizes and sizes[0] in (1, None) else []
    if sizes[:1] != (None,) or len(sizes) == 1:
        candidates.append((sizes, False))
    for declared, batched in candidates:
        filled = _filled(declared, image_shape) if layout == "flat" else _matched(declared, row)
        if filled is not None:
            return filled, batched
    return None


def _matched(declared: tuple[int | None, ...], row: tuple[int, ...]) -> tuple[int, ...] | None:
    if len(declared) == 2 and len(row) == 3 and row.count(1) == 1:  # a grey image without its channel
        row = tuple(size for size in row if size != 1)
    fits = len(declared) == len(row) and all(d in (None, r) for d, r in zip(declared, row, strict=True))
    return row if fits else None


def _filled(declared: tuple[int | None, ...], image_shape: tuple[int, ...]) -> tuple[int, ...] | None:
    count, known = math.prod(image_shape), math.prod(size for size in declared if size is not None)
    if not declared or declared.count(None) > 1 or count % known:
        return None
    filled = tuple(count // known if size is None else size for size in declared)
    return filled if _joins(filled, image_shape) else None


def _joins(shape: tuple[int, ...], image_shape: tuple[int, ...]) -> bool:
    """Whether neighbouring axes of (C, H, W) taken together give the shape, axes of 1 aside.

    Any other shape would put pixels where they do not belong.
    """
    axes = [size for size in image_shape if size != 1]
    for size in (size for size in shape if size != 1):
        taken = 1
        while axes and taken < size:
            taken *= axes.pop(0)
        if taken != size:
            return False
    return not axes


def _check_symbols(declared: tuple[int | str | None, ...], shape: tuple[int, ...]) -> None:
    """One name is one size, wherever it stands."""
    meant: dict[str, int] = {}
    for name, size in zip(declared, shape, strict=True):
        if isinstance(name, str) and meant.setdefault(name, size) != size:
            raise ModelError(
                f"the network's input is declared as {declared}, got {shape}, where {name!r} would be both "
                f"{meant[name]} and {size}, allowed is one size for each name; hand in an image that fits"
            )


def _checked_output(output: str | int | None) -> str | None:
    if output is None:
        return None
    if isinstance(output, bool) or not isinstance(output, (str, int)) or output == "":
        raise SettingError(
            f"the output is {output!r}, allowed is the name of what holds the logits, or its number; leave "
            "it out where there is one"
        )
    return str(output)


def _checked_layout(layout: str) -> Layout | Literal["auto"]:
    allowed = (AUTO, *LAYOUTS)
    if layout not in allowed:
        raise SettingError(f"layout is {layout!r}, allowed are {', '.join(allowed)}; choose one of these")
    return cast('Layout | Literal["auto"]', layout)


def _normalisation(
    mean: float | Sequence[float] | None, std: float | Sequence[float] | None, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    means = _per_channel("mean", 0.0 if mean is None else mean, channels)
    stds = _per_channel("std", 1.0 if std is None else std, channels)
    if min(stds) <= 0:
        raise SettingError(
            f"std is {stds}, allowed are numbers above 0; give the one the network was trained with"
        )
    return means, stds


def _per_channel(name: str, given: float | Sequence[float], channels: int) -> tuple[float, ...]:
    try:
        numbers = [float(number) for number in np.ravel(np.asarray(given, np.float64))]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) not in (1, channels) or not all(map(math.isfinite, numbers)):
        raise SettingError(
            f"{name} is {given!r}, allowed is one finite number or one for each of the {channels} channels; "
            "give as many"
        )
    return tuple(numbers * channels if len(numbers) == 1 else numbers)
