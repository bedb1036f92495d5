"""Units that are 0 on whole regions, and windows that tie there: rounding must not choose their piece.

Right values are by hand: where kernels sum to 0, brightness changes no pre-activation, and the map is the
same for every theta.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import steadygaze as sg

ENGINES = ("sweep", "bfs", "gbs", "nearest", "bound", "auto")
SOBEL = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
LAPLACE = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
KERNELS = torch.stack([SOBEL, SOBEL.T, -SOBEL, -SOBEL.T, LAPLACE, -LAPLACE])[:, None]

every = pytest.mark.parametrize("method", ENGINES)


def edges(activation: nn.Module, *behind: nn.Module) -> nn.Module:
    """Edge detectors, then a head of three classes."""
    torch.manual_seed(0)
    conv = nn.Conv2d(1, len(KERNELS), 3, bias=False)
    body = nn.Sequential(conv, activation, *behind, nn.Flatten())
    width = body(torch.zeros(1, 1, 8, 8)).shape[1]
    head = nn.Linear(width, 3)
    with torch.no_grad():
        conv.weight.copy_(KERNELS)
        head.weight.normal_()
        head.bias.zero_()
    return nn.Sequential(*body, head)


def spotted(grey: float) -> np.ndarray:
    """A flat background with a bright spot."""
    image = np.full((1, 8, 8), grey)
    image[0, 2:4, 3:5] = 0.8
    return image


def verified(module: nn.Module, image: np.ndarray, chain, method: str, **options):
    return sg.verify(module, image, chain, method=method, threads=1, threshold=0.1, **options)


@every
@pytest.mark.parametrize("grey", [0.1, 0.3])
def test_brightness_changes_nothing_that_edge_detectors_see(method, grey):
    answer = verified(edges(nn.ReLU()).double(), spotted(grey), sg.Brightness(-0.05, 0.05), method, clip=None)
    assert answer.verdict.value == "robust"
    assert answer.shares.robust == pytest.approx(1)
    assert answer.at([0.01]).inconsistency == pytest.approx(0, abs=1e-12)


@every
@pytest.mark.parametrize(
    "layers",
    [
        (nn.ReLU(), nn.MaxPool2d(2)),
        (nn.LeakyReLU(0.2),),
        (nn.Hardtanh(0.0, 1.0),),
        (nn.MaxPool2d(2), nn.ReLU()),
    ],
    ids=["pool of ties", "leaky", "at the end of a clip", "pool first"],
)
def test_behind_other_activations(method, layers):
    answer = verified(edges(*layers).double(), spotted(0.3), sg.Brightness(-0.05, 0.05), method, clip=None)
    assert answer.verdict.value == "robust"
    assert answer.at([-0.03]).inconsistency == pytest.approx(0, abs=1e-12)


@every
def test_a_constant_image_blended_with_its_own_blur_is_the_same_image(method):
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)
    ).double()
    answer = verified(module, np.full((1, 8, 8), 0.3), sg.Blend(0, 1, target="blur"), method)
    assert answer.verdict.value == "robust"
    assert answer.at([0.7]).inconsistency == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("method", ["sweep", "bound"])
def test_in_single_precision_the_noise_of_the_original_raises_no_alarm(method):
    answer = verified(edges(nn.ReLU()), spotted(0.3), sg.Brightness(-0.05, 0.05), method, clip=None)
    assert answer.verdict.value == "robust"


def test_a_dead_channel_is_as_if_it_were_not_there():
    with_dead, without = (edges(nn.ReLU()).double() for _ in range(2))
    with torch.no_grad():
        without[0].weight[4:] = 0.0
        with_dead[0].weight[4:] = torch.stack([SOBEL + SOBEL.T - SOBEL - SOBEL.T, 0 * LAPLACE])[:, None]
    chain = sg.Patch(0, 1, top=1, left=1, size=2)
    one, other = (verified(module, spotted(0.3), chain, "sweep") for module in (with_dead, without))
    assert vars(one.shares) == pytest.approx(vars(other.shares), abs=1e-12)


def detector_file(path: Path) -> str:
    """Edge detectors with a head, in an ONNX file of single precision, by the onnx package alone."""
    rng = np.random.default_rng(0)
    weights = {
        "kernels": KERNELS.numpy(),
        "head": rng.normal(size=(10, len(KERNELS) * 13 * 13)),
        "bias": rng.normal(size=10),
    }
    nodes = [
        helper.make_node("Conv", ["x", "kernels"], ["edges"], strides=[2, 2]),
        helper.make_node("Relu", ["edges"], ["seen"]),
        helper.make_node("Flatten", ["seen"], ["flat"]),
        helper.make_node("Gemm", ["flat", "head", "bias"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "detectors",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 1, 28, 28))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, 10))],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return str(path)


@every
def test_a_real_digit_in_single_precision(method, shared, tmp_path):
    """The background is 0 everywhere, and brightness lifts it evenly."""
    image = sg.load_image(f"idx:{shared}/data/mnist:0").image
    model = detector_file(tmp_path / "detectors.onnx")
    answer = verified(model, image, sg.Brightness(0, 0.2), method, clip=None)
    assert answer.verdict.value == "robust"
    assert answer.shares.robust == pytest.approx(1)
    assert answer.at([0.13]).inconsistency == pytest.approx(0, abs=1e-6)


def test_the_answer_notes_what_rounding_decides():
    chain = sg.Patch(0, 1, top=1, left=1, size=2)
    answer = sg.verify(edges(nn.ReLU()), spotted(0.3), chain, threshold=0.001, threads=1, clip=None)
    assert answer.result.nearest_failure.kind == "attention-changed"
    first, second = answer.result.notes
    assert first.startswith("The map S(x0) of the unperturbed image is decided by rounding")
    assert second.startswith("The map of the nearest failure")


def test_the_answer_notes_units_at_the_upper_end_of_a_clip():
    """White pixels that nothing moves: PyTorch's slope there is 0, the convention's that inside."""
    torch.manual_seed(2)
    module = nn.Sequential(nn.Hardtanh(0.0, 1.0), nn.Flatten(), nn.Linear(64, 3)).double()
    image = np.full((1, 8, 8), 0.5)
    image[0, 6:] = 1.0
    answer = verified(module, image, sg.Patch(0, 0.2, top=1, left=1, size=2), "sweep")
    assert len(answer.result.notes) == 1


def test_nothing_is_noted_of_zeros_or_where_no_unit_is_near():
    assert verified(edges(nn.ReLU()), spotted(0.0), sg.Brightness(0, 0.0001), "sweep").result.notes == ()
    torch.manual_seed(3)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 3))
    assert verified(module, spotted(0.3), sg.Brightness(-0.1, 0.1), "sweep").result.notes == ()


def blank_with_a_spot() -> np.ndarray:
    """Black but for a spot, so that whole windows of two by two hold a bias and nothing else."""
    image = np.zeros((1, 8, 8))
    image[0, 2:5, 2:5] = np.random.default_rng(1).uniform(0.3, 0.9, (3, 3))
    return image


def pooling(units: nn.Module) -> nn.Module:
    torch.manual_seed(4)
    conv = nn.Conv2d(1, 4, 3, padding=1)
    with torch.no_grad():
        conv.bias.copy_(torch.rand(4) + 0.1)
    return nn.Sequential(conv, units, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 3))


def test_windows_over_a_blank_background_are_told_as_a_convention():
    """A bias and nothing else is the same in every runtime: nothing of it is rounding."""
    module = pooling(nn.ReLU())
    answer = verified(module, blank_with_a_spot(), sg.Brightness(0, 0.1), "sweep")
    (note,) = answer.result.notes
    assert note.startswith("The map S(x0) of the unperturbed image follows a convention")
    assert "rounding" not in note
    pixels = torch.from_numpy(blank_with_a_spot()).float()[None].requires_grad_()
    logits = module(pixels)[0]
    (own,) = torch.autograd.grad(logits[int(logits.argmax())], pixels)
    problem = answer.problem
    found = problem.network.graph.gradient_at(pixels.detach().double(), problem.label)
    assert found.reshape(8, 8).numpy() == pytest.approx(own[0, 0].numpy(), abs=1e-6)  # PyTorch's convention


def test_units_that_a_bias_puts_on_a_breakpoint_are_not_told_as_windows():
    """PyTorch's slope at 6 is 0, that of the piece below is 1; no window is anywhere."""
    torch.manual_seed(1)
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.ReLU6(), nn.Linear(6, 3)).double()
    with torch.no_grad():
        module[1].weight[0] = 0
        module[1].weight[0, :4] = torch.tensor([0.7, 0.3, -0.4, 0.2])
        module[1].bias[0] = 6.0
    image = np.random.default_rng(0).uniform(0.2, 0.8, (1, 4, 4))
    image[0, 0] = 0
    answer = verified(module, image, sg.Patch(-0.05, 0.05, top=2, left=2, size=1), "sweep")
    (note,) = answer.result.notes
    assert note.startswith("The map S(x0) of the unperturbed image is decided by rounding")


class Folded(nn.Module):
    """|x|, or the larger of x and of a share of it: at 0 PyTorch's slope is in between."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.abs() if self.share == -1 else torch.maximum(x, self.share * x)


@pytest.mark.parametrize("share", [-1.0, -0.5])
@pytest.mark.parametrize("saliency", ["gradient", "abs-gradient"])
def test_slopes_between_two_pieces_are_told_as_a_convention(share, saliency):
    """A black background is exactly 0 in every runtime, and where a pixel is lifted its map jumps."""
    torch.manual_seed(5)
    module = nn.Sequential(Folded(share), nn.Flatten(), nn.Linear(64, 3)).double()
    chain = sg.Brightness(0, 0.2)
    answer = sg.verify(module, blank_with_a_spot(), chain, saliency=saliency, threshold=0.1, method="sweep")
    note = answer.result.notes[0]
    assert note.startswith("The map S(x0) of the unperturbed image follows a convention: an absolute value")
    assert answer.at([0.1]).kind == ("robust" if answer.verdict == "robust" else "attention-changed")
    bright = sg.verify(module, blank_with_a_spot() + 0.01, chain, saliency=saliency, method="sweep")
    assert bright.result.notes == ()


# -- with level units, or without them: the same answer

FLAT = np.arange(24).reshape(4, 6)[:, :3].flatten()  # the pixels of the image's flat half
CHAINS = {
    "brightness, cut off by the clip": (lambda grey: sg.Brightness(-0.15, 0.15), (0.0, 1.0)),
    "contrast and brightness": (lambda grey: sg.Contrast(-0.2, 0.2) | sg.Brightness(-0.1, 0.1), None),
    "patch": (lambda grey: sg.Patch(0, 1, top=1, left=4, size=2) | sg.Brightness(-0.1, 0.1), None),
    "translate": (lambda grey: sg.Translate(dx=(0, 1), fill=grey), None),
    "translate and brightness": (
        lambda grey: sg.Translate(dx=(0, 1), fill=grey) | sg.Brightness(-0.1, 0.2),
        (0.0, 1.0),
    ),
}
FAST = ("brightness, cut off by the clip", "translate")


def half_flat(grey: float, seed: int) -> np.ndarray:
    image = np.random.default_rng(seed).uniform(0.1, 0.9, (1, 4, 6))
    image.reshape(-1)[FLAT] = grey
    return image


def with_units(kernels: np.ndarray, seed: int) -> nn.Module:
    """Four units that see all of the image, and others ``(k, 12)`` that see its flat half alone."""
    torch.manual_seed(seed)
    rows = torch.zeros(len(kernels), 24, dtype=torch.float64)
    rows[:, FLAT] = torch.from_numpy(kernels)
    own, head = nn.Linear(24, 4).double(), nn.Linear(4, 3).double()
    further = torch.randn(3, 3, dtype=torch.float64)
    hidden, last = nn.Linear(24, 4 + len(rows)).double(), nn.Linear(4 + len(rows), 3).double()
    with torch.no_grad():
        hidden.weight.copy_(torch.cat([own.weight, rows]))
        hidden.bias.copy_(torch.cat([own.bias, torch.zeros(len(rows))]))
        last.weight.copy_(torch.cat([head.weight, further[:, : len(rows)]], dim=1))
        last.bias.copy_(head.bias)
    return nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), last)


@st.composite
def kernels_that_see_nothing(draw):
    """One to three kernels of tenths or eighths that sum to 0."""
    share = draw(st.sampled_from([10.0, 8.0]))
    numbers = st.lists(st.integers(-9, 9), min_size=11, max_size=11)
    rows = draw(st.lists(numbers, min_size=1, max_size=3))
    return np.array([[*row, -sum(row)] for row in rows]) / share


@every
@pytest.mark.parametrize(
    "chain", [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in CHAINS]
)
@settings(max_examples=3)
@given(kernels=kernels_that_see_nothing(), grey=st.sampled_from([0.1, 0.3, 0.9]), seed=st.integers(0, 50))
def test_level_units_change_nothing(method, chain, kernels, grey, seed):
    make, clip = CHAINS[chain]
    image = half_flat(grey, seed)
    try:
        without = verified(with_units(kernels[:0], seed), image, make(grey), method, clip=clip)
    except sg.SettingError:  # no attention to follow
        assume(False)
    answer = verified(with_units(kernels, seed), image, make(grey), method, clip=clip)
    assert answer.verdict == without.verdict
    for name, share in vars(without.shares).items():
        assert getattr(answer.shares, name) == pytest.approx(share, abs=2e-3 if method == "bound" else 1e-7)
    assert answer.safe_scale == pytest.approx(without.safe_scale, abs=1e-2 if method == "bound" else 1e-7)
    theta = answer.problem.box.mean(axis=1)
    assert answer.at(theta).inconsistency == pytest.approx(without.at(theta).inconsistency, abs=1e-9)


def of_many_scales(window: bool) -> nn.Module:
    """At 0 of pixel 1 a unit, or a window, picks by 5e-5 where it sums 1e8 elsewhere."""
    picking = nn.MaxPool1d(2) if window else nn.ReLU()
    first, head = nn.Linear(2, 4), nn.Linear(2 if window else 4, 2)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, -1e8], [1.0, 0.0], [0.0, 0.0]]))
        first.bias.copy_(torch.tensor([0.0, 5e-5, 1.0, 0.0]))
        head.weight.zero_()
        small, steady = (0, 1) if window else (1, 2)
        head.weight[0, small], head.weight[0, steady], head.bias[1] = 1e8, 1e6, -1.0
    return nn.Sequential(
        nn.Flatten(2) if window else nn.Flatten(), first, picking, nn.Flatten(), head
    ).double()


@every
@pytest.mark.parametrize("window", [False, True], ids=["unit", "window"])
def test_a_unit_of_small_terms_is_not_level_because_it_has_large_ones_elsewhere(method, window):
    # Where pixel 1 is black the map is 1e8 (1, -1e8), to a millionth, and as soon as it is not 1e6 (1, 0).
    chain = sg.Contrast(0.125) | sg.Direction(-0.5, 0.5, array=np.array([[[0.0, 1.0]]]))
    answer = sg.verify(of_many_scales(window), np.zeros((1, 1, 2)), chain, method=method, threads=1)
    assert answer.safe_scale == pytest.approx(0.125)
    assert answer.result.origin.ranges[0] == pytest.approx((-0.5, 0.0625))
    assert answer.at([0.25]).kind == "attention-changed"
    assert answer.at([-0.25]).kind == "robust"
    if method != "gbs":
        assert answer.shares.attention_changed == pytest.approx(0.4375)


@every
def test_the_reason_says_why_a_share_is_undecided_where_a_failure_is_known(method):
    # The one pixel counts by 1, above 0.8 by -2; below 0.4 by 1e-14, which is no direction beside 1.
    first, head = nn.Linear(1, 3), nn.Linear(3, 2)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0], [1e-14], [1.0]]))
        first.bias.copy_(torch.tensor([-0.4, 1.0, -0.8]))
        head.weight.copy_(torch.tensor([[1.0, 1.0, -3.0], [0.0, 0.0, 0.0]]))
        head.bias.copy_(torch.tensor([0.0, -1.0]))
    module = nn.Sequential(nn.Flatten(), first, nn.ReLU(), head).double()
    answer = verified(module, np.full((1, 1, 1), 0.5), sg.Brightness(-0.4, 0.4), method, clip=None)
    assert answer.verdict.value == "violated"
    assert answer.shares.undecided == pytest.approx(0.375)
    assert "37.50% of the box" in answer.result.reason
    assert "undecided" in answer.result.reason


@every
def test_a_gap_of_small_terms_is_not_0_because_it_has_large_ones_elsewhere(method):
    # It falls by 5.5 from 3, to -0.3, and rises by 1e11 from 0.6 on; a share of that last is the tolerance.
    first, head = nn.Linear(1, 2), nn.Linear(2, 2)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1e11], [1.0]]))
        first.bias.copy_(torch.tensor([-0.6e11, 0.0]))
        head.weight.copy_(torch.tensor([[1.0, -5.5], [0.0, 0.0]]))
        head.bias.copy_(torch.tensor([3.0, 0.0]))
    module = nn.Sequential(nn.Flatten(), first, nn.ReLU(), head).double()
    chain = sg.Brightness(0, 1)
    answer = sg.verify(module, np.zeros((1, 1, 1)), chain, method=method, claim="class", threads=1)
    assert answer.verdict.value == "violated"
    assert answer.safe_scale == pytest.approx(6 / 11, abs=1e-9)
    if method != "gbs":
        assert answer.shares.class_changed == pytest.approx(0.6 - 6 / 11, abs=1e-7)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("method", ["sweep", "bound"])
@pytest.mark.parametrize("bent", [nn.ReLU6(), nn.Hardtanh(0.0, 1.0)], ids=str)
def test_a_unit_of_small_terms_is_not_level_because_a_breakpoint_is_far_away(bent, method, seed):
    """Of terms of 1e-9 a unit of 1e-11 is on one side of 0, however little that is beside 6."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8, bias=False), bent, nn.Linear(8, 3)).double()
    with torch.no_grad():
        net[1].weight.mul_(1e-9)
    image = np.random.default_rng(seed).random((1, 4, 4))
    chain = sg.Contrast(-0.3, 0.3) | sg.Brightness(-0.3, 0.3)
    problem = sg.verify(net, image, chain, threshold=0.05, clip=None, method=method, threads=1).problem
    thetas = problem.box[:, 0] + np.random.default_rng(9).random((300, 2)) * np.ptp(problem.box, axis=1)
    images = torch.as_tensor(problem.images(thetas)).reshape(-1, 1, 4, 4).requires_grad_()
    (own,) = torch.autograd.grad(net(images)[:, problem.label].sum(), images)
    for found in (problem.at(thetas), problem.replay(thetas)):
        torch.testing.assert_close(found.maps.reshape(own.shape), own, rtol=1e-9, atol=1e-24)


@pytest.mark.parametrize("seed", range(3))
def test_values_that_shrink_from_layer_to_layer_are_not_level_because_a_breakpoint_is_far_away(seed):
    """None of them comes near 6, so that the network is the one with ReLU."""
    found = []
    for bent in (nn.ReLU(), nn.ReLU6()):
        torch.manual_seed(seed)
        parts = [nn.Linear(16 if layer == 0 else 12, 12) for layer in range(4)]
        with torch.no_grad():
            for part in parts:
                part.weight.mul_(1e-4)
                part.bias.zero_()
        bends = [piece for part in parts for piece in (part, bent)]
        net = nn.Sequential(nn.Flatten(), *bends, nn.Linear(12, 3, bias=False))
        image = np.random.default_rng(seed).random((1, 4, 4))
        found.append(sg.verify(net, image, sg.Brightness(-0.3, 0.3), threshold=0.05, clip=None, threads=1))
    relu, relu6 = found
    assert relu6.safe_scale == pytest.approx(relu.safe_scale, abs=1e-9)
    assert relu6.shares.robust == pytest.approx(relu.shares.robust, abs=1e-9)


def test_the_answer_notes_a_map_that_the_original_computes_as_0():
    """Weights of 1e-24 make gradients of 1e-48, which single precision does not know."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        module[1].weight.abs_().mul_(1e-24)
        module[1].bias.fill_(1.0)
        module[3].weight.mul_(1e-24)
    asked = (np.full((1, 4, 4), 0.5), sg.Brightness(-0.05, 0.05), "sweep")
    (note,) = verified(module, *asked).result.notes
    assert "which the original computes as 0" in note
    assert verified(module.double(), *asked).result.notes == ()
