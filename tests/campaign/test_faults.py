"""What goes wrong while a campaign runs, done to it for real: killed processes, full disks, spoilt images."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from steadygaze.campaign import Margins, Plan, PlannedCase, Status, make_case, read, read_state, run
from steadygaze.campaign.standing import standing_of
from steadygaze.errors import SettingError

pytestmark = pytest.mark.timeout(240)
CHAIN = ("brightness(amount=-0.3..0.3)", "patch(opacity=0..1, top=2, left=2, height=3, width=3, mode=add)")
CASE = make_case({"model": "digits-cnn", "image": "digits:2", "perturb": CHAIN, "time-limit": 60})
COMMAND = (sys.executable, "-m", "steadygaze", "campaign")
PLAN = """
models = ["digits-cnn"]
images = ["digits:0..199"]
presets = ["light-and-occlusion"]
"""
# A crew that answers at once, on a disk that takes only so much.
FULL = """
import sys
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_FSIZE, setrlimit
from steadygaze.campaign import AbstractCrew, Plan, PlannedCase, Reply, Status, make_case, run
from steadygaze.campaign.record import this_machine
from steadygaze.errors import SettingError

class Quick(AbstractCrew):
    workers = 1

    def work(self, tasks, watch):
        for task in tasks:
            answer = {"verdict": "robust", "filling": "x" * 5000}
            yield task, Reply(Status.SOLVED, "because", 0.1, {}, this_machine(1), answer)

cases = tuple(
    PlannedCase(make_case({"model": "digits-mlp", "image": "digits:2", "threshold": t / 1000,
                           "perturb": "brightness(amount=-0.1..0.1)"}))
    for t in range(1, 201)
)
if len(sys.argv) > 2:
    setrlimit(RLIMIT_FSIZE, (int(sys.argv[2]), RLIM_INFINITY))
try:
    print(run(Plan("filling", cases), Path(sys.argv[1]), crew=Quick()).sentence())
except SettingError as error:
    print(error)
"""


def planned(count: int) -> Plan:
    return Plan("p", tuple(PlannedCase(replace(CASE, image=f"digits:{number}")) for number in range(count)))


def until(true, seconds: float = 120.0) -> None:
    ended = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ended
        time.sleep(0.2)


def finished(store: Path) -> int:
    try:
        return sum(entry.record is not None for entry in read(store))
    except SettingError:  # not made yet
        return 0


def workers_of(process: int) -> list[psutil.Process]:
    """The processes below the one that all workers are forked from."""
    below = psutil.Process(process).children(recursive=True)
    return [one for one in below if not one.children() and one.ppid() != process]


@pytest.mark.skipif(sys.platform != "linux", reason="tells workers by the process that forks them, on Linux")
def test_a_killed_worker_is_a_record_and_the_others_go_on(tmp_path):
    killed = []

    def kill(now):
        if now.at_work and not killed:
            killed.extend(workers_of(os.getpid()))
            for one in killed:
                one.send_signal(signal.SIGKILL)

    summary = run(planned(4), tmp_path / "a.sqlite", workers=1, progress=kill)
    assert summary.ended == {Status.CRASHED: 1, Status.SOLVED: 3}
    (crashed,) = [e.record for e in read(tmp_path / "a.sqlite") if e.record.status is Status.CRASHED]
    assert "killed by signal 9" in crashed.sentence


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_driver_takes_its_workers_along_and_another_goes_on(tmp_path):
    (tmp_path / "plan.toml").write_text(PLAN)
    store = tmp_path / "plan.sqlite"
    driver = subprocess.Popen([*COMMAND, "plan.toml", "--quiet"], cwd=tmp_path)
    until(lambda: finished(store) >= 2)
    standing = standing_of(store)
    assert standing.alive
    assert standing.run.process == driver.pid
    second = subprocess.run(
        [*COMMAND, "plan.toml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert second.returncode == 2
    assert "is being written by another process" in second.stderr
    below = psutil.Process(driver.pid).children(recursive=True)
    assert below
    driver.kill()
    driver.wait()
    until(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in below), 20)
    before = {entry.key: entry.record for entry in read(store) if entry.record}
    standing = standing_of(store)
    assert not standing.alive
    assert "was killed" in standing.words()
    third = subprocess.Popen(
        [*COMMAND, "plan.toml", "--quiet"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    until(lambda: finished(store) > len(before))
    third.send_signal(signal.SIGINT)
    said, _ = third.communicate(timeout=60)
    assert third.returncode == 130
    assert "interrupted with" in said
    assert "To go on: steadygaze campaign plan.toml" in said
    after = {entry.key: entry.record for entry in read(store) if entry.record}
    assert before.items() <= after.items()
    assert read_state(store).ended == "interrupted"


@pytest.fixture(params=["a limit", "a small disk"])
def full(request, tmp_path):
    """A folder and the argument that fills it."""
    if request.param == "a limit":
        pytest.importorskip("resource", reason="no limits of files here")
        yield tmp_path, ["300000"]
        return
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    yield folder, []
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_said_and_what_was_finished_is_kept(full):
    folder, limit = full
    store = folder / "a.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(store), *limit], capture_output=True, text=True, check=True
    )
    assert "cannot be written any more" in done.stdout
    assert "make room" in done.stdout
    assert not done.stderr
    assert 0 < finished(store) < 200


def test_after_making_room_it_goes_on(tmp_path):
    store, script = str(tmp_path / "a.sqlite"), [sys.executable, "-c", FULL]
    subprocess.run([*script, store, "300000"], capture_output=True, check=True)
    before = finished(Path(store))
    done = subprocess.run([*script, store], capture_output=True, text=True, check=True)
    assert f"{200 - before} cases in" in done.stdout
    assert f"{before} were finished before" in done.stdout


def test_a_spoilt_image_is_a_record_and_the_others_go_on(tmp_path):
    for name, value in (("good", 0.5), ("nan", np.nan)):
        pixels = np.random.default_rng(0).uniform(0.2, 0.8, (8, 8))
        pixels[3, 3] = value
        np.save(tmp_path / f"{name}.npy", pixels)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "good.npy").read_bytes()[:-7])
    names = ("nan", "cut", "good")
    plan = Plan("p", tuple(PlannedCase(replace(CASE, image=str(tmp_path / f"{n}.npy"))) for n in names))
    run(plan, tmp_path / "a.sqlite", workers=1, margins=Margins())
    nan, cut, good = (entry.record for entry in read(tmp_path / "a.sqlite"))
    assert (nan.status, cut.status) == (Status.REFUSED, Status.REFUSED)
    assert "NaN" in nan.sentence
    assert "ends too early" in cut.sentence
    assert good.answer is not None
