"""What pages tell of the places that one points at, in a real browser, against the map and the model."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from pointed import EVERY, answer, holding, points
from steadygaze.answer.drawing import KINDS
from steadygaze.answer.result import Result
from steadygaze.geometry.measure import facets
from steadygaze.report.page import page
from steadygaze.verdict import surveying
from steadygaze.verdict.plain import PlainEvaluation


@pytest.mark.parametrize("case", EVERY)
def test_pointing_tells_the_cell_of_the_map_and_what_the_model_says(case, browser, written):
    folder, theta = written(case), points(case)
    browser.open(folder / "report.html")
    told = browser.pointed(theta)
    assert np.allclose([one["theta"] for one in told], theta, rtol=0, atol=1e-12)
    result = Result.from_json((folder / "result.json").read_text())
    own = answer(case)
    seen = PlainEvaluation(own.problem).at(theta)
    for at, one, cells in zip(range(len(theta)), told, holding(case, theta), strict=True):
        # A cell of no volume is a place that nobody has looked at.
        assert {cell for cell in one["cells"] if own.map.inner or own.map.volume[cell] > 0} == cells
        if not cells:
            assert one["kind"] == "undecided"
            assert result.shares.undecided != 0
            continue
        assert own.map.inner or one["kind"] in {KINDS[own.map.kind[cell]] for cell in cells}
        if one["kind"] != "undecided":
            assert seen.possible[at, KINDS.index(one["kind"])]
        if one["scoresHow"] == "exact":
            logits = own.problem.network.original.logits(own.problem.images(theta[at : at + 1]).numpy())[0]
            close = 1e-4 * float(np.abs(logits).max())
            assert np.allclose(one["scores"], logits, rtol=0, atol=close)
            assert one["gap"] == pytest.approx(seen.gap[at], abs=close)
        if one.get("inconsistencyHow") == "exact" and not seen.near[at]:
            assert one["inconsistency"] == pytest.approx(seen.inconsistency[at], abs=1e-6)
    assert not browser.errors()


@pytest.mark.parametrize(
    ("case", "exact"),
    [
        ("plane", ("scores", "map", "image", "inconsistency")),
        ("space", ("scores", "map", "image", "inconsistency")),
        ("moved", ("scores", "map", "image", "inconsistency")),
        ("class", ("scores", "image")),
        pytest.param("line", ("scores", "map", "image", "inconsistency"), marks=pytest.mark.slow),
        pytest.param("counts entries", ("image",), marks=pytest.mark.slow),
        pytest.param("looks at a layer", ("scores", "image"), marks=pytest.mark.slow),
        pytest.param("boxes", ("image",), marks=pytest.mark.slow),
        pytest.param("turned", (), marks=pytest.mark.slow),
    ],
)
def test_what_is_exact_is_said_and_nothing_else_is_called_so(case, exact, browser, written):
    browser.open(written(case) / "report.html")
    for one in browser.pointed(points(case, 8)):
        shown = {name: one.get(f"{name}How") for name in ("scores", "map", "image", "inconsistency")}
        said = {name for name, how in shown.items() if how == "exact"}
        assert said == set(exact)


def test_maps_and_images_are_those_of_the_model(browser, written):
    browser.open(written("moved") / "report.html")
    problem = answer("moved").problem
    for theta in points("moved", 5):
        browser.pointed([theta])
        image = problem.images(theta[None])
        actual = problem.maps_at(image)[0].sum(0).numpy()
        wanted = problem.expected_at(theta[None])[0].sum(0).numpy()
        largest = max(
            np.abs(actual / np.linalg.norm(actual)).max(), np.abs(wanted / np.linalg.norm(wanted)).max()
        )
        assert np.abs(pixels(browser, "image")[..., 0] - 255 * image[0, 0].numpy()).max() <= 1
        for name, map_ in (("saliency", actual), ("expected", wanted)):
            place = map_ / np.linalg.norm(map_) / largest
            # Full red has 178, 34, 24 and full blue 33, 78, 150; white is 255.
            green = 255 - np.abs(place) * np.where(place < 0, 255 - 78, 255 - 34)
            assert np.abs(pixels(browser, name)[..., 1] - green).max() <= 3


def pixels(browser, part: str) -> np.ndarray:
    found = browser.run(
        "const c = document.querySelector(`[data-part='${arguments[0]}']`);"
        "return [c.width, c.height, ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]",
        part,
    )
    return np.array(found[2:], float).reshape(found[1], found[0], 4)


def test_the_nearest_failure_is_what_result_json_says(browser, written):
    for case in ("plane", "space", "moved", "nearest"):
        folder = written(case)
        failure = json.loads((folder / "result.json").read_text())["nearest_failure"]
        browser.open(folder / "report.html")
        browser.click("button[data-jump='2']")
        told = browser.told()
        assert told["theta"] == failure["theta"]
        assert told["kind"] == failure["kind"]
        assert "when replayed in the original model" in browser.text("cell")


@pytest.mark.slow
def test_borders_are_told_with_the_worse_kind(browser, written):
    browser.open(written("plane") / "report.html")
    own = answer("plane")
    found = facets(own.map.cells)
    by_key: dict[int, list[int]] = {}
    for cell, key in zip(found.cell.tolist(), found.key.tolist(), strict=True):
        by_key.setdefault(key, []).append(cell)
    pairs = [pair for pair in by_key.values() if len(pair) == 2 and len(set(own.map.kind[pair])) == 2]
    assert len(pairs) > 3
    for first, second in pairs[:6]:
        shared = set(corners(own, first)) & set(corners(own, second))
        middle = np.mean(list(shared), axis=0)
        (told,) = browser.pointed([middle])
        assert {first, second} <= set(told["cells"])
        assert told["kind"] == max((KINDS[own.map.kind[cell]] for cell in told["cells"]), key=WORST.index)
        assert "On the border of" in browser.text("cell")


WORST = ["robust", "undecided", "attention-changed", "class-changed"]


def corners(own, cell: int) -> list[tuple[float, ...]]:
    cells = own.map.cells
    return [tuple(theta) for theta in cells.theta[cells.idx[cells.ptr[cell] : cells.ptr[cell + 1]]].tolist()]


@pytest.mark.slow
def test_the_section_that_is_painted_is_that_of_the_cells(browser, written):
    """The colour at the crossing of the lines is that of the cell that is told, all over a section."""
    browser.open(written("space") / "report.html")
    browser.run("document.querySelector('input[value=class]').click()")
    browser.run("document.querySelectorAll('input[type=checkbox]:checked').forEach((box) => box.click())")
    theta = points("space", 12)
    theta[:, 2] = 0.37
    told = browser.pointed(theta)
    found = browser.run(
        "const c = document.querySelector('#map canvas'); const g = c.getContext('2d');"
        "const at = (x, y) => g.getImageData(58 + x * (c.width - 72), 12 + (1 - y) * (c.height - 58), 1, 1);"
        "return arguments[0].map(([x, y]) => [...at(x, y).data])",
        ((theta[:, :2] - [-0.2, -0.1]) / [0.4, 0.2]).tolist(),
    )
    shades = {"class-changed": [138, 138, 138], "robust": [63, 130, 187], "attention-changed": [63, 130, 187]}
    alike = [
        np.allclose(colour[:3], shades[one["kind"]], atol=2)
        for colour, one in zip(found, told, strict=True)
        if one["kind"] in shades
    ]
    assert sum(alike) >= len(alike) - 2, "but for points on a line that is drawn"


def test_a_picture_of_the_cells_is_pointed_at_by_its_elements(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(surveying, "_MOST_CORNERS", 10)
    monkeypatch.setattr(surveying, "_SIDE", 40)
    own = replace(answer("plane"))
    own.save(tmp_path)
    browser.open(tmp_path / "report.html")
    theta = points("plane", 25)
    told = browser.pointed(theta)
    middles = np.array([one["theta"] for one in told])
    assert (np.abs(middles - theta) <= np.array([0.6, 1.0]) / 80 + 1e-12).all()
    u = (middles - [-0.3, 0]) / [0.6, 1.0] * 40
    assert np.allclose(u - np.floor(u), 0.5)
    for one, cells in zip(told, holding("plane", middles), strict=True):
        assert set(one["cells"]) <= cells
        assert one["kind"] in {KINDS[own.map.kind[cell]] for cell in cells}
    browser.click("button[data-jump='2']")
    told = browser.told()
    assert told["theta"] == list(own.result.nearest_failure.theta)
    assert told["kind"] == own.result.nearest_failure.kind
    assert told["cells"] == []
    assert "40 × 40 picture elements" in browser.run(
        "return document.querySelector('.exactness').textContent"
    )
    assert not browser.errors()


def test_where_cells_are_too_many_only_sections_through_0_have_them(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(surveying, "_MOST_FACETS", 1)
    own = answer("space")
    own.save(tmp_path)
    browser.open(tmp_path / "report.html")
    theta = points("space", 12)
    beside = browser.pointed(theta)
    assert all(one["cells"] == [] and one["kind"] == "" for one in beside)
    assert browser.text("kind") == "– cell not in this page"
    theta[:, 1] = 0
    for one, cells in zip(browser.pointed(theta), holding("space", theta), strict=True):
        assert set(one["cells"]) <= cells
        assert one["kind"] in {KINDS[own.map.kind[cell]] for cell in cells}
    assert not browser.errors()


HOSTILE = "</script><script>window.hit = 1</script><img src=x onerror='window.hit = 2'><!-- <script> & \u2028"


def test_hostile_names_are_shown_and_never_run(browser, tmp_path):
    own = answer("plane")
    problem = own.result.problem
    links = tuple(
        replace(
            link,
            name=HOSTILE,
            parameters=tuple(replace(p, name=HOSTILE, unit=HOSTILE) for p in link.parameters),
        )
        for link in problem.perturbation
    )
    named = replace(
        problem,
        perturbation=links,
        model=replace(problem.model, path=HOSTILE, note=HOSTILE),
        image=replace(problem.image, source=HOSTILE),
    )
    atlas = replace(own._atlas(), classes=(HOSTILE,) * 10)
    drawing = replace(
        own.drawing(), atlas=atlas, exhibits=tuple(replace(e, title=HOSTILE) for e in own.drawing().exhibits)
    )
    result = replace(own.result, problem=named, reason=HOSTILE)
    (tmp_path / "report.html").write_text(page(result, drawing, b"png"), encoding="utf-8")
    browser.open(tmp_path / "report.html")
    browser.click("button[data-jump='1']")
    assert browser.run("return window.hit ?? null") is None
    assert HOSTILE in browser.text("scores")
    assert HOSTILE in browser.text("theta").replace("\n", " ")
    assert not [error for error in browser.errors() if "png" not in error]


def test_nothing_but_the_scripts_of_the_page_may_run(browser, written):
    browser.open(written("plane") / "report.html")
    browser.run(
        "const s = document.createElement('script');s.textContent = 'window.hit = 1';document.body.append(s);"
    )
    assert browser.run("return window.hit ?? null") is None
    assert any("Content Security Policy" in error for error in browser.errors())


@pytest.mark.parametrize("case", EVERY)
def test_pages_stay_small_and_ask_for_nothing(case, browser, written):
    html = (written(case) / "report.html").read_text()
    assert len(html.encode()) < 3_000_000
    browser.open(written(case) / "report.html")
    asked = browser.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert not [name for name in asked if not name.startswith("data:")]
