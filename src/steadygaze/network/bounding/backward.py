"""Linear bounds carried backward: what is asked of a node's output, as an affine function of the coordinates.

A row r asks for a lower bound of <r, z> over a box, z being the output of some node. Affine layers turn it
into W^T r; at a layer that is not affine each entry takes the line below where it is positive and the line
above where it is negative (CROWN: Zhang et al., NeurIPS 2018; on graphs: Xu et al., NeurIPS 2020). Where the
row comes to nodes whose values are affine in the coordinates, but for little, it is put into their forms, and
what remains is an affine function of the coordinates, whose least value over the box is known.

Rounding: one step off a row r for a node's output, r' = W^T r, is off by at most a share of |W|^T |r|, which
changes the bound by at most that share of <|r|, |W| x>, x being the largest magnitudes of the node's inputs.
|W| x is the same for all rows. What is left is rounded down by the sum of all that.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from steadygaze.geometry.enclosures import UNIT
from steadygaze.geometry.forms import Forms
from steadygaze.network.bounding.lines import AbstractLines, weighed
from steadygaze.network.graph import Graph
from steadygaze.network.layers import AbstractAffine, Add, Concat, Permute, Reshape

# Layers that only move numbers: rows come through them as they are.
_EXACT = (Add, Concat, Permute, Reshape)
# Bytes of the widest rows that are carried at once.
_BLOCK_BYTES = 2**23


@dataclass(frozen=True, eq=False)
class Backward:
    """What rows need on their way back, over B boxes.

    Attributes:
        graph: the network.
        lines: of each node that is not affine, and behind `grounds`.
        sizes: ``(B, *shape)`` the largest magnitudes of each node's values.
        grounds: forms ``(B, *shape)`` of the nodes where rows end; every way back comes to one of them.
    """

    graph: Graph
    lines: dict[int, AbstractLines] = field(default_factory=dict)
    sizes: dict[int, Tensor] = field(default_factory=dict)
    grounds: dict[int, Forms] = field(default_factory=dict)
    _scales: dict[int, Tensor] = field(default_factory=dict)
    _constants: dict[int, Tensor] = field(default_factory=dict)

    def take(self, chosen: Tensor) -> Backward:
        """What is known over some of the boxes."""
        return replace(
            self,
            lines={index: lines.take(chosen) for index, lines in self.lines.items()},
            sizes={index: size[chosen] for index, size in self.sizes.items()},
            grounds={index: forms.take(chosen) for index, forms in self.grounds.items()},
            _scales={index: scale[chosen] for index, scale in self._scales.items()},
        )

    def least(self, rows: Tensor, start: int) -> Tensor:
        """Lower bounds ``(B, R)`` of ``<row, output of node start>`` for rows ``(B, R, M)``, rounded down."""
        state = _State(rows.new_zeros((*rows.shape[:2], 1)), *(rows.new_zeros(rows.shape[:2]) for _ in "ab"))
        pending = {start: rows}
        for index in range(start, -1, -1):
            own = pending.pop(index, None)
            if own is None:
                continue
            if index in self.grounds:
                state = state.ended(own, self.grounds[index])
                continue
            state, parts = self._pulled(index, own, state)
            for source, part in zip(self.graph.nodes[index].inputs, parts, strict=True):
                if source not in pending:
                    pending[source] = part
                    continue
                pending[source] = pending[source] + part
                state = state.blurred(UNIT * weighed(pending[source], self.sizes[source].flatten(1)))
        return state.least()

    def units(self, start: int, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Least and largest values ``(B, M)`` of some entries of a node's output, given as a mask ``(B, M)``.

        -inf and inf of the others.
        """
        boxes, entries = chosen.shape
        low = self.sizes[start].new_full((boxes, entries), -torch.inf)
        high = -low
        counts = chosen.sum(dim=1)
        order = counts.argsort(descending=True)
        widest = max(self.sizes[index].flatten(1).shape[1] for index in self._behind(start))
        done = 0
        while done < boxes and counts[order[done]]:
            most = int(counts[order[done]])
            count = max(1, _BLOCK_BYTES // (16 * widest * most))
            own = order[done : done + count]
            done += len(own)
            part = self.take(own)
            span = max(1, _BLOCK_BYTES // (16 * widest))
            places = chosen[own].to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :most]
            for first in range(0, most, span):
                place = places[:, first : first + span]
                rows = low.new_zeros((len(own), place.shape[1], entries))
                rows.scatter_(2, place[..., None], chosen[own].gather(1, place).to(low.dtype)[..., None])
                found = part.least(torch.cat([rows, -rows], dim=1), start)
                asked = chosen[own].gather(1, place)
                below, above = found.split(place.shape[1], dim=1)
                at = own[:, None].expand(place.shape)
                low[at[asked], place[asked]] = below[asked]
                high[at[asked], place[asked]] = -above[asked]
        return low, high

    def _behind(self, start: int) -> set[int]:
        """The node and all from the grounds on that it depends on."""
        found = {start}
        for index in range(start, -1, -1):
            if index in found and index not in self.grounds:
                found.update(self.graph.nodes[index].inputs)
        return found

    def _pulled(self, index: int, rows: Tensor, state: _State) -> tuple[_State, tuple[Tensor, ...]]:
        node = self.graph.nodes[index]
        if not isinstance(node.layer, AbstractAffine):
            size = self.sizes[node.inputs[0]].flatten(1)
            own, constant, rounding = self.lines[index].pulled(rows, size)
            return state.raised(constant).blurred(rounding), (own,)
        layer, shapes = node.layer, tuple(self.graph.nodes[source].shape for source in node.inputs)
        moved = layer.transpose(rows.reshape(-1, *node.shape), shapes)
        parts = tuple(part.reshape(*rows.shape[:2], -1) for part in moved)
        if isinstance(layer, _EXACT):
            return state, parts
        share = (layer.terms + rows.shape[2] + 8) * UNIT
        state = state.blurred(share * weighed(rows, self._scale(index)))
        constant = self._constant(index)
        return (state.raised(rows @ constant) if constant.any() else state), parts

    def _scale(self, index: int) -> Tensor:
        """``|W| x + |b|`` of an affine node, ``(B, M)``."""
        if index not in self._scales:
            node = self.graph.nodes[index]
            own: AbstractAffine = node.layer  # type: ignore[assignment]
            scale = own.absolute.forward(*(self.sizes[source] for source in node.inputs))
            self._scales[index] = scale.flatten(1)
        return self._scales[index]

    def _constant(self, index: int) -> Tensor:
        """The constant of an affine node, ``(M,)``."""
        if index not in self._constants:
            node = self.graph.nodes[index]
            zeros = (self.sizes[source].new_zeros((1, *self.graph.nodes[source].shape)) for source in node.inputs)
            self._constants[index] = node.layer.forward(*zeros).flatten()
        return self._constants[index]


@dataclass(frozen=True, eq=False)
class _State:
    """What has been found of rows so far: coefficients ``(B, R, 1 + n + symbols)``, the rest ``(B, R)``."""

    coefficients: Tensor
    constant: Tensor
    error: Tensor

    def raised(self, constant: Tensor) -> _State:
        total = self.constant + constant
        return replace(self, constant=total, error=self.error + UNIT * total.abs())

    def blurred(self, error: Tensor) -> _State:
        return replace(self, error=self.error + error)

    def ended(self, rows: Tensor, forms: Forms) -> _State:
        flat = forms.flattened()
        found = rows @ flat.rows.transpose(1, 2)
        error = weighed(rows, (rows.shape[2] + 4) * UNIT * flat.size)
        if flat.error.any():
            error = error + (rows.abs() @ flat.error[..., None])[..., 0]
        old = self.coefficients
        width = max(old.shape[2], found.shape[2])
        old, found = (torch.nn.functional.pad(x, (0, width - x.shape[2])) for x in (old, found))
        total = old + found
        return replace(self, coefficients=total, error=self.error + error + UNIT * total.abs().sum(dim=2))

    def least(self) -> Tensor:
        centre, reach = self.coefficients[..., 0], self.coefficients[..., 1:].abs().sum(dim=2)
        size = centre.abs() + reach + self.constant.abs() + self.error
        outward = (self.coefficients.shape[2] + 8) * UNIT * size
        # The errors are themselves sums of many roundings.
        return centre + self.constant - reach - self.error * (1 + 2.0**-30) - outward

