"""Networks of depthwise convolutions, narrow, for small images, written as their public definitions are."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn


class InvertedResidual(nn.Module):
    """A depthwise convolution between two of 1 x 1."""

    def __init__(self, inp: int, oup: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inp * expand
        layers: list[nn.Module] = []
        if expand != 1:
            layers += [nn.Conv2d(inp, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True)]
        layers += [
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, oup, 1, bias=False),
            nn.BatchNorm2d(oup),
        ]
        self.conv = nn.Sequential(*layers)
        self.use_res_connect = stride == 1 and inp == oup

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class MobileNetV2(nn.Module):
    """Sandler et al. 2018; fewer stages."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU6(inplace=True),
            InvertedResidual(4, 2, 1, 1), InvertedResidual(2, 3, 2, 2), InvertedResidual(3, 3, 1, 2),
            InvertedResidual(3, 4, 2, 2), nn.Conv2d(4, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(True),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(8, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = functional.adaptive_avg_pool2d(x, (1, 1)).reshape(x.shape[0], -1)
        return self.classifier(x)


class SqueezeExcitation(nn.Module):
    """Channels weighed by what their averages say (Hu et al. 2017)."""

    def __init__(self, channels: int, squeezed: int, activation: nn.Module, scale: nn.Module) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.activation, self.scale_activation = activation, scale

    def forward(self, x: Tensor) -> Tensor:
        scale = self.fc2(self.activation(self.fc1(self.avgpool(x))))
        return self.scale_activation(scale) * x


class MobileBlock(nn.Module):
    """The inverted residual of MobileNetV3 and EfficientNet."""

    def __init__(
        self, inp: int, hidden: int, oup: int, stride: int, *, excite: nn.Module | None, act: type[nn.Module],
        kernel: int = 3, depth: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        layers = [
            nn.Conv2d(inp, hidden, 1, bias=False), nn.BatchNorm2d(hidden, eps=1e-3), act(),
            nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden, eps=1e-3), act(),
        ]  # fmt: skip
        layers += [] if excite is None else [excite]
        layers += [nn.Conv2d(hidden, oup, 1, bias=False), nn.BatchNorm2d(oup, eps=1e-3)]
        self.block = nn.Sequential(*layers)
        self.stochastic_depth = StochasticDepth(depth)
        self.residual = stride == 1 and inp == oup

    def forward(self, x: Tensor) -> Tensor:
        result = self.block(x)
        if self.residual:
            result = self.stochastic_depth(result)
            result += x
        return result


class StochasticDepth(nn.Module):
    """Whole rows are left out, in training alone (Huang et al. 2016)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.share == 0.0:
            return x
        noise = torch.empty([x.shape[0]] + [1] * (x.ndim - 1)).bernoulli_(1.0 - self.share)
        return x * noise.div_(1.0 - self.share)


class MobileNetV3(nn.Module):
    """Howard et al. 2019; fewer stages."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        excite = SqueezeExcitation(6, 3, nn.ReLU(), nn.Hardsigmoid())
        self.features = nn.Sequential(
            nn.Conv2d(3, 3, 3, 2, 1, bias=False), nn.BatchNorm2d(3), nn.Hardswish(inplace=True),
            MobileBlock(3, 6, 3, 1, excite=excite, act=nn.ReLU),
            MobileBlock(3, 6, 4, 2, excite=None, act=nn.Hardswish, kernel=5),
            nn.Conv2d(4, 8, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish(inplace=True),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(8, 8),
            nn.Hardswish(inplace=True),
            nn.Dropout(p=0.2, inplace=True),
            nn.Linear(8, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features(x))
        return self.classifier(torch.flatten(x, 1))


class EfficientNet(nn.Module):
    """One block of Tan & Le 2019, between a stem and a head."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        excite = SqueezeExcitation(6, 1, nn.SiLU(inplace=True), nn.Sigmoid())
        self.stem = nn.Sequential(nn.Conv2d(3, 3, 3, 2, 1, bias=False), nn.BatchNorm2d(3), nn.SiLU(True))
        self.block = MobileBlock(3, 6, 3, 1, excite=excite, act=nn.SiLU, depth=0.2)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Dropout(0.2), nn.Linear(3, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.stem(x)))


class LayerNorm2d(nn.LayerNorm):
    """Normalises the channels of a map, as torchvision writes it."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        x = functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    """One block of Liu et al. 2022, between a stem and a head."""

    def __init__(self, classes: int = 4, dim: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, dim, 4, stride=4), LayerNorm2d(dim, eps=1e-6))
        self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
        self.act = nn.GELU()
        self.layer_scale = nn.Parameter(torch.full((dim, 1, 1), 0.5))
        self.stochastic_depth = StochasticDepth(0.1)
        self.head_norm = LayerNorm2d(dim, eps=1e-6)
        self.head = nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.dwconv(x).permute(0, 2, 3, 1)
        y = self.pwconv2(self.act(self.pwconv1(self.norm(y)))).permute(0, 3, 1, 2)
        x = x + self.stochastic_depth(self.layer_scale * y)
        x = self.head_norm(functional.adaptive_avg_pool2d(x, 1))
        return self.head(x.flatten(1))
