"""PyTorch module -> graph: the module as `torch.export` traces it, with a batch of one image."""

from __future__ import annotations

import contextlib
import io
import logging
import operator
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from steadygaze.errors import ModelError
from steadygaze.network.graph import check_size
from steadygaze.network.reading.assembly import Assembler, Value
from steadygaze.network.reading.torch_operators import OPERATORS, Call

_FINAL = ("softmax", "_softmax", "log_softmax", "_log_softmax", "special_log_softmax")


@dataclass(frozen=True)
class TorchReading:
    """The logits as a value of the assembler, and the operation that was left out after them."""

    logits: Value
    dropped: str | None


def traced(module: torch.nn.Module, row: tuple[int, ...]) -> ExportedProgram:
    """The module's operations on one image of shape `row`; the module must be in evaluation mode.

    Raises ModelError if the module cannot be traced: it branches on numbers, leaves PyTorch, or the shape is
    wrong.
    """
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    example = torch.zeros((1, *row), dtype=dtype)
    try:
        with _quiet(), torch.no_grad():
            # A wrong shape fails here in one plain sentence; tracing would not name it so well.
            module(example)
            program = torch.export.export(module, (example,), strict=False)
            return functional(program)
    except Exception as error:  # tracing runs the user's code
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"{type(module).__name__} cannot be traced on an input of shape {tuple(example.shape)} "
            f"({first}); "
            "allowed are modules that take one image batch and do the same steps for every image; check "
            "layout and shape"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Tracing that fails prints and logs pages about its insides; the error says what matters."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        sink = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def functional(program: ExportedProgram) -> ExportedProgram:
    """The program without operations that overwrite their input."""
    schemas = (getattr(node.target, "_schema", None) for node in program.graph.nodes)
    mutates = any(schema is not None and schema.is_mutable for schema in schemas)
    return program.run_decompositions({}) if mutates else program


def input_sizes(program: ExportedProgram) -> tuple[int | None, ...]:
    """Shape of the traced module's only input; None where the size is open."""
    inputs = _user_inputs(program)
    if len(inputs) != 1:
        raise ModelError(
            f"the module has {len(inputs)} inputs, allowed is one, the image; wrap it in one that fixes the "
            "others"
        )
    node = next(node for node in program.graph.nodes if node.name == inputs[0])
    return tuple(size if isinstance(size, int) else None for size in node.meta["val"].shape)


def read_torch(program: ExportedProgram, assembler: Assembler, image: Value) -> TorchReading:
    """Append the traced module's layers to `assembler`, reading `image`, whose shape is the module's input's.

    Raises ModelError, naming the layer, for anything outside the table of operators.
    """
    known: dict[fx.Node, Any] = {}
    constants = _constants(program)
    final = final_softmax(program)
    for node in program.graph.nodes:
        assembler.where = _title(node)
        if node.op == "placeholder":
            known[node] = constants.get(node.name, image)
        elif node.op == "get_attr":
            known[node] = _widened(getattr(program.graph_module, node.target))
        elif node.op == "call_function" and node is not final and node.users:
            known[node] = _result(node, known, assembler)
    output = final.args[0] if final is not None else _output(program)
    logits = known.get(output)  # type: ignore[arg-type]
    if not isinstance(logits, Value):
        raise ModelError("the module's output does not depend on the image; return the logits of the image")
    if final is not None:
        _check_softmax(final, assembler.shape(logits))
    return TorchReading(logits, None if final is None else _operator_name(final).strip("_"))


def final_softmax(program: ExportedProgram) -> fx.Node | None:
    """The softmax that is the output, if any."""
    output = _output(program)
    return output if output.op == "call_function" and _operator_name(output) in _FINAL else None


def without_softmax(program: ExportedProgram) -> torch.nn.Module:
    """The traced module as a module that stops at the logits."""
    module = program.module()
    (output,) = (node for node in module.graph.nodes if node.op == "output")
    (last,) = output.all_input_nodes
    output.args = (last.args[0],)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _user_inputs(program: ExportedProgram) -> list[str]:
    specs = program.graph_signature.input_specs
    return [spec.arg.name for spec in specs if spec.kind == InputKind.USER_INPUT]  # type: ignore[union-attr]


def _constants(program: ExportedProgram) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind != InputKind.USER_INPUT and spec.target is not None:
            store = program.state_dict if spec.target in program.state_dict else program.constants
            found[spec.arg.name] = _widened(store[spec.target])  # type: ignore[union-attr]
    return found


def _widened(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu()
    return tensor.double() if tensor.is_floating_point() else tensor


def _output(program: ExportedProgram) -> fx.Node:
    (node,) = (node for node in program.graph.nodes if node.op == "output")
    found = node.all_input_nodes
    if len(found) != 1:
        raise ModelError(
            f"the module returns {len(found)} tensors, allowed is one, the logits; wrap it in one that does"
        )
    return found[0]


def _check_softmax(node: fx.Node, shape: tuple[int, ...]) -> None:
    axis = int(node.args[1])  # type: ignore[arg-type]
    if len(shape) > 2 or shape[axis] != max(shape):
        raise ModelError(
            f"{_title(node)} works along axis {axis} of {shape}, allowed is one over all classes"
        )


def _result(node: fx.Node, known: Mapping[fx.Node, Any], assembler: Assembler) -> Any:
    args: Any = fx.map_arg(node.args, known.__getitem__)
    kwargs: Any = fx.map_arg(node.kwargs, known.__getitem__)
    if node.target is operator.getitem:
        return args[0][args[1]]
    name = _operator_name(node)
    if name == "sym_size" and isinstance(args[0], Value):
        return assembler.shape(args[0])[args[1]]
    if not any(isinstance(known[source], (Value, list)) for source in node.all_input_nodes):
        return _computed(node, args, kwargs, assembler)
    if name not in OPERATORS:
        supported = ", ".join(sorted(one for one in OPERATORS if not one.startswith("_")))
        raise ModelError(
            f"{_title(node)} is not supported; supported are {supported}, and softmax or log_softmax as the "
            "output; build the network from these"
        )
    return OPERATORS[name](Call(assembler, _named(node, args, kwargs)))


def _computed(node: fx.Node, args: Any, kwargs: Any, assembler: Assembler) -> Any:
    made = node.meta.get("val")
    if isinstance(made, Tensor):
        check_size(tuple(int(size) for size in made.shape), f"a constant of {assembler.where}")
    try:
        return node.target(*args, **kwargs)  # type: ignore[operator]
    except (RuntimeError, TypeError, ValueError) as error:
        raise assembler.refuse(
            f"its constants do not fit ({error})", "make it a parameter of the module"
        ) from error


def _named(node: fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    declared = node.target._schema.arguments  # type: ignore[union-attr]
    named = {one.name: one.default_value for one in declared if one.has_default_value()}
    given = dict(zip((one.name for one in declared), args, strict=False)) | dict(kwargs)
    order = [one.name for one in declared if one.name in named or one.name in given]
    return {name: given.get(name, named.get(name)) for name in order}


def _operator_name(node: fx.Node) -> str:
    packet = getattr(node.target, "overloadpacket", None)
    return packet.__name__ if packet is not None else getattr(node.target, "__name__", str(node.target))


def _title(node: fx.Node) -> str:
    if node.op != "call_function":
        return f"input {node.name!r}"
    stack = list(node.meta.get("nn_module_stack", {}).values())
    place = stack[-1][0] if stack and stack[-1][0] else node.name
    return f"layer {_operator_name(node)!r} (node {place!r})"
