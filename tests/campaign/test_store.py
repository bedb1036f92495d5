"""The file of the records: durable, versioned, one writer, readable anywhere."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from steadygaze.campaign import (
    Machine,
    Plan,
    PlannedCase,
    Record,
    RunState,
    Status,
    make_case,
    read,
    read_document,
    read_state,
)
from steadygaze.campaign.store import Ending, folder_of, writing
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


VERSION_1 = """
PRAGMA application_id = 1397180243; PRAGMA user_version = 1;
CREATE TABLE cases (key TEXT PRIMARY KEY, position INTEGER, plan TEXT NOT NULL, tags TEXT NOT NULL,
    question TEXT NOT NULL);
CREATE TABLE records (key TEXT PRIMARY KEY REFERENCES cases (key), status TEXT NOT NULL, method TEXT NOT NULL,
    verdict TEXT, seconds REAL NOT NULL, regions INTEGER, finished TEXT NOT NULL, record TEXT NOT NULL);
CREATE INDEX records_status ON records (status, method);
"""


def test_a_store_of_the_first_version_is_read_and_taken_over(tmp_path):
    path = tmp_path / "a.sqlite"
    keys, question = PLAN.keys(), json.dumps(asdict(CASE))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(VERSION_1)
        for position, key in ((None, "gone"), (1, keys[1]), (0, keys[0])):
            connection.execute("INSERT INTO cases VALUES (?, ?, 'old', '{}', ?)", (key, position, question))
            row = (key, "solved", "auto", "robust", 1.5, 7, "2030", json.dumps(RECORD.to_dict()))
            connection.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    before = read(path)
    assert [(entry.key, entry.plan, entry.record) for entry in before] == [
        (keys[0], "old", RECORD),
        (keys[1], "old", RECORD),
    ]
    assert (read_document(path), read_state(path)) == ({}, None)
    with writing(path) as store:
        assert set(store.endings([*keys, "gone"])) == {keys[0], keys[1], "gone"}
    assert read(path) == before
    fill(path, count=0)
    assert [entry.record for entry in read(path)] == [RECORD, RECORD, None]


def test_plan_and_run_are_kept(tmp_path):
    path = tmp_path / "a.sqlite"
    fill(path, replace(PLAN, document={"models": ["a"], "gate": {"x": 1}}))
    assert read_document(path) == {"models": ["a"], "gate": {"x": 1}}
    assert read_state(path) is None
    state = RunState(7, "host", 2, 1.0, 2.0, None, ({"t": 0.1},))
    with writing(path) as store:
        store.tell(replace(state, beat=1.5))
        store.tell(state)
    assert read_state(path) == state


def test_cases_that_ask_the_same_are_all_there(tmp_path):
    path = tmp_path / "a.sqlite"
    fill(path, Plan("p", (PLAN.cases[0], replace(PLAN.cases[0], tags={"t": "again"}))), count=1)
    assert [(entry.tags["t"], entry.record) for entry in read(path)] == [(0.1, RECORD), ("again", RECORD)]


def test_folders_of_answers_lie_beside_the_store_and_are_whole(tmp_path):
    path = tmp_path / "a.sqlite"
    with writing(path) as store:
        keys = PLAN.keys()
        store.begin(PLAN, keys)
        for content in (b"first", b"second"):
            store.settle(keys[0], PLAN.cases[0], RECORD, {"result.json": content, "witness/a.png": b"png"})
    folder = folder_of(path, keys[0])
    assert (folder / "result.json").read_bytes() == b"second"
    assert (folder / "witness" / "a.png").read_bytes() == b"png"
    assert [one.name for one in folder.parent.iterdir()] == [keys[0]]
