"""Changes of light and colour: every pixel stays where it is, and the expected map is the old one."""

from __future__ import annotations

from abc import abstractmethod
from math import ceil
from typing import ClassVar, final

import numpy as np

from steadygaze.enclosing.enclosures import Enclosure, Weights
from steadygaze.errors import PerturbationError
from steadygaze.geometry.polytope import Polytope
from steadygaze.perturbation.affine import AbstractPiecewiseAffinePerturbation
from steadygaze.perturbation.amount import AbstractOneAmount
from steadygaze.perturbation.records import Constant, Setting, box_of
from steadygaze.perturbation.settings import (
    channels,
    image_array,
    number,
    per_channel,
    varying,
)

# Rec. 601 luma: the grey of YIQ and of most image tools.
_GREY = np.array([0.299, 0.587, 0.114])
_MIDDLE = 0.5
_AMOUNT = Setting("amount", "amount")


class AbstractAffineAmount(AbstractOneAmount, AbstractPiecewiseAffinePerturbation):
    """x + amount * direction(x) for one amount that varies or is constant; x and direction(x) affine in x."""

    @abstractmethod
    def direction(self, images: np.ndarray) -> np.ndarray:
        """The change of each image (B, C, H, W) by an amount of 1."""

    def pieces(self) -> tuple[Polytope, ...]:
        """The whole range."""
        return (box_of(self.parameters),)

    def affine_parts(self, images: np.ndarray, piece: Polytope) -> tuple[np.ndarray, np.ndarray]:
        """The images and their direction; where the amount is constant, the changed images and no slope."""
        del piece
        direction = self.direction(images)
        if self.parameters:
            return images, direction[:, None]
        return images + self.constant() * direction, np.zeros((len(images), 0, *images.shape[1:]))


@final
class Brightness(AbstractAffineAmount):
    """x + amount: every pixel lighter or darker by the same.

    Args:
        low: least amount, in pixel values, at most 0; without `high` a constant amount, which does not vary.
        high: largest amount, at least 0.

    Raises:
        PerturbationError: if the range is reversed, empty, not finite or leaves out 0.
    """

    name = "brightness"
    settings = (_AMOUNT,)

    def __init__(self, low: float, high: float | None = None) -> None:
        self.parameters, self.constants = varying(self.name, "amount", "pixel value", low, high)

    def changed(self, images: np.ndarray, amount: np.ndarray) -> np.ndarray:
        """x + amount."""
        return images + amount

    def direction(self, images: np.ndarray) -> np.ndarray:
        """All ones."""
        return np.ones_like(images)

    def enclosed(self, images: Enclosure, amount: Enclosure) -> Enclosure:
        """x + amount."""
        return images + amount

    def describe(self) -> str:
        """In plain words."""
        return f"brightness changed by {self.amount_in_words()}"


@final
class Exposure(AbstractAffineAmount):
    """(1 + amount) x: more or less light; -1 leaves black.

    Args:
        low: least amount, a pure number, at most 0; without `high` a constant amount, which does not vary.
        high: largest amount, at least 0.

    Raises:
        PerturbationError: if the range is reversed, empty, not finite or leaves out 0.
    """

    name = "exposure"
    settings = (_AMOUNT,)

    def __init__(self, low: float, high: float | None = None) -> None:
        self.parameters, self.constants = varying(self.name, "amount", "", low, high)

    def changed(self, images: np.ndarray, amount: np.ndarray) -> np.ndarray:
        """(1 + amount) x."""
        return (1 + amount) * images

    def direction(self, images: np.ndarray) -> np.ndarray:
        """x."""
        return images

    def enclosed(self, images: Enclosure, amount: Enclosure) -> Enclosure:
        """(1 + amount) x."""
        return (amount + 1.0) * images

    def describe(self) -> str:
        """In plain words."""
        return f"exposure changed by {self.amount_in_words()}"


@final
class Contrast(AbstractAffineAmount):
    """1/2 + (1 + amount)(x - 1/2): more or less contrast; -1 leaves a uniform grey of 1/2.

    Args:
        low: least amount, a pure number, at most 0; without `high` a constant amount, which does not vary.
        high: largest amount, at least 0.

    Raises:
        PerturbationError: if the range is reversed, empty, not finite or leaves out 0.
    """

    name = "contrast"
    settings = (_AMOUNT,)

    def __init__(self, low: float, high: float | None = None) -> None:
        self.parameters, self.constants = varying(self.name, "amount", "", low, high)

    def changed(self, images: np.ndarray, amount: np.ndarray) -> np.ndarray:
        """1/2 + (1 + amount)(x - 1/2)."""
        return _MIDDLE + (1 + amount) * (images - _MIDDLE)

    def direction(self, images: np.ndarray) -> np.ndarray:
        """x - 1/2."""
        return images - _MIDDLE

    def enclosed(self, images: Enclosure, amount: Enclosure) -> Enclosure:
        """1/2 + (1 + amount)(x - 1/2)."""
        return (amount + 1.0) * (images - _MIDDLE) + _MIDDLE

    def describe(self) -> str:
        """In plain words."""
        return f"contrast changed by {self.amount_in_words()}"


@final
class Saturation(AbstractAffineAmount):
    """grey(x) + (1 + amount)(x - grey(x)), grey being the Rec. 601 luma. -1 leaves a grey picture.

    Needs three channels, red, green and blue; other images are refused when the chain meets them.

    Args:
        low: least amount, a pure number, at most 0; without `high` a constant amount, which does not vary.
        high: largest amount, at least 0.

    Raises:
        PerturbationError: if the range is reversed, empty, not finite or leaves out 0.
    """

    name = "saturation"
    settings = (_AMOUNT,)

    def __init__(self, low: float, high: float | None = None) -> None:
        self.parameters, self.constants = varying(self.name, "amount", "", low, high)

    def check(self, shape: tuple[int, int, int]) -> None:
        """Raise PerturbationError unless there are three channels."""
        if shape[0] != 3:
            raise PerturbationError(
                f"saturation needs an image of 3 channels (red, green, blue), got {shape[0]}; a grey image "
                "has no colour to change: leave saturation out, or use contrast"
            )

    def changed(self, images: np.ndarray, amount: np.ndarray) -> np.ndarray:
        """grey(x) + (1 + amount)(x - grey(x))."""
        grey = _grey(images)
        return grey + (1 + amount) * (images - grey)

    def direction(self, images: np.ndarray) -> np.ndarray:
        """x - grey(x)."""
        return images - _grey(images)

    def enclosed(self, images: Enclosure, amount: Enclosure) -> Enclosure:
        """(1 + amount) x - amount grey(x)."""
        return (amount + 1.0) * images - amount * images.linear(_grey, _GREY_WEIGHTS)

    def describe(self) -> str:
        """In plain words."""
        return f"saturation changed by {self.amount_in_words()}"


@final
class Direction(AbstractAffineAmount):
    """x + amount * array: along any direction of one's own.

    Args:
        low: least amount, a pure number, at most 0; without `high` a constant amount, which does not vary.
        high: largest amount, at least 0.
        array: what is added, `(C, H, W)` in the image's shape; `(H, W)` stands for one channel.
        source: the name that reports show for the array, such as its file.

    Raises:
        PerturbationError: if the range is reversed, empty, not finite or leaves out 0, or the array holds
            NaN or infinity; and, when the chain meets the image, if the shapes differ.
    """

    name = "direction"
    settings = (_AMOUNT, Setting("array", "array"))

    def __init__(self, low: float, high: float | None = None, *, array: np.ndarray, source: str = "") -> None:
        self.parameters, amount = varying(self.name, "amount", "", low, high)
        self.array = image_array("direction array", array)
        self.constants = {**amount, "array": source or _shape_in_words(self.array)}

    def check(self, shape: tuple[int, int, int]) -> None:
        """Raise PerturbationError unless the array has the image's shape."""
        _same_shape("direction array", self.array, shape)

    def changed(self, images: np.ndarray, amount: np.ndarray) -> np.ndarray:
        """x + amount * array."""
        return images + amount * self.array

    def direction(self, images: np.ndarray) -> np.ndarray:
        """The array."""
        return np.broadcast_to(self.array, images.shape)

    def enclosed(self, images: Enclosure, amount: Enclosure) -> Enclosure:
        """x + amount * array."""
        return images + amount * self.array

    def describe(self) -> str:
        """In plain words."""
        return f"{self.amount_in_words()} times the direction {self.constants['array']} added"


@final
class Blend(AbstractAffineAmount):
    """x + amount * (target - x): at 1 only the target is left.

    Args:
        low: least amount, a pure number, at most 0; without `high` a constant amount, which does not vary.
        high: largest amount, at least 0.
        target: an image array `(C, H, W)`; `"grey"`, the Rec. 601 luma of the image itself (3 channels
            needed); `"blur"`, the image itself blurred; or `"fog"`, a uniform colour.
        sigma: width of the Gaussian of `"blur"` in pixels, by default 2; mirrored at the edges, cut off at
            4 sigma.
        colour: of `"fog"`, one number or one for each channel, by default 0.9.
        source: the name that reports show for an array, such as its file.

    Raises:
        PerturbationError: if the range is reversed, empty, not finite or leaves out 0, or the target is
            none of these; and, when the chain meets the image, if the shapes differ.
    """

    name = "blend"
    words: ClassVar[tuple[str, ...]] = ("grey", "blur", "fog")
    settings = (
        _AMOUNT,
        Setting("target", "array", words),
        Setting("sigma", "number"),
        Setting("colour", "channels"),
    )

    def __init__(
        self,
        low: float,
        high: float | None = None,
        *,
        target: np.ndarray | str,
        sigma: float | None = None,
        colour: float | tuple[float, ...] | None = None,
        source: str = "",
    ) -> None:
        self.parameters, amount = varying(self.name, "amount", "", low, high)
        if isinstance(target, str) and target not in self.words:
            raise PerturbationError(
                f"blend target is {target!r}; allowed: {', '.join(self.words)}, an array of the image's "
                "shape, or in a specification a .npy or .png file"
            )
        for name, value, word in (("sigma", sigma, "blur"), ("colour", colour, "fog")):
            if value is not None and not (isinstance(target, str) and target == word):
                raise PerturbationError(
                    f"blend {name} is given, but only target={word} uses it: leave it out"
                )
        self.target = target if isinstance(target, str) else image_array("blend target", target)
        self.sigma = number("blend sigma", 2.0 if sigma is None else sigma)
        if self.sigma <= 0:
            raise PerturbationError(f"blend sigma is {self.sigma}; it must be above 0 pixels")
        self.colour = channels("blend colour", 0.9 if colour is None else colour)
        own: dict[str, Constant] = {}
        if isinstance(self.target, str):
            own = {"blur": {"sigma": self.sigma}, "fog": {"colour": self.colour}}.get(self.target, {})
        shown = self.target if isinstance(self.target, str) else source or _shape_in_words(self.target)
        self.constants = {**amount, "target": shown, **own}

    def check(self, shape: tuple[int, int, int]) -> None:
        """Raise PerturbationError unless the target fits the image's shape."""
        if not isinstance(self.target, str):
            _same_shape("blend target", self.target, shape)
        elif self.target == "fog":
            per_channel("blend colour", self.colour, shape[0])
        elif self.target == "grey" and shape[0] != 3:
            raise PerturbationError(
                f"blend target=grey needs an image of 3 channels (red, green, blue), got {shape[0]}; a grey "
                "image has no colour to lose: use target=fog with colour=0.5 for a uniform grey"
            )

    def changed(self, images: np.ndarray, amount: np.ndarray) -> np.ndarray:
        """(1 - amount) x + amount target."""
        return (1 - amount) * images + amount * self._target_of(images)

    def direction(self, images: np.ndarray) -> np.ndarray:
        """target - x."""
        return self._target_of(images) - images

    def enclosed(self, images: Enclosure, amount: Enclosure) -> Enclosure:
        """(1 - amount) x + amount target."""
        target: Enclosure | np.ndarray
        if isinstance(self.target, str) and self.target == "grey":
            target = images.linear(_grey, _GREY_WEIGHTS)
        elif isinstance(self.target, str) and self.target == "blur":
            target = self._blurred_enclosure(images)
        else:
            target = self._target_of(images.centre)
        return (1.0 - amount) * images + amount * target

    def describe(self) -> str:
        """In plain words."""
        named = {"grey": "its own grey picture", "blur": f"itself blurred by {self.sigma:g} pixels"}
        target = str(self.constants["target"])
        return f"blended by {self.amount_in_words()} with {named.get(target, target)}"

    def _target_of(self, images: np.ndarray) -> np.ndarray:
        if not isinstance(self.target, str):
            return self.target
        if self.target == "grey":
            return _grey(images)
        if self.target == "blur":
            return _blurred(images, self.sigma)
        return per_channel("blend colour", self.colour, images.shape[1])

    def _blurred_enclosure(self, images: Enclosure) -> Enclosure:
        def blur(values: np.ndarray) -> np.ndarray:
            return _blurred(values, self.sigma)

        # All weights are positive: |W| is W. Rows and columns are summed, and the weights normalised.
        return images.linear(blur, Weights(blur, sum(images.shape[-2:]) + 4))


def _grey(images: np.ndarray) -> np.ndarray:
    """(B, 3, H, W) -> (B, 1, H, W)."""
    return np.einsum("c,bchw->bhw", _GREY, images)[:, None]


#: The weights are positive: |W| is W.
_GREY_WEIGHTS = Weights(_grey, 3)


def _blurred(images: np.ndarray, sigma: float) -> np.ndarray:
    rows, columns = _blur_matrix(images.shape[-2], sigma), _blur_matrix(images.shape[-1], sigma)
    return rows @ images @ columns.T


def _blur_matrix(size: int, sigma: float) -> np.ndarray:
    """The Gaussian along one axis as a matrix (size, size): row i holds the weights of output pixel i."""
    radius = ceil(4 * sigma)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    # Mirrored about the outer edge of the outer pixels: ... b a | a b c | c b ...
    sources = (np.arange(size)[:, None] + offsets) % (2 * size)
    sources = np.where(sources < size, sources, 2 * size - 1 - sources)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], sources), weights)
    return matrix


def _shape_in_words(array: np.ndarray) -> str:
    return f"array of shape {array.shape}"


def _same_shape(where: str, array: np.ndarray, shape: tuple[int, int, int]) -> None:
    if array.shape != tuple(shape):
        raise PerturbationError(
            f"{where} has shape {array.shape}; the image has shape {tuple(shape)}, and the two must be equal"
        )
