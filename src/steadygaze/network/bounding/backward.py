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

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor

from steadygaze.deadline import NEVER, Deadline
from steadygaze.geometry.enclosures import UNIT
from steadygaze.geometry.forms import Forms
from steadygaze.network.bounding.fields import Fields, fields_of
from steadygaze.network.bounding.lines import AbstractLines, Lines, unit_of, weighed
from steadygaze.network.graph import Graph
from steadygaze.network.layers import AbstractAffine, Add, Concat, Pad, Permute, Reshape

# Layers that only move numbers: rows come through them as they are.
_EXACT = (Add, Concat, Permute, Reshape)
# Bytes of the widest rows that are carried at once: measured, smaller blocks take longer for their many
# steps, larger ones leave the cache.
_BLOCK_BYTES = 2**22
# What the allocator of glibc keeps of freed memory is twice the largest part that was freed, if that is below
# 32 MiB: see mallopt(3), M_MMAP_THRESHOLD.
_KEPT_BYTES = 2**25 - 2**14


@dataclass(frozen=True, eq=False)
class Backward:
    """What rows need on their way back, over B boxes.

    Attributes:
        graph: the network.
        lines: of each node that is not affine, and behind `grounds`.
        sizes: ``(B, *shape)`` the largest magnitudes of each node's values.
        grounds: forms ``(B, *shape)`` of the nodes where rows end; every way back comes to one of them.
        deadline: asked on the way back, node by node.
    """

    graph: Graph
    lines: dict[int, AbstractLines] = field(default_factory=dict)
    sizes: dict[int, Tensor] = field(default_factory=dict)
    grounds: dict[int, Forms] = field(default_factory=dict)
    deadline: Deadline = NEVER
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

    def narrowed(self) -> Backward:
        """The same for rows in float32, which take half the time or less; their rounding is counted alike."""
        kind = torch.float32
        upward = 1 + 2.0**-20
        nodes = tuple(
            replace(node, layer=node.layer.to(kind)) if isinstance(node.layer, AbstractAffine) else node
            for node in self.graph.nodes
        )
        grounds = {
            index: Forms(forms.rows.to(kind), (forms.error * upward).to(kind), forms.count)
            for index, forms in self.grounds.items()
        }
        return Backward(
            Graph(nodes),
            {index: lines.to(kind) for index, lines in self.lines.items()},
            {index: (size * upward).to(kind) for index, size in self.sizes.items()},
            grounds,
            self.deadline,
        )

    def least(self, rows: Tensor, start: int) -> Tensor:
        """Lower bounds ``(B, R)`` of ``<row, output of node start>`` for rows ``(B, R, M)``, rounded down."""
        below = self.below(rows, start)
        return below[:, 0] - below[:, 1:].abs().sum(dim=1) * (1 + 2.0**-40)

    def below(
        self, rows: Tensor, start: int, both: bool = False, entries: dict[int, Tensor] | None = None
    ) -> Tensor:
        """Affine functions ``(B, 1 + n, R)`` below ``<row, output of node start>``, rounded down.

        The rows are ``(B, R, M)``. They may be in float32, if this is: see `narrowed`.
        both: of the rows and of their opposites, ``(B, 1 + n, 2 R)``; these go together up to the first node
        that is not affine.
        entries: where given, takes in what becomes of the rows behind each node that is not affine.

        Raises Expired where the deadline passes on the way.
        """
        nothing = torch.zeros(rows.shape[:2], dtype=torch.float64, device=rows.device)
        state = _State(nothing[..., None], nothing, nothing)
        pending = {start: rows}
        for index in range(start, -1, -1):
            own = pending.pop(index, None)
            if own is None:
                continue
            self.deadline.ask()
            if index in self.grounds:
                state = state.ended(own, self.grounds[index])
                continue
            if both and not isinstance(self.graph.nodes[index].layer, AbstractAffine):
                own, state, both = _mirrored(own), state.mirrored(), False
                pending = {source: _mirrored(part) for source, part in pending.items()}
            if entries is not None and index in self.lines:
                entries[index] = own
            state, parts = self._pulled(index, own, state)
            for source, part in zip(self.graph.nodes[index].inputs, parts, strict=True):
                if source not in pending:
                    pending[source] = part
                    continue
                pending[source] = pending[source] + part
                rounded = weighed(pending[source], self.sizes[source].flatten(1))
                state = state.blurred(2 * unit_of(rows) * rounded)
        state = state.mirrored() if both else state
        return state.below(next(iter(self.grounds.values())).count)

    def units(self, start: int, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Functions ``(B, 1 + n, M)`` below and above some entries of a node's output, a mask ``(B, M)``.

        Where it is not set they are -inf and inf. Where places see little they go back in windows.
        """
        fields = fields_of(self.graph, start, self.grounds)
        if fields is None:
            return self._units(start, chosen, self.take)
        # Each place of each box is a box of its own.
        channels = self.graph.nodes[start].shape[0]
        each = chosen.unflatten(1, (channels, -1)).mT.flatten(0, 1)
        found = self._units(fields.start, each, lambda own: self._seen(fields, own), fields.graph)
        low, high = (bound.unflatten(0, (len(chosen), -1)).permute(0, 2, 3, 1).flatten(2) for bound in found)
        return low, high

    def _units(
        self,
        start: int,
        chosen: Tensor,
        part_of: Callable[[Tensor], Backward],
        graph: Graph | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As `units`, over what is known over some of the boxes by their numbers; graph: its network."""
        _keep_freed_memory()
        boxes, entries = chosen.shape
        count = next(iter(self.grounds.values())).count
        low = torch.zeros((boxes, entries, 1 + count), dtype=torch.float64, device=chosen.device)
        low[..., 0] = -torch.inf
        high = -low
        counts = chosen.sum(dim=1)
        order = counts.argsort(descending=True)
        nodes = [self.graph.nodes[index] for index in self.behind(start)] if graph is None else graph.nodes
        widest = max(math.prod(node.shape) for node in nodes)
        kind = next(iter(self.sizes.values()))
        done, size = 0, kind.element_size()
        while done < boxes and counts[order[done]]:
            most = int(counts[order[done]])
            own = order[done : done + max(1, _BLOCK_BYTES // (2 * size * widest * most))]
            own = own[counts[own] > 0]
            done += len(own)
            part = part_of(own)
            span = max(1, _BLOCK_BYTES // (2 * size * widest))
            places = chosen[own].to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :most]
            for first in range(0, most, span):
                place = places[:, first : first + span]
                asked = chosen[own].gather(1, place)
                rows = kind.new_zeros((len(own), place.shape[1], entries))
                rows.scatter_(2, place[..., None], asked.to(rows.dtype)[..., None])
                found = part.below(rows, start, both=True).transpose(1, 2)
                below, above = found.split(place.shape[1], dim=1)
                at = own[:, None].expand(place.shape)
                low[at[asked], place[asked]] = below[asked]
                high[at[asked], place[asked]] = -above[asked]
        return low.transpose(1, 2), high.transpose(1, 2)

    def _seen(self, fields: Fields, chosen: Tensor) -> Backward:
        """What some places see ``(P,)`` of a node, as if each were a box of its own."""
        lines, sizes, grounds, scales = {}, {}, {}, {}
        for index, (source, _) in fields.sources.items():
            shape = (-1, *self.graph.nodes[source].shape)

            def seen(own: Tensor, index: int = index, shape: tuple[int, ...] = shape) -> Tensor:
                return fields.window(index, own.reshape(*own.shape[:-1], *shape[1:]), chosen).flatten(1)

            sizes[index] = fields.window(index, self.sizes[source], chosen)
            layer = fields.graph.nodes[index].layer
            if source in self.grounds:
                forms = self.grounds[source]
                rows, error = (fields.window(index, own, chosen) for own in (forms.rows, forms.error))
                grounds[index] = Forms(rows, error, forms.count)
            if index in fields.keepers:
                within = fields.within(index, self.sizes[source], chosen).flatten(1)
                nothing = torch.zeros_like(within)
                lines[index] = Lines(within, nothing, within, nothing)
            elif source in self.lines:
                own = self.lines[source]
                assert isinstance(own, Lines), "windows of maxima are not local"
                lines[index] = own.mapped(seen)
            elif isinstance(layer, Pad):
                scales[index] = sizes[index].flatten(1)
            elif isinstance(layer, AbstractAffine) and source not in self.grounds:
                scales[index] = seen(self.scale(source))
        return Backward(fields.graph, lines, sizes, grounds, self.deadline, scales)

    def behind(self, start: int) -> set[int]:
        """The node and all from the grounds on that it depends on."""
        found = {start}
        for index in range(start, -1, -1):
            if index in found and index not in self.grounds:
                found.update(self.graph.nodes[index].inputs)
        return found

    def scale(self, index: int) -> Tensor:
        """``|W| x + |b|`` of an affine node, ``(B, M)``, x being the largest magnitudes of its inputs.

        Of another node the largest magnitudes of its own values.
        """
        node = self.graph.nodes[index]
        if not isinstance(node.layer, AbstractAffine):
            return self.sizes[index].flatten(1)
        if index not in self._scales:
            inputs = (self.sizes[source] for source in node.inputs)
            self._scales[index] = node.layer.absolute.forward(*inputs).flatten(1)
        return self._scales[index]

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
        # One product with the magnitudes of rows for all of what rounding adds.
        constant, sizes = self._constant(index), (layer.terms + 8) * self.scale(index)
        if constant.any():
            sizes = sizes + (rows.shape[2] + 4) * constant.abs()
            state = state.raised((rows @ constant).to(torch.float64))
        state = state.blurred(unit_of(rows) * weighed(rows, sizes))
        return state, parts

    def _constant(self, index: int) -> Tensor:
        """The constant of an affine node, ``(M,)``."""
        if index not in self._constants:
            node = self.graph.nodes[index]
            zeros = (
                self.sizes[source].new_zeros((1, *self.graph.nodes[source].shape)) for source in node.inputs
            )
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

    def mirrored(self) -> _State:
        """That of the rows and of their opposites, ``(B, 2 R)``."""
        error = torch.cat([self.error, self.error], dim=1)
        return _State(_mirrored(self.coefficients), _mirrored(self.constant), error)

    def ended(self, rows: Tensor, forms: Forms) -> _State:
        flat = forms.flattened()
        found = (rows @ flat.rows.transpose(1, 2)).to(torch.float64)
        terms = (rows.shape[2] + 8) * unit_of(rows)
        error = terms * weighed(rows, flat.size)
        if flat.error.any():
            error = error + (rows.abs() @ flat.error[..., None])[..., 0] * (1 + 4 * terms)
        old = self.coefficients
        width = max(old.shape[2], found.shape[2])
        old, found = (torch.nn.functional.pad(x, (0, width - x.shape[2])) for x in (old, found))
        total = old + found
        return replace(self, coefficients=total, error=self.error + error + UNIT * total.abs().sum(dim=2))

    def below(self, count: int) -> Tensor:
        centre, own = self.coefficients[..., 0], self.coefficients[..., 1 : 1 + count]
        strays = self.coefficients[..., 1 + count :].abs().sum(dim=2)
        size = centre.abs() + self.coefficients[..., 1:].abs().sum(dim=2) + self.constant.abs() + self.error
        outward = (self.coefficients.shape[2] + 8) * UNIT * size
        # The errors are themselves sums of many roundings.
        centre = centre + self.constant - strays - self.error * (1 + 2.0**-30) - outward
        return torch.cat([centre[:, None], own.transpose(1, 2)], dim=1)


@lru_cache(maxsize=1)
def _keep_freed_memory() -> None:
    """Have blocks of rows laid where others were, once for the process.

    Else each is new memory, which the system clears first: up to a fifth of the time.
    """
    torch.empty(_KEPT_BYTES, dtype=torch.uint8)


def _mirrored(numbers: Tensor) -> Tensor:
    """Those of rows and of their opposites, along the second axis."""
    return torch.cat([numbers, -numbers], dim=1)
