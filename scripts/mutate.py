"""Mutation testing, room by room: change the code in one small place, and see whether a test goes red.

    python scripts/mutate.py [--room judging ...] [--sample 44] [--seed 0] [--again] [--out mutation-out]

cosmic-ray makes the mutants and keeps their outcomes (`cr-report mutation-out/judging.sqlite` reads them).
Tests run in forked processes, those that reach the changed line alone and the fastest first (`forked_tests`).
The first run of all learns which these are, which takes some minutes. A sample takes no place in the code
twice. What lies in an annotation, or takes a decorator away, is left out: it changes no answer. Kernels are
mutated with NUMBA_DISABLE_JIT=1, so that they run as plain Python.

Each survivor is either a change that makes no difference, which docs/mutation.md then names with the reason,
or a test that is missing: the report gives its diff, and the exit status is 1. With `--again` the survivors
of the last run are tried once more, after tests were added. Leave the sources alone while it runs.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cosmic_ray.commands.init import init
from cosmic_ray.modules import find_modules
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkItem, WorkResult

from forked_tests import REPOSITORY, SOURCES, Known, import_third_parties, known_tests, run_on

PACKAGE = SOURCES / "steadygaze"
EXPLAINED = REPOSITORY / "docs" / "mutation.md"
# A test as such costs so much, and of a family of tests each further one counts for less.
_OVERHEAD = 0.05


@dataclass(frozen=True)
class Room:
    """What is mutated, and which tests may notice.

    Attributes:
        modules: files or folders below src/steadygaze. tests: files or folders below tests.
        interpreted: whether kernels run as plain Python. without: modules that are other rooms' own.
    """

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    interpreted: bool = False
    without: tuple[str, ...] = ()

    def files(self) -> list[Path]:
        """The files that are mutated."""
        left = {PACKAGE / name for name in self.without}
        return sorted(
            path for path in find_modules(PACKAGE / each for each in self.modules) if path not in left
        )

    def test_files(self) -> list[Path]:
        """The files of the tests."""
        found: list[Path] = []
        for name in self.tests:
            place = REPOSITORY / "tests" / name
            found += sorted(place.rglob("test_*.py")) if place.is_dir() else [place]
        return found


_WHOLE = tuple(f"test_{name}.py" for name in ("faults", "needles", "level_units", "shapes"))
_JUDGED = ("search/judging.py", "search/following.py", "search/boxes.py")

ROOMS = {
    "search": Room(
        ("search",),
        (
            *(
                f"search/test_{name}.py"
                for name in ("agreement", "branch_and_bound", "falsifying", "handover", "nearest", "outward",
                             "sweep", "traversal", "traversal_faults")
            ),
            *_WHOLE,
        ),
        without=_JUDGED,
    ),
    "judging": Room(
        _JUDGED,
        ("search/test_judging.py", "search/test_boxes.py",
         "search/test_following.py", "question/test_following.py", *_WHOLE),
    ),
    "checks": Room(
        ("verdict/checks.py", "verdict/held.py", "verdict/plain.py", "verdict/terms.py"),
        ("verdict", *_WHOLE),
    ),
    "piecewise": Room(
        ("network/regions/piecewise.py", "network/regions/rounding.py"),
        ("network/regions", "search/test_following.py", *_WHOLE),
    ),
    "onesided": Room(
        ("network/regions/onesided.py",),
        ("network/regions", "search/test_judging.py", *_WHOLE),
    ),
    "combined": Room(
        ("network/regions/combined.py",), ("network/regions", "search/test_judging.py", *_WHOLE)
    ),
    "geometry": Room(
        tuple(
            f"geometry/{name}.py"
            for name in ("bits", "boxes", "cells", "clipping", "connection", "cutting", "envelope", "growing",
                         "measure", "sections", "sides", "store", "welding")
        ),
        tuple(
            f"geometry/test_{name}.py"
            for name in ("sides", "store", "welding", "cells", "boxes", "polytope", "envelope", "clipping",
                         "sections", "measure", "cutting", "connection")
        ),
        interpreted=True,
    ),
    "perturbation": Room(("perturbation",), ("perturbation", *_WHOLE)),
    "enclosing": Room(
        ("enclosing",), ("enclosing", "perturbation", "test_bound_faults.py"), interpreted=True
    ),
    "bounding": Room(
        ("network/bounding",),
        ("network/bounding", "verdict/test_devices.py", "test_box_bounds.py", "test_bound_faults.py"),
    ),
}  # fmt: skip


def main() -> int:
    """Run the rooms asked for; write what survived. 1 where a survivor is not explained."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--room", action="append", choices=sorted(ROOMS), help="one room, may be repeated")
    parser.add_argument("--sample", type=int, default=44, help="mutants of each room; 0 takes all")
    parser.add_argument("--seed", type=int, default=0, help="which mutants the sample has")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="processor time of the tests that a mutant must survive"
    )
    parser.add_argument("--again", action="store_true", help="only the survivors of the last run")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "mutation-out", help="folder of the reports")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    rooms = asked.room or list(ROOMS)
    if len(rooms) > 1:  # each in a process of its own, for numba reads its environment once
        one = [sys.executable, __file__, "--sample", str(asked.sample), "--seed", str(asked.seed)]
        again = ["--seconds", str(asked.seconds), *(["--again"] if asked.again else [])]
        runs = [
            subprocess.run([*one, *again, "--out", asked.out, "--room", room], check=False) for room in rooms
        ]
        return max(run.returncode for run in runs)
    (name,) = rooms
    os.environ["OMP_NUM_THREADS"] = "1"
    if ROOMS[name].interpreted:
        os.environ["NUMBA_DISABLE_JIT"] = "1"
    os.chdir(REPOSITORY)
    sys.path.insert(0, str(SOURCES))
    import_third_parties()
    with use_db(str(asked.out / f"{name}.sqlite")) as database:
        if not asked.again:
            _fill(database, ROOMS[name], asked.sample, asked.seed)
        _try_all(database, ROOMS[name], asked.out, asked.seconds)
        told, unexplained = _report(name, database.completed_work_items, asked.seed)
    (asked.out / f"{name}.md").write_text(told, encoding="utf-8")
    print(told.partition("\n\n## ")[0], flush=True)
    return int(unexplained > 0)


# -- which mutants


def _fill(database: WorkDB, room: Room, sample: int, seed: int) -> None:
    """Put a sample of the mutants that may change an answer into the database."""
    init([path.relative_to(REPOSITORY) for path in room.files()], database, {})
    places: defaultdict[tuple[str, tuple[int, int]], list[WorkItem]] = defaultdict(list)
    silent = {str(path.relative_to(REPOSITORY)): _annotated(_text(path)) for path in room.files()}
    for item in database.work_items:
        (mutation,) = item.mutations
        path = str(mutation.module_path)
        if mutation.operator_name.endswith("RemoveDecorator") or mutation.start_pos in silent[path]:
            continue
        places[path, mutation.start_pos].append(item)
    draw = random.Random(seed)
    if sample:
        shuffled = draw.sample(sorted(places), len(places))
        drawn = (draw.choice(sorted(places[place], key=_named)) for place in shuffled)
        items = list(islice(filter(_is_python, drawn), sample))
    else:
        items = [item for place in sorted(places) for item in places[place] if _is_python(item)]
    database.clear()
    database.add_work_items(items)


def _changed(item: WorkItem) -> tuple[str, str]:
    """The module as it is, and as the mutant has it."""
    (mutation,) = item.mutations
    source = _text(REPOSITORY / mutation.module_path)
    operator = get_operator(mutation.operator_name)(**mutation.operator_args)
    return source, mutate_code(source, operator, mutation.occurrence)


def _is_python(item: WorkItem) -> bool:
    """Not where cosmic-ray takes the stars of an unpacking for an operator, or writes ``a < not b``."""
    try:
        ast.parse(_changed(item)[1])
    except SyntaxError:
        return False
    return True


def _named(item: WorkItem) -> tuple[str, int]:
    (mutation,) = item.mutations
    return mutation.operator_name, mutation.occurrence


def _annotated(source: str) -> set[tuple[int, int]]:
    """Places (line, column) that lie within annotations."""
    places: set[tuple[int, int]] = set()
    for node in ast.walk(ast.parse(source)):
        found = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        for part in (each for each in found if isinstance(each, ast.expr)):
            for inner in ast.walk(part):
                if isinstance(inner, ast.expr):
                    last = inner.end_col_offset or 0
                    places |= {(inner.lineno, column) for column in range(inner.col_offset, last)}
    return places


# -- what becomes of them


def _try_all(database: WorkDB, room: Room, out: Path, seconds: float) -> None:
    """Try each mutant that has not been killed."""
    done = {item.job_id for item, result in database.completed_work_items if result.is_killed}
    store = out / f"{'interpreted' if room.interpreted else 'compiled'}.json"
    every = {path for each in ROOMS.values() if each.interpreted == room.interpreted for path in each.files()}
    known = known_tests(room.test_files(), sorted(every), store)
    order = _Order(known, seconds)
    left = sorted((item for item in database.work_items if item.job_id not in done), key=_place)
    for number, item in enumerate(left):
        (mutation,) = item.mutations
        source, changed = _changed(item)
        diff = "\n".join(difflib.unified_diff(source.split("\n"), changed.split("\n"), lineterm="", n=2))
        tests, began = order.tests(mutation, source), time.perf_counter()
        outcome = run_on(REPOSITORY / mutation.module_path, changed, tests)
        if outcome.killed:
            order.kills[str(mutation.module_path), outcome.killer.partition(": ")[2]] += 1
        database.set_result(
            item.job_id,
            WorkResult(
                worker_outcome=WorkerOutcome.NORMAL,
                output=outcome.output,
                test_outcome=TestOutcome.KILLED if outcome.killed else TestOutcome.SURVIVED,
                diff=diff,
            ),
        )
        print(
            f"{number + 1}/{len(left)} {mutation.module_path.name}:{mutation.start_pos[0]} "
            f"{mutation.operator_name.partition('/')[2]}: "
            f"{outcome.killer or ('killed' if outcome.killed else f'survives {len(tests)} tests')} "
            f"({time.perf_counter() - began:.1f} s)",
            flush=True,
        )


class _Order:
    """Which tests a mutant has to survive, in their order."""

    def __init__(self, known: Sequence[Known], seconds: float) -> None:
        self._known = known
        self._seconds = seconds
        #: How often each test killed a mutant of each module.
        self.kills: Counter[tuple[str, str]] = Counter()

    def tests(self, mutation: MutationSpec, source: str) -> list[Known]:
        """Those that execute the changed line, until they take too long together.

        What has killed mutants of this module goes first, then the fast ones; of a family of tests, which
        have a function in common, first one, then others.
        """
        module, lines = str(mutation.module_path), _lines(source, mutation.start_pos[0])
        reaching = [test for test in self._known if lines & set(test.lines.get(module, ()))]
        families: Counter[str] = Counter()
        price: dict[str, tuple[int, float]] = {}
        for test in sorted(reaching, key=lambda test: test.seconds):
            family = test.name.partition("[")[0]
            families[family] += 1
            price[test.name] = (
                -self.kills[module, test.name],
                (test.seconds + _OVERHEAD) * families[family],
            )
        chosen, total = [], 0.0
        for test in sorted(reaching, key=lambda test: price[test.name]):
            if total + test.seconds <= self._seconds:
                chosen.append(test)
                total += test.seconds
        return chosen


def _lines(source: str, line: int) -> set[int]:
    """The lines one of which is executed where a place of this line is.

    That is the statement's, within a function. What stands outside of functions is executed by an import
    alone: then all lines that name what is set there, or, where nothing is, all.
    """
    every = range(1, source.count("\n") + 2)
    tree = ast.parse(source)
    inner = [
        node for node in ast.walk(tree) if isinstance(node, ast.stmt) and node.lineno <= line <= _end(node)
    ]
    if not inner:
        return set(every)
    functions = [node for node in inner if isinstance(node, ast.FunctionDef) and node.body[0].lineno <= line]
    smallest = min(inner, key=lambda node: _end(node) - node.lineno)
    if functions:
        if hasattr(smallest, "body"):  # the head of a compound statement
            return set(range(smallest.lineno, line + 1))
        return set(range(smallest.lineno, _end(smallest) + 1))
    names = {node.id for node in ast.walk(smallest) if isinstance(node, ast.Name)}
    if isinstance(smallest, ast.FunctionDef):
        return set(range(smallest.lineno, _end(smallest) + 1))
    if isinstance(smallest, ast.Assign | ast.AnnAssign):
        targets = smallest.targets if isinstance(smallest, ast.Assign) else [smallest.target]
        names = {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
        loads = (node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in names)
        used = {node.lineno for node in loads if isinstance(node.ctx, ast.Load)}
        if used:
            return used
    return set(every)


def _end(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


def _place(item: WorkItem) -> tuple[str, int]:
    (mutation,) = item.mutations
    return str(mutation.module_path), mutation.start_pos[0]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


# -- what is said of them


def _report(name: str, results: Iterable[tuple[WorkItem, WorkResult]], seed: int) -> tuple[str, int]:
    """How many were killed, and the diff of each survivor; with the number of those without a reason."""
    results = list(results)
    reasons = _reasons(_text(EXPLAINED) if EXPLAINED.is_file() else "")
    survivors = sorted((pair for pair in results if not pair[1].is_killed), key=lambda pair: _place(pair[0]))
    kinds: Counter[str] = Counter()
    told, open_ = [], []
    for item, result in survivors:
        (mutation,) = item.mutations
        place = str(Path(mutation.module_path).relative_to("src/steadygaze"))
        was, now = _change(result.diff or "")
        kind = reasons.get((place, was, now))
        kinds[kind or "unexplained"] += 1
        text = (
            f"## {kind or 'unexplained'}: {place}:{mutation.start_pos[0]} {mutation.operator_name}\n\n"
            f"- `{was}` → `{now}`: equivalent. Why.\n\n```diff\n{(result.diff or '').strip()}\n```"
        )
        (told if kind else open_).append(text)
    killed, total = len(results) - len(survivors), len(results)
    changing = killed + kinds["unexplained"]
    share = killed / changing if changing else 1.0
    row = (
        f"| {name} | {seed} | {total} | {killed} | {len(survivors)} | {kinds['equivalent']} "
        f"| {kinds['cost']} | {kinds['message']} | {kinds['slack']} | {kinds['unexplained']} | {share:.0%} |"
    )
    head = (
        "| room | seed | mutants | killed | survived | equivalent | cost only | message only | slack only "
        "| unexplained | killed of those that change behaviour |\n" + "|---" * 11 + "|"
    )
    return "\n\n".join([f"{head}\n{row}", *open_, *told]) + "\n", kinds["unexplained"]


def _change(diff: str) -> tuple[str, str]:
    """The line before and after."""
    lines = diff.split("\n")[2:]
    before = " ".join(line[1:].strip() for line in lines if line.startswith("-"))
    return before, " ".join(line[1:].strip() for line in lines if line.startswith("+"))


def _reasons(text: str) -> dict[tuple[str, str, str], str]:
    """The kind of each survivor that docs/mutation.md explains, by file, line before, and line after."""
    found, place = {}, ""
    for line in text.split("\n"):
        heading = re.fullmatch(r"### `(.+)`", line)
        item = re.match(r"- `(.+?)` → `(.+?)`: (equivalent|cost|message|slack)\b", line)
        if heading:
            place = heading[1]
        elif item:
            found[place, item[1], item[2]] = item[3]
    return found


if __name__ == "__main__":
    sys.exit(main())
