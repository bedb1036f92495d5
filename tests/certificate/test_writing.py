"""What is in a certificate, against the answer that it is of."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx.reference import ReferenceEvaluator

import variants
from sparing import sparing
from steadygaze import Brightness, SettingError, Translate, solve, verify
from steadygaze.certificate import files
from steadygaze.certificate.expected_map import moves_of
from steadygaze.certificate.question import beyond_proof
from steadygaze.certificate.writing import write_certificate
from steadygaze.geometry.kinds import UNDECIDED
from steadygaze.perturbation import Chain
from steadygaze.question.limits import Limits
from steadygaze.report import figures, still
from steadygaze.search.base import Options
from steadygaze.verdict.answer import Answer
from steadygaze.verdict.engines import check_certificate
from variants import Variant

ENGINES = ("sweep", "bfs", "gbs", "nearest", "bound")


@pytest.fixture(autouse=True)
def _small_pictures(monkeypatch):
    monkeypatch.setattr(figures, "PIXELS", 50)
    monkeypatch.setattr(still, "DOTS_PER_INCH", 30)


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
        # Vertices of neighbours that lie on its facets may have joined its own.
        apart = np.abs(corners[:, None] - own).max(axis=2)
        assert (apart.min(axis=0) <= 1e-8).all()
        if cell % 7 == 0 and written.cell_piece[cell] >= 0:
            middle = corners.mean(axis=0)
            assert np.allclose(written.images(cell, middle[None]), variant.images(middle[None]), atol=1e-12)
    assert np.array_equal(numbers[written.origin_cells], answer.around.cells)


@pytest.mark.parametrize("variant", sparing(variants.EVERY))
def test_the_map_and_the_question_come_back(variant, tmp_path):
    answer, written = certified(variant, "sweep", tmp_path)
    check_cells(variant, answer, written)
    assert (written.cell_piece >= 0).all()
    for piece, corners in zip(written.cell_piece, written.corners(), strict=True):
        planes = written.piece_planes[slice(*written.piece_ptr[piece : piece + 2])]
        assert (corners @ planes[:, :-1].T <= planes[:, -1] + 1e-9).all()
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


@pytest.mark.parametrize(
    ("variant", "reason"),
    [
        (Variant("mlp", "spot"), None),
        (Variant("mlp", "shift", inconsistency="l2"), None),
        (Variant("sigmoid", "spot"), "the network is smooth"),
        (Variant("max pool", "spot", saliency="grad-cam"), "grad-cam maps are not followed"),
        (Variant("wide", "contrast", inconsistency="top-k(3)"), "top-k is not bounded"),
        (Variant("mlp", "turn"), "the perturbation has no affine pieces"),
        (Variant("mlp", "shift", inconsistency="l1"), "l1 of maps that move is not bounded"),
    ],
    ids=str,
)
def test_what_is_beyond_the_checker_is_told(variant, reason):
    assert beyond_proof(variant.problem) == reason


def test_the_tensor_of_grad_cam_is_named(tmp_path):
    variant = Variant("max pool", "spot", saliency="grad-cam", threshold=0.02)
    _, written = certified(variant, "sweep", tmp_path)
    name = written.question["saliency"]["tensor"]
    x = variant.images(np.zeros((1, 2)))
    graph = ReferenceEvaluator(str(written.folder / "network.onnx"))
    values = graph.run(None, {"pixels": x}, intermediate=True)[name]
    assert values.shape[2:] == tuple(variant.problem.map0.shape)


def faces_left(written: Certificate) -> np.ndarray:
    """Faces, as places ``(k, n, n)``, that an odd number of simplices have and that lie within the box."""
    simplices, n = written.simplices, written.vertices.shape[1]
    faces = np.concatenate([np.delete(simplices, k, axis=1) for k in range(n + 1)])
    found, times = np.unique(faces, axis=0, return_counts=True)
    places = written.vertices[found[times % 2 == 1]]
    box = np.array([(p["low"], p["high"]) for p in written.question["parameters"]])
    return places[~(places[:, :, :, None] == box).all(axis=1).any(axis=(1, 2))]


def volumes(written: Certificate) -> np.ndarray:
    """The volumes of all simplices."""
    corners = written.vertices[written.simplices]
    return np.abs(np.linalg.det(corners[:, 1:] - corners[:, :1])) / math.factorial(corners.shape[2])


@pytest.mark.parametrize(
    ("variant", "method"),
    [
        (Variant("mlp", "brightness"), "sweep"),
        (Variant("mlp", "spot"), "sweep"),
        (Variant("mlp", "three"), "sweep"),
        (Variant("mlp", "four", clip=None), "sweep"),
        (Variant("leaky", "shift both", threshold=0.2), "sweep"),
        (Variant("mlp", "shift, brighter"), "sweep"),
        (Variant("mlp", "shift, brighter"), "bound"),
        (Variant("mlp", "three"), "bound"),
        (Variant("mlp", "spot"), "bfs"),
    ],
    ids=str,
)
def test_simplices_of_every_map_meet_face_to_face(variant, method, tmp_path):
    answer, written = certified(variant, method, tmp_path, limits=Limits(3.0, 1.0))
    assert len(np.unique(written.vertices, axis=0)) == len(written.vertices)
    assert not len(faces_left(written))
    own, found = written.simplex_cell >= 0, volumes(written)
    assert found[~own].sum() <= 1e-7 * answer.problem.volume
    assert found.sum() == pytest.approx(answer.problem.volume, rel=1e-7)
    assert written.index["map"]["covered"] == answer.problem.box.tolist()
    assert (np.diff(written.simplices, axis=1) > 0).all()
    cells = np.repeat(np.arange(len(written.cell_kind)), np.diff(written.cell_ptr))
    has = set(zip(cells.tolist(), written.cell_vertex.tolist(), strict=True))
    for corner in written.simplices[own].T:
        assert has.issuperset(zip(written.simplex_cell[own].tolist(), corner.tolist(), strict=True))


def test_simplices_of_a_search_outwards_cover_the_box_that_it_looked_at(tmp_path):
    answer, written = certified(Variant("max pool", "three", clip=None), "nearest", tmp_path)
    covered = np.array(written.index["map"]["covered"])
    assert answer.map.rest > 0
    assert volumes(written).sum() == pytest.approx(np.prod(np.ptp(covered, axis=1)), rel=1e-9)
    written.question["parameters"] = [{"low": low, "high": high} for low, high in covered]
    assert not len(faces_left(written))


def test_a_map_of_too_many_simplices_has_none(tmp_path, monkeypatch):
    monkeypatch.setattr("steadygaze.certificate.simplices._MOST", 50)
    _, written = certified(Variant("mlp", "three"), "sweep", tmp_path)
    assert written.simplices.shape == (0, 4)
    assert len(written.cell_kind) > 50


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_directions_part_failing_cells_from_what_is_robust(norm, tmp_path):
    variant = Variant("mlp", "three")
    answer, written = certified(variant, "nearest", tmp_path, options=Options(norm=norm))
    box, half = answer.problem.box, np.ptp(answer.problem.box, axis=1) / 2
    corners, scale = written.corners(), answer.result.safe_scale
    low, high = box.T * scale * (1 - 1e-9)
    meets = [
        cell
        for cell, own in enumerate(corners)
        if written.cell_kind[cell] and ((own.min(axis=0) <= high) & (own.max(axis=0) >= low)).all()
    ]
    parted = set()
    for cell, across in zip(written.apart_cell, written.apart_normal, strict=True):
        reach = np.maximum(across * low, across * high).sum()
        parted |= {cell} if (corners[cell] @ across).min() > reach else set()
    assert set(meets) <= parted
    failing = answer.problem.replay(written.failing)
    assert (failing.kind != 0).all()
    lengths = np.linalg.norm(written.failing / half, 2 if norm == "l2" else np.inf, axis=1)
    assert lengths.min() == pytest.approx(answer.result.nearest_failure.distance, rel=1e-6, abs=1e-9)


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
    told = {name: value for name, value in result["nearest_failure"].items() if value is not None}
    assert claims["nearest_failure"].items() <= {**told, "norm": "linf", "nearest": True}.items()
    assert {"theta", "kind", "distance", "theta_distance"} <= set(claims["nearest_failure"])
    assert claims["radius"] == result["radius"]
    assert claims["origin"]["ranges"] == result["origin"]["ranges"]
    assert (claims["verdict"], claims["safe_scale"]) == (result["verdict"], result["safe_scale"])


@pytest.mark.parametrize("constant", [0.1, 0.0])
def test_the_image_has_the_constant_amounts(constant, tmp_path):
    chain = Chain(Brightness(constant), Brightness(-0.2, 0.2))
    answer = verify(variants.network("mlp"), variants.picture(1) * 0.5, chain, threads=1)
    write_certificate(answer.result, answer.problem, answer.map, answer.around.cells, tmp_path)
    written = Certificate(tmp_path)
    assert np.allclose(written.piece_base[0], written.image, rtol=0, atol=1e-12)
    assert np.allclose(written.image, answer.problem.image + constant, rtol=0, atol=1e-12)


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
