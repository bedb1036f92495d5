"""The networks: architectures of ours, trained here, and public ones that are only verified.

The paper's own weights are not public. Ours are of the kinds and sizes that it names, exactly as below.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

STANDARD, PGD, NOISE, PUBLIC = "standard", "pgd", "noise", "public"


@dataclass(frozen=True)
class Architecture:
    """A kind of network: ``hidden`` are the widths of its dense layers after the convolutions, if any."""

    name: str
    family: str
    build: Callable[[], nn.Sequential]


@dataclass(frozen=True)
class Wanted:
    """A network to train: on which data, of which kind, in which way."""

    data: str
    architecture: str
    training: str

    @property
    def name(self) -> str:
        """Such as ``M-FNN-100`` or ``F-CNN-S pgd``."""
        plain = f"{self.data[0]}-{self.architecture}"
        return plain if self.training == STANDARD else f"{plain} {self.training}"

    @property
    def seed(self) -> int:
        """From the name: the same in every run, another for each network."""
        return zlib.crc32(self.name.encode())


@dataclass(frozen=True)
class Public:
    """A public network, which is verified as it is."""

    name: str
    data: str
    file: str
    layout: str = "chw"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    robust: bool = False


def _dense(*widths: int) -> Callable[[], nn.Sequential]:
    def build() -> nn.Sequential:
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in zip((784, *widths), widths, strict=False):
            layers += [nn.Linear(before, after), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(widths[-1], 10))

    return build


def _cnn_s() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 4, stride=3), nn.ReLU(), nn.Conv2d(4, 8, 3, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 4 * 4, 10),
    )  # fmt: skip


def _cnn_m() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 4, stride=3), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * 4 * 4, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


ARCHITECTURES = {
    one.name: one
    for one in (
        Architecture("FNN-100", "FNN", _dense(50, 50)),
        Architecture("FNN-200", "FNN", _dense(100, 100)),
        Architecture("FNN-400", "FNN", _dense(100, 100, 100, 100)),
        Architecture("FNN-800", "FNN", _dense(200, 200, 200, 200)),
        Architecture("CNN-S", "CNN", _cnn_s),
        Architecture("CNN-M", "CNN", _cnn_m),
    )
}

TRAINED = tuple(
    Wanted(data, architecture, training)
    for data in ("MNIST", "Fashion-MNIST")
    for architecture in ARCHITECTURES
    for training in (STANDARD, PGD, NOISE)
    if training != NOISE or architecture in ("FNN-200", "CNN-S")
)
QUICKLY_TRAINED = (
    Wanted("MNIST", "FNN-100", STANDARD),
    Wanted("MNIST", "FNN-100", PGD),
    Wanted("MNIST", "CNN-S", STANDARD),
    Wanted("MNIST", "CNN-S", PGD),
    Wanted("Fashion-MNIST", "FNN-100", STANDARD),
)

_KW = ((0.485, 0.456, 0.406), (0.225, 0.225, 0.225))
_RESNET = ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616))
# Of the shared networks all but the one of sigmoids, which no exact engine takes.
FOUND = (
    Public("mnist-10x2", "MNIST", "mnist-10x2.onnx", "hwc"),
    Public("mnist-5x20-leaky", "MNIST", "marabou_mnist5x20_leaky_relu.onnx"),
    Public("mnist-256x2", "MNIST", "mnist-net_256x2.onnx", "flat"),
    Public("mnist-256x4", "MNIST", "mnist-net_256x4.onnx", "flat"),
    Public("mnist-256x6", "MNIST", "mnist-net_256x6.onnx", "flat"),
    Public("mnist-conv-small", "MNIST", "convSmallRELU__Point.onnx"),
    Public("mnist-conv-maxpool", "MNIST", "Convnet_maxpool.onnx"),
    Public("cifar-small", "CIFAR-10", "cifar10_small.onnx", "hwc"),
    Public("cifar-base-kw", "CIFAR-10", "cifar_base_kw.onnx", "chw", *_KW, robust=True),
    Public("cifar-resnet-2b", "CIFAR-10", "resnet_2b.onnx", "chw", *_RESNET, robust=True),
)
QUICKLY_FOUND = FOUND[:2]
