"""Compiled: planes below and above products of two numbers, which rows choose entry by entry.

A row takes of each product one of several planes, or a mean of them. Its bound is the least value of an
affine function of the coordinates, at some point of the box. There one plane is the closest: with those the
row should go on, or with a mean of these and what it had. About where that point is, and what is gained,
bands of both factors tell before the row has gone any further. That only chooses: any mean of planes below
is below.
"""

from __future__ import annotations

import numpy as np

from steadygaze.geometry.bits import part, summing_kernel

# How often a row chooses anew, the choice of all its entries being known; how far it goes towards that.
_TURNS, _SHARES = 3, (1.0, 0.5, 0.25)


@summing_kernel
def rows_before_products(rows, planes, sizes, first, second, gate):
    """Rows ``(B, R, N)`` for products a b as rows for both factors.

    Args:
        rows: ``(1, R, N)`` if they are the same for all boxes.
        planes: ``(B, 2, P, 3, N)``, those below and those above, of each its slopes in a and b and its
            offset; rows begin with the first ones.
        sizes: ``(B, N)``, at least all magnitudes that any of them adds up.
        first, second: ``(2, B, 1 + n, ...)``, middles and half widths of bands of a ``(N,)`` and b ``(M,)``.
        gate: ``(N,)``, which of the M is a product's second factor.

    Returns:
        Rows for a ``(B, R, N)`` and for b ``(B, R, M)``; and sums ``(2, B, R)``: constants, and sizes, each
        times the magnitude of the row's entry.
    """
    boxes, entries = sizes.shape
    count, functions = rows.shape[1], first.shape[2]
    made, other = np.empty((boxes, count, entries)), np.zeros((boxes, count, second.shape[3]))
    sums = np.empty((2, boxes, count))
    row, own, wanted = np.empty(entries), np.empty((3, entries)), np.empty((3, entries))
    function, change = np.empty(functions), np.empty(functions)
    values, of_gate = np.empty((2, entries)), np.empty(second.shape[3])
    for b in range(boxes):
        for r in range(count):
            for n in range(entries):
                row[n] = rows[b if len(rows) > 1 else 0, r, n]
                for k in range(3):
                    own[k, n] = planes[b, 0 if row[n] > 0 else 1, 0, k, n]
            _summed(function, row, own, first[:, b], second[:, b], gate, of_gate)
            for _ in range(_TURNS):
                _valued(values, function, row, own, first[:, b], second[:, b], gate)
                _closest(wanted, values, row, planes[b])
                _summed(change, row, wanted, first[:, b], second[:, b], gate, of_gate)
                share = _share(function, change)
                if share == 0:
                    break
                for k in range(3):
                    for n in range(entries):
                        own[k, n] = (1 - share) * own[k, n] + share * wanted[k, n]
                for c in range(functions):
                    function[c] = (1 - share) * function[c] + share * change[c]
            constant = size = 0.0
            for n in range(entries):
                # What a row has no entry at may be unbounded.
                taken = row[n] != 0
                made[b, r, n] = row[n] * own[0, n] if taken else 0.0
                other[b, r, gate[n]] += row[n] * own[1, n] if taken else 0.0
                constant += row[n] * own[2, n] if taken else 0.0
                size += abs(row[n]) * sizes[b, n] if taken else 0.0
            sums[0, b, r], sums[1, b, r] = constant, size
    return made, other, sums


@part
def _summed(function, row, own, first, second, gate, of_gate):
    """What a row's planes come to at least, as a function of the coordinates, by bands of both factors."""
    of_gate[:] = 0.0
    offset = 0.0
    for n in range(len(row)):
        of_gate[gate[n]] += row[n] * own[1, n]
        offset += row[n] * own[2, n]
    for c in range(len(function)):
        total = 0.0
        for n in range(len(row)):
            entry = row[n] * own[0, n]
            total += entry * first[0, c, n] - abs(entry) * first[1, c, n]
        for m in range(len(of_gate)):
            total += of_gate[m] * second[0, c, m] - abs(of_gate[m]) * second[1, c, m]
        function[c] = total
    function[0] += offset


@part
def _valued(values, function, row, own, first, second, gate):
    """Both factors where the function is least, as the row takes them."""
    values[:] = 0.0
    for c in range(len(function)):
        t = -1.0 if c and function[c] > 0 else 1.0
        for n in range(len(row)):
            one, two, m = row[n] * own[0, n], row[n] * own[1, n], gate[n]
            values[0, n] += t * (first[0, c, n] - (first[1, c, n] if one > 0 else -first[1, c, n]))
            values[1, n] += t * (second[0, c, m] - (second[1, c, m] if two > 0 else -second[1, c, m]))


@part
def _closest(wanted, values, row, planes):
    """Of each product the plane that is closest at these values."""
    for n in range(len(row)):
        side, best, most = (0, 0, -np.inf) if row[n] > 0 else (1, 0, -np.inf)
        for number in range(planes.shape[1]):
            own = planes[side, number, :, n]
            here = own[0] * values[0, n] + own[1] * values[1, n] + own[2]
            here = here if side == 0 else -here
            if here > most:
                best, most = number, here
        for k in range(3):
            wanted[k, n] = planes[side, best, k, n]


@part
def _share(function, change):
    """How far towards the other choice the function's least value is largest."""
    best, most = 0.0, function[0]
    for c in range(1, len(function)):
        most -= abs(function[c])
    for share in _SHARES:
        found = (1 - share) * function[0] + share * change[0]
        for c in range(1, len(function)):
            found -= abs((1 - share) * function[c] + share * change[c])
        if found > most:
            best, most = share, found
    return best
