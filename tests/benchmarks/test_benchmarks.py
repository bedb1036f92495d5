"""The benchmarks run, and count what they say they count; nothing here looks at a clock."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from benchmarks.__main__ import main, measured
from benchmarks.floor import counted, measured_floor, rows_of_regions, segments, vertices_by_stage
from benchmarks.measure import measure, posed
from benchmarks.records import Failed, Measurement, Order, measurement_from, to_json
from benchmarks.table import COLUMNS, TRAVERSED, cells, traversed
from benchmarks.workloads import METHODS, NETS, ROWS, WORKLOADS, Row, case, cases, methods_of

from benchmarks import bounds, geometric, large
from benchmarks import floor as floors
from second_device import second_device
from steadygaze.network.reading.load import load_network
from steadygaze.network.saliencies import by_name as saliency_by_name
from steadygaze.perturbation.notation import chain_of
from steadygaze.question.inconsistency import by_name as inconsistency_by_name
from steadygaze.question.posing import pose
from steadygaze.question.problem import Problem
from steadygaze.verdict.driver import solve

LINE = "brightness(amount=0..0.3)"
PLANE = f"{LINE} | patch(opacity=0..1, top=3, left=3, height=2, width=2, mode=add)"


def order(perturbation: str = PLANE, **changed: object) -> Order:
    row = Row("digits", "digits-mlp", perturbation, (changed.pop("expected", None),))
    return Order(case(row, 0, None), repeat=1, **changed)


def random_problem(perturbation: str, seed: int) -> Problem:
    torch.manual_seed(seed)
    net = torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.Linear(25, 12),
        torch.nn.ReLU(),
        torch.nn.Linear(12, 9),
        torch.nn.ReLU(),
        torch.nn.Linear(9, 3),
    )
    return posed_of(net, perturbation)


def posed_of(net: torch.nn.Module, perturbation: str) -> Problem:
    return pose(
        load_network(net, input_shape=(1, 5, 5)),
        torch.rand((1, 5, 5), dtype=torch.float64).numpy(),
        chain_of(perturbation),
        label=None,
        saliency=saliency_by_name("gradient"),
        inconsistency=inconsistency_by_name("cosine"),
        threshold=0.3,
        clip=None,
    )


@pytest.fixture(scope="module")
def tiny() -> Measurement:
    return measure(order(expected=1))


@pytest.fixture(scope="module")
def followed() -> Measurement:
    return measure(order(expected=1, method="gbs"))


def test_a_measurement_is_complete(tiny):
    assert tiny.dimension == 2
    assert tiny.cells >= tiny.regions >= tiny.held > 0
    assert tiny.method == "sweep"
    assert tiny.stopped is None
    assert tiny.judged == pytest.approx(1.0)
    assert tiny.rows > tiny.regions > 1, "a map of polygons has more vertices than cells"
    assert sum(tiny.shares) == pytest.approx(1.0)
    assert tiny.verdict in ("robust", "violated", "unknown")
    assert len(tiny.all_seconds) == 1
    assert tiny.seconds >= tiny.search > 0
    assert tiny.ratio == tiny.seconds / tiny.floor.seconds
    assert tiny.needed_ratio >= tiny.ratio, "the gradients that are needed are some of all"
    assert not tiny.as_expected, "one region was expected"


def test_a_gpu_is_measured_with_the_same_answer(tiny):
    with second_device():
        there = measure(replace(order(expected=1), device="cuda"))
    assert (there.regions, there.verdict) == (tiny.regions, tiny.verdict)
    assert there.floor.seconds > 0


def test_a_measurement_survives_json(tiny):
    again = measurement_from(json.loads(json.dumps(to_json(tiny))))
    assert to_json(again) == json.loads(json.dumps(to_json(tiny))) | {"case": to_json(again)["case"]}
    assert again.ratio == tiny.ratio


def test_a_row_of_the_table_flags_an_unexpected_count(tiny):
    row = dict(zip(COLUMNS, cells(tiny), strict=True))
    assert row["regions"].plain == str(tiny.regions)
    assert row["expected"].plain == "1 !"
    assert "red" in str(row["regions"].style)
    assert row["of it"].plain == "", "nobody has measured another tool on it"


def test_the_whole_answer_stands_beside_what_is_quoted(tiny):
    quoted = replace(tiny, case=replace(tiny.case, quoted=2 * tiny.seconds))
    assert dict(zip(COLUMNS, cells(quoted), strict=True))["of it"].plain == "0.50"


@pytest.mark.slow
def test_a_search_across_facets_is_measured(tiny, followed):
    """It is held against the sweep, and no count of the whole box against it."""
    assert followed.method == "gbs"
    assert followed.rows == 3 * followed.regions, "a value and two derivatives for each region"
    assert followed.floor.rows[0] == 0, "up to the first hinges all is affine in the parameters"
    assert followed.enclosed == pytest.approx(tiny.enclosed)
    assert followed.safe_scale is None
    assert followed.as_expected
    row = dict(zip(TRAVERSED, traversed(followed, [tiny, followed]), strict=True))
    assert row["of all"].plain == f"{followed.regions / tiny.regions:.2%}"
    assert row["sweep"].plain.endswith("s")
    assert row["answer"].plain == f"encloses {followed.enclosed:.2%}"
    alone = dict(zip(TRAVERSED, traversed(followed, [followed]), strict=True))
    assert alone["of all"].plain == f"{followed.regions / 1:.2%}", "then what is known of the box counts"
    assert alone["sweep"].plain == "–"


def test_a_stopped_search_says_so(tiny):
    stopped = measure(order(memory=1e-5, threads=1))  # two may take in all of it in one step
    assert "memory limit" in stopped.stopped
    row = traversed(replace(tiny, method="bfs", stopped="the memory limit"), [stopped])
    row = dict(zip(TRAVERSED, row, strict=True))
    assert row["answer"].plain == "stopped"
    assert row["sweep"].plain.startswith(">")
    assert row["of all"].plain == f"{tiny.regions / 1:.2%}", "a stopped sweep does not know all regions"


@pytest.mark.parametrize("seed", range(3))
def test_on_a_line_there_is_one_vertex_more_than_regions(seed):
    problem = random_problem(LINE, seed)
    with counted(problem) as births:
        regions = len(solve(problem, threads=2).map.pattern)
    assert regions > 1
    assert sum(births.distinct()) + 2 == regions + 1
    assert "cut" not in vars(problem.stages), "the counting leaves no trace"


def test_vertices_are_counted_where_they_arise():
    """By brute force: on a line, a vertex arises at the first layer in which some unit is 0 there."""
    problem = random_problem(LINE, 0)
    with counted(problem) as births:
        map_ = solve(problem, threads=1).map
    ends = torch.unique(torch.from_numpy(map_.cells.theta))[:, None].numpy()
    values = problem.graph.values_at(problem.images(ends), {stage.source for stage in problem.stages.stages})
    zero = [(values[stage.source].abs() < 1e-9).any(dim=1) for stage in problem.stages.stages]
    assert births.distinct() == (int(zero[0].sum()), int((zero[1] & ~zero[0]).sum()))


def test_the_floor_adds_up():
    problem = random_problem(PLANE, 1)
    with counted(problem) as births:
        solve(problem, threads=1)
    rows = vertices_by_stage(problem, births)
    floor = measured_floor(problem, rows, regions=10, held=4, threads=2)
    assert floor.rows == rows == (4, *births.distinct())
    corners, first, second = rows
    before, between, after, backward = floor.rates
    steps = corners * before + (corners + first) * between + (corners + first + second) * after
    assert floor.forward == pytest.approx(steps)
    assert floor.seconds == pytest.approx(steps + 10 * backward)
    assert floor.needed == pytest.approx(4 * backward)


def test_the_floor_of_a_search_across_facets_begins_at_the_first_hinges():
    problem = random_problem(PLANE, 1)
    rows = rows_of_regions(problem, 10)
    assert rows == (0, 30, 0)
    floor = measured_floor(problem, rows, regions=10, held=4, threads=1)
    _, between, after, backward = floor.rates
    assert floor.seconds == pytest.approx(30 * (between + after) + 10 * backward)


def test_a_rate_ends_by_its_limit_of_time_and_says_so_where_no_region_is_known(monkeypatch, capsys):
    monkeypatch.setattr(large, "posed", lambda *_: random_problem(large.LINE, 1))
    large.rates(["line"], regions=3, seconds=60.0, shared=large.Path())
    large.rates(["line"], regions=3, seconds=1e-9, shared=large.Path())
    _, found, _, none = capsys.readouterr().out.splitlines()
    assert len(found.split()) == 9
    assert none.split()[-4:] == ["0", "in", "1e-09", "s"]


def test_the_floor_of_a_large_network_is_taken_from_few_rows(monkeypatch):
    monkeypatch.setattr(floors, "_width", lambda _: 10_000_000)
    batches: list[int] = []

    def images(problem: Problem, rows: int, seed: int) -> torch.Tensor:
        batches.append(rows)
        return torch.zeros((rows, 1, 5, 5), dtype=torch.float64)

    monkeypatch.setattr(floors, "_images", images)
    problem = random_problem(LINE, 1)
    measured_floor(problem, rows_of_regions(problem, 1), regions=1, held=1, threads=1)
    assert max(batches) == 8, "a row takes 80 MB"


def test_segments_hold_every_layer_once():
    problem = posed(case(Row("digits", "digits-cnn", PLANE, (None,)), 0, None))
    nodes = [node for segment in segments(problem.stages) for node in segment]
    assert nodes == list(range(1, len(problem.graph.nodes)))


def test_the_workloads_are_those_of_the_contract():
    assert {f"W{number}" for number in range(1, 8)} <= set(WORKLOADS)
    assert methods_of("W2") == ("sweep",)
    assert methods_of("W6") == methods_of("W7") == METHODS
    assert all(row.net in NETS for row in ROWS)
    quick = list(cases(None, quick=True))
    assert [one.net for one in quick] == ["digits-mlp"], "without the shared folder only what is built in"


@pytest.mark.slow
def test_a_record_is_written(tmp_path, capsys):
    record = tmp_path / "records" / "one.json"
    settings = ["--quick", "--repeat", "1", "--record", str(record), "--shared", str(tmp_path / "no")]
    assert main(["--only", "digits", "--method", "sweep", "nearest", *settings]) == 0
    printed = capsys.readouterr().out
    assert "digits-mlp" in printed
    assert "region by region" in printed
    assert "only the built-in networks" in printed
    written = json.loads(record.read_text())
    assert set(written) == {"date", "machine", "versions", "options", "outcomes"}
    sweep, nearest = written["outcomes"]
    assert (sweep["method"], nearest["method"]) == ("sweep", "nearest")
    assert sweep["regions"] >= nearest["regions"] > 1
    assert sweep["safe_scale"] == pytest.approx(nearest["safe_scale"])
    assert sweep["floor"]["seconds"] > 0
    assert sweep["peak"] >= 0


def test_what_cannot_be_measured_is_said():
    failed = measured(order(perturbation="brightness(amount=1..2)"), limit=120)
    assert isinstance(failed, Failed)
    assert "amount" in failed.reason


def test_a_case_that_takes_too_long_is_given_up():
    failed = measured(order(), limit=0.01)
    assert isinstance(failed, Failed)
    assert "0.01 s" in failed.reason


def test_images_that_are_classified_wrongly_are_passed_over_unasked(monkeypatch):
    """Every second image has another label than the network gives it."""
    asked = []
    graph = SimpleNamespace(forward=lambda images: torch.eye(2)[[0] * len(images)])
    posed = geometric._Posed(geometric.QUESTIONS[0], SimpleNamespace(graph=graph), "idx:nowhere", 0.0)
    monkeypatch.setattr(
        geometric,
        "load_image",
        lambda name: SimpleNamespace(image=np.zeros((1, 2, 2)), label=int(name.rpartition(":")[2]) % 2),
    )
    monkeypatch.setattr(geometric, "verify", lambda model, image, *_, **__: asked.append(image.label))
    options = SimpleNamespace(images=3, time_limit=1.0)
    assert len(list(geometric._answers(posed, "class", options))) == 3
    assert asked == [0, 0, 0]


@pytest.mark.slow
def test_bounds_beside_others_are_those_of_polynomials_where_a_search_has_them():
    torch.manual_seed(3)
    layers = [part for _ in range(16) for part in (torch.nn.Linear(25, 25), torch.nn.Tanh())]
    net = torch.nn.Sequential(torch.nn.Flatten(), *layers, torch.nn.Linear(25, 3))
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(3)
    problem = posed_of(net, LINE)
    assert problem.follows_polynomials
    boxes = bounds.boxes_of(problem, 8)
    low, high = bounds._gaps(problem, boxes, bounds.Effort.UNITS)
    least, most = problem.bounds(boxes, 32, bounds.Effort.POLYNOMIALS).enclosed_gaps(problem.label).bounds()
    rows, forms = (
        bounds._gaps(problem, boxes, effort) for effort in (bounds.Effort.GAPS, bounds.Effort.FORMS)
    )
    assert (low >= least).all()
    assert (high <= most).all()
    assert (high - low < 0.01 * (rows[1] - rows[0])).all()
    assert (rows[1] - rows[0] <= forms[1] - forms[0]).all()
    # Both hold: at points no gap is outside.
    share = np.linspace(0, 1, 9)
    for box, start, end in zip(boxes, low.numpy(), high.numpy(), strict=True):
        at = box[:, 0] + share[:, None] * np.ptp(box, axis=1)
        gaps = problem.gaps(problem.network.graph.forward(problem.images(at))).numpy()
        assert (gaps >= start).all()
        assert (gaps <= end).all()


def test_columns_of_bounds_are_of_the_efforts_that_they_name(monkeypatch, tmp_path, capsys):
    class Named:
        def __init__(self, *_):
            pass

        def gaps(self, _net, _k, efforts):
            return ["slopes" if effort is None else effort.name for effort in efforts]

        def maps(self, *_):
            return [""] * 5

    monkeypatch.setattr(bounds, "_Asked", Named)
    assert bounds.main(["--shared", str(tmp_path), "--net", "256x6", "--k", "2"]) == 0
    told = capsys.readouterr().out.splitlines()
    titles = next(line for line in told if line.startswith("network"))
    named = next(line for line in told if line.startswith("256x6")).split()
    assert named[-4:] == ["FORMS", "GAPS", "UNITS", "slopes"]
    assert [titles.find(own) for own in ("forms", "gaps", "units", "slopes")] == sorted(
        titles.find(own) for own in ("forms", "gaps", "units", "slopes")
    )
