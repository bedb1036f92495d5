"""PyTorch module -> graph: every operation that `torch.export` found, by the table of operators."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from steadygaze.errors import ModelError
from steadygaze.network.building import check_size
from steadygaze.network.reading.assembling.assembly import Assembler, Value
from steadygaze.network.reading.assembling.held import AbstractHeld, way_out_of
from steadygaze.network.reading.from_torch import head as torch_head
from steadygaze.network.reading.from_torch.arguments import PRECISIONS
from steadygaze.network.reading.from_torch.decomposing import taken_apart
from steadygaze.network.reading.from_torch.operators import HELD_OPERATORS, OPERATORS

# What torch.export makes of a block that switches something: why it is not read, and what to do.
_BLOCKS = {
    "wrap_with_autocast": ("it computes under torch.autocast", "switch autocast off"),
    "wrap_with_set_grad_enabled": (
        "it switches gradients off for a part of the network, whose saliency map is then not the gradient of "
        "what it computes",
        "take torch.no_grad out",
    ),
}
# Operators that look at the shape of a value alone, and what they fill it with; None is an argument.
_FILLED = {"zeros_like": 0.0, "ones_like": 1.0, "full_like": None}
# What is not filled is written over, or else holds what happens to lie there: zeros do as well.
_UNFILLED = ("empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided")
_FILLED |= {"new_zeros": 0.0, "new_ones": 1.0, "new_full": None}
# Arguments by which operators draw random numbers, as in training.
_DRAWING = ("train", "training", "dropout_p")
# How far constants may differ between the module's own precision and float64, against the largest.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class TorchReading:
    """The logits as a value of the assembler, and the operation that was left out after them."""

    logits: Value
    dropped: str | None


@dataclass(frozen=True)
class _Constant:
    """What a node computes without the image: in float64, and as the module itself does."""

    wide: Any
    own: Any


def declared_input(program: ExportedProgram) -> tuple[tuple[int | None, ...], torch.dtype]:
    """Shape of the traced module's only input, None where the size is open, and its precision."""
    specs = program.graph_signature.input_specs
    inputs = [spec.arg.name for spec in specs if spec.kind == InputKind.USER_INPUT]  # type: ignore[union-attr]
    if len(inputs) != 1:
        raise ModelError(
            f"the module has {len(inputs)} inputs, allowed is one, the image; wrap it in one that fixes the "
            "others"
        )
    made = next(node for node in program.graph.nodes if node.name == inputs[0]).meta.get("val")
    if not isinstance(made, Tensor):
        raise ModelError(
            f"the module's input is a {type(made).__name__}, allowed is one tensor, the image; wrap it in "
            "one that takes that"
        )
    return tuple(size if isinstance(size, int) else None for size in made.shape), made.dtype


def read_torch(
    program: ExportedProgram, assembler: Assembler, image: Value, *, asked: str | None, differentiable: bool
) -> TorchReading:
    """Append the traced module's layers to `assembler`, reading `image`, whose shape is the module's input's.

    asked: the output that holds the logits, as in `logits_among`.

    differentiable: whether PyTorch has gradients of this module; where it has none anywhere, an operation
    that stops them does no harm.

    Raises ModelError, naming the layer, for anything outside the table of operators.
    """
    apart = taken_apart(program, partial(_unread, asked=asked))
    program = apart.program
    known: dict[fx.Node, Any] = {}
    constants = _constants(program)
    head = torch_head.found(program, asked)
    needed = _ancestors(head.logits)
    for node in program.graph.nodes:
        origin = apart.origin(node)
        assembler.where = torch_head.title(node if origin is None else origin)
        if node not in needed:
            continue
        if node.op == "placeholder":
            known[node] = constants.get(node.name, image)
        elif node.op == "get_attr":
            known[node] = _constant(operator.attrgetter(str(node.target))(program.graph_module))
        elif node.op == "call_function":
            if origin is not None and _is_read(node):
                assembler.where += f", in its part {torch_head.operator_name(node).partition('.')[0]!r}"
            try:
                known[node] = _result(node, known, assembler, differentiable)
            except ModelError as error:
                raise _of_whole(origin) or error from None
    logits = known.get(head.logits)
    if isinstance(logits, AbstractHeld):
        raise logits.refusal(assembler)
    if not isinstance(logits, Value):
        raise ModelError("the module's output does not depend on the image; return the logits of the image")
    head.check(assembler.shape(logits))
    return TorchReading(logits, head.dropped)


def _of_whole(origin: fx.Node | None) -> ModelError | None:
    """The refusal of an operator of which a part is refused, where there is more to say of the whole."""
    way_out = None if origin is None else way_out_of(torch_head.operator_name(origin).partition(".")[0])
    return None if origin is None or way_out is None else _not_supported(torch_head.title(origin), way_out)


def _not_supported(where: str, way_out: str) -> ModelError:
    return ModelError(
        f"{where} is not supported; allowed are the layers that `steadygaze layers` lists; {way_out}"
    )


def _unread(program: ExportedProgram, asked: str | None) -> list[fx.Node]:
    """The operations from the image to the logits that are not in the table."""
    inputs = {s.arg.name for s in program.graph_signature.input_specs if s.kind == InputKind.USER_INPUT}  # type: ignore[union-attr]
    computed: set[fx.Node] = set()
    for node in program.graph.nodes:
        if node.name in inputs or not computed.isdisjoint(node.all_input_nodes):
            computed.add(node)
    needed = _ancestors(torch_head.found(program, asked).logits) & computed
    return [node for node in program.graph.nodes if node in needed and not _is_read(node)]


def _is_read(node: fx.Node) -> bool:
    if not isinstance(node.target, OpOverload):
        return True
    name = torch_head.operator_name(node)
    return name in OPERATORS or name in _BLOCKS or name in ("detach", "sym_size.int")


def _ancestors(node: fx.Node) -> set[fx.Node]:
    """The node, and all that it is computed from."""
    found: set[fx.Node] = set()
    pending = [node]
    while pending:
        one = pending.pop()
        if one not in found:
            found.add(one)
            pending += one.all_input_nodes
    return found


def _constants(program: ExportedProgram) -> dict[str, _Constant]:
    found: dict[str, _Constant] = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind != InputKind.USER_INPUT and spec.target is not None:
            store = program.state_dict if spec.target in program.state_dict else program.constants
            found[spec.arg.name] = _constant(store[spec.target])  # type: ignore[union-attr]
    return found


def _constant(found: Any) -> _Constant:
    if not isinstance(found, Tensor):
        return _Constant(found, found)
    own = found.detach().cpu()
    return _Constant(_wide(own), own)


def _wide(found: Any) -> Any:
    """Real numbers as float64, whatever precision an operator makes them in: a copy, of weights, too."""
    if isinstance(found, (tuple, list)):
        return type(found)(map(_wide, found))
    if not (isinstance(found, Tensor) and found.is_floating_point()):
        return found
    return found.to(torch.float64, copy=True)


def _result(node: fx.Node, known: Mapping[fx.Node, Any], assembler: Assembler, differentiable: bool) -> Any:
    sources = [known[source] for source in node.all_input_nodes]
    if node.target is operator.getitem and isinstance(sources[0], list):
        return _part(node, sources[0], assembler)
    name = torch_head.operator_name(node)
    if name == "sym_size.int" and isinstance(sources[0], Value):
        size = assembler.shape(sources[0])[node.args[1]]  # type: ignore[index]
        return _Constant(size, size)
    if name.partition(".")[0] in _UNFILLED or _is_empty(node.meta.get("val")):
        return _unfilled(node, assembler)
    if name in _FILLED and isinstance(sources[0], Value):
        return _filled(_arguments(node, known), node, assembler, _FILLED[name])
    held = next((source for source in sources if isinstance(source, AbstractHeld)), None)
    if held is not None:
        return _of_held(node, known, assembler, held)
    if not any(isinstance(source, (Value, list)) for source in sources):
        return _computed(node, known, assembler)
    if name == "detach":
        return _detached(sources[0], assembler, differentiable)
    if name in _BLOCKS:
        why, way_out = _BLOCKS[name]
        raise assembler.refuse(why, f"allowed are modules that do not; {way_out}")
    _check_drawn(node, name, assembler)
    if name not in OPERATORS or not isinstance(node.target, OpOverload):
        way_out = way_out_of(name.partition(".")[0]) or "build the network from these"
        raise _not_supported(assembler.where, way_out)
    given = _arguments(node, known)
    if name == "rms_norm" and given["eps"] is None:  # what PyTorch takes then
        given["eps"] = torch.finfo(node.meta["val"].dtype).eps
    made = OPERATORS[name](assembler, given)
    if not isinstance(made, AbstractHeld):
        _check_precision(node, assembler)
    return made


def _of_held(node: fx.Node, known: Mapping[fx.Node, Any], assembler: Assembler, held: AbstractHeld) -> Any:
    """What an operator makes of what is held; most refuse it."""
    name = torch_head.operator_name(node)
    if name not in HELD_OPERATORS or not isinstance(node.target, OpOverload):
        raise held.refusal(assembler)
    made = HELD_OPERATORS[name](assembler, _arguments(node, known))
    if isinstance(made, Value):
        _check_precision(node, assembler)
    return made


def _filled(given: Mapping[str, Any], node: fx.Node, assembler: Assembler, number: float | None) -> _Constant:
    """A constant of one number, in the shape of a value or in another that is named."""
    shape = tuple(given.get("size", assembler.shape(given["self"])))
    number = given["fill_value"] if number is None else number
    check_size(shape, f"a constant of {assembler.where}")
    _check_precision(node, assembler)
    if not isinstance(number, (int, float)) or not all(isinstance(size, int) for size in shape):
        raise assembler.refuse(
            "it is filled with what is computed", "allowed is a number; make it a constant"
        )
    wide = torch.full(shape, float(number), dtype=torch.float64)
    return _Constant(wide, wide.to(node.meta["val"].dtype))


def _is_empty(made: Any) -> bool:
    """Whether a value has no numbers, as what stands before all places of a sequence."""
    return isinstance(made, Tensor) and 0 in made.shape


def _unfilled(node: fx.Node, assembler: Assembler) -> _Constant:
    """Zeros in the shape of what is not filled, or of what has no numbers."""
    made = node.meta["val"]
    # An open size is that of the batch, read as 1.
    shape = tuple(size if isinstance(size, int) else 1 for size in made.shape)
    if not _is_empty(made):
        check_size(shape, f"a constant of {assembler.where}")
    own = torch.zeros(shape, dtype=made.dtype)
    return _Constant(_wide(own), own)


def _part(node: fx.Node, parts: list[Value], assembler: Assembler) -> Value:
    index = node.args[1]
    if not isinstance(index, int) or index >= len(parts):
        raise assembler.refuse(
            f"its output {index} is used, of {len(parts)} that are read",
            "allowed are values that the network computes; leave positions and statistics out",
        )
    return parts[index]


def _detached(source: Any, assembler: Assembler, differentiable: bool) -> Value:
    if differentiable:
        raise assembler.refuse(
            "it stops the gradient on one way from the image to the logits, so that the saliency map is not "
            "the gradient of what the network computes",
            "allowed are modules whose gradient is whole; take detach out",
        )
    return source


def _check_precision(node: fx.Node, assembler: Assembler) -> None:
    made = node.meta.get("val")
    first = made[0] if isinstance(made, (tuple, list)) else made
    if not isinstance(first, Tensor) or first.dtype not in PRECISIONS:
        kind = str(first.dtype).removeprefix("torch.") if isinstance(first, Tensor) else type(first).__name__
        raise assembler.refuse(
            f"it computes in {kind}",
            "allowed are float32 and float64, which neither cut nor round more than is verified; take the "
            "conversion out",
        )


def _computed(node: fx.Node, known: Mapping[fx.Node, Any], assembler: Assembler) -> _Constant:
    """What the node computes without the image: twice, so that a result that hangs on rounding is noticed."""
    made = node.meta.get("val")
    if isinstance(made, Tensor):
        # An open size is that of the batch, read as 1; asked for a number it would be settled for good.
        sizes = tuple(size if isinstance(size, int) else 1 for size in made.shape)
        check_size(sizes, f"a constant of {assembler.where}")
    _check_drawn_of_constants(node, known, assembler)
    wide, own = (_executed(node, known, assembler, kind) for kind in ("wide", "own"))
    if not _close(wide, own):
        raise assembler.refuse(
            "its constants hang on how they are rounded",
            "allowed are constants that float64 finds to be the same; make the result a buffer of the module",
        )
    return _Constant(wide, own)


def _check_drawn(node: fx.Node, name: str, assembler: Assembler) -> None:
    """Raise ModelError for random numbers; those of dropout and its like are left out in evaluation."""
    drawn = isinstance(node.target, OpOverload) and torch.Tag.nondeterministic_seeded in node.target.tags
    if drawn and name not in OPERATORS:
        raise assembler.refuse(
            "it draws random numbers", "allowed are modules that compute the same every time; take it out"
        )


def _check_drawn_of_constants(node: fx.Node, known: Mapping[fx.Node, Any], assembler: Assembler) -> None:
    """The same of an operator on constants, which is carried out: what would draw must be switched off."""
    name = torch_head.operator_name(node)
    if name in OPERATORS:
        rules, given = OPERATORS[name].arguments, _arguments(node, known)
        if all(rules[one].fits(given[one]) for one in _DRAWING if one in given):
            return
    _check_drawn(node, "", assembler)


def _executed(node: fx.Node, known: Mapping[fx.Node, _Constant], assembler: Assembler, kind: str) -> Any:
    def taken(source: fx.Node) -> Any:
        return getattr(known[source], kind)

    args: Any = fx.map_arg(node.args, taken)
    kwargs: Any = fx.map_arg(node.kwargs, taken)
    block = next((place for place, one in enumerate(args) if isinstance(one, fx.GraphModule)), None)
    try:
        with torch.no_grad():
            if block is not None and kind == "wide":  # steps within no_grad or autocast, and what they take
                made = _Steps(args[block]).run(*args[block + 1 :])
            else:
                made = node.target(*args, **kwargs)  # type: ignore[operator]
    except Exception as error:  # operators raise half a dozen unrelated types
        raise assembler.refuse(
            f"its constants do not fit ({error})", "make it a parameter of the module"
        ) from error
    return _wide(made) if kind == "wide" else made


class _Steps(fx.Interpreter):
    """A block's steps on constants of any precision: what it asserts of theirs does not hold of others."""

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if getattr(target, "__name__", "").startswith("_assert_tensor_metadata"):
            return None
        return super().call_function(target, args, kwargs)


def _close(wide: Any, own: Any) -> bool:
    if isinstance(wide, (tuple, list)):
        return all(_close(a, b) for a, b in zip(wide, own, strict=True))
    if not isinstance(wide, (Tensor, int, float)):
        return True
    a, b = (torch.as_tensor(one) for one in (wide, own))
    if not a.is_floating_point():
        return torch.equal(a, b)
    a, b = a.double(), b.double()
    largest = float(a[a.isfinite()].abs().amax()) if a.isfinite().any() else 0.0
    return torch.allclose(a, b, rtol=0.0, atol=_ROUNDING * largest, equal_nan=True)


def _arguments(node: fx.Node, known: Mapping[fx.Node, Any]) -> dict[str, Any]:
    """Every argument of the operator's schema by name, defaults filled in."""

    def taken(source: fx.Node) -> Any:
        found = known[source]
        return found.wide if isinstance(found, _Constant) else found

    args: Any = fx.map_arg(node.args, taken)
    kwargs: Any = fx.map_arg(node.kwargs, taken)
    declared = node.target._schema.arguments  # type: ignore[union-attr]
    given = dict(zip((one.name for one in declared), args, strict=False)) | dict(kwargs)
    return {one.name: given.get(one.name, one.default_value) for one in declared}
