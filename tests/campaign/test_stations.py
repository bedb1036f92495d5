"""What is handed to the stations of a cluster, and what becomes of it where one is lost; Ray is made up."""

from __future__ import annotations

from collections import deque
from multiprocessing import Pipe
from types import SimpleNamespace

import pytest

from steadygaze.campaign import cluster, make_case
from steadygaze.campaign.cluster import MOST_AT_ONCE, Needs, _next, _Standing, _Stations
from steadygaze.campaign.crew import Margins, Reply, Task
from steadygaze.campaign.record import Status, this_machine


class Lost(Exception):
    """The actor is no more."""


class MadeUp:
    """A cluster of one machine with one core, whose actors answer when they are told to."""

    exceptions = SimpleNamespace(RayActorError=Lost)

    def __init__(self):
        self.answers, self.killed, self.calls = {}, [], 0

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": 1.0, "memory": 1e12}}]

    def remote(self, kind):
        return self

    def options(self, **named):
        return SimpleNamespace(
            remote=lambda *given: SimpleNamespace(stands=self._method, answer=self._method)
        )

    @property
    def _method(self):
        return SimpleNamespace(remote=self._call)

    def _call(self, *given):
        self.calls += 1
        return self.calls

    def wait(self, watched, num_returns, timeout):
        ready = [each for each in watched if each in self.answers]
        return ready[:num_returns], []

    def get(self, each):
        if isinstance(self.answers[each], Exception):
            raise self.answers[each]
        return self.answers[each]

    def kill(self, actor):
        self.killed.append(actor)


def reply(seconds):
    return Reply(Status.SOLVED, "", seconds, {}, this_machine(1), None)


@pytest.fixture
def tasks():
    case = make_case({"model": "digits-mlp", "image": "digits:0", "perturb": "brightness(amount=0..0.1)"})
    return [Task(f"{number:064d}", case, "none") for number in range(5)]


@pytest.fixture
def ray():
    return MadeUp()


@pytest.fixture
def stations(ray):
    made = _Stations(ray, Needs(1, 0, 1), ("auto",), Margins())
    assert not made.grow(5)  # asked for, not standing yet
    ray.answers[1] = True
    assert made.look() == []
    return made


def test_a_long_case_is_handed_over_when_the_last_has_ended(stations, ray, tasks):
    assert stations.grow(5)
    stations.give(tasks[:1])
    assert not stations.grow(4)
    ray.answers[2] = [reply(30.0)]
    assert [task for task, _ in stations.look()] == tasks[:1]
    assert stations.grow(4)
    stations.give(tasks[1:2])
    assert not stations.grow(3)


def test_short_cases_are_handed_over_ahead_but_the_last_one(stations, ray, tasks):
    assert stations.grow(5)
    stations.give(tasks[:1])
    ray.answers[2] = [reply(0.1)]
    stations.look()
    for left, task in zip((4, 3), tasks[1:3], strict=True):
        assert stations.grow(left)
        stations.give([task])
    assert not stations.grow(2)
    assert stations.at_work == tasks[1:2]
    ray.answers[3] = [reply(0.1)]
    stations.look()
    assert stations.at_work == tasks[2:3]
    assert not stations.grow(1)


def test_where_a_station_is_lost_only_the_case_at_work_may_be_to_blame(stations, ray, tasks):
    stations.grow(5)
    stations.give(tasks[:1])
    ray.answers[2] = [reply(0.1)]
    stations.look()
    for task in tasks[1:3]:
        assert stations.grow(4)
        stations.give([task])
    ray.answers |= {3: Lost(), 4: Lost()}
    assert stations.look() == [(tasks[1], None)]
    assert stations.take_back() == [tasks[2]]
    assert stations.take_back() == stations.at_work == []
    assert not stations.grow(3)  # another is asked for
    ray.answers[5] = True
    stations.look()
    assert stations.grow(3)
    stations.close()
    assert len(ray.killed) == 1


@pytest.mark.parametrize(
    ("usual", "waiting", "wanted"),
    [
        (0.02, 1000, 25),
        (0.0, 1000, MOST_AT_ONCE),
        (0.02, 40, 10),
        (0.3, 1000, 1),
        (0.6, 1000, 1),
        (0.02, 1, 1),
    ],
)
def test_short_cases_go_together_and_their_last_ones_are_shared_out(usual, waiting, wanted):
    assert _Standing(None, usual=usual).wants(waiting, stations=2) == wanted


def test_all_cases_of_a_load_are_lost_with_their_station_and_then_go_alone(stations, ray, tasks):
    stations.grow(5)
    stations.give(tasks[:3])
    assert stations.at_work == tasks[:1]
    ray.answers[2] = Lost()
    lost = stations.look()
    assert lost == [(task, None) for task in tasks[:3]]
    waiting, loads = deque(tasks), []
    while waiting:
        loads.append(_next(waiting, 4, {task.key: 1 for task, _ in lost}))
    assert loads == [[tasks[0]], [tasks[1]], [tasks[2]], tasks[3:]]


def test_the_replies_of_a_load_are_told_with_their_tasks(stations, ray, tasks):
    stations.grow(5)
    stations.give(tasks[:2])
    ray.answers[2] = [reply(0.1), reply(0.2)]
    assert [(task, answer.seconds) for task, answer in stations.look()] == [(tasks[0], 0.1), (tasks[1], 0.2)]


class Mortal:
    """A worker that dies of the third task it is ever given to do; it takes one task ahead."""

    done = 0

    def __init__(self, methods, workers):
        self.ready, self.dead, self.tasks = True, False, deque()
        self.connection, self._other = Pipe()

    def wants(self, waiting):
        return len(self.tasks) < (2 if waiting > 1 else 1)

    def give(self, task):
        self.tasks.append(task)
        self._other.send("there is something to look at")

    def end(self):
        self.connection.close()

    def look(self, margins):
        Mortal.done += 1
        self.tasks.popleft()
        self.dead = Mortal.done == 3
        return reply(float(Mortal.done))


def test_a_case_that_kills_its_process_takes_no_other_of_its_load_with_it(monkeypatch, tasks):
    monkeypatch.setattr(cluster, "Worker", Mortal)
    monkeypatch.setattr(Mortal, "done", 0)
    station = cluster.Station(("auto",), Margins(), None)
    replies = station.answer(tasks)
    station.close()
    assert [each.seconds for each in replies] == [1.0, 2.0, 3.0, 4.0, 5.0]
