"""What is said of modules that cannot be traced: what went wrong, and the simplest change that mends it."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor

from steadygaze.errors import ModelError
from steadygaze.network.reading.from_torch.steps import Course
from steadygaze.network.reading.from_torch.surroundings import undisturbed

# What PyTorch says where a module computes on another device than its weights are on.
_ELSEWHERE = ("cuda", "nvidia", "mps", "xpu", "same device")


def not_traced(
    module: torch.nn.Module, name: str, example: Tensor, error: Exception, seen: Course | None = None
) -> ModelError:
    """The refusal of a module, named so, that raised this error on this input.

    seen: the steps that it took before it was traced, where it took any.
    """
    images = _images(module)
    if images > 1:
        return ModelError(
            f"{name} takes {images} inputs, allowed is one, the image; wrap it in a module that fixes the "
            "others"
        )
    if seen is None and _takes(module, example.byte()):
        return ModelError(whole_numbers(name))
    why, way = first_line(error), _way_in(module, example, first_line(error))
    if seen is not None and seen.reads_the_image:
        why = "it takes a number out of what it computes from the image, as if, float() and .item() do"
        way = "take that out: compute with tensors, or do what it decides by it to the image beforehand"
    elif ".numpy()" in why:
        why, way = "it leaves PyTorch for NumPy", "compute with tensors, as torch.clip does for np.clip"
    elif "register a hook" in why:
        way = "hook it where there is a gradient, if x.requires_grad: x.register_hook(...)"
    elif "fake tensor" in why:
        why = "it makes a constant of what it computes from the image, as .data and torch.tensor(...) do"
        way = "write .detach() for .data, and make tensors of tensors"
    return ModelError(
        f"{name} cannot be traced on an input of shape {tuple(example.shape)} ({why}); "
        f"allowed are modules that take one image batch and do the same steps for every image; {way}"
    )


def _images(module: torch.nn.Module) -> int:
    """How many inputs a module cannot do without."""
    try:
        wanted = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):  # what is compiled may tell nothing
        return 1
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in positional and one.default is inspect.Parameter.empty for one in wanted)


def _way_in(module: torch.nn.Module, example: Tensor, why: str) -> str:
    """What to do about a module that cannot be traced: what simple change makes an input that it runs on."""
    if type(module).forward is torch.nn.Module.forward:
        return "give it a forward that returns the logits, or hand in the part that has one"
    if any(word in why.lower() for word in _ELSEWHERE):
        return "take .cuda() and the devices that it names out of its forward: x.to(self.head.weight.device)"
    if _takes(module, example):
        return "write that step with PyTorch's own operators, or the module as ONNX"
    ways = {}
    if example.ndim == 4 and example.shape[1] in (1, 3):
        ways["it takes images as flat vectors: use layout flat"] = example.flatten(1)
        ways["it takes images as (H, W, C): use layout hwc"] = example.movedim(1, -1)
        ways["it takes images of three channels: give it one"] = example[:, :1].expand(-1, 3, -1, -1)
        ways["it takes images of one channel: give it one"] = example[:, :1]
    elif example.ndim == 4:
        ways["it takes images as (C, H, W): use layout chw"] = example.movedim(-1, 1)
    fit = [way for way, other in ways.items() if _takes(module, other)]
    shape = (
        f"run it on torch.zeros{tuple(example.shape)} to see where it fails: where that is for its shape, "
    )
    return [*fit, shape + "check layout and shape (--resize gives the image another size)"][0]


def _takes(module: torch.nn.Module, example: Tensor) -> bool:
    """Whether it runs on such an input."""
    try:
        with undisturbed(gradients=False):
            module(example)
    except Exception:  # the module's own code runs here
        return False
    return True


def whole_numbers(name: str) -> str:
    """The refusal of a module, or a file, whose pixels are whole numbers."""
    return (
        f"{name} takes whole numbers (uint8) alone, allowed are real ones, pixels in [0, 1]; hand in what is "
        "behind its conversion, or write it as ONNX, whose inputs of UINT8 are 255 times the pixels"
    )


def first_line(error: Exception) -> str:
    """What an error says first; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
