"""The network from parameters to logits, against the perturbation and the network one after the other."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

import variants
from steadygaze.export.parameter_network import parameter_network
from steadygaze.network.writing.onnx_writer import Writer, onnx_of


def points_within(vertices: np.ndarray, count: int) -> np.ndarray:
    """Mixtures of the vertices, the vertices among them."""
    weights = np.random.default_rng(0).dirichlet(np.ones(len(vertices)), count)
    return np.vstack([vertices, weights @ vertices])


@pytest.mark.parametrize("variant", variants.EVERY, ids=str)
def test_it_is_the_chain_then_the_clip_then_the_network(variant):
    problem = variant.problem
    for piece in problem.pieces[:3]:
        thetas = points_within(piece.polytope.vertices, 20)
        wanted = problem.network.graph.forward(problem.images(thetas)).numpy()
        network = parameter_network(problem.network.graph, piece.image, problem.clip)
        found = network.forward(torch.from_numpy(thetas)).numpy()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-11 * max(1.0, np.abs(wanted).max()))


@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
@pytest.mark.parametrize("variant", variants.FEW, ids=str)
def test_other_runtimes_compute_the_same(variant, single):
    problem, piece = variant.problem, variant.problem.pieces[0]
    network = parameter_network(problem.network.graph, piece.image, problem.clip)
    kind = np.float32 if single else np.float64
    model = onnx_of(network, Writer(kind, batch=1, pooling=True), "theta", "logits")
    if not single and any(node.op_type == "Conv" for node in model.graph.node):
        pytest.skip("onnxruntime has no convolution in float64")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for theta in points_within(piece.polytope.vertices, 5):
        wanted = network.forward(torch.from_numpy(theta[None])).numpy()
        (found,) = session.run(["logits"], {"theta": theta[None].astype(kind)})
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 if single else 1e-11)
