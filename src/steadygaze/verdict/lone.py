"""One thread of torch for each operation, while a question is asked or an answer looked at."""

from __future__ import annotations

import threading

import torch


class Lone:
    """Has torch use one thread for each operation while any question is asked, from whichever thread.

    The search's own threads share the cores; torch must not start more inside each of them. What else is
    evaluated, in loading and checking, is small: where another process has one of the cores, threads that
    meet after each operation take ten to forty times as long as one alone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asking, self._before = 0, 1

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


# The number of torch's threads is the process's, and so is who has changed it.
LONE = Lone()
