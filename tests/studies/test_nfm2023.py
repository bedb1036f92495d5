"""The study of the paper: its numbers come from the records, and its findings change with them."""

from __future__ import annotations

import csv
import gzip
import re
import struct
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import pytest
import torch
from studies.nfm2023 import cases as planning
from studies.nfm2023.cases import CLASS_ONLY, DELTA, SETS, Form, Subject, plan_of, specification
from studies.nfm2023.data import DataSet, Part, load_idx
from studies.nfm2023.export import to_onnx
from studies.nfm2023.findings import findings
from studies.nfm2023.networks import ARCHITECTURES, FOUND, TRAINED, Wanted
from studies.nfm2023.report import write
from studies.nfm2023.results import keep
from studies.nfm2023.rows import rows_of
from studies.nfm2023.statistics import mean_slope, paired_p, power_law, quartiles
from studies.nfm2023.training import trained

from steadygaze.campaign import Machine, Plan, PlannedCase, Record, Status, make_case, read, run
from steadygaze.campaign.store import Entry, writing
from steadygaze.errors import ImageError, SettingError
from steadygaze.network.reading.load import load_network
from steadygaze.perturbation.notation import chain_of

pytestmark = pytest.mark.timeout(240)
MACHINE = Machine("Linux x86_64", "made <up> & so", 2, 1, 1)


def planted(number: int, **changed) -> tuple[PlannedCase, Record]:
    """A case and a record that nobody computed."""
    asked = {
        "network": "N-1",
        "training": "standard",
        "perturbation": "{brightness}",
        "width": 1.0,
        "image": f"img:{number}",
        "method": "sweep",
        "threshold": DELTA,
        "status": Status.SOLVED,
        "high": 0.3,
        "regions": 100,
        "units": 100,
        "scale": 0.5,
        "interior": "examined",
        "around": 50,
    } | changed
    case = make_case(
        {
            "model": "digits-mlp",
            "image": "digits:2",
            "perturb": "brightness(amount=-0.3..0.3)",
            "method": asked["method"],
            "threshold": asked["threshold"],
            "regions_limit": number + 1,
        }
    )
    names = ("network", "training", "perturbation", "width", "image")
    tags = {name: asked[name] for name in names} | {
        "data": "MNIST", "architecture": "FNN-1", "family": "FNN", "accuracy": 0.9, "attacked": 0.5,
    }  # fmt: skip
    answer = {
        "verdict": "violated",
        "timing": {"total": asked["regions"] / 1000, "load": 0.0, "search": asked["regions"] / 2000},
        "regions": {"visited": asked["regions"], "around_origin": asked["around"]},
        "nearest_failure": None,
        "units": asked["units"],
        "layers": 2,
        "axes": [{"name": "brightness.amount", "unit": "", "low": -0.3, "high": 0.3}],
        "ranges": [[-0.3, asked["high"]]],
        "safe_scale": asked["scale"],
        "shares": {"robust": 0.5},
        "origin_share": 0.5,
        "interior": asked["interior"],
        "versions": {"steadygaze": "0"},
        "tolerance": {"margin": 1e-9},
        "model_sha256": "ab",
    }
    cut = asked["status"] in (Status.CRASHED, Status.REFUSED)
    record = Record(
        asked["status"], "planted", 1.0, {"before": 1, "peak": 2**20}, MACHINE, "2030-01-01T00:00:00+00:00",
        None if cut else answer,
    )  # fmt: skip
    return PlannedCase(case, tags), record


def entries(*plants: tuple[PlannedCase, Record]) -> list[Entry]:
    return [
        Entry(f"{number:064d}", "p", planned.tags, vars(planned.case), record)
        for number, (planned, record) in enumerate(plants)
    ]


def told(title: str, *plants: tuple[PlannedCase, Record]) -> str:
    (finding,) = [one for one in findings(rows_of(entries(*plants))) if title in one.title]
    return " ".join(finding.sentences)


def pairs(first: dict, second: dict, count: int = 6) -> list[tuple[PlannedCase, Record]]:
    """The same images twice."""
    return [
        planted(2 * number + which, image=f"img:{number}", **change)
        for number in range(count)
        for which, change in enumerate((first, second))
    ]


def test_attention_against_class_follows_the_records():
    lost = pairs({"threshold": CLASS_ONLY, "high": 0.2}, {"high": 0.1})
    assert "In 6 of 6 comparisons (100 %)" in told("attention lost", *lost)
    kept = pairs({"threshold": CLASS_ONLY, "high": 0.2}, {"high": 0.2})
    assert "In 0 of 6 comparisons (0 %)" in told("attention lost", *kept)
    assert "Too few records for a finding: 4 comparisons" in told("attention lost", *lost[:8])
    said = told("How far", *lost)
    assert "the class holds from -0.3 to 0.2, the attention only from -0.3 to 0.1" in said
    # A case that a limit ended is counted and never a value.
    cut = [*lost, planted(99, image="img:99", status=Status.TIMED_OUT, high=0.001)]
    assert "0 (class) and 1 (attention) questions that a limit ended" in told("How far", *cut)
    assert "to 0.1 (medians over 6" in told("How far", *cut)


def test_engines_are_compared_pair_by_pair():
    fewer = pairs({"method": "bfs", "regions": 10_000}, {"method": "gbs", "regions": 1_000})
    said = told("GBS against BFS", *fewer)
    assert "gbs visits 10.0 % of the regions" in said
    assert "fewer in 6" in said
    assert "5,000 regions or more (6 cases)" in said
    assert "Where R₀ holds" not in said
    around = {"method": "bfs", "regions": 10_000, "around": 6_000}
    said = told("GBS against BFS", *pairs(around, {"method": "gbs", "regions": 1_000}))
    assert "Where R₀ holds 5,000 regions or more (6 cases), it is 10.0 % (median" in said
    more = pairs({"method": "bfs", "regions": 100}, {"method": "gbs", "regions": 250})
    assert "fewer in 0" in told("GBS against BFS", *more)
    cut = pairs({"method": "bfs", "status": Status.TIMED_OUT}, {"method": "gbs"})
    assert "Too few records" in told("GBS against BFS", *cut)
    assert "6 timed out of 6" in told("come to an end", *cut)
    assert "6 cases were solved by gbs alone" in told("come to an end", *cut)


def test_the_boundary_grows_more_slowly_than_the_inside():
    plants = [
        planted(2 * number + which, image=f"img:{number}", method=method, regions=int(size**power))
        for number, size in enumerate((10, 20, 40, 80, 160, 320))
        for which, (method, power) in enumerate((("bfs", 2), ("gbs", 1)))
    ]
    said = told("GBS against BFS", *plants)
    assert "Under {brightness} the regions of gbs grow like those of bfs to the power of 0.5 (95 %" in said


def test_a_range_along_an_axis_counts_though_the_interior_is_not_examined():
    """It was walked from 0; the safe scale is another matter, and is not given then."""
    outer = pairs({"threshold": CLASS_ONLY}, {"interior": "not examined"})
    assert "In 0 of 6 comparisons" in told("attention lost", *outer)


def test_training_is_compared_with_its_sibling():
    better = pairs({}, {"network": "N-1 pgd", "training": "pgd", "high": 0.3})
    worse = pairs({}, {"network": "N-1 pgd", "training": "pgd", "high": 0.0})
    assert "less far in 0 of 6 pairs" in told("steady attention", *better)
    assert "holds farther in 0 and less far in 6 of 6 pairs" in told("steady attention", *worse)


def test_exponents_are_those_that_were_planted():
    plants = [
        planted(number, network=f"N-{number}", units=units, regions=units**2, image="img:0")
        for number, units in enumerate((10, 20, 40, 80, 160, 320))
    ]
    said = told("against units", *plants)
    assert "regions grow like units to the power 2 (2 to 2; n = 6)" in said
    widths = [
        planted(number, width=width, regions=int(1000 * width**3), image=f"img:{number // 3}")
        for number, width in enumerate((0.1, 0.5, 1.0) * 6)
    ]
    assert "regions grow like width to the power 3" in told("width of the box", *widths)


def test_the_report_says_what_the_store_holds(tmp_path):
    plants = [
        *(planted(number, high=0.01 * number, threshold=CLASS_ONLY) for number in range(7)),
        *(planted(10 + n, high=0.01 * n, image=f"img:{n}") for n in range(5)),
        planted(20, method="bfs", status=Status.CRASHED),
        planted(21, network="<b>N</b>", status=Status.TIMED_OUT, regions=7),
    ]
    store = tmp_path / "records.sqlite"
    plan = Plan("p", tuple(planned for planned, _ in plants))
    with writing(store) as writer:
        keys = plan.keys()
        writer.begin(plan, keys)
        for key, (planned, record) in zip(keys, plants, strict=True):
            writer.settle(key, planned, record, {})
    page = write(store, tmp_path).read_text()
    assert "<b>N</b>" not in page
    assert "&lt;b&gt;N&lt;/b&gt;" in page
    assert "made &lt;up&gt; &amp; so" in page
    assert "http" not in page.replace("http-equiv", "")

    kept = {entry.key: entry for entry in read(store)}
    rows = {row["key"]: row for row in listed(tmp_path / "tables/records.csv")}
    assert rows.keys() == kept.keys()
    for key, row in rows.items():
        record = kept[key].record
        assert row["status"] == record.status.value
        assert row["regions"] == ("" if record.answer is None else str(record.answer["regions"]["visited"]))
    short = {key[:12]: entry for key, entry in kept.items()}
    for row in listed(tmp_path / "tables/ranges.csv"):
        here = [short[key].record.answer for key in row["records"].split()]
        solved = [answer["ranges"][0][1] for answer in here][: int(row["n"])]
        assert float(row["median"]) == pytest.approx(median((0.3 + high) / 0.6 for high in solved))
        assert float(row["median to"]) == pytest.approx(median(solved))
    counted = {row["engine"]: row for row in listed(tmp_path / "tables/outcomes.csv")}
    assert (counted["sweep"]["solved"], counted["sweep"]["timed out"]) == ("5", "1")
    assert counted["bfs"]["crashed"] == "1"
    with pytest.raises(SettingError, match="no store"):
        write(tmp_path / "absent.sqlite", tmp_path)


def listed(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_a_small_study_from_the_plan_to_the_report(tmp_path, monkeypatch):
    """Networks of random weights on random images, by the engine that there is."""
    monkeypatch.setattr(
        planning, "SETS", {name: SETS[name] for name in ("{brightness}", "{brightness, patch}")}
    )
    torch.manual_seed(1)
    model = ARCHITECTURES["FNN-100"].build()
    file = tmp_path / "net.onnx"
    file.write_bytes(to_onnx(model, "net", (1, 28, 28)).SerializeToString())
    images = (torch.rand(12, 1, 28, 28) * 255).byte()
    folder = idx_folder(tmp_path / "idx", images.numpy(), np.zeros(12, np.uint8))
    labels = model(images.float() / 255).argmax(1)
    held_out = Part(images.float() / 255, labels, tuple(f"idx:{folder}:{n}" for n in range(12)))
    sets = {"MNIST": DataSet("MNIST", None, held_out, "random")}
    form = Form("tiny", 1, 1, (DELTA,), (0.5,), 5.0, 1.0)
    plan = plan_of([Subject("net", "MNIST", "standard", "FNN-100", "FNN", str(file))], sets, form)
    assert len(plan.cases) == 2 * (6 + 3)
    more = plan_of(
        [Subject("net", "MNIST", "standard", "FNN-100", "FNN", str(file))], sets, replace(form, images=2)
    )
    assert more.cases[: len(plan.cases)] == plan.cases, "the first image comes first"
    summary = run(plan, tmp_path / "records.sqlite", workers=1)
    assert sum(summary.ended.values()) == len(plan.cases)
    assert summary.ended[Status.SOLVED] >= 2 * 3
    assert Status.CRASHED not in summary.ended
    page = write(tmp_path / "records.sqlite", tmp_path).read_text()
    assert "What this does not show" in page
    assert listed(tmp_path / "tables/ranges.csv")
    told = keep(tmp_path / "records.sqlite", tmp_path / "results").read_text()
    kept = listed(tmp_path / "results/tables/ranges.csv")
    asked = {entry.key[:12] for entry in read(tmp_path / "records.sqlite")}
    assert {key for row in kept for key in row["records"].split()} <= asked
    links = re.findall(r"\]\(([^)]+)\)", told)
    assert links
    assert all((tmp_path / "results" / link).exists() for link in links if not link.startswith(".."))
    texts = [
        path.read_text() for ending in ("md", "csv") for path in tmp_path.rglob(f"results/**/*.{ending}")
    ]
    texts.append(pd.read_parquet(tmp_path / "results/records.parquet").to_json())
    assert str(tmp_path) not in "".join(texts).replace("\\/", "/")
    too_many = replace(form, images=13)
    with pytest.raises(SettingError, match="only 12 of 12 held-out images"):
        plan_of([Subject("net", "MNIST", "standard", "FNN-100", "FNN", str(file))], sets, too_many)


def idx_folder(folder: Path, images: np.ndarray, labels: np.ndarray, part: str = "t10k") -> Path:
    folder.mkdir(exist_ok=True)
    sizes = struct.pack(">3I", len(images), 28, 28)
    content = bytes((0, 0, 8, 3)) + sizes + images.tobytes()
    (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(content))
    content = bytes((0, 0, 8, 1)) + struct.pack(">I", len(labels)) + labels.tobytes()
    (folder / f"{part}-labels-idx1-ubyte").write_bytes(content)
    return folder


def test_data_are_split_and_a_training_file_is_taken_where_there_is_one(tmp_path):
    blank, labels = np.zeros((10_000, 28, 28), np.uint8), np.zeros(10_000, np.uint8)
    folder = idx_folder(tmp_path / "idx", blank, labels)
    data = load_idx("MNIST", folder)
    assert (len(data.train.labels), len(data.held_out.labels)) == (8_000, 2_000)
    assert data.held_out.sources[0].endswith("idx:8000")
    assert "8,000" in data.note
    idx_folder(folder, blank[:20], labels[:20], "train")
    data = load_idx("MNIST", folder)
    assert (len(data.train.labels), len(data.held_out.labels)) == (20, 10_000)
    with pytest.raises(ImageError, match="no t10k-images"):
        load_idx("MNIST", tmp_path)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_are_of_the_size_they_are_named_after(name):
    model = ARCHITECTURES[name].build()
    proto = to_onnx(model, name, (1, 28, 28))
    assert proto.SerializeToString() == to_onnx(model, name, (1, 28, 28)).SerializeToString()
    if name.startswith("FNN"):
        widths = [layer.out_features for layer in model if isinstance(layer, torch.nn.Linear)][:-1]
        assert sum(widths) == int(name[4:])


def test_training_is_kept_and_not_done_again(tmp_path, monkeypatch):
    monkeypatch.setattr("studies.nfm2023.training.STEPS", {"standard": 3, "pgd": 2, "noise": 3})
    monkeypatch.setattr("studies.nfm2023.training.ProcessPoolExecutor", InThisProcess)
    images, labels = torch.rand(40, 1, 28, 28), torch.arange(40) % 10
    part = Part(images, labels, tuple(map(str, range(40))))
    wanted = (Wanted("MNIST", "FNN-100", "standard"), Wanted("MNIST", "CNN-S", "pgd"))
    said: list[str] = []
    sets = {"MNIST": DataSet("MNIST", part, part, "")}
    first = trained(wanted, sets, tmp_path, 1, said.append)
    before = Path(first[wanted[0]].file).read_bytes()
    network = load_network(first[wanted[1]].file, input_shape=(1, 28, 28))
    assert network.graph.units == 452
    count = len(said)
    assert trained(wanted, sets, tmp_path, 1, said.append) == first
    assert len(said) == count
    Path(first[wanted[0]].file).unlink()
    again = trained(wanted, sets, tmp_path, 1, said.append)
    assert Path(again[wanted[0]].file).read_bytes() == before


class InThisProcess:
    """Stands in for the pool, so that what is patched here holds there."""

    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, work, *arguments):
        from concurrent.futures import Future

        threads = torch.get_num_threads()
        future = Future()
        future.set_result(work(*arguments))
        torch.set_num_threads(threads)
        return future


def test_the_plan_names_what_there_is():
    assert len({one.name for one in TRAINED}) == len(TRAINED) == 28
    assert not [public for public in FOUND if "SIGMOID" in public.file]
    for name in SETS:
        whole, half = chain_of(specification(name)), chain_of(specification(name, 0.5))
        for link, small in zip(whole.links, half.links, strict=True):
            for p, q in zip(link.parameters, small.parameters, strict=True):
                assert (q.low, q.high) == (p.low / 2, p.high / 2)


def test_statistics_treat_what_was_cut_off_as_larger():
    found = quartiles([1.0, 2.0, 3.0], cut_off=2)
    assert (found.median, found.n, found.upper) == (3.0, 5, float("inf"))
    assert quartiles([1.0], cut_off=2).median == float("inf")
    assert quartiles([]) is None
    assert power_law({"x": [1, 2, 3, 4]}, [1, 2, 3, 4]) == []
    assert power_law({"x": [2, 2, 2, 2, 2]}, [1, 2, 3, 4, 5]) == []
    (fit,) = power_law({"x": [1, 2, 4, 8, 16]}, [3, 6.5, 11, 25, 47])
    assert fit.low < 1 < fit.high
    assert mean_slope("x", [1.0] * 4) is None
    assert paired_p([1.0, 2.0], [1.0, 2.0]) is None
