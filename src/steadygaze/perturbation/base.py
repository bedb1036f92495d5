"""What a perturbation is: the abstract classes, and the records that they exchange with a chain.

Three classes to inherit from, each asking for more and giving more:

- ``AbstractPerturbation``: ``apply`` alone. Such a perturbation can be sampled and drawn; with ``enclose``,
  ``slope_bounds`` or ``interval`` the bound engine takes it.
- ``AbstractPiecewiseAffinePerturbation``: its affine pieces too. The exact engines take it, and
  the bound engine where nothing varies before it.
- ``AbstractAffinePerturbation``: the short way to an own one that is x + sum_j theta_j direction_j.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import ClassVar, Literal

import numpy as np

from steadygaze.errors import NotEnclosable, PerturbationError
from steadygaze.geometry.enclosures import Enclosure
from steadygaze.geometry.polytope import Polytope, box
from steadygaze.perturbation.enclosing import by_range, by_slopes

#: A constant of a perturbation as reports and specifications show it.
Constant = float | int | bool | str | tuple[float, ...]


#: The kinds of settings that a specification can name.
Kind = Literal["amount", "range", "number", "whole", "flag", "word", "channels", "array"]


@dataclass(frozen=True)
class Setting:
    """One setting of a built-in perturbation, as a specification names it.

    An ``amount`` is handed to the constructor as ``low, high`` in front, the rest by keyword. ``words`` are
    what a word may be; an array may be one of them, or a file.
    """

    name: str
    kind: Kind
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Parameter:
    """A varying amount: its name, its unit in words ('' where it is a pure number) and its range low < high.

    Raises PerturbationError where the range is not finite, reversed or empty, or does not contain 0.
    """

    name: str
    unit: str
    low: float
    high: float

    def __post_init__(self) -> None:
        check_range(self.name, self.low, self.high)


@dataclass(frozen=True, eq=False)
class AffineImage:
    """An image (or map) affine in theta: ``base`` (*shape,) + sum_i theta_i ``directions`` (n, *shape)[i]."""

    base: np.ndarray
    directions: np.ndarray

    def at(self, thetas: np.ndarray) -> np.ndarray:
        """The images (B, *shape) at ``thetas`` (B, n)."""
        return self.base + np.tensordot(thetas, self.directions, axes=1)


class AbstractPerturbation(ABC):
    """A change of an image by some amounts; where all amounts are 0, nothing is changed.

    A subclass sets ``name`` (one word, lower case) and ``parameters`` and defines ``apply``. It overrides
    ``expect`` only if the saliency map should move with the content, ``hidden`` only if it covers pixels.
    """

    name: str
    parameters: tuple[Parameter, ...] = ()
    #: Amounts that do not vary and other settings, by name, as the report shows them.
    constants: Mapping[str, Constant] = {}
    #: What a specification may name; only the built-in perturbations have any.
    settings: ClassVar[tuple[Setting, ...]] = ()
    #: True where the expected map depends on the amounts (``expect`` is overridden).
    moves_map: bool = False

    @abstractmethod
    def apply(self, images: np.ndarray, thetas: np.ndarray) -> np.ndarray:
        """The images (B, C, H, W) changed by the amounts ``thetas`` (B, k), one by one, without clipping."""

    def check(self, shape: tuple[int, int, int]) -> None:
        """Raise PerturbationError if images of this shape (C, H, W) cannot be changed this way."""
        del shape

    def expect(self, maps: np.ndarray, thetas: np.ndarray) -> np.ndarray:
        """The maps (B, ..., H, W) as they should become under ``thetas`` (B, k): by default unchanged."""
        del thetas
        return maps

    def hidden(self, size: tuple[int, int]) -> np.ndarray | None:
        """The pixels (H, W) bool that are covered, so that maps are not compared there; None for none."""
        del size
        return None

    def carry(self, mask: np.ndarray) -> np.ndarray:
        """Where the pixels of ``mask`` (H, W) may end up, wholly or in part, for any amounts in the range."""
        return mask

    def enclose(self, images: Enclosure, amounts: Enclosure) -> Enclosure:
        """Where the changed images (B, C, H, W) lie, for ``amounts`` (B, k) enclosed over the same boxes.

        By default read off ``slope_bounds`` (the mean-value form) or else ``interval``, for images that
        nothing has varied before. Raises NotEnclosable where neither is defined, or the images vary.
        """
        if images.is_exact and self._overrides("slope_bounds"):
            return by_slopes(self, images, amounts)
        if images.is_exact and self._overrides("interval"):
            return by_range(self, images, amounts)
        raise NotEnclosable(self.why_not_enclosable(self.name, varied=not images.is_exact))

    def enclose_expected(self, maps: Enclosure, amounts: Enclosure) -> Enclosure:
        """Where the maps (B, ..., H, W) that ``expect`` gives lie: by default unchanged.

        Raises NotEnclosable where ``expect`` moves maps and this is not overridden.
        """
        del amounts
        if self.moves_map:
            raise NotEnclosable(self.why_not_enclosable(self.name, varied=False))
        return maps

    def slope_bounds(
        self, image: np.ndarray, lows: np.ndarray, highs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Least and largest derivatives of each pixel by each amount over boxes; to be overridden.

        For ``image`` (C, H, W), and boxes from ``lows`` to ``highs``, both (B, k): two arrays
        (B, k, C, H, W). They are trusted; ``apply`` must be continuous.
        """
        raise NotImplementedError

    def interval(
        self, image: np.ndarray, lows: np.ndarray, highs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Least and largest values of each pixel over boxes, two arrays (B, C, H, W); to be overridden.

        Arguments as for ``slope_bounds``, which gives tighter bounds and goes first. They are trusted.
        """
        raise NotImplementedError

    def why_not_enclosable(self, name: str, varied: bool) -> str:
        """Why ``enclose`` or ``enclose_expected`` cannot be asked, in a sentence; '' where they can.

        ``name`` is what the sentence calls this perturbation; ``varied`` whether an earlier link varies the
        images.
        """
        if self.moves_map and not self._overrides("enclose_expected"):
            return (
                f"{name} moves the expected map and does not say where it lies over a box of amounts, which "
                "--method bound needs: define its enclose_expected()"
            )
        if self._overrides("enclose"):
            return ""
        known = self._overrides("slope_bounds") or self._overrides("interval")
        if known and not varied:
            return ""
        if known:
            return (
                f"{name} bounds its images only where no varying perturbation comes before it, so that "
                "--method bound cannot take the chain: put it first, or define its enclose()"
            )
        return (
            f"{name} does not say where its images lie over a box of amounts, which --method bound needs: "
            "define its enclose(), slope_bounds() or interval()"
        )

    def _overrides(self, method: str) -> bool:
        return getattr(type(self), method) is not getattr(AbstractPerturbation, method)

    def describe(self) -> str:
        """In plain words, for the report."""
        amounts = " and ".join(f"{p.name} from {p.low:g} to {p.high:g}" for p in self.parameters)
        return f"{self.name} with {amounts}" if amounts else self.name

    def __or__(self, other: AbstractPerturbation) -> AbstractPerturbation:
        """This one first, then ``other``; the same as ``Chain``."""
        from steadygaze.perturbation.chain import Chain

        return Chain(self, other)

    def __repr__(self) -> str:
        return f"<{self.describe()}>"


class AbstractPiecewiseAffinePerturbation(AbstractPerturbation):
    """A perturbation that is affine in its amounts on each of its ``pieces``; ``has_pieces`` where it is.

    ``apply`` stays a definition of its own: a chain compares the two at the vertices of every piece and
    refuses a perturbation that disagrees with itself.
    """

    #: False where a setting takes the pieces away.
    has_pieces: bool = True

    @abstractmethod
    def pieces(self) -> tuple[Polytope, ...]:
        """Polytopes in the own parameters (k,) that tile their box without gaps and without overlap."""

    @abstractmethod
    def affine_parts(self, images: np.ndarray, piece: Polytope) -> tuple[np.ndarray, np.ndarray]:
        """Constants (B, C, H, W) and slopes (B, k, C, H, W) on ``piece``: constant + sum_j theta_j slope_j.

        Both must be affine in the image where an earlier link of the chain varies it.
        """

    def slope_bounds(
        self, image: np.ndarray, lows: np.ndarray, highs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Over the slopes of all pieces whose bounding boxes meet each box."""
        pieces = self.pieces()
        slopes = np.stack([self.affine_parts(image[None], piece)[1][0] for piece in pieces])
        first = np.stack([piece.vertices.min(axis=0) for piece in pieces])
        last = np.stack([piece.vertices.max(axis=0) for piece in pieces])
        least, most = np.empty((2, len(lows), *slopes.shape[1:]))
        for b in range(len(lows)):
            met = np.all((first <= highs[b]) & (last >= lows[b]), axis=1)
            least[b], most[b] = slopes[met].min(axis=0), slopes[met].max(axis=0)
        return least, most

    def expected_parts(self, maps: np.ndarray, piece: Polytope) -> tuple[np.ndarray, np.ndarray]:
        """The same for the expected map of ``maps`` (B, ...): by default unchanged, slopes 0."""
        del piece
        return maps, np.zeros((len(maps), len(self.parameters), *maps.shape[1:]))


class AbstractAffinePerturbation(AbstractPiecewiseAffinePerturbation):
    """x + sum_j theta_j direction_j: the short way to an own perturbation. Only ``directions`` is asked for.

    >>> class Vignette(AbstractAffinePerturbation):
    ...     name = "vignette"
    ...     parameters = (Parameter("amount", "", 0.0, 0.5),)
    ...
    ...     def directions(self, image):
    ...         ramp = np.linspace(-1, 1, image.shape[-1]) ** 2
    ...         return -image[None] * ramp

    The directions may depend on the image in any way if no varying link comes before this one in a chain;
    after a varying link they must be affine in the image, and the chain checks it.
    """

    @abstractmethod
    def directions(self, image: np.ndarray) -> np.ndarray:
        """One direction for each parameter, (k, C, H, W), for the image (C, H, W)."""

    def apply(self, images: np.ndarray, thetas: np.ndarray) -> np.ndarray:
        """The images (B, C, H, W) moved along their directions by ``thetas`` (B, k)."""
        return images + np.einsum("bk,bk...->b...", thetas, self._slopes(images))

    def pieces(self) -> tuple[Polytope, ...]:
        """The whole box."""
        return (box_of(self.parameters),)

    def affine_parts(self, images: np.ndarray, piece: Polytope) -> tuple[np.ndarray, np.ndarray]:
        """The images themselves and their directions."""
        del piece
        return images, self._slopes(images)

    def _slopes(self, images: np.ndarray) -> np.ndarray:
        return np.stack([self._checked(image) for image in images])

    def _checked(self, image: np.ndarray) -> np.ndarray:
        directions = np.asarray(self.directions(image), dtype=np.float64)
        expected = (len(self.parameters), *image.shape)
        if directions.shape != expected:
            raise PerturbationError(
                f"{self.name}.directions returned an array of shape {directions.shape}; "
                f"one direction for each parameter is needed, {expected}"
            )
        if not np.isfinite(directions).all():
            raise PerturbationError(
                f"{self.name}.directions returned NaN or infinite values; they must be finite"
            )
        return directions


def check_range(where: str, low: float, high: float) -> None:
    """Raise PerturbationError, naming ``where``, unless low < high are finite and enclose 0."""
    if not (isfinite(low) and isfinite(high)):
        raise PerturbationError(f"the range of {where} is {low}..{high}; both ends must be finite numbers")
    if low == high:
        raise PerturbationError(
            f"the range of {where} is {low}..{high}, a single point; "
            f"give the single number {low} to keep it constant"
        )
    if low > high:
        raise PerturbationError(
            f"the range of {where} is {low}..{high}, which is reversed; write {high}..{low}"
        )
    if not low <= 0 <= high:
        raise PerturbationError(
            f"the range of {where} is {low}..{high}, which leaves out 0, where nothing "
            "is changed; widen the range so that it contains 0"
        )


def box_of(parameters: tuple[Parameter, ...]) -> Polytope:
    """The box of these parameters, in their order."""
    return box(np.array([p.low for p in parameters]), np.array([p.high for p in parameters]))
