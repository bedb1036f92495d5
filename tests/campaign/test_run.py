"""Running a plan: workers that crash, hang or grow, resuming, and an interrupt."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

import misbehaving
from steadygaze.campaign import (
    AbstractCrew,
    Margins,
    Plan,
    PlannedCase,
    Reply,
    Status,
    make_case,
    pool,
    read,
    run,
)
from steadygaze.campaign.record import this_machine
from steadygaze.campaign.store import folder_of
from steadygaze.errors import SettingError

CASE = make_case(
    {"model": "digits-mlp", "image": "digits:2", "perturb": "brightness(amount=-0.3..0.3)", "time-limit": 60}
)
SCRIPT = """
import sys
from pathlib import Path
from steadygaze.campaign import Plan, PlannedCase, make_case, run
if __name__ == "__main__":
    cases = tuple(
        PlannedCase(make_case({"model": "digits-cnn", "image": f"digits:{i}", "perturb": [
            "brightness(amount=-0.3..0.3)", "patch(opacity=0..1, top=2, left=2, height=3, width=3, mode=add)"
        ]})) for i in range(400)
    )
    print(run(Plan("long", cases), Path(sys.argv[1]), workers=1).sentence())
"""


pytestmark = pytest.mark.timeout(240)


class Repaired(AbstractCrew):
    """Answers at once."""

    workers = 1

    def work(self, tasks, watch):
        watch(tasks)
        yield from (
            (task, Reply(Status.SOLVED, "repaired", 0.1, {}, this_machine(1), None)) for task in tasks
        )


def test_answers_are_kept_and_not_asked_for_again(tmp_path, monkeypatch):
    store, told = tmp_path / "a.sqlite", []
    plan = Plan(
        "p",
        tuple(
            PlannedCase(case)
            for case in (
                CASE,
                replace(CASE, threshold=-1.0),
                replace(CASE, image="digits:3", regions_limit=1),
            )
        ),
    )
    summary = run(plan, store, workers=1, progress=told.append)
    assert summary.ended == {Status.SOLVED: 1, Status.REFUSED: 1, Status.OUT_OF_REGIONS: 1} or (
        summary.ended == {Status.SOLVED: 2, Status.REFUSED: 1}
    )
    assert told[-1].finished == told[-1].total == 3
    solved, refused, _ = (entry.record for entry in read(store))
    assert solved.answer["verdict"] == "violated"
    assert solved.answer["units"] == 64
    assert solved.answer["layers"] == 2
    assert solved.answer["regions"]["visited"] > 1
    (low, high), *_ = solved.answer["ranges"]
    assert -0.3 <= low < 0 < high <= 0.3
    assert solved.memory["peak"] >= solved.memory["before"] > 2**20
    assert solved.seconds >= solved.answer["timing"]["total"]
    assert refused.answer is None
    assert "threshold is -1" in refused.sentence

    def unwanted(*_):
        raise AssertionError("a finished plan starts no process")

    monkeypatch.setattr(pool, "Worker", unwanted)
    again = run(plan, store)
    assert (again.before, again.ended) == (3, {})
    assert "no work was done" in again.sentence()


def test_folders_are_kept_where_the_plan_wants_them(tmp_path):
    store = tmp_path / "a.sqlite"
    cases = (CASE, replace(CASE, threshold=2.0, perturb=("brightness(amount=-0.001..0.001)",)))
    plan = Plan("p", tuple(PlannedCase(case, keep="failing") for case in (*cases, CASE)))
    summary = run(plan, store, workers=1)
    assert (summary.total, summary.verdicts) == (2, {"violated": 1, "robust": 1})
    violated, robust, again = read(store)
    assert violated.record == again.record
    assert {path.name for path in folder_of(store, violated.key).iterdir()} >= {"result.json", "witness"}
    assert not folder_of(store, robust.key).exists()
    assert run(plan, store, workers=1).ended == {}
    shutil.rmtree(folder_of(store, violated.key))
    assert run(plan, store, workers=1).ended == {Status.SOLVED: 1}
    assert folder_of(store, violated.key).is_dir()


def test_whatever_a_worker_does_is_a_record(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "serve", misbehaving.serve)
    expected = {
        "digits:2": (Status.SOLVED, "a failing point was found"),
        misbehaving.RAISES: (Status.CRASHED, "unexpected ZeroDivisionError: planted"),
        misbehaving.HANGS: (Status.TIMED_OUT, "beyond the time limit of 0.5 s"),
        misbehaving.GROWS: (Status.OUT_OF_MEMORY, "beyond the memory limit of 0.5 GiB"),
        misbehaving.CRASHES: (Status.CRASHED, "exit code 3"),
        misbehaving.SEGFAULTS: (Status.CRASHED, "killed by signal 11"),
        misbehaving.SPINS: (Status.TIMED_OUT, "beyond the time limit of 0.5 s"),
    }
    cases = tuple(
        PlannedCase(replace(CASE, image=image, memory_limit=0.5, time_limit=limit))
        for image in expected
        for limit in [0.5 if image in (misbehaving.HANGS, misbehaving.SPINS) else None]
    )
    store = tmp_path / "a.sqlite"
    summary = run(Plan("p", cases), store, workers=2, margins=Margins(1.0, 1.5, 0.5))
    found = [entry.record for entry in read(store)]
    for record, (status, words) in zip(found, expected.values(), strict=True):
        assert record.status == status
        assert words in record.sentence
    assert summary.ended == {
        Status.SOLVED: 1,
        Status.CRASHED: 3,
        Status.TIMED_OUT: 2,
        Status.OUT_OF_MEMORY: 1,
    }

    again = run(Plan("p", cases), store, retry={Status.CRASHED}, crew=Repaired())
    assert (again.before, again.ended) == (4, {Status.SOLVED: 3})
    assert [entry.record.sentence for entry in read(store)].count("repaired") == 3


def test_a_case_that_waits_behind_a_crash_is_done_by_another(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "serve", misbehaving.serve)
    monkeypatch.setattr(pool, "SOON", math.inf)  # however long the last one took, the next is at hand
    images = ["digits:2", "digits:3", misbehaving.CRASHES, *(f"digits:{number}" for number in (4, 5, 6))]
    plan = Plan("p", tuple(PlannedCase(replace(CASE, image=image)) for image in images))
    run(plan, tmp_path / "a.sqlite", workers=1)
    found = {entry.question["image"]: entry.record.status for entry in read(tmp_path / "a.sqlite")}
    assert found == dict.fromkeys(images, Status.SOLVED) | {misbehaving.CRASHES: Status.CRASHED}


def test_an_interrupt_keeps_what_is_finished(tmp_path):
    store = tmp_path / "a.sqlite"
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(script), str(store)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    _until(lambda: store.is_file() and any(entry.record for entry in _peek(store)))
    process.send_signal(signal.SIGINT)
    said, complained = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "interrupted with" in said
    assert not complained
    finished = sum(entry.record is not None for entry in read(store))
    assert 0 < finished < 400


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process is started at once")
def test_an_interrupt_is_heeded_while_a_worker_process_starts():
    with pytest.raises(KeyboardInterrupt), pool._quiet_start():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 1.0, 4.0])
def test_ctrl_c_ends_a_run_and_its_workers(seconds, tmp_path):
    """Of a terminal: all processes hear it, also those that import and those that were just born."""
    store, script = tmp_path / "a.sqlite", tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(script), str(store)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _until(lambda: store.is_file() and len(_peek(store)) == 400)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    said, complained = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "interrupted with" in said
    assert not complained
    _until(lambda: not _is_alive(process.pid))


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _peek(store: Path) -> list:
    try:
        return read(store)
    except SettingError:
        return []


def _until(true, seconds: float = 60.0) -> None:
    ended = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ended
        time.sleep(0.1)


def test_settings_of_a_run_are_checked(tmp_path):
    for workers in (0, True, 1.5):
        with pytest.raises(SettingError, match="number of workers"):
            run(Plan("p", (PlannedCase(CASE),)), tmp_path / "a.sqlite", workers=workers)
    with pytest.raises(SettingError, match="margins are"):
        Margins(factor=0.5)


def test_starting_a_worker_leaves_the_environment_alone():
    before, threads = dict(os.environ), threading.active_count()
    with pool._quiet_start():
        assert os.environ["OMP_NUM_THREADS"] == "1"
    assert dict(os.environ) == before
    assert threading.active_count() == threads
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
