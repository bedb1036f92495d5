"""What is proven of each cell: by how much it has to shrink for all signs to hold, and its kind.

Everything is a function of the vertices: inside a cell every hinge is affine, so that its least value over
the convex hull of points is the least at the points, and its value at their mean is the mean of theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from steadygaze_check.arithmetic import SMALL, UNIT, UP, gamma
from steadygaze_check.folder import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST, UNDECIDED, Certificate
from steadygaze_check.maps import Comparison, Pattern, Side, gradients
from steadygaze_check.network import Affine, Largest, Network, Sum
from steadygaze_check.points import borders
from steadygaze_check.values import Form, Hinges, class_gaps, forms_of, forward

# Numbers that a batch may hold for each of its arrays of values at vertices or of gradients.
_ROOM = 1 << 21
# ``(own, rows)`` to lower bounds at rows of the vertices, of the functions numbered `own`.
Least = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(eq=False)
class _Batch:
    """Cells on the way: ``rows[ptr[k]:ptr[k + 1]]`` are the rows of the vertices ``theta`` of cell k.

    shrink: ``(M,)`` in [0, 1], the factor by which a cell is shrunk about the mean of its vertices.
    crossed: ``(M,)`` whether a unit changes its side inside the cell, beyond rounding: there is no pattern.
    """

    piece: int
    theta: np.ndarray
    rows: np.ndarray
    ptr: np.ndarray
    shrink: np.ndarray
    crossed: np.ndarray

    def any(self, flags: np.ndarray) -> np.ndarray:
        """Whether a flag ``(V, N)`` holds at any vertex of each cell: ``(M, N)``."""
        joined = np.bitwise_or.reduceat(_packed(flags)[self.rows], self.ptr[:-1], axis=0)
        return np.unpackbits(joined.view(np.uint8), axis=1, count=flags.shape[1]).astype(bool)

    def hold(self, cell: np.ndarray, least: Least) -> None:
        """Shrink cells until functions that are affine on them, one for each entry of `cell`, are above 0."""
        np.minimum.at(self.shrink, cell, self.factors(cell, least))

    def spots(self, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of all vertices of cells, one cell after another, and where each one's start."""
        sizes = np.diff(self.ptr)[cell]
        start = np.cumsum(sizes) - sizes
        return self.rows[np.repeat(self.ptr[cell] - start, sizes) + np.arange(sizes.sum())], start

    def factors(self, cell: np.ndarray, least: Least) -> np.ndarray:
        """The factor by which each function wants its cell to be shrunk.

        With lower bounds l_k at the vertices, and mean l, the shrunken vertices have ``(1 - t) l + t l_k``.
        """
        wanted = np.ones(len(cell))
        ends = np.cumsum(np.diff(self.ptr)[cell])
        for part in np.split(np.arange(len(cell)), np.flatnonzero(np.diff(ends >> 20)) + 1):
            if not len(part):
                continue
            spots, start = self.spots(cell[part])
            size = np.diff(self.ptr)[cell[part]]
            low = least(np.repeat(part, size), spots)
            worst = np.minimum.reduceat(low, start)
            mean = np.add.reduceat(low, start) / size
            mean -= (2 * size + 8) * UNIT * (np.add.reduceat(np.abs(low), start) / size)
            with np.errstate(divide="ignore", invalid="ignore"):
                part_way = np.where(mean > 0, mean / (mean - worst) * (1 - 2.0**-44), 0.0)
            wanted[part] = np.where(worst >= 0, 1.0, part_way)
        return wanted


class Examiner:
    """Proves kinds, a batch of cells at a time."""

    def __init__(self, certificate: Certificate, network: Network, comparison: Comparison) -> None:
        self._certificate, self._network, self._comparison = certificate, network, comparison
        self._label = certificate.question["label"]
        self._widest = max(node.entries for node in network.nodes)
        units = [node.entries for node in network.nodes if not isinstance(node.operation, (Affine, Sum))]
        self._room = max(2, _ROOM // max(sum(units), self._widest))
        self._forms: tuple[int, dict[int, Form]] | None = None

    def forms(self, piece: int) -> dict[int, Form]:
        """The affine start of the network on a piece of the box; the last one asked for is kept."""
        if self._forms is None or self._forms[0] != piece:
            base, directions = self._certificate.piece_base[piece], self._certificate.piece_directions[piece]
            self._forms = piece, forms_of(self._network, base, directions)
        return self._forms[1]

    def batches(self) -> Iterator[np.ndarray]:
        """Numbers of cells, each batch within one piece and small enough for the memory."""
        certificate = self._certificate
        for piece in np.unique(certificate.cell_piece[certificate.cell_piece >= 0]):
            cells = np.flatnonzero(certificate.cell_piece == piece)
            sizes = np.cumsum(np.diff(certificate.cell_ptr)[cells])
            yield from np.split(cells, np.flatnonzero(np.diff(sizes // (3 * self._room))) + 1)

    def examine(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Kinds of some cells of one piece, and by how much each is to be shrunk for that to be proven."""
        c, network = self._certificate, self._network
        sizes, count = np.diff(c.cell_ptr)[cells], len(cells)
        ptr = np.concatenate([[0], np.cumsum(sizes)])
        spots = np.repeat(c.cell_ptr[cells] - ptr[:-1], sizes) + np.arange(ptr[-1])
        used, rows = np.unique(c.cell_vertex[spots], return_inverse=True)
        theta, piece = c.vertices[used], int(c.cell_piece[cells[0]])
        batch = _Batch(piece, theta, rows.reshape(-1), ptr, np.ones(count), np.zeros(count, bool))
        logits, hinges = forward(network, self.forms(piece), theta, np.abs(c.box).max(axis=1))
        sides = [(hinge.node, self._sides(batch, hinge)) for hinge in hinges]
        held, lost = _classes(batch, class_gaps(logits, self._label))
        kind = np.where(lost, CLASS_CHANGED, UNDECIDED).astype(np.int8)
        within = borders(c, piece, theta)
        if within is None:
            batch.crossed[:] = True
        else:
            value, error = within[:2]
            cell, column = np.nonzero(batch.any(value < error))
            batch.hold(cell, lambda own, at: value[at, column[own]] - error[at, column[own]])
        asked = np.flatnonzero(held & ~batch.crossed & (batch.shrink > 0))
        if len(asked):
            kind[asked] = self._attention(batch, asked, sides)
        kind[batch.crossed | (batch.shrink <= 0)] = UNDECIDED
        return kind, np.where(kind == UNDECIDED, 0.0, batch.shrink)

    def _sides(self, batch: _Batch, hinge: Hinges) -> Side:
        """The sides of a node's units on each cell; the batch learns what is lost."""
        operation = self._network.nodes[hinge.node].operation
        if isinstance(operation, Largest):
            return _winners(batch, hinge, operation.width)
        above, below = _signs(batch, hinge)
        choice, doubt = np.tile(hinge.above, (len(above), 1)), np.zeros((len(above), len(hinge.above)), bool)
        choice[:, hinge.columns], doubt[:, hinge.columns] = above, ~above & ~below
        return Side(choice, doubt)

    def _attention(self, batch: _Batch, asked: np.ndarray, sides: list[tuple[int, Side]]) -> np.ndarray:
        """Kinds of the asked cells, whose class is kept; each pattern's map is made once."""
        parts = [part for _, side in sides for part in (side.choice, side.open)]
        seen: dict[bytes, int] = {}
        names = [b"".join(part[cell].tobytes() for part in parts) for cell in asked]
        which = np.array([seen.setdefault(name, len(seen)) for name in names])
        first = np.unique(which, return_index=True)[1]
        kinds, compare = np.full(len(asked), UNDECIDED, np.int8), self._comparison
        room = max(8, 2 * _ROOM // self._widest)
        for start in range(0, len(first), room):
            some = asked[first[start : start + room]]
            pattern: Pattern = {
                node: Side(side.choice[some], side.open[some])
                for node, side in sides
                if node > self._network.pixels
            }
            maps, error = compare.maps(*gradients(self._network, self._label, pattern, len(some)))
            here = np.flatnonzero((which >= start) & (which < start + room))
            row = which[here] - start
            if compare.moves:
                kinds[here] = self._moved(batch, asked[here], maps, error, row)
            else:
                low, high = compare.inconsistency(maps, error, batch.piece, batch.theta[:1])
                kind = np.where(low > compare.threshold, ATTENTION_CHANGED, UNDECIDED)
                kinds[here] = np.where(high <= compare.threshold, ROBUST, kind)[row]
        return kinds

    def _moved(
        self, batch: _Batch, cells: np.ndarray, maps: np.ndarray, error: np.ndarray, row: np.ndarray
    ) -> np.ndarray:
        """Kinds of cells where the expected map e is affine in θ, and the map s = maps[row] is not.

        Robust is h = <s, e> - kappa |s| |e| >= 0, concave for kappa >= 0: the vertices decide.
        |e| >= <e, u> for any unit u: if <s, e> - kappa |s| <e, u> < 0 at the vertices, h < 0 in the cell.
        """
        kappa, size = self._comparison.kappa, np.sqrt(np.einsum("rn,rn->r", maps, maps))
        if kappa < 0:
            return np.full(len(cells), UNDECIDED)
        expected, away, reach = self._comparison.expected(batch.piece, batch.theta)
        products, lengths = maps @ expected.T, np.sqrt(np.einsum("bn,bn->b", expected, expected))
        slack = (1 + kappa) * (size[:, None] * away + error[:, None] * (reach + away))
        slack = (slack + 4 * gamma(maps.shape[1]) * size[:, None] * reach) * UP
        h = products - kappa * size[:, None] * lengths
        spots, begin = batch.spots(cells)
        sizes = np.diff(batch.ptr)[cells]
        robust = np.add.reduceat(h[np.repeat(row, sizes), spots], begin) > 0
        own_row = row[robust]
        batch.hold(cells[robust], lambda own, at: h[own_row[own], at] - slack[own_row[own], at])
        failing = np.flatnonzero(~robust)
        best, their_row = np.zeros(len(failing)), row[failing]
        # Unit vectors are tried from the map at each vertex; the one that proves most is kept.
        for k in range(int(sizes[failing].max(initial=0))):
            vertex = spots[begin[failing] + np.minimum(k, sizes[failing] - 1)]
            with np.errstate(divide="ignore", invalid="ignore"):
                unit = np.nan_to_num(expected[vertex] / lengths[vertex, None] * (1 - 2.0**-40))

            def least(own: np.ndarray, at: np.ndarray, unit: np.ndarray = unit) -> np.ndarray:
                length, which = np.einsum("kn,kn->k", expected[at], unit[own]), their_row[own]
                return kappa * size[which] * length - products[which, at] - slack[which, at]

            best = np.maximum(best, batch.factors(cells[failing], least))
        np.minimum.at(batch.shrink, cells[failing], best)
        sure = (batch.shrink[cells] > 0) & (size[row] > SMALL)
        return np.where(sure, np.where(robust, ROBUST, ATTENTION_CHANGED), UNDECIDED)


def _packed(flags: np.ndarray) -> np.ndarray:
    """Flags ``(R, N)`` as bits of words: uint64 with zeros at the end."""
    bits = np.packbits(flags, axis=1)
    words = np.zeros((len(bits), -(-bits.shape[1] // 8)), np.uint64)
    words.view(np.uint8)[:, : bits.shape[1]] = bits
    return words


def _signs(batch: _Batch, hinge: Hinges) -> tuple[np.ndarray, np.ndarray]:
    """Which hinges are above 0, and which below, on each cell ``(M, k)``; cells with both are crossed."""
    above, below = batch.any(~hinge.close & (hinge.value > 0)), batch.any(~hinge.close & (hinge.value < 0))
    batch.crossed |= (above & below).any(axis=1)
    cell, column = np.nonzero(batch.any(hinge.close) & (above ^ below))
    sign = np.where(above[cell, column], 1.0, -1.0)
    batch.hold(cell, lambda own, at: sign[own] * hinge.value[at, column[own]] - hinge.radius[at, column[own]])
    return above, below


def _winners(batch: _Batch, hinge: Hinges, width: int) -> Side:
    """The winner of each window: the first that may be the largest at all vertices of a cell."""
    may, able = ~batch.any(~hinge.close), np.zeros(hinge.close.shape[1], bool)
    able[hinge.columns] = True
    may &= able
    windows = may.reshape(len(may), -1, width)
    choice = windows.argmax(axis=2)
    batch.crossed |= np.logical_not(windows.any(axis=2)).any(axis=1)
    behind = batch.any(hinge.value < 0).reshape(windows.shape)
    troubled = np.broadcast_to(np.take_along_axis(behind, choice[:, :, None], axis=2), windows.shape)
    cell, column = np.nonzero((batch.any(hinge.close) | troubled.reshape(may.shape)) & ~may & able)
    first = column - column % width + choice[cell, column // width]

    def least(own: np.ndarray, at: np.ndarray) -> np.ndarray:
        winner, rival = hinge.value[at, first[own]], hinge.value[at, column[own]]
        return winner - rival - hinge.radius[at, column[own]] - 4 * UNIT * (np.abs(winner) + np.abs(rival))

    batch.hold(cell, least)
    return Side(choice, windows.sum(axis=2) > 1)


def _classes(batch: _Batch, gaps: Hinges) -> tuple[np.ndarray, np.ndarray]:
    """Cells on which the class is kept, and those on which it is lost to one and the same other class."""
    above, below = batch.any(~gaps.close & (gaps.value > 0)), batch.any(~gaps.close & (gaps.value < 0))
    beaten = np.asarray(below & ~above)
    held, lost = np.asarray((above & ~below).all(axis=1)), np.asarray(beaten.any(axis=1))
    mean = np.add.reduceat(gaps.value[batch.rows], batch.ptr[:-1], axis=0)
    rival = np.where(beaten, mean, np.inf).argmin(axis=1)
    near = batch.any(gaps.close)
    beating = lost[:, None] & (np.arange(near.shape[1]) == rival[:, None])
    for asked, sign in ((held[:, None], 1.0), (beating, -1.0)):
        cell, column = np.nonzero(near & asked)

        def least(
            own: np.ndarray, at: np.ndarray, sign: float = sign, column: np.ndarray = column
        ) -> np.ndarray:
            return sign * gaps.value[at, column[own]] - gaps.radius[at, column[own]]

        batch.hold(cell, least)
    return held, lost
