"""Networks of the sizes that people use, in plain PyTorch: their shapes are public, their weights are ours.

Each is written from its paper, for small images: the first convolution keeps the size of the image, and no
maximum follows it.

- ResNet-18: He, Zhang, Ren and Sun, Deep residual learning for image recognition, CVPR 2016.
- VGG-11 with batch normalisation: Simonyan and Zisserman, Very deep convolutional networks, ICLR 2015.
- MobileNetV2: Sandler et al., Inverted residuals and linear bottlenecks, CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

_CLASSES = 10


class _Basic(nn.Module):
    """Two convolutions and what goes past them."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)
        self.past: nn.Module = nn.Identity()
        if stride > 1 or channels != width:
            past = nn.Conv2d(channels, width, 1, stride, bias=False)
            self.past = nn.Sequential(past, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """The block's value."""
        inner = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.second_norm(self.second(inner)) + self.past(x))


class _Inverted(nn.Module):
    """Widened, looked at channel by channel, narrowed."""

    def __init__(self, channels: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        widen = [nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU6()]
        self.layers = nn.Sequential(
            *(widen if expansion > 1 else []),
            nn.Conv2d(inner, inner, 3, stride, padding=1, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU6(),
            nn.Conv2d(inner, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.adds = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """The block's value."""
        return x + self.layers(x) if self.adds else self.layers(x)


def resnet18(width: int = 64, channels: int = 3) -> nn.Module:
    """ResNet-18; the paper's width is 64."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]
    before = width
    for stage in range(4):
        for block in range(2):
            out = width << stage
            layers.append(_Basic(before, out, 2 if stage and not block else 1))
            before = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, _CLASSES))


def vgg11(channels: int = 3) -> nn.Module:
    """VGG-11 with batch normalisation, for 32x32 pixels."""
    layers: list[nn.Module] = []
    for width, halves in ((64, 1), (128, 1), (256, 0), (256, 1), (512, 0), (512, 1), (512, 0), (512, 1)):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if halves else []
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, _CLASSES))


def mobilenet_v2(channels: int = 3) -> nn.Module:
    """MobileNetV2, whose first two halvings are left out."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU6(),
    ]
    before = 32
    table = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2))
    for expansion, out, count, stride in (*table, (6, 320, 1, 1)):
        for number in range(count):
            layers.append(_Inverted(before, out, stride if not number else 1, expansion))
            before = out
    layers += [nn.Conv2d(before, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, _CLASSES))


#: The networks by name, with the shape (C, H, W) of their images.
NETWORKS: Mapping[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "resnet18-16": (lambda: resnet18(16, channels=1), (1, 28, 28)),
    "resnet18-64": (resnet18, (3, 32, 32)),
    "vgg11": (vgg11, (3, 32, 32)),
    "mobilenet-v2": (mobilenet_v2, (3, 32, 32)),
}


def seeded(name: str, seed: int = 0) -> nn.Module:
    """A network with random weights, ready for inference.

    Convolutions begin as in the public implementations (He et al., Delving deep into rectifiers, ICCV 2015),
    so that values neither fade nor explode on their way through the layers.
    """
    make, _ = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make()
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model.eval()
