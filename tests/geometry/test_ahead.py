"""The second process that compiles: started once, waited for, and of use to the first."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from steadygaze.deadline import Deadline
from steadygaze.geometry import ahead

SOLVED = """
import sys
import numba.core.event as events
from steadygaze import Brightness, Patch, verify
from steadygaze.question.digits import digit

class Listener(events.Listener):
    def on_start(self, event):
        print(event.data["dispatcher"].py_func.__qualname__)
    def on_end(self, event):
        pass

with events.install_listener("numba:compile", Listener()):
    question = Brightness(0, 0.1) | Patch(0, 0.1, top=2, left=2, size=2)
    verify("digits-cnn", digit(2)[0], question, method=sys.argv[1], threads=1)
"""


def test_the_process_is_started_once_and_has_ended_on_leaving(monkeypatch):
    started = []
    popen = subprocess.Popen

    def counted(*arguments, **options):
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(ahead.subprocess, "Popen", counted)
    monkeypatch.setattr(ahead.os, "cpu_count", lambda: 2)
    with ahead.compiled_beside(ahead.EVERY):
        pass
    assert not started, "nothing was compiled"
    with ahead.compiled_beside(ahead.EVERY) as begin:
        begin()
        begin()
    assert [process.returncode for process in started] == [0]


def test_one_core_compiles_alone(monkeypatch):
    monkeypatch.setattr(ahead.subprocess, "Popen", None)
    monkeypatch.setattr(ahead.os, "cpu_count", lambda: 1)
    with ahead.compiled_beside(ahead.EVERY) as begin:
        begin()


def refused(*_, **__):
    raise PermissionError(13, "Permission denied")


def test_where_no_second_process_can_be_started_one_compiles_alone(monkeypatch):
    monkeypatch.setattr(ahead.subprocess, "Popen", refused)
    monkeypatch.setattr(ahead.os, "cpu_count", lambda: 2)
    with ahead.compiled_beside(ahead.EVERY) as begin:
        begin()


def test_it_is_ended_where_the_time_is_over(monkeypatch):
    started, popen = [], subprocess.Popen

    def sleeping(_, **options):
        started.append(popen([sys.executable, "-c", "import time; time.sleep(600)"], **options))
        return started[-1]

    monkeypatch.setattr(ahead.subprocess, "Popen", sleeping)
    monkeypatch.setattr(ahead.os, "cpu_count", lambda: 2)
    with ahead.compiled_beside(ahead.EVERY, Deadline.after(0.0)) as begin:
        begin()
    assert started[0].returncode is not None


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("kernels", "method"), [(ahead.EVERY, "sweep"), (ahead.WALKING, "bfs")])
def test_what_it_compiles_is_not_compiled_again(kernels, method, tmp_path):
    def ran(*command):
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, *command], env=environment, capture_output=True, text=True, check=True
        )
        return set(done.stdout.split())

    ran("-m", "steadygaze.geometry.ahead", kernels)
    compiled = ran("-c", SOLVED, method)
    assert "_cut_cells" in compiled
    left = {"_cone_volumes", "_facets", "_ends", "_above", "_pattern_names", "_winners", "_best_of_windows"}
    left |= {"interpolate"} | ({"_coincident", "_weld"} if method == "bfs" else set())
    assert not compiled & left
    assert not ran("-c", SOLVED, method), "nothing is compiled a second time"
