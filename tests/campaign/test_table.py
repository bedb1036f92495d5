"""A campaign as a table: its rows, conditions on them, and the files it is exported to."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest

from steadygaze.campaign import Entry, Machine, Record, Status, make_case, table
from steadygaze.campaign.table import COLUMNS, chosen, export, rows, unmet
from steadygaze.commands.campaign_words import listed
from steadygaze.errors import SettingError

CASE = make_case({"model": "m.onnx", "image": "digits:2", "perturb": "brightness(amount=-0.1..0.1)"})
ANSWER = {
    "verdict": "violated",
    "predicted": 3,
    "shares": {"robust": 0.5, "class_changed": 0.25, "attention_changed": 0.25, "undecided": 0.0},
    "scales": {"class": {"holds": 0.5, "fails": 0.5}, "attention": {"holds": 0.25, "fails": None}},
    "safe_scale": 0.25,
    "radius": None,
    "nearest_failure": {"kind": "class-changed", "distance": 0.5, "theta": [0.05], "predicted": 4},
    "axes": [{"name": "brightness.amount", "unit": "", "low": -0.1, "high": 0.1}],
    "ranges": [[-0.1, 0.05]],
    "regions": {"visited": 7},
    "method": "sweep",
}
RECORD = Record(
    Status.SOLVED,
    "a failing, point",
    1.5,
    {"peak": 20},
    Machine("Linux", "made up", 2, 1, 1),
    "2030-01-01T00:00:00+00:00",
    ANSWER,
)
TAGS = {"model": "m", "image": "digits:2", "perturbation": "light", "threshold": 0.3, "label": 3}


def entries() -> list[Entry]:
    question = json.loads(json.dumps(vars(CASE)))
    refused = replace(RECORD, status=Status.REFUSED, sentence="no", answer=None, memory={})
    return [
        Entry(key, "p", tags, question, record)
        for key, tags, record in (
            ("a", TAGS, RECORD),
            ("b", TAGS | {"label": 4}, RECORD),
            ("c", TAGS | {"label": None, "width": 0.5}, refused),
            ("d", {"mine": "x", "verdict": "tagged"}, None),
        )
    ]


def test_rows_say_what_the_records_say():
    table = rows(entries())
    assert all(list(row)[: len(COLUMNS)] == list(COLUMNS) for row in table)
    first, second, refused, unfinished = table
    assert (first["correct"], second["correct"], refused["correct"]) == (True, False, None)
    assert first["share_attention_changed"] == 0.25
    assert (first["class_holds"], first["attention_fails"]) == (0.5, None)
    assert (first["parameters"], first["lows"], first["range_highs"]) == (
        ["brightness.amount"],
        [-0.1],
        [0.05],
    )
    assert (refused["status"], refused["verdict"], refused["width"]) == ("refused", None, 0.5)
    assert (unfinished["status"], unfinished["seconds"], unfinished["mine"]) == (None, None, "x")
    assert (unfinished["verdict"], unfinished["tag.verdict"]) == (None, "tagged")
    assert unfinished["model_file"] == "m.onnx"


MEASURED = {
    "drawn": 20, "held": 12, "seed": 0,
    "measures": [
        {"name": "Pearson", "points": 12, "least": -0.5, "median": 0.5, "largest": 1.0, "theta": [0.1]}
    ],
}  # fmt: skip


def test_of_the_class_alone_nothing_is_told_of_maps_and_what_was_measured_is_told():
    question = json.loads(json.dumps(vars(replace(CASE, claim="class"))))
    record = replace(RECORD, answer=ANSWER | {"measured": MEASURED})
    tags = TAGS | {"threshold": None, "saliency": "none"}
    alone, both = rows(
        [Entry("a", "p", tags, question, RECORD), Entry("b", "p", TAGS, {**vars(CASE)}, record)]
    )
    assert (alone["must_hold"], alone["threshold"], alone["saliency"]) == ("class", None, "none")
    assert (alone["share_attention_changed"], alone["measured_points"]) == (None, None)
    assert (both["must_hold"], both["threshold"]) == ("class and attention", 0.3)
    assert (both["measured_points"], both["pearson_least"], both["pearson_median"]) == (12, -0.5, 0.5)
    assert both["ssim_least"] is None
    assert "the class alone" in listed([alone], None)


def test_conditions_choose():
    table = rows(entries())

    def keys(*conditions):
        return "".join(row["key"] for row in chosen(table, conditions))

    assert keys() == "abcd"
    assert keys("verdict=violated") == "ab"
    assert keys("verdict!=violated") == "cd"
    assert keys("verdict=", "status!=") == "c"
    assert keys("correct=true") == "a"
    assert keys("threshold=0.3", "label = 4") == "b"
    for wrong in ("verdict", "colour=red"):
        with pytest.raises(SettingError, match="COLUMN!=VALUE, with one of the columns model"):
            keys(wrong)


def test_what_no_row_has_is_told_with_the_values_there_are():
    table = rows(entries())
    assert unmet(table, ["verdict=violated", "verdict!=vilated", "correct=true"]) == []
    assert unmet(table, ["verdict = vilated"]) == [
        "No case has verdict=vilated; there are: violated (2), (none) (2)"
    ]
    many = [*table, *({"image": f"{number}"} for number in range(9))]
    assert unmet(many, ["image=none"])[0].endswith("3 more")
    assert unmet([], ["verdict=vilated"]) == []


def test_csv_holds_the_rows(tmp_path):
    path = tmp_path / "new" / "cases.csv"
    export(rows(entries()), path)
    with path.open(newline="") as stream:
        read = list(csv.DictReader(stream))
    assert list(read[0]) == [*COLUMNS, "width", "mine", "tag.verdict"]
    assert read[0]["sentence"] == "a failing, point"
    assert (read[0]["correct"], read[2]["correct"], read[3]["status"]) == ("true", "", "")
    assert json.loads(read[0]["failure_theta"]) == [0.05]
    assert float(read[0]["share_robust"]) == 0.5


def test_parquet_holds_the_rows_with_their_types(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    path = tmp_path / "cases.parquet"
    export(rows(entries()), path)
    read = parquet.read_table(path)
    assert read.column_names == [*COLUMNS, "width", "mine", "tag.verdict"]
    first, *_, unfinished = read.to_pylist()
    assert first == {**dict.fromkeys(read.column_names), **rows(entries())[0]}
    assert (unfinished["verdict"], unfinished["correct"]) == (None, None)
    assert str(read.schema.field("range_lows").type) == "list<element: double>"
    export([], path)
    assert parquet.read_table(path).column_names == list(COLUMNS)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_what_ends_the_writing_leaves_an_earlier_table_whole_and_no_new_folder(tmp_path, monkeypatch, kind):
    path, new = tmp_path / f"cases.{kind}", tmp_path / "deep" / f"cases.{kind}"
    export(rows(entries()), path)
    before, usual = path.read_bytes(), getattr(table, f"_{kind}")

    def full(rows, names, place):
        usual(rows[:1], names, place)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(table, f"_{kind}", full)
    for place in (path, new):
        with pytest.raises(SettingError, match="No space left"):
            export(rows(entries()), place)
    assert [each.name for each in tmp_path.rglob("*")] == [path.name]
    assert path.read_bytes() == before


def test_other_files_are_refused(tmp_path, monkeypatch):
    with pytest.raises(SettingError, match=r"must end in \.csv or \.parquet"):
        export([], tmp_path / "cases.xls")
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="cannot be written"):
        export([], tmp_path / "file" / "cases.csv")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(SettingError, match=r"install steadygaze\[campaign\]"):
        export([], tmp_path / "cases.parquet")
