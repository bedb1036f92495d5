"""From what the user hands in (a module, a file, an import path) to a `Network`."""

from __future__ import annotations

import hashlib
import importlib
import math
import sys
import threading
import warnings
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from steadygaze.deadline import Deadline
from steadygaze.errors import ModelError
from steadygaze.network.digests import digests
from steadygaze.network.graph import Graph
from steadygaze.network.reading import single_logit
from steadygaze.network.reading.assembling.assembly import Assembler, Value
from steadygaze.network.reading.feeding import Wish, never_late, wish_of
from steadygaze.network.reading.from_onnx import reader as onnx_reader
from steadygaze.network.reading.from_onnx.file import open_onnx
from steadygaze.network.reading.from_onnx.heads import head_of
from steadygaze.network.reading.from_onnx.precision import real_file
from steadygaze.network.reading.from_torch import halves as torch_halves
from steadygaze.network.reading.from_torch import head as torch_head
from steadygaze.network.reading.from_torch import reader as torch_reader
from steadygaze.network.reading.from_torch import tracing as torch_tracing
from steadygaze.network.reading.from_torch.ordering import keeps_order
from steadygaze.network.reading.from_torch.outputs import LogitsOf
from steadygaze.network.reading.from_torch.surroundings import on_processor
from steadygaze.network.reading.halves import compared
from steadygaze.network.reading.originals import (
    AbstractOriginal,
    OnnxOriginal,
    Preparation,
    TorchOriginal,
)
from steadygaze.network.reading.other_files import way_from
from steadygaze.network.reading.other_objects import way_with
from steadygaze.network.reading.pixel_scale import note_of_scale
from steadygaze.network.reading.single_logit import TwoClasses
from steadygaze.network.simplify import simplified

_WAYS = (
    "allowed are a PyTorch module, a .onnx file, a .pt2 file (torch.export.save) and 'module:callable'; "
    "give one of these"
)

# Of an image that takes so many products a module gets one at a time, if none of its steps permutes axes.
_LARGE = 10**9

# As much of an error of the user's code as is told.
_LONG = 400

# Tracing changes what all of the process shares (torch's state, the standard streams, warnings, where imports
# look) and puts it back: one thread at a time.
_READING = threading.RLock()


@dataclass(frozen=True)
class Network:
    """An imported network: our graph, the original to check it against, and where it came from.

    sha256 is that of the file, None if there is none; output_note says what was left out after the logits
    or else is read otherwise than it was handed in, or None; output is the name that was asked for, or None.
    single says that the two classes are made of one logit.
    proven holds what comparing this very graph with this very original has shown, by how it was compared; a
    network made of it by `dataclasses.replace` has nothing of it.
    """

    graph: Graph
    original: AbstractOriginal
    path: str
    sha256: str | None
    output_note: str | None
    output: str | None = None
    single: bool = False
    proven: dict[Hashable, object] = field(default_factory=dict, init=False, repr=False, compare=False)

    def noted(self, note: str) -> Network:
        """The same with something more that is to be said of it."""
        return replace(self, output_note="; ".join(filter(None, (self.output_note, note))))

    def facing(self, label: int) -> Network:
        """The network as it is for an image of that class; another one only of a single logit and class 0."""
        if not isinstance(self.original, TwoClasses) or label == 1:
            return self
        notes = (self.output_note or "").replace(single_logit.note(), single_logit.note(label))
        graph = single_logit.graph_facing(self.graph, label)
        return replace(self, graph=graph, original=self.original.facing(label), output_note=notes)

    @cached_property
    def sha256_as_read(self) -> str:
        """Of the graph, however it was written down: all that its output depends on."""
        return digests(self.graph)[-1]


@on_processor()
def load_network(
    model: torch.nn.Module | str | Path,
    *,
    input_shape: tuple[int, int, int],
    layout: str = "auto",
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    output: str | int | None = None,
    late: Callable[[int], Deadline] = never_late,
) -> Network:
    """Import a network that takes images of `input_shape` (C, H, W).

    Arguments: model is a `torch.nn.Module` (neither changed nor kept), a path to a .onnx or .pt2 file, or
    'module:callable', which is imported and called for a module. layout is how the network wants an image:
    "chw", "hwc", "flat" (C, H, W flattened), or "auto": of these the first that a declared input fits, but
    colours are flattened only where that is asked for; "chw" where none is declared. mean and std, one number
    or one per channel, are what it wants pixels in [0, 1] normalised with. output says which of several
    outputs holds the logits: its name, or its number from 0 on; of an ONNX file any value inside it has a
    name. late says when it is too late to go on, given how many products an image takes (see `Graph.effort`);
    it is asked between the parts of the work.

    One logit is read as two classes (see `single_logit`).

    Raises ModelError if the network cannot be imported, SettingError if layout, mean, std or output cannot be
    used, Expired where it is late.
    """
    wish = wish_of(input_shape, layout, mean, std, output, late)
    with _READING:
        return _loaded(model, wish)


def _loaded(model: object, wish: Wish) -> Network:
    if isinstance(model, torch.nn.Module):
        return _from_module(model, wish, type(model).__name__)
    if not isinstance(model, (str, Path)):
        way = way_with(model)
        raise ModelError(
            f"the network is a {type(model).__name__}, {_WAYS if way is None else f'which {way}'}"
        )
    path = Path(model)
    if path.suffix.lower() in (".onnx", ".pt2"):
        return _from_file(path, wish)
    if isinstance(model, str) and ":" in model:
        return _from_module(_imported(model), wish, model)
    way = way_from(path)
    raise ModelError(f"the network is {str(model)!r}, " + (_WAYS if way is None else f"which {way}"))


def _from_module(module: torch.nn.Module, wish: Wish, path: str) -> Network:
    own = torch_tracing.own_copy(module, path)
    preparation = wish.prepared()
    sizes = (1, *preparation.row)
    if torch_halves.holds_halves(own):
        program = torch_tracing.exported_in_half(own, sizes, wish.output)
        halves = torch_halves.halved(program, LogitsOf(own, wish.output))
        network = _from_halves(halves, sizes, None, preparation, wish, path)
    else:
        traced = torch_tracing.traced(own, sizes, wish.output, wish.late)
        network = _from_traced(traced, preparation, wish, path, from_module=True)
    if not any(part.training for part in module.modules()):
        return network
    return network.noted("the module was in training mode: verified in evaluation mode")


def _from_halves(
    halves: torch_halves.Halved,
    sizes: tuple[int, ...],
    asked: str | None,
    preparation: Preparation,
    wish: Wish,
    path: str,
) -> Network:
    """The network of real numbers with weights of half precision; asked is the output with the logits."""
    traced = torch_tracing.traced(halves.widened, sizes, asked, wish.late)
    network = _from_traced(traced, preparation, wish, path, from_module=True)
    return network.noted(torch_halves.compared(halves, traced.module, preparation, wish.image_shape))


def _from_traced(
    traced: torch_tracing.Traced,
    preparation: Preparation,
    wish: Wish,
    path: str,
    *,
    from_module: bool,
) -> Network:
    """The network of a traced module, which itself was handed in, or made from a file."""
    assembler, image = wish.assembler(preparation)
    reading = torch_reader.read_torch(
        traced.program, assembler, image, asked=traced.asked, differentiable=traced.differentiable
    )
    effort = Graph(tuple(assembler.nodes)).effort
    late = wish.late(effort)
    late.ask()
    dropped = reading.dropped
    module = traced.module if dropped is None else torch_head.without(traced.program, traced.asked)
    in_order = keeps_order(traced.program)
    original_of = partial(
        TorchOriginal,
        dtype=traced.precision,
        preparation=preparation,
        in_order=in_order,
        singly=in_order and effort >= _LARGE,
        late=late,
    )
    original = original_of(module)
    late.ask()
    if dropped is not None and from_module:
        # From here on the traced module stands for the one that was handed in.
        images = np.random.default_rng(0).uniform(0.0, 1.0, (3, *wish.image_shape))
        given = original_of(traced.module).logits(images)
        torch_head.check_agreement(given, original.logits(images), dropped)
    notes = (
        traced.chosen or None,
        _note(dropped),
        wish.note(preparation),
        note_of_scale(assembler.nodes, preparation),
    )
    return _finished(assembler, reading.logits, original, path, notes, wish)


def _from_file(path: Path, wish: Wish) -> Network:
    if not path.is_file():
        raise ModelError(f"the network is {str(path)!r}, which is not a file; check the path, {_WAYS}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    network = _from_onnx(path, wish) if path.suffix.lower() == ".onnx" else _from_pt2(path, wish)
    return replace(network, path=str(path), sha256=digest)


def _from_pt2(path: Path, wish: Wish) -> Network:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(path)
    except Exception as error:  # unpickling and unzipping raise almost anything
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"{path} cannot be read as a .pt2 file ({first}), allowed is what torch.export.save writes; "
            "save it again"
        ) from error
    program = torch_tracing.functional(program)
    declared, precision = torch_reader.declared_input(program)
    preparation = wish.fitted(declared)
    sizes = (1,) * preparation.batched + preparation.row
    module = torch_tracing.runnable(program)
    if torch_halves.holds_halves(module):
        halves = torch_halves.halved(program, LogitsOf(module, wish.output))
        return _from_halves(halves, sizes, wish.output, preparation, wish, str(path))
    return _from_traced(
        torch_tracing.loaded(program, precision, sizes, str(path), wish.output),
        preparation,
        wish,
        str(path),
        from_module=False,
    )


def _from_onnx(path: Path, wish: Wish) -> Network:
    model = open_onnx(path)
    file = real_file(model, onnx_reader.input_of(model).name)
    head = head_of(file.model, wish.output)
    preparation = replace(wish.fitted(onnx_reader.input_sizes(model)), scale=file.scale)
    assembler, image = wish.assembler(preparation)
    reading = onnx_reader.read_onnx(file.model, assembler, image, head)
    late = wish.late(Graph(tuple(assembler.nodes)).effort)
    late.ask()
    original = OnnxOriginal(file.model, reading.logits_name, preparation)
    late.ask()
    notes = [
        _note(reading.dropped),
        wish.note(preparation),
        *file.notes,
        note_of_scale(assembler.nodes, preparation),
    ]
    if file.halves:
        coarsest = max(file.halves, key=lambda half: half.rounding)
        given = partial(OnnxOriginal, model, reading.logits_name, preparation)
        name, rounding = coarsest.name, coarsest.rounding
        notes.append(compared(given, original, name, rounding, wish.image_shape, ModelError))
    return _finished(assembler, reading.logits, original, str(path), notes, wish)


def _finished(
    assembler: Assembler,
    logits: Value,
    original: AbstractOriginal,
    path: str,
    notes: Sequence[str | None],
    wish: Wish,
) -> Network:
    single = math.prod(assembler.shape(logits)) == 1
    if single:
        logits, original = single_logit.as_two(assembler, logits), TwoClasses(original)
        notes = (*notes, single_logit.note())
    told = "; ".join(filter(None, notes)) or None
    return Network(simplified(assembler.build(logits)), original, path, None, told, wish.output, single)


def _note(dropped: str | None) -> str | None:
    return None if dropped is None else f"final {dropped} removed: verified at the logits"


def _imported(name: str) -> torch.nn.Module:
    module_name, _, attribute = name.partition(":")
    if module_name.endswith(".py") or "/" in module_name:
        stem = Path(module_name).name.removesuffix(".py")
        raise ModelError(
            f"the network is {name!r}, a path before the colon, allowed is the name of a module; write "
            f"'{stem}:{attribute}', in the folder that holds {stem}.py"
        )
    with _importable(str(Path.cwd())):
        try:
            found: Any = importlib.import_module(module_name)
            for part in attribute.split("."):
                found = getattr(found, part)
        except (Exception, SystemExit) as error:  # the user's code runs here
            raise ModelError(
                f"the network {name!r} cannot be imported ({_brief(error)}), allowed is "
                f"'module:callable', found from this folder; {_mending(error, module_name)}"
            ) from error
        try:
            made = found if isinstance(found, torch.nn.Module) else found()
        except (Exception, SystemExit) as error:  # and here
            raise ModelError(
                f"the network {name!r} cannot be called ({_brief(error)}), allowed is a callable that takes "
                f"nothing and returns a torch.nn.Module; {_making(error)}"
            ) from error
    if not isinstance(made, torch.nn.Module):
        raise ModelError(
            f"{name!r} gives {type(made).__name__}, allowed is a torch.nn.Module; {_instead(made)}"
        )
    return made


def _instead(made: Any) -> str:
    """What to return where something else than a module came back."""
    if isinstance(made, Mapping):
        return "these may be its weights: return the network they belong to, with load_state_dict() called"
    if isinstance(made, tuple | list) and any(isinstance(part, torch.nn.Module) for part in made):
        return "return the module alone"
    return "return one"


@contextmanager
def _importable(folder: str) -> Generator[None]:
    """Modules of a folder can be imported meanwhile."""
    added = folder not in sys.path
    if added:
        sys.path.insert(0, folder)
    try:
        yield
    finally:
        if added:
            sys.path.remove(folder)


def _brief(error: BaseException) -> str:
    """An error of the user's code in one line."""
    told = " ".join(f"{type(error).__name__}: {error}".split())
    return told if len(told) <= _LONG else f"{told[:_LONG]} ..."


def _making(error: BaseException) -> str:
    """What to do about a callable that makes no module."""
    text = str(error)
    if "Unexpected key(s)" in text and '"module.' in text:
        return (
            "the weights were saved within DataParallel: take that off their names, {name.removeprefix("
            "'module.'): weight for name, weight in weights.items()}"
        )
    if "loading state_dict" in text:
        return "load the weights into the module that they were trained in"
    if isinstance(error, TypeError):
        return "name a function that makes the module with all that it needs"
    if isinstance(error, SystemExit):
        return "it ends the program, as argparse does with options of others: name one that does not"
    return "mend what it does when it is called"


def _mending(error: BaseException, module_name: str) -> str:
    """What to do about a module that cannot be imported, or that lacks a name."""
    if isinstance(error, ModuleNotFoundError) and error.name != module_name:
        return f"install {error.name!r} where steadygaze is installed"
    if isinstance(error, (ModuleNotFoundError, AttributeError)):
        return "check both names"
    if isinstance(error, SystemExit):
        return (
            "it ends the program, as argparse does with options that are not its own: have a script do its "
            "work below if __name__ == '__main__'"
        )
    return "mend what it does when it is imported"
