"""A chain as one affine form on each of its pieces, folded link by link.

Where a later link multiplies what an earlier one varies, the product of the two parameters is computed and
must vanish as an array; names are never consulted. So an added patch after a brightness is fine, and a
contrast after a brightness is refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from steadygaze.errors import NotJointlyAffine, PerturbationError
from steadygaze.geometry.polytope import Polytope, product
from steadygaze.perturbation.records import AffineImage, AffinePiece, Parameter

# A product of two parameters counts as zero below this share of the direction it multiplies: sums of
# weights that add up to 1 (grey, blur) leave a few units in the last place.
_ROUNDING = 1e-13
# How far a link's affine form may be from its own apply(), both being sums of a few terms of order 1.
_AGREEMENT = 1e-9

Parts = Callable[[np.ndarray, Polytope], tuple[np.ndarray, np.ndarray]]


@runtime_checkable
class Foldable(Protocol):
    """A link as far as it is asked here; see ``AbstractPiecewiseAffinePerturbation``."""

    parameters: tuple[Parameter, ...]
    has_pieces: bool

    def pieces(self) -> tuple[Polytope, ...]: ...

    def affine_parts(self, images: np.ndarray, piece: Polytope) -> tuple[np.ndarray, np.ndarray]: ...

    def expected_parts(self, maps: np.ndarray, piece: Polytope) -> tuple[np.ndarray, np.ndarray]: ...


PartsOf = Callable[[Foldable], Parts]


def folded(
    names: Sequence[str], links: Sequence[object], image: np.ndarray, parts_of: PartsOf
) -> tuple[AffinePiece, ...]:
    """The pieces of all links together, for an image or a map, of which ``parts_of`` gives a link's parts.

    Raises NotJointlyAffine where a link has no affine pieces or two links multiply their parameters.
    """
    foldable = [link for link in links if isinstance(link, Foldable) and link.has_pieces]
    if len(foldable) < len(links):
        name = next(n for n, link in zip(names, links, strict=True) if link not in foldable)
        raise NotJointlyAffine(
            f"{name} has no affine pieces, so that no exact engine can take it: leave it out, or use "
            "--method bound"
        )
    grown, clash = _grown(foldable, image, parts_of)
    if clash is not None:
        raise NotJointlyAffine(_refusal(names, foldable, clash, image))
    return tuple(grown)


def check_agreement(
    owner: object, apply: Callable[[np.ndarray], np.ndarray], piece: AffinePiece, image: np.ndarray
) -> None:
    """Compare the form with ``apply`` at the vertices and the centre, both of which it must meet.

    ``apply`` makes images (B, C, H, W) of theta (B, n). Raises PerturbationError, naming the ``owner``, where
    they differ.
    """
    thetas = np.vstack([piece.polytope.vertices, piece.polytope.centre])
    gaps = np.abs(apply(thetas) - piece.image.at(thetas)).reshape(len(thetas), -1).max(axis=1)
    worst = int(gaps.argmax())
    if not gaps[worst] <= _AGREEMENT * max(1.0, _largest(image)):
        raise PerturbationError(
            f"the affine pieces of {owner!r} differ from its apply() by {gaps[worst]:.3g} at theta = "
            f"{thetas[worst].tolist()}; correct the perturbation so that the two agree"
        )


def _grown(
    links: Sequence[Foldable], image: np.ndarray, parts_of: PartsOf
) -> tuple[list[AffinePiece], tuple[int, int] | None]:
    """The pieces, link by link; second, the first two links whose parameters multiply, if any."""
    first = np.cumsum([0, *(len(link.parameters) for link in links)])
    grown = [AffinePiece(product(), AffineImage(image, np.zeros((int(first[-1]), *image.shape))))]
    for index, link in enumerate(links):
        parts, before, grown = parts_of(link), grown, []
        for done, piece in itertools.product(before, link.pieces()):
            form, clash = _extended(done.image, parts, piece, int(first[index]))
            if clash is not None:
                return [], (int(np.searchsorted(first, clash, side="right")) - 1, index)
            grown.append(AffinePiece(product(done.polytope, piece), form))
    return grown, None


def _refusal(
    names: Sequence[str], links: Sequence[Foldable], clash: tuple[int, int], image: np.ndarray
) -> str:
    earlier, later = clash
    before, after = names[earlier], names[later]
    _, still = _grown([links[later], links[earlier]], image, lambda link: link.affine_parts)
    order = "" if still else f"put {after} before {before}, "
    return (
        f"{before} and then {after} multiply each other's parameters, so that the image is not jointly "
        f"piecewise affine and no exact engine can take it: {order}fix the parameters of {before} or "
        f"of {after} as constants, or use --method bound"
    )


def _extended(form: AffineImage, parts: Parts, piece: Polytope, first: int) -> tuple[AffineImage, int | None]:
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


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values).max(initial=0.0))
