"""The original in its own runtime: in what precision its gradients are taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from onnx_files import array, model_of, node
from steadygaze.network.reading.load import load_network

SHAPE, WIDTH = (1, 3, 3), 40


def module() -> nn.Module:
    """Two dense layers with nothing between them, so that its gradient is a product of their weights."""
    first, second = nn.Linear(9, WIDTH), nn.Linear(WIDTH, 3)
    first.weight.data, first.bias.data = torch.from_numpy(array(WIDTH, 9)), torch.ones(WIDTH)
    second.weight.data = torch.from_numpy(array(3, WIDTH, seed=1))
    return nn.Sequential(nn.Flatten(), first, second).eval()


def file(folder: Path) -> Path:
    constants = {"w": array(WIDTH, 9), "v": array(3, WIDTH, seed=1)}
    layers = [node("Gemm", None, "w", transB=1), node("Gemm", None, "v", transB=1)]
    onnx.save(model_of([node("Flatten", None), *layers], constants, shape=SHAPE), folder / "net.onnx")
    return folder / "net.onnx"


@pytest.mark.parametrize("kind", ["onnx", "float32", "float64", "one logit"])
def test_gradients_are_in_double_precision_where_it_is_said(kind, tmp_path):
    model = file(tmp_path) if kind == "onnx" else module().to(torch.float32)
    if kind == "one logit":
        model = nn.Sequential(*module()[:2], nn.Linear(WIDTH, 1)).double().eval()
    if kind == "float64":
        model = module().double()
    original = load_network(model, input_shape=SHAPE).original
    assert original.differentiates_in_double == (kind != "float32")
    if kind != "one logit":
        exact = array(3, WIDTH, seed=1).astype(float)[1] @ array(WIDTH, 9).astype(float)
        off = np.abs(original.gradients(np.full((1, *SHAPE), 0.5), 1).ravel() - exact).max()
        assert (off < 1e-12) == (kind != "float32")
