"""What stands behind the logits of a traced module: a softmax, and what changes no number after it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind
from torch.utils import _pytree

from steadygaze.errors import ModelError
from steadygaze.network.reading.from_torch.arguments import PRECISIONS
from steadygaze.network.reading.from_torch.operators import overload_name
from steadygaze.network.reading.from_torch.outputs import LogitsOf, logits_among
from steadygaze.network.reading.from_torch.tracing import runnable

_LOGARITHMS = ("log_softmax.int", "_log_softmax", "special_log_softmax")
_SOFTMAXES = ("softmax.int", "_softmax", "special_softmax", *_LOGARITHMS)
# Of one logit alone, which is read as two classes: their probabilities are its sigmoid and the rest.
_SIGMOID = "sigmoid"
_JOINED = ("cat", "stack")  # 1 - p and p of it, as both their probabilities
# These move numbers without changing their order, or copy them.
_CARRIERS = (
    *("view", "reshape", "_unsafe_view", "flatten.using_ints", "unflatten.int", "unsqueeze"),
    *("squeeze", "squeeze.dim", "squeeze.dims", "alias", "clone", "contiguous", "detach"),
    *("to.dtype", "to.dtype_layout", "to.device", "_to_copy"),
)


@dataclass(frozen=True)
class Head:
    """The node of the logits, and the nodes behind it, which are left out; `softmaxes` are among them."""

    logits: fx.Node
    left_out: frozenset[fx.Node]
    softmaxes: tuple[fx.Node, ...]

    @property
    def dropped(self) -> str | None:
        """What was left out, by the name that users know it by."""
        names = [operator_name(node).partition(".")[0].strip("_") for node in self.softmaxes]
        return " of ".join(name.removeprefix("special_") for name in names) or None

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ModelError unless every softmax runs over all the logits, which have this shape."""
        for node in self.softmaxes:
            if operator_name(node) == _SIGMOID:
                continue
            axis = _argument(node, 1, "dim")
            # An open size is that of the batch, which is read as 1.
            sizes = [size if isinstance(size, int) else 1 for size in node.meta["val"].shape]
            if sizes[axis] != math.prod(shape):
                raise ModelError(
                    f"{title(node)} works along axis {axis} of {tuple(sizes)}, allowed is one over all "
                    "classes"
                )


def found(program: ExportedProgram, asked: str | None) -> Head:
    """The logits of the program, and what stands behind them; `asked` as in `logits_among`.

    Raises SettingError or ModelError as that does.
    """
    specs = program.graph_signature.output_specs
    leaves = [
        leaf
        for leaf, spec in zip(_output(program.graph).args[0], specs, strict=True)  # type: ignore[arg-type]
        if spec.kind == OutputKind.USER_OUTPUT
    ]
    return _before(_returned(leaves, program, asked))


def without(program: ExportedProgram, asked: str | None) -> torch.nn.Module:
    """The traced module as a module that stops at the logits."""
    module: Any = runnable(program)
    output = _output(module.graph)
    last = _returned(output.args[0], program, asked)
    output.replace_input_with(last, _before(last).logits)
    module.graph.eliminate_dead_code()
    module.recompile()
    return LogitsOf(module, asked)


def check_agreement(returned: np.ndarray, logits: np.ndarray, dropped: str) -> None:
    """Raise ModelError unless what the module returns is what was dropped of the logits, ``(B, K)`` both."""
    given = torch.from_numpy(logits).double()
    if dropped == _SIGMOID:
        expected = torch.sigmoid(given)
        if returned.shape[1] == 2:
            expected = torch.cat([1 - expected, expected], dim=1)
    else:
        expected = (torch.softmax if dropped.startswith("softmax") else torch.log_softmax)(given, dim=1)
    if not torch.allclose(torch.from_numpy(returned).double(), expected, 1e-3, 1e-4):
        raise ModelError(
            f"the module returns another {dropped} than that of the logits that it was traced to have, "
            "allowed are modules that do the same traced and run; leave out what it does for export alone"
        )


def _output(graph: fx.Graph) -> fx.Node:
    (output,) = (node for node in graph.nodes if node.op == "output")
    return output


def _returned(leaves: Any, program: ExportedProgram, asked: str | None) -> fx.Node:
    """The node of what is returned for the logits, among the leaves of what is returned."""
    structure = program.call_spec.out_spec
    returned = leaves if structure is None else _pytree.tree_unflatten(leaves, structure)
    return logits_among(returned, fx.Node, asked)


def _before(last: fx.Node) -> Head:
    """The first node before `last` that is no part of the head."""
    logits, softmaxes, left_out = last, [], []
    passed: list[fx.Node] = []
    of_both: list[fx.Node] = []
    for node in _back(last):
        passed.append(node)
        name = operator_name(node)
        if _is_precise(node) and (name in _SOFTMAXES or (name == _SIGMOID and _is_one_number(node))):
            if softmaxes and name not in _LOGARITHMS:
                break
            softmaxes.append(node)
            left_out += passed
            passed = []
            logits = node.all_input_nodes[0]
        elif not softmaxes and (found := _of_both_classes(node)):
            of_both = found
            passed += found
        elif node not in of_both and not _carries(node):
            break
    return Head(logits, frozenset(left_out), tuple(softmaxes))


def _back(node: fx.Node) -> Iterator[fx.Node]:
    """The node, and the first source of each, as far as there is one."""
    while node.op == "call_function" and node.all_input_nodes:
        yield node
        node = node.all_input_nodes[0]


def _of_both_classes(node: fx.Node) -> list[fx.Node]:
    """The nodes between the sigmoid p of one number and this one, if it makes 1 - p and p of it; or none."""
    sources = node.all_input_nodes
    if operator_name(node) not in _JOINED or len(sources) != 2 or node.meta["val"].shape[-1] != 2:
        return []
    rest, own = sources
    if operator_name(rest) != "rsub.Scalar" or rest.args[1:] != (1,) or rest.kwargs:
        return []
    (one, first), (other, second) = _up_to_sigmoid(rest.all_input_nodes[0]), _up_to_sigmoid(own)
    return [rest, *one, *other] if first is second and first is not None else []


def _up_to_sigmoid(node: fx.Node) -> tuple[list[fx.Node], fx.Node | None]:
    """The nodes that carry one number, from this one back to the sigmoid that it is, and that."""
    passed: list[fx.Node] = []
    for one in _back(node):
        if operator_name(one) == _SIGMOID:
            return passed, one if _is_one_number(one) else None
        if not _carries(one) and operator_name(one) != "select.int":
            break
        passed.append(one)
    return passed, None


def _carries(node: fx.Node) -> bool:
    """Whether the node's numbers are those of its first source, in the same order."""
    if not _is_precise(node):
        return False
    if operator_name(node) == "slice.Tensor":
        sizes = (str(one.meta["val"].shape) for one in (node, node.all_input_nodes[0]))
        return len(set(sizes)) == 1 and bool(node.kwargs.get("step", (*node.args, 1, 1, 1, 1)[4]) == 1)
    return operator_name(node) in _CARRIERS


def _is_one_number(node: fx.Node) -> bool:
    # An open size is that of the batch, which is read as 1.
    return math.prod(size for size in node.meta["val"].shape if isinstance(size, int)) == 1


def _is_precise(node: fx.Node) -> bool:
    made = node.meta.get("val")
    return isinstance(made, Tensor) and made.dtype in PRECISIONS


def _argument(node: fx.Node, place: int, name: str) -> Any:
    return node.args[place] if len(node.args) > place else node.kwargs[name]


def operator_name(node: fx.Node) -> str:
    """The name in the table of operators; others carry their namespace, so that they are not mistaken."""
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        own = target.namespace == "aten"
        return overload_name(target) if own else f"{target.namespace}::{target.__name__}"
    return getattr(target, "__name__", str(target))


def title(node: fx.Node) -> str:
    """What a message calls the node."""
    if node.op != "call_function":
        return f"input {node.name!r}"
    stack = list(node.meta.get("nn_module_stack", {}).values())
    # A module that picks the logits may have been put around the user's.
    place = (stack[-1][0] if stack else "").removeprefix("module.") or node.name
    return f"layer {operator_name(node).partition('.')[0]!r} (node {place!r})"
