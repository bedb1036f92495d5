"""What is proven of each cell: by how much it has to shrink for all signs to hold, and its kind.

Everything is a function of the vertices: inside a cell every hinge is affine, so that its least value over
the convex hull of points is the least at the points, and its value at their mean is the mean of theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from steadygaze_check import values
from steadygaze_check.arithmetic import SMALL, UNIT, UP, gamma
from steadygaze_check.cones import separation
from steadygaze_check.folder import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST, UNDECIDED, Certificate
from steadygaze_check.network import Network
from steadygaze_check.parts import halves, volumes
from steadygaze_check.points import MOST, Comparison, borders
from steadygaze_check.values import Hinges, Pattern, Start

# Numbers in each array of a batch; vertices in a third of one where all maps meet all vertices; and products
# of whole numbers that may be spent, in all, on entries of windows that are the same function on a cell. And
# parts of cells, in all, that may be looked at.
_ROOM, _MOVED, _EXACT, _PARTS = 1 << 21, 1 << 10, 1 << 27, 1 << 16
# ``(own, rows)`` to lower bounds at rows of the vertices, of the functions numbered `own`.
Least = Callable[[np.ndarray, np.ndarray], np.ndarray]


class _Batch(NamedTuple):
    """Cells on the way: ``rows[ptr[k]:ptr[k + 1]]`` are the rows of the vertices ``theta`` of cell k.

    Each is shrunk about the mean of its vertices by a factor in [0, 1]; where a window is crossed, no entry
    of it is the largest all over the cell, beyond rounding, and there is no pattern; the first of them may be
    cut between the two rows `cut` (M, 2), at the `place` (M,) in [0, 1] of the way; -1 where it may not.
    """

    piece: int
    theta: np.ndarray
    rows: np.ndarray
    ptr: np.ndarray
    shrink: np.ndarray
    crossed: np.ndarray
    cut: np.ndarray
    place: np.ndarray

    @staticmethod
    def of(piece: int, theta: np.ndarray, rows: np.ndarray, ptr: np.ndarray) -> _Batch:
        """Cells of which nothing is known yet."""
        count = len(ptr) - 1
        nowhere = np.full((count, 2), -1), np.zeros(count)
        return _Batch(piece, theta, rows, ptr, np.ones(count), np.zeros(count, bool), *nowhere)

    def any(self, flags: np.ndarray) -> np.ndarray:
        """Whether a flag ``(V, ...)`` holds at any vertex of each cell: ``(M, ...)``."""
        bits = np.packbits(flags.reshape(len(flags), flags[0].size), axis=1)
        words = np.zeros((len(bits), bits.shape[1] // 8 + 1), np.uint64)
        words.view(np.uint8)[:, : bits.shape[1]] = bits
        joined = np.bitwise_or.reduceat(words[self.rows], self.ptr[:-1], axis=0).view(np.uint8)
        whole = np.unpackbits(joined, axis=1, count=flags[0].size).astype(bool)
        return whole.reshape(len(self.shrink), *flags.shape[1:])

    def every(self, flags: np.ndarray) -> np.ndarray:
        """Whether a flag ``(V,)`` holds at all vertices of each cell: ``(M,)``."""
        return ~self.any(~flags)

    def hold(self, cell: np.ndarray, least: Least) -> None:
        """Shrink cells until functions that are affine on them, one for each entry of `cell`, are above 0."""
        np.minimum.at(self.shrink, cell, self.factors(cell, least))

    def factors(self, cell: np.ndarray, least: Least) -> np.ndarray:
        """The factor by which each function wants its cell to be shrunk.

        With lower bounds l_k at the vertices, and mean l, the shrunken vertices have ``(1 - t) l + t l_k``.
        """
        wanted, ends = np.ones(len(cell)), np.cumsum(np.diff(self.ptr)[cell])
        for part in np.split(np.arange(len(cell)), np.flatnonzero(np.diff(ends >> 20)) + 1):
            if len(part):
                spots, start, size = _spots(self.ptr, cell[part])
                low = least(np.repeat(part, size), self.rows[spots])
                worst, mean = np.minimum.reduceat(low, start), np.add.reduceat(low, start) / size
                mean -= (2 * size + 8) * UNIT * (np.add.reduceat(np.abs(low), start) / size)
                with np.errstate(divide="ignore", invalid="ignore"):
                    part_way = np.where(mean > 0, mean / (mean - worst) * (1 - 2.0**-44), 0.0)
                wanted[part] = np.where(worst >= 0, 1.0, part_way)
        return wanted


def _spots(ptr: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the vertices of cells stand, one cell after another, where each one's start, and how many."""
    sizes = np.diff(ptr)[cells]
    start = np.cumsum(sizes) - sizes
    return np.repeat(ptr[cells] - start, sizes) + np.arange(sizes.sum()), start, sizes


class Examiner:
    """Proves kinds, a batch of cells at a time."""

    def __init__(self, certificate: Certificate, network: Network, comparison: Comparison | None) -> None:
        self._certificate, self._network, self._comparison = certificate, network, comparison
        self._label, self._widest = certificate.question["label"], max(node.entries for node in network.nodes)
        units = sum(node.entries for node in network.nodes if node.windows is not None)
        most = _MOVED if certificate.question["moves_map"] else _ROOM
        self._room, self._left = max(2, min(most, _ROOM // max(units, self._widest))), _EXACT
        self._parts = _PARTS
        #: The points ``(k, n)`` of each cell that is called robust at which the class ties, as far as bounds
        #: tell, with one and the same other, or at which a map that moves vanishes. And the cells that are
        #: proven in parts, of which one has a facet of such points.
        self.ties: list[np.ndarray] = []
        self.torn: list[int] = []
        self._images = list(zip(certificate.piece_base, certificate.piece_directions, strict=True))
        self._start: tuple[int, Start] = -1, ({}, {})

    def start(self, piece: int) -> Start:
        """The affine start of the network on a piece of the box; the last one asked for is kept."""
        if self._start[0] != piece:
            self._start = piece, values.start_of(self._network, *self._images[piece])
        return self._start[1]

    def batches(self) -> Iterator[np.ndarray]:
        """Numbers of cells, each batch within one piece and small enough for the memory."""
        for piece in range(len(self._images)):
            cells = np.flatnonzero(self._certificate.cell_piece == piece)
            sizes = np.cumsum(np.diff(self._certificate.cell_ptr)[cells])
            split = np.split(cells, np.flatnonzero(np.diff(sizes // (3 * self._room))) + 1)
            yield from (part for part in split if len(part))

    def examine(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Kinds of some cells of one piece, and by how much each is to be shrunk for that to be proven.

        Cells in which windows are crossed are proven in parts, if at all: they count by the volume
        ``(M,)`` of the parts that are.
        """
        c, piece = self._certificate, int(self._certificate.cell_piece[cells[0]])
        spots, start, _ = _spots(c.cell_ptr, cells)
        used, rows = np.unique(c.cell_vertex[spots], return_inverse=True)
        batch = _Batch.of(piece, c.vertices[used], rows.reshape(-1), np.append(start, len(spots)))
        called = c.cell_kind[cells] == ROBUST
        kind, shrink, volume = *self._examined(batch, called), np.zeros(len(cells))
        for k in np.flatnonzero((batch.cut >= 0).all(axis=1) & (c.cell_kind[cells] != UNDECIDED)):
            kind[k], volume[k] = self._in_parts(piece, cells[k])
        return kind, shrink, volume

    def _in_parts(self, piece: int, cell: int) -> tuple[int, float]:
        """The kind of a cell whose simplices are cut where windows are crossed, and how much of it is proven.

        One part of another kind than the rest decides, if it is proven.
        """
        c, told, volume = self._certificate, int(self._certificate.cell_kind[cell]), 0.0
        left = c.vertices[c.simplices[c.simplex_cell == cell]]
        while len(left) and self._parts > 0:
            some, left = left[: self._room], left[self._room :]
            self._parts -= len(some)
            count, corners, n = *some.shape[:2], len(c.box)
            rows, known = np.arange(count * corners), len(self.ties)
            batch = _Batch.of(piece, some.reshape(-1, n), rows, np.arange(count + 1) * corners)
            kind, shrink = self._examined(batch, np.full(count, told == ROBUST))
            self.torn += [cell] * any(len(each) >= n for each in self.ties[known:])
            if (other := (kind != told) & (kind != UNDECIDED)).any():
                return int(kind[other][0]), 0.0
            # A point of an edge, as it was computed, is some n 2**-51 of the box off.
            held = volumes(some) * shrink**n * (1 - 2.0**-40) - 2.0**-46 * c.volume
            volume += float(np.maximum(held, 0.0).sum())
            cut = (batch.cut >= 0).all(axis=1)
            left = np.concatenate([left, *halves(some[cut], batch.cut[cut] % corners, batch.place[cut])])
        return (told if volume > 0 else UNDECIDED), volume

    def _examined(self, batch: _Batch, called: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Kinds, and by how much each cell is to be shrunk for that to be proven; called robust ``(M,)``."""
        c, piece, theta = self._certificate, batch.piece, batch.theta
        reach = np.abs(c.box).max(axis=1)
        logits, hinges = values.forward(self._network, self.start(piece), theta, reach)
        pattern = {hinge.node: _winners(batch, hinge) for hinge in hinges}
        gaps = values.class_gaps(logits, self._label)
        self.ties += _ties(batch, gaps, called)
        if self._comparison is not None and self._comparison.moves:
            near, _ = self._comparison.vanishing(piece, theta)
            self.ties += _faces(batch, near, called)
        held, lost = _classes(batch, gaps)
        kind = np.where(lost, CLASS_CHANGED, UNDECIDED).astype(np.int8)
        value, size = borders(c, piece, theta)
        error = gamma(len(c.box)) * size
        cell, column = np.nonzero(batch.any(value < error))
        batch.hold(cell, lambda own, at: value[at, column[own]] - error[at, column[own]])
        self._alone(batch)
        asked = np.flatnonzero(held & ~batch.crossed & (batch.shrink > 0))
        if self._comparison is None:
            kind[asked] = ROBUST
        else:
            for group in self._settled(piece, asked, pattern):
                kind[group] = self._attention(batch, group, pattern, self._comparison)
        kind[batch.crossed | (batch.shrink <= 0)] = UNDECIDED
        return kind, np.where(kind == UNDECIDED, 0.0, batch.shrink)

    def _alone(self, batch: _Batch) -> None:
        """Shrink cells until they lie outside of all other pieces, in which there would be another image."""
        c = self._certificate
        for other in range(len(c.piece_base)):
            if other == batch.piece:
                continue
            value, size = borders(c, other, batch.theta)
            error = gamma(len(c.box)) * size
            near = np.flatnonzero(batch.any(value >= -error).all(axis=1))
            cell, plane = np.repeat(near, value.shape[1]), np.tile(np.arange(value.shape[1]), len(near))
            beyond = batch.factors(cell, _beyond(value, error, plane)).reshape(len(near), value.shape[1])
            batch.shrink[near] = np.minimum(batch.shrink[near], beyond.max(axis=1, initial=0.0))

    def _settled(self, piece: int, cells: np.ndarray, pattern: Pattern) -> list[np.ndarray]:
        """The cells, in groups in which several entries may win the same windows.

        Entries that are exactly the same function on a cell as an earlier one are taken out of the pattern;
        of windows that the affine start of the network is read by, this was done before.
        """
        several, hopeless, groups = np.zeros(len(cells), bool), np.zeros(len(cells), bool), {}
        for node, may in pattern.items():
            found = (may[cells].sum(axis=1) > 1).any(axis=1)
            several |= found
            hopeless |= found & (self._network.nodes[node].inputs[0] in self._start[1][0])
        for cell in cells[several & ~hopeless][: self._left // self._network.products]:
            self._left -= self._network.products

            def choose(number: int, windows: np.ndarray, cell: int = cell) -> np.ndarray | None:
                may = pattern[number][cell]
                may &= ~values.repeated(windows, may)
                return may.argmax(axis=0) if (may.sum(axis=0) == 1).all() else None

            values.exact(self._network, *self._images[piece], choose)
        for cell, some in zip(cells, several, strict=True):
            flags = [may[cell].sum(axis=0) > 1 for may in pattern.values()] if some else []
            groups.setdefault(b"".join(each.tobytes() for each in flags), []).append(cell)
        return [np.array(group) for group in groups.values()]

    def _attention(
        self, batch: _Batch, asked: np.ndarray, pattern: Pattern, compare: Comparison
    ) -> np.ndarray:
        """Kinds of the asked cells, whose class is kept; each pattern's map is made once."""
        behind = {node: may for node, may in pattern.items() if node > self._network.pixels}
        seen: dict[bytes, int] = {}
        names = [b"".join(may[cell].tobytes() for may in behind.values()) for cell in asked]
        which = np.array([seen.setdefault(name, len(seen)) for name in names], int)
        first = np.unique(which, return_index=True)[1]
        kinds, room = np.full(len(asked), UNDECIDED), max(8, 2 * _ROOM // self._widest)
        for start in range(0, len(first), room):
            some = asked[first[start : start + room]]
            own = {node: may[some] for node, may in behind.items()}
            gradient, spread = values.gradients(self._network, self._label, own, len(some))
            for k in np.flatnonzero(~gradient.any(axis=1) & (spread > 0)).tolist():
                spread[k] *= not self._vanishes(own, k)
            maps, error = compare.maps(gradient, spread)
            here = np.flatnonzero((which >= start) & (which < start + room))
            row = which[here] - start
            if compare.moves:
                # A map that is exactly 0 has the largest inconsistency with any.
                nothing = (~maps.any(axis=1) & (error == 0))[row]
                kinds[here[nothing]] = ATTENTION_CHANGED if compare.threshold < MOST else ROBUST
                here, row = here[~nothing], row[~nothing]
                kinds[here] = self._moved(batch, compare, asked[here], maps, error, row)
            else:
                low, high = compare.inconsistency(maps, error, batch.piece, batch.theta[:1])
                kind = np.where(low > compare.threshold, ATTENTION_CHANGED, UNDECIDED)
                kinds[here] = np.where(high <= compare.threshold, ROBUST, kind)[row]
        return kinds

    def _vanishes(self, pattern: Pattern, row: int) -> bool:
        """Whether the gradient on a pattern is exactly 0, as far as products may be spent on it."""
        self._left -= self._network.products
        return self._left >= 0 and bool(values.vanishing(self._network, self._label, pattern, row).all())

    def _moved(
        self,
        batch: _Batch,
        compare: Comparison,
        cells: np.ndarray,
        maps: np.ndarray,
        error: np.ndarray,
        row: np.ndarray,
    ) -> np.ndarray:
        """Kinds of cells where the expected map e is affine in θ, and the map s = maps[row] is not.

        Robust is h = <s, e> - kappa |s| |e| >= 0, concave for kappa >= 0: the vertices decide. For any unit
        u, |e| >= <e, u>: if <s, e> - kappa |s| <e, u> < 0 at the vertices, h < 0 in the cell; u is along e
        about where h is largest. For kappa < 0 the same holds of -h and -s.
        """
        sign = 1.0 if compare.kappa >= 0 else -1.0
        kinds = (ROBUST, ATTENTION_CHANGED) if sign > 0 else (ATTENTION_CHANGED, ROBUST)
        kappa, size = abs(compare.kappa), np.sqrt(np.einsum("rn,rn->r", maps, maps))
        expected, away, reach = compare.expected(batch.piece, batch.theta)
        products, gram = sign * (maps @ expected.T), expected @ expected.T
        lengths = np.sqrt(gram.diagonal())
        slack = (1 + kappa) * (size[:, None] * away + error[:, None] * (reach + away))
        corners = np.diff(batch.ptr)
        slack = (slack + 6 * gamma(maps.shape[1] + corners.max()) * size[:, None] * reach) * UP
        # Nor is there a map where nothing is left of what moves.
        none = batch.every(~expected.any(axis=1) & (away == 0))[cells] & (compare.threshold < MOST)
        h = products - kappa * size[:, None] * lengths
        spots, begin, sizes = _spots(batch.ptr, cells)
        inside = np.add.reduceat(h[np.repeat(row, sizes), batch.rows[spots]], begin) > 0
        own_row = row[inside]
        batch.hold(cells[inside], lambda own, at: h[own_row[own], at] - slack[own_row[own], at])
        for count in np.unique(corners[cells[~inside & ~none]]):
            here = ~inside & ~none & (corners[cells] == count)
            some, own = cells[here], row[here]
            at = batch.rows[batch.ptr[some][:, None] + np.arange(count)]
            times, along = kappa * size[own], products[own[:, None], at]
            weight = separation(gram[at[:, :, None], at[:, None]], along, times) * times[:, None]
            batch.hold(some, _separated(gram, at, weight, (products + slack)[own]))
        sure = (batch.shrink[cells] > 0) & (size[row] > SMALL)
        kind = np.where(none, ATTENTION_CHANGED, np.where(inside, *kinds))
        return np.where(sure | (none & (batch.shrink[cells] > 0)), kind, UNDECIDED)


def _winners(batch: _Batch, hinges: Hinges) -> np.ndarray:
    """Which entries may win each window ``(M, w, N)``, the first of which does; the batch learns the rest."""
    own: np.ndarray = ~batch.any(~hinges.near)
    cell, place, column = np.nonzero(own & (own.sum(axis=1) > 1)[:, None])
    if len(
        cell
    ):  # all are near all over the cell: those go that are below the largest at the mean for certain
        total = np.add.reduceat(hinges.value[batch.rows], batch.ptr[:-1], axis=0)
        most = np.where(own, total, -np.inf).argmax(axis=1)[cell, column]
        sure = batch.factors(cell, _above(hinges, most, place, column)) == 1
        own[cell, place, column] = (place == most) | ~sure
    may = np.zeros((len(own), own.shape[1], len(hinges.winner)), bool)
    may[:, hinges.winner, np.arange(len(hinges.winner))] = True
    may[:, :, hinges.columns] = own
    none = ~np.asarray(own.any(axis=1))
    for cell in np.flatnonzero(none.any(axis=1) & ~batch.crossed):
        _mark(batch, hinges, int(cell), int(none[cell].argmax()))
    batch.crossed[:] |= none.any(axis=1)
    _settle(batch, hinges, own, np.ones(own[:, 0].shape, bool))
    return may


def _mark(batch: _Batch, hinges: Hinges, cell: int, column: int) -> None:
    """Note between which vertices of a cell, and where, two entries of a window change sides."""
    rows = batch.rows[batch.ptr[cell] : batch.ptr[cell + 1]]
    value = hinges.value[rows, :, column]
    behind = value - value.max(axis=1, keepdims=True)
    best = behind.min(axis=0).argmax()
    last = behind[:, best].argmin()
    ahead = value[:, best] - value[:, value[last].argmax()]
    first = ahead.argmax()
    if ahead[first] > 0 > ahead[last]:
        batch.cut[cell] = batch.ptr[cell] + first, batch.ptr[cell] + last
        batch.place[cell] = ahead[first] / (ahead[first] - ahead[last])


def _settle(batch: _Batch, hinges: Hinges, may: np.ndarray, asked: np.ndarray) -> None:
    """Shrink cells until in asked windows (M, k) the first entry that may win is above those that may not."""
    cell, place, column = np.nonzero(batch.any(hinges.rival) & ~may & asked[:, None])
    batch.hold(cell, _above(hinges, may.argmax(axis=1)[cell, column], place, column))


def _above(hinges: Hinges, first: np.ndarray, place: np.ndarray, column: np.ndarray) -> Least:
    """By how much the `first` entry of windows is at least above that at another place."""
    radius = hinges.radius[first, column] + hinges.radius[place, column]

    def least(own: np.ndarray, at: np.ndarray) -> np.ndarray:
        high, low = (hinges.value[at, each[own], column[own]] for each in (first, place))
        return high - low - (radius[own] + 4 * UNIT * (np.abs(high) + np.abs(low)))

    return least


def _beyond(value: np.ndarray, error: np.ndarray, plane: np.ndarray) -> Least:
    """How far vertices are at least outside of planes of a piece, given how far inside, and the errors."""
    return lambda own, at: -value[at, plane[own]] - error[at, plane[own]]


def _separated(gram: np.ndarray, at: np.ndarray, weight: np.ndarray, least: np.ndarray) -> Least:
    """By how much <e, u> is above the least ``(M, V)`` that it must be, for u a sum of the e at vertices."""
    return lambda own, rows: (gram[rows[:, None], at[own]] * weight[own]).sum(axis=1) - least[own, rows]


def _ties(batch: _Batch, gaps: Hinges, called: np.ndarray) -> list[np.ndarray]:
    """See `Examiner.ties`."""
    return _faces(batch, np.asarray(gaps.near.all(axis=1)), called)


def _faces(batch: _Batch, level: np.ndarray, called: np.ndarray) -> list[np.ndarray]:
    """The vertices of called cells at which each of the conditions ``(V, k)`` is met, where there are any."""
    return [
        batch.theta[rows[level[rows, column]]]
        for cell, column in zip(*np.nonzero(batch.any(level) & called[:, None]), strict=True)
        for rows in [batch.rows[slice(*batch.ptr[cell : cell + 2])]]
    ]


def _classes(batch: _Batch, gaps: Hinges) -> tuple[np.ndarray, np.ndarray]:
    """Cells on which the class is kept, and those on which it is lost to one and the same other class."""
    may: np.ndarray = ~batch.any(~gaps.near)
    kept, beaten = may[:, 1] & ~may[:, 0], may[:, 0] & ~may[:, 1]
    held, lost = np.asarray(kept.all(axis=1)), np.asarray(beaten.any(axis=1))
    mean = np.add.reduceat((gaps.value[:, 1] - gaps.value[:, 0])[batch.rows], batch.ptr[:-1], axis=0)
    least = np.where(beaten, mean, np.inf)
    rival = beaten & (least == least.min(axis=1, initial=np.inf, keepdims=True))
    _settle(batch, gaps, may, held[:, None] | rival)
    return held, lost
