"""How wide the bounds of class gaps are, and what they take: ``python -m benchmarks.bounds``.

For each network, boxes of contrast by brightness, ±0.2 each, of edge 2^-k of the whole, at seeded places: the
width of the bounds of all class gaps over the width of what is sampled there, and processor time a box, for
each effort. Widths of both bounds are measured, where a search asks only for the one that may decide.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.measure import posed
from benchmarks.workloads import Row, case
from steadygaze.network.bounding.tightening import Effort
from steadygaze.question.problem import Problem

_SHARED = Path(__file__).resolve().parent.parent.parent / "shared"
_QUESTION = "contrast(amount=-0.2..0.2) | brightness(amount=-0.2..0.2)"
# Which boxes of which networks: k, an edge being 2^-k of the whole.
_ROWS = {
    "cifar_base_kw": (0, 2, 4),
    "resnet_2b": (0, 2, 4),
    "convSmallRELU__Point": (0, 2, 4),
    "256x6": (2, 3, 5),
}
_BOXES, _SAMPLES, _ROOM, _TIMES = 4, 1000, 32, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 0, or 1 where the public networks are not at hand."""
    parser = argparse.ArgumentParser(prog="benchmarks.bounds", description=__doc__)
    parser.add_argument("--shared", type=Path, default=_SHARED, help="folder of the public networks")
    parser.add_argument("--net", action="append", choices=_ROWS, help="this network only; may be repeated")
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    if not options.shared.is_dir():
        console.print(f"There is no folder {options.shared} with the networks; give it with --shared.")
        return 1
    table = Table(title="width over sampled width, milliseconds a box")
    for title in ("network, k", *(effort.name.lower() for effort in Effort)):
        table.add_column(title)
    for net in options.net or _ROWS:
        problem = posed(case(Row("bounds", net, _QUESTION, (None,)), 0, options.shared))
        for k in _ROWS[net]:
            boxes = boxes_of(problem, k)
            row = [measured(problem, boxes, effort) for effort in Effort]
            table.add_row(f"{net}, {k}", *(f"{width:.3g} ({1e3 * seconds:.0f})" for width, seconds in row))
    console.print(table)
    return 0


def boxes_of(problem: Problem, k: int) -> np.ndarray:
    """Boxes ``(B, n, 2)`` of edge 2^-k of the whole, at seeded places; for k = 0 the whole."""
    whole = problem.box
    span = 2.0**-k * np.ptp(whole, axis=1)
    places = np.random.default_rng(k).random((1 if k == 0 else _BOXES, len(whole)))
    low = whole[:, 0] + places * (np.ptp(whole, axis=1) - span)
    return np.stack([low, low + span], axis=2)


def measured(problem: Problem, boxes: np.ndarray, effort: Effort) -> tuple[float, float]:
    """Mean width of the gaps' bounds over that of samples, and processor seconds a box, the least of some."""
    taken, found = list[float](), list[tuple[Tensor, Tensor]]()
    for _ in range(_TIMES):
        began = time.process_time()
        found.append(_gaps(problem, boxes, effort))
        taken.append(time.process_time() - began)
    (low, high), seconds = found[0], min(taken)
    width = (high - low).numpy() / _sampled(problem, boxes)
    return float(width.mean()), seconds / len(boxes)


def _gaps(problem: Problem, boxes: np.ndarray, effort: Effort) -> tuple[Tensor, Tensor]:
    """Both bounds ``(B, K - 1)`` of each class gap."""
    bounds = problem.bounds(boxes, _ROOM, effort)
    low, high = bounds.enclosed_gaps(problem.label).bounds()
    if bounds.backward is None:
        return low, high
    rows = problem.gaps(torch.eye(problem.graph.classes, dtype=torch.float64)).T
    both = torch.cat([rows, -rows]).expand(len(boxes), -1, -1)
    below, above = bounds.backward.least(both, bounds.graph.last).split(len(rows), dim=1)
    return torch.fmax(low, below), torch.fmin(high, -above)


def _sampled(problem: Problem, boxes: np.ndarray) -> np.ndarray:
    """Widths ``(B, K - 1)`` of the gaps at points of each box, corners among them."""
    share = np.random.default_rng(0).random((_SAMPLES, boxes.shape[1]))
    share[:4] = [[0, 0], [0, 1], [1, 0], [1, 1]]
    found = []
    for box in boxes:
        images = problem.images(box[:, 0] + share * np.ptp(box, axis=1))
        gaps = problem.gaps(problem.network.graph.forward(images)).numpy()
        found.append(np.ptp(gaps, axis=0))
    return np.array(found)


if __name__ == "__main__":
    sys.exit(main())
