"""A worker process that does to its cases what no case should do, chosen by the image asked for."""

from __future__ import annotations

import ctypes
import os
import time
from multiprocessing.connection import Connection

import numpy as np

from steadygaze.campaign import worker
from steadygaze.campaign.crew import Reply, Task
from steadygaze.campaign.record import Machine
from steadygaze.campaign.shelf import Shelf

CRASHES, HANGS, GROWS, RAISES, SEGFAULTS, SPINS = (f"digits:{index}" for index in range(900, 906))


def serve(connection: Connection, methods: tuple[str, ...], workers: int) -> None:
    """As the real one, but for some images; starts in the process that is to misbehave."""
    worker.answered = _answered
    worker.serve(connection, (), workers)


_honest = worker.answered


def _answered(task: Task, shelf: Shelf, machine: Machine) -> Reply:
    image = task.case.image
    if image == CRASHES:
        os._exit(3)
    if image == HANGS:
        time.sleep(600)
    if image == GROWS:
        hoard = [np.ones(2**25) for _ in range(8)]  # 2 GiB
        time.sleep(600)
        del hoard
    if image == SEGFAULTS:
        ctypes.string_at(0)
    if image == SPINS:
        while True:
            pass
    if image == RAISES:
        worker.verify = _broken
    return _honest(task, shelf, machine)


def _broken(*_: object, **__: object) -> None:
    raise ZeroDivisionError("planted")
