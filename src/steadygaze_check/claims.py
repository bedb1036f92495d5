"""What the certificate says of the whole, held against what is proven of its cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from steadygaze_check.folder import (
    ATTENTION_CHANGED,
    CLASS_CHANGED,
    KINDS,
    ROBUST,
    UNDECIDED,
    Certificate,
    number,
)
from steadygaze_check.points import Points
from steadygaze_check.tiling import Tiling, volumes

CERTIFIED, REFUTED, OPEN = "certified", "refuted", "not certified"
# A claim holds up to the unproven share, which may be this much, and up to this much of rounding in its
# numbers.
UNPROVEN, ROUNDING = 1e-6, 1e-9
# How much farther than its cell a witness may be, which keeps off the border: this share of the distance.
_INSIDE = 1e-2
# Of so many cells of one pattern it is found out, where no cover is proven, whether they are disjoint.
_GROUP = 4096


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
    """Holds the claims against cells whose kinds were examined."""

    def __init__(
        self, certificate: Certificate, points: Points, kind: np.ndarray, shrink: np.ndarray, name:
        np.ndarray,
        tiling: Tiling, report: Report,
    ) -> None:  # fmt: skip
        self._c, self._points, self._report = certificate, points, report
        self._tiling = tiling
        self._proven, self._shrink = kind, shrink
        claimed = certificate.cell_kind
        self._agreed = (kind == claimed) & (kind != UNDECIDED)
        self._mean = _means(certificate)
        volume, twice = (tiling.volume, tiling.twice) if tiling.covers else _apart(certificate, name, shrink)
        held = volume * shrink**certificate.dimension * (1 - 2.0**-40) / certificate.volume
        self._share = [float(held[self._agreed & (claimed == each)].sum()) for each in range(3)]
        self._twice = twice / certificate.volume
        self.unproven = float(max(0.0, 1.0 - sum(self._share)) + self._twice)
        undecided = claimed == UNDECIDED
        if tiling.covers:
            self._open = float(tiling.volume[undecided].sum()) / certificate.volume
            self._lost = self.unproven - self._open
        else:
            # Nothing is known of the whole; cells that are called something count with all their bounding
            # box.
            low, high = self._bounds
            around = np.prod(high - low, axis=1) / certificate.volume
            self._open = 0.0
            self._lost = float(around[~self._agreed & ~undecided].sum())
        self._slack = self.unproven + ROUNDING

    def all(self) -> Report:
        """Every claim, in the order in which a reader asks."""
        self._kinds()
        self._shares()
        self._verdict()
        self._scale()
        self._radius()
        self._origin()
        self._nearest()
        return self._report

    def _kinds(self) -> None:
        wrong = np.flatnonzero((self._proven != self._c.cell_kind) & (self._proven != UNDECIDED)
                               & (self._c.cell_kind != UNDECIDED))  # fmt: skip
        doubtful = np.flatnonzero((self._proven == UNDECIDED) & (self._c.cell_kind != UNDECIDED))
        size = self._tiling.volume[doubtful]
        suspects = [*wrong[:8], *doubtful[np.argsort(-size)][:16]]
        for cell in suspects:
            told = int(self._c.cell_kind[cell])
            found = self._points.kind(int(self._c.cell_piece[cell]), self._mean[cell])
            if found not in (told, UNDECIDED):
                sentence = f"cell {cell} is called {KINDS[told]}; at a point inside it is {KINDS[found]}"
                self._report.add("kinds", REFUTED, sentence, self._mean[cell])
                return
        status = CERTIFIED if self._lost <= UNPROVEN and not len(wrong) else OPEN
        sentence = (
            f"{int(self._agreed.sum())} of {len(self._agreed)} cells; unproven share {self.unproven:.2e}"
        )
        if self._open:
            sentence += f", of which {self._open:.2e} is called undecided"
        self._report.add("kinds", status, sentence)

    def _shares(self) -> None:
        told = self._c.claims.get("shares") or {}
        names = ("robust", "class_changed", "attention_changed")
        self._report.numbers["certified"] = dict(zip(names, self._share, strict=True))
        self._report.numbers["unproven"] = self.unproven
        values = [told.get(each) for each in (*names, "undecided")]
        if any(each is None for each in values):
            self._report.add("shares", OPEN, "the certificate leaves shares out")
            return
        values = [number(each, "a share") for each in values]
        fits = abs(sum(values) - 1) <= ROUNDING and min(values) >= 0 and values[3] <= self._slack
        for share, value in zip(self._share, values, strict=False):
            fits &= share - self._twice - ROUNDING <= value <= share + self._slack
        text = ", ".join(f"{n} {v!r}" for n, v in zip((*names, "undecided"), values, strict=True))
        if not fits:
            self._report.add(
                "shares", REFUTED, f"claimed {text}; certified {self._share}, unproven {self.unproven:.2e}"
            )
        else:
            known = self.unproven - values[3] <= UNPROVEN
            self._report.add(
                "shares", CERTIFIED if known else OPEN, f"{text}, each within {self.unproven:.2e}"
            )

    def _failing(self) -> np.ndarray:
        return np.flatnonzero(self._agreed & (self._c.cell_kind != ROBUST))

    def _verdict(self) -> None:
        told = self._c.claims.get("verdict")
        failing = self._failing()
        if told == "robust":
            if len(failing):
                self._report.add(
                    "verdict", REFUTED, "called robust, with failing cells", self._mean[failing[0]]
                )
            else:
                sure = (
                    self._tiling.covers and self.unproven <= UNPROVEN and (self._c.cell_kind == ROBUST).all()
                )
                self._report.add(
                    "verdict", CERTIFIED if sure else OPEN, f"robust, up to {self.unproven:.2e} of the box"
                )
        elif told == "violated":
            self._report.add(
                "verdict", CERTIFIED if len(failing) else OPEN, f"violated: {len(failing)} failing cells"
            )
        else:
            self._report.add("verdict", CERTIFIED, f"{told!r:.40} claims nothing")

    # -- regions of the box that are said to be robust

    def _meeting(self, region: np.ndarray, blocked: np.ndarray) -> np.ndarray:
        """Those of the blocked cells that are not proven to be apart from the box `region` ``(n, 2)``."""
        c, width = self._c, self._c.box[:, 1] - self._c.box[:, 0]
        corners = np.stack(np.meshgrid(*region, indexing="ij"), axis=-1).reshape(-1, c.dimension)
        corners = np.unique(corners, axis=0)
        low, high = self._bounds
        near = blocked[((low[blocked] <= region[:, 1]) & (high[blocked] >= region[:, 0])).all(axis=1)]
        met = []
        for cell in near:
            points = self._points_of(cell) / width
            differences = (points[:, None] - corners / width).reshape(-1, len(width))
            # Where the two nearly touch, the direction between them is found more surely a little apart.
            apart = any(
                separated(differences, (points[:, None] - shrunk * corners / width).reshape(-1, len(width)))
                for shrunk in (1.0, 1 - 1e-6, 1 - 1e-4, 1 - 1e-2)
            )
            met += [] if apart else [cell]
        return np.array(met, np.int64)

    @property
    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        spots = self._c.vertices[self._c.cell_vertex]
        start = self._c.cell_ptr[:-1]
        return np.minimum.reduceat(spots, start, axis=0), np.maximum.reduceat(spots, start, axis=0)

    def _points_of(self, cell: int) -> np.ndarray:
        c = self._c
        return c.vertices[c.cell_vertex[c.cell_ptr[cell] : c.cell_ptr[cell + 1]]]

    def _safe(self, name: str, region: np.ndarray, wider: np.ndarray | None, sentence: str) -> None:
        """A box that is said to be robust, and a wider one, if any, that is said not to be."""
        blocked = np.flatnonzero(self._c.cell_kind != ROBUST)
        for cell in self._meeting(region, blocked):
            inside = self._mean[cell] + self._shrink[cell] * (self._points_of(cell) - self._mean[cell])
            inside = inside[((region[:, 0] <= inside) & (inside <= region[:, 1])).all(axis=1)]
            for theta in inside[:4] if self._agreed[cell] else []:
                if self._points.kind(int(self._c.cell_piece[cell]), theta) in (
                    CLASS_CHANGED,
                    ATTENTION_CHANGED,
                ):
                    self._report.add(name, REFUTED, f"{sentence}: a failing point lies inside", theta)
                    return
            self._report.add(
                name, OPEN, f"{sentence}: cell {cell}, which is not robust, is not proven to lie outside"
            )
            return
        complete = self._tiling.covers and self._lost <= UNPROVEN
        if not complete:
            self._report.add(name, OPEN, f"{sentence}: the cells are not proven to cover the box")
        elif wider is not None and not len(self._meeting(wider, blocked)):
            self._report.add(name, REFUTED, f"{sentence}: more than that is robust")
        else:
            self._report.add(name, CERTIFIED, f"{sentence}, up to a share of {self.unproven:.2e}")

    def _scale(self) -> None:
        told = self._c.claims.get("safe_scale")
        if told is None:
            return
        scale = number(told, "safe_scale")
        if not 0 <= scale <= 1:
            self._report.add("safe scale", REFUTED, f"{scale!r} is not within 0 and 1")
            return
        box = self._c.box
        wider = box * min(1.0, scale * (1 + UNPROVEN) + ROUNDING) if scale < 1 else None
        self._safe("safe scale", box * scale * (1 - ROUNDING), wider, f"{scale!r} times the box")

    def _radius(self) -> None:
        told = self._c.claims.get("radius")
        if not isinstance(told, dict):
            return
        norm, value = told.get("norm"), number(told.get("value"), "radius")
        half = (self._c.box[:, 1] - self._c.box[:, 0]) / 2
        if norm == "linf":
            region = np.clip(np.stack([-half, half], axis=1) * value, self._c.box[:, :1], self._c.box[:, 1:])
            self._safe("radius", region * (1 - ROUNDING), None, f"radius {value!r} in linf")
            return
        blocked = np.flatnonzero(self._c.cell_kind != ROBUST)
        near = self._within(blocked, value * (1 - ROUNDING), half, 2)
        complete = self._tiling.covers and self._lost <= UNPROVEN
        status = CERTIFIED if not near and complete and norm == "l2" else OPEN
        self._report.add("radius", status, f"radius {value!r} in {norm!r:.8}")

    def _origin(self) -> None:
        told = self._c.claims.get("origin")
        if not isinstance(told, dict):
            return
        if self._c.map.get("rest") or told.get("interior") != "examined":
            self._report.add("origin", OPEN, "the inside of R0 was not examined")
            return
        for axis, pair in enumerate(told.get("ranges") or []):
            if not isinstance(pair, list) or len(pair) != 2 or axis >= self._c.dimension:
                self._report.add(
                    "ranges", REFUTED, "the ranges are not pairs of numbers, one for each parameter"
                )
                return
            ends = [number(each, "a range") for each in pair]
            region, wider = np.zeros((2, self._c.dimension, 2))
            region[axis] = np.array(ends) * (1 - ROUNDING)
            if not self._c.box[axis, 0] <= ends[0] <= 0 <= ends[1] <= self._c.box[axis, 1]:
                self._report.add("ranges", REFUTED, f"the range {pair} is not one around 0 in the box")
                continue
            sentence = f"parameter {axis + 1} from {ends[0]!r} to {ends[1]!r}"
            self._safe("ranges", region, None, sentence)
            for side in (0, 1):
                if ends[side] != self._c.box[axis, side] and self._report.findings[-1][1] == CERTIFIED:
                    wider = np.zeros((self._c.dimension, 2))
                    wider[axis, side] = ends[side] * (1 + UNPROVEN) + ROUNDING * self._c.box[axis, side]
                    if not len(self._meeting(wider, np.flatnonzero(self._c.cell_kind != ROBUST))):
                        self._report.add("ranges", REFUTED, f"{sentence}: more than that is robust")
        self._component(told)

    def _component(self, told: dict[str, Any]) -> None:
        """R0: the robust cells that hang together, through facets, with those at 0."""
        low, high = self._bounds
        at = np.flatnonzero(((low <= 0) & (high >= 0)).all(axis=1))
        width = self._c.box[:, 1] - self._c.box[:, 0]
        at = np.array([k for k in at if not separated(self._points_of(k) / width)], np.int64)
        robust = self._c.cell_kind == ROBUST
        part = np.zeros(len(robust), bool)
        if len(at) and robust[at].all():
            part[at] = True
            pairs = self._tiling.neighbours
            pairs = pairs[robust[pairs].all(axis=1)]
            while True:
                meets = part[pairs].any(axis=1) & ~part[pairs].all(axis=1)
                if not meets.any():
                    break
                part[pairs[meets]] = True
        share = float(self._tiling.volume[part].sum()) / self._c.volume
        claimed = told.get("share")
        listed = np.zeros(len(robust), bool)
        listed[self._c.origin_cells] = True
        sentence = f"R0 is {int(part.sum())} cells, {share!r} of the box"
        sure = self._tiling.covers and self._lost <= UNPROVEN
        if claimed is None or not sure:
            self._report.add("R0", OPEN, f"{sentence}: not proven to be all of it")
        elif (
            (part & ~listed).sum() == 0 and (listed & robust).sum() > part.sum() and not self._tiling.conforms
        ):
            self._report.add(
                "R0", OPEN, f"{sentence} through whole facets; how others hang together is not proven"
            )
        elif abs(number(claimed, "share of R0") - share) > self._slack or (listed != part).any():
            self._report.add("R0", REFUTED, f"{sentence}; claimed are {int(listed.sum())} cells, {claimed!r}")
        else:
            self._report.add("R0", CERTIFIED, sentence)

    def _nearest(self) -> None:
        told = self._c.claims.get("nearest_failure")
        failing = self._failing()
        if not isinstance(told, dict):
            if len(failing):
                self._report.add(
                    "nearest failure", REFUTED, "none is told, with failing cells", self._mean[failing[0]]
                )
            return
        theta = told.get("theta")
        fine = isinstance(theta, list) and len(theta) == self._c.dimension
        theta = (
            np.array([number(each, "theta") for each in theta])
            if fine
            else np.full(self._c.dimension, np.inf)
        )
        if not ((self._c.box[:, 0] <= theta) & (theta <= self._c.box[:, 1])).all():
            self._report.add("nearest failure", REFUTED, "its theta does not lie in the box")
            return
        half = (self._c.box[:, 1] - self._c.box[:, 0]) / 2
        order = 2 if told.get("norm") == "l2" else np.inf
        length = float(np.linalg.norm(theta / half, order))
        claimed = number(told.get("distance"), "distance")
        pieces = self._points.pieces_at(theta)
        kinds = {self._points.kind(piece, theta) for piece in pieces}
        if not claimed * (1 - ROUNDING) <= length <= claimed * (1 + _INSIDE) + ROUNDING:
            self._report.add(
                "nearest failure", REFUTED, f"its distance is {length!r}, claimed is {claimed!r}", theta
            )
        elif len(kinds) != 1 or kinds == {UNDECIDED}:
            self._report.add("nearest failure", OPEN, "its kind at its theta is not decided")
        elif kinds != {KINDS.index(told["kind"]) if told.get("kind") in KINDS else -1}:
            self._report.add("nearest failure", REFUTED, f"at its theta it is {KINDS[kinds.pop()]}", theta)
        elif not self._points.says(pieces[0], theta, told.get("predicted"), told.get("class_gap")):
            self._report.add("nearest failure", REFUTED, "its class or class gap is another one", theta)
        else:
            self._nearer(failing, claimed, half, order)

    def _nearer(self, failing: np.ndarray, claimed: float, half: np.ndarray, order: float) -> None:
        """Whether a failing cell is nearer than the witness, which keeps a little off the cell's border."""
        inner = claimed * (1 - UNPROVEN)
        near = self._within(failing, inner, half, order)
        complete = self._tiling.covers and self._lost <= UNPROVEN
        if (
            complete
            and not len(near)
            and not len(self._within(failing, claimed * (1 + UNPROVEN) + ROUNDING, half, order))
        ):
            self._report.add("nearest failure", REFUTED, f"no failing cell is as near as {claimed!r}")
            return
        for cell in near:
            inside = self._mean[cell] + self._shrink[cell] * (self._points_of(cell) - self._mean[cell])
            lengths = np.linalg.norm(inside / half, order, axis=1)
            theta = inside[lengths.argmin()]
            if lengths.min() < inner and self._points.kind(int(self._c.cell_piece[cell]), theta) in (1, 2):
                self._report.add(
                    "nearest failure", REFUTED, f"one at distance {lengths.min()!r} is nearer", theta
                )
                return
        told = "replayed" + ("" if len(near) else ", and no failing cell is nearer")
        self._report.add("nearest failure", OPEN if len(near) else CERTIFIED, f"distance {claimed!r}, {told}")

    def _within(self, cells: np.ndarray, reach: float, half: np.ndarray, order: float) -> list[int]:
        """Those of the cells that are not proven to be farther from 0 than `reach`, in half-widths."""
        if order == 2:
            return [int(k) for k in cells if distance(self._points_of(k) / half) < reach]
        region = np.clip(np.stack([-half, half], axis=1) * reach, self._c.box[:, :1], self._c.box[:, 1:])
        return self._meeting(region, cells).tolist()


def separated(points: np.ndarray, others: np.ndarray | None = None) -> bool:
    """Whether the convex hull of points ``(m, n)`` is proven not to contain 0: all lie beyond a plane.

    The plane is looked for with `others`, if given.
    """
    across = _nearest_to_zero(points if others is None else others)
    slack = (len(across) + 4) * 2.0**-50 * float((np.abs(points) @ np.abs(across)).max())
    return bool((points @ across).min() > slack)


def distance(points: np.ndarray) -> float:
    """A lower bound of the distance of 0 from the convex hull of points ``(m, n)``."""
    nearest = _nearest_to_zero(points)
    return max(0.0, float((points @ nearest).min()) * (1 - 1e-12) - 1e-14 * float(np.abs(points).max()))


def _nearest_to_zero(points: np.ndarray) -> np.ndarray:
    """About the direction of the hull's point nearest to 0, by Wolfe's method; users check what they need."""
    chosen, weight = [int(np.einsum("mn,mn->m", points, points).argmin())], np.ones(1)
    for _ in range(200):
        x = weight @ points[chosen]
        products = points @ x
        best = int(products.argmin())
        if products[best] >= x @ x * (1 - 1e-9) or best in chosen:
            break
        chosen, weight = [*chosen, best], np.append(weight, 0.0)
        while True:
            own = points[chosen]
            system = np.ones((len(chosen) + 1, len(chosen) + 1))
            system[0, 0], system[1:, 1:] = 0.0, own @ own.T
            target = np.linalg.lstsq(system, np.eye(len(system))[0], rcond=None)[0][1:]
            if (target > 1e-14).all():
                weight = target
                break
            down = target <= 1e-14
            step = float(np.min(weight[down] / np.maximum(weight[down] - target[down], 1e-300)))
            weight = weight + min(1.0, step) * (target - weight)
            keep = weight > 1e-14
            if keep.all() or not keep.any():
                break
            chosen, weight = (
                [k for k, kept in zip(chosen, keep, strict=True) if kept],
                weight[keep] / weight[keep].sum(),
            )
    own = points[chosen]
    normal = np.linalg.svd(own[1:] - own[0])[2][len(own) - 1 :] if len(own) > 1 else np.eye(points.shape[1])
    # Across the flat of the points chosen: they lie at one height to the last digits, however near to 0 it
    # passes.
    across = normal.T @ (normal @ own.mean(axis=0))
    return across / np.linalg.norm(across) if across.any() else across


def _means(certificate: Certificate) -> np.ndarray:
    start = certificate.cell_ptr[:-1]
    return (
        np.add.reduceat(certificate.vertices[certificate.cell_vertex], start, axis=0)
        / np.diff(certificate.cell_ptr)[:, None]
    )


def _apart(certificate: Certificate, name: np.ndarray, shrink: np.ndarray) -> tuple[np.ndarray, float]:
    """Volumes of cells that are proven disjoint, where no cover is proven; 0 for the others.

    Cells of different names have a unit with different signs, and so no point in common once they are
    shrunken. Of
    the same name, those are kept that lie on different sides of a line or plane through a facet of one of
    them.
    """
    n, count = certificate.dimension, len(name)
    own = np.zeros(count)
    c = certificate
    usable = np.flatnonzero((name != 0) & (shrink > 0))
    usable = usable[np.argsort(name[usable], kind="stable")]
    twice = 0.0
    for group in np.split(usable, np.flatnonzero(np.diff(name[usable])) + 1) if len(usable) else []:
        kept: list[np.ndarray] = []
        bounds = np.zeros((0, 2, n))
        for cell in group[:_GROUP]:
            points = c.vertices[c.cell_vertex[c.cell_ptr[cell] : c.cell_ptr[cell + 1]]]
            low, high = points.min(axis=0), points.max(axis=0)
            near = ((bounds[:, 0] < high) & (bounds[:, 1] > low)).all(axis=1)
            overlaps = [_overlap(points, kept[k], c.box) for k in np.flatnonzero(near)]
            if all(each is not None for each in overlaps):
                own[cell] = _hull_volume(points, n)
                twice += sum(overlaps)  # type: ignore[arg-type]
                kept.append(points)
                bounds = np.concatenate([bounds, [[low, high]]])
    return own, twice


def _overlap(one: np.ndarray, two: np.ndarray, box: np.ndarray) -> float | None:
    """At most so much volume two cells have in common: next to none; None where that is not found."""
    width = box[:, 1] - box[:, 0]
    both = np.concatenate([one, two]) / width
    directions = list(np.eye(both.shape[1]))
    if both.shape[1] == 2:
        for points in (one / width, two / width):
            span = (points[:, None] - points[None]).reshape(-1, 2)
            directions += [
                row / np.linalg.norm(row) for row in span[:, ::-1] * [1, -1] if np.linalg.norm(row) > 0
            ]
    heights = np.array(directions) @ both.T
    first, second = heights[:, : len(one)], heights[:, len(one) :]
    depth = np.minimum(first.max(axis=1) - second.min(axis=1), second.max(axis=1) - first.min(axis=1)).min()
    return max(float(depth), 0.0) * 2 * float(np.prod(width)) * both.shape[1] if depth < 1e-12 else None


def _hull_volume(points: np.ndarray, n: int) -> float:
    """A lower bound of the volume of the convex hull; 0 where this checker has none."""
    if n == 1:
        return float(np.ptp(points)) * (1 - 2.0**-50)
    if n == 2:
        away = points - points.mean(axis=0)
        order = np.argsort(np.arctan2(away[:, 1], away[:, 0]))
        ring, middle = points[order], np.broadcast_to(points.mean(axis=0), points.shape)
        return float(volumes(np.stack([middle, ring, np.roll(ring, -1, axis=0)], axis=1))[0].sum()) * (
            1 - 2.0**-44
        )
    if len(points) == n + 1:
        return float(volumes(points[None])[0][0])
    low, high = points.min(axis=0), points.max(axis=0)
    box = len(np.unique(points, axis=0)) == 2**n and ((points == low) | (points == high)).all()
    return float(np.prod(high - low)) * (1 - 2.0**-44) if box else 0.0
