"""Rows that are 0 but for the units that matter: of most networks a few of all that the weights reach.

Units that are off in all boxes, lines below and above being 0, take nothing of a row, and give nothing to it.
So rows need no entries there, and of the weights between two such layers no more is needed than what leads
from the units that matter of one to those of the other. A convolution is written as a matrix for these. In
networks of two convolutions and 9,608 units a twentieth to a tenth of the second layer of units matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from steadygaze.enclosing.unrolled import unrolled
from steadygaze.network.bounding.forms.few_places import geometry_of
from steadygaze.network.bounding.rows.ends import Sums
from steadygaze.network.bounding.rows.lines import AbstractLines, Lines
from steadygaze.network.graph import Graph
from steadygaze.network.layers import Conv, Dense, Reshape, Shape

# Products below which telling units apart takes as long as it saves.
_LITTLE = 2**21
# An entry that is picked takes as long as so many products; and what is left has to be less than this share.
_PICKED, _WORTH = 40, 0.7
# A part that is there serves where at least this share of its inputs is wanted: picking one costs more.
_SERVED = 0.5
# Entries that a convolution's matrix may have, 12 MiB.
_MOST = 3 * 2**19


@dataclass(frozen=True, eq=False)
class Few:
    """Rows ``(B, R, k)`` for units of these numbers ``(k,)``, of so many; for all others they are 0."""

    rows: Tensor
    places: Tensor
    count: int

    @property
    def whole(self) -> Tensor:
        """``(B, R, N)``."""
        return self.rows.new_zeros((*self.rows.shape[:2], self.count)).index_copy_(2, self.places, self.rows)


def whole(rows: Tensor | Few) -> Tensor:
    """The rows for all units."""
    return rows.whole if isinstance(rows, Few) else rows


def mirrored(rows: Tensor | Few) -> Tensor | Few:
    """Rows and their opposites, along the second axis."""
    if isinstance(rows, Few):
        return replace(rows, rows=torch.cat([rows.rows, -rows.rows], dim=1))
    return torch.cat([rows, -rows], dim=1)


class FewUnits:
    """What rows go back through for the units that matter, over boxes."""

    def __init__(
        self,
        graph: Graph,
        lines: Mapping[int, AbstractLines],
        is_end: Callable[[int], bool],
        rounding: Callable[[int, torch.dtype], Tensor],
        parts: dict[int, PartOfWeights],
    ) -> None:
        """The lines of nodes that are not affine, where rows end, and what rounding adds at affine nodes.

        The last is for each unit of a row's length, ``(B, 1)``. parts: of weights, as they were last needed;
        they are the same for other boxes, and other lines, of which the same units matter.
        """
        self._graph, self._lines, self._is_end, self._rounding = graph, lines, is_end, rounding
        self._parts = parts
        self._of_units: dict[int, tuple[Tensor, Lines]] = {}

    def pulled(self, index: int, own: Tensor | Few, sums: Sums) -> Few | None:
        """Rows in float64 for the output of a node, none of the ends, as rows for its input.

        None where telling units apart does not pay.
        """
        node = self._graph.nodes[index]
        if isinstance(own, Few) and isinstance(node.layer, Reshape):
            return own
        rows, places = (own.rows, own.places) if isinstance(own, Few) else (own, None)
        lines = self._lines.get(index)
        if isinstance(own, Few) and isinstance(lines, Lines):
            rows, constant, rounding = self._lines_of(index, lines, own.places).pulled(rows)
            sums.raised(constant)
            sums.blurred(rounding)
            return replace(own, rows=rows)
        if not isinstance(node.layer, Dense | Conv):
            return None
        part = self._part(index, node.layer, places, rows.shape[0] * rows.shape[1])
        if part is None:
            return None
        bias = node.layer.bias
        if isinstance(node.layer, Conv):
            bias = bias.repeat_interleave(math.prod(node.shape[1:]))
        sums.raised(rows @ (bias if places is None else bias[places]))
        sums.blurred(torch.linalg.vector_norm(rows, dim=2) * self._rounding(index, rows.dtype))
        return part.pulled(rows)

    def _part(
        self, index: int, layer: Dense | Conv, places: Tensor | None, rows: int
    ) -> PartOfWeights | None:
        """The part of a node's weights that so many rows need; it is kept for the next ones."""
        (source,), made = self._graph.nodes[index].inputs, self._graph.nodes[index].shape
        if index not in self._parts and isinstance(layer, Dense) and layer.weight.numel() * rows < _LITTLE:
            return None
        wanted = self._wanted(source)
        if wanted is None:
            return None
        part = self._parts.get(index)
        if part is None or not part.serves(places, wanted):
            part = PartOfWeights.of(layer, self._graph.nodes[source].shape, made, places, wanted, rows)
            if part is not None:
                self._parts[index] = part
        return part

    def _lines_of(self, index: int, lines: Lines, places: Tensor) -> Lines:
        """Those of some units of a node; they are kept for the next rows."""
        known = self._of_units.get(index)
        if known is None or known[0] is not places:
            self._of_units[index] = known = places, lines.of_units(places)
        return known[1]

    def _wanted(self, source: int) -> Tensor | None:
        """Numbers of the units at a node that take something of rows, where it is behind such a layer."""
        while isinstance(self._graph.nodes[source].layer, Reshape) and not self._is_end(source):
            (source,) = self._graph.nodes[source].inputs
        lines = None if self._is_end(source) else self._lines.get(source)
        return lines.alive if isinstance(lines, Lines) else None


@dataclass(frozen=True, eq=False)
class PartOfWeights:
    """What leads from some inputs to some outputs of a layer: a matrix ``(outputs, inputs)``.

    Attributes:
        places: numbers of the outputs, None for all. wanted: of the inputs. count: of all inputs.
    """

    weight: Tensor
    places: Tensor | None
    wanted: Tensor
    count: int

    @staticmethod
    def of(
        layer: Dense | Conv, shape: Shape, made: Shape, places: Tensor | None, wanted: Tensor, rows: int
    ) -> PartOfWeights | None:
        """That of a layer between maps of these shapes for so many rows; None where it does not pay."""
        outputs, inputs = math.prod(made), math.prod(shape)
        left = len(wanted) * (outputs if places is None else len(places))
        if isinstance(layer, Dense) and len(made) == 1:
            products = layer.weight.numel()
        elif isinstance(layer, Conv) and layer.groups == 1 and left <= _MOST:
            products = layer.weight.numel() * math.prod(made[1:])
        else:
            return None
        if products * rows < _LITTLE or left * (rows + _PICKED) > _WORTH * products * rows:
            return None
        if isinstance(layer, Dense):
            weight = layer.weight if places is None else layer.weight[places]
            return PartOfWeights(weight[:, wanted], places, wanted, inputs)
        column = np.full(inputs, -1)
        column[wanted.numpy()] = np.arange(len(wanted))
        numbers = np.arange(outputs) if places is None else places.numpy()
        own = layer.weight.contiguous().numpy()
        weight = unrolled(own, numbers, column, len(wanted), geometry_of(layer, shape))
        return PartOfWeights(torch.from_numpy(weight), places, wanted, inputs)

    def serves(self, places: Tensor | None, wanted: Tensor) -> bool:
        """Whether it leads from those inputs to these outputs, and from few others."""
        known = self.places
        if places is not known and (places is None or known is None or not places.equal(known)):
            return False
        if wanted is self.wanted:
            return True
        return _SERVED * len(self.wanted) <= len(wanted) and bool(self._holds[wanted].all())

    @cached_property
    def _holds(self) -> Tensor:
        """``(N,)`` bool: which of all inputs are among those wanted."""
        return self.wanted.new_zeros(self.count, dtype=torch.bool).index_fill_(0, self.wanted, True)

    def pulled(self, rows: Tensor) -> Few:
        """What becomes of rows ``(B, R, outputs)`` before the layer."""
        return Few(rows @ self.weight, self.wanted, self.count)
