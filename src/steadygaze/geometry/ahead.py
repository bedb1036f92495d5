"""Compile beside: a second process makes half of the kernels that a first run needs, while the first goes on.

numba compiles under one lock, so that a second core helps only a second process. What it compiles goes into
the cache on disk, where the first process finds it when it gets that far; what is not there yet it compiles
itself. The kernels are those that a run needs last: those for cutting, which take longest, are not among
them.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process

import numpy as np

from steadygaze.deadline import NEVER, Deadline
from steadygaze.geometry.caching import inherited
from steadygaze.geometry.cells import Cells
from steadygaze.geometry.clipping import coincident, reaching_past
from steadygaze.geometry.columns import columns_unlike_first, rows_within, sums_of_magnitudes
from steadygaze.geometry.connection import outline
from steadygaze.geometry.joining import connected
from steadygaze.geometry.measure import centres, facet_centres, facets, volumes
from steadygaze.geometry.sides import above, best_of_windows, firsts_of_windows, pattern_names, winners
from steadygaze.geometry.store import interpolate
from steadygaze.geometry.welding import Weld

# What the second process is told to compile.
EVERY, WALKING = "every", "walking"


@contextmanager
def compiled_beside(kernels: str, deadline: Deadline = NEVER) -> Iterator[Callable[[], None]]:
    """A call that starts the second process, once; on leaving, it has come to its end.

    Where it cannot be started, as by a user who may not run the interpreter anew, all is compiled here.

    kernels: `EVERY` search's, or with those of searches `WALKING` from region to region.
    deadline: when it is ended, if it is not ready; the next run compiles what is left.
    """
    begun: list[subprocess.Popen[bytes] | None] = []

    def begin() -> None:
        if not begun:
            begun.append(None if _alone() else _started(kernels))

    try:
        yield begin
    finally:
        for process in begun:
            if process is not None:
                _ended(process, deadline)


def _alone() -> bool:
    """Whether there is no core for a second process, or no interpreter to start.

    A worker of a pool leaves the other cores to its siblings; a frozen program has no interpreter.
    """
    lone = (os.cpu_count() or 1) < 2 or parent_process() is not None
    return lone or getattr(sys, "frozen", False) or not sys.executable


def _started(kernels: str) -> subprocess.Popen[bytes] | None:
    quiet = subprocess.DEVNULL
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "steadygaze.geometry.ahead", kernels],
            stdin=quiet,
            stdout=quiet,
            stderr=quiet,
            env={**os.environ, **inherited(), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    except OSError:
        return None


def _ended(process: subprocess.Popen[bytes], deadline: Deadline) -> None:
    try:
        process.wait(None if deadline.ends == math.inf else deadline.left)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _compile(kernels: str) -> None:
    """Have each kernel compiled by taking it to a square, in the order in which a run needs them."""
    square = Cells(
        theta=np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]),
        names=np.arange(4, dtype=np.uint64),
        ptr=np.array([0, 4]),
        idx=np.arange(4),
        mask=np.array([[9], [3], [6], [12]], np.uint64),
    )
    values, tolerance, none = square.theta - 0.5, np.zeros(2), np.zeros(0, np.int64)
    if kernels == WALKING:
        found, slope = facets(square), np.zeros((1, 2, 2))
        level = values[:1].copy()
        weights, alone = np.ones((1, 2), np.uint64), np.full(2, -1)
        coincident(square, found.cell, found.bit, level, level, slope, tolerance[None], weights, alone)
        reaching_past(square, level, level, slope, tolerance[None])
        Weld(np.ones(2), 1e-9).numbers(square.theta)
        facet_centres(square, found.cell, found.bit)
        centres(square)
    interpolate(values, none, none, np.zeros(0))
    pattern_names(above(square, values, tolerance, tolerance)[0], np.arange(2, dtype=np.uint64))
    best_of_windows(values, np.array([[0, 1]]), tolerance[:1])
    firsts_of_windows(values, np.array([[0, 1]]), tolerance[:1])
    volumes(square)
    sums_of_magnitudes(values, np.zeros(4), values[:1])
    rows_within(values, tolerance[:1], tolerance)
    columns_unlike_first(values, 1)
    connected(np.zeros((1, 2)), 1)
    outline(square, facets(square))
    winners(square, values, tolerance[:1], tolerance[:1], 2)


if __name__ == "__main__":
    _compile(sys.argv[1])
