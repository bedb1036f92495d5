"""Modules of today, written as ONNX by both of PyTorch's exporters, against the module."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings

import numpy as np
import pytest
import torch

from network.reading.from_torch.test_torch_layers import BODIES, SHAPE, module_of
from steadygaze.network.reading.fidelity import check_fidelity
from steadygaze.network.reading.load import load_network

# The exporters themselves have no way for these, write a file that no runtime takes, or fix the batch.
NOT_WRITTEN = {
    "old": ("averages in one dimension", "einsum", "maxout", "other orders", "stacked", "uneven maxima"),
    "new": ("averages in one dimension", "uneven maxima", "made of constants"),
}
# The first set of operators that has what they need.
OPERATORS = {"made of constants": 14, "folded": 18}
# Written as choices between computed values (Where), or among others, which are not read from ONNX.
CHOICES = ("soft shrinkage", "threshold", "uneven averages", "area")
NOT_WRITTEN["old"] += ("channel shuffle",)
# Both write the grid of as many images as they were shown.
FIXED = ("at places of a grid",)
# Recurrent layers are read from PyTorch alone; the newer exporter writes one of them step by step.
RECURRENT = ("recurrent", "recurrent both ways")
FAST = (("class token and places", "old"), ("bilinear by a factor", "old"), ("reflected", "new"))
CASES = [
    pytest.param(name, kind, marks=() if (name, kind) in FAST else pytest.mark.slow)
    for kind, left_out in NOT_WRITTEN.items()
    for name in BODIES
    if name not in (*left_out, *CHOICES, *RECURRENT, *FIXED)
]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_an_exported_file_is_the_module(name, kind, tmp_path):
    module, path, images = module_of(name), tmp_path / "net.onnx", torch.zeros(2, *SHAPE)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            if kind == "old":
                options = {"opset_version": OPERATORS.get(name, 11), "dynamic_axes": {"image": {0: "batch"}}}
            else:
                batch = ({0: torch.export.Dim("batch")},)
                options = {"external_data": False, "dynamic_shapes": batch, "verbose": False}
            torch.onnx.export(
                module,
                (images,),
                path,
                dynamo=kind == "new",
                input_names=["image"],
                output_names=["logits"],
                **options,
            )
        finally:
            logging.disable(logging.NOTSET)
    network = load_network(path, input_shape=SHAPE)
    images = np.random.default_rng(0).uniform(0, 1, (5, *SHAPE))
    check_fidelity(network, images)
    expected = module(torch.from_numpy(images).float()).detach().numpy()
    assert np.allclose(network.graph.forward(torch.from_numpy(images)).numpy(), expected, atol=1e-4)
