"""What the certificate says of the whole, held against what is proven of its cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from steadygaze_check.faces import Faces
from steadygaze_check.folder import KINDS, ROBUST, UNDECIDED, Certificate, boxed, number
from steadygaze_check.points import Points
from steadygaze_check.region import Region
from steadygaze_check.tiling import Tiling

CERTIFIED, REFUTED, OPEN = "certified", "refuted", "not certified"
# A claim holds up to the unproven share, which may be this much, and this much of rounding in its numbers.
UNPROVEN, ROUNDING = 1e-6, 1e-9
# A cell of which no more than this is not proven, where it was cut up, has no gap along a line.
_CUT = 1e-9
# Points at which it is seen by exact arithmetic whether classes tie.
_LOOKED = 16
_SHARES = ("robust", "class_changed", "attention_changed", "undecided")


@dataclass
class Report:
    """Findings, one for each claim: its name, a status, and a sentence; a point that shows a refutation."""

    findings: list[tuple[str, str, str]] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    theta: list[float] | None = None

    def add(self, name: str, *cases: tuple[Any, ...]) -> None:
        """The first of the cases that is so: (whether it is so, status, sentence, perhaps a point)."""
        _, status, sentence, *theta = next(case for case in cases if case[0])
        self.findings.append((name, status, sentence))
        if theta and self.theta is None:
            self.theta = [float(each) for each in theta[0]]

    @property
    def code(self) -> int:
        """10 if a claim is refuted, else 20 if one is not certified, else 0."""
        statuses = {status for _, status, _ in self.findings}
        return 10 if REFUTED in statuses else 0 if statuses <= {CERTIFIED} else 20


class Proven(NamedTuple):
    """Kinds of all cells, which hold on the cells shrunk by factors, and on parts of a volume besides.

    And the faces of robust cells on which classes tie or maps vanish, and the numbers of the cells that such
    a face, as large as a facet, may run through.
    """

    kind: np.ndarray
    shrink: np.ndarray
    volume: np.ndarray
    ties: Faces
    torn: list[int]


class Judge:
    """Holds the claims against cells of which kinds were proven."""

    def __init__(self, certificate: Certificate, points: Points, proven: Proven, report: Report) -> None:
        kind, shrink, volume, self._tied, torn = proven
        c = self._c = certificate
        self._points, self._proven, self._tiling, self.report = points, kind, Tiling(certificate), report
        self._agreed, self._called = (kind == c.cell_kind) & (kind != UNDECIDED), c.cell_kind != UNDECIDED
        self._torn = np.isin(np.arange(len(kind)), torn)
        self._robust, self._failing = c.cell_kind == ROBUST, self._agreed & (c.cell_kind != ROBUST)
        spots, start = c.vertices[c.cell_vertex], c.cell_ptr[:-1]
        self._low, self._high = (each.reduceat(spots, start, axis=0) for each in (np.minimum, np.maximum))
        self._mean = np.add.reduceat(spots, start, axis=0) / np.diff(c.cell_ptr)[:, None]
        held = self._tiling.held(self._mean, np.where(self._agreed, shrink, 0.0))
        held = held + np.where(self._agreed, volume, 0.0)
        # What is called something and not proven to be that, or lies in no cell.
        self._gone = (self._tiling.high - held) * self._called / c.volume
        # How deep the rim is that shrinking takes off a cell, along each axis; of parts nothing is known.
        rims = self._agreed & (volume == 0)
        self._rim = np.where(rims[:, None], (1 - shrink)[:, None] * (self._high - self._low), np.inf)
        # What is not proven all along a line through it, but for a rim, or what cutting it up rounds off.
        rest = self._tiling.high - volume
        whole = self._agreed & ((shrink >= 1 - UNPROVEN) | (rest <= _CUT * volume))
        self._partly = self._robust & ~whole
        lost = self._lost(np.zeros(len(held), bool))
        self._sound, self._up_to = lost <= UNPROVEN, f"up to a share of {lost:.2e}"
        self._part = Region(boxed(c.map.get("covered"), c.dimension, "the box that is covered"))
        self._surplus = self._tiling.surplus(self._part)
        sums = np.array([held[c.cell_kind == each].sum() for each in range(3)]) * (1 - 2.0**-45)
        share = np.maximum(sums - self._surplus, 0.0) / c.volume
        self._share, self._unproven = share.tolist(), max(0.0, 1.0 - float(share.sum()))
        told = c.claims.get("nearest_failure")
        self._theta = None if told is None else np.array([number(each, "theta") for each in told["theta"]])
        known = [*c.failing, *([] if told is None else [self._theta])]
        self._fails = [each for each in known if self._kinds_at(each) in ({1}, {2}, {1, 2})]
        self._fails += list(self._mean[self._failing][:1])
        # A tie is no robust point, and no failing one.
        ties = [(each, *self._ties_at(each)) for each in c.failing]
        self._ties = [each for each, near, _ in ties if near]
        self._blocks = [*self._fails, *(each for each, _, exact in ties if exact)]

    def all(self) -> Report:
        """Every claim, in the order in which a reader asks."""
        self.report.add("tiling", (True, CERTIFIED if self._surplus < np.inf else OPEN, self._tiling.told))
        for claim in (self._kinds, self._shares, self._verdict, self._regions, self._origin, self._nearest):
            claim()
        return self.report

    def _kinds_at(self, theta: np.ndarray) -> set[int]:
        """The kinds that are found at a point, exactly; none outside of the box."""
        pieces = self._points.pieces_at(theta) if Region(self._c.box).holds(theta) else []
        return {self._points.kind(piece, theta) for piece in pieces}

    def _ties_at(self, theta: np.ndarray) -> tuple[bool, bool]:
        """Whether classes tie, or a map vanishes, at a point of the box: up to rounding, and exactly."""
        found = [self._points.ties(piece, theta) for piece in self._points.pieces_at(theta)]
        return any(near for near, _ in found), any(exact for _, exact in found)

    def _kinds(self) -> None:
        told, unknown = self._c.cell_kind, self._proven == UNDECIDED
        # What is as small as rounding may be called either way; it counts as not proven.
        counts = self._called & (self._tiling.high > ROUNDING * self._c.volume)
        wrong = np.flatnonzero((self._proven != told) & ~unknown & counts)[:1].tolist()
        doubtful = np.flatnonzero(unknown & counts)
        for cell in doubtful[np.argsort(-self._tiling.high[doubtful])][:16]:
            found = self._kinds_at(self._mean[cell])
            wrong += [cell] if len(found) == 1 and found.isdisjoint({int(told[cell]), UNDECIDED}) else []
        text = f"{int(self._agreed.sum())} of {len(told)} cells, {self._up_to}"
        self.report.add(
            "kinds",
            (wrong, REFUTED, f"cell {wrong[:1]} is not what it is called", *self._mean[wrong[:1]]),
            (True, CERTIFIED if self._sound else OPEN, text),
        )

    def _shares(self) -> None:
        told, slack = self._c.claims.get("shares") or {}, self._unproven + ROUNDING
        certified = dict(zip(_SHARES, self._share, strict=False))
        self.report.numbers |= {"certified": certified, "unproven": self._unproven}
        values = [number(told[each], "a share") for each in _SHARES if told.get(each) is not None]
        fits = values and abs(sum(values) - 1) <= ROUNDING and min(values) >= 0 and values[-1] <= slack
        near = all(s - ROUNDING <= v <= s + slack for s, v in zip(self._share, values, strict=False))
        known = self._surplus < np.inf and self._unproven - sum(values[3:]) <= UNPROVEN
        text = f"{told}; at least {certified}, unproven {self._unproven:.3e}"
        self.report.add(
            "shares",
            (len(values) < 4, OPEN, "the certificate leaves shares out"),
            (not (fits and near), REFUTED, text),
            (True, CERTIFIED if known else OPEN, text),
        )

    def _verdict(self) -> None:
        told, failing = self._c.claims.get("verdict"), int(self._failing.sum())
        sure = self._unproven <= UNPROVEN and self._robust.all()
        text = f"{told!r:.40}: {failing} failing cells, unproven {self._unproven:.2e}"
        self.report.add(
            "verdict",
            (told not in ("robust", "violated"), CERTIFIED, f"{told!r:.40} claims nothing"),
            (told == "violated", CERTIFIED if self._fails else OPEN, text),
            (self._blocks, REFUTED, text, *self._blocks[:1]),
            *(self._touched(text, Region(self._c.box)) if told == "robust" else ()),
            (True, CERTIFIED if sure else OPEN, text),
        )

    # -- regions of the box that are said to be robust

    def _apart(self, region: Region) -> np.ndarray:
        """Which cells ``(M,)`` are proven to have no point in common with a region."""
        outside = (self._low > region.box[:, 1]) | (self._high < region.box[:, 0])
        apart = np.asarray(outside.any(axis=1))
        apart[self._c.apart_cell[self._tiling.heights > region.reach(self._c.apart_normal)]] = True
        return apart

    def _is_robust(self, region: Region) -> bool:
        """Whether cells cover a region, and those that are not robust are apart from it."""
        part, apart = self._part.box, self._apart(region)
        within = bool(((part[:, 0] <= region.box[:, 0]) & (region.box[:, 1] <= part[:, 1])).all())
        robust = self._lost(apart) <= UNPROVEN and bool((self._robust | apart).all())
        robust = (
            robust and self._missing(region, apart) <= UNPROVEN and self._along(region, apart) <= ROUNDING
        )
        covered = within and self._surplus < np.inf
        return robust and (covered or self._tiling.surplus(region, apart) < np.inf)

    def _lost(self, apart: np.ndarray) -> float:
        """The share that is called something and not proven to be that, without the cells that lie apart."""
        return float(self._gone[~apart].sum()) + self._tiling.extra / self._c.volume

    def _missing(self, region: Region, apart: np.ndarray) -> float:
        """Of a region, the share that is called something and may not be proven to be that; 0 of lines.

        Of a cell's rim, no more lies in the region than twice its depth along each axis times what the
        region's box shows that axis: docs/checker.md. A ball is at least as large as the box in it.
        """
        low, high = region.box.T
        sides, cells, n = high - low, self._called & ~apart, len(low)
        thin = sides <= 2 * ROUNDING * self._c.width
        if not sides.all() or (thin.any() and not thin.all()):
            return 0.0
        whole, size = np.prod(sides), np.prod(sides) / (1 if region.axes is None else n ** (n / 2))
        through = np.minimum(self._high[cells], high) - np.maximum(self._low[cells], low)
        most = np.prod(np.maximum(through, 0.0), axis=1)
        rim = (self._rim[cells] * (2 / sides)).sum(axis=1) * whole
        lost = np.minimum(np.minimum(most, rim), self._gone[cells] * self._c.volume).sum()
        return float((lost + self._tiling.extra) / size)

    def _along(self, region: Region, apart: np.ndarray) -> float:
        """How much of a line, in widths of the box, is in cells not proven along it; 0 of other regions."""
        axes = np.flatnonzero(region.box.any(axis=1))
        if len(axes) != 1:
            return 0.0
        axis, cells = axes[0], self._partly & ~apart
        low, high = region.box[axis]
        through = np.minimum(self._high[cells, axis], high) - np.maximum(self._low[cells, axis], low)
        return float(np.maximum(through, 0.0).sum() / self._c.width[axis])

    def _touched(self, sentence: str, region: Region) -> Iterator[tuple[Any, ...]]:
        """What is to be said of a robust region that is not shown to keep off faces where nothing is."""
        met = self._tied.met(region)
        points = [each for face in met[:_LOOKED] for each in (*face, face.mean(axis=0))]
        inside = [each for each in points if region.holds(each)][:_LOOKED]
        exact = [each for each in inside if self._ties_at(each)[1]]
        yield exact, REFUTED, f"{sentence}: classes tie inside, or a map vanishes", *exact[:1]
        yield met, OPEN, f"{sentence}: classes may tie inside, or a map vanish"

    def _within(self, region: Region, known: list[np.ndarray] | None = None) -> list[np.ndarray]:
        """The points known, by default failing ones, that lie in a region."""
        return [each for each in (self._fails if known is None else known) if region.holds(each)]

    def _ends(self, region: Region, unknown: np.ndarray) -> bool:
        """Whether a region holds what fails or ties, or cells of which nothing is known reach into it."""
        met = self._within(region, [*self._fails, *self._ties])
        return bool(met) or bool((unknown & ~self._apart(region)).any())

    def _safe(self, name: str, sentence: str, region: Region, wider: list[Region]) -> None:
        """A region that is said to be robust, and wider ones that are said not to be, or to be undecided."""
        inside = self._within(region, self._blocks if region.box.any() else self._fails)
        ends = [each for each in wider if not self._ends(each, ~self._called)]
        beyond = (region.box < self._c.box[:, :1]) | (region.box > self._c.box[:, 1:])
        # Of the image itself the label is proven, and its map is the expected one.
        robust = not region.box.any() or self._is_robust(region)
        self.report.add(
            name,
            (beyond.any(), REFUTED, f"{sentence} is not within the box"),
            (inside, REFUTED, f"{sentence}: a failing point lies inside", *inside[:1]),
            *(self._touched(sentence, region) if region.box.any() else ()),
            (not robust, OPEN, f"{sentence}: it is not proven that robust cells cover it, and no others"),
            (any(map(self._is_robust, ends)), REFUTED, f"{sentence}: more than that is robust"),
            (ends, OPEN, f"{sentence}: that no more is robust is not shown"),
            (True, CERTIFIED, f"{sentence}, {self._up_to}"),
        )

    def _regions(self) -> None:
        box, scale, told = self._c.box, self._c.claims.get("safe_scale"), self._c.claims.get("radius")
        if scale is not None:
            s = number(scale, "safe_scale", 0)
            wider = [Region(box * min(1.0, s * (1 + UNPROVEN) + ROUNDING))] if s < 1 else []
            self._safe("safe scale", f"{s!r} times the box", Region(box * s * (1 - ROUNDING)), wider)
        if told is not None:
            r, norm = number(told["value"], "radius", 0), told["norm"]
            self._safe("radius", f"radius {r!r} in {norm!r:.8}", self._ball(r * (1 - ROUNDING), norm), [])

    def _ball(self, radius: float, norm: object) -> Region:
        """The points nearer than a radius in half-widths of the box."""
        half = self._c.width / 2 * radius
        box = np.clip(np.stack([-half, half], axis=1), self._c.box[:, :1], self._c.box[:, 1:])
        return Region(box, np.maximum(half, 1e-300) if norm == "l2" else None)

    # -- R0, the robust cells that hang together with those at 0

    def _origin(self) -> None:
        told, box = self._c.claims.get("origin"), self._c.box
        if told is None:
            return
        examined = not self._c.map["rest"] and told.get("interior") == "examined"
        if not examined and told.get("share") is not None:
            self.report.add("origin", (True, OPEN, "the inside of R0 was not examined"))
            return
        for axis, ends in enumerate(boxed(told.get("ranges"), len(box), "ranges")):
            # What ends it may lie beside the axis by rounding, and beyond 0 where that is its end.
            region, wider = np.zeros_like(box), np.stack([box, box]) * ROUNDING
            region[axis] = ends * (1 - ROUNDING)
            wider[[0, 1], axis, [0, 1]] += ends * (1 + UNPROVEN)
            # A radius says how far all is robust, and so does what is not complete; not that no more is.
            sides = (0, 1) if examined and told.get("complete") is not False else ()
            further = [Region(wider[side]) for side in sides if ends[side] != box[axis, side]]
            self._safe("ranges", f"parameter {axis + 1} within {ends.tolist()}", Region(region), further)
        if examined:
            self._component(number(told.get("share"), "R0", 0), told.get("complete", True))

    def _component(self, claimed: float, complete: Any) -> None:
        """R0 goes on by shared faces. What is not known to fail, and fillers, may belong to it, or not.

        What is not complete is claimed to be at least so large.
        """
        c, tiling, slack = self._c, self._tiling, self._unproven + ROUNDING
        least = tiling.part(self._robust & ~self._torn, self._tied)
        most = tiling.part(~self._failing)
        # As far as rounding goes, 0 is on the border of what fails within rounding of it, and in no part.
        at_0 = Region(c.box * ROUNDING)
        least &= bool((self._robust | self._apart(at_0)).all())
        most &= not self._within(at_0)
        low, high = (float(tiling.high[each].sum()) / c.volume for each in (least, most))
        listed = np.isin(np.arange(len(least)), c.origin_cells)
        missed = claimed > float(tiling.high[listed].sum()) / c.volume + slack
        whole = self._sound and self._surplus <= UNPROVEN * c.volume and bool((self._part.box == c.box).all())
        text = f"{int(listed.sum())} cells, {'' if complete else 'at least '}{claimed!r} of the box; "
        text += f"found are {int(least.sum())}, {low!r}"
        known = bool((listed == least).all() and (least == most).all())
        if complete is False:
            known = bool((listed <= least).all())
        else:
            missed |= bool((least & ~listed).any()) or claimed < low - slack
        near, exact = self._ties_at(np.zeros(c.dimension))
        empty, tied = claimed == 0 and not listed.any(), f"{text}; but at θ = 0 classes tie, or maps vanish"
        self.report.add(
            "R0",
            (exact, CERTIFIED if empty else REFUTED, tied),
            (near, OPEN, tied),
            (not whole, OPEN, f"{text}: not proven to be all of it"),
            (missed or claimed > high + slack, REFUTED, text),
            (not known or claimed > low + slack, OPEN, f"{text}; at most {int(most.sum())} may belong to it"),
            (True, CERTIFIED, text),
        )

    def _nearest(self) -> None:
        """The witness is replayed exactly, and no failing cell is nearer."""
        told, theta, name = self._c.claims.get("nearest_failure"), self._theta, "nearest failure"
        if told is None or theta is None:
            none = (self._fails, REFUTED, "none is told, with failing points", *self._fails[:1])
            self.report.add(name, none, (True, CERTIFIED, "none is told"))
            return
        # The cell's distance from 0, and theta's own, which lies inside the cell.
        claimed, own = (number(told[each], each, 0) for each in ("distance", "theta_distance"))
        kinds, norm, gap = self._kinds_at(theta), told["norm"], number(told["class_gap"], "class_gap")
        says = [self._points.says(p, theta, told["predicted"], gap) for p in self._points.pieces_at(theta)]
        length = float(np.linalg.norm(theta / self._c.width * 2, 2 if norm == "l2" else np.inf))
        far = abs(length - own) > ROUNDING * (1 + own) or own < claimed * (1 - ROUNDING)
        another = UNDECIDED not in kinds and told["kind"] not in {KINDS[each] for each in kinds}
        inner = self._ball(max(claimed * (1 - UNPROVEN) - ROUNDING, 0.0), norm)
        wider = self._ball(claimed * (1 + UNPROVEN) + ROUNDING, norm)
        nearer, shown, apart = self._within(inner), self._within(wider), self._apart(inner)
        near = claimed > ROUNDING and bool((self._failing & ~apart).any())
        hidden = claimed > ROUNDING and self._missing(inner, apart) > UNPROVEN
        text = f"distance {claimed!r}, replayed at {length!r}"
        self.report.add(
            name,
            (far or another or not all(says), REFUTED, f"{text}: there it is not what is claimed"),
            (len(kinds) > 1 or UNDECIDED in kinds, OPEN, f"{text}: its kind there is not decided"),
            (told.get("nearest") is False and (nearer or near), CERTIFIED, f"{text}; others may be nearer"),
            (nearer, REFUTED, f"{text}; there is a nearer one", *nearer[:1]),
            (near or hidden, OPEN, f"{text}; a nearer one is not excluded"),
            (not shown and self._is_robust(wider), REFUTED, f"{text}; no failing cell is as near"),
            (not shown, OPEN, f"{text}; that one is as near is not shown"),
            (True, CERTIFIED, f"{text}, and no failing cell is nearer"),
        )
