"""Slow answers that share no code with the searches: what tests hold answers against.

Four of them: plain evaluation point by point (`sampled`), linear programs over all activation patterns of a
small network (`patterns`), the same arrangement in exact fractions (`exact_regions`), and Qhull's volumes
(`hull_volume`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from scipy import ndimage
from scipy.optimize import linprog
from scipy.spatial import ConvexHull, QhullError

from steadygaze.geometry.cells import Cells

ROBUST, CLASS_CHANGED, ATTENTION_CHANGED = 0, 1, 2

# -- points: plain evaluation of a module


@dataclass(frozen=True)
class Sampled:
    """What plain evaluation says at B points: kind, class gap and inconsistency, each ``(B,)``."""

    kind: np.ndarray
    gap: np.ndarray
    inconsistency: np.ndarray


def logits_of(module: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    """Logits ``(B, K)`` of a float64 module at images ``(B, C, H, W)``."""
    with torch.no_grad():
        return module(torch.from_numpy(np.ascontiguousarray(images))).numpy()


def gradients_of(module: torch.nn.Module, images: np.ndarray, label: int) -> np.ndarray:
    """Gradient of one logit with respect to images ``(B, C, H, W)``, by autograd; rows do not mix."""
    x = torch.tensor(images, requires_grad=True)
    with torch.enable_grad():
        (found,) = torch.autograd.grad(module(x)[:, label].sum(), x)
    return found.numpy()


def grad_cam_of(
    module: torch.nn.Module, layer: torch.nn.Module, images: np.ndarray, label: int
) -> np.ndarray:
    """Grad-CAM ``(B, h, w)``: the positive part of the layer's maps weighted by their mean gradients."""
    kept = {}
    hook = layer.register_forward_hook(lambda _module, _inputs, output: kept.update(features=output))
    with torch.enable_grad():
        score = module(torch.tensor(images, requires_grad=True))[:, label].sum()
        (slope,) = torch.autograd.grad(score, kept["features"])
    hook.remove()
    weights = slope.mean(dim=(2, 3), keepdim=True)
    return (weights * kept["features"]).sum(dim=1).clamp(min=0).detach().numpy()


MAPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gradient": lambda gradients: gradients,
    "abs-gradient": np.abs,
    "channel-sum": lambda gradients: gradients.sum(axis=1, keepdims=True),
}


def cosine(s: np.ndarray, e: np.ndarray) -> float:
    """1 - cos."""
    sizes = np.sqrt((s * s).sum() * (e * e).sum())
    return 2.0 if sizes == 0 else float(1 - (s * e).sum() / sizes)


def norm_distance(order: float) -> Callable[[np.ndarray, np.ndarray], float]:
    """|s / |s| - e / |e|| in one norm."""

    def distance(s: np.ndarray, e: np.ndarray) -> float:
        a, b = np.linalg.norm(s, order), np.linalg.norm(e, order)
        return 2.0 if a == 0 or b == 0 else float(np.linalg.norm(s / a - e / b, order))

    return distance


def top(k: int) -> Callable[[np.ndarray, np.ndarray], float]:
    """1 - overlap of the k entries of largest magnitude, the first of equal ones."""

    def distance(s: np.ndarray, e: np.ndarray) -> float:
        if not s.any() or not e.any():
            return 1.0
        chosen = [set(sorted(range(len(m)), key=lambda i: (-abs(m[i]), i))[:k]) for m in (s, e)]
        return 1 - len(chosen[0] & chosen[1]) / k

    return distance


DISTANCES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "cosine": cosine,
    "l1": norm_distance(1),
    "l2": norm_distance(2),
    "linf": norm_distance(np.inf),
    "top-k(3)": top(3),
}


def sampled(
    logits: np.ndarray,
    maps: np.ndarray,
    expected: np.ndarray,
    compared: np.ndarray,
    *,
    label: int,
    inconsistency: str,
    threshold: float,
) -> Sampled:
    """The verdict at each of B points.

    Args:
        logits: ``(B, K)``.
        maps, expected: ``(B, ...)`` actual and expected saliency maps.
        compared: mask that broadcasts against one map.
    """
    others = np.delete(logits, label, axis=1)
    gap = logits[:, label] - others.max(axis=1)
    mask = np.broadcast_to(compared, maps.shape[1:])
    pairs = zip(maps, np.broadcast_to(expected, maps.shape), strict=True)
    distance = np.array([DISTANCES[inconsistency](s[mask], e[mask]) for s, e in pairs])
    attention = np.where(distance > threshold, ATTENTION_CHANGED, ROBUST)
    return Sampled(np.where(gap <= 0, CLASS_CHANGED, attention), gap, distance)


def connected_to(mask: np.ndarray, start: tuple[int, ...]) -> np.ndarray:
    """The pixels of a mask that hang together with one of them through their sides."""
    labels, _ = ndimage.label(mask)
    return (labels == labels[start]) & mask


# -- patterns: linear programs


def inner_radius(normals: np.ndarray, offsets: np.ndarray, box: np.ndarray) -> float:
    """Radius of the largest ball in {normals theta + offsets >= 0} and the box; below 0 where it is empty."""
    n = len(box)
    eye = np.eye(n)
    rows = np.concatenate([-normals.reshape(-1, n), eye, -eye])
    sizes = np.linalg.norm(rows, axis=1)
    found = linprog(
        c=[0.0] * n + [-1.0],
        A_ub=np.column_stack([rows, sizes]),
        b_ub=np.concatenate([np.ravel(offsets), box[:, 1], -box[:, 0]]),
        bounds=[(None, None)] * (n + 1),
        method="highs",
    )
    return float(found.x[-1]) if found.status == 0 else -1.0


def patterns(
    layers: list[tuple[np.ndarray, np.ndarray]], base: np.ndarray, directions: np.ndarray, box: np.ndarray
) -> set[tuple[int, ...]]:
    """All activation patterns of a ReLU network, one bit per hidden unit, with interior points in the box.

    Every one of the 2^units patterns is decided by linear programs; one that has no interior is not asked
    again with more units fixed. A unit that vanishes all over its region is off.

    Args:
        layers: (weight, bias) of each dense layer, the last one without activation.
        base, directions: the input is ``base`` (d,) + theta ``directions`` (n, d).
    """
    found: set[tuple[int, ...]] = set()

    def grow(pattern: tuple[int, ...], rows: list, depth: int, offset: np.ndarray, slope: np.ndarray) -> None:
        if depth == len(layers) - 1:
            found.add(pattern)
            return
        weight, bias = layers[depth]
        zero, lean = weight @ offset + bias, slope @ weight.T  # zero + theta lean

        def fix(unit: int, on: tuple[int, ...], rows: list) -> None:
            if unit == len(zero):
                keep = np.array(on, float)
                grow(pattern + on, rows, depth + 1, zero * keep, lean * keep)
                return
            if np.abs(lean[:, unit]).max() < 1e-12:
                fix(unit + 1, (*on, int(zero[unit] > 1e-12)), rows)
                return
            for side in (0, 1):
                sign = 2 * side - 1
                more = [*rows, np.append(sign * lean[:, unit], sign * zero[unit])]
                stacked = np.array(more)
                if inner_radius(stacked[:, :-1], stacked[:, -1], box) > 1e-9:
                    fix(unit + 1, (*on, side), more)

        fix(0, (), rows)

    grow((), [], 0, base, directions)
    return found


# -- fractions: everything exact

Row = tuple[Fraction, ...]
"""(a_1, ..., a_n, b): the half-space a theta <= b."""


@dataclass(frozen=True)
class ExactRegion:
    """An activation region.

    Attributes:
        pattern, volume: what it is.
        kept: volume of its class-robust part.
        level: whether a class gap vanishes all over it.
        attention: sign of threshold - inconsistency.
    """

    pattern: tuple[int, ...]
    volume: Fraction
    kept: Fraction
    level: bool
    attention: int


def exact(array: np.ndarray) -> np.ndarray:
    """The same numbers as fractions, without any rounding."""
    return np.vectorize(Fraction, otypes=[object])(np.asarray(array, float))


def exact_volume(rows: list[Row]) -> Fraction:
    """Volume of the polytope {a theta <= b}, by Lasserre's recursion over its facets (JOTA 39, 1983).

    It is 1/n times the sum over facets of b / |a_i| times the volume of the facet projected along axis i.
    """
    clean = _normalised(rows)
    return Fraction(0) if clean is None else _lasserre(clean)


def facets_of(rows: list[Row]) -> list[Row]:
    """The rows that bound the polytope; it must have interior points."""
    clean = _normalised(rows)
    assert clean is not None
    if len(clean[0]) == 2:
        return clean
    return [row for k, row in enumerate(clean) if _facet_volume(clean, k)]


def _normalised(rows: list[Row]) -> list[Row] | None:
    """Each direction once, with the tightest bound; None where a row without direction cannot hold."""
    tightest: dict[Row, Fraction] = {}
    for *a, b in rows:
        size = next((abs(x) for x in a if x), None)
        if size is None:
            if b < 0:
                return None
            continue
        key = tuple(x / size for x in a)
        tightest[key] = min(tightest.get(key, b / size), b / size)
    return [(*key, b) for key, b in tightest.items()]


def _facet_volume(rows: list[Row], k: int) -> Fraction:
    """Volume of the k-th facet projected along the first axis that its row depends on."""
    *a, b = rows[k]
    i = next(axis for axis, x in enumerate(a) if x)
    projected = []
    for j, (*other, bound) in enumerate(rows):
        if j != k:
            f = other[i] / a[i]
            reduced = [x - f * y for x, y in zip(other, a, strict=True)]
            projected.append((*reduced[:i], *reduced[i + 1 :], bound - f * b))
    clean = _normalised(projected)
    return Fraction(0) if clean is None else _lasserre(clean)


def _lasserre(rows: list[Row]) -> Fraction:
    n = len(rows[0]) - 1
    if n == 1:
        high = min(b / a for a, b in rows if a > 0)
        low = max(b / a for a, b in rows if a < 0)
        return max(high - low, Fraction(0))
    total = Fraction(0)
    for k, row in enumerate(rows):
        if row[-1]:
            size = next(abs(x) for x in row if x)
            total += row[-1] / size * _facet_volume(rows, k)
    return total / n


@dataclass(frozen=True)
class ExactNet:
    """A ReLU network of fractions: (weight, bias) of each layer, object arrays."""

    layers: tuple[tuple[np.ndarray, np.ndarray], ...]


def exact_regions(
    net: ExactNet, base: np.ndarray, directions: np.ndarray, box: np.ndarray, label: int, threshold: Fraction
) -> list[ExactRegion]:
    """All activation regions of the box with exact volumes, judged by class and by the gradients' cosine.

    The arrangement is grown unit by unit: a region is cut where the exact volume on both sides is not zero.
    base ``(d,)``, directions ``(n, d)`` and box ``(n, 2)`` are object arrays of fractions.
    """
    n = len(box)
    walls = []
    for i in range(n):
        axis = [Fraction(int(i == j)) for j in range(n)]
        walls += [(*axis, box[i, 1]), (*(-x for x in axis), -box[i, 0])]
    target = _gradient(net, _pattern_at(net, base), label)
    leaves = [((), walls, exact_volume(walls), base, directions)]
    for weight, bias in net.layers[:-1]:
        leaves = [part for leaf in leaves for part in _through(leaf, weight, bias)]
    weight, bias = net.layers[-1]
    regions = []
    for pattern, rows, volume, offset, slope in leaves:
        zero, lean = weight @ offset + bias, slope @ weight.T
        wins = [
            _above(zero[label] - zero[j], lean[:, label] - lean[:, j]) for j in range(len(bias)) if j != label
        ]
        kept = exact_volume([*rows, *wins])
        level = not all(any(row) for row in wins)
        attention = _attention(_gradient(net, pattern, label), target, threshold)
        regions.append(ExactRegion(pattern, volume, kept, level, attention))
    return regions


def _above(zero: Fraction, lean: np.ndarray) -> Row:
    """The half-space zero + theta lean >= 0."""
    return (*(-x for x in lean), zero)


def _through(leaf: tuple, weight: np.ndarray, bias: np.ndarray) -> list[tuple]:
    """The parts of a region on which the units of one more layer keep their sign."""
    before, rows, volume, offset, slope = leaf
    zero, lean = weight @ offset + bias, slope @ weight.T
    parts = [((), rows, volume)]
    for unit in range(len(zero)):
        grown = []
        for on, walls, whole in parts:
            up = [*walls, _above(zero[unit], lean[:, unit])]
            above = exact_volume(up) if any(lean[:, unit]) else whole * (zero[unit] > 0)
            if above:
                grown.append(((*on, 1), facets_of(up), above))
            if above != whole:
                down = [*walls, _above(-zero[unit], -lean[:, unit])] if above else walls
                grown.append(((*on, 0), facets_of(down), whole - above))
        parts = grown
    return [
        (before + on, walls, whole, zero * np.array(on), lean * np.array(on)) for on, walls, whole in parts
    ]


def _pattern_at(net: ExactNet, x: np.ndarray) -> tuple[int, ...]:
    pattern: tuple[int, ...] = ()
    for weight, bias in net.layers[:-1]:
        z = weight @ x + bias
        pattern += tuple(int(value > 0) for value in z)
        x = np.array([max(value, Fraction(0)) for value in z], object)
    return pattern


def _gradient(net: ExactNet, pattern: tuple[int, ...], label: int) -> np.ndarray:
    g, used = net.layers[-1][0][label], len(pattern)
    for weight, _ in reversed(net.layers[:-1]):
        on = np.array(pattern[used - len(weight) : used])
        used -= len(weight)
        g = (g * on) @ weight
    return g


def _attention(s: np.ndarray, e: np.ndarray, threshold: Fraction) -> int:
    """Sign of cos - (1 - threshold), without roots, threshold being at most 1; -1 for a zero map."""
    product, kappa = s @ e, 1 - threshold
    sizes = (s @ s) * (e @ e)
    if not sizes or product < 0:
        return -1
    difference = product**2 - kappa**2 * sizes
    return (difference > 0) - (difference < 0)


# -- cells and volumes


def corners_of(cells: Cells) -> list[np.ndarray]:
    """The vertices of each cell."""
    return np.split(cells.theta[cells.idx], cells.ptr[1:-1])


def hull_volume(points: np.ndarray) -> float:
    """Volume of the convex hull of points ``(m, n)``, by Qhull; of flat ones, the rounding of 0."""
    if points.shape[1] == 1:
        return float(np.ptp(points))
    try:
        return float(ConvexHull(points).volume)
    except QhullError:
        return float(ConvexHull(points, qhull_options="QJ").volume)


class Locator:
    """Finds the cells that hold a point, by the half-spaces of their hulls (Qhull)."""

    def __init__(self, cells: Cells) -> None:
        self._width = np.ptp(cells.theta, axis=0)
        self._corners = [own / self._width for own in corners_of(cells)]
        self._low = np.array([own.min(axis=0) for own in self._corners])
        self._high = np.array([own.max(axis=0) for own in self._corners])
        self._walls: dict[int, np.ndarray] = {}

    def strictly(self, theta: np.ndarray, margin: float = 1e-9) -> list[int]:
        """The cells that hold theta ``(n,)``, no wall being nearer to it than `margin` of the box."""
        x = theta / self._width
        near = np.flatnonzero(((self._low < x) & (x < self._high)).all(axis=1))
        return [p for p in near if (self._walls_of(p) @ np.append(x, 1.0) < -margin).all()]

    def _walls_of(self, p: int) -> np.ndarray:
        if p not in self._walls:
            self._walls[p] = _half_spaces(self._corners[p])
        return self._walls[p]


def _half_spaces(points: np.ndarray) -> np.ndarray:
    """Rows (a, b) with a x + b <= 0 in the hull of the points; a flat hull holds nothing strictly."""
    n = points.shape[1]
    if n == 1:
        return np.array([[1.0, -points.max()], [-1.0, points.min()]])
    try:
        return ConvexHull(points).equations
    except QhullError:
        return np.append(np.zeros(n), 1.0)[None]
