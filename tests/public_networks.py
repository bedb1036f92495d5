"""Public networks on public images, as the questions of `workloads.md` ask them."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from steadygaze.network.reading.load import load_network
from steadygaze.network.saliency import Gradient
from steadygaze.perturbation import Brightness, Chain, Contrast, Patch, Translate
from steadygaze.question.inconsistency import Cosine
from steadygaze.question.posing import pose
from steadygaze.question.problem import Problem

SPOT = {"top": 12, "left": 12, "size": 3}
OTHER = {"top": 4, "left": 4, "size": 5}
BOXES = {
    "W1": Chain(Brightness(0, 0.3)),
    "W2": Chain(Brightness(0, 0.3), Patch(0, 1, **SPOT)),
    "W3": Chain(Brightness(-0.3, 0.3), Patch(0, 1, **SPOT)),
    "W6": Chain(Contrast(-0.1, 0.1), Brightness(0, 0.1), Patch(0, 0.5, **SPOT)),
    "W7": Chain(Contrast(-0.1, 0.1), Brightness(0, 0.1), Patch(0, 0.5, **SPOT), Patch(0, 0.3, **OTHER)),
    "small": Chain(Brightness(0, 0.05), Patch(0, 0.2, **SPOT)),
    "shift": Chain(Translate(dx=(-1.0, 1.0)), Brightness(0, 0.05)),
}


@dataclass(frozen=True)
class Net:
    """A file of ../shared/models and how it wants its images."""

    file: str
    data: str = "mnist"
    layout: str = "chw"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def first(self) -> int:
        """Where image 0 is in the file: the published counts are for the images of a benchmark."""
        return 200 if self.data == "cifar10" else 0


NETS = {
    "256x2": Net("mnist-net_256x2", layout="flat"),
    "256x4": Net("mnist-net_256x4", layout="flat"),
    "256x6": Net("mnist-net_256x6", layout="flat"),
    "10x2": Net("mnist-10x2", layout="hwc"),
    "leaky": Net("marabou_mnist5x20_leaky_relu"),
    "small conv": Net("convSmallRELU__Point"),
    "max pool": Net("Convnet_maxpool"),
    "cifar_base_kw": Net("cifar_base_kw", "cifar10", mean=(0.485, 0.456, 0.406), std=(0.225, 0.225, 0.225)),
    "resnet_2b": Net("resnet_2b", "cifar10", mean=(0.4914, 0.4822, 0.4465), std=(0.2471, 0.2435, 0.2616)),
}


def picture(folder: Path, data: str, number: int) -> np.ndarray:
    if data == "cifar10":
        images = np.load(folder / "data/cifar10/cifar10_test_exact.npz")["images"]
        return images[number].transpose(2, 0, 1) / 255.0
    raw = gzip.decompress((folder / "data/mnist/t10k-images-idx3-ubyte.gz").read_bytes())
    return np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 1, 28, 28)[number] / 255.0


@cache
def problem(
    folder: Path, net: str, box: str, number: int, clip: tuple[float, float] | None = None
) -> Problem:
    known = NETS[net]
    image = picture(folder, known.data, known.first + number)
    path = folder / f"models/{known.file}.onnx"
    return pose(
        load_network(path, input_shape=image.shape, layout=known.layout, mean=known.mean, std=known.std),
        image,
        BOXES[box],
        label=None,
        saliency=Gradient(),
        inconsistency=Cosine(),
        threshold=0.3,
        clip=clip,
    )
