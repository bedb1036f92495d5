"""PyTorch modules against their own forward pass and autograd."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from steadygaze.errors import ModelError
from steadygaze.network.reading.fidelity import check_fidelity
from steadygaze.network.reading.load import load_network

SHAPE = (3, 8, 8)


def seeded(make):
    torch.manual_seed(0)
    module = make()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.uniform_(part.running_mean, -0.5, 0.5)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.5, 0.5)
    return module.eval()


class Function(nn.Module):
    """A function of the image and of two convolutions, ended by a dense layer."""

    def __init__(self, body, width, tail=None):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.slopes = nn.Parameter(torch.tensor([0.1, 0.2, 0.3, 0.4]))
        self.matrix = nn.Parameter(torch.rand(8, 5) - 0.5)
        self.norm = nn.BatchNorm2d(4)
        self.out = nn.Linear(width, 5)
        self.body = body
        self.tail = tail

    def forward(self, x):
        logits = self.out(self.body(self, x).flatten(1))
        return logits if self.tail is None else self.tail(logits)


def residual(m, x):
    y = functional.relu(m.first(x))
    return functional.relu(m.norm(m.second(y)) + y)


def in_place(m, x):
    y = m.first(x)
    y += 0.25
    functional.relu(y, inplace=True)
    return functional.leaky_relu_(m.second(y), 0.2)


def shortcut(m, x):
    """Parameter-free shortcut of small residual networks: every second row and column, channels padded."""
    y = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, 1))
    return functional.relu(m.second(m.first(x))[:, :, 1::2, 1::2] + y)


BODIES = {
    "residual": (residual, 256),
    "in-place": (in_place, 256),
    "chunk": (lambda m, x: (lambda a, b: functional.relu(a - 2 * b))(*m.first(x).chunk(2, 1)), 128),
    "split": (lambda m, x: torch.cat([p.relu() for p in m.first(x).split([1, 3], 1)][::-1], 1), 256),
    "shortcut": (shortcut, 64),
    "select": (lambda m, x: functional.relu(m.first(x))[:, 2, 1:5], 32),
    "view": (lambda m, x: m.first(x).relu().view(x.size(0), -1), 256),
    "view-fixed": (lambda m, x: m.first(x).relu().view(1, 4, 64).view(-1, 256), 256),
    "reshape": (lambda m, x: m.first(x).relu().permute(0, 2, 3, 1).reshape(len(x), -1), 256),
    "transpose": (lambda m, x: m.first(x).transpose(1, -1).relu(), 256),
    "squeeze": (lambda m, x: m.first(x).relu().unsqueeze(1).squeeze(1).squeeze().unsqueeze(0), 256),
    "max-pool": (lambda m, x: functional.max_pool2d(m.first(x), 3, 2, 1), 64),
    "max-pool-ceil": (lambda m, x: functional.max_pool2d(m.first(x), 3, 2, ceil_mode=True), 64),
    "average-pool": (lambda m, x: functional.avg_pool2d(m.first(x).relu(), 3, 2, 1), 64),
    "average-pool-uncounted": (
        lambda m, x: functional.avg_pool2d(m.first(x).relu(), 3, 2, 1, count_include_pad=False),
        64,
    ),
    "average-pool-divisor": (
        lambda m, x: functional.avg_pool2d(m.first(x).relu(), 2, divisor_override=3),
        64,
    ),
    "adaptive-average": (lambda m, x: functional.adaptive_avg_pool2d(m.first(x).relu(), (2, 4)), 32),
    "global-average": (lambda m, x: functional.adaptive_avg_pool2d(m.first(x).relu(), 1), 4),
    "adaptive-max": (lambda m, x: functional.adaptive_max_pool2d(m.first(x), 2), 16),
    "mean": (lambda m, x: m.first(x).relu().mean((2, 3)), 4),
    "mean-rows": (lambda m, x: m.first(x).relu().mean(-1, keepdim=True), 32),
    "leaky-relu": (lambda m, x: functional.leaky_relu(m.first(x)), 256),
    "prelu": (lambda m, x: functional.prelu(m.first(x), m.slopes), 256),
    "hardtanh": (lambda m, x: functional.hardtanh(m.first(x), -0.3, 0.4), 256),
    "relu6": (lambda m, x: functional.relu6(20 * m.first(x)), 256),
    "clamp": (lambda m, x: m.first(x).clamp(-0.2, 0.3), 256),
    "clamp-min": (lambda m, x: m.first(x).clamp_min(-0.1), 256),
    "clamp-max": (lambda m, x: m.first(x).clamp(max=0.1), 256),
    "sigmoid": (lambda m, x: m.first(x).sigmoid(), 256),
    "tanh-in-place": (lambda m, x: m.first(x).mul(2).tanh_(), 256),
    "erf": (lambda m, x: torch.erf(m.first(x)), 256),
    "atan": (lambda m, x: torch.atan(3 * m.first(x)), 256),
    "sin": (lambda m, x: torch.sin(9 * m.first(x)), 256),
    "cos": (lambda m, x: torch.cos(9 * m.first(x)), 256),
    "cosh": (lambda m, x: torch.cosh(3 * m.first(x)), 256),
    "asinh": (lambda m, x: torch.asinh(3 * m.first(x)), 256),
    "tan": (lambda m, x: torch.tan(1.4 * m.first(x).tanh()), 256),
    "acos": (lambda m, x: torch.acos(m.first(x).clamp(-1 + 1e-6, 1 - 1e-6)), 256),
    "atanh": (lambda m, x: torch.atanh(0.99 * torch.sin(9 * m.first(x))), 256),
    "acosh": (lambda m, x: torch.acosh(m.first(x).exp() + 1), 256),
    "prod": (lambda m, x: m.first(x).sigmoid().prod(1), 64),
    "powers-of-each": (lambda m, x: torch.pow(m.slopes[:, None, None], m.first(x)), 256),
    "computed-powers": (lambda m, x: (m.first(x).exp() + 0.1) ** m.first(x), 256),
    "sinh": (lambda m, x: torch.sinh(3 * m.first(x)), 256),
    "logaddexp": (lambda m, x: (lambda y: torch.logaddexp(9 * y, y.flip(3)))(m.first(x)), 256),
    "logaddexp-one": (lambda m, x: torch.logaddexp(torch.tensor([0.3]), 9 * m.first(x)), 256),
    "gelu": (lambda m, x: functional.gelu(3 * m.first(x)), 256),
    "gelu-tanh": (lambda m, x: functional.gelu(3 * m.first(x), approximate="tanh"), 256),
    "elu": (lambda m, x: functional.elu(3 * m.first(x), 0.7), 256),
    "selu": (lambda m, x: functional.selu(3 * m.first(x)), 256),
    "celu": (lambda m, x: functional.celu(3 * m.first(x), 1.3), 256),
    "mish": (lambda m, x: functional.mish(3 * m.first(x)), 256),
    "hard-swish": (lambda m, x: functional.hardswish(9 * m.first(x)), 256),
    "log-sigmoid": (lambda m, x: functional.logsigmoid(3 * m.first(x)), 256),
    "silu": (lambda m, x: functional.silu(m.first(x)), 256),
    "silu-in-place": (lambda m, x: functional.silu(m.first(x) + 1, inplace=True), 256),
    "silu-written-out": (lambda m, x: (lambda y: y * torch.sigmoid(1.5 * y))(m.first(x)), 256),
    "softplus": (lambda m, x: functional.softplus(m.first(x)), 256),
    "softplus-steep": (lambda m, x: functional.softplus(m.first(x), beta=4.0, threshold=25.0), 256),
    "smooth-residual": (
        lambda m, x: (lambda y: functional.silu(m.norm(m.second(y)) + y))(m.first(x).tanh()),
        256,
    ),
    "pad": (lambda m, x: functional.pad(m.first(x), (1, 2, 0, 1), value=0.3).relu(), 396),
    "normalised": (
        lambda m, x: m.first((x - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / 0.25).relu(),
        256,
    ),
    "constants": (lambda m, x: (1 - m.first(x) * 2).relu() / m.slopes[:, None, None], 256),
    "subtraction": (lambda m, x: functional.relu(m.first(x) - m.second(m.first(x))), 256),
    "alpha": (lambda m, x: torch.sub(m.first(x), m.second(m.first(x)), alpha=0.5).relu(), 256),
    "negative": (lambda m, x: (-m.first(x)).relu(), 256),
    "matmul": (lambda m, x: (m.first(x) @ m.matrix).relu(), 160),
    "matmul-left": (lambda m, x: (m.matrix.T @ m.first(x)).relu(), 160),
    "concat": (lambda m, x: torch.cat([x, m.first(x).relu()], dim=1), 448),
    "stacked-rows": (lambda m, x: torch.cat([m.first(x), m.second(m.first(x))], dim=-1).relu(), 512),
    "dropout": (lambda m, x: functional.dropout(m.first(x).relu(), 0.5, m.training), 256),
    "conversion": (lambda m, x: m.first(x.to(torch.float32).contiguous().clone()).relu(), 256),
    "computed-weight": (
        lambda m, x: functional.conv2d(x, m.first.weight * m.slopes[:, None, None, None], padding="same"),
        256,
    ),
}

SEQUENTIALS = {
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Linear(16, 5)),
    "batch-norm": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1, groups=3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5)
    ),
    "batch-norm-first": lambda: nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1), nn.PReLU(4), nn.Flatten(), nn.Linear(256, 5)
    ),
    "batch-norm-1d": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.LeakyReLU(0.2), nn.Dropout(), nn.Linear(8, 5)
    ),
    "deep": lambda: nn.Sequential(
        nn.ZeroPad2d((1, 0, 2, 1)),
        nn.Conv2d(3, 8, 3, dilation=2),
        nn.ReLU6(),
        nn.MaxPool2d(2, 2),
        nn.Identity(),
        nn.Conv2d(8, 8, 3, padding="same"),
        nn.Hardtanh(),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(),
        nn.Linear(8, 5),
    ),
    "double": lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 9), nn.ReLU(), nn.Linear(9, 5)).double(),
}


def module_of(name):
    if name in SEQUENTIALS:
        return seeded(SEQUENTIALS[name])
    return seeded(lambda: Function(*BODIES[name]))


@pytest.mark.parametrize("name", [*SEQUENTIALS, *BODIES])
def test_module_agrees_with_its_graph(name):
    module = module_of(name)
    state = copy.deepcopy(module.state_dict())
    network = load_network(module, input_shape=SHAPE)
    images = np.random.default_rng(0).uniform(0, 1, (6, *SHAPE))
    found = check_fidelity(network, images)
    reference = copy.deepcopy(module).double()
    # The oracle: the module itself, in double precision, one image at a time.
    x = torch.from_numpy(images).requires_grad_()
    wide = torch.cat([_as_double(reference, x[i : i + 1]).reshape(1, -1) for i in range(6)])
    (gradient,) = torch.autograd.grad(wide[:, 2].sum(), x)
    assert torch.allclose(network.graph.forward(x.detach()), wide.detach(), atol=1e-7)
    if name != "conversion":
        assert torch.allclose(network.graph.gradient_at(x.detach(), 2), gradient, atol=1e-7)
    assert found.gradient_by == "autograd"
    assert network.sha256 is None
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


def _as_double(module, x):
    """The module in double, save where it converts to single by itself."""
    try:
        return module(x)
    except RuntimeError:
        return module.float()(x.float()).double()


def test_a_module_without_gradients_is_checked_by_finite_differences():
    def overwritten(m, x):
        y = functional.relu(m.first(x))
        return y.add_(0.25)

    network = load_network(seeded(lambda: Function(overwritten, 256)), input_shape=SHAPE)
    found = check_fidelity(network, np.random.default_rng(0).uniform(0, 1, (6, *SHAPE)))
    assert found.gradient_by == "finite differences"


@pytest.mark.parametrize("layout", ["chw", "hwc", "flat"])
def test_layout_and_normalisation_are_part_of_the_graph(layout):
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            self.out = nn.Linear(4 * 8 * 4, 5)

        def forward(self, x):
            if layout == "hwc":
                x = x.permute(0, 3, 1, 2)
            if layout == "flat":
                x = x.view(-1, 3, 8, 4)
            return self.out(self.conv(x).relu().flatten(1))

    module = seeded(Net)
    network = load_network(module, input_shape=(3, 8, 4), layout=layout, mean=mean, std=std)
    pixels = np.random.default_rng(0).uniform(0, 1, (5, 3, 8, 4))
    check_fidelity(network, pixels)
    x = (torch.from_numpy(pixels) - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    fed = {"chw": x, "hwc": x.permute(0, 2, 3, 1), "flat": x.flatten(1)}[layout]
    expected = copy.deepcopy(module).double()(fed).detach()
    assert torch.allclose(network.graph.forward(torch.from_numpy(pixels)), expected, atol=1e-6)
    assert np.allclose(network.original.logits(pixels), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("tail", [nn.Softmax(1), nn.LogSoftmax(-1), nn.LogSoftmax(dim=1)])
def test_a_final_softmax_is_taken_off_and_reported(tail):
    body, width = BODIES["residual"]
    plain = load_network(seeded(lambda: Function(body, width)), input_shape=SHAPE)
    network = load_network(seeded(lambda: Function(body, width, tail)), input_shape=SHAPE)
    images = np.random.default_rng(0).uniform(0, 1, (4, *SHAPE))
    check_fidelity(network, images)
    assert network.output_note in (
        "final softmax removed: verified at the logits",
        "final log_softmax removed: verified at the logits",
    )
    assert np.allclose(network.original.logits(images), plain.original.logits(images), atol=1e-6)
    assert torch.equal(
        network.graph.forward(torch.from_numpy(images)), plain.graph.forward(torch.from_numpy(images))
    )


def test_a_module_in_training_mode_is_taken_in_evaluation_and_left_in_training():
    module = module_of("batch-norm").train()
    network = load_network(module, input_shape=SHAPE)
    assert module.training
    assert all(part.training for part in module.modules())
    assert network.original.logits(np.zeros((1, *SHAPE))).shape == (1, 5)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", ["residual", "mlp", "prelu", "batch-norm-first"])
def test_exported_files_agree_with_the_module(name, dynamic, tmp_path):
    module = module_of(name)
    path = tmp_path / "net.pt2"
    dims = ({0: torch.export.Dim("batch")},) if dynamic else None
    if isinstance(module, Function):
        dims = {"x": dims[0]} if dims else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = torch.zeros(2 if dynamic else 1, *SHAPE)
        torch.export.save(torch.export.export(module, (example,), dynamic_shapes=dims), path)
    network = load_network(path, input_shape=SHAPE)
    images = np.random.default_rng(0).uniform(0, 1, (5, *SHAPE))
    check_fidelity(network, images)
    expected = module(torch.from_numpy(images).float()).detach().numpy()
    assert np.allclose(network.original.logits(images), expected, atol=1e-6)
    assert np.allclose(network.graph.forward(torch.from_numpy(images)).numpy(), expected, atol=1e-5)
    assert len(network.sha256) == 64


REFUSED = {
    "sorted": (lambda m, x: m.first(x).sort(1)[0], "layer 'sort' .*in order; .*amax"),
    "largest": (lambda m, x: m.first(x).topk(4, 1)[0], "layer 'topk' .*in order; .*amax"),
    "spectrum": (
        lambda m, x: torch.fft.rfft(m.first(x)).abs().repeat(1, 1, 1, 2)[..., :8],
        "layer 'fft_rfft' .*constant matrices",
    ),
    "tangent": (
        lambda m, x: m.first(x).digamma(),
        "layer 'digamma' .* is not supported; .* `steadygaze layers`",
    ),
    "softplus-cut": (
        lambda m, x: functional.softplus(m.first(x), threshold=5.0),
        "its threshold 5; allowed are .* at least 20",
    ),
    "root of anything": (
        lambda m, x: m.first(x).sqrt(),
        "to the power 0.5 a computed value that may be below 0",
    ),
    "division by anything": (lambda m, x: 1 / m.first(x), "divides by a computed value that may be below 0"),
    "branch": (lambda m, x: m.first(x) if x.sum() > 0 else m.second(m.first(x)), "cannot be traced"),
    "wrong-size": (lambda m, x: m.first(x)[:, :, :4], "cannot be traced on an input of shape"),
    "jump": (lambda m, x: functional.threshold(m.first(x), 0.1, 0.0), "it jumps from 0 to 0.1 at 0.1"),
    "nan": (lambda m, x: m.first(x) / torch.tensor(float("nan")), "NaN"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_outside_the_table_is_refused_by_name(name):
    body, message = REFUSED[name]
    with pytest.raises(ModelError, match=message):
        load_network(seeded(lambda: Function(body, 256)), input_shape=SHAPE)


def test_nan_weights_are_refused():
    module = module_of("mlp")
    with torch.no_grad():
        module[1].weight[0, 0] = torch.nan
    with pytest.raises(ModelError, match="1 of 3072 weights are NaN or infinite"):
        load_network(module, input_shape=SHAPE)


def test_modules_with_several_inputs_or_outputs_are_refused():
    class Two(nn.Module):
        def forward(self, x):
            return x.flatten(1), x.flatten(1)

    with pytest.raises(ModelError, match="returns 2 tensors"):
        load_network(Two(), input_shape=SHAPE)
