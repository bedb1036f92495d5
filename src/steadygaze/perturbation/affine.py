"""What a perturbation is that is affine in its amounts, piece by piece or as a whole.

Two classes to inherit from beside ``AbstractPerturbation``, each asking for more and giving more:

- ``AbstractPiecewiseAffinePerturbation``: its affine pieces too. The exact engines take it, and
  the bound engine where nothing varies before it.
- ``AbstractAffinePerturbation``: the short way to an own one that is x + sum_j theta_j direction_j.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from steadygaze.errors import PerturbationError
from steadygaze.geometry.polytope import Polytope
from steadygaze.perturbation.chain import AbstractPerturbation
from steadygaze.perturbation.records import box_of


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

    The directions may depend on the image in any way if no varying link comes before this one in a chain;
    after a varying link they must be affine in the image, and the chain checks it.

    Examples:
        >>> class Vignette(AbstractAffinePerturbation):
        ...     name = "vignette"
        ...     parameters = (Parameter("amount", "", 0.0, 0.5),)
        ...
        ...     def directions(self, image):
        ...         ramp = np.linspace(-1, 1, image.shape[-1]) ** 2
        ...         return -image[None] * ramp
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
