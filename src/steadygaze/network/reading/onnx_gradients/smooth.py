"""Smooth ONNX operators, and those in which values meet, by PyTorch's functions, for `evaluator`."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from steadygaze.network.reading.onnx_gradients.nodes import Node, Rule


def _axes(node: Node) -> tuple[int, ...]:
    named = node.axes(1, node.x.dim())
    return tuple(named or range(node.x.dim()))


def _summed(node: Node, numbers: Tensor) -> Tensor:
    """What a reduction sums up, over its axes."""
    if not node.axes(1, node.x.dim()) and node.get("noop_with_empty_axes", 0):
        return numbers
    return numbers.sum(_axes(node), keepdim=bool(node.get("keepdims", 1)))


def _sum_of_squares(node: Node) -> Tensor:
    return _summed(node, node.x * node.x)


def _over_last(node: Node) -> tuple[int, ...]:
    rank = node.x.dim()
    return tuple(range(node.get("axis", -1) % rank, rank))


def _batch_norm(node: Node) -> Tensor:
    """By the statistics of the file; in training, which only constants may be, by those of the input."""
    column = (-1,) + (1,) * (node.x.dim() - 2)
    scale, bias, mean, variance = (node[place].reshape(column) for place in range(1, 5))
    if node.get("training_mode", 0):
        others = (0, *range(2, node.x.dim()))
        mean = node.x.mean(others, keepdim=True)
        variance = node.x.var(others, correction=0, keepdim=True)
    return (node.x - mean) / torch.sqrt(variance + node.get("epsilon", 1e-5)) * scale + bias


def _layer_norm(node: Node) -> Tensor:
    axes = _over_last(node)
    away = node.x - node.x.mean(axes, keepdim=True)
    made = away / torch.sqrt((away * away).mean(axes, keepdim=True) + node.get("epsilon", 1e-5)) * node[1]
    bias = node.optional(2)
    return made if bias is None else made + bias


def _rms_norm(node: Node) -> Tensor:
    square = (node.x * node.x).mean(_over_last(node), keepdim=True)
    return node.x / torch.sqrt(square + node.get("epsilon", 1e-5)) * node[1]


def _group_norm(node: Node) -> Tensor:
    return functional.group_norm(
        node.x, node.get("num_groups", 1), node[1], node[2], node.get("epsilon", 1e-5)
    )


def _instance_norm(node: Node) -> Tensor:
    return functional.instance_norm(node.x, weight=node[1], bias=node[2], eps=node.get("epsilon", 1e-5))


def _response(node: Node) -> Tensor:
    size, channels = node.get("size", 1), node.x.shape[1]
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    squares = node.x * node.x
    sums = [squares[:, max(0, c - before) : c + after + 1].sum(1, keepdim=True) for c in range(channels)]
    scale = node.get("bias", 1.0) + node.get("alpha", 1e-4) / size * torch.cat(sums, 1)
    return node.x / scale ** node.get("beta", 0.75)


def _unit_length(node: Node) -> Tensor:
    axis = node.get("axis", -1)
    if node.get("p", 2) == 1:
        return node.x / node.x.abs().sum(axis, keepdim=True)
    return node.x / (node.x * node.x).sum(axis, keepdim=True).sqrt()


def _softmax(node: Node) -> Tensor:
    x, old = node.x, node.opset < _ALONG
    axis = node.get("axis", 1 if old else -1) % node.x.dim()
    if not old:
        return torch.softmax(x, axis)
    return torch.softmax(x.flatten(axis), axis).reshape(x.shape)


def _attention(node: Node) -> Tensor:
    q, k, v, mask = node.x, node[1], node[2], node.optional(3)
    rows = q.dim() == _ROWS
    heads = node.get("q_num_heads", 1)
    if rows:
        fewer = node.get("kv_num_heads", heads)
        q, k, v = (x.unflatten(2, (n, -1)).transpose(1, 2) for x, n in ((q, heads), (k, fewer), (v, fewer)))
    scores = torch.zeros((q.shape[-2], k.shape[-2]), dtype=torch.float64)
    if node.get("is_causal", 0):
        scores = scores.masked_fill(torch.ones(scores.shape).tril() == 0, -torch.inf)
    if mask is not None:
        added = (
            torch.zeros(mask.shape).double().masked_fill(~mask, -torch.inf)
            if mask.dtype == torch.bool
            else mask
        )
        scores = scores + added
    made = functional.scaled_dot_product_attention(
        q, k, v, scores, scale=node.get("scale", None), enable_gqa=q.shape[1] != k.shape[1]
    )
    return made.transpose(1, 2).flatten(2) if rows else made


def _lp_norm(node: Node) -> Tensor:
    p = node.get("p", 2)
    powers = torch.abs(node.x) ** p
    return powers.sum(tuple(range(2, node.x.dim())), keepdim=True) ** (1 / p)


# The first version of a softmax along one axis.
_ALONG = 13
# Axes of rows that hold all heads of attention.
_ROWS = 3

RULES: dict[str, Rule] = {
    "Attention": _attention,
    "BatchNormalization": _batch_norm,
    "Exp": lambda node: torch.exp(node.x),
    "GroupNormalization": _group_norm,
    "GlobalLpPool": _lp_norm,
    "InstanceNormalization": _instance_norm,
    "LRN": _response,
    "LayerNormalization": _layer_norm,
    "Log": lambda node: torch.log(node.x),
    "LogSoftmax": lambda node: torch.log(_softmax(node)),
    "LpNormalization": _unit_length,
    "Pow": lambda node: torch.pow(node.x, node[1]),
    "RMSNormalization": _rms_norm,
    "Reciprocal": lambda node: 1 / node.x,
    "ReduceL1": lambda node: _summed(node, torch.where(node.x > 0, node.x, -node.x)),
    "ReduceLogSum": lambda node: _summed(node, node.x).log(),
    "ReduceLogSumExp": lambda node: _summed(node, node.x.exp()).log(),
    "ReduceL2": lambda node: _sum_of_squares(node).sqrt(),
    "ReduceSumSquare": _sum_of_squares,
    "Softmax": _softmax,
    "Swish": lambda node: node.x * torch.sigmoid(node.get("alpha", 1.0) * node.x),
}
"""What each of these operators is in terms of PyTorch."""
