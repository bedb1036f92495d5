"""Which values a node of an ONNX file reads."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import NodeProto


def names_read(node: NodeProto) -> Iterator[str]:
    """The values that a node reads, those within its branches among them."""
    yield from node.input
    for attribute in node.attribute:
        if attribute.HasField("g"):
            for inner in attribute.g.node:
                yield from names_read(inner)
            yield from (one.name for one in attribute.g.output)
