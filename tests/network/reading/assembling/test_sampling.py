"""Maps read at places that are computed from the image, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

import steadygaze as sg
from steadygaze.errors import ModelError
from written_bodies import read

SHAPE = (3, 4, 5)
# Two numbers for each place, from four of the map's, spread beyond its edges.
MIXED = torch.randn(60, 24, generator=torch.Generator().manual_seed(5)) / 6
TURNED = torch.randn(60, 6, generator=torch.Generator().manual_seed(6)) / 8


def looking(padding: str = "zeros", corners: bool = False, mode: str = "bilinear"):
    def body(x):
        grid = (x.flatten(1) @ MIXED.to(x.dtype)).reshape(-1, 3, 4, 2)
        return functional.grid_sample(x, grid, mode, padding, corners)

    return body


def turning(corners: bool):
    def body(x):
        plain = torch.tensor([1.0, 0, 0, 0, 1, 0], dtype=x.dtype)
        theta = (plain + x.flatten(1) @ TURNED.to(x.dtype)).view(-1, 2, 3)
        grid = functional.affine_grid(theta, [len(x), 3, 4, 6], align_corners=corners)
        return functional.grid_sample(x, grid, align_corners=corners)

    return body


BODIES = {
    "zeros": looking(), "zeros-corners": looking(corners=True), "border": looking("border"),
    "border-corners": looking("border", True), "affine": turning(False), "affine-corners": turning(True),
}  # fmt: skip


@pytest.mark.parametrize("form", ["module", "onnx"])
@pytest.mark.parametrize("name", BODIES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_values_and_gradients_are_those_of_pytorch(name, form, tmp_path):
    network, module = read(BODIES[name], SHAPE, tmp_path, form, opset=20 if "affine" in name else 17)
    pixels = torch.from_numpy(np.random.default_rng(2).uniform(0, 1, (6, *SHAPE))).requires_grad_()
    logits = module(pixels)
    (slopes,) = torch.autograd.grad(logits[:, 1].sum(), pixels)
    torch.testing.assert_close(network.graph.forward(pixels.detach()), logits.detach(), rtol=0, atol=1e-6)
    found = network.graph.gradient_at(pixels.detach(), 1).reshape(slopes.shape)
    torch.testing.assert_close(found, slopes, rtol=0, atol=1e-5 * float(slopes.abs().max()))


@pytest.mark.parametrize(("mode", "padding"), [("nearest", "zeros"), ("bilinear", "reflection")])
def test_what_jumps_or_bends_otherwise_is_refused(mode, padding, tmp_path):
    with pytest.raises(ModelError, match=r"allowed are bilinear and zeros or border"):
        read(looking(padding, mode=mode), SHAPE, tmp_path, "module")


@pytest.mark.parametrize("claim", [pytest.param("class", marks=pytest.mark.slow), "attention"])
def test_what_is_certified_of_a_spatial_transformer_holds_where_it_is_sampled(claim, tmp_path):
    network, _ = read(turning(False), SHAPE, tmp_path, "module")
    image = np.random.default_rng(3).uniform(0.1, 0.9, SHAPE)
    chain = sg.Brightness(-0.1, 0.1) | sg.Patch(0, 0.3, top=1, left=1, size=2)
    answer = sg.verify(network, image, chain, claim=claim, regions_limit=200, threads=1)
    assert (answer.safe_scale or 0) > 0
    for u in np.random.default_rng(4).uniform(0, 1, (60, 2)):
        point = answer.at((u * [0.2, 0.3] - [0.1, 0.0]) * answer.safe_scale)
        assert point.kind == "robust"
