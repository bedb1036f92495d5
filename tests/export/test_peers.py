"""Marabou answers the exported questions as we do: on boxes inside R0, and across the class boundary.

It runs in an interpreter of its own (`make peer` sets one up, or STEADYGAZE_PEER_PYTHON names one), because
it needs older libraries than ours.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from steadygaze import Answer, Brightness, Patch, Translate, load_image, verify
from steadygaze.export.expectation import of_class
from steadygaze.export.parameter_network import parameter_network
from steadygaze.export.properties import vnnlib_1
from steadygaze.geometry.domain import Domain
from steadygaze.network.writing.onnx_writer import Writer, onnx_of
from steadygaze.verdict.reading import located, safe_scale

pytestmark = pytest.mark.peer

REPOSITORY = Path(__file__).resolve().parent.parent.parent
BOXES = 10  # of each kind, for each network
HALF = 0.02  # of the box's widths, on each side of a point


@pytest.fixture(scope="module")
def marabou() -> Path:
    """An interpreter that has maraboupy."""
    python = Path(os.environ.get("STEADYGAZE_PEER_PYTHON", REPOSITORY / ".venv-peer" / "bin" / "python"))
    found = (
        python.is_file()
        and not subprocess.run(
            [python, "-W", "ignore", "-c", "import maraboupy.Marabou"], capture_output=True, check=False
        ).returncode
    )
    if not found:
        pytest.skip(
            "no interpreter with maraboupy: `make peer` sets one up, or name it in STEADYGAZE_PEER_PYTHON"
        )
    return python


def small_net(shared: Path) -> Answer:
    image = load_image(f"idx:{shared / 'data' / 'mnist'}:3")
    chain = Brightness(-0.4, 0.4) | Patch(0, 1, top=12, left=12, size=5)
    return verify(shared / "models" / "mnist-10x2.onnx", image.image, chain, layout="hwc", method="sweep")


def convolutional() -> Answer:
    image = load_image("digits:357")
    chain = Brightness(-0.4, 0.4) | Patch(0, 1, top=2, left=2, size=3)
    return verify("digits-cnn", image.image, chain, method="sweep")


def pooled() -> Answer:
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(27, 6),
        nn.ReLU(),
        nn.Linear(6, 3),
    )
    return verify(
        model, load_image("digits:12").image, Translate(dx=(-2, 2)) | Brightness(-0.3, 0.3), method="sweep"
    )


def boxes_of(answer: Answer) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """Boxes (low, high) within one piece each, and what Marabou must say of them."""
    map_, box, rng = of_class(answer.map), answer.problem.box, np.random.default_rng(0)
    widths, found = box[:, 1] - box[:, 0], []
    scale = safe_scale(map_, box)
    for kind, wanted in ((0, "unsat"), (1, "sat")):
        cells = np.flatnonzero(map_.kind == kind)
        drawn = 0
        while drawn < BOXES and len(cells):
            cell = rng.choice(cells)
            corners = map_.cells.theta[map_.cells.idx[map_.cells.ptr[cell] : map_.cells.ptr[cell + 1]]]
            middle = rng.dirichlet(np.ones(len(corners))) @ corners
            if wanted == "unsat":  # shrunk into the safe box, where every point keeps the class
                middle = np.clip(middle, box[:, 0] * scale, box[:, 1] * scale) * 0.9
                reach = HALF * widths * min(1.0, scale)
            else:
                reach = HALF * widths
            low, high = np.maximum(middle - reach, box[:, 0]), np.minimum(middle + reach, box[:, 1])
            if wanted == "unsat":
                low, high = (
                    np.maximum(low, box[:, 0] * scale * 0.99),
                    np.minimum(high, box[:, 1] * scale * 0.99),
                )
            found.append((low, high, wanted))
            drawn += 1
    return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["mnist-10x2", "digits-cnn", "pooled"])
def test_marabou_answers_what_we_say(name, marabou, tmp_path, request):
    answer = (
        small_net(request.getfixturevalue("shared"))
        if name == "mnist-10x2"
        else (convolutional() if name == "digits-cnn" else pooled())
    )
    problem, questions, wanted = answer.problem, [], []
    for number, piece in enumerate(problem.pieces):
        network = parameter_network(problem.network.graph, piece.image, problem.clip)
        model = onnx_of(network, Writer(np.float32, batch=1, pooling=True), "theta", "logits")
        (tmp_path / f"{number}.onnx").write_bytes(model.SerializeToString())
    for low, high, told in boxes_of(answer):
        for number, piece in enumerate(problem.pieces):  # the pieces of these chains are boxes
            first = np.maximum(low, piece.polytope.vertices.min(axis=0))
            last = np.minimum(high, piece.polytope.vertices.max(axis=0))
            if not (first < last).all():
                continue
            sampled = first + (last - first) * np.random.default_rng(1).random((200, len(low)))
            if told == "sat" and not (problem.at(sampled).gap < 0).any():
                continue  # the box reaches into this piece, its failing part does not
            domain = Domain(first, last, np.zeros((0, len(low))), np.zeros(0))
            path = tmp_path / f"{len(questions)}.vnnlib"
            path.write_text(vnnlib_1(domain, problem.label, problem.graph.classes, []))
            questions.append({"network": str(tmp_path / f"{number}.onnx"), "property": str(path)})
            wanted.append((told, first, last))
    assert len(questions) >= (2 * BOXES if len(problem.pieces) == 1 else BOXES)
    (tmp_path / "questions.json").write_text(json.dumps(questions))
    script = Path(__file__).with_name("marabou_boxes.py")
    ran = subprocess.run(
        [marabou, script, tmp_path / "questions.json"], capture_output=True, text=True, check=True
    )
    answers = json.loads(ran.stdout.strip().splitlines()[-1])
    for (told, first, last), found in zip(wanted, answers, strict=True):
        assert found["answer"] == told
        if told == "sat":
            theta = np.clip(found["theta"], first, last)
            assert problem.replay(theta[None]).gap[0] <= 1e-5, "Marabou's counterexample replays"
            assert len(next(located(answer.map, theta[None], problem.tolerance)))
