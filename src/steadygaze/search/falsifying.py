"""Points at which class or attention fails: tried early, so that a violation need not wait for its proof."""

from __future__ import annotations

from itertools import product

import numpy as np

from steadygaze.deadline import NEVER, Deadline, Expired
from steadygaze.geometry.sections import gauge
from steadygaze.network.integrated import IntegratedGradients
from steadygaze.question.problem import Problem
from steadygaze.search.failing import failing_at

# Points drawn at first, from how many of them the way downhill is followed, and how many steps it has.
_DRAWN, _FOLLOWED, _STEPS = 128, 4, 12
# The first step in half-widths of the box; each that leads nowhere is followed by one of half the length.
_FIRST_STEP, _LEAST_STEP = 0.25, 1e-3
# Corners of the box that are tried: all of them up to six parameters.
_CORNERS = 64
# Corners at which is looked before any box: few enough to cost less than a box of a small network.
_GLANCED = 8
# Around 0 nearer than the nearest failure so many points are drawn, so often, from this share of it on.
_NEARER, _ROUNDS, _FROM = 48, 4, 0.6
# Points that a search may take, and its share of the time that is left. Where so many points take no more
# than a part of that on a quiet machine, which makes so many products in a second, a map taking three times
# as many as a pass forward, they are all looked at on a busy one, too, for up to half of the time: what is
# found then does not go with what else runs.
_MOST, _SHARE, _PART, _HALF = 1024, 0.1, 0.25, 0.5
_RATE, _PASSES = 1e10, 3
# Between two looks at the time, points that so many products take forward (see `Graph.effort`).
_EFFORT = 2 * 10**9
# Failing points that are kept: the nearest to 0.
_KEPT = 32


class Falsifier:
    """Looks for failing points by plain evaluation, and keeps the nearest to 0."""

    def __init__(self, problem: Problem, deadline: Deadline = NEVER) -> None:
        self._problem, self._deadline = problem, deadline
        self._found = np.zeros((0, len(problem.box)))
        self._taken = 0

    def found(self) -> np.ndarray:
        """Failing points ``(k, n)``, nearest to 0 first, in the box's own shape."""
        return self._found

    @property
    def least_gauge(self) -> float:
        """The least s such that s times the box is known to hold a failing point; infinite where none is."""
        return float(self._gauges(self._found[:1]).min(initial=np.inf))

    def glance(self) -> bool:
        """Evaluate a few corners; returns whether one of them fails, so that no box decides all."""
        corners = self._corners()
        self.try_at(corners[:: -(-len(corners) // _GLANCED)])
        return bool(len(self._found))

    def fails_within(self, halvings: int) -> bool:
        """Whether a failing point is known in the box with edges halved so often.

        0 lies in that box and does not fail, so that nothing decides it. A few corners are evaluated for that
        where boxes are bounded by polynomials, and these are given up only after many symbols; any other box
        takes hardly longer than the corners do, and so does each of these where a map is a path's.
        """
        share, problem = 0.5**halvings, self._problem
        pays = problem.follows_polynomials and not isinstance(problem.saliency, IntegratedGradients)
        if pays and self.least_gauge > share:
            corners = self._corners()
            self.try_at(share * corners[:: -(-len(corners) // _GLANCED)])
        return self.least_gauge <= share

    def search(self) -> None:
        """Draw points, go downhill from the worst of them, and back towards 0 from those that fail.

        Takes a bounded number of points and a bounded share of the time that is left, and keeps what was
        found by then. Raises Expired where the run itself is over.
        """
        whole = self._deadline
        self._deadline = whole.part(_HALF if self._takes_little(whole.planned) else _SHARE)
        try:
            self._seek()
        except Expired:
            whole.ask()
        finally:
            self._deadline = whole

    def _takes_little(self, seconds: float) -> bool:
        """Whether all points take a small part of the share of so many seconds."""
        if isinstance(self._problem.saliency, IntegratedGradients):  # a point takes up to hundreds of passes
            return False
        return _PASSES * self._problem.graph.effort * _MOST <= _PART * _SHARE * seconds * _RATE

    def _seek(self) -> None:
        box, rng = self._problem.box, np.random.default_rng(3)
        drawn = box[:, 0] + rng.random((_DRAWN, len(box))) * (box[:, 1] - box[:, 0])
        thetas = np.concatenate([drawn, self._corners()])
        self._taken = 0
        margins = self._margins(thetas)
        each = (_MOST - self._taken) // len(margins)
        for which, worst in enumerate(margins):
            if np.ptp(worst) > 0:  # else nothing leads downhill
                self._downhill(thetas[np.argsort(worst)[:_FOLLOWED]], which, self._taken + each)
        self._approach()
        self._draw_nearer(rng)

    def _corners(self) -> np.ndarray:
        """Corners of the box ``(k, n)``, those of the first six parameters with the others at 0."""
        box = self._problem.box
        corners = np.array(list(product(*box[:6])))[:_CORNERS]
        full = np.zeros((len(corners), len(box)))
        full[:, : corners.shape[1]] = corners
        return full

    def try_at(self, thetas: np.ndarray) -> np.ndarray:
        """Evaluate points ``(B, n)``, keep those that fail; returns the class gaps ``(B,)``."""
        if not len(thetas):
            return np.zeros(0)
        return self._margins(thetas)[0]

    def _margins(self, thetas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Class gap, and threshold less inconsistency, at points: what fails below 0."""
        self._taken += len(thetas)
        gaps, distances = [], []
        size = int(np.clip(_EFFORT // self._problem.graph.effort, 1, len(thetas)))
        for first in range(0, len(thetas), size):
            self._deadline.ask()
            block = thetas[first : first + size]
            points, fails = failing_at(self._problem, block)
            self._keep(block[fails])
            gaps.append(points.gap)
            distances.append(points.inconsistency)
        return np.concatenate(gaps), self._problem.threshold - np.concatenate(distances)

    def _downhill(self, start: np.ndarray, which: int, most: int) -> None:
        """Along coordinates and gradients by differences, for class gap (0) or attention (1).

        No step is begun that would take more than `most` points, counted from the beginning of the search.
        """
        box = self._problem.box
        half = np.ptp(box, axis=1) / 2
        n = len(box)
        here, step = start.copy(), np.full(len(start), _FIRST_STEP)
        value = self._margins(here)[which]
        for _ in range(_STEPS):
            if (value < 0).any() or (step < _LEAST_STEP).all():
                break
            if self._taken + len(here) * (2 * n + 1) > most:
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
            few = max((_MOST - self._taken) // len(shares), 1)
            self.try_at((shares * self._found[: min(few, 8)]).reshape(-1, self._found.shape[1]))

    def _draw_nearer(self, rng: np.random.Generator) -> None:
        """Points that are a little nearer to 0 than the nearest failure, wherever they are.

        What fails next to 0 need not lie on the way there from what fails farther away. On a line it does.
        """
        box = self._problem.box
        for _ in range(_ROUNDS if len(box) > 1 else 0):
            if not len(self._found) or self._taken + _NEARER > _MOST:
                return
            aside = rng.uniform(-1, 1, (_NEARER, len(box)))
            aside /= np.abs(aside).max(axis=1, keepdims=True)
            far = rng.uniform(_FROM, 1.0, (_NEARER, 1)) * self.least_gauge
            self.try_at(far * np.where(aside < 0, -aside * box[:, 0], aside * box[:, 1]))

    def _keep(self, thetas: np.ndarray) -> None:
        if len(thetas):
            every = np.unique(np.concatenate([self._found, thetas]), axis=0)
            self._found = every[np.argsort(self._gauges(every), kind="stable")[:_KEPT]]

    def _gauges(self, thetas: np.ndarray) -> np.ndarray:
        box = self._problem.box
        return gauge(thetas, -box[:, 0], box[:, 1])
