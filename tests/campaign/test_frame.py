"""A campaign as a frame of pandas."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pandas as pd
import pytest

from steadygaze.campaign import Entry, Machine, Plan, PlannedCase, Record, Status, frame, make_case
from steadygaze.campaign.store import writing
from steadygaze.campaign.table import COLUMNS
from steadygaze.errors import SettingError

CASE = make_case({"model": "digits-mlp", "image": "digits:2", "perturb": "brightness(amount=-0.1..0.1)"})
RECORD = Record(
    Status.SOLVED,
    "all of it",
    1.5,
    {"peak": 20},
    Machine("Linux", "made up", 2, 1, 1),
    "2030-01-02T03:04:05+00:00",
    {"verdict": "robust", "predicted": 3, "safe_scale": 1.0, "regions": {"visited": 7}, "method": "sweep"},
)


def entry(key: str, tags: dict, record: Record | None) -> Entry:
    return Entry(key, "p", tags, json.loads(json.dumps(vars(CASE))), record)


def entries() -> list[Entry]:
    refused = replace(RECORD, status=Status.REFUSED, answer=None)
    return [
        entry("a", {"model": "m", "label": 3}, RECORD),
        entry("b", {"model": "m", "label": 4}, RECORD),
        entry("c", {"model": "n", "label": None, "width": 0.5}, refused),
        entry("d", {}, None),
    ]


def test_a_frame_has_the_columns_of_an_export_and_ones_own_tags():
    table = frame(entries())
    assert list(table.columns) == [*COLUMNS, "width"]
    assert list(table["key"]) == ["a", "b", "c", "d"]


def test_what_is_missing_is_missing_and_does_not_turn_numbers_into_floats():
    table = frame(entries())
    assert table["predicted"].tolist()[:2] == [3, 3]
    assert table["predicted"].isna().tolist() == [False, False, True, True]
    assert table["correct"].tolist()[:2] == [True, False]
    assert table["correct"].isna().tolist() == [False, False, True, True]
    assert table["finished"][0] == pd.Timestamp("2030-01-02T03:04:05Z")
    assert table["status"].tolist()[:3] == ["solved", "solved", "refused"]
    # a mean over cases without an answer does not count them
    assert table["safe_scale"].mean() == 1.0


def test_a_store_is_read_and_an_empty_campaign_has_the_same_columns(tmp_path):
    plan = Plan("p", (PlannedCase(CASE, {"model": "m"}),))
    with writing(tmp_path / "p.sqlite") as writer:
        writer.begin(plan, plan.keys())
    assert frame(str(tmp_path / "p.sqlite"))["status"].isna().all()
    assert list(frame([]).columns) == list(COLUMNS)


def test_without_pandas_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(SettingError, match=r"steadygaze\[notebook\]"):
        frame([])


def test_the_package_does_without_pandas():
    import subprocess

    code = "import sys, steadygaze.campaign as c; c.read; c.frame; assert 'pandas' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
