"""Operators of ONNX files that are not read, and what to do about each."""

from __future__ import annotations

from functools import cache

from onnx import NodeProto, defs

from steadygaze.network.reading.assembling.held import way_out_of
from steadygaze.network.reading.from_onnx.estimators import DOMAIN
from steadygaze.network.reading.from_onnx.heads import LABELS

DOMAINS = ("", "ai.onnx")
"""What the standard set of operators is called."""
_QUANTISED = ("DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QuantizeLinear")
_QUANTISED += ("QLinearConv", "QLinearMatMul")


def way_out(node: NodeProto) -> str:
    """What to do about an operator that is not read, in words."""
    if node.op_type in LABELS:
        return f"where it makes the class itself, cut the network before it, with --output {node.input[0]}"
    if node.domain == DOMAIN:
        return _of_estimators(node.op_type)
    if node.domain.startswith("com.microsoft"):
        return (
            "it is of onnxruntime's own set, which optimising made: hand in the file that was optimised, or "
            "optimise with ORT_ENABLE_BASIC, which keeps to ONNX"
        )
    if node.domain not in DOMAINS:
        return "it is of one runtime's own set: export the network without that runtime's optimisation"
    if node.op_type not in _standard():
        return (
            "it is no operator of ONNX, and no runtime can run the file: the exporter left it as it was; "
            "write that layer with others, such as gelu(x, approximate=True), and export again"
        )
    if node.op_type in ("Loop", "Scan"):
        return "write the loop out: in a recurrent layer of Keras by unroll=True, and export again"
    if "Sequence" in node.op_type:
        return "put the values together with torch.stack or cat, or hand in the module or its .pt2 program"
    if node.op_type.startswith("Random") or node.op_type in ("Bernoulli", "Multinomial"):
        return "it draws random numbers: export the network in evaluation mode, or leave it out"
    if node.op_type in _QUANTISED:
        return (
            "it rounds to a few levels, which jump: export the network before it was quantised, or quantise "
            "its weights alone (DequantizeLinear of constants is read)"
        )
    return way_out_of(node.op_type) or "build the network from these"


def _of_estimators(operator: str) -> str:
    if "Tree" in operator:
        return "trees are constant between jumps, so that there is no gradient to look at: take a network"
    if operator == "LinearClassifier":
        return "write it as a torch.nn.Linear with the estimator's coef_ and intercept_"
    return (
        "it belongs to estimators, not to networks of layers: cut the network before it, with --output "
        "NAME, or write the estimator as layers (MatMul, Add, Relu)"
    )


@cache
def _standard() -> frozenset[str]:
    """The names of the standard set."""
    return frozenset(one.name for one in defs.get_all_schemas() if one.domain == "")
