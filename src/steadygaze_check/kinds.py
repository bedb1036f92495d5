"""What is proven of each cell: by how much it has to shrink for all signs to hold, and its kind.

Everything is a function of the vertices: inside a cell every hinge is affine, so that its least value over
the
convex hull of points is the least at the points, and its value at the mean of the vertices is the mean of
theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from steadygaze_check.balls import Form, Hinges, class_gaps, forms_of, forward
from steadygaze_check.folder import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST, UNDECIDED, Certificate
from steadygaze_check.maps import Comparison, Pattern, Side, gradients
from steadygaze_check.network import SMALL, UNIT, UP, Clip, Largest, Rectifier, gamma
from steadygaze_check.onnx_reader import Network
from steadygaze_check.points import borders

# Numbers that a batch may hold for each of its arrays of values at vertices or of gradients.
_ROOM = 1 << 21


@dataclass(frozen=True, eq=False)
class Proven:
    """What is proven of cells.

    Attributes:
        kind: ``(M,)`` int8: the kind on the shrunken cell; UNDECIDED where none is proven.
        shrink: ``(M,)`` in [0, 1]: the factor t by which the cell is shrunk about the mean of its vertices.
        crossed: ``(M,)`` bool: a unit changes its side inside the cell, beyond rounding: there is no pattern.
        name: ``(M,)`` uint64: equal for equal patterns; 0 where a side is open. Cells of different names,
        not 0,
            are disjoint where their signs are proven.
    """

    kind: np.ndarray
    shrink: np.ndarray
    crossed: np.ndarray
    name: np.ndarray


class Examiner:
    """Proves kinds, a batch of cells at a time."""

    def __init__(self, certificate: Certificate, network: Network, comparison: Comparison) -> None:
        self._certificate, self._network, self._comparison = certificate, network, comparison
        self._reach = np.abs(certificate.box).max(axis=1)
        self._forms: tuple[int, dict[int, Form]] | None = None
        self.widest = max(node.entries for node in network.nodes)
        self.units = sum(
            node.entries for node in network.nodes if isinstance(node.operation, (Rectifier, Clip, Largest))
        )
        draw = np.random.default_rng(20260101)
        self._mix = draw.integers(1, 1 << 62, 1 << 16, dtype=np.uint64) * np.uint64(2) + np.uint64(1)

    def forms(self, piece: int) -> dict[int, Form]:
        """The affine start of the network on a piece of the box; the last one asked for is kept."""
        if self._forms is None or self._forms[0] != piece:
            base, directions = self._certificate.piece_base[piece], self._certificate.piece_directions[piece]
            self._forms = piece, forms_of(self._network, base, directions)
        return self._forms[1]

    def batches(self) -> Iterator[np.ndarray]:
        """Numbers of cells, each batch within one piece and small enough for the memory."""
        certificate = self._certificate
        room = max(2, _ROOM // max(self.units, self.widest))
        for piece in np.unique(certificate.cell_piece[certificate.cell_piece >= 0]):
            cells = np.flatnonzero(certificate.cell_piece == piece)
            sizes = np.cumsum(np.diff(certificate.cell_ptr)[cells])
            yield from np.split(cells, np.flatnonzero(np.diff(sizes // (3 * room))) + 1)

    def examine(self, cells: np.ndarray) -> Proven:
        """What is proven of some cells of one piece."""
        certificate, network = self._certificate, self._network
        starts, sizes = certificate.cell_ptr[cells], np.diff(certificate.cell_ptr)[cells]
        ptr = np.concatenate([[0], np.cumsum(sizes)])
        spots = np.repeat(starts - ptr[:-1], sizes) + np.arange(ptr[-1])
        used, idx = np.unique(certificate.cell_vertex[spots], return_inverse=True)
        piece = int(certificate.cell_piece[cells[0]])
        balls, hinges = forward(network, self.forms(piece), certificate.vertices[used], self._reach)
        frame = _Frame(idx, ptr, np.ones(len(cells)), np.zeros(len(cells), bool))
        pattern: Pattern = {}
        packed = []
        for hinge in hinges:
            side, bits = self._sides(frame, hinge)
            packed.append(bits)
            if hinge.node > network.pixels:
                pattern[hinge.node] = side
        gaps = class_gaps(balls[network.last], certificate.question["label"])
        held, lost = self._classes(frame, gaps)
        names = (
            self._names(frame, np.concatenate(packed, axis=1)) if packed else np.ones(len(cells), np.uint64)
        )
        kind = np.where(lost, CLASS_CHANGED, UNDECIDED).astype(np.int8)
        sides = borders(certificate, piece, certificate.vertices[used])
        if sides is None:
            frame.crossed[:] = True
        else:
            self._within(frame, sides[0], sides[1])
        asked = np.flatnonzero(held & ~frame.crossed & (frame.shrink > 0))
        if len(asked):
            kind[asked] = self._attention(frame, asked, pattern, names, certificate.vertices[used], piece)
        kind[frame.crossed | (frame.shrink <= 0)] = UNDECIDED
        shrink = np.where(frame.crossed | (kind == UNDECIDED), 0.0, frame.shrink)
        closed = np.ones(len(cells), bool)
        for side in pattern.values():
            closed &= ~side.open.any(axis=1)
        return Proven(kind, shrink, frame.crossed, np.where(closed, names, np.uint64(0)))

    # -- units

    def _sides(self, frame: _Frame, hinge: Hinges) -> tuple[Side, np.ndarray]:
        """The sides of a node's units on each cell, and as packed bits; the frame learns what is lost."""
        operation = self._network.nodes[hinge.node].operation
        if isinstance(operation, Largest):
            return self._winners(frame, hinge, operation.width)
        above, below = self._signs(frame, hinge)
        open_ = ~(above | below | hinge.level)
        whole = np.tile(hinge.fixed > 0, (len(above), 1))
        whole[:, hinge.columns] = above
        doubt = np.zeros_like(whole)
        doubt[:, hinge.columns] = open_
        bits = np.concatenate([np.packbits(whole, axis=1), np.packbits(doubt, axis=1)], axis=1)
        if isinstance(operation, Clip):
            half = whole.shape[1] // 2
            return Side(whole[:, :half] & ~whole[:, half:], doubt[:, :half] | doubt[:, half:]), bits
        return Side(whole, doubt), bits

    def _signs(self, frame: _Frame, hinge: Hinges) -> tuple[np.ndarray, np.ndarray]:
        """Which hinges are above 0, and which below, on each cell ``(M, N)``; cells with both are crossed."""
        clear = ~hinge.close
        above = frame.any(clear & (hinge.value > 0))
        below = frame.any(clear & (hinge.value < 0))
        frame.crossed |= (above & below).any(axis=1)
        cell, column = np.nonzero(frame.any(hinge.close) & (above ^ below) & ~hinge.level)
        sign = np.where(above[cell, column], 1.0, -1.0)

        def least(own: np.ndarray, spots: np.ndarray) -> np.ndarray:
            return sign[own] * hinge.value[spots, column[own]] - hinge.radius[spots, column[own]]

        frame.hold(cell, least)
        return above, below

    def _winners(self, frame: _Frame, hinge: Hinges, width: int) -> tuple[Side, np.ndarray]:
        """The winner of each window: the first that may be the largest at all vertices of a cell."""
        near = frame.any(hinge.close)
        may = ~frame.any(~hinge.close)
        windows = may.reshape(len(may), -1, width)
        choice = windows.argmax(axis=2)
        frame.crossed |= ~windows.any(axis=2).all(axis=1)
        open_ = windows.sum(axis=2) > 1
        behind = frame.any(hinge.value < 0).reshape(windows.shape)
        troubled = np.take_along_axis(behind, choice[:, :, None], axis=2)
        cell, column = np.nonzero((near | np.broadcast_to(troubled, windows.shape).reshape(may.shape)) & ~may)
        first = column - column % width + choice[cell, column // width]

        def least(own: np.ndarray, spots: np.ndarray) -> np.ndarray:
            winner, rival = hinge.value[spots, first[own]], hinge.value[spots, column[own]]
            rounding = 4 * UNIT * (np.abs(winner) + np.abs(rival))
            return winner - rival - hinge.radius[spots, column[own]] - rounding

        frame.hold(cell, least)
        bits = np.concatenate([np.packbits(may, axis=1), np.packbits(open_, axis=1)], axis=1)
        return Side(choice, open_), bits

    def _within(self, frame: _Frame, value: np.ndarray, error: np.ndarray) -> None:
        """Shrink cells into the piece, whose borders are where the values ``(V, F)`` are 0."""
        cell, column = np.nonzero(frame.any(value < error))
        frame.hold(cell, lambda own, spots: value[spots, column[own]] - error[spots, column[own]])

    # -- classes and maps

    def _classes(self, frame: _Frame, gaps: Hinges) -> tuple[np.ndarray, np.ndarray]:
        """Cells on which the class is kept, and those on which it is lost to one and the same other class."""
        clear = ~gaps.close
        above, below = frame.any(clear & (gaps.value > 0)), frame.any(clear & (gaps.value < 0))
        held = (above & ~below).all(axis=1)
        beaten = below & ~above
        lost = beaten.any(axis=1)
        mean = np.add.reduceat(gaps.value[frame.idx], frame.ptr[:-1], axis=0)
        rival = np.where(beaten, mean, np.inf).argmin(axis=1)
        near = frame.any(gaps.close)
        for own, sign in ((near & held[:, None], 1.0), (near & _only(rival, lost, near.shape[1]), -1.0)):
            cell, column = np.nonzero(own)

            def least(
                own: np.ndarray, spots: np.ndarray, sign: float = sign, column: np.ndarray = column
            ) -> np.ndarray:
                return sign * gaps.value[spots, column[own]] - gaps.radius[spots, column[own]]

            frame.hold(cell, least)
        return held, lost

    def _attention(
        self,
        frame: _Frame,
        asked: np.ndarray,
        pattern: Pattern,
        names: np.ndarray,
        theta: np.ndarray,
        piece: int,
    ) -> np.ndarray:
        """Kinds of the asked cells, whose class is kept; each pattern's map is made once."""
        _, first, which = np.unique(names[asked], return_index=True, return_inverse=True)
        kinds = np.full(len(asked), UNDECIDED, np.int8)
        room = max(8, 2 * _ROOM // self.widest)
        compare = self._comparison
        for start in range(0, len(first), room):
            rows = asked[first[start : start + room]]
            own = {node: side.take(rows) for node, side in pattern.items()}
            gradient, spread = gradients(self._network, self._certificate.question["label"], own, len(rows))
            maps, error = compare.maps(gradient, spread)
            here = np.flatnonzero((which >= start) & (which < start + room))
            row = which[here] - start
            if compare.moved:
                kinds[here] = self._moved(frame, asked[here], maps, error, row, theta, piece)
                continue
            low, high = compare.inconsistency(maps, error, piece)
            part = np.where(high <= compare.threshold, ROBUST, UNDECIDED)
            kinds[here] = np.where(low > compare.threshold, ATTENTION_CHANGED, part)[row]
        return kinds

    def _moved(
        self, frame: _Frame, cells: np.ndarray, maps: np.ndarray, error: np.ndarray, row: np.ndarray,
        theta: np.ndarray, piece: int,
    ) -> np.ndarray:  # fmt: skip
        """Kinds of cells where the expected map e is affine in θ, and the map s of the region, `row` of
        maps, is not.

        Robust is h = <s, e> - kappa |s| |e| >= 0, concave for kappa >= 0: the vertices decide.
        |e| >= <e, u> for any unit u: if <s, e> - kappa |s| <e, u> < 0 at the vertices, h < 0 in the cell.
        """
        compare = self._comparison
        expected, away, reach = compare.cones(piece, theta)
        kappa, size = compare.kappa, np.sqrt(np.einsum("rn,rn->r", maps, maps))
        if kappa < 0:
            return np.full(len(cells), UNDECIDED)
        products, lengths = maps @ expected.T, np.sqrt(np.einsum("bn,bn->b", expected, expected))
        slack = (1 + kappa) * (size[:, None] * away + error[:, None] * (reach + away))
        slack = (slack + 4 * gamma(maps.shape[1]) * size[:, None] * reach) * UP
        starts, sizes = frame.ptr[cells], np.diff(frame.ptr)[cells]
        spots = frame.idx[np.repeat(starts - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())]
        begin = np.cumsum(sizes) - sizes
        rows = np.repeat(row, sizes)
        h = products[rows, spots] - kappa * size[rows] * lengths[spots]
        robust = np.add.reduceat(h, begin) > 0
        frame.hold(
            cells[robust],
            lambda own, at: (
                products[row[robust][own], at]
                - kappa * size[row[robust][own]] * lengths[at]
                - slack[row[robust][own], at]
            ),
        )
        failing = np.flatnonzero(~robust)
        best = np.zeros(len(failing))
        # Unit vectors are tried from the map at each vertex; the one that proves most is kept.
        for k in range(int(sizes[failing].max(initial=0))):
            at_vertex = spots[begin[failing] + np.minimum(k, sizes[failing] - 1)]
            with np.errstate(divide="ignore", invalid="ignore"):
                unit = np.nan_to_num(expected[at_vertex] / lengths[at_vertex, None] * (1 - 2.0**-40))

            def least(own: np.ndarray, at: np.ndarray, unit: np.ndarray = unit) -> np.ndarray:
                length = np.einsum("kn,kn->k", expected[at], unit[own])
                which = row[failing][own]
                return kappa * size[which] * length - products[which, at] - slack[which, at]

            best = np.maximum(best, frame.factors(cells[failing], least))
        np.minimum.at(frame.shrink, cells[failing], best)
        sure = (frame.shrink[cells] > 0) & (size[row] > SMALL)
        return np.where(sure, np.where(robust, ROBUST, ATTENTION_CHANGED), UNDECIDED)

    def _names(self, frame: _Frame, bits: np.ndarray) -> np.ndarray:
        """A number for each row of bytes: equal ones for equal rows; a row that differs from another of its
        number is
        given up as crossed."""
        words = np.zeros((len(bits), -(-bits.shape[1] // 8)), np.uint64)
        words.view(np.uint8)[:, : bits.shape[1]] = bits
        mixed = np.zeros(len(bits), np.uint64)
        for start in range(0, words.shape[1], len(self._mix)):
            part = words[:, start : start + len(self._mix)]
            part = part ^ (part >> np.uint64(29))
            mixed += ((part * self._mix[: part.shape[1]]) ^ (part >> np.uint64(31))).sum(
                axis=1, dtype=np.uint64
            )
            mixed *= np.uint64(0x9E3779B97F4A7C15)
        _, first, which = np.unique(mixed, return_index=True, return_inverse=True)
        frame.crossed |= (words != words[first[which]]).any(axis=1)
        return np.where(mixed == 0, np.uint64(1), mixed)


def _only(column: np.ndarray, rows: np.ndarray, width: int) -> np.ndarray:
    out = np.zeros((len(rows), width), bool)
    out[rows, column[rows]] = True
    return out


@dataclass(eq=False)
class _Frame:
    """A batch of cells on the way: ``idx[ptr[k]:ptr[k + 1]]`` are the rows of the vertices of cell k."""

    idx: np.ndarray
    ptr: np.ndarray
    shrink: np.ndarray
    crossed: np.ndarray

    def any(self, flags: np.ndarray) -> np.ndarray:
        """Whether a flag ``(V, N)`` holds at any vertex of each cell: ``(M, N)``."""
        bits = np.packbits(flags, axis=1)
        words = np.zeros((len(bits), -(-bits.shape[1] // 8)), np.uint64)
        words.view(np.uint8)[:, : bits.shape[1]] = bits
        joined = np.bitwise_or.reduceat(words[self.idx], self.ptr[:-1], axis=0)
        return np.unpackbits(joined.view(np.uint8), axis=1, count=flags.shape[1]).astype(bool)

    def hold(self, cell: np.ndarray, least: object) -> None:
        """Shrink cells until functions that are affine on them, one for each entry of `cell`, are above 0."""
        np.minimum.at(self.shrink, cell, self.factors(cell, least))

    def factors(self, cell: np.ndarray, least: object) -> np.ndarray:
        """The factor by which each function wants its cell to be shrunk.

        ``least(own, spots)`` gives lower bounds at rows `spots` of the vertices, of the functions numbered
        `own`.
        With lower bounds l_k at the m vertices, mean l at their mean, the shrunken vertices have the bounds
        ``(1 - t) mean + t l_k``.
        """
        sizes, wanted = np.diff(self.ptr)[cell], np.ones(len(cell))
        room = 1 << 20
        ends = np.cumsum(sizes)
        for part in (
            np.split(np.arange(len(cell)), np.flatnonzero(np.diff(ends // room)) + 1) if len(cell) else []
        ):
            size = sizes[part]
            start = np.concatenate([[0], np.cumsum(size)[:-1]])
            own = np.repeat(part, size)
            spots = self.idx[np.repeat(self.ptr[cell[part]] - start, size) + np.arange(len(own))]
            low = least(own, spots)  # type: ignore[operator]
            worst = np.minimum.reduceat(low, start)
            mean = np.add.reduceat(low, start) / size
            mean -= (2 * size + 8) * UNIT * (np.add.reduceat(np.abs(low), start) / size)
            with np.errstate(divide="ignore", invalid="ignore"):
                part_way = np.where(mean > 0, mean / (mean - worst) * (1 - 2.0**-44), 0.0)
            wanted[part] = np.where(worst >= 0, 1.0, part_way)
        return wanted
