"""The problem: network, image, label, perturbation, saliency, inconsistency and threshold, validated once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from steadygaze.deadline import NEVER, Deadline
from steadygaze.enclosing.enclosures import Enclosure
from steadygaze.enclosing.forms import Forms
from steadygaze.errors import NotEnclosable, NotJointlyAffine, NotPiecewiseAffine
from steadygaze.network.bounding.blocks import BlockNorms
from steadygaze.network.bounding.bounds import Bounds, of_parameters
from steadygaze.network.bounding.forms.slack import Slacks
from steadygaze.network.bounding.polynomials import are_followed
from steadygaze.network.bounding.small_boxes import bounds_over
from steadygaze.network.bounding.tightening import Effort
from steadygaze.network.graph import Graph
from steadygaze.network.reading.load import Network
from steadygaze.network.reading.noise import level_of
from steadygaze.network.regions.piecewise import Stages
from steadygaze.network.regions.rounding import most_terms_of_maps, terms_of_gradient_maps, terms_of_maps
from steadygaze.network.saliency import AbstractGradientSaliency, AbstractSaliency, NoMap
from steadygaze.network.simplify import pooled_first
from steadygaze.perturbation.chain import Chain
from steadygaze.perturbation.records import AffineImage, AffinePiece
from steadygaze.question.exactness import check_form
from steadygaze.question.inconsistency import AbstractInconsistency
from steadygaze.question.learning import Learnt, hinges_from_zero, learnt, slacks_where, values_at_all
from steadygaze.question.points import Points, drawn, judged, maps_of_original, placed, probed, scaling_of
from steadygaze.tolerance import Tolerance


@dataclass(frozen=True, eq=False)
class Problem:
    """One question, checked: the `problem` of an answer; `solve` asks it again in another way.

    Attributes:
        network: the imported network beside the original.
        graph: perturbed image -> clip -> network, as one graph; its node 0 takes the image before the clip.
        pixels: index in `graph` of the pixels handed to the classifier (after the clip).
        perturbation: the chain.
        image: `(C, H, W)`, as it was handed in; `label`, `clip` and the rest as asked.
    """

    network: Network
    graph: Graph
    pixels: int
    perturbation: Chain
    image: np.ndarray
    label: int
    clip: tuple[float, float] | None
    saliency: AbstractSaliency
    inconsistency: AbstractInconsistency
    threshold: float
    tolerance: Tolerance

    # -- the question in numbers

    @property
    def box(self) -> np.ndarray:
        """The ranges of the parameters, ``(n, 2)``."""
        return self.perturbation.box

    @property
    def class_alone(self) -> bool:
        """Whether only the class must hold: no map is made, and none is compared."""
        return isinstance(self.saliency, NoMap)

    @property
    def moves_map(self) -> bool:
        """Whether the expected map moves with the parameters."""
        return self.perturbation.moves_map and not self.class_alone

    @property
    def volume(self) -> float:
        """Volume of the box."""
        return float(np.prod(self.box[:, 1] - self.box[:, 0]))

    @cached_property
    def map0(self) -> Tensor:
        """The saliency map of the unperturbed image."""
        image, known, saliency, graph = self._unperturbed, self.known, self.saliency, self.network.graph
        # Beside other rows values are rounded otherwise: only where pieces alone decide is the map the same.
        by_pieces = graph.piecewise_linear and not saliency.varies
        if not (isinstance(saliency, AbstractGradientSaliency) and by_pieces):
            return self.maps_at(image)[0]
        image = image.to(self.graph.device)
        return saliency.maps_on(graph, image, self.label, known.logits, known.pieces)[0].cpu()

    @property
    def follows_nothing(self) -> bool:
        """Whether the map of the unperturbed image is zero wherever it is compared, but for rounding."""
        return not (self.class_alone or (self.target.abs() > self.tolerance.vanishing * self._terms0).any())

    @cached_property
    def expected_slack(self) -> float:
        """How far the inconsistency may be moved by what rounding leaves of the unperturbed image's map."""
        if self.class_alone:
            return 0.0
        return float(self.inconsistency.slack(self.target[None], self.expected_errors[None]))

    @property
    def expected_errors(self) -> Tensor:
        """What rounding may leave of the entries of `target`, ``(P,)``."""
        return self.tolerance.rounding * self._terms0

    @cached_property
    def most_terms(self) -> Tensor:
        """About as much as what makes up maps of gradients can be, wherever units are, ``(1, P)``."""
        graph = self.network.graph
        nothing = torch.zeros((1, *graph.input_shape), dtype=torch.float64, device=graph.device)
        return most_terms_of_maps(self.saliency, graph, nothing, self.label)

    @cached_property
    def _terms0(self) -> Tensor:
        """What makes up the entries of `target`, as rounding sees it, ``(P,)``; see `terms_of_maps`."""
        graph, known = self.network.graph, self.known
        asked = (graph, self._unperturbed.to(graph.device), self.label)
        if isinstance(self.saliency, AbstractGradientSaliency):
            terms = terms_of_gradient_maps(self.saliency, *asked, (known.logits, known.pieces))
        else:
            terms = terms_of_maps(self.saliency, *asked, known.by_network)
        return self.kept(terms.cpu())[0]

    @cached_property
    def compared(self) -> Tensor | None:
        """Numbers of the map's entries that are compared; None for all."""
        if self.class_alone:
            return None
        mask = self._followed.compared(self.image.shape, self.map0.shape[-2:])
        mask = np.broadcast_to(mask, self.map0.shape).reshape(-1)
        return None if mask.all() else torch.from_numpy(np.flatnonzero(mask))

    @cached_property
    def target(self) -> Tensor:
        """The map of the unperturbed image as it is compared, ``(P,)`` (see `_kept`)."""
        return self.kept(self.map0[None])[0]

    @property
    def by_network(self) -> dict[int, Tensor]:
        """For each node of the network that picks, ``(units,)``: how close to a breakpoint is on it."""
        return self.known.by_network

    def of_label(self, label: int) -> Problem:
        """The same question about another class; what the network makes of its images is kept, if known."""
        found = replace(self, label=label)
        vars(found).update({name: own for name, own in vars(self).items() if name == "_evaluated"})
        return found

    # -- at points

    def values_at_probes(self, count: int) -> Mapping[int, Tensor] | None:
        """Values ``(1 + count, *shape)`` of the network's nodes at the unperturbed image and so many probes.

        They are of the pass that learns what rounding is; None where it has fewer probes.
        """
        if count > min(len(self.probes), probed(self.graph.effort)):
            return None
        first = self.pixels
        return {node - first: own[: 1 + count] for node, own in self.evaluate().items() if node >= first}

    def images(self, thetas: np.ndarray) -> Tensor:
        """Images handed to the classifier, ``(B, C, H, W)``, at ``thetas`` (B, n); within any clip."""
        images = self._perturbed(thetas)
        return images if self.clip is None else images.clamp(*self.clip)

    def unclipped(self, thetas: np.ndarray) -> Tensor:
        """Images ``(B, C, H, W)`` at ``thetas`` (B, n) before the clip: what node 0 of `graph` takes."""
        return self._perturbed(thetas).to(self.graph.device)

    @cached_property
    def _unperturbed(self) -> Tensor:
        """The image at theta = 0 as the classifier gets it, ``(1, C, H, W)``: constant amounts are in it."""
        return self.images(np.zeros((1, len(self.box))))

    def _perturbed(self, thetas: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.perturbation.apply(self.image, thetas)))

    def maps_at(self, images: Tensor) -> Tensor:
        """Saliency maps ``(B, ...)`` at images ``(B, C, H, W)``; level units are on the piece below."""
        graph, images = self.network.graph, images.to(self.network.graph.device)
        return self.saliency.maps(graph, images, self.label, self.known.by_network).cpu()

    def expected_at(self, thetas: np.ndarray, map0: Tensor | None = None) -> Tensor:
        """Expected maps ``(B, ...)`` at ``thetas`` (B, n), from `map0` or another map of the image."""
        map0 = self.map0 if map0 is None else map0
        if not self.moves_map:
            return map0.expand(len(thetas), *map0.shape)
        return torch.from_numpy(np.ascontiguousarray(self._followed.expected(map0.numpy(), thetas)))

    @cached_property
    def _followed(self) -> Chain:
        return placed(self.perturbation, self.saliency, self.network.graph, self.image.shape)

    def shown(self, maps: Tensor) -> np.ndarray:
        """Maps ``(B, ...)``, or rows of `kept`, as pictures ``(B, ...)``: nan where not compared."""
        kept = self.kept(maps) if maps.flatten(1).shape[1] == self.map0.numel() else maps
        out = torch.full((len(kept), self.map0.numel()), torch.nan, dtype=torch.float64)
        shown = slice(None) if self.compared is None else self.compared
        out[:, shown] = kept if self.inconsistency.counts_entries else kept[:, shown]
        return out.reshape(-1, *self.map0.shape).numpy()

    def at(self, thetas: np.ndarray) -> Points:
        """Plain evaluation of the imported network in float64 at ``thetas`` (B, n)."""
        graph = self.network.graph
        images = self.images(thetas).to(graph.device)
        logits, maps = self.saliency.logits_and_maps(graph, images, self.label, self.known.by_network)
        return self._judged(logits.cpu(), maps.cpu(), self.expected_at(thetas))

    def gaps_at(self, thetas: np.ndarray) -> np.ndarray:
        """The class gap ``(B,)`` of `at`, without maps."""
        images = self.images(thetas).to(self.network.graph.device)
        return self.gaps(self.network.graph.forward(images)).amin(dim=1).cpu().numpy()

    def replay(self, thetas: np.ndarray, values: Mapping[int, Tensor] | None = None) -> Points:
        """The same in the original model, in its own precision, maps included (see `maps_of_original`);
        values ``(B, *shape)`` are what the imported network's nodes come to there, if that is at hand."""
        expected = self.expected_at(thetas, self._own_map0)
        if len(thetas) == 1 and not thetas.any():
            return self._judged(self._own_logits0, self._own_map0[None], expected)
        images = self.images(thetas)
        logits = self._original_logits(images)
        level = None if values is None else level_of(self.network.graph, values, self.known.by_network)
        return self._judged(logits, self._replayed(images, logits, level), expected)

    def lost(self, thetas: np.ndarray) -> np.ndarray:
        """Where at ``thetas`` (B, n) the original model, in its own precision, gives another class, (B,)."""
        gaps = self.gaps(self._original_logits(self.images(thetas)))
        return gaps.amin(dim=1).numpy() < 0

    def _replayed(self, images: Tensor, logits: Tensor, level: Tensor | None = None) -> Tensor:
        """Maps ``(B, ...)`` by the original's gradients where it has any; see `maps_of_original`."""
        tolerances = self.known.by_network
        found = maps_of_original(self.network, self.saliency, images, logits, self.label, tolerances, level)
        return self.maps_at(images) if found is None else found.reshape(-1, *self.map0.shape)

    @cached_property
    def _own_map0(self) -> Tensor:
        """The original model's map of the unperturbed image."""
        return self._replayed(self._unperturbed, self._own_logits0, self.known.level)[0]

    @cached_property
    def _own_logits0(self) -> Tensor:
        return self._original_logits(self._unperturbed)

    @property
    def predicted(self) -> int:
        """The class that the original model gives the unperturbed image."""
        return int(self._own_logits0.argmax())

    def _original_logits(self, images: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(self.network.original.logits(images.numpy()), np.float64))

    def rounding_of_original(self) -> float:
        """How far the original model's class gaps may be off: float32 rounding of the logits' scale."""
        return float(1e-4 * self.known.scales[self.graph.last].max())

    def _judged(self, logits: Tensor, maps: Tensor, expected: Tensor) -> Points:
        gap = self.gaps(logits).amin(dim=1).numpy()
        maps, expected = self.kept(maps), self.kept(expected)
        return judged(logits, gap, maps, expected, self.inconsistency, self.threshold)

    # -- on regions

    @cached_property
    def pieces(self) -> tuple[AffinePiece, ...]:
        """The affine pieces of the perturbation. Raises NotJointlyAffine where it has none."""
        return self.perturbation.affine_pieces(self.image)

    @cached_property
    def expected_pieces(self) -> tuple[AffineImage, ...]:
        """The expected map on each piece as it is compared: base ``(P,)``, directions ``(n, P)``."""
        forms = self._followed.expected_pieces(self.map0.numpy())
        return tuple(
            AffineImage(
                self.kept(torch.from_numpy(form.base[None]))[0].numpy(),
                self.kept(torch.from_numpy(np.ascontiguousarray(form.directions))).numpy(),
            )
            for form in forms
        )

    @property
    def rectifies_maps(self) -> bool:
        """Whether the map is the positive part of one that is affine on each region."""
        return not isinstance(self.saliency, AbstractGradientSaliency | NoMap)

    @property
    def follows_maps(self) -> bool:
        """Whether the inconsistency varies inside a region."""
        return self.moves_map or self.rectifies_maps or self.saliency.affine

    @cached_property
    def is_exact(self) -> bool:
        """Whether exact engines can take the question."""
        try:
            self.check_exact()
        except (NotPiecewiseAffine, NotJointlyAffine):
            return False
        return True

    def check_exact(self) -> None:
        """Raise where no exact engine can take the question; see `exactness.check_form` and `pieces`."""
        check_form(self.graph, self.saliency, self.perturbation, self.inconsistency, self.threshold)
        _ = self.pieces

    @cached_property
    def stages(self) -> Stages:
        """The network stage by stage, for exact engines. Raises NotPiecewiseAffine as `check_exact` does."""
        self.check_exact()
        return Stages(self.graph, self.known.tolerances)

    def distances_of_hinges(self, deadline: Deadline = NEVER) -> np.ndarray:
        """See `hinges_from_zero`: one pass, as long as a region takes, for all searches that ask."""
        if "_hinges" not in vars(self):
            vars(self)["_hinges"] = hinges_from_zero(self.stages, self.pieces, self.box, deadline)
        return vars(self)["_hinges"]

    # -- over boxes

    def check_enclosable(self) -> None:
        """Raise NotEnclosable where the perturbation does not say where its images lie over a box."""
        reason = self.perturbation.why_not_enclosable()
        if reason:
            raise NotEnclosable(reason)

    def bounds(
        self, boxes: np.ndarray, room: int, effort: Effort = Effort.FORMS, deadline: Deadline = NEVER, *,
        shared: int = 0,
    ) -> Bounds:  # fmt: skip
        """The network over boxes ``(B, n, 2)`` of parameters; the others are as for `bounds_over`.

        Raises NotEnclosable where the perturbation does not say where its images lie, and Expired.
        """
        (graph, tolerances, norms), amounts = self.bounded, self._amounts(boxes, shared)
        image, start = self.perturbation.enclose(self.image, amounts), self._first_bounded
        wanted = {graph.last, *self.saliency.reads(self.graph, self.pixels)}
        more = (deadline, not self.class_alone, norms, shared, self.perturbation.products, self.pixels)
        found = bounds_over(image, graph, wanted, tolerances, room, start, effort, *more)
        return replace(found, pull=of_parameters(found.pull, self.perturbation.products))

    @cached_property
    def follows_polynomials(self) -> bool:
        """Whether there are bounds by polynomials, see `Effort`."""
        return are_followed(self.graph, self.perturbation.coordinates)

    def _amounts(self, boxes: np.ndarray, kinks: int = 0) -> Enclosure:
        return Enclosure.of_boxes(boxes, self.perturbation.products, self.graph.drowns, kinks)

    @cached_property
    def _first_bounded(self) -> int:
        """Where bounds begin: behind a clip that never cuts anything off, which is left out."""
        idle = self.clip is not None and self.perturbation.stays_within(*self.clip)
        return self.pixels if idle else 0

    def enclosed_inconsistency(self, boxes: np.ndarray, bounds: Bounds) -> tuple[np.ndarray, np.ndarray]:
        """Least and largest inconsistency ``(B,)`` over boxes, whose bounds are known."""
        if self.class_alone:
            return np.zeros(len(boxes)), np.zeros(len(boxes))
        maps = self.saliency.enclosed(bounds, self.label, self.pixels)
        if self.moves_map:
            expected = self._followed.enclose_expected(self.map0.numpy(), self._amounts(boxes))
            expected = Forms.of(expected, maps.rows.device, maps.count)
        else:
            expected = Forms.exact(self.map0.to(maps.rows).expand(len(boxes), *self.map0.shape), maps.count)
        low, high = self.inconsistency.bounds(self._compared(maps), self._compared(expected), self.threshold)
        return low.cpu().numpy(), high.cpu().numpy()

    def _compared(self, maps: Forms) -> Forms:
        """The entries that are compared, as forms ``(P,)``."""
        flat = maps.flattened()
        if self.compared is None:
            return flat
        kept = self.compared.to(flat.error.device)
        return replace(flat, rows=flat.rows.index_select(2, kept), error=flat.error.index_select(1, kept))

    @cached_property
    def bounded(self) -> tuple[Graph, Slacks, BlockNorms]:
        """The graph as it is bounded; of each node that picks, how close to a breakpoint is on it; blocks."""
        graph = pooled_first(self.graph, {*self.saliency.reads(self.graph, self.pixels), self.pixels})
        if all(one is other for one, other in zip(graph.nodes, self.graph.nodes, strict=True)):
            graph = self.graph
        image, slacks = self._unperturbed.to(graph.device), slacks_where(self.graph, graph, self.known)
        return graph, slacks, BlockNorms(graph, self._first_bounded, image, not self.class_alone)

    @cached_property
    def gap_tolerance(self) -> np.ndarray:
        """Tolerance of each class gap, ``(K - 1,)``."""
        scale = self.known.scales[self.graph.last].cpu().numpy()
        return self.tolerance.hinge * (np.delete(scale, self.label) + scale[self.label])

    @cached_property
    def gap_names(self) -> np.ndarray:
        """Names of the class hinges, uint64 ``(K - 1,)``."""
        return np.uint64(1 << 60) + np.arange(self.graph.classes - 1, dtype=np.uint64)

    def gaps(self, logits: Tensor) -> Tensor:
        """f_c - f_j for every other class j, ``(B, K - 1)``, from logits ``(B, K)``."""
        others = torch.cat([logits[:, : self.label], logits[:, self.label + 1 :]], dim=1)
        return logits[:, self.label : self.label + 1] - others

    def kept(self, maps: Tensor, own: bool = False) -> Tensor:
        """Maps as rows ``(B, P)`` whose entries that are not compared are 0.

        Where the number of entries counts they are left out instead. With `own` the maps may be overwritten.
        """
        flat = maps.flatten(1)
        if self.compared is None:
            return flat
        if self.inconsistency.counts_entries:
            return flat.index_select(1, self.compared.to(flat.device))
        hidden = self._hidden.to(flat.device)
        return flat.index_fill_(1, hidden, 0.0) if own else flat.index_fill(1, hidden, 0.0)

    @cached_property
    def _hidden(self) -> Tensor:
        """Numbers of the map's entries that are not compared."""
        mask = torch.ones(self.map0.numel(), dtype=torch.bool)
        mask[[] if self.compared is None else self.compared] = False
        return mask.nonzero()[:, 0]

    @cached_property
    def known(self) -> Learnt:
        """What one pass over the unperturbed image, and over those that tell the scale of rounding, tells."""
        found = learnt(self.graph, self.network.graph, self.evaluate(), self.tolerance.hinge)
        vars(self).pop("_evaluated", None)  # of a large network it takes much room
        return found

    def evaluate(self, deadline: Deadline = NEVER) -> dict[int, Tensor]:
        """That pass, kept until it was learnt from: values of all nodes at `_learning`. Raises Expired."""
        if "_evaluated" not in vars(self):
            vars(self)["_evaluated"] = values_at_all(self.graph, self._learning, deadline)
        return vars(self)["_evaluated"]

    @property
    def _learning(self) -> Tensor:
        """The unperturbed image and, at random theta and corners of the box, those that tell the scale."""
        scaling = scaling_of(self.box, self.probes, self.graph.effort)
        return self.unclipped(np.concatenate([np.zeros((1, len(self.box))), scaling]))

    @cached_property
    def probes(self) -> np.ndarray:
        """Random theta ``(16, n)`` of the box, always the same."""
        return drawn(self.box)
