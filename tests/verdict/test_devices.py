"""`device="cuda"` answers as the processor does: on a GPU where there is one, and on tensors that say so."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import astuple, replace

import numpy as np
import pytest
import torch

from second_device import Moved, second_device
from sparing import sparing
from steadygaze.network.bounding.tightening import Effort
from steadygaze.network.saliencies import SALIENCIES
from steadygaze.verdict.answer import Answer
from steadygaze.verdict.driver import verify
from steadygaze_check.command import main as check
from variants import Variant


@pytest.fixture(params=["emulated", "cuda"])
def device(request):
    """Where `cuda` is a device."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device here")
    with second_device() if request.param == "emulated" else nullcontext():
        yield


def answered(variant: Variant, **asked) -> Answer:
    given = {"threshold": 0.3, "threads": 2, **asked}
    return verify(variant.module, variant.image, variant.perturbation, device=variant.device, **given)


def agree(variant: Variant, **asked) -> Answer:
    """The answer by the device, which is that of the processor."""
    here, there = (answered(replace(variant, device=device), **asked) for device in ("cpu", "cuda"))
    assert there.result.settings["device"].startswith("cuda")
    assert there.verdict == here.verdict
    assert astuple(there.shares) == pytest.approx(astuple(here.shares), abs=1e-6)
    assert there.safe_scale == pytest.approx(here.safe_scale, abs=1e-6)
    return there


def test_what_is_emulated_keeps_to_the_rules_of_devices():
    with second_device():
        there, here = torch.arange(6.0).reshape(2, 3).to("cuda"), torch.ones(3)
        assert there.device == torch.device("cuda:0")
        assert there.is_cuda
        for own in (there + 1, there[0], there[torch.tensor([0])], there.new_zeros(2), there.max(0).values):
            assert isinstance(own, Moved)
        assert not isinstance(there.cpu(), Moved)
        assert float(there.sum()) == 15.0
        for mixed in (
            lambda: there + here,
            lambda: torch.stack([there[0], here]),
            lambda: here[there[0].long()],
            lambda: there.__setitem__(torch.tensor([0]), here),
            lambda: torch.where(there > 1, there, here),
            lambda: torch.nn.functional.linear(here, there),
        ):
            with pytest.raises(RuntimeError, match="same device"):
                mixed()
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("method", "claim"),
    [
        ("sweep", "attention"),
        ("bound", "class"),
        ("auto", "class"),
        pytest.param("bound", "attention", marks=SLOW),
        pytest.param("nearest", "attention", marks=SLOW),
        pytest.param("bfs", "attention", marks=SLOW),
        pytest.param("gbs", "attention", marks=SLOW),
    ],
)
def test_searches_answer_alike(device, method, claim, tmp_path):
    answer = agree(Variant("max pool", "spot"), method=method, claim=claim)
    answer.save(tmp_path, certificate=method == "sweep", picture=True)
    assert answer.at(answer.problem.box[:, 1] / 2) is not None
    if method == "sweep":
        assert check([str(tmp_path / "certificate")]) == 0


@pytest.mark.parametrize(
    "variant",
    [
        Variant("residual", "shift"),
        Variant("absolute", "one-sided", clip=None),
        Variant("recurrent", "spot"),
        Variant("colour conv", "colour spot"),
        pytest.param(Variant("extremes", "shift, brighter"), marks=SLOW),
        pytest.param(Variant("only rectified", "contrast"), marks=SLOW),
        pytest.param(Variant("two classes", "three"), marks=SLOW),
    ],
    ids=str,
)
def test_networks_and_perturbations_answer_alike(device, variant):
    agree(variant)


@pytest.mark.parametrize(
    ("net", "chain", "asked"),
    [
        ("max pool", "brightness", {"saliency": "grad-cam"}),
        pytest.param("mlp", "one-sided", {"saliency": "integrated-gradients", "undecided": 0.5}, marks=SLOW),
        ("wide", "brightness", {"inconsistency": "top-k(3)"}),
        ("wide", "brightness", {"method": "nearest", "norm": "l2"}),
        pytest.param("mlp", "spot", {"saliency": "softmax-gradient", "undecided": 0.5}, marks=SLOW),
        pytest.param("wide", "spot", {"saliency": "gradient-x-input"}, marks=SLOW),
        pytest.param("wide", "spot", {"inconsistency": "linf"}, marks=SLOW),
        pytest.param("colour conv", "spot", {"channel_sum": True}, marks=SLOW),
        pytest.param("mlp", "spot", {"method": "gbs", "prove_interior": True}, marks=SLOW),
        pytest.param("wide", "spot", {"method": "bfs", "reachable": True}, marks=SLOW),
    ],
)
def test_maps_measures_and_settings_answer_alike(device, net, chain, asked):
    agree(Variant(net, chain), **asked)


@pytest.mark.parametrize("saliency", sparing(SALIENCIES))
def test_points_are_those_of_the_processor(device, saliency):
    variant = Variant("max pool", "spot", saliency=saliency)
    here, there = (replace(variant, device=where).problem for where in ("cpu", "cuda"))
    thetas = variant.draw(20)
    for asked in ("at", "replay"):
        expected, found = (getattr(problem, asked)(thetas) for problem in (here, there))
        np.testing.assert_allclose(found.gap, expected.gap, rtol=1e-9)
        np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-6, atol=1e-9)
        np.testing.assert_array_equal(found.kind, expected.kind)


@pytest.mark.parametrize(
    ("variant", "effort"),
    [
        (Variant("residual", "spot"), Effort.UNITS),
        pytest.param(Variant("max pool", "turn"), Effort.GAPS, marks=SLOW),
        (Variant("max pool", "turn"), Effort.UNITS),
        pytest.param(Variant("silu conv", "three"), Effort.FORMS, marks=SLOW),
        (Variant("gelu", "brightness"), Effort.POLYNOMIALS),
        pytest.param(Variant("hardtanh", "gamma"), Effort.UNITS, marks=SLOW),
        (Variant("softplus", "blurred"), Effort.GAPS),
    ],
    ids=str,
)
def test_bounds_are_those_of_the_processor(device, variant, effort):
    """As wide, but for what is known to twice the precision or in single precision on a processor alone."""
    here, there = (replace(variant, device=where).problem for where in ("cpu", "cuda"))
    box = here.box / 16
    thetas = box[:, 0] + np.random.default_rng(3).random((50, len(box))) * np.ptp(box, axis=1)
    points = here.at(thetas)
    widths = []
    for problem in (here, there):
        bounds = problem.bounds(box[None], 32, effort)
        gaps = [end.cpu().numpy()[0].min() for end in bounds.gaps(problem.label)]
        drift = [float(end[0]) for end in problem.enclosed_inconsistency(box[None], bounds)]
        assert gaps[0] <= points.gap.min()
        assert gaps[1] >= points.gap.max()
        assert drift[0] - 1e-9 <= points.inconsistency.min()
        assert points.inconsistency.max() <= drift[1] + 1e-9
        widths.append(np.subtract(gaps[1], gaps[0]))
    assert widths[1] <= 1.001 * widths[0] + 1e-9
