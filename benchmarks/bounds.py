"""How wide bounds are, and what they take: ``python -m benchmarks.bounds``.

For each network, boxes of contrast by brightness, ±0.2 each, of edge 2^-k of the whole, at seeded places.

Of the class gaps: the width of the bounds of all of them over the width of what is sampled there, and
processor time a box, for each effort, then with slopes of their own for each bound. Widths of both bounds are
measured, where a search asks only for the one that may decide. Beside it CROWN on the same boxes in the same
process, and with ``--alpha`` alpha-CROWN, where the library auto_LiRPA is installed (see `crown`).

Of the inconsistency: the mean width of its bounds with the ranges that forms leave and with those of rows,
with 32 symbols and with 256, beside the sampled width.

Each row is printed as it comes. ``--quick`` leaves out slopes and the inconsistency, which take most of the
time, ``--net``, ``--image`` and ``--k`` say which rows are asked, ``--seconds`` after which time none begins.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from benchmarks import crown
from benchmarks.measure import posed
from benchmarks.workloads import Row, case
from steadygaze.network.bounding.rows.steepening import steepened
from steadygaze.network.bounding.tightening import Effort
from steadygaze.question.problem import Problem

_SHARED = Path(__file__).resolve().parent.parent.parent / "shared"
_QUESTION = "contrast(amount=-0.2..0.2) | brightness(amount=-0.2..0.2)"
# Which boxes of which networks: k, an edge being 2^-k of the whole.
_ROWS = {
    "cifar_base_kw": (0, 2, 4, 6),
    "resnet_2b": (0, 2, 4, 6),
    "convSmallRELU__Point": (0, 2, 4, 6),
    "256x6": (2, 3, 5, 6),
}
T = TypeVar("T")
_BOXES, _SAMPLES, _ROOM, _MANY, _TIMES = 4, 1000, 32, 256, 3
_MAPPED = [(effort, room) for room in (_ROOM, _MANY) for effort in (Effort.FORMS, Effort.UNITS)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; 0, or 1 where the public networks are not at hand."""
    parser = argparse.ArgumentParser(prog="benchmarks.bounds", description=__doc__)
    parser.add_argument("--shared", type=Path, default=_SHARED, help="folder of the public networks")
    parser.add_argument("--net", action="append", choices=_ROWS, help="this network only; may be repeated")
    parser.add_argument("--image", type=int, default=0, help="number of the image (default: 0)")
    parser.add_argument("--k", action="append", type=int, help="boxes of edge 2^-k only; may be repeated")
    parser.add_argument("--quick", action="store_true", help="neither slopes nor the inconsistency")
    parser.add_argument("--seconds", type=float, default=math.inf, help="no row begins after this time")
    parser.add_argument("--alpha", action="store_true", help="alpha-CROWN, too: seconds a box")
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 140)
    if not options.shared.is_dir():
        console.print(f"There is no folder {options.shared} with the networks; give it with --shared.")
        return 1
    others = ["CROWN", "CROWN-Optimized"][: crown.INSTALLED * (1 + options.alpha)]
    if not crown.INSTALLED:
        console.print("CROWN is left out: the library auto_LiRPA is not installed.")
    wanted = [(net, k) for net in options.net or _ROWS for k in options.k or _ROWS[net]]
    ask = _Asked(options.shared, options.image, others)
    until = time.monotonic() + options.seconds
    efforts = (Effort.FORMS, Effort.GAPS, Effort.UNITS, None)[: 3 if options.quick else 4]
    titles = ("forms", "+ rows for gaps", "+ rows for units", "+ slopes")[: len(efforts)]
    console.print("class gaps: width over sampled width (processor milliseconds a box)")
    _rows_as_they_come(console, [*titles, *others], wanted, lambda net, k: ask.gaps(net, k, efforts), until)
    if not options.quick:
        console.print("inconsistency: width (processor milliseconds a box)")
        asked = [f"{effort.name.lower()}, {room} symbols" for effort, room in _MAPPED]
        _rows_as_they_come(console, ["sampled", *asked], wanted, ask.maps, until)
    return 0


class _Asked:
    """The rows of one image; a network is posed once for all rows that follow each other."""

    def __init__(self, shared: Path, image: int, others: Sequence[str]) -> None:
        self._shared, self._image, self._others = shared, image, others
        self._posed = lru_cache(maxsize=1)(self._pose)

    def gaps(self, net: str, k: int, efforts: Sequence[Effort | None]) -> list[str]:
        """Width and time for each effort, and then of others."""
        problem, crowned = self._posed(net)
        boxes = boxes_of(problem, k)
        sampled, _ = sampled_widths(problem, boxes)
        row = [measured(problem, boxes, sampled, effort) for effort in efforts]
        for method in self._others:
            assert crowned is not None, "it is there where others are asked"
            low, high, seconds = crowned.bounds(boxes, method)
            row.append((float(((high - low) / sampled).mean()), seconds))
        return [_told(found) for found in row]

    def maps(self, net: str, k: int) -> list[str]:
        """The sampled width, then width and time for each effort and number of symbols."""
        problem, _ = self._posed(net)
        boxes = boxes_of(problem, k)
        _, spread = sampled_widths(problem, boxes)
        found = [inconsistency(problem, boxes, effort, room) for effort, room in _MAPPED]
        return [f"{spread.mean():.2g}", *map(_told, found)]

    def _pose(self, net: str) -> tuple[Problem, crown.Crown | None]:
        problem = posed(
            case(Row("bounds", net, _QUESTION, (None,) * (self._image + 1)), self._image, self._shared)
        )
        return problem, crown.Crown(problem) if self._others else None


def _rows_as_they_come(
    console: Console,
    titles: Sequence[str],
    wanted: Sequence[tuple[str, int]],
    row: Callable[[str, int], Sequence[str]],
    until: float,
) -> None:
    """Print a line for each network and k as soon as it is known; none begins after a time."""
    form = "{:24}" + "{:>22}" * len(titles)
    console.print(form.format("network, k", *titles), soft_wrap=True)
    for done, (net, k) in enumerate(wanted):
        if time.monotonic() > until:
            console.print(f"{len(wanted) - done} of {len(wanted)} rows are left out: the time is over.")
            return
        console.print(form.format(f"{net}, {k}", *row(net, k)), soft_wrap=True)


def boxes_of(problem: Problem, k: int) -> np.ndarray:
    """Boxes ``(B, n, 2)`` of edge 2^-k of the whole, at seeded places; for k = 0 the whole."""
    whole = problem.box
    span = 2.0**-k * np.ptp(whole, axis=1)
    places = np.random.default_rng(k).random((1 if k == 0 else _BOXES, len(whole)))
    low = whole[:, 0] + places * (np.ptp(whole, axis=1) - span)
    return np.stack([low, low + span], axis=2)


def measured(
    problem: Problem, boxes: np.ndarray, sampled: np.ndarray, effort: Effort | None
) -> tuple[float, float]:
    """Mean width of the gaps' bounds over that of samples, and processor seconds a box.

    effort: None for that of rows for units, with slopes of its own for each bound.
    """
    (low, high), seconds = _timed(
        lambda: _turned(problem, boxes) if effort is None else _gaps(problem, boxes, effort)
    )
    return float(((high - low).numpy() / sampled).mean()), seconds / len(boxes)


def inconsistency(problem: Problem, boxes: np.ndarray, effort: Effort, room: int) -> tuple[float, float]:
    """Mean width of its bounds, and processor seconds a box for all that they need."""

    def ask() -> tuple[np.ndarray, np.ndarray]:
        bounds = replace(problem.bounds(boxes, _ROOM, effort), room=room)
        return problem.enclosed_inconsistency(boxes, bounds)

    (low, high), seconds = _timed(ask)
    return float((high - low).mean()), seconds / len(boxes)


def sampled_widths(problem: Problem, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Widths of the gaps ``(B, K - 1)`` and of the inconsistency ``(B,)`` at points of each box."""
    share = np.random.default_rng(0).random((_SAMPLES, boxes.shape[1]))
    share[:4] = [[0, 0], [0, 1], [1, 0], [1, 1]]
    gaps, spread = list[np.ndarray](), list[float]()
    for box in boxes:
        thetas = box[:, 0] + share * np.ptp(box, axis=1)
        logits = problem.network.graph.forward(problem.images(thetas))
        gaps.append(np.ptp(problem.gaps(logits).numpy(), axis=0))
        spread.append(float(np.ptp(problem.at(thetas).inconsistency)))
    return np.array(gaps), np.array(spread)


def _timed(ask: Callable[[], T]) -> tuple[T, float]:
    """What is found, and the least processor seconds of some goes."""
    taken, found = list[float](), list[T]()
    for _ in range(_TIMES):
        began = time.process_time()
        found.append(ask())
        taken.append(time.process_time() - began)
    return found[0], min(taken)


def _told(found: tuple[float, float]) -> str:
    return f"{found[0]:.3g} ({1e3 * found[1]:.0f})"


def _gaps(problem: Problem, boxes: np.ndarray, effort: Effort) -> tuple[Tensor, Tensor]:
    """Both bounds ``(B, K - 1)`` of each class gap.

    With rows for units those of polynomials, too, where a search follows these.
    """
    bounds = problem.bounds(boxes, _ROOM, effort)
    low, high = bounds.enclosed_gaps(problem.label).bounds()
    if effort is Effort.UNITS and problem.follows_polynomials:
        followed = problem.bounds(boxes, _ROOM, Effort.POLYNOMIALS)
        least, most = followed.enclosed_gaps(problem.label).bounds()
        low, high = torch.fmax(low, least), torch.fmin(high, most)
    if bounds.backward is None:
        return low, high
    below, above = bounds.backward.least(_rows(problem, boxes), bounds.graph.last).chunk(2, dim=1)
    return torch.fmax(low, below), torch.fmin(high, -above)


def _turned(problem: Problem, boxes: np.ndarray) -> tuple[Tensor, Tensor]:
    """The same with rows for units, and slopes that are turned for each bound."""
    bounds = problem.bounds(boxes, _ROOM, Effort.UNITS)
    low, high = bounds.enclosed_gaps(problem.label).bounds()
    rows, backward = _rows(problem, boxes), bounds.backward
    assert backward is not None, "there is more than forms"
    found = rows.new_empty(rows.shape[:2])
    for number in range(rows.shape[1]):
        wanted = found.new_full((len(boxes),), torch.inf)
        found[:, number] = steepened(backward, rows[:, number], bounds.graph.last, wanted)
    below, above = found.chunk(2, dim=1)
    return torch.fmax(low, below), torch.fmin(high, -above)


def _rows(problem: Problem, boxes: np.ndarray) -> Tensor:
    """Each class gap and its opposite as a row for the logits, ``(B, 2 (K - 1), K)``."""
    rows = problem.gaps(torch.eye(problem.graph.classes, dtype=torch.float64)).T
    return torch.cat([rows, -rows]).expand(len(boxes), -1, -1)


if __name__ == "__main__":
    sys.exit(main())
