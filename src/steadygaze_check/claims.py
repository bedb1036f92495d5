"""What the certificate says of the whole, held against what is proven of its cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from steadygaze_check.folder import KINDS, ROBUST, UNDECIDED, Certificate, number
from steadygaze_check.points import Points
from steadygaze_check.regions import Region, separated
from steadygaze_check.tiling import Tiling, odd_somewhere

CERTIFIED, REFUTED, OPEN = "certified", "refuted", "not certified"
# A claim holds up to the unproven share, which may be this much, and this much of rounding in its numbers.
UNPROVEN, ROUNDING = 1e-6, 1e-9


@dataclass
class Report:
    """Findings, one for each claim: its name, a status, and a sentence."""

    findings: list[tuple[str, str, str]] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    theta: list[float] | None = None

    def add(self, name: str, status: str, sentence: str, theta: np.ndarray | None = None) -> None:
        """One more finding; `theta` is a point that shows a refutation."""
        self.findings.append((name, status, sentence))
        if theta is not None and self.theta is None:
            self.theta = [float(each) for each in theta]

    @property
    def code(self) -> int:
        """10 if a claim is refuted, else 20 if one is not certified, else 0."""
        statuses = {status for _, status, _ in self.findings}
        return 10 if REFUTED in statuses else 0 if statuses <= {CERTIFIED} else 20


class Judge:
    """Holds the claims against cells whose kinds were examined: `kind` holds on cells shrunk by `shrink`."""

    def __init__(
        self, certificate: Certificate, points: Points, tiling: Tiling, kind: np.ndarray, shrink: np.ndarray
    ) -> None:
        c = self._c = certificate
        self._points, self._tiling, self._proven, self._shrink = points, tiling, kind, shrink
        self.report = Report()
        self._agreed = (kind == c.cell_kind) & (kind != UNDECIDED)
        self._blocked = np.flatnonzero(c.cell_kind != ROBUST)
        self._failing = np.flatnonzero(self._agreed & (c.cell_kind != ROBUST))
        spots, start = c.vertices[c.cell_vertex], c.cell_ptr[:-1]
        self._low, self._high = (each.reduceat(spots, start, axis=0) for each in (np.minimum, np.maximum))
        self._mean = np.add.reduceat(spots, start, axis=0) / np.diff(c.cell_ptr)[:, None]
        kept, called = np.where(self._agreed, shrink**c.dimension, 0.0), c.cell_kind != UNDECIDED
        self._twice = tiling.twice / c.volume
        if tiling.covers:
            held = tiling.volume * kept * (1 - 2.0**-40) / c.volume
            self._share = [float(held[c.cell_kind == each].sum()) for each in range(3)]
            self._open = float(tiling.volume[~called].sum()) / c.volume
            self._unproven = max(0.0, 1.0 - sum(self._share)) + self._twice
            self._lost = self._unproven - self._open
        else:
            # Nothing is known of the whole; what is lost of cells that are called something counts with their
            # bounding boxes.
            self._share, self._open, self._unproven = [0.0, 0.0, 0.0], 0.0, 1.0
            around = np.prod(self._high - self._low, axis=1) / c.volume
            self._lost = float((around * (1 - kept))[called].sum()) + tiling.extra / c.volume
        self._slack = self._unproven + ROUNDING

    def all(self) -> Report:
        """Every claim, in the order in which a reader asks."""
        covers = CERTIFIED if self._tiling.covers else OPEN
        self.report.add("tiling", covers, self._tiling.why)
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

    def _kinds(self) -> None:
        called = self._c.cell_kind != UNDECIDED
        wrong = np.flatnonzero((self._proven != self._c.cell_kind) & (self._proven != UNDECIDED) & called)
        doubtful = np.flatnonzero((self._proven == UNDECIDED) & called)
        for cell in [*wrong[:8], *doubtful[np.argsort(-self._tiling.volume[doubtful])][:16]]:
            told = int(self._c.cell_kind[cell])
            found = self._points.kind(int(self._c.cell_piece[cell]), self._mean[cell])
            if found not in (told, UNDECIDED):
                sentence = f"cell {cell} is called {KINDS[told]}; at a point inside it is {KINDS[found]}"
                self.report.add("kinds", REFUTED, sentence, self._mean[cell])
                return
        status = CERTIFIED if self._lost <= UNPROVEN and not len(wrong) else OPEN
        sentence = (
            f"{int(self._agreed.sum())} of {len(self._agreed)} cells, up to a share of {self._lost:.2e}"
        )
        self.report.add("kinds", status, sentence)

    def _shares(self) -> None:
        told = self._c.claims.get("shares") or {}
        names = ("robust", "class_changed", "attention_changed", "undecided")
        self.report.numbers["certified"] = dict(zip(names[:3], self._share, strict=True))
        self.report.numbers["unproven"] = self._unproven
        values = [number(told[each], "a share") for each in names if told.get(each) is not None]
        if len(values) < 4:
            self.report.add("shares", OPEN, "the certificate leaves shares out")
            return
        fits = abs(sum(values) - 1) <= ROUNDING and min(values) >= 0 and values[3] <= self._slack
        for share, value in zip(self._share, values, strict=False):
            fits &= share - self._twice - ROUNDING <= value <= share + self._slack
        known = self._unproven - values[3] <= UNPROVEN and self._tiling.covers
        status = (CERTIFIED if known else OPEN) if fits else REFUTED
        text = ", ".join(f"{name} {value!r}" for name, value in zip(names, values, strict=True))
        self.report.add("shares", status, f"{text}, each within {self._unproven:.2e}")

    def _verdict(self) -> None:
        told, failing = self._c.claims.get("verdict"), self._failing
        if told == "robust" and len(failing):
            self.report.add("verdict", REFUTED, "called robust, with failing cells", self._mean[failing[0]])
        elif told == "robust":
            sure = self._tiling.covers and self._unproven <= UNPROVEN and not len(self._blocked)
            text = f"robust, up to {self._unproven:.2e} of the box"
            self.report.add("verdict", CERTIFIED if sure else OPEN, text)
        elif told == "violated":
            status = CERTIFIED if len(failing) else OPEN
            self.report.add("verdict", status, f"violated: {len(failing)} failing cells")
        else:
            self.report.add("verdict", CERTIFIED, f"{told!r:.40} claims nothing")

    # -- regions of the box that are said to be robust

    def _safe_regions(self) -> None:
        box, claims = self._c.box, self._c.claims
        if claims.get("safe_scale") is not None:
            scale = number(claims["safe_scale"], "safe_scale")
            if not 0 <= scale <= 1:
                self.report.add("safe scale", REFUTED, f"{scale!r} is not within 0 and 1")
                return
            wider = [Region(box * min(1.0, scale * (1 + UNPROVEN) + ROUNDING))] if scale < 1 else []
            self._safe("safe scale", Region(box * scale * (1 - ROUNDING)), wider, f"{scale!r} times the box")
        told = claims.get("radius")
        if isinstance(told, dict):
            value, norm = number(told.get("value"), "radius"), told.get("norm")
            region = self._ball(value * (1 - ROUNDING), norm)
            self._safe("radius", region, [], f"radius {value!r} in {norm!r:.8}")

    def _ball(self, radius: float, norm: object) -> Region:
        """The points nearer than a radius in half-widths of the box."""
        half = self._c.width / 2 * radius
        box = np.clip(np.stack([-half, half], axis=1), self._c.box[:, :1], self._c.box[:, 1:])
        return Region(box, np.maximum(half, 1e-300) if norm == "l2" else None)

    def _meeting(self, region: Region, cells: np.ndarray) -> np.ndarray:
        """Those of the cells that are not proven to be apart from the region."""
        low, high = self._low[cells], self._high[cells]
        near = cells[((low <= region.box[:, 1]) & (high >= region.box[:, 0])).all(axis=1)]
        return np.array(
            [k for k in near if not region.misses(self._c.corners(int(k)), self._c.width)], np.int64
        )

    def _covered(self, region: Region) -> bool:
        """Whether the cells cover a region, of which all but next to nothing of what they are called holds.

        As for the whole box: facets left over that do not meet the region's inside do not matter.
        """
        if self._lost > UNPROVEN or self._tiling.covers:
            return self._lost <= UNPROVEN
        facets = self._c.vertices[self._tiling.outer]
        if not all(region.misses(facet, self._c.width) for facet in facets):
            return False
        return odd_somewhere(self._c.vertices[self._tiling.simplices], region.core)

    def _safe(self, name: str, region: Region, wider: list[Region], sentence: str) -> None:
        """A region that is said to be robust, and wider ones, if any, that are said not to be."""
        met = self._meeting(region, self._blocked)
        if len(met):
            theta = self._failing_within(region, met[:1])
            status, why = OPEN, f"cell {met[0]}, which is not robust, is not proven to lie outside"
            if theta is not None:
                status, why = REFUTED, "a failing point lies inside"
            self.report.add(name, status, f"{sentence}: {why}", theta)
        elif not self._covered(region):
            self.report.add(name, OPEN, f"{sentence}: the cells are not proven to cover it")
        elif not all(len(self._meeting(each, self._blocked)) for each in wider):
            self.report.add(name, REFUTED, f"{sentence}: more than that is robust")
        else:
            self.report.add(name, CERTIFIED, f"{sentence}, up to a share of {self._lost + self._open:.2e}")

    def _failing_within(self, region: Region, cells: np.ndarray) -> np.ndarray | None:
        """A point of one of these cells that lies in a region and is not robust, if one is found."""
        for cell in cells[self._agreed[cells]]:
            inside = self._mean[cell] + self._shrink[cell] * (self._c.corners(int(cell)) - self._mean[cell])
            for theta in inside[region.holds(inside)][:4]:
                if self._points.kind(int(self._c.cell_piece[cell]), theta) not in (ROBUST, UNDECIDED):
                    return theta
        return None

    # -- R0, the robust cells that hang together with those at 0

    def _origin(self) -> None:
        told, box = self._c.claims.get("origin"), self._c.box
        if not isinstance(told, dict):
            return
        if self._c.map.get("rest") or told.get("interior") != "examined":
            self.report.add("origin", OPEN, "the inside of R0 was not examined")
            return
        for axis, pair in enumerate(told.get("ranges") or []):
            fine = isinstance(pair, list) and len(pair) == 2 and axis < len(box)
            ends = [number(each, "a range") for each in pair] if fine else [1.0, 0.0]
            if not (fine and box[axis, 0] <= ends[0] <= 0 <= ends[1] <= box[axis, 1]):
                self.report.add("ranges", REFUTED, f"the range {pair!r:.60} is not one around 0 in the box")
                return
            region, wider = np.zeros_like(box), []
            region[axis] = np.array(ends) * (1 - ROUNDING)
            for side in (0, 1):
                if ends[side] != box[axis, side]:
                    wider.append(Region(np.zeros_like(box)))
                    wider[-1].box[axis, side] = ends[side] * (1 + UNPROVEN) + ROUNDING * box[axis, side]
            sentence = f"parameter {axis + 1} from {ends[0]!r} to {ends[1]!r}"
            self._safe("ranges", Region(region), wider, sentence)
        self._component(told.get("share"))

    def _component(self, claimed: Any) -> None:
        c, robust = self._c, self._c.cell_kind == ROBUST
        at = np.flatnonzero(((self._low <= 0) & (self._high >= 0)).all(axis=1))
        at = np.array([k for k in at if not separated(c.corners(int(k)) / c.width)], np.int64)
        part, listed = np.zeros(len(robust), bool), np.zeros(len(robust), bool)
        part[at], listed[c.origin_cells] = bool(len(at)) and robust[at].all(), True
        pairs = self._tiling.neighbours
        pairs = pairs[robust[pairs].all(axis=1)]
        while (meets := part[pairs].any(axis=1) & ~part[pairs].all(axis=1)).any():
            part[pairs[meets]] = True
        share = float(self._tiling.volume[part].sum()) / c.volume
        sentence = f"R0 is {int(part.sum())} cells, {share!r} of the box"
        more = not (part & ~listed).any() and (listed & robust).sum() > part.sum()
        if claimed is None or not self._tiling.covers or self._lost > UNPROVEN:
            self.report.add("R0", OPEN, f"{sentence}: not proven to be all of it")
        elif more and not self._tiling.conforms:
            self.report.add("R0", OPEN, f"{sentence} through whole facets; other ways are not looked at")
        elif abs(number(claimed, "share of R0") - share) > self._slack or (listed != part).any():
            self.report.add("R0", REFUTED, f"{sentence}; claimed are {int(listed.sum())} cells, {claimed!r}")
        else:
            self.report.add("R0", CERTIFIED, sentence)

    def _nearest(self) -> None:
        """The witness is replayed exactly, and no failing cell is nearer."""
        told, failing, box = self._c.claims.get("nearest_failure"), self._failing, self._c.box
        if not isinstance(told, dict):
            if len(failing):
                at = self._mean[failing[0]]
                self.report.add("nearest failure", REFUTED, "none is told, with failing cells", at)
            return
        predicted = told.get("predicted")
        given: Any = told.get("theta")
        fits = isinstance(given, list) and len(given) == len(box)
        theta = np.array([number(each, "theta") for each in given] if fits else box[:, 1] * 2 + 1)
        # The cell's distance from 0, and theta's own, which lies inside the cell.
        claimed = number(told.get("distance"), "distance")
        own = number(told.get("theta_distance", claimed), "theta_distance")
        gap = None if told.get("class_gap") is None else number(told["class_gap"], "class_gap")
        inside = ((box[:, 0] <= theta) & (theta <= box[:, 1])).all()
        order = 2 if told.get("norm") == "l2" else np.inf
        length = float(np.linalg.norm(theta / self._c.width * 2, order))
        pieces = self._points.pieces_at(theta) if inside else []
        kinds = {self._points.kind(piece, theta) for piece in pieces}
        wrong = [
            (not inside, "its theta does not lie in the box"),
            (
                abs(length - own) > ROUNDING * (1 + own) or own < claimed * (1 - ROUNDING),
                f"its theta is at distance {length!r}; claimed are {own!r}, in a cell at {claimed!r}",
            ),
            (
                len(kinds) == 1
                and UNDECIDED not in kinds
                and [KINDS[k] for k in kinds] != [told.get("kind")],
                "at its theta the kind is another one",
            ),
            (
                bool(pieces) and not self._points.says(pieces[0], theta, predicted, gap),
                "its class or class gap is another one",
            ),
        ]
        for is_wrong, sentence in wrong:
            if is_wrong:
                self.report.add("nearest failure", REFUTED, sentence, theta if inside else None)
                return
        if len(kinds) != 1 or UNDECIDED in kinds:
            self.report.add("nearest failure", OPEN, "its kind at its theta is not decided")
            return
        norm = told.get("norm")
        inner = self._ball(claimed * (1 - UNPROVEN), norm)
        near = self._meeting(inner, failing)
        wider = self._ball(claimed * (1 + UNPROVEN) + ROUNDING, norm)
        nearer = self._failing_within(inner, near)
        sentence = f"distance {claimed!r}, replayed"
        if nearer is not None:
            self.report.add("nearest failure", REFUTED, f"{sentence}; there is a nearer one", nearer)
        elif len(near):
            self.report.add("nearest failure", OPEN, f"{sentence}; a nearer one is not excluded")
        elif self._tiling.covers and self._lost <= UNPROVEN and not len(self._meeting(wider, failing)):
            self.report.add("nearest failure", REFUTED, f"no failing cell is as near as {claimed!r}")
        else:
            self.report.add("nearest failure", CERTIFIED, f"{sentence}, and no failing cell is nearer")
