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
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from steadygaze.deadline import NEVER, Deadline
from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding.rows.ends import End, Sums, least_of
from steadygaze.network.bounding.rows.few_bent import FewBent
from steadygaze.network.bounding.rows.few_units import Few, FewUnits, PartOfWeights, mirrored, whole
from steadygaze.network.bounding.rows.fields import Fields, fields_of
from steadygaze.network.bounding.rows.grids import grid_of
from steadygaze.network.bounding.rows.last_bend import LastBend
from steadygaze.network.bounding.rows.lines import AbstractLines, Lines, rounding_at, unit_of, weighed
from steadygaze.network.bounding.rows.local_maxima import LocalMaxima
from steadygaze.network.bounding.rows.window_lines import WindowLines
from steadygaze.network.graph import Graph
from steadygaze.network.layers import AbstractAffine, Add, Concat, Pad, Permute, Reshape

# Layers that only move numbers: rows come through them as they are.
_EXACT = (Add, Concat, Pad, Permute, Reshape)
# Bytes of the widest rows that are carried at once: measured, smaller blocks take longer for their many
# steps, larger ones leave the cache.
_BLOCK_BYTES = 2**22
# Where there are no more units over all boxes, telling boxes apart takes longer than asking all the same.
_FEW_UNITS = 256
# Boxes share one set of rows where that is no larger by this factor than that of the box with the most.
_SHARED = 1.25


@dataclass(frozen=True, eq=False)
class Backward:
    """What rows need on their way back, over B boxes.

    Attributes:
        graph: the network.
        lines: of each node that is not affine, and behind `grounds`.
        sizes: ``(B, *shape)`` the largest magnitudes of each node's values.
        grounds: forms ``(B, *shape)`` of the nodes where rows end; every way back comes to one of them.
        deadline: asked on the way back, node by node.
        others: other lines of some nodes, which may be the better ones.
        ends: where rows end: at grounds, and right behind some.
        early: where rows in float64 through whole maps end before they come to the ends.
        last_bend: the last node with units, at which rows for gaps may choose slopes, and its number.
    """

    graph: Graph
    lines: dict[int, AbstractLines] = field(default_factory=dict)
    sizes: dict[int, Tensor] = field(default_factory=dict)
    grounds: dict[int, Forms] = field(default_factory=dict)
    deadline: Deadline = NEVER
    others: dict[int, Lines] = field(default_factory=dict)
    ends: dict[int, End] = field(default_factory=dict)
    early: dict[int, FewBent] = field(default_factory=dict)
    last_bend: dict[int, LastBend] = field(default_factory=dict)
    _scales: dict[int, Tensor] = field(default_factory=dict)
    _roundings: dict[int, Tensor] = field(default_factory=dict)
    _parts: dict[int, PartOfWeights] = field(default_factory=dict)

    def take(self, chosen: Tensor) -> Backward:
        """What is known over some of the boxes."""
        return replace(
            self,
            lines={index: lines.take(chosen) for index, lines in self.lines.items()},
            sizes={index: size[chosen] for index, size in self.sizes.items()},
            grounds={index: forms.take(chosen) for index, forms in self.grounds.items()},
            others={index: lines.take(chosen) for index, lines in self.others.items()},
            ends={index: end.take(chosen) for index, end in self.ends.items()},
            early={index: few.take(chosen) for index, few in self.early.items()},
            last_bend={},
            _scales={index: scale[chosen] for index, scale in self._scales.items()},
            _roundings={index: own[chosen] for index, own in self._roundings.items()},
        )

    def grounded_alone(self) -> Backward:
        """The same with rows that end at grounds alone, so that all lines may be replaced by others."""
        ends = {index: end for index, end in self.ends.items() if index in self.grounds}
        return replace(self, ends=ends, early={})

    def narrowed(self, start: int) -> Backward:
        """The same for rows in float32 from a node, which take half the time or less.

        Their rounding is counted alike.
        """
        kind, own = torch.float32, self._single
        for index in self.behind(start):
            # Nothing is known of sizes in float32 but what they are shares of.
            own.sizes[index] = self.sizes[index]
            if index in own.ends or index in own.lines:
                continue
            if self._is_end(index):
                own.ends[index] = self._end(index).to(kind)
            elif index in self.lines:
                own.lines[index] = self.lines[index].to(kind)
            else:
                own._scales[index] = self.scale(index)
        return own

    @cached_property
    def _single(self) -> Backward:
        return Backward(self.graph.single, deadline=self.deadline)

    def asks_few(self, chosen: Tensor) -> bool:
        """Whether a mask ``(B, M)`` of what is asked for is so small that operations alone take time."""
        return chosen.numel() <= _FEW_UNITS

    def with_others(self, start: int) -> Backward | None:
        """The same for rows from a node over twice as many boxes: the second half takes the other lines.

        None where windows' maxima are on the way.
        """
        own = self._double
        for index in self.behind(start):
            if index in own.sizes:
                continue
            if self._is_end(index):
                number = torch.arange(len(self.sizes[index]), device=self.sizes[index].device)
                own.ends[index] = self._end(index).take(number.repeat(2))
            elif index in self.lines:
                first = self.lines[index]
                second = self.others.get(index, first)
                if not (isinstance(first, Lines) and isinstance(second, Lines)):
                    return None
                own.lines[index] = Lines.joined(first, second)
            else:
                own._scales[index] = torch.cat([self.scale(index)] * 2)
                own._roundings[index] = torch.cat([self._rounding(index, torch.float64)] * 2)
            own.sizes[index] = torch.cat([self.sizes[index]] * 2)
        return own

    @cached_property
    def _double(self) -> Backward:
        return Backward(self.graph, deadline=self.deadline)

    def least(self, rows: Tensor, start: int) -> Tensor:
        """Lower bounds ``(B, R)`` of ``<row, output of node start>`` for rows ``(B, R, M)``, rounded down."""
        twice = list[Tensor]()
        found = least_of(self.below(rows, start, twice=twice))
        for number in twice:
            found, again = found.split([found.shape[1] - number.shape[1], number.shape[1]], dim=1)
            found = found.scatter_reduce(1, number, again, "amax")
        some = self._divided.nonzero()[:, 0]
        if not len(some):
            return found
        # Where both lines are the same, so are the rows.
        all_of_them = len(some) == len(found)
        own = self.otherwise() if all_of_them else self.take(some).otherwise()
        left = rows if all_of_them or len(rows) == 1 else rows[some]
        found[some] = torch.fmax(found[some], least_of(own.below(left, start)))
        return found

    @property
    def _divided(self) -> Tensor:
        """``(B,)`` bool: boxes in which some of the other lines are not the first ones."""
        boxes = next(iter(self.sizes.values()))
        divided = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
        for index, other in self.others.items():
            lines = self.lines[index]
            assert isinstance(lines, Lines), "of maxima there are no others"
            divided |= lines.differs(other)
        return divided

    def otherwise(self) -> Backward:
        """The same with the other lines where there are some."""
        return replace(self, lines=self.lines | self.others, others={}, last_bend={})

    def below(
        self,
        rows: Tensor,
        start: int,
        both: bool = False,
        entries: dict[int, Tensor] | None = None,
        twice: list[Tensor] | None = None,
    ) -> Tensor:
        """Affine functions ``(B, 1 + n, R)`` below ``<row, output of node start>``, rounded down.

        The rows are ``(B, R, M)``, or ``(1, R, M)`` if they are the same for all boxes. They may be in
        float32, if this is: see `narrowed`.
        both: of the rows and of their opposites, ``(B, 1 + n, 2 R)``; these go together up to the first end,
        or node that is not affine.
        entries: where given, takes in what becomes of the rows behind each node that is not affine.
        twice: where given, some rows may go on once more, with other slopes at the last units: see
            `LastBend`. It takes in their numbers ``(B, T)``; they come behind the others.

        Raises Expired where the deadline passes on the way.
        """
        sums, pending = Sums(), dict[int, Tensor | Few]({start: rows})
        few = entries is None and rows.dtype == torch.float64 and rows.device.type == "cpu"
        for index in range(start, -1, -1):
            own = pending.pop(index, None)
            if own is None:
                continue
            self.deadline.ask()
            affine = isinstance(self.graph.nodes[index].layer, AbstractAffine)
            ends = self._is_end(index) or index in self.early
            if both and (ends or not affine):
                own, both = mirrored(own), False
                sums.mirror()
                pending = {source: mirrored(part) for source, part in pending.items()}
            found, came = self._few.pulled(index, own, sums) if few and not ends else None, own
            own = whole(own)
            if self._is_end(index):
                sums.ended(*self._end(index).met(own))
                continue
            if index in self.early:
                sums.ended(*self.early[index].met(own))
                continue
            if entries is not None and index in self.lines:
                entries[index] = own
            parts = self._pulled(index, own, sums) if found is None else (found,)
            bend = self.last_bend.get(index) if twice is not None and not pending else None
            if twice is not None and bend is not None and not sums.have_ended:
                parts = (bend.repeated(came, parts[0], self.lines[index], sums, twice),)
            for source, part in zip(self.graph.nodes[index].inputs, parts, strict=True):
                if source not in pending:
                    pending[source] = part
                    continue
                pending[source] = joined = whole(pending[source]) + whole(part)
                sums.blurred(2 * unit_of(rows) * weighed(joined, self._size(source, joined.dtype)))
        return sums.below(self._count)

    @cached_property
    def _few(self) -> FewUnits:
        return FewUnits(self.graph, self.lines, self._is_end, self._rounding, self._parts)

    def units(self, start: int, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Functions ``(B, 1 + n, M)`` below and above some entries of a node's output, a mask ``(B, M)``.

        Where it is not set they are -inf and inf. Where places see little they go back in windows.
        """
        fields = fields_of(self.graph, start, {*self.grounds, *self.ends})
        if fields is None:
            few = self.asks_few(chosen)
            return self._few_units(start, chosen) if few else self._units(start, chosen, self.take)
        # Each place of each box is a box of its own.
        channels = self.graph.nodes[start].shape[0]
        each = chosen.unflatten(1, (channels, -1)).mT.flatten(0, 1)
        found = self._units(fields.start, each, lambda own: self._seen(fields, own), fields.graph)
        low, high = (bound.unflatten(0, (len(chosen), -1)).permute(0, 2, 3, 1).flatten(2) for bound in found)
        return low, high

    def _few_units(self, start: int, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """As `units`, in one go: all boxes are asked what one of them is asked."""
        places = chosen.any(dim=0).nonzero()[:, 0]
        rows = torch.zeros((1, len(places), chosen.shape[1]), dtype=self._kind, device=chosen.device)
        rows[0, range(len(places)), places] = 1.0
        found = self.below(rows, start, both=True)
        low = found.new_zeros((*found.shape[:2], chosen.shape[1]))
        low[:, 0] = -torch.inf
        high, wanted = -low, chosen[:, None, places]
        below, above = found.chunk(2, dim=2)
        low[..., places] = torch.where(wanted, below, low[..., places])
        high[..., places] = torch.where(wanted, -above, high[..., places])
        return low, high

    def _units(
        self,
        start: int,
        chosen: Tensor,
        part_of: Callable[[Tensor], Backward],
        graph: Graph | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As `units`, over what is known over some of the boxes by their numbers; graph: its network."""
        boxes, entries = chosen.shape
        low = torch.zeros((boxes, entries, 1 + self._count), dtype=torch.float64, device=chosen.device)
        low[..., 0] = -torch.inf
        high = -low
        counts = chosen.sum(dim=1)
        order = counts.argsort(descending=True)
        nodes = [self.graph.nodes[index] for index in self.behind(start)] if graph is None else graph.nodes
        widest = max(math.prod(node.shape) for node in nodes)
        kind = self._kind
        span = max(1, _BLOCK_BYTES // (2 * kind.itemsize * widest))
        done = 0
        while done < boxes and counts[order[done]]:
            most = int(counts[order[done]])
            own = order[done : done + max(1, span // most)]
            own = own[counts[own] > 0]
            done += len(own)
            asked = chosen[own]
            shared = asked.any(dim=0).nonzero()[:, 0]
            # Rows that are the same for all boxes are one matrix up to the first lines.
            if len(shared) <= _SHARED * most:
                places = shared[None]
            else:
                places = asked.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :most]
            # What is known of all boxes is taken as it is.
            part = self if graph is None and len(own) == boxes else part_of(own)
            if part is self:
                own = own.sort().values
                asked = chosen
                places = places if len(places) == 1 else places[order.argsort()]
            for place in places.split(span, dim=1):
                rows = torch.zeros((*place.shape, entries), dtype=kind, device=chosen.device)
                rows.scatter_(2, place[..., None], 1.0)
                found = part.below(rows, start, both=True).transpose(1, 2)
                below, above = found.split(place.shape[1], dim=1)
                place = place.expand(len(own), -1)
                wanted = asked.gather(1, place)
                at = own[:, None].expand(place.shape)
                low[at[wanted], place[wanted]] = below[wanted]
                high[at[wanted], place[wanted]] = -above[wanted]
        return low.transpose(1, 2), high.transpose(1, 2)

    def _seen(self, fields: Fields, chosen: Tensor) -> Backward:
        """What some places see ``(P,)`` of a node, as if each were a box of its own."""
        lines, sizes, ends, scales = {}, {}, {}, {}
        readers = Counter(source for node in fields.graph.nodes for source in node.inputs)
        kind = self._kind
        for index, (source, _) in fields.sources.items():
            shape = self.graph.nodes[source].shape

            def seen(own: Tensor, index: int = index, shape: tuple[int, ...] = shape) -> Tensor:
                maps = own.reshape(*own.shape[:-1], *shape)
                return fields.window(index, maps, chosen).flatten(-3)

            layer = fields.graph.nodes[index].layer
            if readers[index] > 1:
                sizes[index] = fields.window(index, self.sizes[source], chosen)
            # Not where a part is cut out of it: entries of all parts add up before the end.
            if not fields.graph.nodes[index].inputs:
                ends[index] = self._end(source).mapped(seen)
            elif index in fields.keepers:
                size = seen(self._size(source, kind))
                within = fields.within(index, self.sizes[source], chosen).flatten(1).to(kind)
                nothing = torch.zeros_like(within)
                lines[index] = Lines(within, nothing, within, nothing, size)
            elif isinstance(layer, AbstractAffine):  # or a part cut out, of whatever layer
                if not isinstance(layer, _EXACT):
                    scales[index] = seen(self.scale(source))
            elif source in self.lines:
                lines[index] = self._lines_seen(fields, index, chosen, seen)
        return Backward(fields.graph, lines, sizes, deadline=self.deadline, ends=ends, _scales=scales)

    def _lines_seen(
        self, fields: Fields, index: int, chosen: Tensor, seen: Callable[[Tensor], Tensor]
    ) -> AbstractLines:
        """What some places ``(P,)`` see of lines at a node of `fields`; seen: of maps there, flattened."""
        own = self.lines[fields.sources[index][0]]
        if isinstance(own, Lines):
            return own.mapped(seen)
        assert isinstance(own, WindowLines), "there are two kinds of lines of whole maps"
        grid, (source,) = grid_of(own.layer), fields.graph.nodes[index].inputs
        assert grid is not None, "others are not local"
        return LocalMaxima.seen(
            own,
            grid,
            lambda maps: fields.window(index, maps, chosen),
            lambda maps: fields.window(source, maps, chosen),
        )

    def behind(self, start: int) -> set[int]:
        """The node and all from the ends on that it depends on."""
        found = {start}
        for index in range(start, -1, -1):
            if index in found and not self._is_end(index):
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

    def _is_end(self, index: int) -> bool:
        return index in self.ends or index in self.grounds

    def _end(self, index: int) -> End:
        """Where rows end at a node; of grounds it is made when the first row comes."""
        if index not in self.ends:
            self.ends[index] = End.of(self.grounds[index])
        return self.ends[index]

    @property
    def _count(self) -> int:
        """Number of coordinates."""
        return next(iter((*self.ends.values(), *self.grounds.values()))).count

    @property
    def _kind(self) -> torch.dtype:
        """What rows are in: that of ends, or float64 where there are none yet."""
        return next((end.lower.dtype for end in self.ends.values()), torch.float64)

    def _pulled(self, index: int, rows: Tensor, sums: Sums) -> tuple[Tensor, ...]:
        node = self.graph.nodes[index]
        if not isinstance(node.layer, AbstractAffine):
            own, constant, rounding = self.lines[index].pulled(rows)
            sums.raised(constant)
            sums.blurred(rounding)
            sizes = [math.prod(self.graph.nodes[source].shape) for source in node.inputs]
            return own.split(sizes, dim=2)
        layer, shapes = node.layer, tuple(self.graph.nodes[source].shape for source in node.inputs)
        moved = layer.transpose(rows.reshape(-1, *node.shape), shapes)
        parts = tuple(part.reshape(*rows.shape[:2], -1) for part in moved)
        if isinstance(layer, _EXACT):
            return parts
        constant = layer.constant(shapes)
        if constant is not None:
            sums.raised((rows @ constant.flatten()).to(torch.float64))
        rounding = self._rounding(index, rows.dtype)
        # As in `weighed`: in float64 lengths will do.
        if rows.dtype == torch.float64:
            sums.blurred(torch.linalg.vector_norm(rows, dim=2) * rounding)
        else:
            sums.blurred(weighed(rows, rounding))
        return parts

    def _rounding(self, index: int, kind: torch.dtype) -> Tensor:
        """What rounding at an affine node adds for each unit of a row's entries, ``(B, M)``.

        In float64 the length of all of it, ``(B, 1)``.
        """
        if index not in self._roundings:
            node = self.graph.nodes[index]
            assert isinstance(node.layer, AbstractAffine), "the caller says so"
            shapes = tuple(self.graph.nodes[source].shape for source in node.inputs)
            self._roundings[index] = rounding_at(node.layer, shapes, self.scale(index), kind)
        return self._roundings[index]

    def _size(self, index: int, kind: torch.dtype) -> Tensor:
        """The largest magnitudes of a node's values, ``(B, M)``."""
        size = self.sizes[index].flatten(1)
        return size if kind == torch.float64 else (size * (1 + 2.0**-20)).to(kind)
