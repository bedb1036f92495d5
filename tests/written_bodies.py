"""What users write out between a convolution and a dense layer, read from the module or from its file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from architectures.zoo import written
from steadygaze.network.reading.load import Network, load_network


class Between(nn.Module):
    """A convolution that keeps the channels, a body, and a layer of four outputs."""

    def __init__(self, body: Callable[[Tensor], Tensor], channels: int) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.body, self.out = nn.Conv2d(channels, channels, 1), body, nn.LazyLinear(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(self.first(x)).flatten(1))


def read(
    body: Callable[[Tensor], Tensor], shape: tuple[int, int, int], folder: Path, form: str, opset: int = 17
) -> tuple[Network, nn.Module]:
    """The network as it is read, from the ``"module"`` or from ``"onnx"``; and the module in double."""
    module = Between(body, shape[0]).eval()
    module(torch.zeros(1, *shape))
    given = module
    if form != "module":
        given = written(module, shape, folder / "network.onnx", dynamo=False, opset_version=opset)
    return load_network(given, input_shape=shape), module.double().requires_grad_(False)
