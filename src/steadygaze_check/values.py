"""Values of the network at points, and gradients on patterns, with bounds of how far they may be off.

Bounds of values serve two purposes at once. At a point θ they enclose the exact value. At a vertex of a cell
they enclose the value there of the affine function that the network is inside the cell, although at a vertex
many entries of windows are within rounding of the largest: one is *near* where it may be, and what the choice
makes out is added to the bound. docs/checker.md has the proof.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

import numpy as np

from steadygaze_check.arithmetic import TINY, UNIT, UP, Dyadic, gamma, norms
from steadygaze_check.folder import demand
from steadygaze_check.network import Linear, Network, Node, often, take

# How far below the largest, in terms of the largest number of its node, an entry may be on the wrong side of
# the hinge that a vertex lies on. Soundness does not depend on it: a smaller one certifies fewer cells.
_CLOSE = 2.0**-34
_LARGEST = 1e150


class Ball(NamedTuple):
    """Rows of values ``(B, N)``, and bounds ``(N,)`` of their errors that hold for all rows."""

    value: np.ndarray
    radius: np.ndarray


class Hinges(NamedTuple):
    """Windows of one node, whose entries are affine inside a cell.

    The one at the place `winner` (N,) is the largest at all points, but for k `columns`. Of these there are
    the entries ``(B, w, k)``, the bounds ``(w, k)`` of their errors, which are `near` enough to be the
    largest, and which are so near that they must be shown not to be.
    """

    node: int
    winner: np.ndarray
    columns: np.ndarray
    value: np.ndarray
    radius: np.ndarray
    near: np.ndarray
    rival: np.ndarray


# The nodes that are affine in θ and are read by one that is not: value at 0 and slopes ``(n + 1, N)``, exact
# and then rounded. And of each node of windows the entries ``(w, N)`` that equal an earlier one for every θ.
Start = tuple[dict[int, np.ndarray], dict[int, np.ndarray]]
Chosen = Callable[[int, np.ndarray], np.ndarray | None]


def exact(network: Network, base: np.ndarray, directions: np.ndarray, choose: Chosen) -> dict[int, Dyadic]:
    """Rows ``(n + 1, N)`` of all nodes for the image ``base + θ directions``: the value at 0, and the slopes.

    choose: ``(number, windows (n + 1, w, N))`` to the winners ``(N,)``, or None where they are not known.
    """
    image = np.concatenate([base[None], directions]).reshape(len(directions) + 1, base.size)
    values, constant = {0: Dyadic.of(image)}, np.eye(len(image), 1, dtype=int).astype(object)
    for number, node in network.after(values):
        inputs = [values[k] for k in node.inputs]
        if node.windows is None:
            bias = Dyadic.of(node.bias)
            values[number] = Dyadic(constant * bias.whole, bias.exponent)
            for part, x in zip(node.parts, inputs, strict=True):
                product = Dyadic(part.apply(x.whole, part.whole.whole), x.exponent + part.whole.exponent)
                values[number] = values[number].plus(product)
        else:
            windows = take(inputs[0].whole, node.windows)
            winner = choose(number, windows)
            if winner is not None:
                best = np.take_along_axis(windows, winner[None, None], axis=1)[:, 0]
                values[number] = Dyadic(best, inputs[0].exponent)
    return values


def repeated(windows: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
    """Which entries of windows ``(R, w, N)`` equal, in all rows, an earlier one, of those `among` (w, N)."""
    found = np.zeros(windows.shape[1:], bool)
    for k in range(1, len(found)):
        same = (windows[:, :k] == windows[:, [k]]).astype(bool).all(axis=0)
        found[k] = (same if among is None else same & among[:k]).any(axis=0)
    return found


def start_of(network: Network, base: np.ndarray, directions: np.ndarray) -> Start:
    """The affine start of the network, where the image is ``base + θ directions``."""
    again = {
        k: repeated(node.windows[None]) for k, node in enumerate(network.nodes) if node.windows is not None
    }
    found = exact(network, base, directions, lambda number, x: again.update({number: repeated(x)}))
    read = {each for k, node in enumerate(network.nodes) if k not in found for each in node.inputs}
    return {k: found[k].rounded() for k in (read | {network.last}) & set(found)}, again


def forward(
    network: Network, start: Start, theta: np.ndarray, reach: np.ndarray
) -> tuple[Ball, list[Hinges]]:
    """The logits at theta ``(B, n)``, all within ``|theta| <= reach`` (n,), and all hinges in order."""
    balls, hinges = {}, []
    for number, (base, *slopes) in start[0].items():
        error = (len(reach) + 4) * UNIT * UP * (np.abs(base) + reach @ np.abs(slopes)) + TINY
        balls[number] = Ball(base + theta @ np.array(slopes), error)
    last_use = {each: k for k, node in enumerate(network.nodes) for each in node.inputs}
    for number, node in network.after(balls):
        inputs = [balls[each] for each in node.inputs]
        if node.windows is None:
            balls[number] = _affine(node, inputs)
        else:
            balls[number], hinge = _largest(number, node.windows, inputs[0], start[1][number])
            hinges.append(hinge)
        _limited(*balls[number])
        for each in set(node.inputs):
            if last_use[each] == number:
                del balls[each]
    return balls[network.last], hinges


def _limited(*numbers: np.ndarray) -> None:
    """Raise BadCertificate for numbers whose squares are not finite, or that are none: they prove nothing."""
    fine = all(np.abs(each).max(initial=0.0) < _LARGEST for each in numbers)
    demand(fine, "the network makes numbers too large to be computed with")


def class_gaps(logits: Ball, label: int) -> Hinges:
    """For the other classes j, in order, the windows (f_j, f_c)."""
    others = np.array([k for k in range(logits.value.shape[1]) if k != label], int)
    pairs = np.stack([others, np.full(len(others), label)])
    return _hinges(-1, pairs, logits, np.ones(pairs.shape, bool), _slack(logits, pairs))


def _slack(x: Ball, windows: np.ndarray) -> np.ndarray:
    """How far below the largest of its window an entry may be and count as the largest."""
    most = max(x.value.max(initial=0.0), -x.value.min(initial=0.0))
    return (2 * take(x.radius[None], windows)[0].max(axis=0) + _CLOSE * most) * UP


def _hinges(number: int, windows: np.ndarray, x: Ball, able: np.ndarray, slack: np.ndarray) -> Hinges:
    """The hinges of windows of which some entries are `able` to win at some point."""
    columns = np.flatnonzero(able.sum(axis=0) > 1)
    own, some = windows[:, columns], able[:, columns]
    value, radius = take(x.value, own), take(x.radius[None], own)[0]
    behind = value - value.max(axis=1, keepdims=True)
    near, rival = (behind >= -slack[columns]) & some, (behind >= -4 * slack[columns]) & some
    return Hinges(number, able.argmax(axis=0), columns, value, radius, near, rival)


def _affine(node: Node, inputs: list[Ball]) -> Ball:
    """|A e| <= |A| |e|, entry by entry; rounding adds gamma |A| |x|, where products with 0 do not count."""
    bias, most = node.bias, [np.abs(x.value).max(axis=0) for x in inputs]
    terms = sum(min(part.terms[0], np.count_nonzero(x)) for part, x in zip(node.parts, most, strict=True))
    value, radius = np.zeros((1, len(bias))) + bias, gamma(terms) * np.abs(bias)
    for part, x, size in zip(node.parts, inputs, most, strict=True):
        value = value + part.apply(x.value, part.kernel)
        radius = radius + part.apply((x.radius + gamma(terms) * size)[None], np.abs(part.kernel))[0]
    return Ball(value, radius * UP + TINY)


def _largest(number: int, windows: np.ndarray, x: Ball, again: np.ndarray) -> tuple[Ball, Hinges]:
    """|max a - max a'| <= max |a - a'| where the same entries may win; where others do, the doubt is added.

    Entries that are there `again` never win.
    """
    value, slack = [take(x.value, own) for own in windows], _slack(x, windows)
    best = reduce(np.maximum, value)
    floor = best - slack
    able = np.stack([(own >= floor).any(axis=0) for own in value]) & ~again
    hinges = _hinges(number, windows, x, able, slack)
    behind = hinges.value.max(axis=1, keepdims=True) - hinges.value
    radius = np.where(able, take(x.radius[None], windows)[0], 0.0).max(axis=0)
    radius[hinges.columns] += np.where(hinges.near, behind, 0.0).max(axis=(0, 1), initial=0.0)
    best[:, ~(able & (windows >= 0)).any(axis=0)] = 0.0
    return Ball(best, radius * UP), hinges


# For each node of windows, of R patterns: which entries may win, ``(R, w, N)``. The first of them does.
Pattern = dict[int, np.ndarray]


class _Back(NamedTuple):
    """Gradients at a node ``(R, N)``, bounds ``(N,)`` of their errors, and which rows are not exactly 0."""

    value: np.ndarray
    radius: np.ndarray
    some: np.ndarray

    def plus(self, other: _Back) -> _Back:
        value = self.value + other.value
        radius = (self.radius + other.radius + UNIT * np.abs(value).max(axis=0)) * UP
        return _Back(value, radius, self.some | other.some)


def gradients(network: Network, label: int, pattern: Pattern, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Gradients ``(R, P)`` of f_label with respect to the pixels, and bounds ``(R,)`` of their errors.

    Rows share the bounds: patterns in which several entries may win should be asked for by themselves.
    """
    start = np.zeros((rows, network.nodes[network.last].entries))
    start[:, label] = 1.0
    found = {network.last: _Back(start, np.zeros(start.shape[1]), np.ones(rows, bool))}
    for number in range(network.last, network.pixels, -1):
        if number not in found:
            continue
        node, back = network.nodes[number], found.pop(number)
        made = [_pulled(part, back) for part in node.parts]
        if node.windows is not None:
            made = [_picked(node.windows, pattern[number], back, network.nodes[node.inputs[0]].entries)]
        for source, each in zip(node.inputs, made, strict=True):
            found[source] = found[source].plus(each) if source in found else each
            _limited(*found[source][:2])
    nothing = np.zeros((rows, network.nodes[network.pixels].entries))
    value, radius, some = found.get(network.pixels, _Back(nothing, nothing[0], np.zeros(rows, bool)))
    return value, np.where(some, norms(radius[None]), 0.0)


def vanishing(network: Network, label: int, pattern: Pattern, row: int) -> np.ndarray:
    """Where ``(P,)`` the gradient on a pattern is 0, in whole numbers: opposite terms leave no rounding.

    Nowhere, for all that is known, where several entries may win a window.
    """
    pixels = network.nodes[network.pixels].entries
    start = np.zeros((1, network.nodes[network.last].entries), object)
    start[0, label] = 1
    found = {network.last: Dyadic(start, 0)}
    for number in range(network.last, network.pixels, -1):
        if number not in found:
            continue
        node, back = network.nodes[number], found.pop(number)
        if node.windows is None:
            wholes = [
                (part.transposed(back.whole, part.whole.whole), part.whole.exponent) for part in node.parts
            ]
            made = [Dyadic(whole, back.exponent + exponent) for whole, exponent in wholes]
        else:
            may = pattern[number][row]
            if (back.whole[0, may.sum(axis=0) > 1] != 0).any():
                return np.zeros(pixels, bool)
            out = np.zeros(network.nodes[node.inputs[0]].entries + 1, object)
            for index, own in zip(node.windows, may, strict=True):
                np.add.at(out, index, np.where(own, back.whole[0], 0))
            made = [Dyadic(out[None, :-1], back.exponent)]
        for source, each in zip(node.inputs, made, strict=True):
            found[source] = found[source].plus(each) if source in found else each
    if network.pixels not in found:
        return np.ones(pixels, bool)
    return np.asarray(found[network.pixels].whole[0] == 0, bool)


def _pulled(part: Linear, back: _Back) -> _Back:
    """The gradient before a linear map; as in the values, products with 0 do not count."""
    most = np.abs(back.value).max(axis=0)
    error = back.radius + gamma(min(part.terms[1], np.count_nonzero(most))) * most
    radius = part.transposed(error[None], np.abs(part.kernel))[0] * UP + TINY
    return _Back(part.transposed(back.value, part.kernel), radius, back.some)


def _picked(windows: np.ndarray, may: np.ndarray, back: _Back, entries: int) -> _Back:
    """The gradient goes to the winner. Where several may win, it may be missing there and be elsewhere."""
    winner, most = may.argmax(axis=1), np.abs(back.value).max(axis=0)
    doubt = np.where(may.sum(axis=1) > 1, np.abs(back.value), 0.0).max(axis=0)
    own = back.radius + doubt + (gamma(often(windows)) * most if often(windows) > 1 else 0.0)
    out, some = np.zeros((len(may) + 1, entries + 1)), (may & (windows >= 0)).any(axis=(1, 2))
    for place, index in enumerate(windows):
        value, radius = (
            np.where(winner == place, back.value, 0.0),
            np.where(may[:, place].any(axis=0), own, 0.0),
        )
        if often(index) <= 1:
            out[:, index] += np.concatenate([value, radius[None]])
        else:
            np.add.at(out.T, index, np.concatenate([value, radius[None]]).T)
    return _Back(out[:-1, :-1], out[-1, :-1] * UP, back.some & some)
