"""On which side of each hinge cells lie, read off their vertices, and names for the resulting patterns."""

from __future__ import annotations

import numpy as np

from steadygaze.geometry.bits import U, kernel, mixed
from steadygaze.geometry.cells import Cells

#: What reaches to the other side of a hinge by less than this share of a cell is no part of it that counts.
SLIVER = 1e-9
# What rounding leaves is a ten-thousandth of a tolerance: 1e-7 of what reaches so many tolerances.
_WIDE = 1e3


def above(
    cells: Cells, values: np.ndarray, tolerance: np.ndarray, level: np.ndarray
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Whether each cell reaches above each hinge, uint8 ``(cells, hinges)``.

    For cells that no hinge crosses this is the side they lie on; where a hinge vanishes on a whole cell both
    sides agree, and it counts as below.

    Returns, too, which cells are loose, ``(cells,)``: a hinge reaches to the other side of them by no more
    than its tolerance, and yet by more than a sliver of the cell; or it is above 0 all over them, within its
    tolerance and by more than `level` ``(hinges,)``. And whether anywhere one is by less.
    """
    return _above(values, tolerance, level, cells.ptr, cells.idx)


def loose_parts(cells: Cells, values: np.ndarray, tolerance: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Which parts that were cut with `stop_below` only tolerances keep what they are, ``(cells,)`` bool.

    One that no hinge stopped, where `stop` ``(cells,)`` is below 0, may reach below some hinge by more than a
    sliver, or end above it, within its tolerance; one that hinge number `stop` did may reach above that. And
    both may touch it and be so flat that rounding moves the place by more than a sliver.
    """
    return _loose_parts(values, tolerance, stop, cells.ptr, cells.idx)


def winners(
    cells: Cells, values: np.ndarray, tolerance: np.ndarray, level: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, bool]:
    """The first input of each window that no other one exceeds on the cell, uint8 ``(cells, windows)``.

    values ``(vertices, windows * size)`` holds the inputs of the windows one after the other. What else is
    returned is as in `above`, of the lead of the winner over each other input.
    """
    return _winners(values, tolerance, level, cells.ptr, cells.idx, size)


def best_of_windows(
    values: np.ndarray, windows: np.ndarray, tolerance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Largest input of each window, ``(rows, windows)``, and the first position within tolerance of it.

    values ``(rows, inputs)``; windows ``(windows, size)`` holds columns of values, -1 for none; tolerance
    ``(windows,)``; positions are uint8.
    """
    return _best_of_windows(np.ascontiguousarray(values), windows, tolerance)


def ahead_of_winners(
    rows: np.ndarray,
    error: np.ndarray,
    windows: np.ndarray,
    winner: np.ndarray,
    asked: np.ndarray,
    known: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By how much inputs of windows exceed the winner over boxes: least, most, and how far that is unknown.

    Inputs are affine forms, rows ``(B, C, inputs)`` and error ``(B, inputs)``; the first ``known`` rows are
    the centre and what depends on the coordinates. windows ``(windows, size)`` holds columns, -1 for none;
    winner ``(B, windows)``; asked ``(B, windows, size)`` bool, which inputs are meant. All returned are
    ``(B, windows, size)``, rounded outwards; where an input is not asked for, there is none, or it is the
    winner, the first two are -inf.
    """
    rows, error, winner, asked = (np.ascontiguousarray(own) for own in (rows, error, winner, asked))
    return _ahead_of_winners(rows, error, windows, winner, asked, known)


def firsts_of_windows(
    values: np.ndarray, windows: np.ndarray, tolerance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The positions of `best_of_windows`; and which windows ``(windows,)`` have a larger input in some row.

    No window has padding.
    """
    return _firsts_of_windows(np.ascontiguousarray(values), windows, tolerance)


def met(
    values: np.ndarray, marks: np.ndarray, tolerance: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """How hinges lie to all rows: hinge ``m * columns + j`` is column j of values ``(rows, columns)`` less
    mark m of ``(marks,)``.

    Returns the numbers of those on both sides; of those above somewhere and not above elsewhere, or positive
    within the tolerance alone; whether each is above somewhere, uint8 ``(hinges,)``; and the numbers of those
    that are positive anywhere. Within the tolerance ``(hinges,)`` is on the hinge.
    """
    return _met(values, marks, tolerance)


def pattern_names(sides: np.ndarray, names: np.ndarray) -> np.ndarray:
    """A name, uint64 ``(rows,)``, for each row of sides uint8 ``(rows, columns)`` of columns named ``names``.

    Names of several layers add up (modulo 2**64). Different patterns share a name with probability 2**-64.
    """
    return weighed(sides, pattern_weights(names))


def weighed(sides: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`pattern_names` of columns whose weights, uint64 ``(columns,)``, are known (see `pattern_weights`)."""
    return _pattern_names(sides, weights)


def spread(
    sides: np.ndarray, chosen: np.ndarray, found: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sides of all columns on each of some cells, uint8 ``(cells, columns)``, and names (see `weighed`).

    Args:
        sides: ``(columns,)`` uint8, what all cells share but in the columns that are chosen.
        chosen: ``(k,)`` their numbers, in ascending order.
        found: ``(cells, k)`` uint8, the sides there.
        weights: ``(columns,)`` uint64.
    """
    return _spread(sides, chosen, found, weights)


def pattern_weights(names: np.ndarray) -> np.ndarray:
    """What each column counts in a pattern name, uint64 ``(columns,)``: names are sums of side * weight."""
    return mixed(mixed(names) + U(0xD1B54A32D192ED03))


@kernel
def _best_of_windows(values, windows, tol):
    count, size = windows.shape
    best = np.empty((len(values), count))
    place = np.zeros((len(values), count), np.uint8)
    for v in range(len(values)):
        for w in range(count):
            most = -np.inf
            for k in range(size):
                if windows[w, k] >= 0:
                    most = max(most, values[v, windows[w, k]])
            best[v, w] = most
            for k in range(size):
                if windows[w, k] >= 0 and values[v, windows[w, k]] >= most - tol[w]:
                    place[v, w] = k
                    break
    return best, place


@kernel
def _ahead_of_winners(rows, error, windows, winner, asked, known):
    count, width = windows.shape
    shape = (len(rows), count, width)
    low, high, stray = np.full(shape, -np.inf), np.full(shape, -np.inf), np.zeros(shape)
    share, upward = 4 * 2.0**-53, 1 + (rows.shape[1] + 8) * 2.0**-53
    # Row by row: the entries of one lie side by side in memory, those of one input far apart.
    pairs, sums = np.empty((3, count * width), np.int64), np.empty((3, count * width))
    for b in range(len(rows)):
        found = 0
        for w in range(count):
            for k in range(width):
                if windows[w, k] >= 0 and windows[w, k] != winner[b, w] and asked[b, w, k]:
                    pairs[0, found], pairs[1, found] = windows[w, k], winner[b, w]
                    pairs[2, found] = w * width + k
                    found += 1
        sums[:, :found] = 0.0
        for c in range(rows.shape[1]):
            row = rows[b, c]
            for p in range(found):
                first, second = row[pairs[0, p]], row[pairs[1, p]]
                sums[2, p] += abs(first) + abs(second)
                if c >= known:
                    sums[1, p] += abs(first - second)
                elif c:
                    sums[0, p] += abs(first - second)
        for p in range(found):
            own, best = pairs[0, p], pairs[1, p]
            away = rows[b, 0, own] - rows[b, 0, best]
            beside = sums[1, p] + error[b, own] + error[b, best] + share * sums[2, p]
            reach = (beside + sums[0, p]) * upward
            w, k = divmod(pairs[2, p], width)
            low[b, w, k], high[b, w, k], stray[b, w, k] = away - reach, away + reach, beside * upward
    return low, high, stray


@kernel
def _met(values, marks, tol):
    width = values.shape[1]
    low, high = np.empty(width), np.empty(width)
    for j in range(width):
        low[j] = high[j] = values[0, j]
    for v in range(1, len(values)):
        for j in range(width):
            z = values[v, j]
            low[j] = z if z < low[j] else low[j]
            high[j] = z if z > high[j] else high[j]
    sides, counts = np.zeros(len(tol), np.uint8), np.zeros(3, np.int64)
    found = np.empty((3, len(tol)), np.int64)
    for m in range(len(marks)):
        for j in range(width):
            k = m * width + j
            least, most = low[j] - marks[m], high[j] - marks[m]
            sides[k] = most > tol[k]
            positive = most > 0
            so = (most > tol[k] and least < -tol[k], positive and least <= tol[k], positive)
            for which in range(3):
                if so[which]:
                    found[which, counts[which]] = k
                    counts[which] += 1
    return found[0, : counts[0]], found[1, : counts[1]], sides, found[2, : counts[2]]


@kernel
def _firsts_of_windows(values, windows, tol):
    count, size = windows.shape
    place, ahead = np.zeros((len(values), count), np.uint8), np.zeros(count, np.bool_)
    for v in range(len(values)):
        for w in range(count):
            most = values[v, windows[w, 0]]
            for k in range(1, size):
                most = max(most, values[v, windows[w, k]])
            for k in range(size):
                if values[v, windows[w, k]] >= most - tol[w]:
                    place[v, w] = k
                    ahead[w] |= values[v, windows[w, k]] < most
                    break
    return place, ahead


@kernel
def _above(values, tol, level, ptr, idx):
    width, faint = values.shape[1], False
    out, loose = np.zeros((len(ptr) - 1, width), np.uint8), np.zeros(len(ptr) - 1, np.bool_)
    low, high = np.empty(width), np.empty(width)
    for p in range(len(ptr) - 1):
        for j in range(width):
            low[j] = high[j] = values[idx[ptr[p]], j]
        for t in range(ptr[p] + 1, ptr[p + 1]):
            row = values[idx[t]]
            for j in range(width):
                z = row[j]
                low[j] = z if z < low[j] else low[j]
                high[j] = z if z > high[j] else high[j]
        found = False
        for j in range(width):
            out[p, j] = high[j] > tol[j]
            up, down = high[j], -low[j]
            other = min(up, down) if up > tol[j] or down > tol[j] else up
            found |= other > SLIVER * max(up, down)
        if found:  # mostly not
            for j in range(width):
                up, down = high[j], -low[j]
                if up > tol[j] or down > tol[j]:
                    loose[p] |= min(up, down) > SLIVER * max(up, down)
                elif up > SLIVER * down:
                    loose[p] |= up > level[j]
                    faint |= 0 < up <= level[j]
    return out, loose, faint


@kernel
def _loose_parts(values, tol, stop, ptr, idx):
    width, out = values.shape[1], np.zeros(len(ptr) - 1, np.bool_)
    low, high = np.empty(width), np.empty(width)
    for p in range(len(ptr) - 1):
        for j in range(width):
            low[j] = high[j] = values[idx[ptr[p]], j]
        for t in range(ptr[p] + 1, ptr[p + 1]):
            row = values[idx[t]]
            for j in range(width):
                z = row[j]
                low[j] = z if z < low[j] else low[j]
                high[j] = z if z > high[j] else high[j]
        j = stop[p]
        if j >= 0:
            down, slack = -low[j], tol[j]
            out[p] = (high[j] > SLIVER * down) | ((high[j] >= -slack) & (down < _WIDE * slack))
            continue
        found = False
        for j in range(width):
            up, slack = high[j], tol[j]
            found |= (low[j] <= slack) & ((abs(low[j]) > SLIVER * up) | (up < _WIDE * slack))
        out[p] = found
    return out


@kernel
def _winners(values, tol, level, ptr, idx, size):
    windows, faint = values.shape[1] // size, False
    out, loose = np.zeros((len(ptr) - 1, windows), np.uint8), np.zeros(len(ptr) - 1, np.bool_)
    for p in range(len(ptr) - 1):
        for w in range(windows):
            first, last, winner, ahead = w * size, (w + 1) * size, -1, False
            for i in range(first, last):
                wins, ahead = True, False
                for t in range(ptr[p], ptr[p + 1]):
                    own = values[idx[t], i]
                    for k in range(first, last):
                        if own < values[idx[t], k]:
                            ahead = True
                            wins &= own >= values[idx[t], k] - tol[w]
                    if not wins:
                        break
                if wins:
                    winner = i
                    break
            if winner < 0:
                continue
            out[p, w] = winner - first
            if not ahead:  # mostly
                continue
            for k in range(first, last):
                up, down = 0.0, 0.0
                for t in range(ptr[p], ptr[p + 1]):
                    lead = values[idx[t], winner] - values[idx[t], k]
                    down, up = max(down, lead), max(up, -lead)
                if up > SLIVER * down:
                    loose[p] |= down > tol[w] or up > level[w]
                    faint |= 0 < up <= level[w]
    return out, loose, faint


@kernel
def _spread(sides, chosen, found, weights):
    whole, names = np.empty((len(found), len(sides)), np.uint8), np.empty(len(found), np.uint64)
    same, own = sides.copy(), np.empty(len(chosen), np.uint64)
    for k in range(len(chosen)):
        same[chosen[k]] = 0
        own[k] = weights[chosen[k]]
    shared = U(0)
    for j in range(len(sides)):
        shared += U(same[j]) * weights[j]
    for p in range(len(found)):
        for j in range(len(sides)):
            whole[p, j] = same[j]
        total = shared
        for k in range(len(chosen)):
            whole[p, chosen[k]] = found[p, k]
            total += U(found[p, k]) * own[k]
        names[p] = total
    return whole, names


@kernel
def _pattern_names(sides, weights):
    out = np.zeros(len(sides), np.uint64)
    for p in range(len(sides)):
        total = U(0)
        for j in range(len(weights)):
            total += U(sides[p, j]) * weights[j]
        out[p] = total
    return out
