"""Perturbations one after the other, their parameters side by side.

The affine form is folded link by link. Where a later link multiplies what an earlier one varies, the product
of the two parameters is computed and must vanish as an array; names are never consulted. So an added patch
after a brightness is fine, and a contrast after a brightness is refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from steadygaze.errors import NotEnclosable, NotJointlyAffine, PerturbationError
from steadygaze.geometry.enclosures import Enclosure
from steadygaze.geometry.polytope import Polytope, product
from steadygaze.perturbation.base import (
    AbstractPerturbation,
    AbstractPiecewiseAffinePerturbation,
    AffineImage,
    Parameter,
)

# A product of two parameters counts as zero below this share of the direction it multiplies: sums of
# weights that add up to 1 (grey, blur) leave a few units in the last place.
_ROUNDING = 1e-13
# How far a link's affine form may be from its own apply(), both being sums of a few terms of order 1.
_AGREEMENT = 1e-9

_Parts = Callable[[np.ndarray, Polytope], tuple[np.ndarray, np.ndarray]]
_PartsOf = Callable[[AbstractPiecewiseAffinePerturbation], _Parts]


@dataclass(frozen=True, eq=False)
class AffinePiece:
    """A polytope in the parameters of the whole chain, and the image, which is affine on it."""

    polytope: Polytope
    image: AffineImage


@final
class Chain(AbstractPerturbation):
    """Perturbations applied in the order given; chains among them are unrolled.

    Parameters are named 'brightness.amount'; of a perturbation that occurs again, 'patch#2.opacity'.
    Raises PerturbationError where there is no link.
    """

    name = "chain"

    def __init__(self, *links: AbstractPerturbation) -> None:
        self.links: tuple[AbstractPerturbation, ...] = tuple(_unrolled(links))
        if not self.links:
            raise PerturbationError("the chain holds no perturbation; name at least one, such as brightness")
        self.names = _unique([link.name for link in self.links])
        self.parameters: tuple[Parameter, ...] = tuple(
            replace(parameter, name=f"{name}.{parameter.name}")
            for name, link in zip(self.names, self.links, strict=True)
            for parameter in link.parameters
        )
        sizes = [len(link.parameters) for link in self.links]
        self._first = tuple(int(start) for start in np.cumsum([0, *sizes]))
        self.moves_map = any(link.moves_map for link in self.links)

    @property
    def box(self) -> np.ndarray:
        """The ranges (n, 2), low and high."""
        return np.array([(p.low, p.high) for p in self.parameters], dtype=np.float64).reshape(-1, 2)

    def describe(self) -> str:
        """In plain words, for the report."""
        return ", then ".join(link.describe() for link in self.links)

    def check(self, shape: tuple[int, int, int]) -> None:
        """Raise PerturbationError if nothing varies or a link cannot change images of shape (C, H, W)."""
        if not self.parameters:
            raise PerturbationError(
                "nothing varies: every amount is a single number; give at least one as a range, such as "
                "brightness(amount=-0.3..0.3)"
            )
        for link in self.links:
            link.check(shape)

    def apply(self, images: np.ndarray, thetas: np.ndarray) -> np.ndarray:
        """The image (C, H, W), or images (B, C, H, W), changed by ``thetas`` (B, n) or (n,); not clipped.

        Returns (B, C, H, W).
        """
        images, thetas = _paired(images, thetas, 3)
        self.check(images.shape[1:])
        for link, own in self._own(thetas):
            images = link.apply(images, own)
        return images

    def expect(self, maps: np.ndarray, thetas: np.ndarray) -> np.ndarray:
        """The maps (B, ...) as they should become under ``thetas`` (B, n)."""
        for link, own in self._own(thetas):
            maps = link.expect(maps, own)
        return maps

    def expected(self, map0: np.ndarray, thetas: np.ndarray) -> np.ndarray:
        """The map of the unperturbed image, (C, H, W) or (H, W), as it should become: (B, *its shape).

        Where the chain moves content, the last two axes must be those of the image.
        """
        maps, thetas = _paired(map0, thetas, np.ndim(map0))
        return self.expect(maps, thetas)

    def compared(self, size: tuple[int, ...]) -> np.ndarray:
        """True where maps are compared, (H, W), for images of ``size`` (H, W) or (C, H, W).

        Left out are pixels that a patch covers or, after a later shift, touches for some amounts.
        """
        hidden = np.zeros(size[-2:], dtype=bool)
        for link in self.links:
            hidden = link.carry(hidden)
            own = link.hidden((size[-2], size[-1]))
            hidden = hidden if own is None else hidden | own
        return ~hidden

    def affine_pieces(self, image: np.ndarray) -> tuple[AffinePiece, ...]:
        """The polytopes that tile the box, each with the image (C, H, W) as an affine form on it.

        Raises PerturbationError where a link cannot change this image or disagrees with itself, and
        NotJointlyAffine where a link has no affine pieces or two links multiply their parameters.
        """
        image = np.asarray(image, dtype=np.float64)
        self.check(image.shape)
        pieces = self._folded(image, lambda link: link.affine_parts)
        for piece in pieces:
            self._agree(image, piece)
        return pieces

    def expected_pieces(self, map0: np.ndarray) -> tuple[AffineImage, ...]:
        """The expected map of ``map0`` (C, H, W) or (H, W) as an affine form on each of ``affine_pieces``."""
        map0 = np.asarray(map0, dtype=np.float64)
        return tuple(piece.image for piece in self._folded(map0, lambda link: link.expected_parts))

    def why_not_enclosable(self, name: str = "", varied: bool = False) -> str:
        """Which link says nothing of its images over boxes of parameters, in a sentence; '' where all do."""
        del name
        for own, link in zip(self.names, self.links, strict=True):
            reason = link.why_not_enclosable(own, varied) if link.parameters or varied else ""
            if reason:
                return reason
            varied = varied or bool(link.parameters)
        return ""

    def enclose(self, images: np.ndarray | Enclosure, amounts: np.ndarray | Enclosure) -> Enclosure:
        """Where the images lie over boxes of parameters, affine in the coordinates t of each box.

        ``images`` is an image (C, H, W), and ``amounts`` are boxes (B, n, 2), low and high, in which
        theta_j = middle_j + half_j t_j (``Enclosure.of_boxes``); or both are enclosures already. Returns
        (B, C, H, W), not clipped. What constant links make of the image before anything varies is taken as
        computed. Raises NotEnclosable where a link does not say where its images lie.
        """
        images, amounts = self._enclosures(images, amounts)
        self.check((images.shape[0], images.shape[1], images.shape[2]))
        for link, start, stop in self._slices():
            if not link.parameters and images.is_exact:
                images = Enclosure.exact(
                    link.apply(images.centre, np.zeros((len(images.centre), 0))), images.count
                )
            else:
                images = link.enclose(images, amounts[start:stop])
        return images

    def enclose_expected(self, maps: np.ndarray | Enclosure, amounts: np.ndarray | Enclosure) -> Enclosure:
        """Where the expected map of ``maps``, (C, H, W) or (H, W), lies: see ``enclose``."""
        maps, amounts = self._enclosures(maps, amounts)
        for link, start, stop in self._slices():
            if not link.parameters and maps.is_exact:
                maps = _unvaried(link.expect, maps)
            else:
                maps = link.enclose_expected(maps, amounts[start:stop])
        return maps

    def _enclosures(
        self, values: np.ndarray | Enclosure, amounts: np.ndarray | Enclosure
    ) -> tuple[Enclosure, Enclosure]:
        reason = self.why_not_enclosable(varied=isinstance(values, Enclosure) and not values.is_exact)
        if reason:
            raise NotEnclosable(reason)
        if not isinstance(amounts, Enclosure):
            amounts = Enclosure.of_boxes(np.asarray(amounts, dtype=np.float64))
        if not isinstance(values, Enclosure):
            single = np.asarray(values, dtype=np.float64)
            values = Enclosure.exact(
                np.broadcast_to(single, (len(amounts.centre), *single.shape)), amounts.count
            )
        return values, amounts

    def _slices(self) -> Iterable[tuple[AbstractPerturbation, int, int]]:
        yield from zip(self.links, self._first, self._first[1:], strict=False)

    def _own(self, thetas: np.ndarray) -> Iterable[tuple[AbstractPerturbation, np.ndarray]]:
        for link, start, stop in self._slices():
            yield link, thetas[:, start:stop]

    def _folded(self, image: np.ndarray, parts_of: _PartsOf) -> tuple[AffinePiece, ...]:
        """The pieces of the whole chain, or NotJointlyAffine."""
        for name, link in zip(self.names, self.links, strict=True):
            if not (isinstance(link, AbstractPiecewiseAffinePerturbation) and link.has_pieces):
                raise NotJointlyAffine(
                    f"{name} has no affine pieces, so that no exact engine can take it: leave it out, or use "
                    "--method bound"
                )
        grown, clash = self._grown(image, parts_of)
        if clash is not None:
            raise NotJointlyAffine(self._refusal(*clash, image))
        return tuple(grown)

    def _grown(
        self, image: np.ndarray, parts_of: _PartsOf
    ) -> tuple[list[AffinePiece], tuple[int, int] | None]:
        """The pieces, link by link; second, the first two links whose parameters multiply, if any."""
        start = AffineImage(image, np.zeros((len(self.parameters), *image.shape)))
        grown = [AffinePiece(product(), start)]
        links = [link for link in self.links if isinstance(link, AbstractPiecewiseAffinePerturbation)]
        for index, link in enumerate(links):
            parts, before, grown = parts_of(link), grown, []
            for done, piece in itertools.product(before, link.pieces()):
                form, clash = _extended(done.image, parts, piece, self._first[index])
                if clash is not None:
                    return [], (int(np.searchsorted(self._first, clash, side="right")) - 1, index)
                grown.append(AffinePiece(product(done.polytope, piece), form))
        return grown, None

    def _refusal(self, earlier: int, later: int, image: np.ndarray) -> str:
        before, after = self.names[earlier], self.names[later]
        _, clash = Chain(self.links[later], self.links[earlier])._grown(image, lambda link: link.affine_parts)
        order = "" if clash else f"put {after} before {before}, "
        return (
            f"{before} and then {after} multiply each other's parameters, so that the image is not jointly "
            f"piecewise affine and no exact engine can take it: {order}fix the parameters of {before} or "
            f"of {after} as constants, or use --method bound"
        )

    def _agree(self, image: np.ndarray, piece: AffinePiece) -> None:
        """Compare the form with ``apply`` at the vertices and the centre, both of which it must meet."""
        thetas = np.vstack([piece.polytope.vertices, piece.polytope.centre])
        gaps = np.abs(self.apply(image, thetas) - piece.image.at(thetas)).reshape(len(thetas), -1).max(axis=1)
        worst = int(gaps.argmax())
        if not gaps[worst] <= _AGREEMENT * max(1.0, _largest(image)):
            raise PerturbationError(
                f"the affine pieces of {self!r} differ from its apply() by {gaps[worst]:.3g} at theta = "
                f"{thetas[worst].tolist()}; correct the perturbation so that the two agree"
            )


def _extended(
    form: AffineImage, parts: _Parts, piece: Polytope, first: int
) -> tuple[AffineImage, int | None]:
    """The form with one more link applied, whose parameters start at ``first``, where ``form`` is still zero.

    Second, the first parameter that the link multiplies by its own or bends, None if there is no such one.
    """
    varied = np.flatnonzero(form.directions.reshape(len(form.directions), -1).any(axis=1))
    directions = form.directions.copy()
    if not len(varied):
        constants, slopes = parts(form.base[None], piece)
        directions[first : first + slopes.shape[1]] = slopes[0]
        return AffineImage(constants[0], directions), None
    moved = form.directions[varied]
    # Two more images: 0, to take the linear part by difference, which keeps zeros exact; and a mixture,
    # to see that the parts are affine in the image at all.
    weights = 0.5 + 0.5 / (2.0 + np.arange(len(varied)))
    mixture = form.base + np.tensordot(weights, moved, axes=1)
    constants, slopes = parts(np.stack([form.base, np.zeros_like(form.base), mixture, *moved]), piece)
    linear, products = constants[3:] - constants[1], slopes[3:] - slopes[1]
    bent = max(
        _largest(constants[2] - constants[0] - np.tensordot(weights, linear, axes=1)),
        _largest(slopes[2] - slopes[0] - np.tensordot(weights, products, axes=1)),
    )
    for one, term, direction in zip(varied, products, moved, strict=True):
        if _largest(term) > _ROUNDING * _largest(direction) or bent > _AGREEMENT:
            return form, int(one)
    directions[varied] = linear
    directions[first : first + slopes.shape[1]] = slopes[0]
    return AffineImage(constants[0], directions), None


def _unvaried(change: Callable[[np.ndarray, np.ndarray], np.ndarray], values: Enclosure) -> Enclosure:
    """The same known values in every row, changed by a link without parameters: once for all."""
    changed = change(values.centre[:1], np.zeros((1, 0)))
    rows = np.broadcast_to(changed, (len(values.centre), *changed.shape[1:]))
    return Enclosure.exact(rows, values.count)


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values).max(initial=0.0))


def _paired(images: np.ndarray, thetas: np.ndarray, axes: int) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 batches of the same length; an image has ``axes`` axes."""
    images = np.asarray(images, dtype=np.float64)
    thetas = np.atleast_2d(np.asarray(thetas, dtype=np.float64))
    if images.ndim == axes:
        images = np.broadcast_to(images, (len(thetas), *images.shape))
    return images, thetas


def _unrolled(links: Iterable[AbstractPerturbation]) -> Iterable[AbstractPerturbation]:
    for link in links:
        if isinstance(link, Chain):
            yield from link.links
        elif isinstance(link, AbstractPerturbation):
            yield link
        else:
            raise PerturbationError(
                f"a link of the chain is {link!r}, of type {type(link).__name__}; each link must be a "
                "perturbation such as steadygaze.Brightness(-0.3, 0.3)"
            )


def _unique(names: list[str]) -> tuple[str, ...]:
    """The names, with '#2', '#3', ... after those that came before."""
    counts = [names[: index + 1].count(name) for index, name in enumerate(names)]
    return tuple(name if count == 1 else f"{name}#{count}" for name, count in zip(names, counts, strict=True))
