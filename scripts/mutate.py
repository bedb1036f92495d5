"""Mutation testing, room by room: change the code in one small place, and see whether a test goes red.

    python scripts/mutate.py [--room geometry ...] [--sample 60] [--seed 0] [--out mutation-out]

cosmic-ray makes the mutants and runs the tests of the room on each, in a copy of the project. What lies in an
annotation, or takes a decorator away, is left out: it changes no answer. Kernels are mutated with
NUMBA_DISABLE_JIT=1, so that they run as plain Python. The report names every survivor with its diff: each is
either a change that makes no difference, which a reader has to say, or a test that is missing.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkItem, WorkResult

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDERS = ("src", "tests", "benchmarks", "studies", "scripts", "docs")
FILES = ("pyproject.toml", "README.md", "CONTRIBUTING.md", "Makefile")


@dataclass(frozen=True)
class Room:
    """What is mutated, and which tests must notice.

    Attributes:
        modules: files or folders below src/steadygaze. tests: what pytest is given, with `options`.
        interpreted: whether kernels run as plain Python. seconds: longest run of the tests on one mutant.
    """

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    interpreted: bool = False
    seconds: float = 240.0
    options: tuple[str, ...] = ()


# Cases that take more than some seconds where kernels are not compiled, and have smaller siblings.
_COMPILED_ONLY = (
    "not shaken_points and not need_more_bits and not half_spaces and not zaslavsky and not more_facets "
    "and not agree_on_their_common and not inside_from_outside and not many_windows"
)

ROOMS = {
    "geometry": Room(
        tuple(
            f"geometry/{name}.py"
            for name in ("bits", "cells", "clipping", "connection", "curves", "cutting", "envelope",
                         "measure", "outside", "polytope", "sections", "sides", "store", "welding")
        ),
        ("tests/geometry", "tests/search/test_exact.py"),
        interpreted=True,
        options=("-k", _COMPILED_ONLY),
    ),
    "judging": Room(
        ("search/judging.py", "search/following.py", "search/robust_part.py", "search/boxes.py"),
        ("tests/search", "tests/test_faults.py"),
    ),
    "search": Room(("search",), ("tests/search", "tests/verdict", "tests/test_faults.py")),
    "checks": Room(("verdict",), ("tests/verdict", "tests/test_faults.py", "tests/test_bound_faults.py")),
    "regions": Room(
        ("network/regions/piecewise.py", "network/regions/combined.py", "network/regions/onesided.py"),
        ("tests/network/regions", "tests/search", "tests/test_properties.py"),
    ),
    "perturbation": Room(("perturbation",), ("tests/perturbation", "tests/test_properties.py")),
}  # fmt: skip


def main() -> int:
    """Run the rooms asked for; write what survived."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--room", action="append", choices=sorted(ROOMS), help="one room, may be repeated")
    parser.add_argument("--sample", type=int, default=60, help="mutants of each room; 0 takes all")
    parser.add_argument("--seed", type=int, default=0, help="which mutants the sample has")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "mutation-out", help="folder of the reports")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for name in asked.room or sorted(ROOMS):
        with tempfile.TemporaryDirectory(prefix="steadygaze-mutants-") as folder:
            results = _run(name, ROOMS[name], Path(folder), asked.sample, asked.seed)
        text = _report(name, results)
        (asked.out / f"{name}.md").write_text(text, encoding="utf-8")
        print(text.partition("\n\n## ")[0], flush=True)
    return 0


def _run(name: str, room: Room, folder: Path, sample: int, seed: int) -> list[tuple[WorkItem, WorkResult]]:
    """Mutate a copy of the project in `folder`; returns each mutant of the sample with its outcome."""
    project = folder / "project"
    project.mkdir()
    for part in FOLDERS:
        shutil.copytree(REPOSITORY / part, project / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in FILES:
        shutil.copy2(REPOSITORY / part, project / part)
    if (REPOSITORY.parent / "shared").is_dir():
        (folder / "shared").symlink_to(REPOSITORY.parent / "shared")
    environment = {**os.environ, "PYTHONPATH": str(project / "src"), "OMP_NUM_THREADS": "1"}
    if room.interpreted:
        environment["NUMBA_DISABLE_JIT"] = "1"
    test = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", "-p", "no:cacheprovider",
            "-W", "ignore:overflow encountered", *room.options, *room.tests]  # fmt: skip
    subprocess.run(test, cwd=project, env=environment, check=True, stdout=subprocess.DEVNULL)
    command = " ".join(f"'{word}'" if " " in word else word for word in test)
    (project / "mutants.toml").write_text(
        f"[cosmic-ray]\nmodule-path = {[f'src/steadygaze/{module}' for module in room.modules]!r}\n"
        f'timeout = {room.seconds}\nexcluded-modules = []\ntest-command = "{command}"\n'
        '[cosmic-ray.distributor]\nname = "local"\n'
    )
    tool, files = [sys.executable, "-m", "cosmic_ray.cli"], ["mutants.toml", "mutants.sqlite"]
    subprocess.run([*tool, "init", *files], cwd=project, env=environment, check=True)
    with use_db(str(project / "mutants.sqlite"), WorkDB.Mode.open) as database:
        _keep(database, project, sample, seed)
    subprocess.run([*tool, "exec", *files], cwd=project, env=environment, check=True)
    with use_db(str(project / "mutants.sqlite"), WorkDB.Mode.open) as database:
        return list(database.completed_work_items)


def _keep(database: WorkDB, project: Path, sample: int, seed: int) -> None:
    """Leave in the database a sample of the mutants that may change an answer."""
    silent: dict[Path, set[int]] = {}
    items = []
    for item in database.work_items:
        (mutation,) = item.mutations
        path = mutation.module_path
        if path not in silent:
            silent[path] = _annotated((project / path).read_text(encoding="utf-8"))
        if mutation.operator_name.endswith("RemoveDecorator"):
            continue
        if mutation.start_pos[0] * 1000 + mutation.start_pos[1] in silent[path]:
            continue
        items.append(item)
    if sample:
        items = random.Random(seed).sample(items, min(sample, len(items)))
    database.clear()
    database.add_work_items(items)


def _annotated(source: str) -> set[int]:
    """Places (line * 1000 + column) that lie within annotations."""
    places: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        found = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        for part in (each for each in found if isinstance(each, ast.expr)):
            for inner in ast.walk(part):
                if isinstance(inner, ast.expr):
                    first, last = inner.lineno * 1000 + inner.col_offset, (inner.end_lineno or 0) * 1000
                    places |= set(range(first, last + (inner.end_col_offset or 0)))
    return places


def _report(name: str, results: list[tuple[WorkItem, WorkResult]]) -> str:
    """How many were killed, and the diff of each survivor."""
    counts = Counter(str(result.test_outcome) for _, result in results)
    survivors = [(item, result) for item, result in results if result.test_outcome == TestOutcome.SURVIVED]
    killed = len(results) - len(survivors)
    share = killed / len(results) if results else 0.0
    told = [f"# {name}: {killed} of {len(results)} mutants killed ({share:.0%})", f"outcomes: {dict(counts)}"]
    for item, result in sorted(survivors, key=lambda pair: str(pair[0].mutations[0].module_path)):
        (mutation,) = item.mutations
        place = f"{mutation.module_path}:{mutation.start_pos[0]}"
        told.append(f"## {place} {mutation.operator_name}\n\n```diff\n{(result.diff or '').strip()}\n```")
    return "\n\n".join(told) + "\n"


if __name__ == "__main__":
    sys.exit(main())
