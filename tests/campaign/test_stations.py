"""What is handed to the stations of a cluster, and what becomes of it where one is lost; Ray is made up."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from steadygaze.campaign import make_case
from steadygaze.campaign.cluster import Needs, _Stations
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
    stations.give(tasks[0])
    assert not stations.grow(4)
    ray.answers[2] = reply(30.0)
    assert [task for task, _ in stations.look()] == tasks[:1]
    assert stations.grow(4)
    stations.give(tasks[1])
    assert not stations.grow(3)


def test_short_cases_are_handed_over_ahead_but_the_last_one(stations, ray, tasks):
    assert stations.grow(5)
    stations.give(tasks[0])
    ray.answers[2] = reply(0.1)
    stations.look()
    for left, task in zip((4, 3), tasks[1:3], strict=True):
        assert stations.grow(left)
        stations.give(task)
    assert not stations.grow(2)
    assert stations.at_work == tasks[1:2]
    ray.answers[3] = reply(0.1)
    stations.look()
    assert stations.at_work == tasks[2:3]
    assert not stations.grow(1)


def test_where_a_station_is_lost_only_the_case_at_work_may_be_to_blame(stations, ray, tasks):
    stations.grow(5)
    stations.give(tasks[0])
    ray.answers[2] = reply(0.1)
    stations.look()
    for task in tasks[1:3]:
        assert stations.grow(4)
        stations.give(task)
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
