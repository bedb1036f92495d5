"""One case, measured in a process of its own.

``python -m benchmarks.measure`` takes an `Order` as JSON and answers with a `Measurement` as JSON, the last
line of its output.

What is timed is `verdict.driver.solve` on a network that is loaded and a problem that is posed: the
map of the regions that the search visits, the saliency map of every one that is robust by class, volumes,
the part around 0, safe ranges and scale, the nearest failure and its witness, the checks, the verdict, as
far as the search tells them. `search` is the part of it that finds and judges the regions.
"""

from __future__ import annotations

import gc
import json
import resource
import statistics
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.floor import counted, measured_floor, rows_of_regions, vertices_by_stage
from benchmarks.records import Measurement, Order, to_json
from benchmarks.workloads import Case
from steadygaze.answer.result import Result
from steadygaze.network.reading.load import load_network
from steadygaze.network.saliencies import by_name as saliency_by_name
from steadygaze.perturbation.notation import chain_of
from steadygaze.question.digits import BUILTIN_MODELS, builtin_model
from steadygaze.question.images import load_image
from steadygaze.question.inconsistency import by_name as inconsistency_by_name
from steadygaze.question.posing import pose
from steadygaze.question.problem import Problem
from steadygaze.verdict.driver import Limits, solve

_STATUS = Path("/proc/self/status")
# An answer that takes this many seconds is timed once, when its memory is measured.
_LONG = 20.0
# A question of milliseconds that loads the kernels, so that they are no part of a case's time and memory.
_WARM_UP = Case(
    workload="warm-up",
    net="digits-cnn",
    model="digits-cnn",
    source="digits:2",
    image=2,
    perturbation="brightness(amount=0..0.1) | patch(opacity=0..0.1, top=2, left=2, height=2, width=2)",
    clip=None,
    layout="chw",
    mean=None,
    std=None,
    expected=None,
    quoted=None,
)


def posed(question: Case, device: str = "cpu") -> Problem:
    """The problem that a case asks, ready to be solved on the device."""
    image = load_image(question.source).image
    built_in = question.model in BUILTIN_MODELS
    network = load_network(
        builtin_model(question.model) if built_in else question.model,
        input_shape=image.shape,
        layout=question.layout,
        mean=question.mean,
        std=question.std,
    )
    return pose(
        replace(network, graph=network.graph.to(device)),
        image,
        chain_of(question.perturbation),
        label=None,
        saliency=saliency_by_name("gradient"),
        inconsistency=inconsistency_by_name("cosine"),
        threshold=0.3,
        clip=question.clip,
    )


def measure(order: Order) -> Measurement:
    """Measure one case in this process."""
    began = time.perf_counter()
    problem = posed(order.case, order.device)
    load = time.perf_counter() - began
    began = time.perf_counter()
    solve(posed(_WARM_UP, order.device), method=order.method, threads=order.threads)
    warm_up = time.perf_counter() - began

    gc.collect()
    before = _resident()
    first = _run(problem, order)
    peak = max(0, _highest() - before)
    repeat = order.repeat if first.seconds < _LONG else 0
    timed = [_run(problem, order) for _ in range(repeat)] or [first]

    floor = measured_floor(
        problem, _rows(problem, order, first.regions), first.regions, first.held, order.threads
    )
    result = first.result
    return Measurement(
        case=order.case,
        method=order.method,
        dimension=len(problem.box),
        regions=first.regions,
        cells=first.cells,
        held=first.held,
        verdict=str(result.verdict.value),
        shares=tuple(float(share or 0.0) for share in result.shares.values()),
        stopped=result.settings["stopped"],
        enclosed=result.origin.share if result.origin else None,
        safe_scale=result.safe_scale,
        seconds=statistics.median(run.seconds for run in timed),
        search=statistics.median(run.result.timing["search"] for run in timed),
        all_seconds=tuple(run.seconds for run in timed),
        processor=statistics.median(run.processor for run in timed),
        warm_up=warm_up,
        load=load,
        peak=peak,
        timing=dict(timed[0].result.timing),
        floor=floor,
    )


def _rows(problem: Problem, order: Order, regions: int) -> tuple[int, ...]:
    """The rows of the floor; those of a sweep are counted by one more of it."""
    if order.method != "sweep":
        return rows_of_regions(problem, regions)
    with counted(problem) as births:
        _run(problem, order)
    return vertices_by_stage(problem, births)


@dataclass(frozen=True)
class _Run:
    """What one answer says, and the seconds that it took: by the clock, and of processor time.

    regions, cells, held: as in `Measurement`. The map itself is let go, for the next answer needs the room.
    """

    result: Result
    regions: int
    cells: int
    held: int
    seconds: float
    processor: float


def _run(problem: Problem, order: Order) -> _Run:
    clock, processor = time.perf_counter(), time.process_time()
    limits = Limits(order.case.seconds, order.memory)
    answer = solve(problem, method=order.method, limits=limits, threads=order.threads)
    seconds, used = time.perf_counter() - clock, time.process_time() - processor
    map_ = answer.map
    held = int(np.isfinite(map_.inconsistency).sum())
    return _Run(answer.result, len(map_.pattern), map_.cells.count, held, seconds, used)


def _resident() -> int:
    """Bytes that the process holds now."""
    return _status("VmRSS") if _STATUS.is_file() else _highest()


def _highest() -> int:
    """Most bytes that the process has held."""
    if _STATUS.is_file():
        # Not ru_maxrss, which on Linux starts from what the parent process held.
        return _status("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Take an order from the standard input, write the measurement to the standard output."""
    record = json.load(sys.stdin)
    order = Order(**{**record, "case": Case(**record["case"])})
    print(json.dumps(to_json(measure(order))))


if __name__ == "__main__":
    main()
