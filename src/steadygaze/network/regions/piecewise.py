"""The network as a sequence of stages, for engines that walk it region by region.

A stage is a piecewise node: its source's values at the vertices of cells tell which units change piece inside
a cell; once the cells are cut there, the node is affine on each of them, and so is everything up to the
next stage. Until the first stage all values are affine in theta as a whole and are kept as such.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from steadygaze.deadline import NEVER, Deadline
from steadygaze.geometry.cells import Cells
from steadygaze.geometry.cutting import cut
from steadygaze.geometry.envelope import cut_by_windows
from steadygaze.geometry.sides import (
    above,
    best_of_windows,
    firsts_of_windows,
    met,
    pattern_weights,
    spread,
    weighed,
    winners,
)
from steadygaze.geometry.store import Cut, interpolate
from steadygaze.network.columns import columns_of
from steadygaze.network.graph import Graph
from steadygaze.network.layers import AbstractAffine, Dense
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.regions.fronts import Crossing, Form, Front, Sides, Stage
from steadygaze.network.regions.local import SHARE
from steadygaze.network.varying import AbstractVarying, at_values

#: Below this share of its tolerance a level unit may be rounding, whatever its terms are.
FAINT = 1e-4
#: The same of a tolerance that is a cell's own.
FAINT_OF_OWN = 1 / 16


class Stages:
    """The stages of a graph, with the tolerance of each hinge.

    Args:
        graph: the network; its node 0 takes the perturbed image.
        tolerances: for each piecewise node, ``(units,)``, how close to 0 a hinge is zero, or how close to the
            largest an input is (see `tolerances_of`).
    """

    def __init__(self, graph: Graph, tolerances: Mapping[int, Tensor]) -> None:
        self.graph, self._given = graph, tolerances
        #: Whether each cell has tolerances of its own.
        self.uneven = isinstance(tolerances, AbstractVarying)
        self.stages = tuple(self._stage(node) for node in graph.piecewise)
        #: For each stage the tolerance of each column (hinge or window).
        self.tolerances = [self._of_columns(stage.node, tolerances[stage.node]) for stage in self.stages]
        self._floors: list[np.ndarray | None] = [None] * len(self.stages)

    @cached_property
    def names(self) -> tuple[np.ndarray, ...]:
        """For each stage the names of its columns, uint64."""
        return tuple(
            np.uint64((number + 1) << 40) + np.arange(len(tolerance), dtype=np.uint64)
            for number, tolerance in enumerate(self.tolerances)
        )

    @cached_property
    def weights(self) -> tuple[np.ndarray, ...]:
        """For each stage what its columns count in pattern names, uint64."""
        return tuple(map(pattern_weights, self.names))

    @cached_property
    def widest_row(self) -> int:
        """Numbers per vertex that the widest stage holds at once."""
        width = 0
        for number, stage in enumerate(self.stages):
            columns = len(self.tolerances[number]) * max(1, self._spans[number])
            width = max(width, columns + sum(math.prod(self.graph.nodes[node].shape) for node in stage.live))
        return max(width, math.prod(self.graph.nodes[0].shape))

    def start(self, constant: np.ndarray, directions: np.ndarray) -> Front:
        """The front before the first stage, for images ``constant`` + theta ``directions``.

        Shapes are ``(C, H, W)`` and ``(n, C, H, W)``.
        """
        device = self.graph.device
        form = Form(torch.from_numpy(constant).to(device), torch.from_numpy(directions).to(device))
        return Front({}, {0: form})

    def reach(self, front: Front, number: int, theta: Tensor) -> Front:
        """Evaluate what stage `number` reads (past the last stage: the logits)."""
        if front.reached == number:
            return front
        rows, forms = dict(front.rows), dict(front.forms)
        ready = self.stages[number].ready if number < len(self.stages) else self._closing
        for index in ready:
            node = self.graph.nodes[index]
            assert isinstance(node.layer, AbstractAffine)
            if all(source in forms for source in node.inputs):
                inputs = [forms[source] for source in node.inputs]
                forms[index] = Form(
                    node.layer.forward(*(form.constant[None] for form in inputs))[0],
                    node.layer.linear(*(form.directions for form in inputs)),
                )
            else:
                inputs = [Front(rows, forms).at(source, theta) for source in node.inputs]
                rows[index] = _forward_of(node.layer, inputs, front.alive.get(node.inputs[0]))
        keep = (
            self.stages[number].live | {self.stages[number].source}
            if number < len(self.stages)
            else {self.graph.last}
        )
        return Front(
            {node: value for node, value in rows.items() if node in keep},
            {node: form for node, form in forms.items() if node in keep},
            number,
            {node: units for node, units in front.alive.items() if node in keep},
        )

    def crossing(self, values: np.ndarray, number: int, tolerance: np.ndarray | None = None) -> Crossing:
        """The columns that may cut some cell, given the source's values ``(V, units)`` at all vertices.

        tolerance ``(columns,)`` takes the place of those of the whole box, here and below.
        """
        tolerance, layer = self._tolerance(number, tolerance), self._layers[number]
        if isinstance(layer, MaxPool):
            firsts, ahead = firsts_of_windows(values, self.inputs[number], tolerance)
            differ = (firsts != firsts[0]).any(axis=0)
            return Crossing(np.flatnonzero(differ), np.flatnonzero(differ | ahead), firsts[0])
        cutting, active, sides, alive = met(values, self._marks[number], tolerance)
        few = number in self._feeding_dense and 2 * len(alive) <= len(sides)
        return Crossing(cutting, active, sides, alive if few else None)

    @cached_property
    def _marks(self) -> tuple[np.ndarray, ...]:
        """For each stage the breakpoints of its units, none for windows."""
        return tuple(
            layer.breakpoints.cpu().numpy() if isinstance(layer, PiecewiseLinear) else np.zeros(0)
            for layer in self._layers
        )

    def columns(self, values: np.ndarray, number: int, chosen: np.ndarray) -> np.ndarray:
        """The chosen columns at the vertices: hinges ``(V, chosen)``, or windows ``(V, chosen * span)``."""
        layer = self._layers[number]
        if isinstance(layer, MaxPool):
            return np.ascontiguousarray(values[:, self.inputs[number][chosen].reshape(-1)])
        units = values.shape[1]
        marks = self._marks[number]
        if len(marks) == 1:
            picked = values if len(chosen) == units else np.take(values, chosen, axis=1)
            return np.ascontiguousarray(picked - marks[0] if marks[0] else picked)
        return np.ascontiguousarray(values[:, chosen % units] - marks[chosen // units])

    def cut(
        self,
        cells: Cells,
        values: np.ndarray,
        number: int,
        crossing: Crossing,
        room: int,
        deadline: Deadline = NEVER,
        tolerance: np.ndarray | None = None,
    ) -> Cut:
        """Cut the cells where the stage's units change piece. Raises Expired where the deadline passes."""
        chosen = crossing.cutting
        columns = self.columns(values, number, chosen)
        tolerance, names = self._tolerance(number, tolerance)[chosen], self.names[number][chosen]
        span = self._spans[number]
        if span:
            return cut_by_windows(cells, columns, tolerance, names, span, room=room, deadline=deadline)
        return cut(cells, columns, tolerance, names, room=room, deadline=deadline)

    def cross(
        self, front: Front, number: int, made: Cut, values: np.ndarray, crossing: Crossing
    ) -> tuple[Front, np.ndarray]:
        """The front after the cut, and the source's values at all vertices, old and new.

        values ``(V, units)`` are the source's at the old vertices; returned are those of the units that are
        alive, where these are few (see `Crossing`).
        """
        stage, alive = self.stages[number], crossing.alive
        if alive is not None:
            values = np.take(values, alive, axis=1)
        if len(made.weight):
            values = interpolate(values, made.above, made.below, made.weight)
        source = torch.from_numpy(values).to(self.graph.device)
        if alive is None:
            source = source.reshape(-1, *self.graph.nodes[stage.source].shape)
        born = (made.above, made.below, made.weight)
        live = ((node, value) for node, value in front.rows.items() if node in stage.live)
        rows = {node: self._grown(value, born) for node, value in live}
        rows[stage.node] = self._layers[number].forward(source)
        known = {node: units for node, units in front.alive.items() if node in stage.live}
        if alive is not None:
            known[stage.node] = torch.from_numpy(alive).to(self.graph.device)
        forms = {node: form for node, form in front.forms.items() if node in stage.live}
        return Front(rows, forms, -1, known), values

    def widened(self, front: Front, made: Cut) -> Front:
        """The front with its values at the vertices that a cut made."""
        born = (made.above, made.below, made.weight)
        return replace(front, rows={node: self._grown(value, born) for node, value in front.rows.items()})

    def sides(
        self,
        cells: Cells,
        values: np.ndarray,
        number: int,
        crossing: Crossing,
        tolerance: np.ndarray | None = None,
    ) -> Sides:
        """The side of every column on every cell; values are those that `cross` gives."""
        chosen, weights = crossing.active, self.weights[number]
        if crossing.alive is None:
            columns = self.columns(values, number, chosen)
        else:  # what is active reaches above 0, and so is alive
            columns = np.take(values, np.searchsorted(crossing.alive, chosen), axis=1)
        slack, span = self._tolerance(number, tolerance)[chosen], self._spans[number]
        floor = self._floors[number]
        level = FAINT * slack if floor is None else floor[chosen]
        level = level if tolerance is None else FAINT_OF_OWN * slack
        found, loose, faint = (
            winners(cells, columns, slack, level, span) if span else above(cells, columns, slack, level)
        )
        if faint and tolerance is None and floor is None:
            self._floors[number] = self._floor(number)
            return self.sides(cells, values, number, crossing, tolerance)
        whole, named = spread(crossing.sides, chosen, found, weights)
        return Sides(whole, self.pieces_of_sides(whole, number), named, loose)

    def pattern_names_at(self, images: Tensor) -> np.ndarray:
        """Pattern names, uint64 ``(B,)``, at images ``(B, C, H, W)``, by a plain forward pass."""
        return self._named(self.sides_at(images), len(images))

    def pattern_names_of(self, values: Mapping[int, Tensor], rows: int) -> np.ndarray:
        """`pattern_names_at` so many images, at which what the stages read has these values."""
        return self._named(self._sides_of(values), rows)

    def _named(self, sides: Iterable[np.ndarray], rows: int) -> np.ndarray:
        total = np.zeros(rows, np.uint64)
        for weights, own in zip(self.weights, sides, strict=True):
            total += weighed(own, weights)
        return total

    def sides_at(self, images: Tensor) -> Iterator[np.ndarray]:
        """For each stage on what side of its hinges images ``(B, C, H, W)`` lie, uint8 ``(B, hinges)``."""
        read = range(len(self.graph.nodes)) if self.uneven else {stage.source for stage in self.stages}
        yield from self._sides_of(self.graph.values_at(images, read))

    def slacks_of(self, values: Mapping[int, Tensor]) -> list[np.ndarray]:
        """The tolerances of the columns of each stage, ``(columns,)`` or ``(B, columns)``, at such images."""
        if not self.uneven:
            return self.tolerances
        varying = at_values(self._given, lambda: values)
        return [self._of_columns(stage.node, varying[stage.node]) for stage in self.stages]

    def _sides_of(self, values: Mapping[int, Tensor]) -> Iterator[np.ndarray]:
        """`sides_at` the images at which what the stages read has these values."""
        for number, (stage, slack) in enumerate(zip(self.stages, self.slacks_of(values), strict=True)):
            source = flat_array(values[stage.source])
            if not isinstance(self.graph.nodes[stage.node].layer, MaxPool):
                every = np.arange(len(self.tolerances[number]))
                yield (self.columns(source, number, every) > slack).astype(np.uint8)
            elif self.uneven:
                own = source[:, self.inputs[number]]
                yield (
                    (own >= own.max(axis=2, keepdims=True) - slack[..., None]).argmax(axis=2).astype(np.uint8)
                )
            else:
                yield best_of_windows(source, self.inputs[number], slack)[1]

    @cached_property
    def inputs(self) -> dict[int, np.ndarray]:
        """For each stage of windows, their inputs ``(windows, span)``.

        Padding never wins; the first real input takes its place, and then merely stands there twice.
        """
        found = {}
        for number, stage in enumerate(self.stages):
            layer = self.graph.nodes[stage.node].layer
            if isinstance(layer, MaxPool):
                windows = layer.windows.cpu().numpy()
                real = np.take_along_axis(windows, (windows >= 0).argmax(axis=1)[:, None], axis=1)
                found[number] = np.where(windows >= 0, windows, real)
        return found

    def pieces_of_sides(self, sides: np.ndarray, number: int) -> np.ndarray:
        """Pieces ``(cells, units)`` from the sides of the columns (one column per unit and breakpoint)."""
        layer = self._layers[number]
        if isinstance(layer, MaxPool):
            # A winning stand-in for padding is the first real input.
            real = (layer.windows >= 0).cpu().numpy()
            valid = np.take_along_axis(real.T, sides.astype(np.int64), axis=0)
            return np.where(valid, sides, real.argmax(axis=1).astype(np.uint8))
        if len(layer.breakpoints) == 1:
            return sides
        return sides.reshape(len(sides), len(layer.breakpoints), -1).sum(axis=1, dtype=np.uint8)

    def sides_of_pieces(self, pieces: np.ndarray, number: int) -> np.ndarray:
        """The sides of the columns, uint8, from pieces ``(cells, units)``."""
        layer = self._layers[number]
        if isinstance(layer, MaxPool) or len(layer.breakpoints) == 1:
            return pieces
        marks = np.arange(len(layer.breakpoints))[:, None]
        return (pieces[:, None] > marks).astype(np.uint8).reshape(len(pieces), -1)

    def _tolerance(self, number: int, other: np.ndarray | None) -> np.ndarray:
        return self.tolerances[number] if other is None else other

    def _floor(self, number: int) -> np.ndarray:
        """Below this level units of each column need no second look, ``(columns,)``.

        Rounding leaves of level units far less than a tolerance; less than a share of a constant term, which
        there is anywhere, may be rounding anywhere.
        """
        stage, floor = self.stages[number], FAINT * self.tolerances[number]
        found: dict[int, Tensor] = {}
        for index in stage.ready:
            node = self.graph.nodes[index]
            shapes = {source: self.graph.nodes[source].shape for source in node.inputs}
            zeros = {
                source: torch.zeros((1, *shape), dtype=torch.float64) for source, shape in shapes.items()
            }
            inputs = (found.get(source, zeros[source].to(self.graph.device)) for source in node.inputs)
            found[index] = node.layer.forward(*inputs)
        if stage.source not in found:
            return floor
        least = SHARE * np.abs(flat_array(found[stage.source])[0])
        own = least[self.inputs[number]].max(axis=1) if self._spans[number] else least
        own = np.tile(own, len(floor) // len(own))
        return np.where(own > 0, np.minimum(own, floor), floor)

    @cached_property
    def _feeding_dense(self) -> frozenset[int]:
        """Stages that are ReLU and that nothing but dense layers reads."""
        nodes, found = self.graph.nodes, set()
        for number, stage in enumerate(self.stages):
            layer, readers = nodes[stage.node].layer, self.graph.readers[stage.node]
            # The logits have no readers, and are needed whole.
            dense = bool(readers) and all(isinstance(nodes[reader].layer, Dense) for reader in readers)
            if (
                isinstance(layer, PiecewiseLinear)
                and layer.is_relu
                and dense
                and len(nodes[stage.node].shape) == 1
            ):
                found.add(number)
        return frozenset(found)

    def _grown(self, value: Tensor, born: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Tensor:
        if not len(born[0]):
            return value
        grown = torch.from_numpy(interpolate(flat_array(value), *born)).to(value.device)
        return grown.reshape(-1, *value.shape[1:])

    @cached_property
    def _layers(self) -> tuple[PiecewiseLinear | MaxPool, ...]:
        layers = (self.graph.nodes[stage.node].layer for stage in self.stages)
        return tuple(layer for layer in layers if isinstance(layer, PiecewiseLinear | MaxPool))

    @cached_property
    def _spans(self) -> tuple[int, ...]:
        """For each stage the inputs of one of its windows, 0 for none."""
        return tuple(layer.windows.shape[1] if isinstance(layer, MaxPool) else 0 for layer in self._layers)

    @cached_property
    def _closing(self) -> tuple[int, ...]:
        done = self.stages[-1].node if self.stages else 0
        return tuple(range(done + 1, len(self.graph.nodes)))

    def _stage(self, node: int) -> Stage:
        before = max((other for other in self.graph.piecewise if other < node), default=0)
        live = frozenset(
            other for other in range(node + 1) if any(reader > node for reader in self.graph.readers[other])
        )
        return Stage(node, self.graph.nodes[node].inputs[0], tuple(range(before + 1, node)), live)

    def _of_columns(self, node: int, tolerance: Tensor) -> np.ndarray:
        """The tolerance of each column; a unit has one for each of its breakpoints."""
        layer = self.graph.nodes[node].layer
        marks = len(layer.breakpoints) if isinstance(layer, PiecewiseLinear) else 1
        own = tolerance.cpu().numpy()
        return np.concatenate([own] * marks, axis=-1) if marks > 1 else own


def _forward_of(layer: AbstractAffine, inputs: Sequence[Tensor], alive: Tensor | None) -> Tensor:
    """The layer's value; a dense one leaves out the units before it that are 0 on all rows.

    alive are the numbers of the others, if the input is given for these alone.
    """
    (x, *_) = inputs
    if alive is not None:
        assert isinstance(layer, Dense)
        return linear(x, columns_of(layer.weight, alive), layer.bias)
    return layer.forward_of_alive(x) if isinstance(layer, Dense) else layer.forward(*inputs)


def flat_array(values: Tensor) -> np.ndarray:
    """Rows ``(B, units)`` as a contiguous NumPy array on the CPU."""
    return np.ascontiguousarray(values.flatten(1).cpu().numpy())
