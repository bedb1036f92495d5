"""Kernels that are compiled on a first run take no time of the question."""

from __future__ import annotations

import time

import numpy as np
import torch
from numba.core import event as events
from torch import nn

import steadygaze as sg
from steadygaze.deadline import Deadline
from steadygaze.verdict.surroundings import Compiling

START = events.Event("numba:compile", events.EventStatus.START)
END = events.Event("numba:compile", events.EventStatus.END)


def test_time_stands_still_while_something_is_compiled():
    now, told, begun = [1.0], [], []
    compiling = Compiling(told.append, Deadline(10.0, lambda: now[0]))
    compiling.begin = lambda: begun.append(True)
    deadline = compiling.deadline.later(2.0)

    def at(moment, event=None):
        now[0] = moment
        if event is START:
            compiling.on_start(event)
        elif event is END:
            compiling.on_end(event)
        return compiling.seconds, deadline.left

    assert at(3.0) == (0.0, 9.0)
    assert at(3.0, START) == (0.0, 9.0)
    assert at(5.0) == (2.0, 9.0)
    # What another one needs is compiled within.
    assert at(6.0, START) == (3.0, 9.0)
    assert at(7.0, END) == (4.0, 9.0)
    assert at(8.0, END) == (5.0, 9.0)
    assert at(10.0) == (5.0, 7.0)
    assert at(11.0, START) == (5.0, 6.0)
    assert at(40.0, END) == (34.0, 6.0)
    assert not deadline.passed()
    assert at(46.5) == (34.0, 0.0)
    assert deadline.passed()
    assert [progress.phase for progress in told] == ["compiling"] * 3
    assert len(begun) == 3


def test_a_question_with_little_time_is_answered_where_kernels_are_compiled():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 3))
    image = np.random.default_rng(3).uniform(0.2, 0.8, (1, 6, 6))
    waited = []

    def tell(progress):
        if not waited:
            waited.append(True)
            with events.trigger_event("numba:compile"):
                time.sleep(3.0)

    answer = sg.verify(module, image, "brightness(amount=-0.4..0.4)", time_limit=2.5, progress=tell)
    assert answer.result.settings["stopped"] is None
    assert answer.result.timing["compiling"] >= 3.0
