"""Tests on mutants: each mutant in a forked process, and on it the tests that reach the changed line alone.

What is slow about a test run on a mutant is to import torch and its like, and to run tests that never come by
the change. So a process imports the third parties once, and nothing of the project; it learns in a first run
which test executes which lines, and how long it takes; and then forks for each mutant. There the module is
loaded from its changed source (no file is written), and tests that reach the change run until one fails.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import importlib.abc
import importlib.util
import json
import os
import resource
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, FrameType, ModuleType

import numba
import pytest
import torch
from hypothesis import Phase, settings

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCES = REPOSITORY / "src"
_THIRD_PARTIES = (
    "click", "filelock", "hypothesis.extra.numpy", "jinja2", "jsonschema", "matplotlib.figure", "numba",
    "numpy", "onnx", "onnxruntime", "PIL.Image", "platformdirs", "psutil", "scipy.optimize",
    "scipy.sparse.csgraph", "scipy.spatial", "scipy.special", "shapely", "sklearn", "torch", "torch.export",
    "torch.fx",
)  # fmt: skip
# A test that takes more processor seconds than this is not used; one that takes so many more on a mutant than
# eight times what it takes on the project as it is hangs, and the mutant counts as killed.
_TOO_LONG = 8.0
_HANGS = 20.0
# Calls of one function, and lines executed in it, that are followed in one test: the rest is repetition.
_CALLS, _LINES = 20, 30_000
# Tests that run before the files of the others are looked at.
_HEAD = 4
_MEMORY = 6 << 30


@dataclass(frozen=True)
class Known:
    """A test: its name, the processor seconds it takes, and the lines of each module that it executes."""

    name: str
    seconds: float
    lines: Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: killer is the test that failed, or "" if none did; output is pytest's."""

    killed: bool
    killer: str
    output: str


def import_third_parties() -> None:
    """Import what the project and its tests build on; where a package is missing, tests will say so."""
    for name in _THIRD_PARTIES:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    # What these two load when they are first used.
    numba.njit(lambda number: number)(0)
    torch.export.export(torch.nn.Linear(1, 1), (torch.zeros(1, 1),))
    gc.freeze()  # what is here by now stays: no child needs to look through it for garbage


# -- the first run: which test executes what


def known_tests(files: Sequence[Path], modules: Sequence[Path], store: Path) -> list[Known]:
    """Every test of the files that passes, with the lines of the modules that it executes.

    What was learnt is kept in `store`, and learnt anew for files that have changed, or for all where the
    sources have, or what the tests share.
    """
    shared = [*SOURCES.rglob("*.py"), *(REPOSITORY / "tests").glob("*.py"), *modules]
    common = _digest(path for path in sorted({*shared}) if not path.name.startswith("test_"))
    kept = json.loads(store.read_text(encoding="utf-8")) if store.is_file() else {}
    found: list[Known] = []
    for file in files:
        name, stamp = str(file.relative_to(REPOSITORY)), common + _digest([file])
        if kept.get(name, {}).get("stamp") != stamp:
            began = time.perf_counter()
            tests = _learnt(name, {str(module) for module in modules})
            kept[name] = {"stamp": stamp, "tests": [asdict(test) for test in tests]}
            store.write_text(json.dumps(kept), encoding="utf-8")
            print(f"{name}: {len(tests)} tests, {time.perf_counter() - began:.0f} s", flush=True)
        found += [Known(**test) for test in kept[name]["tests"]]
    return found


def _learnt(file: str, modules: set[str]) -> list[Known]:
    with tempfile.TemporaryDirectory(prefix="steadygaze-tests-") as folder:
        place = Path(folder) / "tests.json"

        def work() -> int:
            recorder = _Recorder(modules)
            pytest.main([*_arguments(), "--timeout=0", file], plugins=[recorder])
            place.write_text(json.dumps([asdict(test) for test in recorder.tests()]), encoding="utf-8")
            return 0

        _in_child(work, Path(folder) / "output", limit=1800)
        if not place.is_file():
            return []
        return [Known(**test) for test in json.loads(place.read_text(encoding="utf-8"))]


class _Recorder:
    """A plugin of pytest that follows the lines of some files, test by test."""

    def __init__(self, modules: set[str]) -> None:
        self._modules = modules
        self._left: dict[CodeType, set[int]] = {}
        self._calls: dict[CodeType, int] = {}
        self._events: dict[CodeType, int] = {}
        self._lines: set[tuple[str, int]] = set()
        self._seen: dict[str, tuple[float, set[tuple[str, int]]]] = {}
        # What a test leaves in a fixture, or in a variant that is its parameter, others do not execute again.
        self._sharing: defaultdict[str, set[str]] = defaultdict(set)
        self._failed: set[str] = set()

    def pytest_configure(self, config: pytest.Config) -> None:
        """Take hypothesis' settings once the project's are loaded."""
        _settle(config)

    def tests(self) -> list[Known]:
        """What was learnt of the tests that passed."""
        shared: defaultdict[str, set[tuple[str, int]]] = defaultdict(set)
        for name, (_, lines) in self._seen.items():
            for part in self._sharing[name]:
                shared[part] |= lines
        found = []
        for name, (seconds, lines) in self._seen.items():
            if name in self._failed:
                continue
            every = lines.union(*(shared[part] for part in self._sharing[name]))
            by_file: dict[str, list[int]] = {}
            for file, line in sorted(every):
                by_file.setdefault(str(Path(file).relative_to(REPOSITORY)), []).append(line)
            found.append(Known(name, seconds, by_file))
        return found

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Function) -> Iterator[None]:
        """Follow one test with its fixtures."""
        self._left, self._calls, self._events, self._lines = {}, {}, {}, set()
        self._sharing[item.nodeid] |= {
            f"fixture {name}"
            for name, definitions in item._fixtureinfo.name2fixturedefs.items()
            if definitions[-1].scope != "function" and definitions[-1].baseid.endswith(".py")
        }
        parameters = item.nodeid.partition("[")[2]
        if parameters:
            self._sharing[item.nodeid].add(parameters)
        signal.signal(signal.SIGPROF, _give_up)
        signal.setitimer(signal.ITIMER_PROF, _TOO_LONG, 1.0)
        began = time.process_time()
        threading.settrace(self._enter)  # searches work in threads of their own
        sys.settrace(self._enter)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)
            signal.setitimer(signal.ITIMER_PROF, 0)
            self._seen[item.nodeid] = time.process_time() - began, self._lines

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Leave out what fails, or is skipped, as it is."""
        if not report.passed:
            self._failed.add(report.nodeid)

    def _enter(self, frame: FrameType, _event: str, _argument: object) -> Callable | None:
        code = frame.f_code
        if code.co_filename not in self._modules:
            return None
        if code not in self._left:
            self._left[code] = {line for *_, line in code.co_lines() if line}
            self._calls[code] = self._events[code] = 0
            self._lines.add((code.co_filename, code.co_firstlineno))
        self._calls[code] += 1
        followed = self._calls[code] <= _CALLS and self._events[code] <= _LINES
        return self._step if followed and self._left[code] else None

    def _step(self, frame: FrameType, _event: str, _argument: object) -> Callable | None:
        code, line = frame.f_code, frame.f_lineno
        left = self._left.get(code)
        if left is None:  # a generator that began in another test
            return None
        left.discard(line)
        self._lines.add((code.co_filename, line))
        self._events[code] += 1
        return self._step if left and self._events[code] <= _LINES else None


def _give_up(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"the test takes more than {_TOO_LONG} s of processor time")


# -- a mutant


def run_on(module: Path, source: str, tests: Sequence[Known]) -> Outcome:
    """Run tests in their order, until one fails, where the module reads as given.

    A test that hangs, or takes the process down, kills the mutant, too.
    """
    with tempfile.TemporaryDirectory(prefix="steadygaze-mutant-") as folder:
        output, killer = Path(folder) / "output", Path(folder) / "killer"

        def work() -> int:
            resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
            with warnings.catch_warnings():  # that a number is compared by identity is for tests to notice
                warnings.simplefilter("ignore")
                code = compile(source, str(module), "exec")
            sys.meta_path.insert(0, _Mutated(module, code))
            for part in (tests[:_HEAD], tests[_HEAD:]):
                if not part:
                    continue
                files = list(dict.fromkeys(test.name.partition("::")[0] for test in part))
                status = pytest.main([*_arguments(), "-x", *files], plugins=[_Chosen(part, killer)])
                if status != pytest.ExitCode.OK:
                    return 1
            return 0

        status = _in_child(work, output, limit=60 + 8 * sum(test.seconds for test in tests))
        said = killer.read_text(encoding="utf-8") if killer.is_file() else ""
        return Outcome(status != 0, said, output.read_text(encoding="utf-8", errors="replace")[-4000:])


@dataclass(frozen=True)
class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module of the project from code that was compiled of a changed source."""

    path: Path
    code: CodeType
    name: str = field(init=False)

    def __post_init__(self) -> None:
        parts = self.path.relative_to(SOURCES).with_suffix("").parts
        object.__setattr__(self, "name", ".".join(parts[:-1] if parts[-1] == "__init__" else parts))

    def find_spec(self, fullname: str, _path: object, _target: ModuleType | None = None) -> ModuleSpec | None:
        """Ours for the module, nothing for others."""
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(
            fullname,
            self.path,
            loader=self,
            submodule_search_locations=[str(self.path.parent)] if self.path.stem == "__init__" else None,
        )

    def create_module(self, spec: ModuleSpec) -> None:
        """As usual."""

    def exec_module(self, module: ModuleType) -> None:
        """Execute the changed code."""
        exec(self.code, module.__dict__)


class _Chosen:
    """A plugin of pytest that runs the given tests in their order, and notes which one fails."""

    def __init__(self, tests: Sequence[Known], killer: Path) -> None:
        self._place = {test.name: number for number, test in enumerate(tests)}
        self._seconds = {test.name: test.seconds for test in tests}
        self._killer = killer

    def pytest_configure(self, config: pytest.Config) -> None:
        """Take hypothesis' settings once the project's are loaded."""
        _settle(config)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave the chosen ones."""
        chosen = [item for item in items if item.nodeid in self._place]
        items[:] = sorted(chosen, key=lambda item: self._place[item.nodeid])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """End the process where a test hangs: the signal's own effect."""
        self._killer.write_text(f"hangs or crashes: {item.nodeid}", encoding="utf-8")
        signal.setitimer(signal.ITIMER_PROF, _HANGS + 8 * self._seconds[item.nodeid])
        try:
            return (yield)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            self._killer.unlink()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the one that fails, and end."""
        if report.failed:
            self._killer.write_text(f"fails: {report.nodeid}", encoding="utf-8")
            print(report.longreprtext, flush=True)
            os._exit(1)


# -- processes


def _arguments() -> list[str]:
    # Kernels that run as plain Python let whole numbers of 64 bits wrap around with a warning.
    return [
        "-q", "--tb=short", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow and not peer",
        "-W", "ignore:overflow encountered", "-W", "ignore::pytest.PytestAssertRewriteWarning",
    ]  # fmt: skip


def _settle(_config: pytest.Config) -> None:
    """Hypothesis as in the suite, but without making a failing example small."""
    settings.register_profile(
        "mutants", settings.get_profile("repeatable"), phases=(Phase.explicit, Phase.generate), database=None
    )
    settings.load_profile("mutants")


def _in_child(work: Callable[[], int], output: Path, limit: float) -> int:
    """The status of work done in a forked process that writes to `output`; -9 where it takes too long."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        status = 70
        try:
            os.setsid()
            into = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(into, 1)
            os.dup2(into, 2)
            os.chdir(REPOSITORY)
            sys.dont_write_bytecode = False
            status = work()
        finally:
            sys.stdout.flush()
            os._exit(status)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -9


def _digest(paths: Iterator[Path] | Sequence[Path]) -> str:
    total = hashlib.sha256()
    for path in paths:
        total.update(path.read_bytes())
    return total.hexdigest()[:16]
