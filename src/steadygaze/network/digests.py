"""Digests of a network: what tells one function apart from another, however it is written down."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from typing import Any

from torch import Tensor

from steadygaze.network.graph import Graph
from steadygaze.network.layers import AbstractLayer, Add


def digests(graph: Graph) -> tuple[str, ...]:
    """For each node the SHA-256 of all that its output depends on: layers, constants, how they are joined.

    The order in which nodes are listed or branches added makes no difference. That of the last node stands
    for the network as it was read, its layout and normalisation included.
    """
    found: list[str] = []
    for node in graph.nodes:
        sources = [found[source] for source in node.inputs]
        made = hashlib.sha256(type(node.layer).__name__.encode())
        _add_constants(made, node.layer)
        made.update(" ".join(sorted(sources) if isinstance(node.layer, Add) else sources).encode())
        found.append(made.hexdigest())
    return tuple(found)


def _add_constants(made: Any, layer: AbstractLayer) -> None:
    own: Any = layer  # every final layer is a dataclass, which its abstract bases cannot say
    for field in fields(own):
        if not field.compare:  # it says where the layer comes from, not what it computes
            continue
        value = getattr(own, field.name)
        if isinstance(value, Tensor):
            made.update(f"{field.name} {value.dtype} {tuple(value.shape)} ".encode())
            made.update(value.cpu().contiguous().numpy())
        else:
            made.update(f"{field.name} {value!r} ".encode())
