"""How many threads torch uses for each operation while a question is asked: mostly one."""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch

from steadygaze.network.graph import Graph

# Two threads have to take no more than this share of the time of one: there is little to gain where they save
# little, and much to lose where another process comes to want the core.
_GAIN = 0.7
# A product of so many rows and columns is taken so often by one and by two threads in turn: some 60 ms. Of
# these turns one may be disturbed, for on a quiet machine, too, something runs now and then.
_ROWS, _TIMES, _DISTURBED = 512, 5, 1
# Of an image that takes fewer products than so many (see `Graph.effort`), no operation is worth two threads.
_LONG = 5 * 10**7
# What was found so is taken to hold for so many seconds.
_HOLDS = 3.0


class Lone:
    """Has torch use one thread for each operation while any question is asked, from whichever thread.

    The search's own threads share the cores; torch must not start more inside each of them. What else is
    evaluated, in loading and checking, is small, but for the largest networks: see `shared`. Where another
    process has one of the cores, threads that meet after each operation take ten to forty times as long as
    one alone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asking, self._before = 0, 1
        self._tried, self._gains = -math.inf, False

    def __enter__(self) -> None:
        with self._lock:
            if not self._asking:
                self._before = torch.get_num_threads()
            self._asking += 1
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._asking -= 1
            if not self._asking:
                torch.set_num_threads(self._before)

    @property
    def usual(self) -> int:
        """How many threads torch has where nothing is asked."""
        with self._lock:
            return self._before if self._asking else torch.get_num_threads()

    @contextmanager
    def shared(self, most: int | None = None) -> Iterator[None]:
        """Has torch use two threads meanwhile, where it may, nobody else asks, and trying says that it pays.

        For what one thread does for seconds, product by product. most: as many as are allowed.
        """
        allowed = min(self.usual, 2 if most is None else most)
        two = allowed > 1 and self._asking == 1 and torch.get_num_threads() == 1 and self._pays()
        if two:
            torch.set_num_threads(2)
        try:
            yield
        finally:
            if two:
                torch.set_num_threads(1)

    def _pays(self) -> bool:
        """Whether two threads are quicker than one just now: on a busy machine they are not."""
        if time.perf_counter() - self._tried > _HOLDS:
            self._gains = two_are_quicker()
            self._tried = time.perf_counter()
        return self._gains


def two_are_quicker() -> bool:
    """Whether two threads of torch take clearly less time for a product than one; it uses one afterwards."""
    matrix = torch.ones((_ROWS, _ROWS), dtype=torch.float64)
    spent: dict[int, list[float]] = {1: [], 2: []}
    slower = 0
    try:
        for turn in range(_TIMES):
            for threads, seconds in spent.items():
                torch.set_num_threads(threads)
                began = time.perf_counter()
                torch.mm(matrix, matrix)
                seconds.append(time.perf_counter() - began)
            slower += turn > 0 and spent[2][-1] > spent[1][-1]  # the first turn is for threads to begin
            if slower > _DISTURBED:
                return False
    finally:
        torch.set_num_threads(1)
    one, two = (statistics.median(seconds[1:]) for seconds in spent.values())
    return two <= _GAIN * one


# The number of torch's threads is the process's, and so is who has changed it.
LONE = Lone()


def shared_for(graph: Graph, most: int | None) -> Callable[[], AbstractContextManager[None]]:
    """`Lone.shared` where an image through the graph takes long; nothing of any other."""
    if graph.effort < _LONG or graph.device.type != "cpu":
        return nullcontext
    return partial(LONE.shared, most)
