"""Networks of tutorials, narrow, as their readers retype them: each with what it is known for."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as functional
from torch import Tensor, nn


class PreActivation(nn.Module):
    """Wide ResNet: normalised and rectified before each convolution; dropout between."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn1, self.conv2 = nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, 2, 1, bias=False)
        self.bn2, self.conv3 = nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(4, 6, 1, 2, bias=False)
        self.bn3, self.fc = nn.BatchNorm2d(6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        out = functional.relu(self.bn2(self.conv2(x)), inplace=True)
        out = functional.dropout(out, p=0.3, training=self.training)
        out = torch.add(self.shortcut(x), self.conv3(out))
        out = functional.avg_pool2d(functional.relu(self.bn3(out)), 4)
        return self.fc(out.view(-1, 6))


class PaddedShortcut(nn.Module):
    """The ResNet of CIFAR: a shortcut of every second pixel, with channels of zeros beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.linear = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(x))
        out += functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2), "constant", 0)
        out = functional.relu(out)
        out = functional.avg_pool2d(out, out.size()[3])
        return self.linear(out.view(out.size(0), -1))


class RepVGG(nn.Module):
    """Three branches that are one convolution: of 3 x 3, of 1 x 1, and a normalisation alone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 2, 1)
        self.dense = nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4))
        self.one = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4))
        self.identity, self.gap, self.linear = nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        out = self.gap(functional.relu(self.dense(x) + self.one(x) + self.identity(x)))
        return self.linear(out.view(out.size(0), -1))


class Maxout(nn.Module):
    """The largest of each three pieces, and of an image and its negative."""

    def __init__(self) -> None:
        super().__init__()
        self.lin, self.out = nn.Linear(192, 15), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        m, _ = self.lin(x.view(x.size(0), -1)).view(-1, 5, 3).max(2)
        return self.out(functional.relu(torch.cat((m, -m), 1)))


class UNet(nn.Module):
    """Down and up again, with what was there before beside it; two numbers decide."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.bilinear = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.out, self.fc = nn.Conv2d(10, 2, 3, padding=1), nn.Linear(2, 4)

    def forward(self, x: Tensor) -> Tensor:
        a = functional.relu(self.down1(x))
        b = functional.relu(self.down2(functional.max_pool2d(a, 2)))
        up = self.up(b)
        dy, dx = a.size()[2] - up.size()[2], a.size()[3] - up.size()[3]
        up = functional.pad(up, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        joined = torch.cat([a, up, self.bilinear(b)], 1)
        return self.fc(functional.relu(self.out(joined)).mean([-2, -1]))


class Normalising(nn.Module):
    """Normalises its own input, channel by channel, written into a tensor that was empty."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(144, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.empty_like(x)
        y[:, 0] = (x[:, 0] - 0.485) / 0.229
        y[:, 1] = (x[:, 1] - 0.456) / 0.224
        y[:, 2] = (x[:, 2] - 0.406) / 0.225
        return self.fc(torch.flatten(functional.relu(self.conv(y)), 1))


class Attentive(nn.Module):
    """CBAM: channels weighed by what their averages and maxima say, then places; behind ECA."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.eca = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 4))
        self.spatial, self.fc = nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = functional.adaptive_avg_pool2d(x, 1)
        y = self.eca(y.squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        x = x * torch.sigmoid(y).expand_as(x)
        pools = [pool(x, (x.size(2), x.size(3))) for pool in (functional.avg_pool2d, functional.max_pool2d)]
        x = x * torch.sigmoid(self.mlp(pools[0]) + self.mlp(pools[1])).unsqueeze(2).unsqueeze(3)
        maximum, _ = torch.max(x, dim=1, keepdim=True)
        mask = self.spatial(torch.cat([torch.mean(x, dim=1, keepdim=True), maximum], dim=1))
        return self.fc((x * torch.sigmoid(mask)).mean((2, 3)))


class Standardised(nn.Conv2d):
    """A convolution whose weights are standardised each time."""

    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight.mean(dim=[1, 2, 3], keepdim=True)
        variance = self.weight.var(dim=[1, 2, 3], keepdim=True, unbiased=False)
        weight = (self.weight - mean) / torch.sqrt(variance + 1e-10)
        return self._conv_forward(x, weight, self.bias)


class NormaliserFree(nn.Module):
    """Weight standardisation as in BiT and NFNets, with group normalisation behind the first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = Standardised(3, 4, 3, 2, 1), Standardised(4, 4, 3, 1, 1)
        self.norm, self.gain, self.fc = nn.GroupNorm(2, 4), nn.Parameter(torch.tensor(0.3)), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.gelu(self.norm(self.conv1(x)))
        x = x + functional.gelu(self.conv2(x)) * 1.7015 * self.gain * 0.2
        return self.fc(torch.mean(x, dim=(2, 3)))


class CosineHead(nn.Module):
    """Features and weights of unit length, times a temperature that is clamped; GeM pooling before."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.p = nn.Conv2d(3, 6, 3), nn.Parameter(torch.ones(1) * 3)
        self.weight, self.scale = nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.conv(x)).clamp(min=1e-3).pow(self.p)
        x = functional.avg_pool2d(x, (x.size(-2), x.size(-1))).pow(1.0 / self.p).flatten(1)
        weight = self.weight / self.weight.norm(dim=1, keepdim=True)
        return functional.normalize(x) @ weight.t() * self.scale.exp().clamp(max=100)


class Patchified(nn.Module):
    """A vision transformer of loops: patches written one by one, attention head by head, image by image."""

    def __init__(self, dim: int = 4) -> None:
        super().__init__()
        self.mapper, self.token = nn.Linear(48, dim), nn.Parameter(torch.rand(1, dim))
        self.norm, self.out = nn.LayerNorm(dim), nn.Sequential(nn.Linear(dim, 4), nn.Softmax(dim=-1))
        self.queries, self.keys, self.values = (
            nn.ModuleList(nn.Linear(2, 2) for _ in range(2)) for _ in range(3)
        )

    def attention(self, sequences: Tensor) -> Tensor:
        result = []
        for sequence in sequences:
            heads = []
            for head in range(2):
                part = sequence[:, 2 * head : 2 * head + 2]
                q, k, v = self.queries[head](part), self.keys[head](part), self.values[head](part)
                heads.append(torch.softmax(q @ k.T / math.sqrt(2), dim=-1) @ v)
            result.append(torch.hstack(heads))
        return torch.cat([torch.unsqueeze(one, dim=0) for one in result])

    def forward(self, images: Tensor) -> Tensor:
        n, c, h, w = images.shape
        patches, size = torch.zeros(n, 4, h * w * c // 4, dtype=images.dtype), h // 2
        for index, image in enumerate(images):
            for i in range(2):
                for j in range(2):
                    patch = image[:, i * size : (i + 1) * size, j * size : (j + 1) * size]
                    patches[index, i * 2 + j] = patch.flatten()
        tokens = torch.cat((self.token.expand(n, 1, -1), self.mapper(patches)), dim=1)
        return self.out((tokens + self.attention(self.norm(tokens)))[:, 0])


class Einsummed(nn.Module):
    """Attention as Einstein's sums, then a mixture of experts."""

    def __init__(self, dim: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, dim, 4, 4)
        self.queries, self.keys, self.values = (nn.Linear(dim, dim) for _ in range(3))
        self.experts, self.gate = nn.ModuleList(nn.Linear(dim, 4) for _ in range(3)), nn.Linear(dim, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        q, k, v = (
            m(x).reshape(x.shape[0], -1, 2, 2).permute(0, 2, 1, 3)
            for m in (self.queries, self.keys, self.values)
        )
        weights = functional.softmax(torch.einsum("bhqd, bhkd -> bhqk", q, k), dim=-1) / 2
        mixed = torch.einsum("bhal, bhlv -> bhav", weights, v).permute(0, 2, 1, 3).reshape(x.shape)
        x = (x + mixed).mean(1)
        experts = torch.stack([expert(x) for expert in self.experts], dim=2)
        return torch.einsum("bce,be->bc", experts, functional.softmax(self.gate(x), dim=1))


class LinearAttention(nn.Module):
    """Attention without a softmax: elu + 1 of queries and keys (Katharopoulos et al. 2020)."""

    def __init__(self, dim: int = 4) -> None:
        super().__init__()
        self.embed, self.fc = nn.Linear(8, dim), nn.Linear(dim, 4)
        self.queries, self.keys, self.values = (nn.Linear(dim, dim) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.mean(1))
        q, k = functional.elu(self.queries(x)) + 1, functional.elu(self.keys(x)) + 1
        z = 1 / (torch.einsum("nld,nd->nl", q, k.sum(dim=1)) + 1e-6)
        kv = torch.einsum("nld,nlm->ndm", k, self.values(x))
        return self.fc(torch.einsum("nld,ndm,nl->nlm", q, kv, z).mean(1))


class Causal(nn.Module):
    """One block of a small GPT over the image's rows: a mask of minus infinities, GELU written out."""

    def __init__(self, dim: int = 4) -> None:
        super().__init__()
        self.embed, self.attn, self.fc = nn.Linear(8, dim), nn.Linear(dim, 3 * dim), nn.Linear(dim, 4)
        self.register_buffer("bias", torch.tril(torch.ones(8, 8)).view(1, 1, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.mean(1))
        b, t, c = x.size()
        q, k, v = (one.view(b, t, 2, c // 2).transpose(1, 2) for one in self.attn(x).split(c, dim=2))
        scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        scores = scores.masked_fill(self.bias[:, :, :t, :t] == 0, float("-inf"))
        x = x + (functional.softmax(scores, dim=-1) @ v).transpose(1, 2).contiguous().view(b, t, c)
        inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))
        return self.fc((0.5 * x * (1.0 + torch.tanh(inner))).mean(1))


class WrittenOut(nn.Module):
    """A log-softmax without its name, behind a logarithm of rectified numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.weights = nn.Linear(192, 8), nn.Parameter(torch.randn(8, 4) / math.sqrt(8))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.log1p(functional.relu(self.first(x.flatten(1)))) @ self.weights
        return x - x.exp().sum(-1).log().unsqueeze(-1)


class Recurrent(nn.Module):
    """An LSTM over the image's rows, in a Lightning manner."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.fc = nn.LSTM(8, 3, batch_first=True), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(x.mean(1))
        return self.fc(out[:, -1, :])

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        x, y = batch
        return functional.cross_entropy(self(x), y)


class SpatialTransformer(nn.Module):
    """PyTorch's tutorial: where it looks is computed from the image."""

    def __init__(self) -> None:
        super().__init__()
        self.localization = nn.Sequential(nn.Conv2d(3, 2, 3), nn.MaxPool2d(2, stride=2), nn.ReLU(True))
        self.fc_loc = nn.Sequential(nn.Linear(18, 6), nn.ReLU(True), nn.Linear(6, 6))
        self.conv, self.fc = nn.Conv2d(3, 3, 3), nn.Linear(27, 4)
        with torch.no_grad():
            self.fc_loc[2].weight.mul_(0.3)
            self.fc_loc[2].bias.copy_(torch.tensor([1.0, 0.1, 0.05, -0.1, 0.9, 0.02]))

    def forward(self, x: Tensor) -> Tensor:
        theta = self.fc_loc(self.localization(x).flatten(1)).view(-1, 2, 3)
        grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
        x = functional.grid_sample(x, grid, align_corners=False)
        x = functional.relu(functional.max_pool2d(self.conv(x), 2))
        return self.fc(x.flatten(1))


class Annotated(nn.Module):
    """A block of the Annotated Transformer over rows: its norms divide by the deviation and a number."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attend = nn.Linear(24, 8), nn.Linear(8, 24)
        self.a_2, self.b_2 = nn.Parameter(torch.rand(8) + 0.5), nn.Parameter(torch.zeros(8))
        self.feed, self.fc = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8)), nn.Linear(8, 4)

    def norm(self, x: Tensor) -> Tensor:
        mean, std = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
        return self.a_2 * (x - mean) / (std + 1e-6) + self.b_2

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.transpose(1, 2).flatten(2))
        q, k, v = self.attend(self.norm(x)).chunk(3, dim=-1)
        x = x + functional.softmax(q @ k.transpose(-2, -1) / math.sqrt(8), dim=-1) @ v
        return self.fc(self.norm(x + self.feed(self.norm(x))).mean(1))
