"""Convolutional networks, narrow and for small images, written as their public definitions are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor, nn


class LeNet5(nn.Module):
    """LeCun et al. 1998, with rectifiers."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 3, 5, padding=2)
        self.conv2 = nn.Conv2d(3, 4, 5)
        self.fc1 = nn.Linear(4 * 2 * 2, 12)
        self.fc2 = nn.Linear(12, 8)
        self.fc3 = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), (2, 2))
        x = torch.flatten(x, 1)
        x = functional.relu(self.fc1(x))
        x = functional.relu(self.fc2(x))
        return self.fc3(x)


class VGG11BN(nn.Module):
    """Simonyan & Zisserman 2014, configuration A with batch normalisation."""

    layout = (1, "M", 2, "M", 3, 3, "M", 4, 4, "M", 4, 4, "M")

    def __init__(self, classes: int = 4, width: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for step in self.layout:
            if step == "M":
                layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
                continue
            out = int(step) * width
            layers += [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
            channels = out
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.classifier = nn.Sequential(
            nn.Linear(channels, 16), nn.ReLU(True), nn.Dropout(), nn.Linear(16, 16), nn.ReLU(True),
            nn.Dropout(), nn.Linear(16, classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features(x))
        return self.classifier(torch.flatten(x, 1))


class BasicBlock(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inplanes: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(
                nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes)
            )

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet18(nn.Module):
    """He et al. 2015."""

    def __init__(self, classes: int = 4, width: int = 2) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        planes = [width, width, 2 * width, 3 * width, 4 * width]
        self.layers = nn.Sequential(
            *(
                nn.Sequential(BasicBlock(before, after, 1 + (k > 0)), BasicBlock(after, after))
                for k, (before, after) in enumerate(itertools.pairwise(planes))
            )
        )
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(planes[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.avgpool(self.layers(x))
        return self.fc(torch.flatten(x, 1))


class DenseLayer(nn.Module):
    """A layer that reads all the layers before it."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.relu1 = nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(channels, 2 * growth, 1, bias=False)
        self.norm2, self.relu2 = nn.BatchNorm2d(2 * growth), nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        x = self.conv1(self.relu1(self.norm1(torch.cat(list(inputs), 1))))
        return self.conv2(self.relu2(self.norm2(x)))


class DenseNet(nn.Module):
    """Huang et al. 2016: two dense blocks with a transition between them."""

    def __init__(self, classes: int = 4, growth: int = 2) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 4, 7, 2, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        self.first = nn.ModuleList(DenseLayer(4 + k * growth, growth) for k in range(2))
        self.transition = nn.Sequential(
            nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Conv2d(8, 4, 1, bias=False), nn.AvgPool2d(2, 2)
        )
        self.second = nn.ModuleList(DenseLayer(4 + k * growth, growth) for k in range(2))
        self.norm, self.classifier = nn.BatchNorm2d(8), nn.Linear(8, classes)

    def _block(self, layers: nn.ModuleList, x: Tensor) -> Tensor:
        features = [x]
        for layer in layers:
            features.append(layer(features))
        return torch.cat(features, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.transition(self._block(self.first, self.stem(x)))
        x = functional.relu(self.norm(self._block(self.second, x)), inplace=True)
        x = functional.adaptive_avg_pool2d(x, (1, 1))
        return self.classifier(torch.flatten(x, 1))


class ConvUnit(nn.Module):
    """The convolution that Inception is made of."""

    def __init__(self, channels: int, out: int, **options: object) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, bias=False, **options)  # type: ignore[arg-type]
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)), inplace=True)


class Inception(nn.Module):
    """Szegedy et al. 2015: branches of several widths, factorised convolutions, a reduction."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.stem = ConvUnit(3, 4, kernel_size=3, stride=2)
        self.branch1x1 = ConvUnit(4, 2, kernel_size=1)
        self.branch5x5 = nn.Sequential(
            ConvUnit(4, 2, kernel_size=1), ConvUnit(2, 2, kernel_size=5, padding=2)
        )
        self.branch7x7 = nn.Sequential(
            ConvUnit(4, 2, kernel_size=1), ConvUnit(2, 2, kernel_size=(1, 7), padding=(0, 3)),
            ConvUnit(2, 2, kernel_size=(7, 1), padding=(3, 0)),
        )  # fmt: skip
        self.branch_pool = ConvUnit(4, 2, kernel_size=1)
        self.reduce = ConvUnit(8, 3, kernel_size=3, stride=2)
        self.fc = nn.Linear(11, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        pooled = functional.avg_pool2d(x, kernel_size=3, stride=1, padding=1)
        branches = [self.branch1x1(x), self.branch5x5(x), self.branch7x7(x), self.branch_pool(pooled)]
        x = torch.cat(branches, 1)
        x = torch.cat([self.reduce(x), functional.max_pool2d(x, kernel_size=3, stride=2)], 1)
        x = functional.adaptive_avg_pool2d(x, 1)
        return self.fc(torch.flatten(functional.dropout(x, training=self.training), 1))


class ShuffleNet(nn.Module):
    """One unit of Ma et al. 2018: channels are split, joined and shuffled."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(True))
        self.branch = nn.Sequential(
            nn.Conv2d(2, 2, 1, bias=False), nn.BatchNorm2d(2), nn.ReLU(inplace=True),
            nn.Conv2d(2, 2, 3, 1, 1, groups=2, bias=False), nn.BatchNorm2d(2),
        )  # fmt: skip
        self.fc = nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.stem(x).chunk(2, dim=1)
        x = torch.cat((first, self.branch(second)), dim=1)
        batch, channels, height, width = x.size()
        x = x.view(batch, 2, channels // 2, height, width)
        x = torch.transpose(x, 1, 2).contiguous().view(batch, channels, height, width)
        return self.fc(x.mean([2, 3]))


class SqueezeNet(nn.Module):
    """One module of Iandola et al. 2016, and a head that is a convolution."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, ceil_mode=True)
        )
        self.squeeze = nn.Conv2d(4, 2, 1)
        self.expand1x1, self.expand3x3 = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 3, 3, padding=1)
        self.classifier = nn.Sequential(
            nn.Dropout(0.5), nn.Conv2d(6, classes, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d((1, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.squeeze(self.stem(x)))
        x = torch.cat([functional.relu(self.expand1x1(x)), functional.relu(self.expand3x3(x))], 1)
        return torch.flatten(self.classifier(x), 1)
