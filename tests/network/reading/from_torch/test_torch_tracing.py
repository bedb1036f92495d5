"""PyTorch modules as people have them: verified as they compute, or refused in one sentence.

The oracle is the module itself, called by hand and converted to float64.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
import warnings
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional, utils
from torch.nn.utils import parametrizations, prune

from steadygaze.errors import ModelError
from steadygaze.network.reading.load import load_network

SHAPE = (1, 6, 6)


def dense(*sizes):
    torch.manual_seed(0)
    layers = [nn.Flatten()]
    for first, second in itertools.pairwise(sizes):
        layers += [nn.Linear(first, second), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()


class Wrapped(nn.Module):
    """A function of a small network and the image."""

    def __init__(self, body, inner=None):
        super().__init__()
        self.inner = dense(36, 8, 3) if inner is None else inner
        self.register_buffer("count", torch.zeros(()))
        self.scale = nn.Parameter(torch.tensor(0.7))
        self.body = body
        self.eval()

    def forward(self, x):
        return self.body(self, x)


@dataclasses.dataclass
class Record:
    logits: torch.Tensor
    hidden: torch.Tensor | None = None


Pair = namedtuple("Pair", ["logits", "extra"])


class Straight(torch.autograd.Function):
    """Forward nothing, backward something else."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class Saving(torch.autograd.Function):
    """A swish that keeps its input alone, as libraries of EfficientNet have it."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * torch.sigmoid(x) * (1 + x * (1 - torch.sigmoid(x)))


def hooked(kind, at_root=False, inner=None):
    module = dense(36, 8, 3) if inner is None else inner
    part = module if at_root else module[1]
    if kind == "before":
        part.register_forward_pre_hook(lambda m, given: (given[0] * 0.5,))
    elif kind == "after":
        part.register_forward_hook(lambda m, given, made: made * 0.5 + 0.1)
    elif kind == "backward":
        part.register_full_backward_hook(lambda m, given, made: (given[0] * 2,))
    elif kind == "looking":
        part.register_full_backward_hook(lambda m, given, made: setattr(m, "seen", made[0]))
    elif kind == "keeping":
        part.kept = []
        part.register_forward_hook(lambda m, given, made: part.kept.append(made.detach()))
    return module


def mapped(module, x):
    """An ensemble whose members' weights are stacked, as torch.func has it."""
    first, last = module.inner[1], module.inner[3]
    scales = torch.arange(1.0, 4.0, dtype=x.dtype)

    def member(scale):
        hidden = torch.relu(x.flatten(1) @ (first.weight * scale).T + first.bias)
        return hidden @ last.weight.T + last.bias

    return torch.vmap(member)(scales).mean(0)


def on_first(change, *args, **options):
    module = dense(36, 8, 3)
    change(module[1], *args, **options)
    return module.eval()


def after_a_backward_pass(module):
    module(torch.rand(1, *SHAPE)).sum().backward()
    return module


def lazy(run):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.ReLU(), nn.Linear(8, 3)).eval()
    if run:
        module(torch.zeros(1, *SHAPE))
    return module


def overwriting(m, x):
    x *= 0.5
    x.add_(0.1)
    return m.inner(x)


def kept(m, x):
    m.last = m.inner(x)
    return m.last


def grown_in_place(m, x):
    y = m.inner[1](x.flatten(1))
    y.clamp_(min=0).mul_(m.scale)
    return m.inner[3](y)


def cached_constants(m, x):
    return m.inner(x * torch.sigmoid(m.scale) + torch.tensor([0.1]).double().float())


def checking_constants(m, x):
    """As torchvision's Normalize does, and layers that are initialised by their first batch."""
    mean, std = torch.as_tensor((0.4,)), torch.as_tensor((0.3,))
    if (std == 0).any():
        raise ValueError("std is 0")
    if int(m.count) != 0:
        x = 2 * x
    return m.inner(x.sub(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1)) * m.scale.item())


def resized_when_traced(m, x):
    """As libraries of transformers do with positions, and with masks that hide nothing."""
    places, tracing = m.inner[1].weight[:1].reshape(1, 1, 6, 6), torch.compiler.is_exporting()
    if tracing:
        places = functional.interpolate(places, size=(6, 6), mode="bicubic", align_corners=False)
    x = (x + places)[:, 0]
    mask = torch.ones(6, 6, dtype=torch.bool) if tracing else None
    x = functional.scaled_dot_product_attention(x, x, x, attn_mask=mask)
    return m.inner(x + torch.zeros(6, 6) if tracing else x)


# What is verified, as it computes.
VERIFIED = {
    "checks-constants": lambda: Wrapped(checking_constants),
    "resized-when-traced": lambda: Wrapped(resized_when_traced),
    "tuple": lambda: Wrapped(lambda m, x: (m.inner(x),)),
    "list": lambda: Wrapped(lambda m, x: [m.inner(x)]),
    "nested": lambda: Wrapped(lambda m, x: ({"out": [m.inner(x)]}, None, 3)),
    "mapping": lambda: Wrapped(lambda m, x: {"probabilities": x.flatten(1), "logits": m.inner(x)}),
    "ordered-mapping": lambda: Wrapped(lambda m, x: OrderedDict(loss=None, logits=m.inner(x))),
    "probabilities-beside": lambda: Wrapped(
        lambda m, x: (lambda y: {"probabilities": y.softmax(1), "logits": y})(m.inner(x))
    ),
    "record": lambda: Wrapped(lambda m, x: Record(m.inner(x), x.tan())),
    "named-tuple": lambda: Wrapped(lambda m, x: Pair(m.inner(x), x.cos())),
    "column": lambda: Wrapped(lambda m, x: m.inner(x)[:, :, None, None]),
    "one-row": lambda: Wrapped(lambda m, x: m.inner(x)[0]),
    "overwrites-its-input": lambda: Wrapped(overwriting),
    "overwrites-inside": lambda: Wrapped(grown_in_place),
    "keeps-a-tensor": lambda: after_a_backward_pass(Wrapped(kept)),
    "constants": lambda: Wrapped(cached_constants),
    "unused-sine": lambda: Wrapped(lambda m, x: (x.tan().sum(), m.inner(x))[1]),
    "lazy": lambda: lazy(run=True),
    "pruned": lambda: on_first(prune.l1_unstructured, "weight", 0.5),
    "pruned-channels": lambda: on_first(prune.ln_structured, "weight", 0.5, n=2, dim=0),
    "old-weight-norm": lambda: on_first(utils.weight_norm),
    "old-weight-norm-trained": lambda: after_a_backward_pass(on_first(utils.weight_norm)),
    "weight-norm": lambda: on_first(parametrizations.weight_norm),
    "old-spectral-norm": lambda: on_first(utils.spectral_norm),
    "spectral-norm": lambda: on_first(parametrizations.spectral_norm),
    "orthogonal": lambda: on_first(parametrizations.orthogonal),
    "hook-looking": lambda: hooked("looking"),
    "own-gradient": lambda: Wrapped(lambda m, x: m.inner(Saving.apply(x))),
    "hook-before": lambda: hooked("before"),
    "hook-after": lambda: hooked("after"),
    "hook-before-all": lambda: hooked("before", at_root=True),
    "hook-after-all": lambda: hooked("after", at_root=True),
    "hook-inside": lambda: Wrapped(lambda m, x: m.inner(x), hooked("after")),
    "hook-keeping": lambda: hooked("keeping"),
    "mapped": lambda: Wrapped(mapped),
    "mapped-within": lambda: Wrapped(
        lambda m, x: torch.vmap(torch.vmap(torch.exp))(m.inner(x)[:, None])[:, 0]
    ),
    "symbolic": lambda: torch.fx.symbolic_trace(dense(36, 8, 3)),
    "data-parallel": lambda: nn.DataParallel(dense(36, 8, 3)),
    "compiled": lambda: torch.compile(dense(36, 8, 3)),
    "frozen": lambda: dense(36, 8, 3).requires_grad_(False),
    "training": lambda: nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), *dense(36, 8, 3)).train(),
    "double": lambda: dense(36, 8, 3).double(),
    "wider-inside": lambda: Wrapped(lambda m, x: m.inner((2.0 * x.double()).float())),
    "no-grad-throughout": lambda: Wrapped(torch.no_grad()(lambda m, x: m.inner(x))),
    "detached-throughout": lambda: Wrapped(lambda m, x: m.inner(x).detach()),
    "channels-last": lambda: nn.Sequential(nn.Conv2d(1, 2, 3), *dense(32, 3)).to(
        memory_format=torch.channels_last
    ),
    "out-of-autocast": lambda: Wrapped(out_of_autocast),
    "per-channel-clip": lambda: Wrapped(
        lambda m, x: m.inner(x.flatten(1).clamp(max=torch.linspace(0.1, 0.9, 36)))
    ),
    "before-quantization": lambda: Floating(),
    "angles": lambda: Wrapped(turned),
    "noise-on-nothing": lambda: Wrapped(lambda m, x: functional.dropout(m.inner(x), 0.5, m.training)),
}


@pytest.mark.parametrize("name", VERIFIED)
def test_modules_are_read_as_they_compute(name):
    module = made(VERIFIED[name])
    network = load_network(module, input_shape=SHAPE)
    x = torch.rand(20, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    dtype = next(iter(module.parameters())).dtype
    reference = getattr(module, "_orig_mod", module).eval()
    expected = torch.cat([_logits(reference(row[None].to(dtype).clone())) for row in x]).detach().double()
    assert torch.allclose(network.graph.forward(x), expected, atol=1e-5)
    assert np.allclose(network.original.logits(x.numpy()), expected.numpy(), atol=1e-6)
    gradient = network.original.gradient(x.numpy(), 1)
    if "throughout" not in name:
        assert np.allclose(gradient, network.graph.gradient_at(x, 1).numpy(), atol=1e-5)
    assert (gradient is None) == ("throughout" in name)


def _logits(output):
    """By hand, for the structures above."""
    while not isinstance(output, torch.Tensor):
        if isinstance(output, tuple | list) and not hasattr(output, "_fields"):
            output = output[0]
        elif isinstance(output, dict):
            output = output["logits"] if "logits" in output else output["out"]
        else:
            output = output.logits
    return output.reshape(1, -1)


def made(make):
    """A module of the kinds above; PyTorch warns of some as it makes them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


def _scripted():
    return torch.jit.script(dense(36, 8, 3))


def largest_by_data(module, x):
    logits = module.inner(x)
    return logits * torch.eye(logits.shape[1]).index_select(0, logits.argmax(1).data)


def branching(m, x):
    return m.inner(x) if x.sum() > 18 else m.inner(1 - x)


def branching_quietly(m, x):
    """Tracing fails at the branch, and the module goes on."""
    try:
        if x.sum() > 18:
            return m.inner(x)
    except Exception:
        return m.inner(1 - x)
    return m.inner(1 - x)


def exporting_now():
    return torch.compiler.is_exporting()


def exporting(m, x):
    return m.inner(x) if torch.compiler.is_exporting() else m.inner(1 - x) + 1


def without_gradient_inside(m, x):
    with torch.no_grad():
        y = x * 2
    return m.inner(x + y)


def half_inside(m, x):
    return m.inner(x.to(torch.bfloat16).float())


def under_autocast(m, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return m.inner(x).float()


def out_of_autocast(m, x):
    """As libraries protect what has to be precise."""
    with torch.autocast("cpu", enabled=False):
        return m.inner(x.float())


def counting(m, x):
    m.count += 1
    return m.inner(x) + m.count


def sampling(m, x):
    return m.inner(x + torch.rand(x.shape))


def sampling_elsewhere(m, x):
    return m.inner(x + random.random())


def caching(m, x):
    """The same steps, with a number that is not the same."""
    m.seen = 1.01 * getattr(m, "seen", torch.ones(()))
    return m.inner(x * m.seen)


class Floating(nn.Module):
    """As tutorials of quantization have it before anything is converted."""

    def __init__(self):
        super().__init__()
        self.quant, self.inner = torch.ao.quantization.QuantStub(), dense(36, 8, 3)
        self.plus, self.dequant = torch.ao.nn.quantized.FloatFunctional(), torch.ao.quantization.DeQuantStub()

    def forward(self, x):
        x = self.quant(x)
        return self.dequant(self.inner(self.plus.add(x, x)))


class TwoImages(nn.Module):
    def forward(self, x, y):
        return torch.cat([x, y]).flatten(1).sum(1)


@torch.no_grad()
def angles(places):
    """As rotary embeddings make them, whatever precision is on."""
    with torch.autocast("cpu", enabled=False):
        return torch.cat([places.float().cos(), places.float().sin()])


def coarse_angles(m, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weight = (m.scale.detach() * torch.ones(6, 6)) @ torch.linspace(0.1, 1.0, 36).reshape(6, 6)
    return m.inner(x * weight.float())


def turned(m, x):
    return m.inner(x * angles(torch.arange(3.0) + 0.0 * m.scale.detach()))


def of_bytes(m, x):
    assert x.dtype == torch.uint8
    return m.inner(x.float() / 255)


def quantized():
    return torch.ao.quantization.quantize_dynamic(dense(36, 8, 3), {nn.Linear})


def quantized_in_training():
    return nn.Sequential(dense(36, 8, 3), torch.ao.quantization.FakeQuantize())


def with_nan():
    module = dense(36, 8, 3)
    with torch.no_grad():
        module[1].weight[0, 0] = torch.nan
    return module


def huge():
    module = dense(36, 8, 3)
    with torch.no_grad():
        module[1].weight.fill_(1e30)
        module[3].weight.fill_(1e30)
    return module


def own_operator(m, x):
    return m.inner(torch.ops.steadygaze_test.relu(x))


REFUSED = {
    "lazy": (lambda: lazy(run=False), "is not initialised .*; run it on one image first"),
    "meta": (lambda: dense(36, 8, 3).to("meta"), "holds no numbers: .* load the weights"),
    "half-output": (lambda: Wrapped(lambda m, x: m.inner(x).half()), "computes in float16"),
    "complex": (lambda: dense(36, 8, 3).to(torch.complex64), "cannot be traced"),
    "scripted": (_scripted, "compiled by torch.jit.* hand in the module that it was made from"),
    "scripted-part": (lambda: Wrapped(lambda m, x: m.inner(x), _scripted()), r"part 'inner'.*torch.jit"),
    "jit-traced": (lambda: torch.jit.trace(dense(36, 8, 3), torch.zeros(1, *SHAPE)), "torch.jit"),
    "quantized": (quantized, "is quantized.*hand in the one that it was made from"),
    "observed": (
        lambda: nn.Sequential(torch.ao.quantization.MinMaxObserver(), dense(36, 8, 3)),
        r"part '0'\) looks on for a quantization to come .*hand in the one",
    ),
    "rounded-constants": (lambda: Wrapped(coarse_angles), "constants hang on how they are rounded"),
    "whole-numbers": (lambda: Wrapped(of_bytes), "takes whole numbers .* behind its conversion, or write it"),
    "two-images": (TwoImages, "takes 2 inputs, allowed is one, the image; wrap it in a module that fixes"),
    "fake-quantize": (
        lambda: Wrapped(lambda m, x: m.inner(torch.fake_quantize_per_tensor_affine(x, 1 / 255, 0, 0, 255))),
        "'fake_quantize_per_tensor_affine' .* rounds as a quantized network does.* before quantization",
    ),
    "complex-inside": (
        lambda: Wrapped(lambda m, x: m.inner(x.to(torch.complex64).abs())),
        "complex64.* complex numbers are two real ones each, to be computed apart",
    ),
    "sinc": (lambda: Wrapped(lambda m, x: m.inner(x.sinc())), r"'sinc' \(node 'sinc'\) .* divided by pi x"),
    "fourier": (
        lambda: Wrapped(lambda m, x: m.inner(torch.fft.fft2(x).real)),
        "'fft_fft2' .* constant matrices of the transform",
    ),
    "fake-quantized": (quantized_in_training, r"part '1'.*fake quantization.*hand in the one that it was"),
    "branch": (
        lambda: Wrapped(branching),
        "cannot be traced.*takes a number out of what it computes.*same steps for every image",
    ),
    "branch-caught": (lambda: Wrapped(branching_quietly), "does other steps when it runs"),
    "branch-on-item": (
        lambda: Wrapped(lambda m, x: m.inner(x) * (2.0 if float(x.max()) > 0.5 else 1.0)),
        "cannot be traced",
    ),
    "branch-on-export": (lambda: Wrapped(exporting), "does other steps when it runs than when it is traced"),
    "constant-on-export": (
        lambda: Wrapped(lambda m, x: m.inner(x * (1.5 - m.scale if not exporting_now() else m.scale))),
        "does other steps when it runs than when it is traced",
    ),
    "branch-on-gradients": (
        lambda: Wrapped(lambda m, x: m.inner(x) if torch.is_grad_enabled() else 2 * m.inner(x)),
        "does other steps when it runs",
    ),
    "number-of-the-image": (lambda: Wrapped(lambda m, x: m.inner(x) * x.max().item()), "other steps"),
    "where": (
        lambda: Wrapped(lambda m, x: m.inner(torch.where(x > 0.5, x, 0 * x))),
        "jumps from 0 to 0.5 where",
    ),
    "numpy": (
        lambda: Wrapped(lambda m, x: m.inner(torch.from_numpy(x.numpy() * 2))),
        "leaves PyTorch for NumPy",
    ),
    "hook-without-gradient": (
        lambda: Wrapped(lambda m, x: (x.register_hook(print), m.inner(x))[1]),
        r"cannot register a hook .*; hook it where there is a gradient, if x\.requires_grad",
    ),
    "integers": (lambda: Wrapped(lambda m, x: m.inner((255 * x).int() / 255)), r"int32"),
    "long": (lambda: Wrapped(lambda m, x: m.inner((255 * x).long().float())), "int64"),
    "bytes": (
        lambda: Wrapped(lambda m, x: m.inner((255 * x).byte().float())),
        "uint8.*whole numbers jump from one to the next",
    ),
    "data-of-what-is-computed": (lambda: Wrapped(largest_by_data), "write .detach\\(\\) for .data"),
    "statistics-of-the-batch": (
        lambda: Wrapped(
            lambda m, x: m.inner(functional.batch_norm(x, torch.zeros(1), torch.ones(1), training=True))
        ),
        "an image changes the logits of another",
    ),
    "b-splines": (
        lambda: Wrapped(lambda m, x: m.inner(((x[..., None] >= torch.arange(3.0)) * 1.0).sum(-1))),
        "Kolmogorov-Arnold network, use one of Chebyshev polynomials",
    ),
    "booleans": (lambda: Wrapped(lambda m, x: m.inner(x.bool().float())), "bool"),
    "rounded": (lambda: Wrapped(half_inside), "bfloat16"),
    "type-as": (lambda: Wrapped(lambda m, x: m.inner(x.type_as(x.int()).float())), "int32|not supported"),
    "autocast": (lambda: Wrapped(under_autocast), "computes under torch.autocast"),
    "floor": (lambda: Wrapped(lambda m, x: m.inner(x.floor())), "'floor' .* is not supported"),
    "floor-division": (lambda: Wrapped(lambda m, x: m.inner(255 * x // 1)), "not supported|rounding_mode"),
    "remainder": (lambda: Wrapped(lambda m, x: m.inner(x % 0.5)), "'remainder' .* is not supported"),
    "counter": (lambda: Wrapped(counting), "changes its own 'count' while it runs"),
    "random": (lambda: Wrapped(sampling), "draws random numbers"),
    "random-elsewhere": (lambda: Wrapped(sampling_elsewhere), "does other steps when it runs"),
    "cache": (lambda: Wrapped(caching), "different logits from one call to the next"),
    "dropout-always": (lambda: Wrapped(lambda m, x: functional.dropout(m.inner(x))), "'train' is True"),
    "backward-hook": (lambda: hooked("backward"), "backward pass of its own .*or a backward hook"),
    "own-backward": (lambda: Wrapped(lambda m, x: m.inner(Straight.apply(x))), "backward pass of its own"),
    "part-without-gradient": (lambda: Wrapped(without_gradient_inside), "switches gradients off for a part"),
    "part-detached": (lambda: Wrapped(lambda m, x: m.inner(x + x.detach())), "stops the gradient"),
    "nan": (with_nan, "1 of 288 weights are NaN"),
    "infinite-logits": (huge, "NaN or infinite"),
    "many-numbers": (lambda: nn.Conv2d(1, 2, 3), r"returns a tensor of shape \(1, 2, 4, 4\)"),
    "nothing": (
        lambda: Wrapped(lambda m, x: None),
        "returns a NoneType without tensors, allowed",
    ),
    "two": (
        lambda: Wrapped(lambda m, x: (m.inner(x), m.inner(x + 1))),
        "2 tensors .* name it with --output",
    ),
    "two-named": (
        lambda: Wrapped(lambda m, x: {"a": x, "b": m.inner(x)}),
        r"2 tensors \('a' of .*, 'b' of",
    ),
    "integer-output": (lambda: Wrapped(lambda m, x: m.inner(x).argsort()), "returns int64, the class itself"),
    "positions": (
        lambda: Wrapped(
            lambda m, x: m.inner(functional.max_pool2d(x, 1, return_indices=True)[1].float() + x)
        ),
        "its output 1 is used|int64",
    ),
    "wrong-size": (lambda: dense(40, 8, 3), "cannot be traced on an input of shape"),
    "no-copy": (lambda: Wrapped(lambda m, x: m.inner(x), _Uncopyable()), "cannot be copied"),
}


class _Uncopyable(nn.Module):
    def __deepcopy__(self, memo):
        raise KeyError("no copies")


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_refused_in_a_sentence(name):
    make, message = REFUSED[name]
    with pytest.raises(ModelError, match=message) as caught:
        load_network(made(make), input_shape=SHAPE)
    assert "\n" not in str(caught.value)
    assert "allowed" in str(caught.value)


def test_an_operator_of_a_library_is_not_taken_for_one_of_the_table():
    with torch.library._scoped_library("steadygaze_test", "DEF") as library:
        library.define("relu(Tensor x) -> Tensor")
        library.impl("relu", lambda x: x.sin(), "CompositeExplicitAutograd")
        with pytest.raises(ModelError, match=r"'steadygaze_test::relu' .* is not supported"):
            load_network(Wrapped(own_operator), input_shape=SHAPE)


HEADS = {
    "softmax": lambda y: y.softmax(1),
    "log-softmax": lambda y: y.log_softmax(-1),
    "softmax-shaped": lambda y: y.softmax(1)[:, :, None, None].squeeze(-1).squeeze(-1),
    "softmax-flat": lambda y: y.softmax(-1).reshape(-1),
    "softmax-copied": lambda y: y.softmax(1).contiguous().clone(),
    "softmax-wide": lambda y: y.softmax(1).to(torch.float64),
    "softmax-in-double": lambda y: y.softmax(1, dtype=torch.float64),
    "softmax-detached": lambda y: y.softmax(1).detach(),
    "softmax-of-log": lambda y: y.log_softmax(1).view(-1, 3).softmax(1),
    "softmax-named": lambda y: {"logits": y.softmax(1), "other": y.tan()},
    "log-softmax-listed": lambda y: [functional.log_softmax(y, dim=1)],
}


@pytest.mark.parametrize("name", HEADS)
def test_a_softmax_is_taken_off_with_what_changes_nothing_after_it(name, tmp_path):
    module = Wrapped(lambda m, x: HEADS[name](m.inner(x)))
    plain = load_network(module.inner, input_shape=SHAPE)
    x = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for handed in (module, exported(module, tmp_path)):
        network = load_network(handed, input_shape=SHAPE)
        assert "softmax" in network.output_note
        assert torch.allclose(network.graph.forward(x), plain.graph.forward(x))
        assert np.allclose(network.original.logits(x.numpy()), plain.original.logits(x.numpy()), atol=1e-6)
        theirs = network.original.gradient(x.numpy(), 0)
        assert np.allclose(theirs, plain.original.gradient(x.numpy(), 0), atol=1e-6)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (lambda y: y.softmax(0), "along axis 0 of"),
        (lambda y: y.softmax(1).half(), "computes in float16"),
        (lambda y: y.view(-1, 3, 1).softmax(2), "along axis 2 of"),
    ],
)
def test_other_heads_are_refused(head, message):
    with pytest.raises(ModelError, match=message):
        load_network(Wrapped(lambda m, x: head(m.inner(x))), input_shape=SHAPE)


def test_a_softmax_for_export_alone_is_refused():
    def deceiving(m, x):
        y = m.inner(x if torch.compiler.is_exporting() else 1 - x)
        return y.softmax(1)

    with pytest.raises(ModelError, match=r"other steps|another softmax"):
        load_network(Wrapped(deceiving), input_shape=SHAPE)


def exported(module, folder):
    path = folder / "net.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(module, (torch.zeros(1, *SHAPE),), strict=False), path)
    return path


EXPORTED = [
    *("tuple", "nested", "mapping", "probabilities-beside", "overwrites-its-input", "overwrites-inside"),
    *("pruned", "old-weight-norm", "spectral-norm", "hook-after-all", "double", "wider-inside", "constants"),
]


@pytest.mark.parametrize("name", EXPORTED)
def test_files_are_read_as_they_compute(name, tmp_path):
    module = made(VERIFIED[name])
    if name == "double":
        path = tmp_path / "net.pt2"
        example = (torch.zeros(1, *SHAPE, dtype=torch.float64),)
        torch.export.save(torch.export.export(module, example, strict=False), path)
    else:
        path = exported(module, tmp_path)
    network = load_network(path, input_shape=SHAPE)
    x = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    dtype = next(iter(module.parameters())).dtype
    expected = torch.cat([_logits(module(row[None].to(dtype).clone())) for row in x]).detach().double()
    assert torch.allclose(network.graph.forward(x), expected, atol=1e-5)
    assert np.allclose(network.original.logits(x.numpy()), expected.numpy(), atol=1e-6)
    gradient = network.original.gradient(x.numpy(), 1)
    assert np.allclose(gradient, network.graph.gradient_at(x, 1).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        *(("integers", "int32"), ("autocast", "autocast"), ("counter", "changes its own 'count'")),
        *(("random", "draws random numbers"), ("part-detached", "stops the gradient")),
        *(("part-without-gradient", "switches gradients off"), ("sinc", "divided by pi x")),
        *(("many-numbers", "returns a tensor of shape"), ("two", "2 tensors"), ("nan", "NaN")),
    ],
)
def test_files_are_refused_in_a_sentence(name, message, tmp_path):
    path = exported(made(REFUSED[name][0]), tmp_path)
    with pytest.raises(ModelError, match=message) as caught:
        load_network(path, input_shape=SHAPE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["mapping", "overwrites-its-input", "old-weight-norm", "training", "double"])
def test_the_original_in_double_has_its_weights_and_nothing_changes(name):
    module = made(VERIFIED[name])
    network = load_network(module, input_shape=SHAPE)
    x = np.random.default_rng(1).uniform(size=(4, *SHAPE))
    before = network.original.gradient(x, 2)
    wide = network.original.in_double()
    assert np.array_equal(network.original.gradient(x, 2), before)
    pixels = torch.from_numpy(x).requires_grad_()
    reference = load_network(made(VERIFIED[name]).double(), input_shape=SHAPE)
    assert np.allclose(wide.logits(x), reference.original.logits(x), rtol=1e-12, atol=1e-12)
    assert np.allclose(wide.gradient(x, 2), reference.original.gradient(x, 2), rtol=1e-9, atol=1e-12)
    logits = network.graph.forward(pixels)
    (ours,) = torch.autograd.grad(logits[:, 2].sum(), pixels)
    assert np.allclose(wide.gradient(x, 2), ours.numpy(), atol=1e-9)
    assert np.allclose(wide.logits(x), logits.detach().numpy(), atol=1e-9)


def test_a_module_that_insists_on_its_precision_has_no_double():
    network = load_network(Wrapped(lambda m, x: m.inner(x.float())), input_shape=SHAPE)
    assert network.original.in_double() is None


def state_of(module):
    return [
        *((part.training, len(part._forward_hooks), len(part._backward_hooks)) for part in module.modules()),
        *((p.requires_grad, p.grad is None, p.dtype, p._version) for p in module.parameters()),
        *(value.clone() for value in module.state_dict().values()),
    ]


def surroundings():
    return (
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_rng_state().tolist(),
        random.getstate(),
        str(np.random.get_state()),  # noqa: NPY002 - the process's own
        len(warnings.filters),
    )


@pytest.mark.parametrize(
    ("name", "around"),
    [
        ("training", torch.no_grad),
        ("hook-after", torch.inference_mode),
        ("old-spectral-norm", torch.inference_mode),
        ("spectral-norm", torch.no_grad),
        ("frozen", lambda: torch.autocast("cpu", dtype=torch.bfloat16)),
    ],
)
def test_nothing_stays_changed_and_nothing_around_matters(name, around):
    module = made(VERIFIED[name])
    state = state_of(module)
    x = np.random.default_rng(1).uniform(size=(2, *SHAPE))
    alone = load_network(module, input_shape=SHAPE)
    with around():
        before = surroundings()
        network = load_network(module, input_shape=SHAPE)
        logits, gradient = network.original.logits(x), network.original.gradient(x, 0)
        assert surroundings() == before
    assert np.array_equal(logits, alone.original.logits(x))
    assert np.array_equal(gradient, alone.original.gradient(x, 0))
    after = state_of(module)
    assert len(after) == len(state)
    same = (
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        for a, b in zip(after, state, strict=True)
    )
    assert all(same)


def test_random_numbers_go_on_where_they_were():
    def drawing(m, x):
        torch.rand(3), random.random(), np.random.rand()  # noqa: NPY002 - as users do
        return m.inner(x)

    module = Wrapped(drawing)
    before = surroundings()
    load_network(module, input_shape=SHAPE)
    assert surroundings() == before


def test_a_module_whose_hook_keeps_what_it_sees_is_read_again():
    """Tracing shows hooks images without numbers, and what they keep of these is no part of the network."""
    module, x = hooked("keeping").eval(), torch.rand(2, *SHAPE)
    once, again = (load_network(module, input_shape=SHAPE).original.logits(x.numpy()) for _ in range(2))
    np.testing.assert_allclose(once, module(x).detach().numpy(), atol=1e-6)
    np.testing.assert_array_equal(once, again)
