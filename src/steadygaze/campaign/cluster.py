"""The machines of a Ray cluster as a crew: each case goes where cores, memory and a GPU are free.

The machines need steadygaze installed, in the same version, and nothing else in common: models, images and
arrays travel with the cases. On each machine a case runs in a process of its own (`pool.Worker`), so that
what crashes, hangs or eats memory there is a record, as on one machine. Where a machine is lost, its cases
are given to others.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from multiprocessing import connection as connections
from pathlib import Path
from socket import create_connection
from tempfile import TemporaryDirectory
from typing import Any, final

from steadygaze.campaign.crew import GIB, AbstractCrew, Margins, Reply, Task
from steadygaze.campaign.freight import Packer
from steadygaze.campaign.pool import SOON, Worker
from steadygaze.campaign.record import Status, this_machine
from steadygaze.errors import SettingError, SteadygazeError, UsageError

POLL = 0.1  # seconds between two looks at what has come back
GROWING = 5.0  # seconds between two looks at whether there are more machines by now
MOST_LOST = 3  # machines that a case may lose before it is a record of its own
MOST_AT_ONCE = 32  # cases of a message, however short: what a lost machine had is done again
STARTING = 600.0  # seconds until the first station must stand


@dataclass(frozen=True)
class Needs:
    """What one case takes of a machine: cores, GPUs, bytes."""

    cores: int
    gpus: int
    memory: int

    def room(self, resources: Mapping[str, float]) -> int:
        """How many such cases a machine with these resources takes at a time."""
        shares = [resources.get("CPU", 0.0) / self.cores, resources.get("memory", 0.0) / self.memory]
        shares += [resources.get("GPU", 0.0) / self.gpus] if self.gpus else []
        return int(min(shares))


@final
class RayCrew(AbstractCrew):
    """Stations on the machines of a Ray cluster, as many as there is room for; more come with more machines.

    Arguments:
        address: ``auto`` for the cluster that this machine belongs to, else one that ``ray.init`` takes, such
            as ``ray://host:10001``. A process that has joined a cluster already stays in that one.
        margins: as of a pool.

    Raises SettingError where Ray is not installed or there is no such cluster.
    """

    def __init__(self, address: str = "auto", margins: Margins | None = None) -> None:
        self._ray = _ray()
        self._margins = margins or Margins()
        if not self._ray.is_initialized():
            try:
                host, _, port = address.rpartition("://")[2].rpartition(":")
                if port.isdigit():  # Ray itself waits for minutes where nobody answers
                    create_connection((host.strip("[]"), int(port)), timeout=10).close()
                self._ray.init(address, log_to_driver=False, logging_level="ERROR")
            except Exception as error:  # ray raises what it likes for an address that does not answer
                raise SettingError(
                    f"there is no Ray cluster at {address!r} ({' '.join(str(error).split())[:200]}); start "
                    "one with `ray start --head`, or leave --cluster out"
                ) from error

    @property
    def workers(self) -> int:
        """Cores of the cluster."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def work(
        self, tasks: Sequence[Task], watch: Callable[[Sequence[Task]], None]
    ) -> Generator[tuple[Task, Reply], None, None]:
        """See `AbstractCrew`. Raises SettingError where no machine has room for a case."""
        needs = _needs(tasks, self._margins)
        stations = _Stations(self._ray, needs, tuple(sorted({t.case.method for t in tasks})), self._margins)
        packer, waiting, lost = Packer(self._ray.put), deque(tasks), Counter[str]()
        try:
            while waiting or stations.at_work:
                while waiting and (wanted := stations.grow(len(waiting))):
                    load: list[Task] = []
                    for task in _next(waiting, wanted, lost):
                        try:
                            load.append(replace(task, freight=packer.freight(task.case)))
                        except UsageError as error:
                            yield task, _refused(task, error)
                    if load:
                        stations.give(load)
                for task, reply in stations.look():
                    if reply is not None:
                        yield task, reply
                        continue
                    lost[task.key] += 1
                    if lost[task.key] < MOST_LOST:
                        waiting.appendleft(task)
                    else:
                        yield task, _lost(task)
                waiting.extendleft(stations.take_back())
                watch(stations.at_work)
        finally:
            stations.close()


@dataclass
class _Standing:
    """A station, and the loads of tasks that were handed to it: the one at work, and perhaps the next.

    Attributes:
        actor: what Ray calls it by.
        given: what will be the replies of each load, and the load.
        usual: seconds of the longest case of its last load.
    """

    actor: Any
    given: deque[tuple[Any, list[Task]]] = field(default_factory=deque)
    usual: float = math.inf

    def wants(self, waiting: int, stations: int) -> int:
        """How many of so many tasks to hand it now.

        Short cases go together, as many as end in a moment: a message takes as long as the shortest of them.
        A load is at most half of what would be a station's share of the rest, so that all end together.
        """
        short = min(MOST_AT_ONCE, int(SOON / max(self.usual, SOON / MOST_AT_ONCE)), waiting // (2 * stations))
        if short:
            return short if len(self.given) < 2 else 0
        return 0 if self.given else 1


@final
class _Stations:
    """The stations that stand, and what each works on."""

    def __init__(self, ray: Any, needs: Needs, methods: tuple[str, ...], margins: Margins) -> None:
        self._ray, self._needs = ray, needs
        self._made = ray.remote(Station).options(
            num_cpus=needs.cores, num_gpus=needs.gpus, memory=needs.memory, max_restarts=0
        )
        self._arguments = (methods, margins, ray.get)
        self._standing: list[_Standing] = []
        self._unborn: dict[Any, Any] = {}  # what tells that a station stands, and the station
        self._unworked: list[Task] = []  # were handed to a station that was lost before it began them
        self._chosen: _Standing | None = None
        self._looked, self._began = -GROWING, time.monotonic()

    @property
    def at_work(self) -> list[Task]:
        """The first task of each load at work."""
        return [station.given[0][1][0] for station in self._standing if station.given]

    def grow(self, waiting: int) -> int:
        """How many of so many tasks a station wants; more of them are asked for where there is room."""
        now = time.monotonic()
        if now - self._looked >= GROWING:
            self._looked = now
            room = self._room()
            for _ in range(min(waiting, room - len(self._standing) - len(self._unborn))):
                station = self._made.remote(*self._arguments)
                self._unborn[station.stands.remote()] = station
        least = sorted(self._standing, key=lambda station: len(station.given))
        for self._chosen in least:
            if wanted := self._chosen.wants(waiting, len(least)):
                return wanted
        return 0

    def give(self, load: list[Task]) -> None:
        """Hand tasks to the station that wants some. Ray keeps a second load until the first is answered."""
        assert self._chosen is not None
        self._chosen.given.append((self._chosen.actor.answer.remote(load), load))

    def look(self) -> list[tuple[Task, Reply | None]]:
        """What came back since; None where the station was lost on the way."""
        watched = [*(one.given[0][0] for one in self._standing if one.given), *self._unborn]
        if not watched:
            time.sleep(POLL)
            return []
        ready, _ = self._ray.wait(watched, num_returns=1, timeout=POLL)
        if len(watched) > 1 and ready:  # the first may have come at once: take all that have by now
            ready, _ = self._ray.wait(watched, num_returns=len(watched), timeout=0)
        working = {one.given[0][0]: one for one in self._standing if one.given}
        found: list[tuple[Task, Reply | None]] = []
        for each in ready:
            if each in working:
                found += self._answered(working[each])
            else:
                self._born(each)
        return found

    def take_back(self) -> list[Task]:
        """Tasks that a lost station never began, the last first: nobody lost them."""
        returned, self._unworked = self._unworked, []
        return returned[::-1]

    def close(self) -> None:
        """End all stations, and what they work on."""
        for station in [*(one.actor for one in self._standing), *self._unborn.values()]:
            self._ray.kill(station)

    def _answered(self, station: _Standing) -> list[tuple[Task, Reply | None]]:
        each, load = station.given.popleft()
        try:
            replies: list[Reply] = self._ray.get(each)
        except self._ray.exceptions.RayActorError:
            self._standing.remove(station)
            self._unworked += [task for _, left in station.given for task in left]
            self._looked = -GROWING  # there may be room for another
            return [(task, None) for task in load]
        station.usual = max(reply.seconds for reply in replies)
        return list(zip(load, replies, strict=True))

    def _born(self, each: Any) -> None:
        station = self._unborn.pop(each)
        try:
            self._ray.get(each)
        except self._ray.exceptions.RayActorError:
            self._looked = -GROWING
        else:
            self._standing.append(_Standing(station))

    def _room(self) -> int:
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        room = sum(self._needs.room(resources) for resources in nodes)
        if room or self.at_work:
            return room
        waited = time.monotonic() - self._began > STARTING
        if waited or any(node.get("CPU", 0) >= self._needs.cores for node in nodes):
            raise SettingError(self._no_room())
        return 0  # machines may come yet

    def _no_room(self) -> str:
        return (
            f"no machine of the cluster has room for a case of {self._needs.cores} cores, {self._needs.gpus} "
            f"GPUs and {self._needs.memory / GIB:.1f} GiB (the memory limit with its margin); lower "
            "memory-limit, or give the machines more with `ray start --memory`"
        )


class Station:
    """What stands on a machine and answers one case after the other; Ray makes an actor of it."""

    def __init__(self, methods: tuple[str, ...], margins: Margins, fetch: Callable[[Any], Any]) -> None:
        self._fetch = fetch
        self._methods, self._margins = methods, margins
        self._place = TemporaryDirectory(prefix="steadygaze-")
        self._worker: Worker | None = None

    def stands(self) -> bool:
        """Make the process that will answer."""
        self._ready()
        return True

    def answer(self, load: Sequence[Task]) -> list[Reply]:
        """The reply to each task, whatever its case does to its process."""
        waiting, replies = deque(self._placed(task) for task in load), list[Reply]()
        while len(replies) < len(load):
            worker = self._ready()
            while waiting and worker.wants(len(waiting) + 1):
                worker.give(waiting.popleft())
            connections.wait([worker.connection], POLL)
            reply = worker.look(self._margins)
            if worker.dead:
                waiting.extendleft(reversed(worker.tasks))
            if reply is not None:
                replies.append(reply)
        return replies

    def close(self) -> None:
        """End the process, and remove what was placed here. Ray ends a station without it."""
        if self._worker is not None:
            self._worker.end()
        self._place.cleanup()

    def _placed(self, task: Task) -> Task:
        """The task with its model where this machine has put it."""
        if task.freight is None:
            return task
        model = task.freight.placed(Path(self._place.name), self._fetch)
        return replace(task, case=replace(task.case, model=model))

    def _ready(self) -> Worker:
        """A process that waits for a task. Raises SteadygazeError where none can be started."""
        if self._worker is None or self._worker.dead:
            self._worker = Worker(self._methods, 1)
        while not self._worker.ready:
            connections.wait([self._worker.connection], POLL)
            self._worker.look(self._margins)
            if self._worker.dead:
                raise SteadygazeError(self._worker.unborn())
        return self._worker


def _next(waiting: deque[Task], wanted: int, lost: Mapping[str, int]) -> list[Task]:
    """The next tasks, at most so many; one that lost a machine goes alone, and takes no other with it."""
    load = [waiting.popleft()]
    while waiting and len(load) < wanted and not lost.get(load[-1].key) and not lost.get(waiting[0].key):
        load.append(waiting.popleft())
    return load


def _needs(tasks: Sequence[Task], margins: Margins) -> Needs:
    """What the most demanding of the cases takes: all stations are alike."""
    return Needs(
        max(task.case.threads or 1 for task in tasks),
        int(any(task.case.device.startswith("cuda") for task in tasks)),
        int(max(margins.ceiling(task.case) for task in tasks)),
    )


def _refused(task: Task, error: UsageError) -> Reply:
    return Reply(Status.REFUSED, str(error), 0.0, {}, this_machine(1), None)


def _lost(task: Task) -> Reply:
    sentence = f"the machine or the station that worked on it was lost {MOST_LOST} times"
    return Reply(Status.CRASHED, sentence, 0.0, {}, this_machine(1), None)


def _ray() -> Any:
    try:
        ray = import_module(
            "ray"
        )  # by its name: where it is not installed, types cannot be checked against it
        import_module("ray.exceptions")
    except ImportError as error:
        raise SettingError(
            "a cluster needs Ray, which is not installed; install steadygaze with its extra: "
            "pip install 'steadygaze[cluster]'"
        ) from error
    return ray
