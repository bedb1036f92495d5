"""An ONNX file evaluated node by node in float64, with gradients: the original where its runtime has none.

onnxruntime has no gradients. This evaluator stands in for it: it reads the file itself, by a table of its own
in terms of PyTorch's functions, and shares nothing with the reader, the assembly or the graph that searches
use, but what layers make of constants alone (the norm of a weight), which onnxruntime answers for. Where a
derivative jumps it is, as there, that of the piece below: 0 for a rectifier at 0; and of several equal inputs
of a max pooling the first wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from steadygaze.errors import ModelError
from steadygaze.network.reading.onnx_gradients.nodes import Node
from steadygaze.network.reading.onnx_gradients.operators import RULES, tensor_of
from steadygaze.network.reading.onnx_gradients.reads import names_read

_Known: TypeAlias = "tuple[onnx.NodeProto, dict[str, Any]]"


class OnnxEvaluator:
    """The file's output of that name, and the gradient of its numbers by the input.

    Raises ModelError on an operator outside `RULES`.
    """

    def __init__(self, model: onnx.ModelProto, output: str) -> None:
        self._input = _image_of(model)
        self._output = output
        self._nodes = _needed(model, output)
        self._opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        with torch.inference_mode(False):  # gradients need them, whatever mode the caller is in
            self._weights = {
                one.name: tensor_of(numpy_helper.to_array(one)) for one in model.graph.initializer
            }

    def logits(self, batch: np.ndarray, count: int) -> np.ndarray:
        """Numbers ``(count, K)``, float64, of the `count` images in an input of the file's own shape."""
        with torch.no_grad():
            return self._run(_input_of(batch), count).numpy()

    def gradient(self, batch: np.ndarray, count: int, label: int) -> np.ndarray:
        """The gradient, float64 and shaped as `batch`, of each image's number `label` by its own inputs."""
        with torch.inference_mode(False), torch.enable_grad():
            x = _input_of(batch).requires_grad_()
            # Of a single number: with gradients of outputs given, torch imports sympy, which takes a second.
            return torch.autograd.grad(self._run(x, count)[:, label].sum(), x)[0].numpy()

    def _run(self, batch: Tensor, count: int) -> Tensor:
        known = self._walked(self._nodes, {**self._weights, self._input: batch})
        return known[self._output].reshape(count, -1)

    def _walked(self, nodes: Sequence[_Known], known: dict[str, Tensor]) -> dict[str, Tensor]:
        """The values of nodes in turn, beside those that are known."""
        for node, attributes in nodes:
            if node.op_type == "If":
                branch = attributes["then_branch" if known[node.input[0]] else "else_branch"]
                weights = {one.name: tensor_of(numpy_helper.to_array(one)) for one in branch.initializer}
                within = self._walked(_with_attributes(branch.node), {**known, **weights})
                known.update(
                    {name: within[one.name] for name, one in zip(node.output, branch.output, strict=True)}
                )
                continue
            inputs = [known[name] if name else None for name in node.input]
            whole = Node(node.op_type, inputs, attributes, len(node.output), self._opset)
            made = RULES[node.op_type](whole)
            known.update(zip(node.output, made if isinstance(made, tuple) else (made,), strict=False))
        return known


def computed_of_constants(
    node: onnx.NodeProto, constants: Sequence[np.ndarray | None], opset: int
) -> np.ndarray | tuple[np.ndarray, ...]:
    """What a node of `RULES` makes of constants alone; those left out are None.

    Raises what PyTorch raises, RuntimeError above all, if they do not fit.
    """
    inputs = [None if one is None else tensor_of(one) for one in constants]
    with torch.no_grad():
        made = RULES[node.op_type](Node(node.op_type, inputs, _named(node), len(node.output), opset))
    return tuple(one.numpy() for one in made) if isinstance(made, tuple) else made.numpy()


def _named(node: onnx.NodeProto) -> dict[str, Any]:
    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


def _input_of(batch: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(batch, np.float64))


def _image_of(model: onnx.ModelProto) -> str:
    weights = {one.name for one in model.graph.initializer}
    return next(one.name for one in model.graph.input if one.name not in weights)


def _needed(model: onnx.ModelProto, output: str) -> list[_Known]:
    """The nodes that the output rests on, in the file's order, with their attributes."""
    wanted, kept = {output}, []
    for node in reversed(model.graph.node):
        if wanted.isdisjoint(node.output):
            continue
        wanted.update(name for name in names_read(node) if name)
        kept.append(node)
    return _with_attributes(kept[::-1])


def _with_attributes(nodes: Iterable[onnx.NodeProto]) -> list[_Known]:
    """Nodes with their attributes. Raises ModelError on an operator outside `RULES`."""
    kept: list[_Known] = []
    for node in nodes:
        if node.op_type not in RULES and node.op_type != "If":
            raise ModelError(
                f"gradients of {node.op_type!r} (node {node.name!r}) are not known; allowed are "
                f"{', '.join(sorted(RULES))}"
            )
        kept.append((node, _named(node)))
    return kept
