"""A trained stack of layers as an ONNX model, operator by operator: the same weights give the same bytes."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import nn

OPSET, IR_VERSION = 13, 8


def to_onnx(model: nn.Sequential, name: str, shape: tuple[int, int, int]) -> onnx.ModelProto:
    """The network as ONNX: float32 ``(N, C, H, W)`` in, logits out."""
    names = [f"layer{position}" for position in range(len(model) - 1)] + ["logits"]
    sources = ["image", *names[:-1]]
    nodes = [
        _node(layer, output, source) for layer, output, source in zip(model, names, sources, strict=True)
    ]
    weights = [
        numpy_helper.from_array(tensor.detach().numpy(), f"{output}.{key}")
        for layer, output in zip(model, names, strict=True)
        for key, tensor in layer.named_parameters()
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *shape])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", "K"])
    graph = helper.make_graph(nodes, name, [image], [logits], weights)
    proto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="steadygaze"
    )
    proto.ir_version = IR_VERSION
    onnx.checker.check_model(proto)
    return proto


def _node(layer: nn.Module, output: str, source: str) -> onnx.NodeProto:
    inputs = [source, f"{output}.weight", f"{output}.bias"]
    if isinstance(layer, nn.Flatten):
        return helper.make_node("Flatten", [source], [output], axis=1)
    if isinstance(layer, nn.Linear):
        return helper.make_node("Gemm", inputs, [output], transB=1)
    if isinstance(layer, nn.Conv2d):
        settings: dict[str, Any] = {"kernel_shape": layer.kernel_size, "strides": layer.stride}
        return helper.make_node("Conv", inputs, [output], **settings)
    return helper.make_node("Relu", [source], [output])
