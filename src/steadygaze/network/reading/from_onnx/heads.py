"""Which value of an ONNX file holds the logits: the output asked for, without the softmax behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, numpy_helper

from steadygaze.errors import ModelError, SettingError
from steadygaze.network.reading.from_onnx.forms import FLOATS
from steadygaze.network.reading.onnx_gradients.reads import names_read

LOGARITHMS: Mapping[str, int] = {"Softmax": 1, "LogSoftmax": 0, "Sigmoid": 0}
"""Operators over all classes that keep their order, left out at the end, and how often a log may follow."""
# Behind a softmax they change neither which number belongs to which class nor the order of the numbers.
_BEHIND = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Log", "ZipMap")
# What exporters of estimators put behind the number of a class to make its name.
_NAMING = ("ArrayFeatureExtractor", "Cast", "Identity", "LabelEncoder", "Reshape", "Squeeze", "Unsqueeze")
# What leaves of a single number nothing but that number.
_COPYING = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Gather")
LABELS = ("ArgMax", "TopK", "Hardmax")
"""Operators that make the class itself of the logits."""


@dataclass(frozen=True)
class Head:
    """The name of the logits, the softmax that was left out after them, if any, and the output behind it.

    A sigmoid p is left out likewise, or 1 - p and p, which is so of a single logit alone: of several `whole`
    holds.
    """

    logits: str
    final: NodeProto | None
    behind: str

    @property
    def whole(self) -> Head:
        """The same with nothing left out."""
        return Head(self.behind, None, self.behind)


def head_of(model: onnx.ModelProto, asked: str | None) -> Head:
    """The logits behind the output `asked` for; by default the one output, or the one that all others follow.

    Raises SettingError where no value has the name asked for, ModelError where the file leaves it open.
    """
    makers = {name: node for node in model.graph.node for name in node.output if name}
    if asked is not None:
        if asked not in makers and asked.isdecimal() and int(asked) < len(model.graph.output):
            asked = model.graph.output[int(asked)].name
        if asked not in makers:
            outputs = ", ".join(one.name for one in model.graph.output)
            raise SettingError(
                f"the output is {asked!r}, which the network does not have; allowed are its outputs "
                f"({outputs}), by name or by number from 0 on, and the values inside it; name one of these"
            )
        return _unwrapped(asked, makers, model)
    names = [one.name for one in model.graph.output]
    heads = {name: _unwrapped(name, makers, model) for name in names if not _is_label(name, makers)}
    if len(names) == 1 and not heads:
        node = _labelling(names[0], makers)
        assert node is not None, "no head is left out but of a label"
        raise ModelError(
            f"the network's output {names[0]!r} is the class itself, made by {node.op_type!r}, allowed are "
            f"logits; cut the network before it, with --output {node.input[0]}"
        )
    logits = {head.logits for head in heads.values()}
    named = [name for name in heads if name.lower() == "logits"]
    if len(logits) == 1:
        return next((h for n, h in heads.items() if n == h.logits), next(iter(heads.values())))
    if len(named) == 1:
        return heads[named[0]]
    raise ModelError(
        f"the network has {len(names)} outputs {names}, allowed is one, the logits; name it with --output"
    )


def needed(model: onnx.ModelProto, output: str) -> list[NodeProto]:
    """The nodes that a value rests on, in the file's order."""
    wanted, kept = {output}, []
    for node in reversed(model.graph.node):
        if not wanted.isdisjoint(name for name in node.output if name):
            wanted.update(names_read(node))
            kept.append(node)
    return kept[::-1]


def _is_label(name: str, makers: Mapping[str, NodeProto]) -> bool:
    return _labelling(name, makers) is not None


def _labelling(name: str, makers: Mapping[str, NodeProto]) -> NodeProto | None:
    """The node that makes a class of the logits, where the value of that name is no more than its name."""
    pending, seen = [name], set[str]()
    while pending:
        one = pending.pop()
        node = makers.get(one)
        if node is None or one in seen:
            continue
        seen.add(one)
        if (node.op_type in LABELS and node.input) or _names_classes(node, one):
            return node
        if node.op_type in _NAMING:
            pending += node.input
    return None


def _names_classes(node: NodeProto, name: str) -> bool:
    """Whether the value of that name is the class that an estimator makes beside its scores."""
    return node.op_type.endswith("Classifier") and len(node.output) > 1 and node.output[0] == name


def _unwrapped(name: str, makers: Mapping[str, NodeProto], model: onnx.ModelProto) -> Head:
    """The logits, where a softmax and what only reshapes it end in the value of that name."""
    behind, logarithms = name, 0
    for _ in makers:  # a file may go in circles
        if behind not in makers or not _keeps_order(makers[behind]):
            break
        logarithms += makers[behind].op_type == "Log"
        behind = makers[behind].input[0]
    node = _of_both_classes(behind, makers, model) or makers.get(behind)
    if node is not None and node.input and logarithms <= LOGARITHMS.get(node.op_type, -1):
        return Head(node.input[0], node, name)
    while name in makers and makers[name].op_type == "ZipMap" and makers[name].input:
        name = makers[name].input[0]
    return Head(name, None, name)


def _of_both_classes(name: str, makers: Mapping[str, NodeProto], model: onnx.ModelProto) -> NodeProto | None:
    """The sigmoid p where the value of that name is 1 - p and p, as estimators of two classes end."""
    joined = makers.get(name)
    if joined is None or joined.op_type != "Concat" or len(joined.input) != 2:
        return None
    rest, own = (_of_one_number(one, makers, model) for one in joined.input)
    less, sigmoid = makers.get(rest), makers.get(own)
    if less is None or sigmoid is None or (less.op_type, sigmoid.op_type) != ("Sub", "Sigmoid"):
        return None
    same = _of_one_number(less.input[1], makers, model) == own
    ones = _kept(less.input[0], makers, model)
    return sigmoid if same and any(one.size == 1 and np.all(one == 1) for one in ones) else None


def _of_one_number(name: str, makers: Mapping[str, NodeProto], model: onnx.ModelProto) -> str:
    """The value that the one of that name is a copy of, if that holds a single number."""
    for _ in makers:
        node = makers.get(name)
        if node is None or node.op_type not in _COPYING or not node.input:
            break
        if node.op_type == "Gather" and all(own.size != 1 for own in _kept(node.input[1], makers, model)):
            break  # as often as it has places
        name = node.input[0]
    return name


def _kept(name: str, makers: Mapping[str, NodeProto], model: onnx.ModelProto) -> list[np.ndarray]:
    """What the file keeps as the value of that name."""
    kept = [one for one in model.graph.initializer if one.name == name]
    node = makers.get(name)
    if node is not None and node.op_type == "Constant":
        kept += [one.t for one in node.attribute if one.name == "value"]
    return [numpy_helper.to_array(one) for one in kept]


def _keeps_order(node: NodeProto) -> bool:
    if node.op_type == "Cast":
        return all(one.i in FLOATS for one in node.attribute if one.name == "to")
    return node.op_type in _BEHIND and len(node.input) > 0
