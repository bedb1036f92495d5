"""Every argument of every PyTorch operator of the table, given unusual values: read in full, or refused.

The oracle is the operator itself in float64, and autograd: forward and backward, at points of all signs.
"""

from __future__ import annotations

import itertools
import random
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from steadygaze.errors import ModelError
from steadygaze.network.reading import joining
from steadygaze.network.reading.assembly import Assembler, Value
from steadygaze.network.reading.torch_operators import OPERATORS, overload, overload_name

MAP = (2, 4, 6)
POINTS = 7


class Computed:
    """Stands for the image, or another value computed from it, in the shape that an operator wants."""

    def __init__(self, *shape, factor=1.0):
        self.shape = (1, *(shape or MAP))
        self.factor = factor

    def as_value(self, assembler):
        scaled = assembler.scale_shift(assembler.pixels, self.factor, 0.0)
        return assembler.reshape(scaled, self.shape)

    def as_tensor(self, image):
        return (self.factor * image).reshape(self.shape)


class Above(Computed):
    """A value that is known to be above 0, as roots and divisors have to be."""

    def as_value(self, assembler):
        return assembler.scale_shift(joining.power(assembler, super().as_value(assembler), 2.0), 0.5, 0.25)

    def as_tensor(self, image):
        return 0.5 * super().as_tensor(image) ** 2 + 0.25


def constant(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.3


X, FLAT = Computed(), Computed(48)
KERNEL = {"input": X, "weight": constant(4, 2, 3, 3) - 0.8, "bias": constant(4)}
NORM = {"input": X, "weight": constant(2), "bias": constant(2)}
NORM |= {"running_mean": constant(2), "running_var": constant(2), "momentum": 0.1, "eps": 1e-3}
MATRIX = constant(6, 5) - 0.8

# What each operator is called with before one argument is changed; {"self": X} where nothing is said.
CALLS = {
    "linear": {"input": FLAT, "weight": constant(5, 48) - 0.8, "bias": constant(5)},
    "addmm": {"self": constant(5), "mat1": FLAT, "mat2": constant(48, 5) - 0.8},
    "matmul": {"self": X, "other": MATRIX},
    "mm": {"self": FLAT, "mat2": constant(48, 5) - 0.8},
    "conv2d": KERNEL,
    "conv2d.padding": KERNEL,
    "convolution": KERNEL
    | {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "output_padding": [0, 0], "groups": 1}
    | {"transposed": False},
    "batch_norm": NORM | {"training": False, "cudnn_enabled": False},
    "_native_batch_norm_legit_no_training": NORM,
    "max_pool2d": {"self": X, "kernel_size": [2, 2]},
    "max_pool2d_with_indices": {"self": X, "kernel_size": [2, 2]},
    "avg_pool2d": {"self": X, "kernel_size": [2, 3], "padding": [1, 1]},
    "adaptive_avg_pool2d": {"self": X, "output_size": [2, 3]},
    "_adaptive_avg_pool2d": {"self": X, "output_size": [2, 3]},
    "adaptive_max_pool2d": {"self": X, "output_size": [2, 3]},
    "mean": {"self": Computed(1, 4, 12)},
    "mean.dim": {"self": X, "dim": [2, 3]},
    "leaky_relu": {"self": X, "negative_slope": 0.2},
    "prelu": {"self": X, "weight": constant(2)},
    "_prelu_kernel": {"self": X, "weight": constant(1, 2, 1, 1)},
    "clamp": {"self": X, "min": -0.3, "max": 0.4},
    "clamp.Tensor": {
        "self": X,
        "min": constant() - 1,
        "max": torch.tensor(0.4, dtype=torch.float64),
    },
    "clamp_min": {"self": X, "min": -0.3},
    "clamp_min.Tensor": {"self": X, "min": constant() - 1},
    "clamp_max": {"self": X, "max": 0.3},
    "clamp_max.Tensor": {"self": X, "max": constant()},
    "pad": {"self": X, "pad": [1, 2, 0, 1]},
    "constant_pad_nd": {"self": X, "pad": [1, 2, 0, 1]},
    "slice.Tensor": {"self": X, "dim": 2},
    "select.int": {"self": X, "dim": 2, "index": 1},
    "chunk": {"self": X, "chunks": 2, "dim": 3},
    "split.Tensor": {"self": X, "split_size": 2, "dim": 3},
    "split.sizes": {"self": X, "split_size": [2, 4], "dim": 3},
    "split": {"self": X, "split_sizes": [2, 4], "dim": 3},
    "split_with_sizes": {"self": X, "split_sizes": [2, 4], "dim": 3},
    "cat": {"tensors": [X, Computed(factor=-2.0)], "dim": 1},
    "concat": {"tensors": [X, Computed(factor=-2.0)], "dim": 1},
    "reshape": {"self": X, "shape": [1, -1]},
    "view": {"self": X, "size": [1, -1]},
    "_unsafe_view": {"self": X, "size": [1, 48]},
    "flatten.using_ints": {"self": X, "start_dim": 1},
    "unflatten.int": {"self": X, "dim": 3, "sizes": [2, 3]},
    "squeeze": {"self": Computed(1, 48, 1)},
    "squeeze.dim": {"self": Computed(1, 48, 1), "dim": 1},
    "squeeze.dims": {"self": Computed(1, 48, 1), "dim": [1, 3]},
    "unsqueeze": {"self": X, "dim": 1},
    "permute": {"self": X, "dims": [0, 2, 3, 1]},
    "transpose.int": {"self": X, "dim0": 1, "dim1": 3},
    "t": {"self": FLAT},
    "to.device": {"self": X, "device": torch.device("cpu"), "dtype": torch.float64},
    "to.dtype": {"self": X, "dtype": torch.float64},
    "to.other": {"self": X, "other": constant(1)},
}
OVER_LAST = {
    "input": X,
    "normalized_shape": [4, 6],
    "weight": constant(4, 6),
    "bias": constant(4, 6),
    "eps": 0.1,
}
CALLS |= {
    "celu": {"self": X, "alpha": 0.7},
    "elu": {"self": X, "alpha": 0.7},
    "glu": {"self": X, "dim": 1},
    "sqrt": {"self": Above()},
    "rsqrt": {"self": Above()},
    "reciprocal": {"self": Above()},
    "pow.Tensor_Scalar": {"self": X, "exponent": 3},
    "linalg_vector_norm": {"self": Above(), "dim": [1], "keepdim": True},
    "sum": {"self": X},
    "sum.dim_IntList": {"self": X, "dim": [1, 3]},
    "softmax.int": {"self": X, "dim": 1},
    "_softmax": {"self": X, "dim": -1, "half_to_float": False},
    "scaled_dot_product_attention": {
        "query": X,
        "key": Computed(factor=0.5),
        "value": Computed(2, 4, 6, factor=-0.5),
    },
    "layer_norm": OVER_LAST,
    "native_layer_norm": OVER_LAST,
    "rms_norm": {name: given for name, given in OVER_LAST.items() if name != "bias"},
    "group_norm": {"input": X, "num_groups": 2, "weight": constant(2), "bias": constant(2), "eps": 0.1},
    "instance_norm": NORM | {"use_input_stats": True, "cudnn_enabled": False, "eps": 0.1},
    "avg_pool3d": {"self": Computed(1, 4, 3, 4), "kernel_size": [3, 1, 1], "stride": [1, 1, 1]},
    "expand": {"self": Computed(48, 1), "size": [-1, -1, 3]},
    "expand_as": {"self": Computed(48, 1), "other": Computed(48, 1)},
    "bmm": {"self": Computed(6, 8), "mat2": Computed(8, 6, factor=-0.5)},
}
DROPOUT = {"input": X, "p": 0.5, "train": False}
CALLS |= dict.fromkeys(("dropout", "feature_dropout", "alpha_dropout"), DROPOUT)
for _family, _other in itertools.product(("add", "sub", "rsub", "mul", "div"), ("Tensor", "Scalar")):
    CALLS[f"{_family}.{_other}"] = {"self": X, "other": constant(2, 1, 1) if _other == "Tensor" else 0.7}
for _other in ("Tensor_mode", "Scalar_mode"):
    CALLS[f"div.{_other}"] = CALLS[f"div.{_other.removesuffix('_mode')}"] | {"rounding_mode": None}

# Values at which some unit of the calls switches; ties of a window are among them.
ON_KINKS = [0.0, -0.0, 0.25, 0.3, -0.3, 0.4, 0.5, 1.0, 2.0, 3.0, -1.0, -2.0, 25.0, -0.7]
ON_KINKS += [float(constant()), float(constant()) - 1]
NUMBERS = [0, 1, 2, 3, -1, -2, 0.5, -0.7, 1e-3, 25.0, float("inf"), float("-inf"), float("nan"), True, None]
LISTS = [[], [1], [2], [1, 2], [2, 1], [2, 3], [0, 0], [0, 1], [-1, 1], [3, 3], [1, -2, 0, 3], [0, 3, 1, 2]]
LISTS += [[2], [2, 3], [-1], [-2, -1], [1, 2, 3], [1, 3, 2], [3, 2], [2, 2, 2], [1, 48], [2, 24], [-1, 24]]
TENSORS = [
    *(constant(), constant(1), constant(2), constant(6), constant(2, 1, 1), constant(2, 4, 6)),
    *(constant(4, 1), constant(3, 2, 4, 6), constant(1, 1, 1, 1, 1), constant(2, 1, 1) - 0.9),
    *(torch.tensor([3, -2])[:, None, None], torch.tensor([True, False])[:, None, None], torch.tensor(-2)),
    *(torch.tensor(0.0), torch.tensor(float("nan")), torch.full((2, 1, 1), 0.25), torch.zeros(2, 1, 1)),
    *(constant(2, 1, 1).half(), constant(2, 1, 1).to(torch.complex64), constant(1).bfloat16()),
    *(constant(4, 1, 3, 3) - 0.8, constant(2, 2, 2, 1) - 0.8, constant(2, 2, 2) - 0.8, constant(4)),
    *(X, Computed(factor=-0.5), Above(), FLAT, Computed(2, 1, 24), None),
]
UNUSUAL = {
    "Tensor": TENSORS,
    "List[Tensor]": [[X], [X, X], [X, constant(1, 2, 4, 6)], [X, FLAT], [X, Computed(2, 4, 6, factor=3.0)]],
    "number": NUMBERS,
    "List[int]": LISTS,
    "bool": [True, False],
    "str": ["none", "tanh", "constant", "reflect", "replicate", "circular", "same", "valid", "floor"],
    "dtype": [
        *(None, torch.float64, torch.float32, torch.half, torch.bfloat16, torch.int32, torch.int64),
        *(torch.uint8, torch.bool, torch.complex64),
    ],
    "Device": [torch.device("cpu"), torch.device("meta"), None],
    "Layout": [None, torch.strided, torch.sparse_coo],
    "memory_format": [None, torch.contiguous_format, torch.channels_last, torch.preserve_format],
}
# Arguments that matter together: each of these is tried with every other.
TOGETHER = {
    "kernel_size": [[2, 2], [3, 2], [3], [1, 4]],
    "stride": [[], [1, 1], [2, 3], [3]],
    "padding": [[0, 0], [1, 0], [1, 1], [1]],
    "dilation": [[1, 1], [2, 1], [2]],
    "ceil_mode": [True, False],
    "count_include_pad": [True, False],
    "divisor_override": [None, 3, 7],
    "groups": [1, 2],
    "rounding_mode": [None, "floor", "trunc"],
    "alpha": [1, -2, 0.5, 0],
    "beta": [1, -2, 0.5, 0],
    "threshold": [20, 25.0, 5],
    "keepdim": [True, False],
}


def schema(name):
    return {argument.name: argument for argument in overload(name)._schema.arguments}


def defaults(name):
    return {argument: one.default_value for argument, one in schema(name).items()}


def kind_of(argument):
    """What values are worth trying for an argument of a schema."""
    words = str(argument.real_type).replace("Optional[", "").replace("SymInt", "int").rstrip("]")
    if words.startswith("List["):
        return "List[Tensor]" if "Tensor" in words else "List[int]"
    named = {"ScalarType": "dtype", "MemoryFormat": "memory_format", "Device": "Device", "Layout": "Layout"}
    return named.get(words, words if words in UNUSUAL else "number")


def calls_of(name):
    """The usual call, each argument changed to every unusual value, and some that change several."""
    usual, arguments = CALLS.get(name, {"self": X}), schema(name)
    yield usual
    for argument, declared in arguments.items():
        kinds = {kind_of(declared), *(("number",) if kind_of(declared) in ("List[int]", "Tensor") else ())}
        for value in itertools.chain.from_iterable(UNUSUAL[kind] for kind in sorted(kinds)):
            yield usual | {argument: value}
    together = {argument: TOGETHER[argument] for argument in TOGETHER if argument in arguments}
    combined = list(itertools.product(*together.values()))
    for values in random.Random(0).sample(combined, min(len(combined), 60)):
        yield usual | dict(zip(together, values, strict=True))
    if {"self", "other"} <= arguments.keys() and isinstance(usual["other"], Tensor):
        yield usual | {"self": usual["other"], "other": usual["self"]}
        yield {"self": X, "other": Computed(factor=-0.5)}


def substituted(call, replace):
    """The call with what stands for a computed value replaced."""

    def of(value):
        if isinstance(value, list):
            return [of(one) for one in value]
        return replace(value) if isinstance(value, Computed) else value

    return {name: of(value) for name, value in call.items()}


def tensors(found):
    return [found] if isinstance(found, (Tensor, Value)) else list(found)


def truth(name, call, images):
    """What PyTorch makes of each image: its outputs, and the gradient of a weighted sum of the first."""
    made, gradients = [], []
    for image in images:
        image = image[None].clone().requires_grad_()
        outputs = tensors(overload(name)(**substituted(call, lambda one, x=image: one.as_tensor(x))))
        weighted = (0.3 + torch.arange(outputs[0].numel()).double()) @ outputs[0].double().flatten()
        gradients.append(torch.autograd.grad(weighted, image)[0][0])
        made.append([out.detach() for out in outputs])
    return [torch.stack(one) for one in zip(*made, strict=True)], torch.stack(gradients)


def outcome(name, call, images):
    """'read' where the graph is the operator's function; 'refused'; 'impossible' where PyTorch has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected, gradient = truth(name, call, images)
    except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError, OverflowError):
        return "impossible"
    assembler = Assembler(MAP)
    assembler.where = f"layer {name!r}"
    try:
        given = substituted(call, lambda one: one.as_value(assembler))
        values = tensors(OPERATORS[name](assembler, defaults(name) | given))
        graphs = [assembler.build(value) for value in values]
    except ModelError:
        return "refused"
    for value, graph, wanted in zip(values, graphs, expected, strict=False):
        assert assembler.shape(value) == tuple(wanted.shape[1:]), (name, call)
        # float32 rounds no more than a whole network of its kind.
        close = {torch.float64: 1e-9, torch.float32: 1e-5}[wanted.dtype]
        ours, wanted = graph.forward(images), wanted.double().reshape(len(images), -1)
        assert torch.allclose(ours, wanted, 1e-6, close), (name, call)
    row = assembler.reshape(values[0], (1, expected[0][0].numel()))
    weights = 0.3 + np.arange(expected[0][0].numel())
    weighted = assembler.build(assembler.dense(row, np.stack([weights, -weights]), None))
    ours = weighted.gradient_at(images, 0)
    close = {torch.float64: 1e-9, torch.float32: 1e-5}[expected[0].dtype]
    assert torch.allclose(ours, gradient, atol=close), (name, call)
    return "read"


@pytest.fixture(scope="module")
def images():
    """Points of all signs and sizes, so that every unit is seen on every piece, and on its kinks."""
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn((POINTS - 2, *MAP), generator=generator, dtype=torch.float64)
    numbers *= torch.logspace(-1, 1, len(numbers), dtype=torch.float64)[:, None, None, None]
    chosen = torch.randint(len(ON_KINKS), (2, *MAP), generator=generator)
    return torch.cat([numbers, torch.tensor(ON_KINKS, dtype=torch.float64)[chosen]])


@pytest.mark.parametrize("name", OPERATORS)
def test_every_argument_is_read_in_full_or_refused(name, images):
    # At the upper limit of these PyTorch has 0, and a point on a kink belongs to the piece below it.
    # The length of a vector of zeros has no derivative.
    points = images[:-2] if name in ("hardtanh", "relu6", "linalg_vector_norm") else images
    found = [outcome(name, call, points) for call in calls_of(name)]
    assert found[0] == "read", "the usual call is what the table is for"


@pytest.mark.parametrize("name", OPERATORS)
def test_every_argument_is_declared_and_tried(name):
    assert overload_name(overload(name)) == name
    assert set(OPERATORS[name].arguments) == set(schema(name))
    needed = {one for one, argument in schema(name).items() if not argument.has_default_value()}
    assert needed <= set(CALLS.get(name, {"self": X})) | {"dim"}, "say in CALLS how it is called"


def test_an_argument_that_is_not_declared_is_refused():
    assembler = Assembler(MAP)
    with pytest.raises(ModelError, match="its argument 'memory' is not known"):
        OPERATORS["relu"](assembler, {"self": assembler.pixels, "memory": 3})


PER_CHANNEL = torch.tensor([0.1, 0.4])[:, None, None]


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("clamp.Tensor", {"max": PER_CHANNEL}, r"'max' is a tensor of shape \(2, 1, 1\) .* equal numbers"),
        ("clamp_min.Tensor", {"min": PER_CHANNEL}, "argument 'min' is a tensor"),
        ("convolution", {"transposed": True}, "argument 'transposed' is True; allowed is False"),
        ("conv2d", {"weight": X}, "argument 'weight' is computed from the image; allowed is a constant"),
        ("to.dtype", {"dtype": torch.int32}, "argument 'dtype' is torch.int32; allowed is .* float64"),
        ("dropout", {"train": True}, "argument 'train' is True"),
        ("softplus", {"threshold": float("nan")}, "argument 'threshold' is nan"),
        ("div.Tensor_mode", {"rounding_mode": "floor"}, "'rounding_mode' is 'floor'; allowed is None"),
        ("pad", {"mode": "reflect"}, "argument 'mode' is 'reflect'; allowed is 'constant'"),
        ("mean.dim", {"dtype": torch.half}, "argument 'dtype' is torch.float16"),
    ],
)
def test_a_refusal_names_the_argument(name, changed, message):
    assembler = Assembler(MAP)
    assembler.where = f"layer {name!r}"
    call = substituted(CALLS.get(name, {"self": X}) | changed, lambda one: one.as_value(assembler))
    with pytest.raises(ModelError, match=message):
        OPERATORS[name](assembler, defaults(name) | call)
