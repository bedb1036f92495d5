"""Hints that lie: they may cost what is certified, and never make something certified that is not so."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from check.certificates import answer_of, part_of_the_box, sealed, write
from steadygaze_check.command import main
from steadygaze_check.region import Region
from steadygaze_check.tiling import Tiling


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> Path:
    return write(answer_of("dense", 3, seed=3), tmp_path_factory.mktemp("honest") / "certificate")


@pytest.fixture(scope="module")
def outwards(tmp_path_factory) -> Path:
    return write(part_of_the_box(), tmp_path_factory.mktemp("outwards") / "certificate")


@pytest.fixture
def copy(honest, tmp_path) -> Path:
    return shutil.copytree(honest, tmp_path / "certificate")


def told(folder: Path) -> dict:
    return json.loads((folder / "certificate.json").read_text())


def load(folder: Path, name: str) -> np.ndarray:
    return np.load(folder / f"{name}.npy")


def change(folder: Path, **arrays: np.ndarray) -> None:
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def statuses(folder: Path, document: dict) -> tuple[int, dict[str, str]]:
    report = folder.parent / "report.json"
    report.unlink(missing_ok=True)
    code = main([str(sealed(folder, document)), "--json", str(report)])
    findings = json.loads(report.read_text())["findings"] if report.exists() else []
    order = ["certified", "not certified", "refuted"]
    findings.sort(key=lambda finding: order.index(finding["status"]))  # of several of one name, the worst
    return code, {each["claim"]: each["status"] for each in findings}


def largest(folder: Path) -> int:
    """The simplex of the largest volume that is one of several of its cell."""
    corners = load(folder, "vertices")[load(folder, "simplices")]
    owner = load(folder, "simplex_cell")
    several = np.bincount(owner)[owner] > 1
    return int(np.where(several, np.abs(np.linalg.det(corners[:, 1:] - corners[:, :1])), 0.0).argmax())


def append(folder: Path, rows: list[int], owner: int | None = None) -> None:
    """More simplices, as those of these numbers."""
    simplices, cells = load(folder, "simplices"), load(folder, "simplex_cell")
    own = cells[rows] if owner is None else np.full(len(rows), owner, cells.dtype)
    change(folder, simplices=np.concatenate([simplices, simplices[rows]]))
    change(folder, simplex_cell=np.concatenate([cells, own]))


def test_what_is_honest_is_certified(honest, outwards):
    assert main([str(honest)]) == main([str(outwards)]) == 0


def test_a_simplex_of_another_cell_is_refused(copy, capsys):
    owner, k = load(copy, "simplex_cell"), largest(copy)
    document, own = told(copy), owner[k]
    for other in range(document["map"]["cells"]):
        if other != own:
            owner[k] = other
            change(copy, simplex_cell=owner)
            assert main([str(sealed(copy, document))]) in (2, 20), other
    capsys.readouterr()


def test_a_simplex_outside_of_its_cell_is_refused(copy, capsys):
    simplices, cell = load(copy, "simplices"), load(copy, "simplex_cell")
    vertex, ptr = load(copy, "cell_vertex"), load(copy, "cell_ptr")
    own = set(vertex[ptr[cell[0]] : ptr[cell[0] + 1]])
    other = next(each for each in range(len(load(copy, "vertices"))) if each not in own)
    simplices[0] = np.sort([other, *simplices[0, 1:]])
    change(copy, simplices=simplices)
    assert main([str(sealed(copy, told(copy)))]) == 2
    assert "does not have" in capsys.readouterr().err


@pytest.mark.parametrize("owner", [None, -1], ids=["its own", "a filler"])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_simplices_that_lie_on_others_are_not_certified(owner, times, copy, capsys):
    append(copy, [largest(copy)] * times, owner)
    code, status = statuses(copy, told(copy))
    assert code == 20
    assert status["shares"] != "certified"
    assert status["R0"] != "certified"


def test_a_filler_in_the_place_of_a_cell_is_not_certified(copy):
    owner = load(copy, "simplex_cell")
    owner[largest(copy)] = -1
    change(copy, simplex_cell=owner)
    code, status = statuses(copy, told(copy))
    assert code == 20
    assert {status[each] for each in ("kinds", "shares", "safe scale", "ranges", "R0")} == {"not certified"}


def test_a_missing_simplex_is_a_hole(copy):
    k = largest(copy)
    simplices, owner = load(copy, "simplices"), load(copy, "simplex_cell")
    change(copy, simplices=np.delete(simplices, k, axis=0), simplex_cell=np.delete(owner, k))
    code, status = statuses(copy, told(copy))
    assert code == 20
    assert status["tiling"] == status["shares"] == "not certified"


def test_a_hole_elsewhere_leaves_the_safe_scale_alone(copy):
    kind, corners = load(copy, "cell_kind"), load(copy, "vertices")[load(copy, "simplices")]
    simplices, owner = load(copy, "simplices"), load(copy, "simplex_cell")
    sizes = np.abs(np.linalg.det(corners[:, 1:] - corners[:, :1]))
    k = int(np.where(kind[owner] != 0, sizes, 0.0).argmax())
    change(copy, simplices=np.delete(simplices, k, axis=0), simplex_cell=np.delete(owner, k))
    code, status = statuses(copy, told(copy))
    assert code == 20
    assert status["shares"] == status["tiling"] == status["R0"] == "not certified"
    assert status["safe scale"] == "certified"


def test_no_simplices_leave_kinds_alone(copy):
    change(copy, simplices=load(copy, "simplices")[:0], simplex_cell=load(copy, "simplex_cell")[:0])
    code, status = statuses(copy, told(copy))
    assert code == 20
    assert status["tiling"] == status["shares"] == status["safe scale"] == "not certified"


def test_rows_that_do_not_rise_are_refused(copy):
    simplices = load(copy, "simplices")
    for row in (simplices[0, ::-1], np.full(4, simplices[0, 0])):
        change(copy, simplices=np.concatenate([row[None].astype(simplices.dtype), simplices[1:]]))
        assert main([str(sealed(copy, told(copy)))]) == 2


@pytest.mark.parametrize("factor", [0.5, 0.99, 1.000001, 2.0])
def test_another_box_is_not_known_to_be_covered(factor, outwards, tmp_path):
    copy = shutil.copytree(outwards, tmp_path / "certificate")
    document = told(copy)
    document["map"]["covered"] = (np.array(document["map"]["covered"]) * factor).tolist()
    code, status = statuses(copy, document)
    assert code == 20
    assert status["shares"] == "not certified"


@pytest.mark.parametrize(
    "covered", [None, [], [[0, 1]], [[1, 2]] * 3, [["0", 1]] * 3, [[0, 1, 2]] * 3, [[0, float("inf")]] * 3, 7]
)
def test_a_box_that_is_none_is_refused(covered, copy, capsys):
    document = told(copy)
    document["map"]["covered"] = covered
    assert main([str(sealed(copy, document))]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_empty_box_covers_nothing(copy):
    document = told(copy)
    document["map"]["covered"] = [[0.0, 0.0]] * 3
    code, status = statuses(copy, document)
    assert code == 20
    assert status["tiling"] == status["shares"] == status["R0"] == "not certified"


DIRECTIONS = {
    "none": lambda cell, across: (cell[:0], across[:0]),
    "zero": lambda cell, across: (cell, across * 0),
    "turned": lambda cell, across: (cell, -across),
    "rolled": lambda cell, across: (np.roll(cell, 1), across),
    "huge": lambda cell, across: (cell, np.sign(across) * 9e99),
    "tiny": lambda cell, across: (cell, across * 1e-320),
    "random": lambda cell, across: (cell, np.random.default_rng(0).normal(size=across.shape)),
}


@pytest.mark.parametrize("what", DIRECTIONS)
def test_directions_that_lie_cost_what_they_were_for(what, copy):
    cell, across = DIRECTIONS[what](load(copy, "apart_cell"), load(copy, "apart_normal"))
    assert len(load(copy, "apart_cell"))
    change(copy, apart_cell=cell, apart_normal=across)
    code, status = statuses(copy, told(copy))
    assert code == 20
    assert "refuted" not in status.values()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_directions_that_are_no_numbers_are_refused(value, copy):
    across = load(copy, "apart_normal")
    across[0, 0] = value
    change(copy, apart_normal=across)
    assert main([str(sealed(copy, told(copy)))]) == 2


def test_more_directions_make_nothing_refuted(copy):
    """A random direction for every cell: a claim that holds is not refuted for it."""
    cells = told(copy)["map"]["cells"]
    every = np.repeat(np.arange(cells), 20)
    more = np.random.default_rng(1).normal(size=(len(every), 3))
    change(copy, apart_cell=np.concatenate([load(copy, "apart_cell"), every]))
    change(copy, apart_normal=np.concatenate([load(copy, "apart_normal"), more]))
    assert main([str(sealed(copy, told(copy)))]) == 0


UNDERSTATED = {
    "safe scale": lambda c: c.update(safe_scale=0.9 * c["safe_scale"]),
    "ranges": lambda c: c["origin"]["ranges"][0].__setitem__(1, 0.9 * c["origin"]["ranges"][0][1]),
    "nearest failure": lambda c: c["nearest_failure"].update(distance=0.9 * c["nearest_failure"]["distance"]),
}


@pytest.mark.parametrize("hints", ["honest", "no points", "nothing"])
@pytest.mark.parametrize("what", UNDERSTATED)
def test_less_than_the_truth_is_not_certified_whatever_is_hinted(what, hints, copy):
    document = told(copy)
    UNDERSTATED[what](document["claims"])
    if hints != "honest":
        change(copy, failing=load(copy, "failing")[:0])
    if hints == "nothing":
        change(copy, apart_cell=load(copy, "apart_cell")[:0], apart_normal=load(copy, "apart_normal")[:0])
    code, status = statuses(copy, document)
    assert code in ((10, 20) if hints == "nothing" else (10,))
    assert status[what] != "certified"


def test_points_that_do_not_fail_refute_nothing(copy):
    change(copy, failing=load(copy, "failing") * 0)
    code, status = statuses(copy, told(copy))
    assert code == 20
    assert "refuted" not in status.values()
    assert status["safe scale"] == "not certified"


def test_too_many_points_and_points_outside_are_refused(copy):
    failing = load(copy, "failing")
    for points in (np.repeat(failing[:1], 65, axis=0), failing + 100.0):
        change(copy, failing=points)
        assert main([str(sealed(copy, told(copy)))]) == 2


def test_cells_that_do_not_hang_together_are_not_certified_as_one_part(copy):
    """Somebody names another robust cell as a part of R0, or leaves one out."""
    kind, listed, document = load(copy, "cell_kind"), load(copy, "origin_cells"), told(copy)
    other = np.setdiff1d(np.flatnonzero(kind != 0), listed)[:1]
    change(copy, origin_cells=np.concatenate([listed, other]))
    assert statuses(copy, document)[1]["R0"] != "certified"
    change(copy, origin_cells=listed[:-1])
    assert statuses(copy, document)[1]["R0"] == "refuted"


def test_a_search_that_found_nothing_has_a_certificate_that_proves_nothing(tmp_path, capsys):
    answer = answer_of("dense", 2, regions_limit=1, method="sweep")
    undecided = replace(
        answer.map,
        kind=np.full_like(answer.map.kind, 3),
        region=np.full_like(answer.map.region, -1),
        volume=np.zeros_like(answer.map.volume),
    )
    folder = write(replace(answer, map=undecided), tmp_path / "certificate")
    assert main([str(folder)]) in (10, 20)
    assert not capsys.readouterr().err


# -- the tiling by itself


def made(vertices: list[list[float]], cells: list[list[list[int]]], fillers: list[list[int]] = ()) -> Tiling:
    """A tiling of the unit square, or cube, by cells that are lists of simplices."""
    points = np.array(vertices, float)
    n = points.shape[1]
    lists = [sorted({corner for simplex in cell for corner in simplex}) for cell in cells]
    owner = [number for number, cell in enumerate(cells) for _ in cell] + [-1] * len(fillers)
    simplices = [sorted(simplex) for cell in cells for simplex in cell] + [sorted(each) for each in fillers]
    box = np.array([[0.0, 1.0]] * n)
    return Tiling(
        SimpleNamespace(
            vertices=points,
            cell_ptr=np.cumsum([0, *map(len, lists)]),
            cell_vertex=np.concatenate([np.array(each) for each in lists]),
            cell_kind=np.zeros(len(cells), np.int8),
            simplices=np.array(simplices),
            simplex_cell=np.array(owner),
            apart_cell=np.zeros(0, np.int64),
            apart_normal=np.zeros((0, n)),
            dimension=n,
            width=np.ones(n),
            volume=1.0,
            box=box,
        )
    )  # type: ignore[arg-type]


SQUARE = [[0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0.5]]
FOUR = [[[0, 1, 4]], [[1, 3, 4]], [[2, 3, 4]], [[0, 2, 4]]]
WHOLE = Region(np.array([[0.0, 1.0]] * 2))


def test_a_square_is_covered_and_a_part_of_it():
    tiling = made(SQUARE, FOUR)
    assert tiling.surplus(WHOLE) < np.inf
    assert tiling.surplus(Region(WHOLE.box, np.array([0.5, 0.5]))) < np.inf
    assert tiling.surplus(WHOLE) == pytest.approx(0, abs=1e-12)
    hole = made(SQUARE, FOUR[:3])
    assert hole.surplus(WHOLE) == np.inf
    assert hole.surplus(Region(np.array([[0.0, 0.3], [0.0, 0.3]]))) == np.inf
    assert hole.surplus(Region(np.array([[0.0, 1.0], [0.0, 0.0]]))) == np.inf


def test_faces_that_meet_in_a_part_are_closed_by_flat_fillers():
    vertices = [*SQUARE[:4], [0.5, 0], [0.5, 1], [0.5, 0.5]]
    left, right = [[0, 2, 6], [0, 4, 6], [2, 5, 6]], [[1, 3, 4], [3, 4, 5]]
    assert made(vertices, [left, right]).surplus(WHOLE) == np.inf
    tiling = made(vertices, [left, right], [[4, 5, 6]])
    assert tiling.surplus(WHOLE) < np.inf
    assert tiling.extra < 1e-14


@pytest.mark.parametrize("place", [[0.25, 0.75], [0.5, 0.5]])
def test_a_doubled_vertex_makes_no_neighbours_of_cells_that_touch_in_a_point(place):
    """Two cells with the two names of one corner share an edge of no length."""
    tiling = made([*SQUARE, place], [[[0, 1, 4], [0, 4, 5]], [[2, 3, 4], [2, 4, 5]]])
    between = {tuple(sorted(pair)) for pair in tiling._pairs[tiling._solid].tolist()}
    assert ((0, 1) in between) == (place != [0.5, 0.5])


@pytest.mark.parametrize("seed", range(20))
def test_what_is_held_of_a_shrunken_cell_lies_in_it(seed):
    """Whatever simplices somebody gives a cell, in places far from its middle too."""
    draw = np.random.default_rng(seed)
    n = int(draw.integers(1, 4))
    corners = draw.random((n + 1 + int(draw.integers(0, 4)), n))
    chosen = [draw.choice(len(corners), n + 1, replace=False).tolist() for _ in range(3)]
    chosen = [*chosen, list(range(len(corners) - n - 1, len(corners)))]
    middle, shrink = corners.mean(axis=0), float(draw.choice([0.2, 0.7, 0.95, 0.999]))
    for simplex in chosen:
        cell = [simplex] + [[k, *[j for j in range(len(corners)) if j != k][:n]] for k in range(len(corners))]
        held = made(corners.tolist(), [[simplex], cell]).held(
            np.array([middle, middle]), np.array([shrink, 0.0])
        )
        weights = draw.dirichlet(np.ones(n + 1), size=4000)
        points = weights @ corners[np.sort(simplex)]
        stretched = middle + (points - middle) / shrink
        share = np.mean([inside(point, corners) for point in stretched[:400]])
        edges = corners[np.sort(simplex)][1:] - corners[np.sort(simplex)][0]
        volume = abs(np.linalg.det(edges)) / math.factorial(n)
        assert held[0] <= volume * (share + 0.1)
        assert held[1] == 0


def inside(point: np.ndarray, corners: np.ndarray) -> bool:
    """Whether a point lies in a hull, by the weights that are nearest to making it."""
    from scipy.optimize import nnls

    system = np.concatenate([corners.T, np.ones((1, len(corners)))])
    return nnls(system, np.append(point, 1.0))[1] < 1e-9
