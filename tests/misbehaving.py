"""A worker process that does to its cases what no case should do, chosen by the image asked for."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection

import numpy as np

from steadygaze.campaign import worker
from steadygaze.campaign.worker import Reply
from steadygaze.question.case import Case

CRASHES, HANGS, GROWS, RAISES = (f"digits:{index}" for index in range(900, 904))


def serve(connection: Connection, methods: tuple[str, ...]) -> None:
    """As the real one, but for some images; starts in the process that is to misbehave."""
    worker.answered = _answered
    worker.serve(connection, ())


_honest = worker.answered


def _answered(case: Case) -> Reply:
    if case.image == CRASHES:
        os._exit(3)
    if case.image == HANGS:
        time.sleep(600)
    if case.image == GROWS:
        hoard = [np.ones(2**25) for _ in range(8)]  # 2 GiB
        time.sleep(600)
        del hoard
    if case.image == RAISES:
        worker.verify = _broken
    return _honest(case)


def _broken(*_: object, **__: object) -> None:
    raise ZeroDivisionError("planted")
