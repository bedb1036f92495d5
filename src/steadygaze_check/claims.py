"""What the certificate says of the whole, held against what is proven of its cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from steadygaze_check.folder import KINDS, ROBUST, UNDECIDED, Certificate, boxed, number
from steadygaze_check.points import Points
from steadygaze_check.tiling import Region, Tiling

CERTIFIED, REFUTED, OPEN = "certified", "refuted", "not certified"
# A claim holds up to the unproven share, which may be this much, and this much of rounding in its numbers.
UNPROVEN, ROUNDING = 1e-6, 1e-9
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


class Judge:
    """Holds the claims against cells whose kinds were examined: `kind` holds on cells shrunk by `shrink`."""

    def __init__(
        self, certificate: Certificate, points: Points, kind: np.ndarray, shrink: np.ndarray, report: Report
    ) -> None:
        c = self._c = certificate
        self._points, self._proven, self._tiling, self.report = points, kind, Tiling(certificate), report
        self._agreed, self._called = (kind == c.cell_kind) & (kind != UNDECIDED), c.cell_kind != UNDECIDED
        self._robust, self._failing = c.cell_kind == ROBUST, self._agreed & (c.cell_kind != ROBUST)
        spots, start = c.vertices[c.cell_vertex], c.cell_ptr[:-1]
        self._low, self._high = (each.reduceat(spots, start, axis=0) for each in (np.minimum, np.maximum))
        self._mean = np.add.reduceat(spots, start, axis=0) / np.diff(c.cell_ptr)[:, None]
        held = self._tiling.held(self._mean, np.where(self._agreed, shrink, 0.0))
        # What is called something and not proven to be that, or lies in no cell.
        lost = float((self._tiling.high - held)[self._called].sum() + self._tiling.extra) / c.volume
        self._sound, self._up_to = lost <= UNPROVEN, f"up to a share of {lost:.2e}"
        self._part = Region(boxed(c.map.get("covered"), c.dimension, "the box that is covered"))
        self._covers = self._tiling.covers(self._part)
        sums = np.array([held[c.cell_kind == each].sum() for each in range(3)]) * (1 - 2.0**-45)
        share = np.maximum(sums - self._tiling.surplus(self._part), 0.0) / c.volume * self._covers
        self._share, self._unproven = share.tolist(), max(0.0, 1.0 - float(share.sum()))
        told = c.claims.get("nearest_failure") or {}
        self._theta = [np.array([number(x, "theta") for x in told["theta"]])] if "theta" in told else []
        self._fails = [
            each for each in [*c.failing, *self._theta] if self._kinds_at(each) in ({1}, {2}, {1, 2})
        ]

    def all(self) -> Report:
        """Every claim, in the order in which a reader asks."""
        self.report.add("tiling", (True, CERTIFIED if self._covers else OPEN, self._tiling.told))
        for claim in (
            self._kinds,
            self._shares,
            self._verdict,
            self._safe_regions,
            self._origin,
            self._nearest,
        ):
            claim()
        return self.report

    def _kinds_at(self, theta: np.ndarray) -> set[int]:
        """The kinds that are found at a point, exactly; none outside of the box."""
        inside = len(theta) == self._c.dimension and Region(self._c.box).holds(theta)
        return {self._points.kind(each, theta) for each in self._points.pieces_at(theta)} if inside else set()

    def _kinds(self) -> None:
        told, doubtful = self._c.cell_kind, np.flatnonzero((self._proven == UNDECIDED) & self._called)
        wrong = np.flatnonzero((self._proven != told) & (self._proven != UNDECIDED) & self._called)[
            :1
        ].tolist()
        for cell in doubtful[np.argsort(-self._tiling.high[doubtful])][:16]:
            found = self._kinds_at(self._mean[cell])
            wrong += [cell] if len(found) == 1 and found.isdisjoint({told[cell], UNDECIDED}) else []
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
        fits = (
            len(values) == 4 and abs(sum(values) - 1) <= ROUNDING and min(values) >= 0 and values[3] <= slack
        )
        near = all(s - ROUNDING <= v <= s + slack for s, v in zip(self._share, values, strict=False))
        known = fits and self._covers and self._unproven - values[3] <= UNPROVEN
        text = ", ".join(f"{name} {value!r}" for name, value in zip(_SHARES, values, strict=False))
        self.report.add(
            "shares",
            (len(values) < 4, OPEN, "the certificate leaves shares out"),
            (not (fits and near), REFUTED, f"{text}; proven are {certified}"),
            (True, CERTIFIED if known else OPEN, f"{text}, each within {self._unproven:.2e}"),
        )

    def _verdict(self) -> None:
        told, failing = self._c.claims.get("verdict"), [*self._fails, *self._mean[self._failing][:1]]
        cells, sure = int(self._failing.sum()), self._unproven <= UNPROVEN and self._robust.all()
        self.report.add(
            "verdict",
            (told not in ("robust", "violated"), CERTIFIED, f"{told!r:.40} claims nothing"),
            (told == "violated", CERTIFIED if failing else OPEN, f"violated: {cells} failing cells"),
            (failing, REFUTED, "called robust, with failing points", *failing[:1]),
            (True, CERTIFIED if sure else OPEN, f"robust, up to {self._unproven:.2e} of the box"),
        )

    # -- regions of the box that are said to be robust

    def _apart(self, region: Region) -> np.ndarray:
        """Which cells ``(M,)`` are proven to have no point in common with a region."""
        apart = (self._low > region.box[:, 1]).any(axis=1) | (self._high < region.box[:, 0]).any(axis=1)
        apart[self._c.apart_cell[self._tiling.heights > region.reach(self._c.apart_normal)]] = True
        return apart

    def _is_robust(self, region: Region) -> bool:
        """Whether cells cover a region, and those that are not robust are apart from it."""
        part, box, apart = self._part.box, region.box, self._apart(region)
        within = self._covers and (part[:, 0] <= box[:, 0]).all() and (box[:, 1] <= part[:, 1]).all()
        robust = self._sound and bool((self._robust | apart).all())
        return robust and (within or self._tiling.covers(region, apart))

    def _within(self, region: Region) -> list[np.ndarray]:
        """The failing points known that lie in a region."""
        return [each for each in self._fails if region.holds(each)]

    def _safe(self, name: str, region: Region, wider: list[Region], sentence: str) -> None:
        """A region that is said to be robust, and wider ones that are said not to be, or to be undecided."""
        inside = self._within(region)
        ends = [r for r in wider if not (self._within(r) or (~self._called & ~self._apart(r)).any())]
        # Of the image itself the label is proven, and its map is the expected one.
        robust = not region.box.any() or self._is_robust(region)
        self.report.add(
            name,
            (inside, REFUTED, f"{sentence}: a failing point lies inside", *inside[:1]),
            (not robust, OPEN, f"{sentence}: the robust cells are not proven to cover it, and no others"),
            (any(map(self._is_robust, ends)), REFUTED, f"{sentence}: more than that is robust"),
            (ends, OPEN, f"{sentence}: that no more is robust is not shown"),
            (True, CERTIFIED, f"{sentence}, {self._up_to}"),
        )

    def _safe_regions(self) -> None:
        box, scale, told = self._c.box, self._c.claims.get("safe_scale"), self._c.claims.get("radius")
        if scale is not None:
            s = number(scale, "safe_scale", 0, 1)
            wider = [Region(box * min(1.0, s * (1 + UNPROVEN) + ROUNDING))] if s < 1 else []
            self._safe("safe scale", Region(box * s * (1 - ROUNDING)), wider, f"{scale!r} times the box")
        if told is not None:
            ball = self._ball(number(told["value"], "radius", 0) * (1 - ROUNDING), told["norm"])
            self._safe("radius", ball, [], f"radius {told['value']!r} in {told['norm']!r:.8}")

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
        if self._c.map.get("rest") or told.get("interior") != "examined":
            self.report.add("origin", (True, OPEN, "the inside of R0 was not examined"))
            return
        for axis, ends in enumerate(boxed(told.get("ranges"), len(box), "ranges")):
            region, wider = np.zeros_like(box), np.zeros((2, *box.shape))
            region[axis] = np.clip(ends, *box[axis]) * (1 - ROUNDING)
            wider[[0, 1], axis, [0, 1]] = ends * (1 + UNPROVEN) + ROUNDING * box[axis]
            beyond = [Region(wider[side]) for side in (0, 1) if ends[side] != box[axis, side]]
            self._safe("ranges", Region(region), beyond, f"parameter {axis + 1} within {ends.tolist()}")
        self._component(told.get("share"))

    def _component(self, claimed: Any) -> None:
        """R0 goes on through shared faces. What fillers lead to may belong to it, or may not."""
        c, count, pairs = self._c, len(self._robust), self._tiling.pairs
        at, listed, fillers = (
            ~self._apart(Region(0 * c.box)),
            np.zeros(count, bool),
            np.zeros(len(c.simplices), bool),
        )
        listed[c.origin_cells] = True
        parts = []
        for goes_on in (np.append(self._robust, fillers), np.append(self._robust, ~fillers)):
            own, part = pairs[goes_on[pairs].all(axis=1)], np.append(at & self._robust[at].all(), fillers)
            while (meets := part[own].any(axis=1) & ~part[own].all(axis=1)).any():
                part[own[meets]] = True
            parts.append(part[:count])
        whole = self._sound and self._covers and bool((self._part.box == c.box).all())
        share = float(self._tiling.high[parts[0]].sum()) / c.volume
        near = (
            claimed is not None and abs(number(claimed, "share of R0") - share) <= self._unproven + ROUNDING
        )
        own = pairs[np.append(self._robust, fillers)[pairs].all(axis=1)]
        sentence = f"R0 is {int(parts[0].sum())} cells, {share!r} of the box"
        self.report.add(
            "R0",
            (not whole, OPEN, f"{sentence}: not proven to be all of it"),
            (
                (listed[own[:, 0]] != listed[own[:, 1]]).any(),
                REFUTED,
                f"{sentence}; it goes on beyond what is claimed",
            ),
            (
                (parts != listed).any(),
                OPEN,
                f"{sentence} through shared faces; claimed are {int(listed.sum())} cells",
            ),
            (True, CERTIFIED if near else REFUTED, f"{sentence}; claimed is a share of {claimed!r}"),
        )

    def _nearest(self) -> None:
        """The witness is replayed exactly, and no failing cell is nearer."""
        told, failing = self._c.claims.get("nearest_failure"), [*self._mean[self._failing][:1], *self._fails]
        if not self._theta:
            if failing:
                self.report.add(
                    "nearest failure", (True, REFUTED, "none is told, with failing points", failing[0])
                )
            return
        theta, norm, claimed = self._theta[0], told.get("norm"), number(told["distance"], "distance", 0)
        # The cell's distance from 0, and theta's own, which lies inside the cell.
        own = number(told.get("theta_distance", claimed), "theta_distance")
        gap = None if told.get("class_gap") is None else number(told["class_gap"], "class_gap")
        kinds = self._kinds_at(theta)
        pieces = self._points.pieces_at(theta) if kinds else []
        says = all(self._points.says(each, theta, told.get("predicted"), gap) for each in pieces)
        length = (
            float(np.linalg.norm(theta / self._c.width * 2, 2 if norm == "l2" else np.inf)) if pieces else 0.0
        )
        far = abs(length - own) > ROUNDING * (1 + own) or own < claimed * (1 - ROUNDING)
        another = UNDECIDED not in kinds and told.get("kind") not in {KINDS[each] for each in kinds}
        inner, wider = (
            self._ball(claimed * (1 - UNPROVEN), norm),
            self._ball(claimed * (1 + UNPROVEN) + ROUNDING, norm),
        )
        nearer, sentence = self._within(inner), f"distance {claimed!r}, replayed"
        self.report.add(
            "nearest failure",
            (not pieces, REFUTED, "its theta does not lie in the box"),
            (
                far,
                REFUTED,
                f"its theta is at {length!r}; claimed is {own!r}, in a cell at {claimed!r}",
                theta,
            ),
            (
                another or not says,
                REFUTED,
                "at its theta the kind, the class or its gap is another one",
                theta,
            ),
            (len(kinds) > 1 or UNDECIDED in kinds, OPEN, "its kind at its theta is not decided"),
            (nearer, REFUTED, f"{sentence}; there is a nearer one", *nearer[:1]),
            ((self._failing & ~self._apart(inner)).any(), OPEN, f"{sentence}; a nearer one is not excluded"),
            (self._is_robust(wider), REFUTED, f"no failing cell is as near as {claimed!r}"),
            (not self._within(wider), OPEN, f"{sentence}; that one is as near is not shown"),
            (True, CERTIFIED, f"{sentence}, and no failing cell is nearer"),
        )
