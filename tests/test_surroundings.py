"""What surrounds the program: readers that go, full disks, folders that vanish, threads side by side."""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import logging
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import steadygaze as sg
from steadygaze import cli

QUESTION = (
    "verify", "digits-mlp", "--image", "digits:202", "--perturb", "brightness(amount=-0.02..0.02)", "--quiet",
    "--out", "answer",
)  # fmt: skip


class Refusing(io.StringIO):
    """A stream that cannot be written to."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def write(self, text: str) -> int:
        raise OSError(self._number, os.strerror(self._number))

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CI", "1")


def test_an_answer_whose_reader_has_gone_keeps_its_exit_code(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Refusing(errno.EPIPE))
    assert cli.run(QUESTION) == 0
    assert Path("answer", "result.json").is_file()
    assert "it is in 'answer'" in capsys.readouterr().err


def test_an_answer_that_cannot_be_printed_is_in_its_folder(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Refusing(errno.ENOSPC))
    assert cli.run(QUESTION) == cli.BAD_USAGE
    assert Path("answer", "result.json").is_file()
    assert "No space left" in capsys.readouterr().err


def test_with_nobody_to_tell_the_exit_code_still_speaks(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Refusing(errno.EPIPE))
    monkeypatch.setattr(sys, "stderr", Refusing(errno.EPIPE))
    assert cli.run(QUESTION) == 0
    assert cli.run(["verify", "nothing.onnx"]) == cli.BAD_USAGE


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["schema"], ["verify", "--help"]])
@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC])
def test_a_help_text_that_cannot_be_printed_is_bad_usage(monkeypatch, capsys, arguments, number):
    monkeypatch.setattr(sys, "stdout", Refusing(number))
    assert cli.run(arguments) == cli.BAD_USAGE
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_as_the_program_sees_it():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "steadygaze", "schema"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == cli.BAD_USAGE
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_letters_that_the_locale_does_not_know():
    environment = {**os.environ, "LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    environment |= {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "steadygaze", "verify", "θ.onnx", "--image", "digits:1"],
        env=environment, capture_output=True,
    )  # fmt: skip
    assert done.returncode == cli.BAD_USAGE
    assert done.stderr.startswith(b"error: ")


def test_a_working_folder_that_is_gone(tmp_path, monkeypatch, capsys):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    try:
        assert cli.run(QUESTION) == cli.BAD_USAGE
    finally:
        os.chdir(tmp_path)
    assert "another folder" in capsys.readouterr().err


def test_a_disk_that_runs_full_leaves_the_earlier_answer_whole(monkeypatch, capsys):
    assert cli.run(QUESTION) == 0
    before = {path: path.read_bytes() for path in Path("answer").iterdir() if path.is_file()}

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("steadygaze.report.folder.write_witness", full)
    assert cli.run(QUESTION) == cli.BAD_USAGE
    assert "No space left" in capsys.readouterr().err
    after = {path: path.read_bytes() for path in Path("answer").iterdir() if path.is_file()}
    assert before == after


def shared_state() -> list[object]:
    """What a process has once."""
    return [
        sys.stdout, sys.stderr, logging.root.manager.disable, list(warnings.filters), torch.get_num_threads(),
        torch.get_default_dtype(), torch.is_grad_enabled(), signal.getsignal(signal.SIGINT), list(sys.path),
        dict(os.environ), np.geterr(), gc.isenabled(),
        getattr(getattr(torch.fx, "config", None), "do_not_emit_stack_traces", None),
    ]  # fmt: skip


def module() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(24, 3)
    )


def test_threads_ask_side_by_side():
    torch.manual_seed(0)
    modules, image = [module() for _ in range(4)], np.linspace(0.2, 0.8, 16).reshape(4, 4)
    box = sg.Brightness(-0.1, 0.1)
    alone = [sg.verify(each, image, box).shares for each in modules]
    before = shared_state()  # by now: sympy, which torch imports, adds a filter of its own
    together: list[object] = [None] * len(modules)

    def ask(number: int) -> None:
        try:
            together[number] = sg.verify(modules[number], image, box).shares
        except BaseException as error:
            together[number] = error

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(modules))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert together == alone
    assert shared_state() == before


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ZeroDivisionError])
def test_what_fails_on_the_way_leaves_the_process_as_it_was(monkeypatch, failure):
    def broken(*_: object, **__: object) -> None:
        raise failure

    sg.verify(module(), np.full((4, 4), 0.5), sg.Brightness(-0.1, 0.1), threads=1)
    before = shared_state()
    for place in ("verdict.reviewing.check_patterns", "verdict.driver.pose", "search.sweep.judge"):
        with monkeypatch.context() as patched:
            patched.setattr(f"steadygaze.{place}", broken)
            with contextlib.suppress(failure):
                sg.verify(module(), np.full((4, 4), 0.5), sg.Brightness(-0.1, 0.1), threads=1)
        assert shared_state() == before, place


def test_a_module_that_fails_in_tracing_leaves_the_process_as_it_was():
    class Broken(torch.nn.Module):
        def forward(self, x):
            assert not gc.isenabled()
            if torch.compiler.is_compiling():
                raise ZeroDivisionError
            return x.flatten(1)

    before = shared_state()
    with pytest.raises(sg.ModelError, match="cannot be traced"):
        sg.verify(Broken(), np.full((4, 4), 0.5), sg.Brightness(-0.1, 0.1), threads=1)
    assert shared_state() == before
