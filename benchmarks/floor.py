"""The floor of a run: the time that the unavoidable neural arithmetic takes on this machine.

    sweep:  floor = sum over stages (distinct vertices that arise there x one forward from there on)
                    + regions x one backward
    others: floor = regions visited x (n + 1 rows of a forward from the first stage on + one backward)

It holds: affine layers, activations and max pooling to the logits; and the gradient of one logit with
respect to the pixels, slopes included, once for each activation region. A sweep takes each distinct vertex
forward from the layer where it arises: up to there vertices lie on edges and are interpolated. A search
across facets takes the values at a point of each region and their derivatives by the n parameters forward
from the first hinges: up to there all is affine in the parameters. The floor holds no geometry, no finding
of pieces, no distances of maps, no volumes, no verdict.

The rates are measured with the layers that the search itself uses, in float64, at the network's real
values in the box, in batches of the size that is fastest, by as many threads as the search has: each with
batches of its own, or all inside one product, whichever is faster. Products have their full shapes: nothing
is left out that happens to be zero. A run may beat its floor: where the class has changed, no gradient is
needed (`Floor.needed` counts the gradients of those regions only that are robust somewhere by class), and the
gradients of neighbouring regions are combined from few (`steadygaze.network.regions.combined`).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from benchmarks.records import Floor
from steadygaze.deadline import Deadline
from steadygaze.geometry.cells import Cells
from steadygaze.geometry.store import Cut
from steadygaze.network.graph import Graph
from steadygaze.network.regions.fronts import Crossing
from steadygaze.network.regions.piecewise import Stages
from steadygaze.question.problem import Problem

# Rows of a batch that are tried, and the bytes that all values of the network on one batch may take: of a
# large network a hundred rows take gigabytes and minutes.
_ROWS = (8, 32, 128, 512, 2048)
_BATCH_BYTES = 2**28
# Seconds for which one way of working is timed, and how often; the best counts.
_SPAN = 0.02
_TIMES = 3


class Births:
    """Names of the vertices that cutting makes, by stage."""

    def __init__(self, stages: int) -> None:
        self._names: list[list[np.ndarray]] = [[] for _ in range(stages)]
        self._lock = threading.Lock()

    def add(self, number: int, names: np.ndarray) -> None:
        """Take in the vertices that one batch made at a stage."""
        with self._lock:
            self._names[number].append(names)

    def distinct(self) -> tuple[int, ...]:
        """Distinct vertices by stage; neighbouring batches make the same vertices on what they share."""
        return tuple(len(np.unique(np.concatenate(names))) if names else 0 for names in self._names)


@contextmanager
def counted(problem: Problem) -> Iterator[Births]:
    """Count the vertices that a search of the problem makes in this context."""
    stages = problem.stages
    births, cut = Births(len(stages.stages)), stages.cut

    def counting(
        cells: Cells,
        values: np.ndarray,
        number: int,
        crossing: Crossing,
        room: int,
        deadline: Deadline,
        tolerance: np.ndarray | None,
    ) -> Cut:
        made = cut(cells, values, number, crossing, room, deadline, tolerance)
        births.add(number, made.cells.names[len(cells.theta) :].copy())
        return made

    vars(stages)["cut"] = counting
    try:
        yield births
    finally:
        del vars(stages)["cut"]


def vertices_by_stage(problem: Problem, births: Births) -> tuple[int, ...]:
    """Rows that a sweep takes forward: the corners of the box and its pieces, then the vertices it made."""
    return (sum(len(piece.polytope.vertices) for piece in problem.pieces), *births.distinct())


def rows_of_regions(problem: Problem, regions: int) -> tuple[int, ...]:
    """Rows that a search across facets takes forward, all from the first stage on."""
    later = len(problem.stages.stages) - 1
    return (0, *([regions * (len(problem.box) + 1)] + [0] * later)[: later + 1])


def measured_floor(problem: Problem, rows: tuple[int, ...], regions: int, held: int, threads: int) -> Floor:
    """The floor of a search of the problem.

    Args:
        rows: how many begin before the first stage and at each stage.
        regions: activation regions; held: those of them that are robust by class somewhere.
        threads: what the search had.
    """
    rates = [_rate(problem, _forward_of(segment), threads) for segment in segments(problem.stages)]
    rates.append(_rate(problem, _backward, threads))
    reached = np.cumsum(rows)
    return Floor(
        forward=float(np.dot(reached, rates[:-1])),
        backward=regions * rates[-1],
        needed=held * rates[-1],
        rows=rows,
        rates=tuple(rates),
    )


def segments(stages: Stages) -> tuple[range, ...]:
    """The nodes before the first stage, and from each stage up to the next."""
    graph = stages.graph
    edges = (1, *(stage.node for stage in stages.stages), len(graph.nodes))
    return tuple(range(first, last) for first, last in pairwise(edges))


Work = Callable[[], object]
"""One batch of some arithmetic."""


def _forward_of(segment: range) -> Callable[[Problem, Tensor], Work]:
    def prepared(problem: Problem, images: Tensor) -> Work:
        graph = problem.graph
        values = graph.values_at(images, {source for node in segment for source in graph.nodes[node].inputs})

        def work() -> None:
            fresh: dict[int, Tensor] = {}
            for index in segment:
                node = graph.nodes[index]
                fresh[index] = node.layer.forward(
                    *(fresh[source] if source in fresh else values[source] for source in node.inputs)
                )

        return work

    return prepared


def _backward(problem: Problem, images: Tensor) -> Work:
    graph = problem.graph
    pieces, seed = graph.pieces_at(images), graph.seed(problem.label, len(images))
    return lambda: graph.pull_back(seed, pieces, problem.pixels)


def _rate(problem: Problem, prepared: Callable[[Problem, Tensor], Work], threads: int) -> float:
    """Seconds for each row, by the best batch size and the better way of using the threads."""
    best = math.inf
    for rows in _ROWS:
        if rows > _ROWS[0] and 8 * rows * threads * _width(problem.graph) > _BATCH_BYTES:
            break
        works = [
            _awaited(problem.graph, prepared(problem, _images(problem, rows, seed)))
            for seed in range(threads)
        ]
        best = min(best, _seconds_each(works, 1) / rows)
        if threads > 1:
            best = min(best, _seconds_each(works[:1], threads) / rows)
    return best


def _awaited(graph: Graph, work: Work) -> Work:
    """The same, done when it ends: a GPU goes on where the call is over."""
    if graph.device.type != "cuda":
        return work

    def awaited() -> None:
        work()
        torch.cuda.synchronize()

    return awaited


def _images(problem: Problem, rows: int, seed: int) -> Tensor:
    low, high = problem.box.T
    thetas = low + np.random.default_rng(seed).random((rows, len(low))) * (high - low)
    images = np.ascontiguousarray(problem.perturbation.apply(problem.image, thetas))
    return torch.from_numpy(images).to(problem.graph.device)


def _width(graph: Graph) -> int:
    return sum(math.prod(node.shape) for node in graph.nodes)


def _seconds_each(works: list[Work], inner_threads: int) -> float:
    """Seconds for each batch when all the works run side by side, each product using that many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(inner_threads)
    try:
        with ThreadPoolExecutor(len(works)) as pool:
            return min(_once(pool, works, inner_threads) for _ in range(_TIMES))
    finally:
        torch.set_num_threads(before)


def _once(pool: ThreadPoolExecutor, works: list[Work], inner_threads: int) -> float:
    began = time.perf_counter()
    done = sum(pool.map(lambda work: _repeated(work, inner_threads, began), works))
    return (time.perf_counter() - began) / done


def _repeated(work: Work, inner_threads: int, began: float) -> int:
    """How often the work was done until the span was over."""
    # The number of threads inside a product belongs to the thread that asks for it.
    torch.set_num_threads(inner_threads)
    count = 0
    while time.perf_counter() - began < _SPAN or not count:
        work()
        count += 1
    return count
