"""CROWN and alpha-CROWN of others on the same boxes, where their library auto_LiRPA is installed.

The network from the parameters to the logits is written as a PyTorch module, in float32 as the library is
used; what it bounds is not counted with rounding. The library is optional: nothing of it is here.
"""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from steadygaze.export.parameter_network import parameter_network
from steadygaze.network.graph import Graph, Node
from steadygaze.network.joint import Multiply
from steadygaze.network.layers import Add, Conv, Dense, Input, Permute, Reshape, ScaleShift
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.smooth import Smooth
from steadygaze.perturbation.records import AffineImage
from steadygaze.question.problem import Problem

#: Whether the library is at hand.
INSTALLED = importlib.util.find_spec("auto_LiRPA") is not None
_TIMES = 3


class Crown:
    """The class gaps of a question, as the library bounds them over boxes of parameters."""

    def __init__(self, problem: Problem) -> None:
        from auto_LiRPA import BoundedModule  # type: ignore[import-not-found]

        (piece,) = problem.pieces
        module = _Module(parameter_network(*_scaled(problem.network.graph, piece.image), None))
        gaps = problem.gaps(torch.eye(problem.graph.classes, dtype=torch.float64)).T
        self._gaps = gaps.to(torch.float32)
        self._bounded = BoundedModule(module, torch.zeros((1, len(problem.box))), device="cpu")

    def bounds(self, boxes: np.ndarray, method: str) -> tuple[np.ndarray, np.ndarray, float]:
        """Both bounds ``(B, K - 1)`` of each gap over boxes ``(B, n, 2)``, and processor seconds a box.

        method: what the library calls it, "CROWN" or "CROWN-Optimized". The least time of some is told.
        """
        from auto_LiRPA import BoundedTensor, PerturbationLpNorm  # type: ignore[import-not-found]

        low, high = (torch.from_numpy(np.ascontiguousarray(boxes[..., end])).float() for end in (0, 1))
        ball = PerturbationLpNorm(x_L=low, x_U=high)
        rows = self._gaps.expand(len(boxes), -1, -1)
        taken, found = list[float](), (low, high)
        for _ in range(_TIMES if method == "CROWN" else 1):
            began = time.process_time()
            x = BoundedTensor((low + high) / 2, ball)
            found = self._bounded.compute_bounds(x=(x,), C=rows, method=method)
            taken.append(time.process_time() - began)
        least, most = (bound.detach().double().numpy() for bound in found)
        return least, most, min(taken) / len(boxes)


class _Module(nn.Module):
    """A graph of layers in plain PyTorch."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self._steps = [(_step(self, index, node), node.inputs) for index, node in enumerate(graph.nodes)]

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, K)`` at parameters ``(B, n)``."""
        values = [x]
        for step, inputs in self._steps[1:]:
            values.append(step(*(values[source] for source in inputs)))
        return values[-1]


def _scaled(graph: Graph, image: AffineImage) -> tuple[Graph, AffineImage]:
    """The network and the image behind a normalisation that it may begin with."""
    if not isinstance(graph.nodes[1].layer, ScaleShift):
        return graph, image
    forward = graph.nodes[1].layer.forward
    base, ones = (torch.from_numpy(np.ascontiguousarray(own)) for own in (image.base, image.directions))
    ahead = forward(base[None])
    directions = forward(base + ones) - ahead
    nodes = tuple(
        replace(node, inputs=tuple(max(0, source - 1) for source in node.inputs)) for node in graph.nodes[2:]
    )
    return Graph((graph.nodes[0], *nodes)), AffineImage(ahead[0].numpy(), directions.numpy())


def _step(module: nn.Module, index: int, node: Node) -> Callable[..., Tensor]:
    """What a node does, its numbers being parameters of the module."""
    layer = node.layer

    def kept(name: str, numbers: Tensor) -> Tensor:
        own = nn.Parameter(numbers.float().contiguous(), requires_grad=False)
        module.register_parameter(f"{name}{index}", own)
        return own

    match layer:
        case Input():
            return lambda x: x
        case Dense():
            weight, bias = kept("weight", layer.weight), kept("bias", layer.bias)
            return lambda x: functional.linear(x, weight, bias)
        case Conv():
            weight, bias = kept("weight", layer.weight), kept("bias", layer.bias)
            options = (layer.stride, layer.padding, layer.dilation, layer.groups)
            return lambda x: functional.conv2d(x, weight, bias, *options)
        case Reshape():
            return lambda x: x.reshape(-1, *node.shape)
        case Permute():
            return lambda x: x.permute(0, *(axis + 1 for axis in layer.axes))
        case Add():
            return lambda x, y: x + y
        case ScaleShift():
            scale, shift = kept("scale", layer.scale), kept("shift", layer.shift)
            return lambda x: x * scale + shift
        case PiecewiseLinear() if layer.is_relu:
            return torch.relu
        case PiecewiseLinear() if layer.breakpoints.tolist() == [0.0] and layer.slopes[1].eq(1.0).all():
            return nn.LeakyReLU(float(layer.slopes[0, 0]))
        case MaxPool() if layer.windows.min() >= 0:
            return _pool(layer)
        case Smooth(function="sigmoid" | "tanh"):
            return torch.sigmoid if layer.function == "sigmoid" else torch.tanh
        case Multiply():
            return lambda x, y: x * y
    raise NotImplementedError(
        f"The {type(layer).__name__} of node {index} is not written for the library; "
        "the networks here are of dense, convolution, reshape, permute, add, scaling, ReLU, leaky ReLU, "
        "sigmoid, tanh, product and max pooling layers without padding: "
        "leave this one out."
    )


def _pool(layer: MaxPool) -> Callable[[Tensor], Tensor]:
    """Maxima over square windows, as far apart along rows as along columns."""
    size = math.isqrt(layer.windows.shape[1])
    step = int(layer.windows[1, 0] - layer.windows[0, 0])
    return lambda x: functional.max_pool2d(x, size, step)
