"""Certificates for the tests of the checker, whose question the product's own writer did not write.

What the tests import of steadygaze's insides stands here alone.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

import steadygaze
from steadygaze.certificate.cells import write_map
from steadygaze.certificate.files import Files
from steadygaze.network.graph import Graph
from steadygaze.network.layers import Add, Conv, Dense, Permute, Reshape, ScaleShift
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from variants import Variant


class Residual(nn.Module):
    """x + A relu(B x)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inner(x)


def network(name: str, seed: int = 0) -> nn.Module:
    """A small network of a kind, for images of 6 x 6 and three classes."""
    torch.manual_seed(seed)
    flat = [nn.Flatten()]
    made = {
        "dense": [*flat, nn.Linear(36, 12), nn.ReLU(), nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 3)],
        "leaky": [*flat, nn.Linear(36, 10), nn.LeakyReLU(0.1), nn.Linear(10, 3)],
        "residual": [*flat, nn.Linear(36, 8), nn.ReLU(), Residual(8), nn.ReLU(), nn.Linear(8, 3)],
        "conv": [nn.Conv2d(1, 3, 3, 2, 1), nn.ReLU(), nn.Conv2d(3, 2, 2), nn.ReLU(), *flat, nn.Linear(8, 3)],
        "pool": [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), *flat, nn.Linear(8, 3)],
    }[name]
    return nn.Sequential(*made).double().eval()


def answer_of(kind: str, n: int, seed: int = 0, **options: object) -> steadygaze.Answer:
    """The map of a small question with n parameters."""
    image = np.random.default_rng(seed).random((1, 6, 6)) * 0.5 + 0.2
    patch = "patch(opacity=0..0.5, top=1, left=1, height=2, width=2, mode=add, value=1)"
    asked = ["contrast(amount=-0.3..0.3)", "brightness(amount=-0.2..0.3)", patch]
    asked = {1: asked[1:2], 2: asked[1:], 3: asked}[n]
    given = {"clip": None, "method": "sweep", "threshold": 0.1, **options}
    return steadygaze.verify(network(kind, seed), image, asked, **given)


def part_of_the_box(method: str = "nearest") -> steadygaze.Answer:
    """The map of a search that left most of the box alone."""
    answer = steadygaze.solve(Variant("max pool", "spot").problem, method=method, threads=1)
    assert answer.map.rest > 0
    return answer


def write(answer: steadygaze.Answer, folder: Path) -> Path:
    """The certificate of an answer."""
    folder.mkdir(exist_ok=True)
    problem, map_ = answer.problem, answer.map
    pieces = problem.pieces
    compared = np.zeros(problem.map0.numel(), bool)
    compared[slice(None) if problem.compared is None else problem.compared.numpy()] = True
    arrays = {
        "image": problem.image.astype("<f8"),
        "piece_base": np.stack([piece.image.base for piece in pieces]),
        "piece_directions": np.stack([piece.image.directions for piece in pieces]),
        "piece_planes": np.concatenate([_planes(piece.polytope.vertices) for piece in pieces]),
        "piece_ptr": np.arange(len(pieces) + 1) * 2 * problem.box.shape[0],
        "compared": compared,
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", np.ascontiguousarray(array))
    told_map = write_map(map_, pieces, answer.around.cells, answer.result, problem.box, Files(folder))
    (folder / "network.onnx").write_bytes(exported(problem.network.graph))
    told = answer.result.to_dict()
    origin, failure = told["origin"], told["nearest_failure"]
    saliency, clip = problem.saliency, problem.clip
    document = {
        "format": "steadygaze/certificate/2",
        "made_by": "the tests",
        "model": {"path": None, "sha256": None},
        "question": {
            "parameters": [
                {"name": p.name, "low": p.low, "high": p.high} for p in problem.perturbation.parameters
            ],
            "classes": problem.graph.classes,
            "label": problem.label,
            "clip": None if clip is None else list(clip),
            "saliency": {"name": saliency.name, "channel_sum": saliency.channel_sum},
            "inconsistency": {"name": problem.inconsistency.name},
            "threshold": problem.threshold,
            "pieces": len(pieces),
            "moves_map": problem.perturbation.moves_map,
        },
        "map": told_map,
        "claims": {
            **{key: told[key] for key in ("claim", "verdict", "shares", "safe_scale", "radius")},
            "origin": origin and {key: origin[key] for key in ("share", "ranges", "interior", "complete")},
            "nearest_failure": failure and {**failure, "norm": (told["radius"] or {}).get("norm", "linf")},
        },
    }
    return sealed(folder, document)


def _planes(vertices: np.ndarray) -> np.ndarray:
    """The planes of a box: rows (normal, offset)."""
    sides, ends = np.eye(vertices.shape[1]), np.concatenate([-vertices.min(axis=0), vertices.max(axis=0)])
    return np.concatenate([np.concatenate([-sides, sides]), ends[:, None]], axis=1)


def sealed(folder: Path, document: dict) -> Path:
    """The folder with certificate.json written anew: all sizes and hashes are right."""
    files = [path for path in sorted(folder.iterdir()) if path.name != "certificate.json"]
    document["files"] = {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
        for path in files
    }
    (folder / "certificate.json").write_text(json.dumps(document))
    return folder


def exported(graph: Graph) -> bytes:
    """A graph as ONNX in doubles, by the operators that the format allows."""
    nodes, constants = [], []

    def constant(value: object, kind: type = np.float64) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value, kind), f"c{len(constants)}"))
        return constants[-1].name

    def add(operator: str, *inputs: str, **attributes: object) -> str:
        nodes.append(helper.make_node(operator, list(inputs), [f"n{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    names = ["pixels"]
    for node in graph.nodes[1:]:
        layer, given = node.layer, [names[each] for each in node.inputs]
        x = given[0]
        if isinstance(layer, Dense):
            x = add("Gemm", x, constant(layer.weight), constant(layer.bias), transB=1)
        elif isinstance(layer, Conv):
            places = {
                "strides": layer.stride,
                "pads": layer.padding * 2,
                "dilations": layer.dilation,
                "group": layer.groups,
            }
            x = add("Conv", x, constant(layer.weight), constant(layer.bias), **places)
        elif isinstance(layer, ScaleShift):
            x = add("Add", add("Mul", x, constant(layer.scale)), constant(layer.shift))
        elif isinstance(layer, Reshape):
            x = add("Reshape", x, constant([-1, *layer.shape], np.int64))
        elif isinstance(layer, Permute):
            shape = graph.nodes[node.inputs[0]].shape
            order = np.arange(math.prod(shape)).reshape(shape).transpose(layer.axes)
            flat = add("Reshape", x, constant([-1, order.size], np.int64))
            turned = add("Gather", flat, constant(order.ravel(), np.int64), axis=1)
            x = add("Reshape", turned, constant([-1, *order.shape], np.int64))
        elif isinstance(layer, Add):
            x = add("Add", *given)
        elif isinstance(layer, MaxPool):
            flat = add("Reshape", x, constant([-1, math.prod(layer.shape)], np.int64))
            best = add(
                "ReduceMax",
                add("Gather", flat, constant(layer.windows, np.int64), axis=1),
                axes=[2],
                keepdims=0,
            )
            x = add("Reshape", best, constant([-1, *layer.pooled], np.int64))
        else:
            assert isinstance(layer, PiecewiseLinear)
            above = add("Relu", x)
            if not layer.is_relu:
                slope = float(layer.slopes[0, 0])
                below = add("Add", add("Mul", x, constant(slope)), add("Mul", above, constant(-slope)))
            x = above if layer.is_relu else add("Add", above, below)
        names.append(x)
    ends = [
        helper.make_tensor_value_info(name, 11, ["N", *shape])
        for name, shape in (("pixels", graph.nodes[0].shape), (names[-1], graph.nodes[-1].shape))
    ]
    made = helper.make_graph(nodes, "network", ends[:1], ends[1:], constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


def weights(folder: Path) -> onnx.ModelProto:
    """The network of a certificate, to be changed."""
    return onnx.load(folder / "network.onnx")
