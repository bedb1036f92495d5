"""What the machinery of campaigns costs beside the cases: ``python -m benchmarks.campaign``.

Times are between the first case that a worker is handed and the last record that is kept; starting the worker
processes comes before, once, and is told apart, ending them after. Run it on a quiet machine: what another
program takes from a core counts as the machinery's.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from benchmarks.__main__ import REPOSITORY
from steadygaze.campaign import Machine, Plan, PlannedCase, Record, RunProgress, Status, make_case, read, run
from steadygaze.campaign.cluster import RayCrew
from steadygaze.campaign.crew import AbstractCrew
from steadygaze.campaign.standing import standing_of
from steadygaze.campaign.store import Writer, writing
from steadygaze.campaign.table import chosen, export, rows
from steadygaze.commands.campaign_words import listed
from steadygaze.question.case import Case

LINE = ("brightness(amount=0..0.3)",)
PLANE = (*LINE, "patch(opacity=0..1, top=12, left=12, height=3, width=3, mode=add, value=1)")
Made = TypeVar("Made")
TINY = make_case({"model": "digits-mlp", "image": "digits:0", "perturb": "brightness(amount=0..0.01)"})


@dataclass(frozen=True)
class Course:
    """One run. Seconds: until the first case was begun; from then on; and those of the cases themselves."""

    cases: int
    starting: float
    working: float
    own: float
    unsolved: int

    def overhead(self, workers: int) -> float:
        """Seconds of machinery for each case."""
        return (self.working * workers - self.own) / self.cases


def course(cases: Sequence[Case], workers: int, folder: Path, crew: AbstractCrew | None = None) -> Course:
    """Run the cases into a new store, by so many processes of this machine or by the crew."""
    began, first, last = time.perf_counter(), list[float](), list[float]()

    def watch(now: RunProgress) -> None:
        if now.at_work and not first:
            first.append(time.perf_counter())
        if now.finished == now.total and not last:
            last.append(time.perf_counter())

    store = folder / f"{len(list(folder.iterdir()))}.sqlite"
    run(Plan("benchmark", tuple(map(PlannedCase, cases))), store, workers=workers, crew=crew, progress=watch)
    records = [entry.record for entry in read(store) if entry.record is not None]
    return Course(
        len(records),
        first[0] - began,
        last[0] - first[0],
        sum(record.seconds for record in records),
        sum(record.status is not Status.SOLVED for record in records),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=REPOSITORY.parent / "shared", help="networks and data")
    parser.add_argument("--cases", type=int, default=100, help="of W1 and of tiny ones (default 100)")
    parser.add_argument("--on-cluster", type=int, default=2_000, help="cases of W1 by Ray and by the pool")
    parser.add_argument("--records", type=int, default=10_000, help="of the store that is read")
    options = parser.parse_args(arguments)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {_load()}")
    with TemporaryDirectory() as place:
        folder = Path(place)
        _tiny(options.cases, folder)
        if options.shared.is_dir():
            _on_mnist(options.shared.resolve(), options.cases, folder)
            _on_a_cluster(options.shared.resolve(), options.on_cluster, folder)
        else:
            print(f"There is no folder {options.shared}: W1 and longer cases are left out.")
        _reading(options.records, folder)


def _tiny(count: int, folder: Path) -> None:
    done = course([replace(TINY, image=f"digits:{number}") for number in range(count)], 1, folder)
    print(
        f"{done.cases} tiny cases, 1 worker: {1e3 * done.own / done.cases:.1f} ms each, and "
        f"{1e3 * done.overhead(1):.2f} ms of machinery each (load {_load()})"
    )


def _on_mnist(shared: Path, count: int, folder: Path) -> None:
    long = course(_cases(shared, "256x6", PLANE, 5), 1, folder)
    print(
        f"{long.cases} cases of W2 on 256x6, 1 worker: {long.own / long.cases:.2f} s each, "
        f"{1e3 * long.overhead(1):.1f} ms of machinery each, "
        f"{100 * long.overhead(1) * long.cases / long.own:.2f} %; {long.unsolved} unsolved (load {_load()})"
    )
    line = _cases(shared, "256x2", LINE, count)
    one, two = course(line, 1, folder), course(line, 2, folder)
    print(
        f"{one.cases} cases of W1 on 256x2: 1 worker {one.working:.2f} s ({1e3 * one.own / one.cases:.1f} ms "
        f"each, {1e3 * one.overhead(1):.2f} ms of machinery each); 2 workers: {two.working:.2f} s, "
        f"{one.working / two.working:.2f} times as fast; starting took {one.starting:.1f} and "
        f"{two.starting:.1f} s; {one.unsolved} unsolved (load {_load()})"
    )


def _on_a_cluster(shared: Path, count: int, folder: Path) -> None:
    """The pool, Ray, and the pool again, each with two workers, so that a slow minute shows."""
    try:
        ray = import_module("ray")  # by its name: types cannot be checked against what may not be installed
    except ImportError:
        print("Ray is not installed: its cluster is left out.")
        return
    line = _cases(shared, "256x2", LINE, count)
    before = course(line, 2, folder)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        by_ray = course(line, 2, folder, RayCrew("auto"))
    finally:
        ray.shutdown()
    after = course(line, 2, folder)
    times = 2 * by_ray.working / (before.working + after.working)
    print(
        f"{count} cases of W1 on 256x2: 2 workers {before.working:.1f} and {after.working:.1f} s, Ray's "
        f"cluster of this machine {by_ray.working:.1f} s, {times:.2f} times as long; starting took "
        f"{before.starting:.1f}, {after.starting:.1f} and {by_ray.starting:.1f} s (load {_load()})"
    )


def _cases(shared: Path, net: str, perturb: tuple[str, ...], number: int) -> list[Case]:
    told = {"model": str(shared / f"models/mnist-net_{net}.onnx"), "perturb": perturb, "clip": "none"}
    images = [f"idx:{shared / 'data/mnist'}:{one}" for one in range(number)]
    return [make_case(told, {"layout": "flat", "image": image}) for image in images]


def _reading(count: int, folder: Path) -> None:
    store = folder / "many.sqlite"
    _fill(store, count, folder)
    entries, seconds = _timed(lambda: read(store))
    told = [f"read {seconds:.2f} s"]
    table, seconds = _timed(lambda: rows(entries))
    told.append(f"rows {seconds:.2f} s")
    some, seconds = _timed(lambda: chosen(table, ["verdict=violated", "threshold=0.3"]))
    told.append(f"filter {seconds:.2f} s ({len(some)} left)")
    text, seconds = _timed(lambda: listed(table, None))
    told.append(f"list {seconds:.2f} s ({text.count(chr(10))} lines)")
    for ending in ("csv", "parquet"):
        path = folder / f"cases.{ending}"
        _, seconds = _timed(lambda path=path: export(table, path))
        told.append(f"{ending} {seconds:.2f} s ({path.stat().st_size / 1e6:.1f} MB)")
    _, seconds = _timed(lambda: standing_of(store))
    told.append(f"status {seconds:.2f} s")
    print(f"{count} records, {store.stat().st_size / 1e6:.0f} MB: {', '.join(told)} (load {_load()})")


def _fill(store: Path, count: int, folder: Path) -> None:
    """Records of a real answer, for cases that nobody ran."""
    course([TINY], 1, folder)
    (entry,) = read(max(folder.glob("*.sqlite"), key=lambda path: path.stat().st_mtime))
    assert entry.record is not None
    record = replace(entry.record, machine=Machine("made up", "made up", 2, 2, 1))
    tags = {"model": "m", "perturbation": "p", "saliency": "gradient", "threshold": 0.3, "label": 1}
    planned = [
        PlannedCase(replace(TINY, image=f"digits:{number}"), {**tags, "image": f"digits:{number}"})
        for number in range(count)
    ]
    plan, keys = Plan("many", tuple(planned)), [f"{number:064d}" for number in range(count)]
    with writing(store) as writer:
        writer.begin(plan, keys)
        _, seconds = _timed(lambda: _keep(writer, keys, planned, record))
    print(f"{count} records kept, each on the disk before the next: {1e3 * seconds / count:.2f} ms each")


def _keep(writer: Writer, keys: Sequence[str], planned: Sequence[PlannedCase], record: Record) -> None:
    for key, one in zip(keys, planned, strict=True):
        writer.settle(key, one, _turned(record, key), {})


def _turned(record: Record, key: str) -> Record:
    """Every third one violated."""
    verdict = "violated" if int(key) % 3 == 0 else "robust"
    return replace(record, answer={**(record.answer or {}), "verdict": verdict})


def _timed(work: Callable[[], Made]) -> tuple[Made, float]:
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def _load() -> str:
    return " ".join(f"{one:.1f}" for one in os.getloadavg()[:2])


if __name__ == "__main__":
    main()
