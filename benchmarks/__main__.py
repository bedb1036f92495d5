"""Measure the workloads, print them as tables, write them as a JSON record."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby, product
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.records import Failed, Measurement, Order, measurement_from, to_json
from benchmarks.table import LEGEND, side_by_side, table
from benchmarks.workloads import METHODS, WORKLOADS, cases, methods_of

REPOSITORY = Path(__file__).resolve().parent.parent
# Columns of the table where the output is not a terminal.
_WIDTH = 200
_PACKAGES = ("steadygaze", "torch", "numpy", "numba")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; 0 if every case was measured and every known number of regions was met."""
    options = _options(arguments)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    shared = options.shared if options.shared.is_dir() else None
    if shared is None:
        console.print(
            f"There is no folder {options.shared}, so that only the built-in networks are measured. "
            "Give it with --shared; benchmarks/workloads.py says which public networks and images it holds."
        )
    outcomes: list[Measurement | Failed] = []
    for workload, asked in groupby(cases(shared, options.only, options.quick), key=lambda one: one.workload):
        here = []
        for one, method in product(asked, options.method or methods_of(workload)):
            order = Order(one, method, options.repeat, options.threads, options.memory, options.device)
            with console.status(f"{workload}: {one.net}, image {one.image}, {method}"):
                here.append(measured(order, options.limit))
        _show(console, workload, here)
        outcomes.extend(here)
    console.print(LEGEND)
    _write(options.record, outcomes, options)
    console.print(f"Record: {options.record}")
    return 0 if all(isinstance(one, Measurement) and one.as_expected for one in outcomes) else 1


def _show(console: Console, workload: str, outcomes: Sequence[Measurement | Failed]) -> None:
    """Print a table of the sweeps, one of the other searches beside them, and what went wrong."""
    done = [one for one in outcomes if isinstance(one, Measurement)]
    sweeps = [one for one in done if one.method == "sweep"]
    if sweeps:
        console.print(table(workload, sweeps))
    if len(sweeps) < len(done):
        console.print(side_by_side(workload, done))
    for one in outcomes:
        where = f"{one.case.net}, image {one.case.image}, {one.method}"
        if isinstance(one, Failed):
            console.print(f"{where}: no measurement: {one.reason}", style="red")
        elif one.stopped:
            console.print(f"{where}: stopped by {one.stopped}, {one.judged:.1%} of the box judged")


def measured(order: Order, limit: float) -> Measurement | Failed:
    """Measure one case in a fresh process, which may take `limit` seconds."""
    command = [sys.executable, "-m", "benchmarks.measure"]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(to_json(order)),
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Failed(order.case, order.method, f"it took longer than {limit:g} s (--limit)")
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"]
        return Failed(order.case, order.method, said[-1])
    return measurement_from(json.loads(done.stdout.splitlines()[-1]))


def _write(path: Path, outcomes: Sequence[Measurement | Failed], options: argparse.Namespace) -> None:
    record = {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "gpu": torch.cuda.get_device_name() if options.device == "cuda" else None,
            "system": platform.platform(),
        },
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        "options": {
            "repeat": options.repeat,
            "threads": options.threads,
            "memory_gib": options.memory,
            "device": options.device,
        },
        "outcomes": [to_json(one) for one in outcomes],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        choices=WORKLOADS,
        metavar="W",
        help=f"which of {', '.join(WORKLOADS)}",
    )
    parser.add_argument(
        "--method",
        nargs="+",
        default=[],
        choices=METHODS,
        metavar="M",
        help=f"which of {', '.join(METHODS)} (default sweep; in three and four parameters the others too)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="of each workload the smallest network and the first image"
    )
    parser.add_argument("--repeat", type=int, default=3, help="timed answers for each case (default 3)")
    parser.add_argument("--threads", type=int, default=2, help="threads of the search (default 2)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where (default cpu)")
    parser.add_argument("--memory", type=float, default=2.0, help="memory limit in GiB (default 2)")
    parser.add_argument(
        "--limit", type=float, default=900.0, help="seconds that a case may take in all (default 900)"
    )
    parser.add_argument(
        "--record",
        type=Path,
        default=REPOSITORY / "benchmarks" / "records" / f"{dt.date.today().isoformat()}.json",
        help="the JSON file to write (default benchmarks/records/DATE.json)",
    )
    parser.add_argument(
        "--shared",
        type=Path,
        default=REPOSITORY.parent / "shared",
        help="folder of public networks and images (default: shared/ beside the repository)",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
