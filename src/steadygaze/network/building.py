"""Graphs grow here: node by node, within what memory can hold, and without what the output does not need."""

from __future__ import annotations

import math
from dataclasses import replace

from steadygaze.errors import ModelError
from steadygaze.network.graph import Graph, Node
from steadygaze.network.layers import AbstractLayer, Input, Shape

# Numbers in one weight, or in one layer's output for one image: 1 GiB in float64.
_SIZE_LIMIT = 2**27


def check_size(shape: Shape, what: str) -> None:
    """Raise ModelError, before any memory is taken, if an array of this shape is empty or too large."""
    if min(shape, default=1) < 1 or math.prod(shape) > _SIZE_LIMIT:
        raise ModelError(
            f"{what} has shape {shape}, allowed are sizes of at least 1 and at most {_SIZE_LIMIT} numbers "
            "in all; check the model file and the shape of the image"
        )


def trimmed(graph: Graph) -> Graph:
    """The graph without the nodes on which its last one does not depend; the pixels stay."""
    needed = {0, graph.last}
    for index in range(graph.last, 0, -1):
        if index in needed:
            needed.update(graph.nodes[index].inputs)
    place = {old: new for new, old in enumerate(sorted(needed))}
    nodes = (graph.nodes[old] for old in place)
    return Graph(tuple(replace(n, inputs=tuple(place[source] for source in n.inputs)) for n in nodes))


class GraphBuilder:
    """Grows a graph node by node; the readers' only way to make one."""

    def __init__(self, input_shape: Shape) -> None:
        self.nodes: list[Node] = [Node(Input(input_shape), (), input_shape, "pixels")]

    def add(self, layer: AbstractLayer, *inputs: int, name: str) -> int:
        """Append `layer` reading the given nodes; returns its index.

        Raises ModelError if its output would be empty or too large to hold.
        """
        shape = layer.output_shape(*(self.nodes[source].shape for source in inputs))
        check_size(shape, f"the output of {name}")
        self.nodes.append(Node(layer, inputs, shape, name))
        return len(self.nodes) - 1

    def shape(self, index: int) -> Shape:
        """Shape of a node's output, without the batch."""
        return self.nodes[index].shape

    def build(self, output: int) -> Graph:
        """The graph of what `output` depends on, with `output` last."""
        return trimmed(Graph(tuple(self.nodes[: output + 1])))
