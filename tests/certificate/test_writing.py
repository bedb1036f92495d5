"""What is in a certificate, against the answer that it is of."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx.reference import ReferenceEvaluator

import variants
from steadygaze import Brightness, SettingError, Translate, solve, verify
from steadygaze.certificate import files
from steadygaze.certificate.expected_map import moves_of
from steadygaze.certificate.writing import write_certificate
from steadygaze.geometry.kinds import UNDECIDED
from steadygaze.perturbation import Chain
from steadygaze.question.limits import Limits
from steadygaze.report import figures
from steadygaze.report import folder as report_folder
from steadygaze.verdict.answer import Answer
from steadygaze.verdict.engines import check_certificate
from variants import Variant

ENGINES = ("sweep", "bfs", "gbs", "nearest", "bound")


@pytest.fixture(autouse=True)
def _small_pictures(monkeypatch):
    monkeypatch.setattr(figures, "PIXELS", 50)
    monkeypatch.setattr(report_folder, "DOTS_PER_INCH", 30)


class Certificate:
    """A folder, read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = json.loads((folder / "certificate.json").read_text())
        self.question = self.index["question"]

    def __getattr__(self, name: str) -> np.ndarray:
        return np.load(self.folder / f"{name}.npy", allow_pickle=False)

    def logits(self, images: np.ndarray) -> np.ndarray:
        model = ReferenceEvaluator(str(self.folder / "network.onnx"))
        return model.run(None, {"pixels": images})[0]

    def corners(self) -> list[np.ndarray]:
        """The vertices of each cell."""
        return np.split(self.vertices[self.cell_vertex], self.cell_ptr[1:-1])

    def images(self, cell: int, thetas: np.ndarray) -> np.ndarray:
        """What the network gets, by the numbers of the piece that the cell says it lies in."""
        piece = self.cell_piece[cell]
        images = self.piece_base[piece] + np.tensordot(thetas, self.piece_directions[piece], axes=1)
        clip = self.question["clip"]
        return images if clip is None else images.clip(*clip)

    def expected(self, cell: int, theta: np.ndarray, map0: np.ndarray) -> np.ndarray:
        chosen = self.moves_piece == self.cell_piece[cell]
        factor = np.append(1.0, theta)[self.moves_term[chosen]]
        products = self.moves_weight[chosen] * map0[self.moves_in[chosen]] * factor
        return np.bincount(self.moves_out[chosen], products, minlength=len(map0))


def certified(variant: Variant, method: str, folder: Path, **settings) -> tuple[Answer, Certificate]:
    answer = solve(variant.problem, method=method, threads=1, **settings)
    folder.mkdir(exist_ok=True)
    write_certificate(answer.result, answer.problem, answer.map, answer.around.cells, folder)
    return answer, Certificate(folder)


def check_cells(variant: Variant, answer: Answer, written: Certificate) -> None:
    """The cells of the map are those of the certificate, and the images at their centres the chain's own."""
    map_ = answer.map
    kept = (map_.kind != UNDECIDED) | (map_.volume > 0)
    assert np.array_equal(written.cell_kind, map_.kind[kept])
    assert np.array_equal(written.cell_region, map_.region[kept])
    numbers = np.flatnonzero(kept)
    assert written.index["map"]["cells"] == len(numbers)
    for cell, (number, corners) in enumerate(zip(numbers, written.corners(), strict=True)):
        own = map_.cells.theta[map_.cells.idx[map_.cells.ptr[number] : map_.cells.ptr[number + 1]]]
        assert np.allclose(corners, own, rtol=0, atol=1e-8)
        if cell % 7 == 0 and written.cell_piece[cell] >= 0:
            middle = corners.mean(axis=0)
            assert np.allclose(written.images(cell, middle[None]), variant.images(middle[None]), atol=1e-12)
    assert np.array_equal(numbers[written.origin_cells], answer.around.cells)


@pytest.mark.parametrize("variant", variants.EVERY, ids=str)
def test_the_map_and_the_question_come_back(variant, tmp_path):
    answer, written = certified(variant, "sweep", tmp_path)
    check_cells(variant, answer, written)
    assert (written.cell_piece >= 0).all()
    problem, question = variant.problem, written.question
    assert [(p["low"], p["high"]) for p in question["parameters"]] == [tuple(r) for r in problem.box.tolist()]
    assert (question["label"], question["threshold"]) == (problem.label, variant.threshold)
    assert question["clip"] == (None if variant.clip is None else list(variant.clip))
    assert question["inconsistency"]["name"] == variant.inconsistency.removesuffix("(3)")
    assert np.array_equal(written.image, variant.image)
    x = variant.images(variant.draw(3))
    logits = problem.network.graph.forward(torch.from_numpy(x)).numpy()
    assert np.allclose(written.logits(x), logits, rtol=0, atol=1e-12)
    assert written.compared.sum() == (
        problem.map0.numel() if problem.compared is None else len(problem.compared)
    )
    assert question["samples"] == 0


@pytest.mark.parametrize("method", ENGINES[1:])
@pytest.mark.parametrize("variant", variants.FEW, ids=str)
def test_maps_of_every_engine(variant, method, tmp_path):
    answer, written = certified(variant, method, tmp_path)
    check_cells(variant, answer, written)
    assert written.index["map"]["rest"] == answer.map.rest


@pytest.mark.parametrize(
    "variant", [v for v in variants.FOLLOWED if v.problem.perturbation.moves_map], ids=str
)
def test_the_expected_map_as_a_sparse_function(variant, tmp_path):
    _, written = certified(variant, "sweep", tmp_path)
    map0 = variant.problem.map0.numpy().reshape(-1)
    for cell, corners in list(enumerate(written.corners()))[::11]:
        middle = corners.mean(axis=0)
        wanted = variant.problem.expected_at(middle[None]).numpy().reshape(-1)
        assert np.allclose(written.expected(cell, middle, map0), wanted, rtol=0, atol=1e-12 * abs(map0).max())


def test_channels_are_moved_alike(tmp_path):
    variant = Variant("colour conv", "shift")
    _, written = certified(variant, "sweep", tmp_path)
    map0 = variant.problem.map0.numpy().reshape(-1)
    middle = written.corners()[0].mean(axis=0)
    wanted = variant.problem.expected_at(middle[None]).numpy().reshape(-1)
    assert np.allclose(written.expected(0, middle, map0), wanted, rtol=0, atol=1e-12 * abs(map0).max())


@pytest.mark.parametrize("variant", [*variants.INEXACT[:1], Variant("mlp", "turn")], ids=str)
def test_what_has_no_affine_pieces_is_written_at_points(variant, tmp_path):
    _, written = certified(variant, "bound", tmp_path, limits=Limits(2.0, 1.0))
    if variant.chain == "spot":
        assert written.question["samples"] == 0
        return
    thetas = written.sample_theta
    assert written.question["samples"] == len(thetas) == len(written.sample_image)
    assert not thetas[0].any()
    assert np.allclose(written.sample_image, variant.perturbation.apply(variant.image, thetas), atol=1e-12)
    wanted = variant.problem.expected_at(thetas).numpy().reshape(len(thetas), -1)
    assert np.allclose(written.sample_expected, wanted, rtol=0, atol=1e-12)
    assert (written.cell_piece == -1).all()


def test_the_tensor_of_grad_cam_is_named(tmp_path):
    variant = Variant("max pool", "spot", saliency="grad-cam", threshold=0.02)
    _, written = certified(variant, "sweep", tmp_path)
    name = written.question["saliency"]["tensor"]
    x = variant.images(np.zeros((1, 2)))
    graph = ReferenceEvaluator(str(written.folder / "network.onnx"))
    values = graph.run(None, {"pixels": x}, intermediate=True)[name]
    assert values.shape[2:] == tuple(variant.problem.map0.shape)


def test_neighbours_share_vertices(tmp_path):
    _, written = certified(Variant("mlp", "spot"), "sweep", tmp_path)
    assert len(np.unique(written.vertices, axis=0)) == len(written.vertices)
    edges = [
        tuple(sorted(pair))
        for start, stop in zip(written.cell_ptr, written.cell_ptr[1:], strict=False)
        for pair in _edges(written.cell_vertex[start:stop], written.cell_facets[start:stop, 0])
    ]
    _, shared = np.unique(edges, axis=0, return_counts=True)
    low, high = np.array([(p["low"], p["high"]) for p in written.question["parameters"]]).T
    outer = [
        edge for edge, times in zip(*np.unique(edges, axis=0, return_counts=True), strict=True) if times == 1
    ]
    assert shared.max() == 2
    for first, second in outer:
        both = written.vertices[[first, second]]
        assert ((both == low).all(axis=0) | (both == high).all(axis=0)).any()


def _edges(vertices: np.ndarray, masks: np.ndarray) -> list[tuple[int, int]]:
    """The pairs of vertices of a polygon that share a facet."""
    count = len(vertices)
    return [
        (vertices[i], vertices[j]) for i in range(count) for j in range(i + 1, count) if masks[i] & masks[j]
    ]


def test_names_that_mean_different_places_stay_apart(tmp_path):
    """Where cells do not meet facet to facet, vertices of several cells may have one name."""
    variant = Variant("leaky", "shift both", threshold=0.2)
    answer, written = certified(variant, "sweep", tmp_path)
    assert not answer.map.conforming
    areas = [_area(corners) for corners in written.corners()]
    assert sum(areas) == pytest.approx(variant.problem.volume, rel=1e-9)


def _area(corners: np.ndarray) -> float:
    x, y = (corners - corners.mean(axis=0)).T
    order = np.argsort(np.arctan2(y, x))
    x, y = x[order], y[order]
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def test_sizes_and_hashes_are_those_of_the_files(tmp_path):
    _, written = certified(variants.FEW[0], "sweep", tmp_path)
    names = {path.name for path in written.folder.iterdir()}
    assert names == {*written.index["files"], "certificate.json"}
    for name, told in written.index["files"].items():
        content = (written.folder / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (told["bytes"], told["sha256"])


def test_the_claims_are_the_results(tmp_path):
    answer, written = certified(variants.FEW[0], "nearest", tmp_path)
    claims, result = written.index["claims"], answer.result.to_dict()
    assert claims["shares"] == result["shares"]
    assert claims["nearest_failure"] == {**result["nearest_failure"], "norm": "linf"}
    assert claims["radius"] == result["radius"]
    assert claims["origin"]["ranges"] == result["origin"]["ranges"]
    assert (claims["verdict"], claims["safe_scale"]) == (result["verdict"], result["safe_scale"])


@pytest.mark.parametrize(("constant", "told"), [(0.1, True), (0.0, False)])
def test_constant_amounts_are_told(constant, told, tmp_path):
    chain = Chain(Brightness(constant), Brightness(-0.2, 0.2))
    answer = verify(variants.network("mlp"), variants.picture(1) * 0.5, chain, threads=1)
    write_certificate(answer.result, answer.problem, answer.map, answer.around.cells, tmp_path)
    written = Certificate(tmp_path)
    assert written.question["constant_amounts"] is told
    assert np.allclose(written.piece_base[0], written.image + constant, rtol=0, atol=1e-12)


def test_how_the_model_takes_pixels_is_told(tmp_path):
    answer = verify(
        variants.network("mlp"), variants.picture(1), "brightness(amount=0..0.1)",
        layout="flat", mean=[0.5], std=[0.25], threads=1,
    )  # fmt: skip
    write_certificate(answer.result, answer.problem, answer.map, answer.around.cells, tmp_path)
    model = Certificate(tmp_path).index["model"]
    assert (model["layout"], model["mean"], model["std"], model["scale"]) == ("flat", [0.5], [0.25], 1.0)


def test_the_same_question_gives_the_same_bytes(tmp_path):
    variant = variants.FEW[2]
    first = certified(variant, "sweep", tmp_path / "first")[1].folder
    second = certified(replace(variant), "sweep", tmp_path / "second")[1].folder
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


def test_small_blocks_write_the_same(tmp_path, monkeypatch):
    variant = variants.FEW[0]
    first = certified(variant, "sweep", tmp_path / "first")[1].folder
    monkeypatch.setattr(files, "BLOCK", 7)
    monkeypatch.setattr("steadygaze.certificate.cells.BLOCK", 7)
    second = certified(variant, "sweep", tmp_path / "second")[1].folder
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


def test_an_interruption_leaves_what_was_there(tmp_path, monkeypatch):
    answer = solve(variants.FEW[0].problem, method="sweep", threads=1)
    folder = answer.save(tmp_path, certificate=True) / "certificate"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr("steadygaze.certificate.writing.write_map", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        answer.save(tmp_path, certificate=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def _interrupted(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_an_answer_without_a_certificate_takes_an_earlier_one_away(tmp_path):
    answer = solve(variants.FEW[0].problem, method="sweep", threads=1)
    assert (answer.save(tmp_path, certificate=True) / "certificate" / "certificate.json").exists()
    answer.save(tmp_path)
    assert not (tmp_path / "certificate").exists()


def test_maps_without_cells_are_refused(tmp_path):
    answer = solve(variants.FEW[0].problem, method="sweep", threads=1)
    bare = Answer(answer.result, answer.problem, replace(answer.map, inner=True), answer.around)
    with pytest.raises(SettingError, match="half-spaces"):
        bare.save(tmp_path, certificate=True)
    assert not list(tmp_path.iterdir())
    with pytest.raises(SettingError, match="8 parameters"):
        check_certificate("nearest", 8)
    check_certificate("bound", 8)
    check_certificate("auto", 7)


class Mixing(Translate):
    """Moves the map of one channel into another."""

    def expected_parts(self, maps, piece):
        constants, slopes = super().expected_parts(maps, piece)
        return constants[:, ::-1], slopes[:, :, ::-1]

    def expect(self, maps, thetas):
        return super().expect(maps, thetas)[:, ::-1]


def test_maps_that_are_mixed_are_refused(tmp_path):
    map0 = np.random.default_rng(0).normal(size=(3, 6, 6))
    with pytest.raises(SettingError, match="channel by channel"):
        moves_of(Chain(Mixing(dx=(-1.0, 1.0))), map0)
    assert len(moves_of(Chain(Translate(dx=(-1.0, 1.0)), Brightness(0, 1)), map0).weight)
