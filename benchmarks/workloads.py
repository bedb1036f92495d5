"""What is measured: networks, images, boxes, and the activation regions that are known to be in them.

Image i is the i-th of the data set's test file, from 0; the label is the class that the network
predicts. Each question is asked with gradient maps, the cosine and a threshold of 0.3.

Two of the networks, convSmallRELU__Point and Convnet_maxpool, are there because the blank background of
an MNIST image makes many windows of a convolution identical, so that their hinges coincide.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

BLANK, WIDE = "blank", "wide"
#: The searches; those that take the whole box apart, as far as the budget lasts.
METHODS = ("sweep", "bfs", "gbs", "nearest")
WHOLE = ("sweep", "bfs")


@dataclass(frozen=True)
class Net:
    """A network and the images that it takes.

    file: path of the ONNX file under the shared folder, or the name of a built-in network; images: the
    source of image ``{image}``, with ``{shared}`` for that folder; first: the number there of image 0;
    layout, mean, std: how the network wants its input.
    """

    file: str
    images: str
    first: int = 0
    layout: str = "chw"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def is_file(self) -> bool:
        """Whether the network is a file of the shared folder and not built in."""
        return self.file.endswith(".onnx")


@dataclass(frozen=True)
class Row:
    """One network under one perturbation, on images 0, 1, 2, ...

    expected: the number of activation regions for each image, None where nobody has counted them yet.
    quoted: seconds of SyReNN (float32, two threads, regions only: neither maps nor verdict) for some of
    the images, as measured by others on a similar machine. seconds: the time limit of each search, where
    the complete map is too large.
    """

    workload: str
    net: str
    perturbation: str
    expected: tuple[int | None, ...]
    clip: tuple[float, float] | None = None
    quoted: tuple[float | None, ...] = ()
    seconds: float | None = None


@dataclass(frozen=True)
class Case:
    """One question, with paths in place: what a measuring process is handed."""

    workload: str
    net: str
    model: str
    source: str
    image: int
    perturbation: str
    clip: tuple[float, float] | None
    layout: str
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    expected: int | None
    quoted: float | None
    seconds: float | None = None


_MNIST = "idx:{shared}/data/mnist:{image}"
# Numbers 200 to 299 of this file are the first hundred images of the CIFAR-10 test set.
_CIFAR = "npz:{shared}/data/cifar10/cifar10_test_exact.npz:{image}"

NETS = {
    "256x2": Net("models/mnist-net_256x2.onnx", _MNIST, layout="flat"),
    "256x4": Net("models/mnist-net_256x4.onnx", _MNIST, layout="flat"),
    "256x6": Net("models/mnist-net_256x6.onnx", _MNIST, layout="flat"),
    "convSmallRELU__Point": Net("models/convSmallRELU__Point.onnx", _MNIST),
    "Convnet_maxpool": Net("models/Convnet_maxpool.onnx", _MNIST),
    "cifar_base_kw": Net(
        "models/cifar_base_kw.onnx",
        _CIFAR,
        first=200,
        mean=(0.485, 0.456, 0.406),
        std=(0.225, 0.225, 0.225),
    ),
    "resnet_2b": Net(
        "models/resnet_2b.onnx",
        _CIFAR,
        first=200,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2471, 0.2435, 0.2616),
    ),
    "digits-mlp": Net("digits-mlp", "digits:{image}"),
    "digits-cnn": Net("digits-cnn", "digits:{image}"),
}


def _brightness(low: float, high: float) -> str:
    return f"brightness(amount={low}..{high})"


def _patch(high: float, *, corner: int = 12, size: int = 3) -> str:
    return f"patch(opacity=0..{high}, top={corner}, left={corner}, height={size}, width={size}, mode=add)"


_LINE = _brightness(0, 0.3)
_PLANE = f"{_LINE} | {_patch(1)}"
_SMALL_PLANE = f"{_brightness(0, 0.05)} | {_patch(0.2)}"
_CLIPPED_PLANE = f"{_brightness(-0.3, 0.3)} | {_patch(1)}"
_SPACE = f"contrast(amount=-0.1..0.1) | {_brightness(0, 0.1)} | {_patch(0.5)}"
_FOUR = f"{_SPACE} | {_patch(0.3, corner=4, size=5)}"
_WIDE = f"contrast(amount=-0.2..0.2) | {_brightness(0, 0.3)} | {_patch(1)} | {_patch(1, corner=4, size=5)}"
_SMALL_BOX = f"{_LINE} | {_patch(1, corner=3, size=2)}"
_UNKNOWN = (None,) * 5

# Counts on resnet_2b, convSmallRELU__Point and Convnet_maxpool are this package's own, the same over runs,
# threads, memory limits and tolerances 100 times larger and smaller; the others were found by other tools.
ROWS = (
    Row("digits", "digits-mlp", _SMALL_BOX, _UNKNOWN),
    Row("digits", "digits-cnn", _SMALL_BOX, _UNKNOWN),
    Row("W1", "256x2", _LINE, (99, 40, 99, 102, 109)),
    Row("W1", "256x4", _LINE, (207, 65, 188, 62, 150)),
    Row("W1", "256x6", _LINE, (339, 83, 417, 136, 279)),
    Row("W2", "256x2", _PLANE, (1157, 298, 561, 622, 784), quoted=(0.03,)),
    Row("W2", "256x4", _PLANE, (9791, 533, 6085, 723, 2040), quoted=(0.25,)),
    Row("W2", "256x6", _PLANE, (49589, 1666, 19290, 5712, 12099), quoted=(1.52,)),
    Row("W3", "256x2", _CLIPPED_PLANE, (3199, 754, 1823, 1187, 1285), clip=(0.0, 1.0)),
    Row("W3", "256x4", _CLIPPED_PLANE, (13883, 1235, 6425, 2215, 3273), clip=(0.0, 1.0)),
    Row("W3", "256x6", _CLIPPED_PLANE, (62314, 2002, 21141, 8287, 14062), clip=(0.0, 1.0)),
    Row("W4", "cifar_base_kw", _LINE, (481, 268, 401, 282, 602)),
    Row("W4", "resnet_2b", _LINE, (1187, 665, 863, 651, 1293)),
    Row("W4", "convSmallRELU__Point", _LINE, (443, 518, 418, 457, 481)),
    Row("W4", "Convnet_maxpool", _LINE, (341, 453, 223, 459, 383)),
    Row(
        "W5",
        "cifar_base_kw",
        _PLANE,
        (19504, 10677, 16696, 9321, 39109),
        quoted=(1.06, None, None, None, 2.35),
    ),
    Row("W5", "convSmallRELU__Point", _PLANE, (40029, 18260, 22623, 32732, 42973)),
    Row("W5", "resnet_2b", _SMALL_PLANE, (6896, 3597, 6779, 2681, 11458)),
    Row(BLANK, "Convnet_maxpool", _PLANE, (21125, 37615, 19562, 36576, 23743)),
    Row("W6", "256x2", _SPACE, (1649, 312, 1307, 505, 925)),
    Row("W6", "256x4", _SPACE, (10654, 505, 7764, 523, 1910)),
    Row("W6", "256x6", _SPACE, (43602, 796, 23301, 1172, 10553)),
    Row("W7", "256x2", _FOUR, (7343, 620, 11001)),
    Row("W7", "256x4", _FOUR, (105856, 3054, 133950)),
    # The complete map fits neither a minute nor the memory; of the first gbs and nearest, of the second
    # nearest alone answers.
    Row(WIDE, "256x4", _WIDE, (None,), seconds=60.0),
    Row(WIDE, "256x6", _WIDE, (None,), seconds=60.0),
)

WORKLOADS = tuple(dict.fromkeys(row.workload for row in ROWS))

_MEASURED = {"W6": METHODS, "W7": METHODS, WIDE: ("sweep", "gbs", "nearest")}


def methods_of(workload: str) -> tuple[str, ...]:
    """The searches that are measured on a workload where none is asked for."""
    return _MEASURED.get(workload, ("sweep",))


def cases(shared: Path | None, only: Collection[str] = (), quick: bool = False) -> Iterator[Case]:
    """The cases of the workloads named in `only` (all if it is empty), in order.

    With `quick`, of each workload the first network, and of that the first image. Without a shared
    folder, only what needs none.
    """
    seen: set[str] = set()
    for row in ROWS:
        skipped = (only and row.workload not in only) or (shared is None and NETS[row.net].is_file)
        if skipped or (quick and row.workload in seen):
            continue
        seen.add(row.workload)
        for image in range(1 if quick else len(row.expected)):
            yield case(row, image, shared)


def case(row: Row, image: int, shared: Path | None) -> Case:
    """The question that a row asks of one image."""
    net = NETS[row.net]
    return Case(
        workload=row.workload,
        net=row.net,
        model=f"{shared}/{net.file}" if net.is_file else net.file,
        source=net.images.format(shared=shared, image=net.first + image),
        image=image,
        perturbation=row.perturbation,
        clip=row.clip,
        layout=net.layout,
        mean=net.mean,
        std=net.std,
        expected=row.expected[image],
        quoted=row.quoted[image] if image < len(row.quoted) else None,
        seconds=row.seconds,
    )
