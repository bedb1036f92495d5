"""All architectures by name, with seeded weights, and the files that their users export of them."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from architectures.attention import Attention, Mixer, PlainAttention, PooledTransformer, VisionTransformer
from architectures.convolutional import (
    VGG11BN,
    DenseNet,
    Inception,
    LeNet5,
    ResNet18,
    ShuffleNet,
    SqueezeNet,
)
from architectures.depthwise import ConvNeXt, EfficientNet, MobileNetV2, MobileNetV3


@dataclass(frozen=True)
class Architecture:
    """How it is made, the images ``(C, H, W)`` that it takes, and whether it is piecewise linear."""

    make: Callable[[], nn.Module]
    shape: tuple[int, int, int]
    piecewise: bool = True


ARCHITECTURES = {
    "LeNet-5": Architecture(LeNet5, (1, 16, 16)),
    "VGG-11-BN": Architecture(VGG11BN, (3, 32, 32)),
    "ResNet-18": Architecture(ResNet18, (3, 32, 32)),
    "MobileNetV2": Architecture(MobileNetV2, (3, 16, 16)),
    "DenseNet": Architecture(DenseNet, (3, 16, 16)),
    "Inception": Architecture(Inception, (3, 12, 12)),
    "ShuffleNet": Architecture(ShuffleNet, (3, 8, 8)),
    "SqueezeNet": Architecture(SqueezeNet, (3, 12, 12)),
    "MobileNetV3": Architecture(MobileNetV3, (3, 8, 8), False),
    "EfficientNet": Architecture(EfficientNet, (3, 8, 8), False),
    "ConvNeXt": Architecture(ConvNeXt, (3, 16, 16), False),
    "vision transformer": Architecture(VisionTransformer, (1, 8, 8), False),
    "pooled transformer": Architecture(partial(PooledTransformer, Attention), (1, 8, 8), False),
    "plain transformer": Architecture(partial(PooledTransformer, PlainAttention), (1, 8, 8), False),
    "MLP-Mixer": Architecture(Mixer, (1, 8, 8), False),
}


@cache
def network(name: str) -> nn.Module:
    """The network with seeded weights and statistics, in evaluation mode."""
    torch.manual_seed(0)
    module = ARCHITECTURES[name].make().eval()
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.copy_(0.2 * torch.rand(part.running_mean.shape, generator=generator) - 0.1)
            part.running_var.copy_(0.5 + torch.rand(part.running_var.shape, generator=generator))
    return module


def program(name: str, folder: Path, *, open_batch: bool = False) -> Path:
    """The network as a .pt2 file."""
    sizes = ({0: torch.export.Dim("batch")},) if open_batch else None
    example = torch.zeros(2 if open_batch else 1, *ARCHITECTURES[name].shape)
    with quiet():
        exported = torch.export.export(network(name), (example,), dynamic_shapes=sizes)
        torch.export.save(exported, folder / "network.pt2")
    return folder / "network.pt2"


def onnx_file(
    name: str, folder: Path, *, dynamo: bool, opset: int | None = None, open_batch: bool = False
) -> Path:
    """The network as PyTorch's newer exporter writes it (dynamo), or its older one; None: its own opset."""
    example = torch.zeros(2 if open_batch else 1, *ARCHITECTURES[name].shape)
    if not open_batch:
        sizes = {}
    elif dynamo:
        sizes = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)}
    else:
        sizes = {"input_names": ["image"], "dynamic_axes": {"image": {0: "batch"}}}
    path = folder / "network.onnx"
    with quiet():
        torch.onnx.export(
            network(name), (example,), str(path), opset_version=opset, dynamo=dynamo, external_data=False,
            **sizes,
        )  # fmt: skip
    return path


def written(module: nn.Module, shape: tuple[int, ...], path: Path, **options: Any) -> Path:
    """A module as the ONNX file that an exporter writes of it; options: of `torch.onnx.export`."""
    with quiet():
        torch.onnx.export(copy.deepcopy(module), (torch.zeros(1, *shape),), str(path), **options)
    return path


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Exporters print, log and warn, of themselves above all."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    sink = io.StringIO()
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(sink),
            contextlib.redirect_stderr(sink),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
