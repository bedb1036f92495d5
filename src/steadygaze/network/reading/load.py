"""From what the user hands in (a module, a file, an import path) to a `Network`."""

from __future__ import annotations

import hashlib
import importlib
import math
import sys
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from steadygaze.errors import ModelError, SettingError
from steadygaze.network.digests import digests
from steadygaze.network.graph import Graph, check_size
from steadygaze.network.reading import onnx_reader, torch_head, torch_reader, torch_tracing
from steadygaze.network.reading.assembly import Assembler, Value
from steadygaze.network.reading.onnx_file import open_onnx
from steadygaze.network.reading.onnx_heads import head_of
from steadygaze.network.reading.onnx_precision import real_file
from steadygaze.network.reading.originals import (
    LAYOUTS,
    AbstractOriginal,
    Layout,
    OnnxOriginal,
    Preparation,
    TorchOriginal,
)
from steadygaze.network.reading.torch_surroundings import on_processor
from steadygaze.network.simplify import simplified

_WAYS = (
    "allowed are a PyTorch module, a .onnx file, a .pt2 file (torch.export.save) and 'module:callable'; "
    "give one of these"
)

# Tracing changes what all of the process shares (torch's state, the standard streams, warnings, where imports
# look) and puts it back: one thread at a time.
_READING = threading.RLock()


@dataclass(frozen=True)
class Network:
    """An imported network: our graph, the original to check it against, and where it came from.

    sha256 is that of the file, None if there is none; output_note says what was left out after the logits
    or else is read otherwise than it was handed in, or None; output is the name that was asked for, or None.
    """

    graph: Graph
    original: AbstractOriginal
    path: str
    sha256: str | None
    output_note: str | None
    output: str | None = None

    @cached_property
    def sha256_as_read(self) -> str:
        """Of the graph, however it was written down: all that its output depends on."""
        return digests(self.graph)[-1]


@on_processor()
def load_network(
    model: torch.nn.Module | str | Path,
    *,
    input_shape: tuple[int, int, int],
    layout: str = "chw",
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    output: str | None = None,
) -> Network:
    """Import a network that takes images of `input_shape` (C, H, W).

    Arguments: model is a `torch.nn.Module` (neither changed nor kept), a path to a .onnx or .pt2 file, or
    'module:callable', which is imported and called for a module. layout is how the network wants an image:
    "chw", "hwc" or "flat" (C, H, W flattened). mean and std, one number or one per channel, are what it wants
    pixels in [0, 1] normalised with. output names the value of an ONNX file that holds the logits.

    Raises ModelError if the network cannot be imported, SettingError if layout, mean, std or output cannot be
    used.
    """
    check_size(tuple(input_shape), "the image")
    wish = _Wish(
        tuple(input_shape), _checked_layout(layout), *_normalisation(mean, std, input_shape[0]), output
    )
    if output is not None:
        _check_output(output, model)
    with _READING:
        return _loaded(model, wish)


def _loaded(model: object, wish: _Wish) -> Network:
    if isinstance(model, torch.nn.Module):
        return _from_module(model, wish, type(model).__name__)
    if not isinstance(model, (str, Path)):
        raise ModelError(f"the network is a {type(model).__name__}, {_WAYS}")
    path = Path(model)
    if path.suffix.lower() in (".onnx", ".pt2"):
        return _from_file(path, wish)
    if isinstance(model, str) and ":" in model:
        return _from_module(_imported(model), wish, model)
    raise ModelError(f"the network is {str(model)!r}, {_WAYS}{_hint(path)}")


@dataclass(frozen=True)
class _Wish:
    """How the network is to be fed."""

    image_shape: tuple[int, ...]
    layout: Layout
    mean: tuple[float, ...]
    std: tuple[float, ...]
    output: str | None

    @property
    def row(self) -> tuple[int, ...]:
        return _row(self.image_shape, self.layout)

    def prepared(self, row: tuple[int, ...], batched: bool) -> Preparation:
        return Preparation(self.layout, self.mean, self.std, row, batched)

    def assembler(self, preparation: Preparation) -> tuple[Assembler, Value]:
        """An assembler and the value in it that the network takes."""
        assembler = Assembler(self.image_shape)
        mean, std = np.reshape(self.mean, (-1, 1, 1)), np.reshape(self.std, (-1, 1, 1))
        scale = preparation.scale
        x = assembler.scale_shift(assembler.pixels, scale / std, -scale * mean / std)
        x = assembler.permute(x, (0, 2, 3, 1)) if self.layout == "hwc" else x
        return assembler, assembler.reshape(x, (1,) * preparation.batched + preparation.row)

    def fitted(self, declared: tuple[int | str | None, ...]) -> Preparation:
        """How to feed a network that declares an input of these sizes (a name or None: open)."""
        sizes = tuple(size if isinstance(size, int) else None for size in declared)
        found = _fit(sizes, self.image_shape, self.layout)
        if found is not None:
            _check_symbols(declared, (1, *found[0]) if found[1] else found[0])
            return self.prepared(*found)
        shown = "x".join("any" if size is None else str(size) for size in sizes)
        others = [layout for layout in LAYOUTS if _fit(sizes, self.image_shape, layout) is not None]
        way_out = f"use layout {' or '.join(others)}" if others else _resizing(sizes, self.layout)
        if not others and sizes and sizes[0] not in (1, None):
            way_out += ", and export the network with a batch of 1 or an open one"
        raise ModelError(
            f"the network takes an input of shape {shown}, got images of shape {self.image_shape} in layout "
            f"{self.layout!r}, which come to it as 1x{'x'.join(map(str, self.row))}; {way_out}"
        )


def _resizing(sizes: tuple[int | None, ...], layout: Layout) -> str:
    """What to do about an image of another size than the one declared, which is told where it is."""
    edges = sizes[-3:-1] if layout == "hwc" else sizes[-2:]
    known = layout != "flat" and len(sizes) > 2 and None not in edges
    size = "x".join(map(str, edges)) if known else "HxW"
    return f"use an image of the network's own size, or resize it with --resize {size}"


def _row(image_shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    channels, height, width = image_shape
    rows = {"chw": image_shape, "hwc": (height, width, channels), "flat": (math.prod(image_shape),)}
    return rows[layout]


def _fit(
    sizes: tuple[int | None, ...], image_shape: tuple[int, ...], layout: Layout
) -> tuple[tuple[int, ...], bool] | None:
    """The shape of one image as declared, and whether a batch axis stands before it; None if none fits.

    An open first axis is the batch, never an axis of the image: it would take one image as several.
    """
    row = _row(image_shape, layout)
    candidates = [(sizes[1:], True)] if sizes and sizes[0] in (1, None) else []
    if sizes[:1] != (None,) or len(sizes) == 1:
        candidates.append((sizes, False))
    for declared, batched in candidates:
        filled = _filled(declared, image_shape) if layout == "flat" else _matched(declared, row)
        if filled is not None:
            return filled, batched
    return None


def _matched(declared: tuple[int | None, ...], row: tuple[int, ...]) -> tuple[int, ...] | None:
    if len(declared) == 2 and len(row) == 3 and row.count(1) == 1:  # a grey image without its channel
        row = tuple(size for size in row if size != 1)
    fits = len(declared) == len(row) and all(d in (None, r) for d, r in zip(declared, row, strict=True))
    return row if fits else None


def _filled(declared: tuple[int | None, ...], image_shape: tuple[int, ...]) -> tuple[int, ...] | None:
    count, known = math.prod(image_shape), math.prod(size for size in declared if size is not None)
    if not declared or declared.count(None) > 1 or count % known:
        return None
    filled = tuple(count // known if size is None else size for size in declared)
    return filled if _joins(filled, image_shape) else None


def _joins(shape: tuple[int, ...], image_shape: tuple[int, ...]) -> bool:
    """Whether neighbouring axes of (C, H, W) taken together give the shape, axes of 1 aside.

    Any other shape would put pixels where they do not belong.
    """
    axes = [size for size in image_shape if size != 1]
    for size in (size for size in shape if size != 1):
        taken = 1
        while axes and taken < size:
            taken *= axes.pop(0)
        if taken != size:
            return False
    return not axes


def _check_symbols(declared: tuple[int | str | None, ...], shape: tuple[int, ...]) -> None:
    """One name is one size, wherever it stands."""
    meant: dict[str, int] = {}
    for name, size in zip(declared, shape, strict=True):
        if isinstance(name, str) and meant.setdefault(name, size) != size:
            raise ModelError(
                f"the network's input is declared as {declared}, got {shape}, where {name!r} would be both "
                f"{meant[name]} and {size}, allowed is one size for each name; hand in an image that fits"
            )


def _from_module(module: torch.nn.Module, wish: _Wish, path: str) -> Network:
    own = torch_tracing.own_copy(module, path)
    network = _from_traced(
        torch_tracing.traced(own, wish.row), wish.prepared(wish.row, True), wish, path, from_module=True
    )
    if not any(part.training for part in module.modules()):
        return network
    note = "the module was in training mode: verified in evaluation mode"
    return replace(network, output_note="; ".join(filter(None, (network.output_note, note))))


def _from_traced(
    traced: torch_tracing.Traced,
    preparation: Preparation,
    wish: _Wish,
    path: str,
    *,
    from_module: bool,
) -> Network:
    """The network of a traced module, which itself was handed in, or made from a file."""
    assembler, image = wish.assembler(preparation)
    reading = torch_reader.read_torch(traced.program, assembler, image, differentiable=traced.differentiable)
    module = traced.module if reading.dropped is None else torch_head.without(traced.program)
    original = TorchOriginal(module, traced.precision, preparation)
    if reading.dropped is not None and from_module:
        # From here on the traced module stands for the one that was handed in.
        images = np.random.default_rng(0).uniform(0.0, 1.0, (3, *wish.image_shape))
        given = TorchOriginal(traced.module, traced.precision, preparation).logits(images)
        torch_head.check_agreement(given, original.logits(images), reading.dropped)
    return Network(_finished(assembler, reading.logits), original, path, None, _note(reading.dropped))


def _from_file(path: Path, wish: _Wish) -> Network:
    if not path.is_file():
        raise ModelError(f"the network is {str(path)!r}, which is not a file; check the path, {_WAYS}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    network = _from_onnx(path, wish) if path.suffix.lower() == ".onnx" else _from_pt2(path, wish)
    return replace(network, path=str(path), sha256=digest)


def _from_pt2(path: Path, wish: _Wish) -> Network:
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
    sizes, precision = torch_reader.declared_input(program)
    preparation = wish.fitted(sizes)
    example = (1,) * preparation.batched + preparation.row
    return _from_traced(
        torch_tracing.loaded(program, precision, example, str(path)),
        preparation,
        wish,
        str(path),
        from_module=False,
    )


def _from_onnx(path: Path, wish: _Wish) -> Network:
    model = open_onnx(path)
    file = real_file(model, onnx_reader.input_of(model).name)
    head = head_of(file.model, wish.output)
    preparation = replace(wish.fitted(onnx_reader.input_sizes(model)), scale=file.scale)
    assembler, image = wish.assembler(preparation)
    reading = onnx_reader.read_onnx(file.model, assembler, image, head)
    graph = _finished(assembler, reading.logits)
    original = OnnxOriginal(file.model, reading.logits_name, preparation)
    left_out = [one for one in (_note(reading.dropped), *file.notes) if one is not None]
    return Network(graph, original, str(path), None, "; ".join(left_out) or None, wish.output)


def _finished(assembler: Assembler, logits: Value) -> Graph:
    graph = simplified(assembler.build(logits))
    if graph.classes < 2:
        raise ModelError(
            "the network has 1 output, allowed are at least 2, one per class; give it one logit per class"
        )
    return graph


def _note(dropped: str | None) -> str | None:
    return None if dropped is None else f"final {dropped} removed: verified at the logits"


def _imported(name: str) -> torch.nn.Module:
    module_name, _, attribute = name.partition(":")
    folder = str(Path.cwd())
    added = folder not in sys.path
    if added:
        sys.path.insert(0, folder)
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
        made = found if isinstance(found, torch.nn.Module) else found()
    except Exception as error:  # the user's code runs here
        raise ModelError(
            f"the network {name!r} cannot be imported and called ({type(error).__name__}: {error}), allowed "
            "is 'module:callable' with a callable that takes nothing; check both names"
        ) from error
    finally:
        if added:
            sys.path.remove(folder)
    if not isinstance(made, torch.nn.Module):
        raise ModelError(
            f"{name!r} returns a {type(made).__name__}, allowed is a torch.nn.Module; return one"
        )
    return made


def _check_output(output: str, model: object) -> None:
    named = isinstance(model, (str, Path)) and Path(model).suffix.lower() == ".onnx"
    if not named or not isinstance(output, str) or not output:
        what = str(model) if isinstance(model, (str, Path)) else f"a {type(model).__name__}"
        raise SettingError(
            f"the output {output!r} is asked of {what}, allowed is the name of a value in a .onnx file; "
            "leave it out"
        )


def _checked_layout(layout: str) -> Layout:
    if layout not in LAYOUTS:
        raise SettingError(f"layout is {layout!r}, allowed are {', '.join(LAYOUTS)}; choose one of these")
    return cast(Layout, layout)


def _normalisation(
    mean: float | Sequence[float] | None, std: float | Sequence[float] | None, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    means = _per_channel("mean", 0.0 if mean is None else mean, channels)
    stds = _per_channel("std", 1.0 if std is None else std, channels)
    if min(stds) <= 0:
        raise SettingError(
            f"std is {stds}, allowed are numbers above 0; give the one the network was trained with"
        )
    return means, stds


def _per_channel(name: str, given: float | Sequence[float], channels: int) -> tuple[float, ...]:
    numbers = [float(number) for number in np.ravel(np.asarray(given, np.float64))]
    if len(numbers) not in (1, channels) or not all(map(math.isfinite, numbers)):
        raise SettingError(
            f"{name} is {given}, allowed is one finite number or one for each of the {channels} channels; "
            "give as many"
        )
    return tuple(numbers * channels if len(numbers) == 1 else numbers)


def _hint(path: Path) -> str:
    if path.suffix.lower() in (".pt", ".pth", ".ckpt", ".safetensors"):
        return f" ({path.suffix} files hold weights without layers: give a function that loads them)"
    return ""
