"""A PyTorch module made ready to be read: a copy of its own, in evaluation mode, traced by `torch.export`."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.ao.nn.quantized import FloatFunctional, FXFloatFunctional
from torch.ao.quantization import FakeQuantizeBase, ObserverBase
from torch.autograd.function import BackwardCFunction
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind
from torch.nn.parameter import is_lazy

from steadygaze.deadline import Deadline, Expired
from steadygaze.errors import ModelError, UsageError
from steadygaze.network.reading.from_torch.arguments import HALVES, PRECISIONS
from steadygaze.network.reading.from_torch.keeping import kept_tensors
from steadygaze.network.reading.from_torch.outputs import LogitsOf, logits_among, name_of, told_by_others
from steadygaze.network.reading.from_torch.overwriting import write_anew
from steadygaze.network.reading.from_torch.steps import Course, Retold, course_of
from steadygaze.network.reading.from_torch.surroundings import traceless, undisturbed, unplaced
from steadygaze.network.reading.from_torch.untraceable import first_line, not_traced, whole_numbers

# How far a module's own backward pass may be from the gradient, against the largest: single precision.
_BACKWARD = 1e-3


@dataclass(frozen=True)
class Traced:
    """A module that returns logits, its operations on one image, and whether its logits have gradients.

    precision is that of its input; chosen tells which of several outputs the logits are, if there are; asked
    is the output of the program that holds them, as in `logits_among`.
    """

    module: torch.nn.Module
    program: ExportedProgram
    precision: torch.dtype
    differentiable: bool
    chosen: str
    asked: str | None


def own_copy(module: torch.nn.Module, path: str) -> torch.nn.Module:
    """A copy of the module on the processor, in evaluation mode; the module itself stays as it is.

    Raises ModelError if it holds no numbers yet, numbers of a kind that is not read, or cannot be copied.
    """
    if isinstance(module, torch._dynamo.OptimizedModule):
        module = module._orig_mod
    _check_parts(module, path)
    try:
        with traceless(), undisturbed(gradients=True):
            own = copy.deepcopy(module, kept_tensors(module)).cpu().eval().requires_grad_(False)
    except Exception as error:  # modules may bring their own way of being copied
        raise ModelError(
            f"{path} cannot be copied ({first_line(error)}), allowed are modules that copy.deepcopy can "
            "copy; detach the tensors it keeps"
        ) from error
    return own


def traced(
    module: torch.nn.Module,
    sizes: tuple[int, ...],
    asked: str | None,
    late: Callable[[int], Deadline],
) -> Traced:
    """The module's operations on an input of these sizes; the module must be in evaluation mode.

    asked: the output that holds the logits, as in `logits_among`. late: when it is too late to go on, by how
    many products an image takes (see `Graph.effort`).

    Raises ModelError if the module cannot be traced: it branches on numbers, leaves PyTorch, brings a
    backward pass that is not its gradient, or the shape is wrong. Raises Expired where it is late.
    """
    name = type(module).__name__
    precision = _precision(module, name)
    example = torch.zeros(sizes, dtype=precision)
    seen = None
    try:
        with traceless():
            # A wrong shape fails here in one plain sentence; tracing would not name it so well.
            ran = _run(module, example, name, asked)
            whole, differentiable = ran.whole, ran.differentiable
            module = module if whole else LogitsOf(module, ran.asked)
            seen = course_of(module, example)
            ends = late(seen.products)
            ends.ask()
            with undisturbed(gradients=differentiable), Retold(seen.reads), unplaced():
                program = torch.export.export(module, (example,), strict=False)
            ends.ask()
            settled = functional(program)
            _check_steps(module, program, seen, example, name)
            if ran.backward:
                _check_backward(module, program, example, f"{name} brings {ran.backward}")
            ends.ask()
            return Traced(module, settled, precision, differentiable, ran.chosen, None)
    except (UsageError, Expired):
        raise
    except Exception as error:  # tracing runs the user's code
        raise not_traced(module, name, example, error, seen) from error


def exported_in_half(module: torch.nn.Module, sizes: tuple[int, ...], asked: str | None) -> ExportedProgram:
    """The operations of a module of half precision on an input of these sizes, as `traced` has them.

    Raises ModelError as `traced` does, SettingError where no output is as asked.
    """
    name = type(module).__name__
    example = torch.zeros(sizes, dtype=_first_precision(module))
    try:
        with traceless():
            ran = None
            with contextlib.suppress(
                NotImplementedError, RuntimeError
            ):  # the processor may have no such step
                ran = _run(module, example, name, asked, PRECISIONS + HALVES)
            if ran is not None and ran.backward:
                raise _another_backward(f"{name} brings {ran.backward}")
            with undisturbed(gradients=False):
                return functional(torch.export.export(LogitsOf(module, asked), (example,), strict=False))
    except UsageError:
        raise
    except Exception as error:  # tracing runs the user's code
        raise not_traced(module, name, example, error) from error


def loaded(
    program: ExportedProgram, precision: torch.dtype, sizes: tuple[int, ...], path: str, asked: str | None
) -> Traced:
    """A program from a file, whose input has these sizes, beside the module that it makes.

    Raises ModelError if it cannot run.
    """
    if precision == torch.uint8:
        raise ModelError(whole_numbers(path))
    if precision not in PRECISIONS:
        raise ModelError(_too_coarse(path, precision))
    module = runnable(program)
    try:
        with traceless():
            ran = _run(module, torch.zeros(sizes, dtype=precision), path, asked)
    except UsageError:
        raise
    except Exception as error:  # the file's operations run here
        raise ModelError(
            f"{path} cannot be run on an input of shape {sizes} ({first_line(error)}), allowed are programs "
            "that run on this machine; export it again"
        ) from error
    logits = LogitsOf(module, ran.asked)
    return Traced(logits, program, precision, ran.differentiable, ran.chosen, ran.asked)


def runnable(program: ExportedProgram) -> torch.nn.Module:
    """The program as a module, which takes whatever number of images its operations take."""
    # Newer releases hold every input against the sizes at export, unless told otherwise.
    options = inspect.signature(program.module).parameters
    return program.module(**({"check_guards": False} if "check_guards" in options else {}))


def functional(program: ExportedProgram) -> ExportedProgram:
    """The program without operations that overwrite their input, autocast that is switched off, and `vmap`.

    The program itself may be changed. Raises ModelError if it changes its own state.
    """
    if _maps(program) or not write_anew(program.graph) or _switches_off(program):
        with traceless():
            program = program.run_decompositions({})
    changing = (OutputKind.BUFFER_MUTATION, getattr(OutputKind, "PARAMETER_MUTATION", None))
    changed = [spec.target for spec in program.graph_signature.output_specs if spec.kind in changing]
    if changed:
        raise ModelError(
            f"the module changes its own {changed[0]!r} while it runs, so that it is another network for the "
            "next image; allowed are modules that stay as they are; take that out for evaluation"
        )
    return program


def _maps(program: ExportedProgram) -> bool:
    """Whether it marks axes as batches, as `torch.vmap` does; carried out alone, such steps leave marks."""
    return any(
        getattr(node.target, "__module__", None) == "torch._functorch.predispatch"
        for node in program.graph.nodes
    )


def _switches_off(program: ExportedProgram) -> bool:
    """Whether it has blocks of autocast, none of which switches it on: they are as if they were not there."""
    inner = (part for part in program.graph_module.modules() if isinstance(part, fx.GraphModule))
    blocks = [
        node
        for part in inner
        for node in part.graph.nodes
        if getattr(node.target, "__name__", "") == "wrap_with_autocast"
    ]
    return bool(blocks) and not any(node.args[2] for node in blocks)


@dataclass(frozen=True)
class _Ran:
    """Whether a module returns nothing but a tensor, whether its logits have a gradient, which they are.

    chosen is that in words, asked as `logits_among` has it; backward says what it brings for its backward
    pass, if anything.
    """

    whole: bool
    differentiable: bool
    chosen: str
    asked: str | None
    backward: str


def _run(
    module: torch.nn.Module,
    example: Tensor,
    name: str,
    asked: str | None,
    precisions: tuple[torch.dtype, ...] = PRECISIONS,
) -> _Ran:
    with undisturbed(gradients=True):
        # A copy of the leaf, which a module may overwrite.
        output: Any = module(example.clone().requires_grad_().clone())
        told = None
        if asked is None and not isinstance(output, Tensor):
            told = told_by_others([output, module(_other(example))])
        logits = logits_among(output, Tensor, told or asked, lambda one: f"of shape {tuple(one.shape)}")
    if not (logits.is_floating_point() or logits.is_complex()):
        kind = str(logits.dtype).removeprefix("torch.")
        raise ModelError(
            f"{name} returns {kind}, the class itself and not what it is the largest of, allowed are logits, "
            "one real number for each class; return these"
        )
    if logits.dtype not in precisions:
        raise ModelError(_too_coarse(name, logits.dtype))
    shape = tuple(logits.shape)
    if sum(size != 1 for size in shape) > 1 or not logits.numel():
        raise ModelError(
            f"{name} returns a tensor of shape {shape} for an input of shape {tuple(example.shape)}, allowed "
            "is one number per class, (1, classes); reduce it to the logits of the image"
        )
    own = next((step for step in _steps_back(logits) if isinstance(step, BackwardCFunction)), None)
    backward = "" if own is None else f"a backward pass of its own ({type(own).__name__}), or a backward hook"
    chosen = name_of(output, Tensor, logits) + (", which the others are made of" if told else "")
    return _Ran(isinstance(output, Tensor), logits.requires_grad, chosen, told or asked, backward)


def _check_steps(
    module: torch.nn.Module, program: ExportedProgram, seen: Course, example: Tensor, name: str
) -> None:
    """Raise ModelError unless the module does as it was traced, for the image seen and for another.

    Constants that are new in each call are left to be told of by whoever reads or compares them.
    """
    traced_to, again = course_of(runnable(program), example), course_of(module, _other(example))
    fits = seen.same_steps(traced_to) and again.same_steps(traced_to)
    if not fits or (seen.same_constants(again) and not seen.same_constants(traced_to)):
        raise ModelError(
            f"{name} does other steps when it runs than when it is traced, or others for another image, "
            "allowed are modules that do the same steps every time; leave out branches on numbers, and what "
            "it does for export alone"
        )


def _check_backward(module: torch.nn.Module, program: ExportedProgram, example: Tensor, brought: str) -> None:
    """Raise ModelError unless the module's own backward pass is the gradient of what it computes.

    As it is in layers that only save memory by it, and in hooks that look on.
    """
    image, slopes = _other(example), list[Tensor]()
    with undisturbed(gradients=True):
        for one in (module, runnable(program)):
            leaf = image.clone().requires_grad_()
            logits = logits_among(one(leaf.clone()), Tensor, None, lambda one: f"of shape {tuple(one.shape)}")
            weights = torch.linspace(1.0, 2.0, logits.numel(), dtype=logits.dtype).reshape(logits.shape)
            slopes += torch.autograd.grad((logits * weights).sum(), leaf)
    theirs, plain = slopes
    if not torch.allclose(theirs, plain, rtol=0.0, atol=_BACKWARD * float(plain.abs().max())):
        raise _another_backward(brought)


def _another_backward(brought: str) -> ModelError:
    return ModelError(
        f"{brought}, so that its saliency map is not the gradient of what it computes; allowed are modules "
        "whose backward pass is that gradient, in single precision or double; take it out"
    )


def _other(example: Tensor) -> Tensor:
    """Another image of that shape and precision, always the same."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(example.shape, generator=generator, dtype=example.dtype)


def _steps_back(logits: Tensor) -> Iterable[Any]:
    """Every step of the backward pass."""
    pending, seen = [logits.grad_fn], set()
    while pending:
        step = pending.pop()
        if step is not None and step not in seen:
            seen.add(step)
            yield step
            pending += [before for before, _ in step.next_functions]


def _first_precision(module: torch.nn.Module) -> torch.dtype:
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)


def _precision(module: torch.nn.Module, name: str) -> torch.dtype:
    found = _first_precision(module)
    if found not in PRECISIONS:
        raise ModelError(_too_coarse(name, found))
    return found


def _too_coarse(name: str, found: torch.dtype) -> str:
    return (
        f"{name} computes in {str(found).removeprefix('torch.')}, allowed are float32 and float64, whose "
        "rounding is finer than what is verified; convert it, with .float()"
    )


# What stands among PyTorch's quantized modules, and computes in real numbers until it is converted.
_FLOATING = (FloatFunctional, FXFloatFunctional)
# What tells of PyTorch's modules for fake quantization whether they round.
_ROUNDING = "fake_quant_enabled"


def _check_parts(module: torch.nn.Module, path: str) -> None:
    rounding = {
        id(own) for part in module.modules() if isinstance(part, FakeQuantizeBase) for own in part.modules()
    }
    for place, part in module.named_modules():
        where = f"{path} (part {place!r})" if place else path
        if isinstance(part, torch.jit.ScriptModule):
            raise ModelError(
                f"{where} is compiled by torch.jit, allowed are modules as they were written; hand in the "
                "module that it was made from, or what torch.export.save writes of that, or write it as ONNX "
                "with torch.onnx.export(module, (image,), 'net.onnx', dynamo=False)"
            )
        if "quantized" in type(part).__module__.split(".") and not isinstance(part, _FLOATING):
            raise ModelError(
                f"{where} is quantized, allowed are networks that compute in float32 or float64; hand in the "
                "one that it was made from"
            )
        if isinstance(part, ObserverBase) and id(part) not in rounding:
            raise ModelError(
                f"{where} looks on for a quantization to come (an observer), allowed are networks that "
                "compute in float32 or float64 alone; hand in the one that it was made from"
            )
        if any(int(buffer.sum()) for name, buffer in part.named_buffers(recurse=False) if name == _ROUNDING):
            raise ModelError(
                f"{where} rounds as a quantized network does (fake quantization), and so jumps from step to "
                "step; allowed are networks that compute in float32 or float64; hand in the one that it was "
                "made from"
            )
    for place, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if is_lazy(tensor):
            raise ModelError(
                f"{path} is not initialised (parameter {place!r}), allowed are modules whose parameters have "
                "their sizes; run it on one image first"
            )
        if tensor.is_meta:
            raise ModelError(
                f"{path} holds no numbers: its parameter {place!r} is on the device meta, allowed are "
                "parameters that have values; load the weights first"
            )
