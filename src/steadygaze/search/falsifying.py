"""Points at which class or attention fails: tried early, so that a violation need not wait for its proof."""

from __future__ import annotations

from itertools import product

import numpy as np

from steadygaze.deadline import NEVER, Deadline
from steadygaze.geometry.kinds import ROBUST
from steadygaze.geometry.sections import gauge
from steadygaze.question.problem import Problem

# Points drawn at first, from how many of them the way downhill is followed, and how many steps it has.
_DRAWN, _FOLLOWED, _STEPS = 128, 4, 12
# The first step in half-widths of the box; each that leads nowhere is followed by one of half the length.
_FIRST_STEP, _LEAST_STEP = 0.25, 1e-3
# Corners of the box that are tried: all of them up to six parameters.
_CORNERS = 64
# Between two looks at the time, points that so many products take forward (see `Graph.effort`).
_EFFORT = 2 * 10**9
# Failing points that are kept: the nearest to 0.
_KEPT = 32


class Falsifier:
    """Looks for failing points by plain evaluation, and keeps the nearest to 0."""

    def __init__(self, problem: Problem, deadline: Deadline = NEVER) -> None:
        self._problem, self._deadline = problem, deadline
        self._found = np.zeros((0, len(problem.box)))

    def found(self) -> np.ndarray:
        """Failing points ``(k, n)``, nearest to 0 first, in the box's own shape."""
        return self._found

    @property
    def least_gauge(self) -> float:
        """The least s such that s times the box is known to hold a failing point; infinite where none is."""
        return float(self._gauges(self._found[:1]).min(initial=np.inf))

    def search(self) -> None:
        """Draw points, go downhill from the worst of them, and back towards 0 from those that fail."""
        box, rng = self._problem.box, np.random.default_rng(3)
        drawn = box[:, 0] + rng.random((_DRAWN, len(box))) * (box[:, 1] - box[:, 0])
        corners = np.array(list(product(*box[:6])))[:_CORNERS]
        full = np.zeros((len(corners), len(box)))
        full[:, : corners.shape[1]] = corners
        thetas = np.concatenate([drawn, full])
        for worst in self._margins(thetas):
            self._downhill(thetas[np.argsort(worst)[:_FOLLOWED]])
        self._approach()

    def try_at(self, thetas: np.ndarray) -> np.ndarray:
        """Evaluate points ``(B, n)``, keep those that fail; returns the class gaps ``(B,)``."""
        if not len(thetas):
            return np.zeros(0)
        return self._margins(thetas)[0]

    def _margins(self, thetas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Class gap, and threshold less inconsistency, at points: what fails below 0."""
        gaps, distances = [], []
        size = int(np.clip(_EFFORT // self._problem.graph.effort, 1, len(thetas)))
        for first in range(0, len(thetas), size):
            self._deadline.ask()
            block = thetas[first : first + size]
            points = self._problem.at(block)
            self._keep(block[points.kind != ROBUST])
            gaps.append(points.gap)
            distances.append(points.inconsistency)
        return np.concatenate(gaps), self._problem.threshold - np.concatenate(distances)

    def _downhill(self, start: np.ndarray) -> None:
        """Along coordinates and gradients by differences, for class gap and attention by turns."""
        box = self._problem.box
        half = np.ptp(box, axis=1) / 2
        n = len(box)
        for which in (0, 1):
            here, step = start.copy(), np.full(len(start), _FIRST_STEP)
            value = self._margins(here)[which]
            for _ in range(_STEPS):
                if (value < 0).any() or (step < _LEAST_STEP).all():
                    break
                ways = np.concatenate([np.eye(n), -np.eye(n)]) * half
                tried = np.clip(here[:, None] + step[:, None, None] * ways, box[:, 0], box[:, 1])
                values = self._margins(tried.reshape(-1, n))[which].reshape(len(here), 2 * n)
                # The gradient by differences, as one more way.
                slope = np.sign(values[:, n:] - values[:, :n]) * half
                along = np.clip(here + step[:, None] * slope, box[:, 0], box[:, 1])
                tried = np.concatenate([tried, along[:, None]], axis=1)
                values = np.concatenate([values, self._margins(along)[which][:, None]], axis=1)
                best = values.argmin(axis=1)
                rows = np.arange(len(here))
                better = values[rows, best] < value
                here = np.where(better[:, None], tried[rows, best], here)
                value = np.where(better, values[rows, best], value)
                step = np.where(better, step, step / 2)

    def _approach(self) -> None:
        """On the way from each failing point to 0, the nearest that fails of a few."""
        if len(self._found):
            shares = np.linspace(0.0, 1.0, 33)[1:-1, None, None]
            self.try_at((shares * self._found[:8]).reshape(-1, self._found.shape[1]))

    def _keep(self, thetas: np.ndarray) -> None:
        if len(thetas):
            every = np.unique(np.concatenate([self._found, thetas]), axis=0)
            self._found = every[np.argsort(self._gauges(every), kind="stable")[:_KEPT]]

    def _gauges(self, thetas: np.ndarray) -> np.ndarray:
        box = self._problem.box
        return gauge(thetas, -box[:, 0], box[:, 1])
