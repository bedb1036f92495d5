"""What a worker process does: take a case, verify it, send back how that ended.

A process computes with one thread. It says that it is ready when all is imported and the compiled kernels are
loaded, so that no case pays for that.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from steadygaze.campaign.record import Status
from steadygaze.errors import FidelityError, SteadygazeError, UsageError
from steadygaze.question.case import Case
from steadygaze.question.images import load_image
from steadygaze.verdict.answer import Answer
from steadygaze.verdict.driver import verify

READY = "ready"
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
# How the driver says which limit ended a run, and how the record calls it.
_STOPPED = {
    "time": Status.TIMED_OUT,
    "memory": Status.OUT_OF_MEMORY,
    "regions": Status.OUT_OF_REGIONS,
}


@dataclass(frozen=True)
class Reply:
    """How a case ended, as the worker saw it; the attributes are those of ``Record``."""

    status: Status
    sentence: str
    seconds: float
    memory: Mapping[str, int]
    answer: Mapping[str, Any] | None


def serve(connection: Connection, methods: tuple[str, ...]) -> None:
    """Answer cases from the connection until it closes. The process starts here."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one decides when to end
    _prepare(methods)
    connection.send(READY)
    while True:
        try:
            case = connection.recv()
        except EOFError:
            return
        with suppress(BrokenPipeError):  # nobody waits any more: the next receipt ends this process
            connection.send(answered(case))


def _prepare(methods: tuple[str, ...]) -> None:
    torch.set_num_threads(1)
    image = load_image("digits:2").image
    chain = ("brightness(amount=0..0.1)", "patch(opacity=0..0.1, top=2, left=2, height=2, width=2)")
    for method in methods:
        try:
            verify("digits-cnn", image, chain, method=method, threads=1)
        except SteadygazeError:  # what is wrong with the method, the record of each case will say
            continue


def answered(case: Case) -> Reply:
    """Verify one case. Whatever goes wrong is a reply, with the sentence that says what."""
    before = _restarted()
    began = time.perf_counter()
    try:
        status, sentence, answer = _verified(case)
    except (UsageError, FidelityError) as error:
        status, sentence, answer = Status.REFUSED, str(error), None
    except MemoryError as error:
        status, sentence, answer = Status.OUT_OF_MEMORY, f"no memory was left ({error})", None
    except Exception as error:
        status, answer = Status.CRASHED, None
        sentence = f"unexpected {type(error).__name__}: {error}"
    return Reply(status, sentence, time.perf_counter() - began, before | _highest(), answer)


def _verified(case: Case) -> tuple[Status, str, Mapping[str, Any]]:
    loaded = load_image(case.image)
    settings = replace(case, threads=case.threads or 1).settings()
    answer = verify(
        case.model,
        loaded.image,
        case.perturb,
        image_source=loaded.source,
        image_index=loaded.index,
        image_label=loaded.label,
        **settings,
    )
    status = _STOPPED.get(str(answer.result.settings.get("stopped_by")), Status.SOLVED)
    return status, answer.result.reason, answer_of(answer)


def answer_of(answer: Answer) -> dict[str, Any]:
    """What is kept of an answer, ready for JSON: the result without its polygons, and the network's size."""
    document, graph = answer.result.to_dict(), answer.problem.network.graph
    origin, problem = document["origin"], document["problem"]
    return {
        "label": problem["image"]["label"],
        "predicted": problem["image"]["predicted"],
        "dataset_label": problem["image"]["dataset_label"],
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
                "timing", "versions", "tolerance", "settings", "radius",
            )
        },
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
