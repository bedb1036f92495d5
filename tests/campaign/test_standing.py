"""How far a campaign has come, and how long the rest will take."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import replace

import pytest

from steadygaze.campaign import (
    Estimate,
    Machine,
    Plan,
    PlannedCase,
    Record,
    RunProgress,
    RunState,
    Status,
    make_case,
    run,
)
from steadygaze.campaign.estimate import Estimator
from steadygaze.campaign.standing import lasting, paced, standing_of
from steadygaze.campaign.store import writing
from steadygaze.errors import SettingError

CASE = make_case({"model": "digits-mlp", "image": "digits:2", "perturb": "brightness(amount=-0.1..0.1)"})
PLAN = Plan(
    "p",
    tuple(
        PlannedCase(
            replace(CASE, image=f"digits:{n}", method=method), {"image": f"digits:{n}", "source": "s"}
        )
        for method in ("sweep", "bfs")
        for n in range(3)
    ),
)
BEGAN = 1_900_000_000.0  # in 2030
MACHINE = Machine("Linux", "made up", 2, 1, 1)


def record(seconds: float, verdict: str | None) -> Record:
    answer = None if verdict is None else {"verdict": verdict}
    status = Status.REFUSED if verdict is None else Status.SOLVED
    return Record(status, "because", seconds, {}, MACHINE, "2030-03-17T17:46:50.000+00:00", answer)


def store(path, **state):
    """Three of six finished: one sweep of 2 s, two of bfs of 10 and 20 s."""
    with writing(path) as writer:
        keys = PLAN.keys()
        writer.begin(PLAN, keys)
        for place, seconds, verdict in ((0, 2.0, "robust"), (3, 10.0, "violated"), (4, 20.0, None)):
            writer.settle(keys[place], PLAN.cases[place], record(seconds, verdict), {})
        if state:
            known = {"process": os.getpid(), "host": platform.node(), "workers": 2}
            writer.tell(RunState(**{**known, "began": BEGAN, "beat": BEGAN, **state}))
    return path


def test_what_is_finished_is_counted(tmp_path):
    standing = standing_of(store(tmp_path / "a.sqlite"))
    assert (standing.total, standing.finished, standing.run) == (6, 3, None)
    assert standing.statuses == {"solved": 2, "refused": 1}
    assert standing.verdicts == {"robust": 1, "violated": 1, "no answer": 1}
    said = standing.words()
    assert "3 of 6 cases finished (50 %)" in said
    assert "1 robust, 1 violated, 0 unknown, 1 no answer" in said
    assert "no run has begun" in said


def test_a_run_at_work_tells_pace_and_rest(tmp_path):
    path = store(tmp_path / "a.sqlite", at_work=({"image": 1, "source": "s"},))
    standing = standing_of(path, BEGAN + 30)
    assert standing.alive
    assert (standing.done, standing.seconds) == (3, 30)
    assert standing.rest.seconds == pytest.approx((2 * 2 + 15) / 2)
    said = standing.words()
    assert f"at work: process {os.getpid()}" in said
    assert "    image 1\n" in said
    assert "6 cases a minute" in said
    assert "about 10 s left" in said
    assert json.loads(json.dumps(standing.to_dict()))["rest"]["seconds"] == standing.rest.seconds


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"ended": "finished"}, "3 of 6"),
        ({"ended": "interrupted"}, "the run was interrupted; run the same again"),
        ({"process": 2**22 + 1}, "the run was killed: process 4194305"),
        ({"host": "elsewhere", "beat": BEGAN - 100}, "the run was killed"),
    ],
)
def test_a_run_that_has_ended_says_how(tmp_path, state, words):
    standing = standing_of(store(tmp_path / "a.sqlite", **state), BEGAN + 20)
    assert not standing.alive
    assert words in standing.words()


def test_a_driver_elsewhere_is_alive_while_it_says_so(tmp_path):
    path = store(tmp_path / "a.sqlite", host="elsewhere", beat=BEGAN + 10)
    assert standing_of(path, BEGAN + 20).alive
    assert not standing_of(path, BEGAN + 60).alive


def test_the_rest_is_estimated_kind_by_kind():
    estimator = Estimator()
    assert estimator.rest(2) is None
    for kind, count in (("quick", 100), ("slow", 10), ("unknown", 1)):
        for _ in range(count):
            estimator.plan(kind)
    for _ in range(10):
        estimator.finish("quick", 0.1)
    estimator.finish("slow", 50.0)
    estimator.learn("slow", 50.0)
    rest = estimator.rest(2)
    usual = (10 * 0.1 + 2 * 50.0) / 12
    assert rest.seconds == pytest.approx((90 * 0.1 + 9 * 50.0 + usual) / 2)
    assert rest.low < rest.seconds < rest.high
    assert rest.high - rest.seconds == pytest.approx(2 * 2**0.5 * usual / 2)  # all that is uncertain
    assert estimator.rest(1000).seconds == pytest.approx(2 * rest.seconds / 100)


def test_times_and_rates_are_said_as_one_says_them():
    assert [lasting(s) for s in (0.4, 89, 91, 3600, 7 * 3600 + 600, 50 * 3600)] == [
        "0 s", "89 s", "2 min", "60 min", "7 h 10 min", "2 d 2 h",
    ]  # fmt: skip
    assert [paced(*p) for p in ((100, 10), (1, 10), (1, 3600), (1, 72000))] == [
        "10 cases a second", "6 cases a minute", "1 cases a hour", "0.05 cases a hour",
    ]  # fmt: skip


def test_a_run_says_how_far_it_is_in_words():
    now = RunProgress(8, 2, {Status.SOLVED: 2}, {"robust": 4}, seconds=2.0, rest=Estimate(60.0, 30.0, 90.0))
    assert now.fraction == 0.5
    assert "left" in now.sentence()
    assert RunProgress(8, 2, {}).sentence() == "starting the worker processes (2 finished before)"
    assert RunProgress(8, 0, {}).sentence() == "starting the worker processes"


def test_a_run_refuses_to_tell_what_cannot_be_told(tmp_path):
    with pytest.raises(SettingError, match="'auto'"):
        run(PLAN, tmp_path / "p.sqlite", progress="bar")
    assert not (tmp_path / "p.sqlite").exists()
