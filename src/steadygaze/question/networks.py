"""From what a user names or holds to a network on its device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from steadygaze.deadline import Deadline
from steadygaze.errors import ModelError, SettingError
from steadygaze.network.reading.feeding import never_late
from steadygaze.network.reading.from_torch.surroundings import on_processor
from steadygaze.network.reading.load import Network, load_network
from steadygaze.question.digits import BUILTIN_MODELS, builtin_model

if TYPE_CHECKING:
    from torch import nn


@on_processor()
def network_of(
    model: nn.Module | str | Path | Network,
    shape: tuple[int, ...],
    layout: str = "auto",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    output: str | int | None = None,
    device: str = "cpu",
    late: Callable[[int], Deadline] = never_late,
) -> Network:
    """The network of a model for images ``(C, H, W)`` of that shape, on its device.

    Arguments are as of `verify`, late as of `load_network`.

    A network that was made before is taken as it is. Raises ModelError or SettingError, or Expired.
    """
    if isinstance(model, Network):
        return model
    where = _device(device)
    builtin = isinstance(model, str) and model in BUILTIN_MODELS
    if isinstance(model, str) and not (builtin or ":" in model or Path(model).suffix or Path(model).exists()):
        raise ModelError(
            f"the network is {model!r}, which is no file of a known kind and no built-in; allowed are a "
            f".onnx or .pt2 file, 'module:callable' and {', '.join(BUILTIN_MODELS)}; {_nearest(model)}"
        )
    channels, height, width = shape
    network = load_network(
        builtin_model(str(model)) if builtin else model,
        input_shape=(channels, height, width),
        layout=layout,
        mean=mean,
        std=std,
        output=output,
        late=late,
    )
    return replace(network, graph=network.graph.to(where), path=str(model) if builtin else network.path)


def _device(device: str) -> str:
    if device not in ("cpu", "cuda"):
        raise SettingError(f"the device is {device!r}; allowed: cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingError("the device is cuda, but torch sees no CUDA device here; use --device cpu")
    return device


def _nearest(name: str) -> str:
    """What to write in place of a name that is none."""
    close = get_close_matches(name, BUILTIN_MODELS, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    if Path(f"{name}.py").is_file():
        return f"did you mean a function in {name}.py, '{name}:FUNCTION'?"
    if name.count("/") == 1:
        return (
            "if it is a model of a hub, give 'module:callable', a function that returns what "
            f"from_pretrained({name!r}) makes"
        )
    return "give one of these"
