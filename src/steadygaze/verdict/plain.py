"""Plain evaluation of the question at points: what the answers of all searches are held against.

It takes from the question what was asked (image, chain, clip, label, saliency, inconsistency, threshold) and
the imported network, which was compared with the original, and goes the shortest way: perturb, clip, forward,
backward, compare, without the units that are 0 on all rows. It knows no stages, no regions, no combinations
of maps and no bounds, and nothing that `Problem` works out for searches. Beside the kind at each point it
tells what else rounding would let it be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from steadygaze.geometry.kinds import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST, UNDECIDED
from steadygaze.network.graph import Graph
from steadygaze.network.integrated import IntegratedGradients
from steadygaze.network.joint import AbstractJoint
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.reading.noise import apart, near_of
from steadygaze.network.regions.local import Uneven
from steadygaze.network.regions.rounding import uneven
from steadygaze.network.saliency import AbstractGradientSaliency, GradCam, NoMap
from steadygaze.network.smooth import Smooth
from steadygaze.network.varying import at_values
from steadygaze.perturbation.chain import Chain
from steadygaze.question.points import placed
from steadygaze.question.problem import Problem
from steadygaze.verdict.seen import Evaluated, Seen, settled_rows
from steadygaze.verdict.terms import Terms, places_to_learn

# A value within this share of the sum of absolute terms that make it up may be 0: a thousand times what
# rounding leaves of sums, and ten times what searches take for 0.
_ROUNDING, _OF_SEARCHES = 1e-10, 10.0
# The same for models in single precision.
_SINGLE = 1e-6
# An inconsistency this close to the threshold may be on either side of it: rounding leaves some 1e-14 of a
# cosine and 1e-8 of the distance of two vectors that are nearly one.
_CLOSE = 1e-7
# A map below this share of the unperturbed image's has no direction that rounding leaves standing.
_VANISHING = 1e-9


@dataclass(frozen=True)
class _Wanted:
    """Maps that are to be made.

    Attributes:
        each: rows with the pieces that their units are on: all rows, and those near to a breakpoint once
            more, on the pieces beside it.
        near: ``(k,)`` numbers of these, none where there are none.
    """

    each: tuple[tuple[Evaluated, Mapping[int, Tensor]], ...]
    near: Tensor


class PlainEvaluation:
    """See the module.

    rounding: the share of the terms that make a value up below which it may be 0; by default that of double
    precision. level: whether units that are within rounding of a breakpoint wherever one looks are taken to
    be on the piece below it, which is the convention; else they count as near to it. ahead: theta ``(B, n)``
    that will be asked about, which are evaluated in the pass that learns.
    """

    def __init__(
        self,
        problem: Problem,
        rounding: float = _ROUNDING,
        level: bool = True,
        ahead: np.ndarray | None = None,
    ) -> None:
        self._problem = problem
        self._graph: Graph = problem.network.graph
        self._ahead = np.zeros((0, len(problem.box))) if ahead is None else ahead
        self._known: Evaluated | None = None
        self._learnt = self._learn(max(rounding, _SINGLE))
        self._round(rounding, level)

    def _round(self, rounding: float, level: bool) -> None:
        share = max(rounding, _OF_SEARCHES * self._problem.tolerance.hinge)
        self._scale = share * self._learnt.scale
        own = {node: share * size for node, size in self._learnt.sizes.items()}
        # What double precision tells apart is told apart, however large the terms are elsewhere.
        self._tolerance = own
        if rounding != _SINGLE:
            least = {node: size.minimum(self._least[node]) for node, size in own.items()}
            self._tolerance = Uneven(self._graph, least, times=_OF_SEARCHES) if self._uneven else least
        self._conventional = level

    @cached_property
    def in_single(self) -> PlainEvaluation:
        """The same with the rounding of models in single precision, which knows nothing of conventions."""
        _ = self._kept  # both compare the same entries
        single = copy(self)
        for of_rounding in ("_level", "_gap_rounding"):
            vars(single).pop(of_rounding, None)
        single._round(_SINGLE, level=False)
        return single

    def at(self, thetas: np.ndarray, noted: int = 0) -> Seen:
        """What is seen at theta ``(B, n)``: one pass backward, whatever is asked.

        noted: how many rows, the unperturbed image's first, are asked about single precision, too.
        """
        evaluated = self.evaluated(thetas)
        wanted = self._wanted(evaluated, self._near_rows(evaluated))
        single, some = self.in_single if noted else self, evaluated.take(slice(noted))
        rows = single._near_rows(some) if noted else wanted.near[:0]
        also = single._wanted(some, rows) if len(rows) else _Wanted((), rows)
        maps = self._maps([*wanted.each, *also.each])
        own, others = maps[: len(wanted.each)], maps[len(wanted.each) :]
        doubtful = self._doubts(wanted, own)
        # Where no unit is near to a breakpoint in single precision, the maps are the same.
        noise = single._doubts(also, others) if len(rows) else doubtful[:noted]
        by_rounding = noise[:1] | noise
        inconsistency = self._inconsistency(thetas, own[0])
        return self._seen(evaluated, inconsistency, doubtful, by_rounding)

    def evaluated(self, thetas: np.ndarray) -> Evaluated:
        """One pass forward over the unperturbed image and theta ``(B, n)``, but for what is known ahead."""
        if self._known is not None and np.array_equal(thetas, self._ahead[: len(thetas)]):
            return self._known.take(slice(1 + len(thetas)))
        images = self._images(np.concatenate([np.zeros((1, len(self._problem.box))), thetas]))
        return Evaluated(images, self._graph.values_at(images, self._read))

    def known(self, thetas: np.ndarray) -> Mapping[int, Tensor] | None:
        """Values ``(B, *shape)`` of all nodes at theta ``(B, n)``; None if not all were asked about ahead."""
        if self._known is None or not len(thetas):
            return None
        ahead = self._ahead
        for first in np.flatnonzero((ahead == thetas[0]).all(axis=1)).tolist():
            if np.array_equal(ahead[first : first + len(thetas)], thetas):  # as mostly: nothing is copied
                return self._known.take(slice(1 + first, 1 + first + len(thetas))).values
        same = (ahead == thetas[:, None]).all(axis=2)
        if not same.any(axis=1).all():
            return None
        return self._known.take(torch.from_numpy(1 + same.argmax(axis=1))).values

    def steady(self, theta: np.ndarray, double: bool = False) -> bool:
        """Whether theta ``(n,)``, one of those ahead, is so far from all breakpoints that rounding in single
        precision, or only in double, leaves all units on their pieces there.
        """
        places = np.flatnonzero((self._ahead == theta).all(axis=1))
        if self._known is None or not len(places):
            return False
        row = int(places[0]) + 1
        there = self._known.take(slice(row, row + 1))
        if not len(there.unsettled):
            return True
        near = (self if double else self.in_single)._near(there.values)
        return not any(found.any() for found in near.values())

    def decided_by_rounding(self, evaluated: Evaluated) -> np.ndarray:
        """Where rounding may decide on the map, there or on the unperturbed image: ``(1 + B,)`` bool."""
        wanted = self._wanted(evaluated, self._near_rows(evaluated))
        doubtful = self._doubts(wanted, self._maps(wanted.each))
        return doubtful[:1] | doubtful

    def _near_rows(self, evaluated: Evaluated) -> Tensor:
        """Rows ``(k,)`` in which a unit that is not level may be on either side of a breakpoint.

        None where it does not matter which unit wins at a point: to an integral, or to no map.
        """
        rows = evaluated.unsettled
        if not len(rows) or isinstance(self._problem.saliency, IntegratedGradients | NoMap):
            return rows[:0]
        near = torch.zeros(len(rows), dtype=torch.bool, device="cpu")
        some = evaluated if evaluated.settled is None else evaluated.take(rows)
        for node, found in self._near(some.values).items():
            near |= (found & ~self._level[node]).any(dim=1).cpu()
        return rows[near]

    def _wanted(self, evaluated: Evaluated, near: Tensor) -> _Wanted:
        """The maps of all rows, and of those near to a breakpoint ``(k,)`` the others that may be right."""
        every = (evaluated, self._pieces(evaluated.values))
        if not len(near):
            return _Wanted((every,), near)
        some = evaluated.take(near)
        return _Wanted((every, (some, self._other_pieces(some.values))), near)

    def _doubts(self, wanted: _Wanted, made: Sequence[Tensor]) -> np.ndarray:
        """Where rounding may make maps others, ``(rows,)``, given those that are wanted, ``(k, P)`` each."""
        maps, near = self._compared(made[0]), wanted.near
        other = torch.zeros(len(maps), dtype=torch.bool, device="cpu")
        if len(near):  # it does not matter which of two units wins that are 0
            apart = (self._compared(made[1]) - maps[near]).abs().amax(dim=1)
            other[near] = apart > _ROUNDING * maps[near].abs().amax(dim=1)
        return other.numpy() | self._doubtful(maps, made[0][0])

    def _inconsistency(self, thetas: np.ndarray, maps: Tensor) -> np.ndarray:
        """The inconsistency ``(B,)`` of maps ``(1 + B, P)``, the first that of the unperturbed image."""
        expected = self._expected(thetas, maps[0])
        return self._problem.inconsistency.between(self._compared(maps[1:]), expected).numpy()

    def _seen(
        self, evaluated: Evaluated, inconsistency: np.ndarray, doubtful: np.ndarray, by_rounding: np.ndarray
    ) -> Seen:
        problem, slack, near = self._problem, self._gap_rounding, doubtful[1:]
        logits = evaluated.values[self._graph.last][1:].cpu().numpy()
        gaps = logits[:, problem.label, None] - np.delete(logits, problem.label, axis=1)
        threshold, close = problem.threshold, max(_CLOSE, _OF_SEARCHES * problem.tolerance.margin)
        held, lost = (gaps > slack).all(axis=1), (gaps < -slack).any(axis=1)
        possible = np.zeros((len(gaps), 3), bool)
        possible[:, CLASS_CHANGED] = ~held
        possible[:, ROBUST] = ~lost & (near | (inconsistency <= threshold + close))
        possible[:, ATTENTION_CHANGED] = ~lost & (near | (inconsistency > threshold - close))
        worst = gaps.argmin(axis=1)
        gap = gaps[np.arange(len(gaps)), worst]
        kind = np.where(inconsistency > threshold, ATTENTION_CHANGED, ROBUST)
        kind = np.where(gap > 0, kind, np.where(gap < 0, CLASS_CHANGED, UNDECIDED))
        return Seen(
            evaluated, kind.astype(np.int8), possible, gap, slack[worst], inconsistency, doubtful, by_rounding
        )

    @cached_property
    def _gap_rounding(self) -> np.ndarray:
        """How far each class gap ``(K - 1,)`` may be off."""
        label = self._problem.label
        return np.delete(self._scale, label) + self._scale[label]

    @cached_property
    def _level(self) -> dict[int, Tensor]:
        """Of each node that picks the units ``(N,)`` bool that are level.

        Wherever one looks they are within what searches take for 0. Those that are farther off somewhere,
        and yet within rounding, are near to a breakpoint: searches may have found that they cross it.
        """
        none = {node: torch.zeros_like(own, dtype=torch.bool) for node, own in self._tolerance.items()}
        if not self._conventional:
            return none
        near = self._near(self._learnt.values, 1 / _OF_SEARCHES)
        return none | {node: found.all(dim=0) for node, found in near.items()}

    @cached_property
    def _chain(self) -> Chain:
        """The perturbation as it moves and hides entries of maps."""
        problem = self._problem
        return placed(problem.perturbation, problem.saliency, self._graph, problem.image.shape)

    @cached_property
    def _read(self) -> frozenset[int]:
        """The nodes whose values are asked for."""
        graph, saliency = self._graph, self._problem.saliency
        if self._uneven:
            return frozenset(range(len(graph.nodes)))
        picking = (*graph.piecewise, *graph.smooth)
        sources = {source for node in picking for source in graph.nodes[node].inputs}
        return frozenset(
            sources | {graph.last} | ({saliency.node(graph)} if isinstance(saliency, GradCam) else set())
        )

    @cached_property
    def _kept(self) -> Tensor | None:
        """Numbers of the entries that are compared; None for all."""
        if self._problem.class_alone:
            return None
        if self._problem.perturbation.compared(self._problem.image.shape).all():
            return None  # nothing is hidden, wherever the entries stand
        shape = self._problem.saliency.map_shape(self._graph)
        mask = self._chain.compared(self._problem.image.shape, shape[-2:])
        mask = np.broadcast_to(mask, shape).reshape(-1)
        return None if mask.all() else torch.from_numpy(np.flatnonzero(mask))

    def _learn(self, rounding: float) -> Terms:
        """One pass over corners, random theta, the unperturbed image, and what is asked about ahead.

        rounding: the most that will be asked about.
        """
        graph, places = self._graph, places_to_learn(self._problem.box, self._graph.effort)
        images = self._images(np.concatenate([places, self._ahead]))
        every = graph.values_at(images, range(len(graph.nodes)), skip_idle=True)
        known = {node: value[: len(places)] for node, value in every.items()}
        terms, last = Terms.of(graph, known), len(places) - 1  # the unperturbed image
        share = max(rounding, _OF_SEARCHES * self._problem.tolerance.hinge)
        settled = settled_rows(graph, every, {node: share * size for node, size in terms.sizes.items()})
        if len(self._ahead):
            self._known = Evaluated(images, every, settled).take(slice(last, None))
        wide = {node: _ROUNDING * size for node, size in terms.sizes.items()}
        far = bool(settled[: len(places)].all())  # then nothing lies within what double precision leaves
        self._least = wide if far else apart(graph, known, wide, original=last)
        units = [node for node in graph.piecewise if isinstance(graph.nodes[node].layer, PiecewiseLinear)]
        scales = {graph.nodes[node].inputs[0]: terms.sizes[node] for node in units}
        scales[graph.last] = torch.from_numpy(terms.scale).to(graph.device)
        # Where searches tell units apart by what rounding leaves at each point, so must this.
        self._uneven = isinstance(self._problem.by_network, Uneven) or uneven(graph, known, scales)
        return replace(terms, values=every if self._uneven else {node: every[node] for node in terms.values})

    def _images(self, thetas: np.ndarray) -> Tensor:
        problem = self._problem
        images = problem.perturbation.apply(problem.image, thetas)
        if problem.clip is not None:
            images = np.clip(images, *problem.clip)
        return torch.from_numpy(np.ascontiguousarray(images)).to(self._graph.device)

    def _maps(self, wanted: Sequence[tuple[Evaluated, Mapping[int, Tensor]]]) -> Sequence[Tensor]:
        """Maps ``(k, P)`` at all rows of each, given the pieces that their units are on."""
        if len(wanted) == 1:
            return [self._maps_on(*wanted[0])]
        return self._maps_on(*self._joined(wanted)).split([len(rows.images) for rows, _ in wanted])

    def _joined(
        self, wanted: Sequence[tuple[Evaluated, Mapping[int, Tensor]]]
    ) -> tuple[Evaluated, dict[int, Tensor]]:
        """All rows as one batch, with the values that maps are made of."""
        saliency, images = self._problem.saliency, torch.cat([rows.images for rows, _ in wanted])
        read = {self._graph.last} | ({saliency.node(self._graph)} if isinstance(saliency, GradCam) else set())
        values = {node: torch.cat([rows.values[node] for rows, _ in wanted]) for node in read}
        pieces = {node: torch.cat([own[node] for _, own in wanted]) for node in wanted[0][1]}
        return Evaluated(images, values), pieces

    def _maps_on(self, evaluated: Evaluated, pieces: Mapping[int, Tensor]) -> Tensor:
        """Maps ``(B, P)`` at all rows, given the pieces that units are on."""
        images, values = evaluated.images, evaluated.values
        graph, saliency, label = self._graph, self._problem.saliency, self._problem.label
        if isinstance(saliency, GradCam):
            node = saliency.node(graph)
            gradients = graph.pull_back(graph.seed(label, len(images)), pieces, to=node)
            return saliency.from_parts(values[node], gradients).flatten(1).cpu()
        if isinstance(saliency, IntegratedGradients | NoMap):
            return saliency.maps(graph, images, label, self._tolerance).flatten(1).cpu()
        assert isinstance(saliency, AbstractGradientSaliency)
        gradients = graph.pull_back(saliency.seed(values[graph.last], label), pieces, skip_idle=True)
        return saliency.from_gradient(gradients * images if saliency.times_pixels else gradients).cpu()

    def _pieces(self, values: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """The piece of every unit; where rounding decides, the one below, and the first of equal inputs."""
        pieces, slacks = {}, at_values(self._tolerance, lambda: values)
        for index in (*self._graph.piecewise, *self._graph.smooth):
            node = self._graph.nodes[index]
            value = values[node.inputs[0]]
            if isinstance(node.layer, AbstractJoint):
                pieces[index] = node.layer.state(*(values[source] for source in node.inputs))
            elif isinstance(node.layer, Smooth):
                pieces[index] = node.layer.derivative(value)
            elif isinstance(node.layer, MaxPool):
                pieces[index] = node.layer.compete(value, slacks[index])[1]
            else:
                assert isinstance(node.layer, PiecewiseLinear)
                pieces[index] = node.layer.pieces_of(value, slacks[index])
        return pieces

    def _other_pieces(self, values: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """The pieces again, but where rounding decides, the piece above, and the last of equal inputs.

        Level units stay on the piece below.
        """
        pieces, slacks = self._pieces(values), at_values(self._tolerance, lambda: values)
        for index in self._graph.piecewise:
            node, slack = self._graph.nodes[index], slacks[index]
            value = values[node.inputs[0]]
            if isinstance(node.layer, MaxPool):
                turned = replace(node.layer, windows=node.layer.windows.flip(1).contiguous())
                other = node.layer.windows.shape[1] - 1 - turned.compete(value, slack)[1]
            else:
                assert isinstance(node.layer, PiecewiseLinear)
                other = node.layer.pieces_of(value, -slack)
            pieces[index] = torch.where(self._level[index], pieces[index], other)
        return pieces

    def _near(self, values: Mapping[int, Tensor], share: float = 1.0) -> dict[int, Tensor]:
        """Of nodes that pick, which units ``(B, N)`` are within rounding of picking otherwise, if any are.

        share: of what is taken for rounding.
        """
        near, slacks = {}, at_values(self._tolerance, lambda: values)
        for index in self._graph.piecewise:
            layer, source = self._graph.nodes[index].layer, self._graph.nodes[index].inputs[0]
            assert isinstance(layer, PiecewiseLinear | MaxPool)
            found = near_of(layer, values[source].flatten(1), share * slacks[index])
            if found is not None:
                near[index] = found
        return near

    def _expected(self, thetas: np.ndarray, map0: Tensor) -> Tensor:
        """Expected maps as compared, of the unperturbed one: ``(B, P)``, or ``(P,)`` where they stay."""
        if not self._problem.moves_map:
            return self._compared(map0.reshape(1, -1))[0]
        own = map0.reshape(self._problem.saliency.map_shape(self._graph))
        moved = self._chain.expected(own.numpy(), thetas)
        return self._compared(torch.from_numpy(np.ascontiguousarray(moved)).flatten(1))

    def _compared(self, maps: Tensor) -> Tensor:
        return maps if self._kept is None else maps.index_select(1, self._kept)

    def _doubtful(self, maps: Tensor, map0: Tensor) -> np.ndarray:
        """Maps ``(B, P)`` that say nothing: nearly zero, too large, or such that rounding orders entries."""
        size = torch.linalg.vector_norm(maps, dim=1)
        whole = torch.linalg.vector_norm(map0)
        told = (size > _VANISHING * whole) & size.isfinite() | (maps == 0).all(dim=1)
        return (~told | self._problem.inconsistency.doubtful(maps)).numpy()


def decided_by_rounding(problem: Problem, thetas: np.ndarray) -> np.ndarray:
    """Where at theta ``(B, n)`` the rounding of the original, in single precision, may decide on its map:
    ``(B,)``.

    Units there, or on the unperturbed image, are so near to a breakpoint that the original may put them on
    either side, and the map is another on the other side. Level units are among them: by convention they are
    on the piece below, which the original's noise does not know. A mismatch of maps at such a point tells
    nothing.
    """
    plain = PlainEvaluation(problem, rounding=_SINGLE, level=False)
    return plain.decided_by_rounding(plain.evaluated(thetas))[1:]
