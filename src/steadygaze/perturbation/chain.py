"""What a perturbation is, and perturbations one after the other, their parameters side by side.

An own perturbation inherits from ``AbstractPerturbation`` and defines ``apply`` alone: it can be sampled and
drawn; with ``enclose``, ``slope_bounds`` or ``interval`` the bound engine takes it. ``affine`` has the
classes to inherit from that the exact engines take.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import ClassVar, final

import numpy as np

from steadygaze.enclosing.enclosures import Enclosure, Pairs
from steadygaze.errors import NotEnclosable, PerturbationError
from steadygaze.perturbation.enclosing import by_range, by_slopes
from steadygaze.perturbation.folding import Foldable, Parts, check_agreement, folded
from steadygaze.perturbation.placing import IN_PLACE, Placement
from steadygaze.perturbation.reaching import Near
from steadygaze.perturbation.records import AffineImage, AffinePiece, Constant, Parameter, Setting


class AbstractPerturbation(ABC):
    """A change of an image by some amounts; where all amounts are 0, nothing is changed.

    A subclass sets `name` (one word, lower case) and `parameters` and defines `apply`: then it can be
    sampled and drawn. With `enclose`, `slope_bounds` or `interval` bounds take it. It overrides `expect`,
    and sets `moves_map`, only if the saliency map should move with the content; `hidden` only if it covers
    pixels. Shapes: B images, C channels, H rows, W columns, k amounts.
    """

    name: str
    parameters: tuple[Parameter, ...] = ()
    #: Amounts that do not vary and other settings, by name, as the report shows them.
    constants: Mapping[str, Constant] = {}
    #: What a specification may name; only the built-in perturbations have any.
    settings: ClassVar[tuple[Setting, ...]] = ()
    #: True where the expected map depends on the amounts (``expect`` is overridden).
    moves_map: bool = False
    #: True where it has affine pieces, see ``AbstractPiecewiseAffinePerturbation``.
    has_pieces: bool = False

    @abstractmethod
    def apply(self, images: np.ndarray, thetas: np.ndarray) -> np.ndarray:
        """The images (B, C, H, W) changed by the amounts ``thetas`` (B, k), one by one, without clipping."""

    def check(self, shape: tuple[int, int, int]) -> None:
        """Raise PerturbationError if images of this shape (C, H, W) cannot be changed this way."""
        del shape

    def stays_within(self, low: float, high: float) -> bool:
        """Whether images between these limits stay there for all amounts; False where that is not known."""
        del low, high
        return False

    def expect(self, maps: np.ndarray, thetas: np.ndarray) -> np.ndarray:
        """The maps (B, ..., H, W) as they should become where the amounts go from 0 to ``thetas`` (B, k).

        By default unchanged, as they always are at 0: what constants do, they have done already.
        """
        del thetas
        return maps

    def at_zero(self) -> Placement:
        """Where the content came from that constant amounts have moved: by default it is in place."""
        return IN_PLACE

    def placed(self, later: Placement) -> AbstractPerturbation:
        """The same change, whose ``expect`` and ``enclose_expected`` take maps seen through ``later``.

        Those are maps whose entries stand elsewhere than the pixels that this one makes: constant amounts of
        later links have moved them on, or they are fewer (see ``placing``). Raises PerturbationError where
        ``expect`` moves maps and this is not overridden.
        """
        if self.moves_map and self.parameters and not later.is_identity:
            raise PerturbationError(
                f"{self.name} moves the expected map and does not say how where entries of the map are not "
                "pixels of its own image: use gradient or abs-gradient maps, put it after what is constant, "
                "or define its placed()"
            )
        return self

    def hidden(self, size: tuple[int, int]) -> np.ndarray | None:
        """The pixels (H, W) bool that are covered, so that maps are not compared there; None for none."""
        del size
        return None

    def carry(self, mask: np.ndarray) -> np.ndarray:
        """Where the pixels of ``mask`` (H, W) may end up, wholly or in part, for any amounts in the range."""
        return mask

    @property
    def products(self) -> Pairs:
        """Numbers of two parameters each, whose product enclosures follow: see ``Enclosure.of_boxes``."""
        return ()

    @property
    def bends(self) -> tuple[bool, ...]:
        """For each parameter, whether all pixels bend where it is a whole number: a good place to cut."""
        return (False,) * len(self.parameters)

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
        return Chain(self, other)

    def __repr__(self) -> str:
        return f"<{self.describe()}>"


@final
class Chain(AbstractPerturbation):
    """Perturbations applied in the order given, as `a | b` makes it; chains among them are unrolled.

    Their parameters stand side by side: θ of the chain is θ of its links, one after the other. They are
    named `brightness.amount`; of a perturbation that occurs again, `patch#2.opacity`.

    Args:
        links: the perturbations.

    Raises:
        PerturbationError: if there is no link.
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
        self.moves_map = any(link.moves_map for link in self.links if link.parameters)
        self._grid = IN_PLACE

    @cached_property
    def box(self) -> np.ndarray:
        """The ranges (n, 2), low and high; not to be changed."""
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

    def stays_within(self, low: float, high: float) -> bool:
        """Whether every link keeps its images between these limits."""
        return all(link.stays_within(low, high) for link in self.links)

    def at_zero(self) -> Placement:
        """Where the content came from that all constants together have moved."""
        placement = IN_PLACE
        for link in self.links:
            placement = placement.of(link.at_zero())
        return placement

    def placed(self, later: Placement) -> Chain:
        """The same chain for maps whose entries stand at ``later`` in the image."""
        chain = copy(self)
        vars(chain).pop("_movers", None)  # they are of the grid
        chain._grid = later
        return chain

    def expect(self, maps: np.ndarray, thetas: np.ndarray) -> np.ndarray:
        """The maps (B, ...) as they should become where the amounts go from 0 to ``thetas`` (B, n)."""
        for mover, start, stop in self._movers:
            maps = mover.expect(maps, thetas[:, start:stop])
        return maps

    def expected(self, map0: np.ndarray, thetas: np.ndarray) -> np.ndarray:
        """The map of the unperturbed image, (C, H, W) or (H, W), as it should become: (B, *its shape).

        The unperturbed image has all constant amounts applied already, so that the map is moved by what
        varies alone: link by link, and where a later constant has turned, zoomed or moved the content, the
        way that the content moves there. Where the chain moves content, the last two axes must be those of
        the image, or those of the grid that the chain was ``placed`` on.
        """
        maps, thetas = _paired(map0, thetas, np.ndim(map0))
        return self.expect(maps, thetas)

    def compared(self, size: tuple[int, ...], entries: tuple[int, ...] | None = None) -> np.ndarray:
        """True where maps are compared, (H, W), for images of ``size`` (H, W) or (C, H, W).

        Left out are pixels that a patch covers or, after a later move, touches for some amounts. With
        ``entries``, those of the grid that the chain was ``placed`` on: an entry stands for the rectangle
        round its place that reaches halfway to the next, and is left out where such a pixel overlaps that.
        """
        hidden = np.zeros(size[-2:], dtype=bool)
        for link in self.links:
            hidden = link.carry(hidden)
            own = link.hidden((size[-2], size[-1]))
            hidden = hidden if own is None else hidden | own
        if entries is None or (self._grid.is_identity and entries == hidden.shape):
            return ~hidden
        rows, columns = np.indices(entries)
        x, y = self._grid.at(columns - (entries[1] - 1) / 2, rows - (entries[0] - 1) / 2)
        x, y = x + (size[-1] - 1) / 2, y + (size[-2] - 1) / 2
        wide, high = np.abs(self._grid.matrix).sum(axis=1) / 2
        return ~Near(hidden, 0.5)(x - wide, x + wide, y - high, y + high)

    def affine_pieces(self, image: np.ndarray) -> tuple[AffinePiece, ...]:
        """The polytopes that tile the box, each with the image (C, H, W) as an affine form on it.

        Raises PerturbationError where a link cannot change this image or disagrees with itself, and
        NotJointlyAffine where a link has no affine pieces or two links multiply their parameters.
        """
        image = np.asarray(image, dtype=np.float64)
        self.check(image.shape)
        pieces = folded(self.names, self.links, image, lambda link: link.affine_parts)
        for piece in pieces:
            check_agreement(self, lambda thetas: self.apply(image, thetas), piece, image)
        return pieces

    def expected_pieces(self, map0: np.ndarray) -> tuple[AffineImage, ...]:
        """The expected map of ``map0`` (C, H, W) or (H, W) as an affine form on each of ``affine_pieces``."""
        map0 = np.asarray(map0, dtype=np.float64)
        forms = folded(self.names, self.links, map0, _expected_parts)
        return tuple(piece.image for piece in forms)

    def why_not_enclosable(self, name: str = "", varied: bool = False) -> str:
        """Which link says nothing of its images over boxes of parameters, in a sentence; '' where all do."""
        del name
        for own, link in zip(self.names, self.links, strict=True):
            reason = link.why_not_enclosable(own, varied) if link.parameters or varied else ""
            if reason:
                return reason
            varied = varied or bool(link.parameters)
        return ""

    @property
    def products(self) -> Pairs:
        """Those of its links."""
        return tuple((start + j, start + k) for link, start, _ in self._slices() for j, k in link.products)

    @property
    def coordinates(self) -> int:
        """How many coordinates boxes of its parameters have: these, and products of them."""
        return len(self.parameters) + len(self.products)

    @property
    def bends(self) -> tuple[bool, ...]:
        """Those of its links."""
        return tuple(bend for link in self.links for bend in link.bends)

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
        for mover, start, stop in self._movers:
            maps = mover.enclose_expected(maps, amounts[start:stop])
        return maps

    @cached_property
    def _movers(self) -> tuple[tuple[AbstractPerturbation, int, int], ...]:
        """What moves the expected map, in order: the links that vary, as later constants show them."""
        movers, later = [], self._grid
        for link, start, stop in reversed(tuple(self._slices())):
            if link.parameters:
                movers.append((link.placed(later), start, stop))
            later = link.at_zero().of(later)
        return tuple(reversed(movers))

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


def _expected_parts(link: Foldable) -> Parts:
    """How a link moves the expected map, which is not at all where it does not vary."""
    if link.parameters:
        return link.expected_parts
    return lambda maps, _: (maps, np.zeros((len(maps), 0, *maps.shape[1:])))


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
