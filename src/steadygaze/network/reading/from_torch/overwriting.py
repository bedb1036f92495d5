"""Operations that overwrite what they are given, such as a ReLU in place, written as those that make anew.

PyTorch does that for every program, by tracing it once more, which takes longer than tracing it at first.
Most programs need less: what is overwritten was made by a convolution, a normalisation, a sum, and nothing
else looks into its memory. There the result of the same operation, made anew, takes its place from then on.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

# What shares no memory with what it is given, whatever that is. Of what PyTorch makes of others some hand
# their input on where there is nothing to do, such as dropout, reshape or contiguous: those are not here.
_CONVOLUTIONS = "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d"
_SUMS = "linear matmul mm addmm cat add sub mul div batch_norm layer_norm group_norm avg_pool2d max_pool2d"
_RESIZED = "upsample_nearest2d upsample_bilinear2d"
_BENT = "relu relu6 hardtanh leaky_relu elu selu celu silu mish sigmoid tanh hardswish hardsigmoid"
_ANEW = frozenset(f"{_CONVOLUTIONS} {_SUMS} {_RESIZED} {_BENT}".split())


def write_anew(graph: fx.Graph) -> bool:
    """Change a traced program's graph so that nothing is overwritten; False, and no change, where that asks
    for more than is known here.
    """
    place = {node: number for number, node in enumerate(graph.nodes)}
    anew: dict[fx.Node, OpOverload] = {}
    held: dict[fx.Node, list[fx.Node]] = {}  # by what was made: it, and the results of what overwrites it
    for node in graph.nodes:
        if not overwrites(node):
            continue
        made, overwritten = _made_anew(node), node.args[0]
        if made is None or not isinstance(overwritten, fx.Node) or not _makes_anew(overwritten):
            return False
        names = held.setdefault(overwritten, [overwritten])
        before = (user for name in names for user in name.users if place[user] < place[node])
        if not all(map(_makes_anew, before)):
            return False
        names.append(node)
        held[node], anew[node] = names, made
    for node, made in anew.items():
        (overwritten, *_), node.target = node.args, made
        assert isinstance(overwritten, fx.Node)
        for user in [user for user in overwritten.users if place[user] > place[node]]:
            user.replace_input_with(overwritten, node)
    if anew and graph.owning_module is not None:
        graph.owning_module.recompile()
    return True


def overwrites(node: fx.Node) -> bool:
    """Whether the operation changes something that it is given."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _made_anew(node: fx.Node) -> OpOverload | None:
    """The same operation, its result made anew; None where there is none, or its numbers may be others."""
    target = node.target
    if not isinstance(target, OpOverload) or target.namespace != "aten":
        return None
    name = _name_of(target)
    found = getattr(getattr(torch.ops.aten, name, None), target._overloadname, None)
    if name not in _ANEW or found is None or found is target:
        return None
    asked = [(one.name, str(one.type)) for one in target._schema.arguments]
    if asked != [(one.name, str(one.type)) for one in found._schema.arguments]:
        return None
    # What is overwritten keeps its precision and shape, whatever else is given.
    own = node.meta.get("val")
    fits = isinstance(own, Tensor) and all(given.dtype == own.dtype for given in _given(node))
    return found if fits else None


def _given(node: fx.Node) -> Iterator[Tensor]:
    values = (source.meta.get("val") for source in node.all_input_nodes)
    return (value for value in values if isinstance(value, Tensor))


def _makes_anew(node: fx.Node) -> bool:
    """Whether the result shares no memory with what is there already, once nothing is overwritten."""
    target = node.target
    return isinstance(target, OpOverload) and target.namespace == "aten" and _name_of(target) in _ANEW


def _name_of(target: OpOverload) -> str:
    """The operation's name, whether it overwrites or not."""
    return target._schema.name.removeprefix("aten::").removesuffix("_")
