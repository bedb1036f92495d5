"""Whether a traced module leaves the axes of what it computes in their order."""

from __future__ import annotations

from torch.export import ExportedProgram

from steadygaze.network.reading.from_torch.head import operator_name

# Operators after which numbers lie in memory as they did before, axis by axis; any other may reorder them.
_KEEPING = {
    *("conv2d", "linear"),
    *("batch_norm", "dropout", "feature_dropout"),
    *("add", "sub", "mul", "cat"),
    *("adaptive_avg_pool2d", "avg_pool2d", "max_pool2d", "mean"),
    *("flatten", "reshape", "view"),
    *("relu", "relu6", "leaky_relu", "hardtanh", "hardsigmoid", "hardswish"),
    *("elu", "gelu", "sigmoid", "silu", "tanh"),
}


def keeps_order(program: ExportedProgram) -> bool:
    """Whether no step permutes axes, as far as is known of each: convolutional networks up to their head.

    PyTorch's batch normalisation loses the order of a single image's gradient only behind such a step.
    """
    called = (node for node in program.graph.nodes if node.op == "call_function")
    return all(operator_name(node).partition(".")[0].removesuffix("_") in _KEEPING for node in called)
