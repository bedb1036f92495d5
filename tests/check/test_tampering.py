"""Honest certificates are certified; what somebody changed, with all hashes put right, is refused."""

from __future__ import annotations

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from check.certificates import answer_of, sealed, weights, write
from steadygaze import load_image, verify
from steadygaze_check.command import main

ASKED = [
    ("dense", 1, {}),
    ("dense", 2, {}),
    ("dense", 3, {}),
    ("conv", 2, {}),
    ("pool", 2, {}),
    ("leaky", 2, {}),
    ("residual", 2, {}),
    ("dense", 2, {"clip": (0.15, 0.75)}),
    ("dense", 2, {"inconsistency": "l1", "threshold": 0.5}),
    ("dense", 2, {"inconsistency": "linf", "saliency": "abs-gradient"}),
    ("dense", 2, {"inconsistency": "l2", "channel_sum": True}),
]


@pytest.mark.parametrize(("kind", "n", "options"), ASKED)
def test_an_honest_certificate_is_certified(kind, n, options, tmp_path, capsys):
    folder = write(answer_of(kind, n, **options), tmp_path / "certificate")
    assert main([str(folder), "--json", str(tmp_path / "report.json")]) == 0, capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["unproven"] < 1e-9
    assert sum(report["certified"].values()) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_a_nearest_search_looked_at_is_certified_though_the_rest_is_not(norm, tmp_path, capsys):
    folder = write(answer_of("dense", 2, method="nearest", norm=norm), tmp_path / "certificate")
    assert main([str(folder), "--json", str(tmp_path / "report.json")]) in (0, 20), capsys.readouterr().out
    found = json.loads((tmp_path / "report.json").read_text())["findings"]
    status = {each["claim"]: each["status"] for each in found}
    assert status["safe scale"] == status["radius"] == "certified"
    document = told(folder)
    document["claims"]["radius"]["value"] *= 1.01
    capsys.readouterr()
    assert main([str(sealed(folder, document))]) in (10, 20)
    assert "a share of" not in re.search("radius:.*", capsys.readouterr().out)[0]


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> Path:
    return write(answer_of("dense", 2, seed=3), tmp_path_factory.mktemp("honest") / "certificate")


@pytest.fixture
def copy(honest, tmp_path) -> Path:
    return shutil.copytree(honest, tmp_path / "certificate")


def told(folder: Path) -> dict:
    return json.loads((folder / "certificate.json").read_text())


def changed(folder: Path, name: str, change) -> None:
    array = np.load(folder / f"{name}.npy")
    made = change(array)
    np.save(folder / f"{name}.npy", array if made is None else made)


def box(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    parameters = told(folder)["question"]["parameters"]
    return np.array([p["low"] for p in parameters]), np.array([p["high"] for p in parameters])


def move_vertex(folder: Path) -> None:
    low, high = box(folder)

    def change(vertices):
        inner = np.flatnonzero(((vertices > low + 1e-3) & (vertices < high - 1e-3)).all(axis=1))
        vertices[inner[0], 0] += 1e-6 * (high - low)[0]

    changed(folder, "vertices", change)


def flip_kind(folder: Path, cell: int) -> None:
    changed(folder, "cell_kind", lambda kind: kind.__setitem__(cell, (kind[cell] + 1) % 3))


def drop_cell(folder: Path) -> None:
    ptr = np.load(folder / "cell_ptr.npy")
    size = ptr[1]
    np.save(folder / "cell_ptr.npy", ptr[1:] - size)
    changed(folder, "cell_vertex", lambda array: array[size:])
    owner = np.load(folder / "simplex_cell.npy")
    changed(folder, "simplices", lambda array: array[owner != 0])
    np.save(folder / "simplex_cell.npy", owner[owner != 0] - (owner[owner != 0] > 0))
    apart = np.load(folder / "apart_cell.npy")
    changed(folder, "apart_normal", lambda array: array[apart != 0])
    np.save(folder / "apart_cell.npy", apart[apart != 0] - 1)
    for name in ("cell_kind", "cell_piece", "cell_region"):
        changed(folder, name, lambda array: array[1:])
    changed(folder, "origin_cells", lambda cells: cells[cells > 0] - 1)


def change_weight(folder: Path) -> None:
    """A weight of all first units that change their side inside the box: where a map is lost moves."""
    base, directions = np.load(folder / "piece_base.npy")[0], np.load(folder / "piece_directions.npy")[0]
    corners = np.stack(np.meshgrid(*zip(*box(folder), strict=True)), axis=-1).reshape(-1, 2)
    images = (base + np.tensordot(corners, directions, axes=1)).reshape(len(corners), -1)
    model = weights(folder)
    first, bias = (
        next(c for c in model.graph.initializer if list(c.dims) == shape) for shape in ([12, 36], [12])
    )
    matrix = numpy_helper.to_array(first).copy()
    values = images @ matrix.T + numpy_helper.to_array(bias)
    units = np.flatnonzero((values.min(axis=0) < 0) & (values.max(axis=0) > 0))
    matrix[units, 0] *= 1.001
    first.CopyFrom(numpy_helper.from_array(matrix, first.name))
    onnx.save(model, folder / "network.onnx")


def another_image(folder: Path) -> None:
    changed(folder, "image", lambda image: image[:, ::-1].copy())


def another_base(folder: Path) -> None:
    changed(folder, "piece_base", lambda base: base[:, :, ::-1].copy())
    another_image(folder)


ALTERED = {
    "vertex": move_vertex,
    "kind": lambda folder: flip_kind(folder, 0),
    "last kind": lambda folder: flip_kind(folder, -1),
    "cell": drop_cell,
    "weight": change_weight,
    "image": another_image,
    "base": another_base,
    "box": lambda folder: changed(folder, "piece_planes", lambda p: p * [1, 1, 0.5]),
    "piece": lambda folder: changed(folder, "piece_directions", lambda d: d * 1.001),
    "compared": lambda folder: changed(folder, "compared", lambda c: c.__setitem__(slice(0, 30), False)),
    "origin": lambda folder: changed(folder, "origin_cells", lambda cells: cells[1:]),
}


@pytest.mark.parametrize("what", ALTERED)
def test_changed_arrays_are_refused(what, copy, capsys):
    document = told(copy)
    ALTERED[what](copy)
    assert main([str(sealed(copy, document))]) in (10, 20), capsys.readouterr().out


CLAIMS = {
    "share": lambda c: c["shares"].update(
        robust=c["shares"]["robust"] + 1e-6, class_changed=c["shares"]["class_changed"] - 1e-6
    ),
    "scale up": lambda c: c.update(safe_scale=c["safe_scale"] * 1.0001),
    "scale down": lambda c: c.update(safe_scale=c["safe_scale"] * 0.999),
    "range up": lambda c: c["origin"]["ranges"][0].__setitem__(1, c["origin"]["ranges"][0][1] * 1.0001),
    "range down": lambda c: c["origin"]["ranges"][0].__setitem__(1, c["origin"]["ranges"][0][1] * 0.99),
    "R0": lambda c: c["origin"].update(share=c["origin"]["share"] * 1.001),
    "verdict": lambda c: c.update(verdict="robust"),
    "distance": lambda c: c["nearest_failure"].update(distance=c["nearest_failure"]["distance"] * 1.05),
    "theta distance": lambda c: c["nearest_failure"].update(
        theta_distance=c["nearest_failure"]["theta_distance"] * 1.05
    ),
    "theta": lambda c: c["nearest_failure"].update(theta=[0.0, 0.0]),
    "failure kind": lambda c: c["nearest_failure"].update(
        kind="attention-changed" if c["nearest_failure"]["kind"] == "class-changed" else "class-changed"
    ),
    "predicted": lambda c: c["nearest_failure"].update(predicted=(c["nearest_failure"]["predicted"] + 1) % 3),
    "gap": lambda c: c["nearest_failure"].update(class_gap=c["nearest_failure"]["class_gap"] + 0.01),
    "no failure": lambda c: c.update(nearest_failure=None),
}


@pytest.mark.parametrize("what", CLAIMS)
def test_changed_claims_are_refuted(what, copy, capsys):
    document = told(copy)
    CLAIMS[what](document["claims"])
    assert main([str(sealed(copy, document))]) == 10, capsys.readouterr().out


def test_what_is_unproven_cannot_be_passed_off_as_undecided(copy, capsys):
    """Cells that are called robust, and are not proven to be, are not covered by a share called undecided."""
    document = told(copy)
    flipped = []

    def wrong(kind):
        flipped.append(int(np.flatnonzero(kind != 0)[0]))
        kind[flipped[0]] = 0

    changed(copy, "cell_kind", wrong)
    shares = document["claims"]["shares"]
    for name in ("class_changed", "attention_changed"):
        shares["undecided"] += 0.5 * shares[name]
        shares[name] *= 0.5
    assert main([str(sealed(copy, document))]) in (10, 20), capsys.readouterr().out


def test_a_wrong_label_is_refuted(copy):
    document = told(copy)
    document["question"]["label"] = (document["question"]["label"] + 1) % 3
    assert main([str(sealed(copy, document))]) == 10


def test_flipped_bits_never_pass_for_another_claim(copy, honest, capsys):
    draw = np.random.default_rng(0)
    names = sorted(path.name for path in honest.iterdir())
    for _ in range(120):
        name = names[draw.integers(len(names))]
        content = bytearray((honest / name).read_bytes())
        bit = int(draw.integers(8 * len(content)))
        content[bit // 8] ^= 1 << bit % 8
        (copy / name).write_bytes(content)
        code = main([str(copy)])
        if code == 0:
            assert name == "certificate.json"
            was, now = told(honest), told(copy)
            assert now["claims"] == was["claims"] or now["claims"].keys() != was["claims"].keys()
        assert code in (0, 2, 10, 20)
        shutil.copy(honest / name, copy / name)
    capsys.readouterr()


def test_flipped_bits_with_right_hashes_never_trace_back(copy, honest, capsys):
    draw = np.random.default_rng(1)
    names = sorted(path.name for path in honest.iterdir() if path.suffix in (".npy", ".onnx"))
    for _ in range(60):
        name = names[draw.integers(len(names))]
        content = bytearray((honest / name).read_bytes())
        bit = int(draw.integers(8 * len(content)))
        content[bit // 8] ^= 1 << bit % 8
        (copy / name).write_bytes(content)
        assert main([str(sealed(copy, told(honest)))]) in (0, 2, 10, 20)
        shutil.copy(honest / name, copy / name)
    capsys.readouterr()


def test_numbers_that_overflow_prove_nothing(copy, capsys):
    """Infinity less infinity is no number, which is neither above 0 nor below, and must not pass for 0."""
    document, model = told(copy), onnx.load(copy / "network.onnx")
    output = model.graph.output[0].name
    model.graph.initializer.append(numpy_helper.from_array(np.full(3, 1e99), "large"))
    for node in model.graph.node:
        node.output[:] = [name if name != output else "small" for name in node.output]
    names = ["small", "larger", output]
    for one, two in pairwise(names):
        model.graph.node.append(onnx.helper.make_node("Mul", [one, "large"], [two]))
    onnx.save(model, copy / "network.onnx")
    assert main([str(sealed(copy, document))]) == 2
    assert "too large" in capsys.readouterr().err


def test_pieces_that_overlap_are_two_questions(tmp_path, capsys):
    answer = verify(
        "digits-cnn", load_image("digits:357").image, "translate(dx=-1..1, dy=0)", threshold=0.3, threads=1
    )
    folder = answer.save(tmp_path / "answer", certificate=True) / "certificate"
    assert main([str(folder)]) == 0, capsys.readouterr().out
    planes, ptr = np.load(folder / "piece_planes.npy"), np.load(folder / "piece_ptr.npy")
    assert len(ptr) == 3
    planes[ptr[0] : ptr[1], -1] += 5.0
    np.save(folder / "piece_planes.npy", planes)
    assert main([str(sealed(folder, told(folder)))]) != 0
