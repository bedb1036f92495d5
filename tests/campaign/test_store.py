"""The file of the records: durable, versioned, one writer, readable anywhere."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from steadygaze.campaign import Machine, Plan, PlannedCase, Record, Status, make_case, read
from steadygaze.campaign.store import Ending, writing
from steadygaze.errors import SettingError, UsageError

CASE = make_case({"model": "digits-mlp", "image": "digits:2", "perturb": "brightness(amount=-0.1..0.1)"})
PLAN = Plan("p", tuple(PlannedCase(replace(CASE, threshold=t), {"t": t}) for t in (0.1, 0.2, 0.3)))
MACHINE = Machine("Linux x86_64", "made up", 2, 1, 1)
RECORD = Record(
    Status.SOLVED,
    "because",
    1.5,
    {"before": 10, "peak": 20},
    MACHINE,
    "2030-01-01T00:00:00+00:00",
    {"verdict": "robust", "regions": {"visited": 7}, "shares": {"robust": 1.0}},
)
KILLED = """
import os, pickle, signal, sys
from pathlib import Path
from steadygaze.campaign.store import writing
plan, record, path = pickle.load(sys.stdin.buffer)
with writing(Path(path)) as store:
    keys = plan.keys()
    store.begin(plan, keys)
    store.settle(keys[0], plan.cases[0], record, {})
    os.kill(os.getpid(), signal.SIGKILL)
"""


def fill(path: Path, plan: Plan = PLAN, count: int = 2) -> list[str]:
    with writing(path) as store:
        keys = plan.keys()
        store.begin(plan, keys)
        for key, planned in zip(keys[:count], plan.cases, strict=False):
            store.settle(key, planned, RECORD, {})
    return keys


def test_records_come_back_as_they_were(tmp_path):
    keys = fill(tmp_path / "a.sqlite")
    entries = read(tmp_path / "a.sqlite")
    assert [entry.key for entry in entries] == keys
    assert [entry.record for entry in entries] == [RECORD, RECORD, None]
    assert [entry.tags for entry in entries] == [{"t": 0.1}, {"t": 0.2}, {"t": 0.3}]
    assert entries[0].question["perturb"] == list(CASE.perturb)


def test_the_closed_file_stands_alone_and_may_lie_where_nothing_is_written(tmp_path):
    fill(tmp_path / "a.sqlite")
    assert not (tmp_path / "a.sqlite-wal").exists()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(tmp_path / "a.sqlite", elsewhere / "b.sqlite")
    elsewhere.chmod(0o500)
    assert len(read(elsewhere / "b.sqlite")) == 3
    assert [path.name for path in elsewhere.iterdir()] == ["b.sqlite"]
    elsewhere.chmod(0o700)


def test_what_was_settled_outlives_a_killed_writer(tmp_path):
    import pickle

    path = tmp_path / "a.sqlite"
    content = pickle.dumps((PLAN, RECORD, str(path)))
    ended = subprocess.run([sys.executable, "-c", KILLED], input=content, check=False)
    assert ended.returncode == -9
    assert [entry.record for entry in read(path)] == [RECORD, None, None]
    with writing(path) as store:
        assert list(store.endings(PLAN.keys()).values()) == [Ending(Status.SOLVED, "robust", 1.5)]
    assert [entry.record for entry in read(path)] == [RECORD, None, None]


def test_it_can_be_read_while_it_is_written_but_by_one_writer_only(tmp_path):
    path = tmp_path / "a.sqlite"
    with writing(path) as store:
        keys = PLAN.keys()
        store.begin(PLAN, keys)
        store.settle(keys[0], PLAN.cases[0], RECORD, {})
        assert [entry.record for entry in read(path)] == [RECORD, None, None]
        with pytest.raises(SettingError, match="written by another process"), writing(path):
            pass


def test_a_new_plan_keeps_what_is_the_same(tmp_path):
    path = tmp_path / "a.sqlite"
    fill(path)
    renamed = Plan("q", (replace(PLAN.cases[1], tags={"t": "second"}),))
    keys = fill(path, renamed, count=0)
    (entry,) = read(path)
    assert (entry.key, entry.plan, entry.tags, entry.record) == (keys[0], "q", {"t": "second"}, RECORD)
    fill(path, count=0)
    assert [entry.record for entry in read(path)] == [RECORD, RECORD, None]


def test_other_files_and_other_versions_are_refused(tmp_path):
    path = tmp_path / "a.sqlite"
    with pytest.raises(SettingError, match="no store"):
        read(path)
    path.write_bytes(b"no database at all, but long enough to look at" * 30)
    for use in (read, lambda path: writing(path).__enter__()):
        with pytest.raises(SettingError, match=r"cannot be read|not a store"):
            use(path)
    path.unlink()
    fill(path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SettingError, match="of version 99"):
        read(path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA application_id = 1")
    connection.close()
    with pytest.raises(SettingError, match="another program"), writing(path):
        pass


def test_what_is_no_record_is_said_so():
    with pytest.raises(UsageError, match="not a record"):
        Record.from_dict({"status": "dreamt"})
