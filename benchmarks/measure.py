"""One case, measured in a process of its own.

``python -m benchmarks.measure`` takes an `Order` as JSON and answers with a `Measurement` as JSON, the last
line of its output.

What is timed is `steadygaze.driver.solve` on a network that is loaded and a problem that is posed: the
map of the box, the saliency map of every region that is robust by class, volumes, the part around 0,
safe ranges and scale, the nearest failure and its witness, the checks, the verdict. `search` is the part
of it that finds and judges the regions.
"""

from __future__ import annotations

import gc
import json
import resource
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.floor import counted, measured_floor
from benchmarks.records import Measurement, Order, to_json
from benchmarks.workloads import Case
from steadygaze.answer import Answer
from steadygaze.digits import BUILTIN_MODELS, builtin_model
from steadygaze.driver import Limits, solve
from steadygaze.images import load_image
from steadygaze.inconsistency import by_name as inconsistency_by_name
from steadygaze.network.load import load_network
from steadygaze.network.saliency import by_name as saliency_by_name
from steadygaze.perturbation.notation import chain_of
from steadygaze.posing import pose
from steadygaze.problem import Problem

_STATUS = Path("/proc/self/status")
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


def posed(question: Case) -> Problem:
    """The problem that a case asks, ready to be solved."""
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
        network,
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
    problem = posed(order.case)
    load = time.perf_counter() - began
    began = time.perf_counter()
    solve(posed(_WARM_UP), threads=order.threads)
    warm_up = time.perf_counter() - began

    gc.collect()
    before = _resident()
    first = _run(problem, order).answer
    peak = max(0, _highest() - before)
    with counted(problem) as births:
        _run(problem, order)
    timed = [_run(problem, order) for _ in range(order.repeat)]

    map_, regions = first.map, len(first.map.pattern)
    held = int(np.isfinite(map_.inconsistency).sum())
    floor = measured_floor(problem, births, regions, held, order.threads)
    return Measurement(
        case=order.case,
        dimension=len(problem.box),
        regions=regions,
        cells=map_.cells.count,
        held=held,
        verdict=str(first.result.verdict.value),
        shares=tuple(float(share or 0.0) for share in first.result.shares.values()),
        seconds=statistics.median(run.seconds for run in timed),
        search=statistics.median(run.answer.result.timing["search"] for run in timed),
        all_seconds=tuple(run.seconds for run in timed),
        processor=statistics.median(run.processor for run in timed),
        warm_up=warm_up,
        load=load,
        peak=peak,
        timing=dict(timed[0].answer.result.timing),
        floor=floor,
    )


@dataclass(frozen=True)
class _Run:
    """One answer and the seconds that it took: by the clock, and of processor time."""

    answer: Answer
    seconds: float
    processor: float


def _run(problem: Problem, order: Order) -> _Run:
    clock, processor = time.perf_counter(), time.process_time()
    answer = solve(problem, limits=Limits(memory=order.memory), threads=order.threads)
    return _Run(answer, time.perf_counter() - clock, time.process_time() - processor)


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
