"""What a user's module runs in: nothing of the caller's surroundings, and nothing of its own stays behind."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import random
import threading
import warnings
from collections.abc import Iterator

import numpy as np
import torch

# Streams, logging, warnings and the random numbers belong to the whole process, and tracing is not made for
# two threads: one at a time.
_ALONE = threading.RLock()


@contextlib.contextmanager
def on_processor() -> Iterator[None]:
    """New tensors are made on the processor, whatever default device the caller has set."""
    # Naming a device costs time at every call of PyTorch, and is seldom needed.
    usual = torch.get_default_device().type == "cpu"
    with contextlib.nullcontext() if usual else torch.device("cpu"):
        yield


@contextlib.contextmanager
def _step_by_step() -> Iterator[None]:
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextlib.contextmanager
def undisturbed(*, gradients: bool) -> Iterator[None]:
    """Without the caller's inference mode and autocast, which would change what a module computes.

    Attention goes step by step, as it is traced, not by the one kernel that PyTorch has for it in evaluation.
    """
    with (
        on_processor(),
        _step_by_step(),
        torch.inference_mode(False),
        torch.set_grad_enabled(gradients),
        torch.autocast("cpu", enabled=False),
    ):
        yield


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


@contextlib.contextmanager
def unplaced() -> Iterator[None]:
    """Traces do not note which lines of code a step comes from, where PyTorch can do without: nobody asks."""
    switch, options = "do_not_emit_stack_traces", getattr(torch.fx, "config", None)
    before = getattr(options, switch, True)
    if not before:
        setattr(options, switch, True)
    try:
        yield
    finally:
        if not before:
            setattr(options, switch, before)


@contextlib.contextmanager
def traceless() -> Iterator[None]:
    """For code of the user's that may print, warn, or draw random numbers: the process is left as it was.

    Tracing that fails prints and logs pages about its insides; the error says what matters. Nobody looks for
    rubbish meanwhile: imports and traces make a million objects, most of which stay.
    """
    with _ALONE, _uncollected():
        disabled, python = logging.root.manager.disable, random.getstate()
        numpy = np.random.get_state()  # noqa: NPY002 - that of the user's code, not ours
        logging.disable(logging.CRITICAL)
        try:
            sink = io.StringIO()
            with (
                warnings.catch_warnings(),
                contextlib.redirect_stdout(sink),
                contextlib.redirect_stderr(sink),
                torch.random.fork_rng(devices=[]),
            ):
                warnings.simplefilter("ignore")
                yield
        finally:
            logging.disable(disabled)
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
