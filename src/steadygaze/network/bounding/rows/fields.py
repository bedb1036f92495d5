"""What single places of a map see of the nodes before it: windows, in which their rows go back.

A unit behind two convolutions reads a few places of each map before it; its row is 0 on all others. Over
windows the network is the same for every place, but for its edges: beyond the edge of a map all values are 0,
as convolutions pad with it. So each place of each box becomes a box of its own, of a network whose maps are
windows and whose convolutions do not pad: lines beyond the edge have the slope 0, forms are 0 there, and what
affine layers would make of it is set to 0 by lines that keep what is within. (Rows as such patches: Xu et
al., Automatic Perturbation Analysis for Scalable Certified Robustness and Beyond, NeurIPS 2020.)
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as functional
from torch import Tensor

from steadygaze.network.bounding.rows.grids import averaging, grid_of
from steadygaze.network.graph import Graph, Node
from steadygaze.network.layers import Add, AveragePool, Concat, Conv, Pad, ScaleShift
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.smooth import Smooth

# Windows are taken where they hold less than this share of what the maps hold: they have to be cut out.
_WORTH = 0.5

# Stands where values beyond the edge are set to 0, by lines; its own rule is never asked.
_KEEPER = PiecewiseLinear(
    torch.zeros(1, dtype=torch.float64), torch.ones((2, 1), dtype=torch.float64), torch.zeros((2, 1))
)


@dataclass(frozen=True)
class Window:
    """What the place ``(y, x)`` sees of a map: from ``step * y + first`` on so many rows; columns alike."""

    step: tuple[int, int]
    first: tuple[int, int]
    size: tuple[int, int]

    def joined(self, other: Window) -> Window:
        """The least window that holds both; their steps are the same."""
        top, left = (min(ends) for ends in zip(self.first, other.first, strict=True))
        bottom, right = (max(ends) for ends in zip(self._ends, other._ends, strict=True))
        return Window(self.step, (top, left), (bottom - top, right - left))

    def before(self, reading: Window) -> Window:
        """What is read to make the window, `reading` being what makes one place of it, from (0, 0) on."""
        steps, firsts, sizes = zip(
            *(
                (step * by, first * by + its, (size - 1) * by + its_size)
                for step, first, size, by, its, its_size in zip(
                    self.step, self.first, self.size, reading.step, reading.first, reading.size, strict=True
                )
            ),
            strict=True,
        )
        return Window(steps, firsts, sizes)

    def cut(self, inner: Window) -> Pad:
        """The layer that takes a window within this one out of it."""
        sides = (
            (mine - its, its_end - my_end)
            for mine, its, my_end, its_end in zip(
                self.first, inner.first, self._ends, inner._ends, strict=True
            )
        )
        return Pad(((0, 0), *sides))

    def sees_beyond(self, extents: tuple[int, int], shape: tuple[int, ...]) -> bool:
        """Whether one of so many places sees more than a map of that shape."""
        return any(
            first < 0 or step * (extent - 1) + first + size > length
            for step, first, size, extent, length in zip(
                self.step, self.first, self.size, extents, shape[1:], strict=True
            )
        )

    @property
    def _ends(self) -> tuple[int, int]:
        return self.first[0] + self.size[0], self.first[1] + self.size[1]


@dataclass(frozen=True, eq=False)
class Fields:
    """The network behind one node, as each of its places sees it.

    Attributes:
        graph: maps are windows. start: the node there. extents: numbers of places, along rows and columns.
        sources: of each node of `graph` the one that it is of, and its window.
        keepers: nodes of `graph` that set to 0 what is beyond the edge.
    """

    graph: Graph
    start: int
    extents: tuple[int, int]
    sources: dict[int, tuple[int, Window]] = field(default_factory=dict)
    keepers: frozenset[int] = frozenset()

    def window(self, index: int, maps: Tensor, chosen: Tensor) -> Tensor:
        """What some places see of the maps ``(B, ..., H, W)`` of a node of `graph`: ``(P, ..., *size)``.

        chosen: ``(P,)`` numbers of places, those of the first box first. Beyond the edges there is 0.
        """
        window = self.sources[index][1]
        edges = list[int]()
        for axis in (1, 0):
            last = window.step[axis] * (self.extents[axis] - 1) + window.first[axis] + window.size[axis]
            edges += [-window.first[axis], last - maps.shape[axis - 2]]
        view = functional.pad(maps, edges)
        for axis in (0, 1):
            # What is unfolded keeps its place; the windows come last.
            view = view.unfold(maps.dim() - 2 + axis, window.size[axis], window.step[axis])
        each = self.extents[0] * self.extents[1]
        place = chosen % each
        at = (place // self.extents[1], place % self.extents[1])
        return view[(chosen // each, *(slice(None),) * (maps.dim() - 3), *at)]

    def within(self, index: int, maps: Tensor, chosen: Tensor) -> Tensor:
        """1 where places see the maps ``(B, C, H, W)`` and 0 beyond their edges, ``(P, C, *size)``."""
        return self.window(index, torch.ones_like(maps[:1]).expand(maps.shape), chosen)


def fields_of(graph: Graph, start: int, grounds: Collection[int]) -> Fields | None:
    """What the places of a node see on the way to nodes where rows end.

    None where layers on the way read more than places next to each other, and where all is hardly less.
    """
    windows = _windows(graph, start, grounds)
    if windows is None:
        return None
    seen = sum(graph.nodes[index].shape[0] * math.prod(window.size) for index, window in windows.items())
    if seen > _WORTH * sum(math.prod(graph.nodes[index].shape) for index in windows):
        return None
    extents = (graph.nodes[start].shape[1], graph.nodes[start].shape[2])
    nodes, sources, keepers = list[Node](), dict[int, tuple[int, Window]](), set[int]()
    moved = dict[int, int]()

    def add(node: Node, inputs: tuple[int, ...], of: int, window: Window) -> int:
        sources[len(nodes)] = of, window
        nodes.append(replace(node, inputs=inputs, shape=(node.shape[0], *window.size)))
        return len(nodes) - 1

    def is_bent(index: int) -> bool:
        """Whether its lines are 0 beyond the edge, whatever comes there."""
        return index not in grounds and isinstance(
            graph.nodes[index].layer, PiecewiseLinear | Smooth | MaxPool
        )

    for index in sorted(windows):
        node, window = _as_convolution(graph.nodes[index]), windows[index]
        if index in grounds:
            moved[index] = add(node, (), index, window)
            continue
        inputs = list[int]()
        for source in node.inputs:
            wanted, held = _wanted(node, window), windows[source]
            cut = Node(held.cut(wanted), (), graph.nodes[source].shape, node.name)
            whole = moved[source]
            inputs.append(whole if wanted == held else add(cut, (whole,), source, wanted))
        layer = replace(node.layer, padding=(0, 0)) if isinstance(node.layer, Conv) else node.layer
        moved[index] = add(replace(node, layer=layer), tuple(inputs), index, window)
        bent = all(index not in graph.nodes[reader].inputs or is_bent(reader) for reader in windows)
        if isinstance(layer, Conv | ScaleShift) and window.sees_beyond(extents, node.shape) and not bent:
            moved[index] = add(replace(node, layer=_KEEPER), (moved[index],), index, window)
            keepers.add(moved[index])
    return Fields(Graph(tuple(nodes)), moved[start], extents, sources, frozenset(keepers))


def _windows(graph: Graph, start: int, grounds: Collection[int]) -> dict[int, Window] | None:
    """What one place of the node sees of each node that it depends on, as far as rows go."""
    windows = {start: Window((1, 1), (0, 0), (1, 1))}
    for index in range(start, -1, -1):
        if index not in windows:
            continue
        node = graph.nodes[index]
        if len(node.shape) != 3 or (index not in grounds and not _is_local(node)):
            return None
        for source in () if index in grounds else node.inputs:
            wanted = _wanted(node, windows[index])
            held = windows.setdefault(source, wanted)
            if held.step != wanted.step:
                return None
            windows[source] = held.joined(wanted)
    return windows


def _wanted(node: Node, window: Window) -> Window:
    layer = _as_convolution(node).layer
    if isinstance(layer, Conv):
        (above, left), kernel = layer.padding, layer.weight.shape[2:]
        high, wide = (own * (size - 1) + 1 for own, size in zip(layer.dilation, kernel, strict=True))
        return window.before(Window(layer.stride, (-above, -left), (high, wide)))
    grid = grid_of(layer) if isinstance(layer, MaxPool) else None
    return window if grid is None else window.before(Window(grid.step, grid.first, grid.span))


def _as_convolution(node: Node) -> Node:
    """The same node, averages that go over the map in steps being a convolution."""
    if not isinstance(node.layer, AveragePool) or len(node.shape) != 3:
        return node
    layer = averaging(node.layer, node.shape[0])
    return node if layer is None else replace(node, layer=layer)


def _is_local(node: Node) -> bool:
    """Whether each place is made from places next to it, everywhere in the same way or between its lines."""
    layer = _as_convolution(node).layer
    if isinstance(layer, ScaleShift):
        own = (layer.scale, layer.shift)
        return all(not part.dim() or (part.dim() > 1 and part.shape[-2:] == (1, 1)) for part in own)
    if isinstance(layer, MaxPool):
        return grid_of(layer) is not None
    if isinstance(layer, Concat):  # of channels
        return layer.axis == 0
    return isinstance(layer, Conv | Add | PiecewiseLinear | Smooth)
