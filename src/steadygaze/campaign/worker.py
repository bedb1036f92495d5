"""What a worker process does: take a task, verify its case, send back how that ended.

A process computes with one thread. It says that it is ready when all is imported and the compiled kernels are
loaded, so that no case pays for that. Networks stay loaded from case to case (`Shelf`).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from steadygaze.campaign.crew import READY, Reply, Task, is_kept
from steadygaze.campaign.record import Machine, Status, this_machine
from steadygaze.campaign.shelf import Shelf
from steadygaze.deadline import Deadline
from steadygaze.errors import FidelityError, SteadygazeError, UsageError
from steadygaze.question.case import check_measure
from steadygaze.question.fitting import fitted
from steadygaze.question.limits import Limits
from steadygaze.verdict.answer import Answer
from steadygaze.verdict.driver import verify

_SECONDS_FOR_SCALES = 5.0  # after that bounds are given
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
# How the driver says which limit ended a run, and how the record calls it.
_STOPPED = {
    "time": Status.TIMED_OUT,
    "memory": Status.OUT_OF_MEMORY,
    "regions": Status.OUT_OF_REGIONS,
}


def serve(connection: Connection, methods: tuple[str, ...], workers: int) -> None:
    """Answer tasks from the connection until it closes. The process starts here."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one decides when to end
    outlive_nobody(os.getppid())
    prepare(methods)
    shelf, machine = Shelf(), this_machine(workers)
    with suppress(BrokenPipeError):  # Ctrl-C while this one was born: the next receipt ends it
        connection.send(READY)
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        with suppress(BrokenPipeError):  # nobody waits any more: the next receipt ends this process
            connection.send(answered(task, shelf, machine))


def outlive_nobody(parent: int) -> None:
    """Have this process killed when its parent is gone, even inside a loop that never asks for anything.

    Linux does that itself. Elsewhere the process ends at its next receipt.
    """
    if sys.platform != "linux":
        return
    from ctypes import CDLL

    CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it died meanwhile
        os._exit(1)


def prepare(methods: tuple[str, ...]) -> None:
    """Import and compile what the cases will need."""
    torch.set_num_threads(1)
    image = np.random.default_rng(0).uniform(0.2, 0.7, (1, 8, 8))
    chain = ("brightness(amount=0..0.1)", "patch(opacity=0..0.1, top=2, left=2, height=2, width=2)")
    for method in methods:
        try:
            verify("digits-cnn", image, chain, method=method, threads=1)
        except SteadygazeError:  # what is wrong with the method, the record of each case will say
            continue


def answered(task: Task, shelf: Shelf, machine: Machine) -> Reply:
    """Verify one case. Whatever goes wrong is a reply, with the sentence that says what."""
    before = _restarted()
    began = time.perf_counter()
    files: Mapping[str, bytes] = {}
    try:
        answer = _verified(task, shelf)
        status, sentence, kept = _status(answer), answer.result.reason, answer_of(answer)
        files = _folder(answer, task.case.certificate) if is_kept(task.keep, kept["verdict"]) else files
    except (UsageError, FidelityError) as error:
        status, sentence, kept = Status.REFUSED, str(error), None
    except MemoryError as error:
        shelf.clear()
        status, sentence, kept = Status.OUT_OF_MEMORY, f"no memory was left ({error})", None
    except Exception as error:
        status, kept = Status.CRASHED, None
        sentence = f"unexpected {type(error).__name__}: {error}"
    seconds = time.perf_counter() - began
    return Reply(status, sentence, seconds, before | _highest(), machine, kept, files)


def _verified(task: Task, shelf: Shelf) -> Answer:
    case, freight = task.case, task.freight
    check_measure(case)
    found = shelf.image(case) if freight is None else freight.loaded
    network, loaded = fitted(found, partial(shelf.network, case))
    settings = replace(case, threads=case.threads or 1).settings()
    settings["baseline"] = shelf.baseline(case) if freight is None else freight.baseline
    perturbation = case.perturb if freight is None else freight.chain
    answer = verify(network, loaded, perturbation, **settings)
    if not case.measure:
        return answer
    left = Limits(case.time_limit).left_for_more(answer.result.timing)
    return answer.measured(case.measure, time_limit=left)


def _status(answer: Answer) -> Status:
    return _STOPPED.get(str(answer.result.settings.get("stopped_by")), Status.SOLVED)


def _folder(answer: Answer, certificate: bool) -> dict[str, bytes]:
    """The folder of the answer, as contents by path."""
    with TemporaryDirectory() as place:
        folder = answer.save(Path(place, "answer"), certificate=certificate)
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }


def answer_of(answer: Answer) -> dict[str, Any]:
    """What is kept of an answer, ready for JSON: the result without its polygons, and the network's size."""
    document, graph = answer.result.to_dict(), answer.problem.network.graph
    origin, problem = document["origin"], document["problem"]
    return {
        "label": problem["image"]["label"],
        "predicted": problem["image"]["predicted"],
        "dataset_label": problem["image"]["dataset_label"],
        "dataset_class": problem["image"]["dataset_class"],
        "must_hold": problem["must_hold"],
        "axes": [asdict(axis) for axis in answer.result.problem.axes()],
        "units": graph.units,
        "windows": graph.windows,
        "layers": len(graph.piecewise),
        "parameters": graph.parameters,
        "model_sha256": problem["model"]["sha256"],
        **{
            name: document[name]
            for name in (
                "method", "claim", "verdict", "reason", "shares", "safe_scale", "nearest_failure", "regions",
                "timing", "versions", "tolerance", "settings", "radius", "measured",
            )
        },
        "scales": answer.scales(Deadline.after(_SECONDS_FOR_SCALES)).to_dict(),
        "shape": list(answer.problem.image.shape),
        "ranges": origin and origin["ranges"],
        "origin_share": origin and origin["share"],
        "interior": origin and origin["interior"],
    }  # fmt: skip


def _restarted() -> dict[str, int]:
    """Bytes resident now, after forgetting the highest so far; empty where the system does not tell."""
    if not _STATUS.is_file():
        return {}
    with suppress(OSError):  # where it is not allowed, the highest is that of the process so far
        _CLEAR.write_text("5")
    return {"before": _resident("VmRSS")}


def _highest() -> dict[str, int]:
    if _STATUS.is_file():
        return {"peak": _resident("VmHWM")}
    if sys.platform == "win32":
        return {}
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}


def _resident(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024
