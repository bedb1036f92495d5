"""An atlas as it lies in the page: facts as JSON, arrays as bytes, within so much room.

Each array is compressed by itself; numbers of several bytes are taken apart first, all lowest bytes before
all next ones, which compress better so. What one looks at only is rounded: maps to 8 bits, images to 16.
Where cells lie is kept to a few parts in 10^10 of the box. If there is not room for all, stops are left out
from the last.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from steadygaze.answer.atlas import Atlas, HalfSpaces, Sheet, Stops, Stretches
from steadygaze.answer.drawing import KINDS, Drawing, Interval1D
from steadygaze.answer.result import Result
from steadygaze.report import palette
from steadygaze.report.exhibits import NEGATIVE, NOT_COMPARED, POSITIVE

# Pictures are shown with at most so many pixels along a side.
MOST_PIXELS = 128
# Places in [0, 1] as whole numbers.
_UNIT = 2**32 - 1
_LEVEL = 6
_PALETTE = {
    "robust": palette.ROBUST_RAMP,
    "attention": palette.ATTENTION_RAMP,
    "grey": palette.CLASS_GREY,
    "open": palette.OPEN_STRIPES,
    "flat": [[int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in palette.FLAT],
    "negative": NEGATIVE,
    "positive": POSITIVE,
    "not_compared": NOT_COMPARED,
}


class Arrays:
    """Arrays by name, compressed as they are handed in. `size` is in characters of the page."""

    def __init__(self) -> None:
        self._told: list[dict[str, Any]] = []
        self._parts: list[bytes] = []

    def add(self, name: str, array: NDArray[Any], kind: str) -> None:
        """Keeps `array` as numbers of `kind`: u1, i1, i2, u4, i4, f4 or f8."""
        numbers = np.ascontiguousarray(array, np.dtype(f"<{kind}"))
        flat = numbers.reshape(-1).view(np.uint8).reshape(-1, numbers.itemsize).T
        packed = zlib.compress(np.ascontiguousarray(flat).tobytes(), _LEVEL)
        self._told.append({"name": name, "kind": kind, "shape": list(numbers.shape), "bytes": len(packed)})
        self._parts.append(packed)

    @property
    def size(self) -> int:
        return characters(sum(map(len, self._parts)))

    def told(self) -> list[dict[str, Any]]:
        """Name, kind, shape and compressed bytes of each, in order."""
        return self._told

    def text(self) -> str:
        """All of them, one after the other, in base64."""
        return b64encode(b"".join(self._parts)).decode("ascii")

    def joined(self, others: Arrays) -> Arrays:
        """These and those."""
        both = Arrays()
        both._told, both._parts = self._told + others._told, self._parts + others._parts
        return both


def characters(count: int) -> int:
    """Of so many bytes in base64."""
    return -(-count // 3) * 4


class Embedded(NamedTuple):
    """Facts and arrays as texts for two script elements; kept: how many of the stops are among them."""

    facts: str
    arrays: str
    kept: int


def embedded(result: Result, drawing: Drawing, room: int) -> Embedded | None:
    """The drawing's atlas within so many characters; None where there is no room."""
    atlas = drawing.atlas
    assert atlas is not None, "only drawings with an atlas are embedded"
    facts = _facts(result, drawing, atlas)
    fixed = Arrays()
    _add_cells(fixed, atlas, facts)
    _add_forms(fixed, atlas)
    if drawing.intervals is not None:
        _add_line(fixed, drawing.intervals, result.problem.class_alone)
    left = room - fixed.size - len(json.dumps(facts)) - 8_000  # what the arrays' names and shapes take
    kept, moving = _fitting(atlas.stops, left)
    if not kept:
        return None
    arrays = fixed.joined(moving)
    return Embedded(script_safe({**facts, "arrays": arrays.told()}), arrays.text(), kept)


def script_safe(document: Mapping[str, Any]) -> str:
    """JSON that can stand in a script element, whatever the names in it: no <, > or & is left in it."""
    text = json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _facts(result: Result, drawing: Drawing, atlas: Atlas) -> dict[str, Any]:
    problem, document = result.problem, result.to_dict()
    return {
        "axes": [{"name": a.name, "unit": a.unit, "low": a.low, "high": a.high} for a in problem.axes()],
        "kinds": list(KINDS),
        "classes": list(atlas.classes),
        "label": problem.image.label,
        "class_alone": problem.class_alone,
        "threshold": problem.threshold,
        "inconsistency": problem.inconsistency,
        "clip": None if problem.clip is None else list(problem.clip),
        "top": largest_inconsistency(atlas),
        "palette": _PALETTE,
        "shares": list(result.shares.values()),
        "origin": document["origin"],
        "safe_scale": result.safe_scale,
        "failure": document["nearest_failure"],
        "failure_name": result.failure_name(),
        "cell_count": atlas.cell_count,
        "region_count": atlas.region_count,
        "same_inconsistency": atlas.same_inconsistency,
        "same_map": atlas.same_map and atlas.same_scores,
        "same_scores": atlas.same_scores,
        "stops_looked_at": len(atlas.stops.theta),
        "exhibits": [
            {
                "title": exhibit.title,
                "theta": list(exhibit.theta),
                "kind": exhibit.kind,
                "predicted": exhibit.predicted,
                "class_gap": _finite(exhibit.class_gap),
                "inconsistency": _finite(exhibit.inconsistency),
            }
            for exhibit in drawing.exhibits
        ],
        "sheets": [list(sheet.axes) for sheet in atlas.ground] if isinstance(atlas.ground, tuple) else [],
    }


def largest_inconsistency(atlas: Atlas) -> float:
    """The largest one known of any cell; 0 where none is."""
    known = atlas.cells.inconsistency[np.isfinite(atlas.cells.inconsistency)]
    return float(known.max(initial=0.0))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _add_cells(arrays: Arrays, atlas: Atlas, facts: dict[str, Any]) -> None:
    table, ground = atlas.cells, atlas.ground
    arrays.add("cells.number", table.number, "u4")
    arrays.add("cells.kind", table.kind, "i1")
    arrays.add("cells.region", table.region, "i4")
    arrays.add("cells.share", table.share, "f4")
    arrays.add("cells.inconsistency", table.inconsistency, "f8")
    if isinstance(ground, Stretches):
        facts["ground"] = "stretches"
        arrays.add("ground.ends", ground.ends, "f8")
    elif isinstance(ground, HalfSpaces):
        facts["ground"] = "half-spaces"
        _add_half_spaces(arrays, "ground", ground)
    else:
        facts["ground"] = "sheets"
        for number, sheet in enumerate(ground):
            _add_sheet(arrays, f"sheet{number}", sheet)
    if atlas.pieces is not None:
        _add_half_spaces(arrays, "pieces", atlas.pieces)


def _add_half_spaces(arrays: Arrays, name: str, spaces: HalfSpaces) -> None:
    for part, kind in (("normal", "f8"), ("offset", "f8"), ("ptr", "u4"), ("facet", "i4")):
        arrays.add(f"{name}.{part}", getattr(spaces, part), kind)
    arrays.add(f"{name}.low", spaces.low, "f4")
    arrays.add(f"{name}.high", spaces.high, "f4")


def _add_sheet(arrays: Arrays, name: str, sheet: Sheet) -> None:
    if sheet.picture is not None:
        arrays.add(f"{name}.picture", sheet.picture + 1, "u4")
        return
    places = np.rint(np.clip(sheet.points, 0, 1) * _UNIT).astype(np.uint64)
    corners, number = np.unique(places[:, 0] << np.uint64(32) | places[:, 1], return_inverse=True)
    arrays.add(
        f"{name}.corners", np.stack([corners >> np.uint64(32), corners & np.uint64(_UNIT)], axis=1), "u4"
    )
    arrays.add(f"{name}.corner", number.reshape(-1), "u4")
    arrays.add(f"{name}.ptr", sheet.offsets, "u4")
    arrays.add(f"{name}.cell", sheet.cell, "u4")


def _add_forms(arrays: Arrays, atlas: Atlas) -> None:
    for name, forms in (("image", atlas.image), ("expected", atlas.expected)):
        if forms is not None:
            for part in ("base", "directions"):
                values = reduced(np.nan_to_num(getattr(forms, part)))
                largest = float(np.abs(values).max(initial=0.0)) or 1.0
                arrays.add(f"{name}.{part}", np.rint(values / largest * 32767), "i2")
                arrays.add(f"{name}.{part}.largest", np.array([largest]), "f8")
    if atlas.gram is not None:
        arrays.add("gram", atlas.gram, "f8")


def _add_line(arrays: Arrays, line: Interval1D, class_alone: bool) -> None:
    arrays.add("line.edges", line.edges, "f8")
    arrays.add("line.kind", line.kind, "i1")
    if not class_alone:
        arrays.add("line.inconsistency", line.inconsistency, "f4")
    arrays.add("line.gap", line.class_gap, "f4")


def _fitting(stops: Stops, room: int) -> tuple[int, Arrays]:
    """How many of the stops there is room for, and these, the first ones."""
    count = len(stops.theta)
    while count:
        arrays = _stops(stops, count)
        if arrays.size <= room:
            return count, arrays
        count = min(count - 1, int(0.97 * count * max(room, 0) / arrays.size))
    return 0, Arrays()


def _stops(stops: Stops, count: int) -> Arrays:
    arrays, some = Arrays(), slice(0, count)
    arrays.add("stops.theta", stops.theta[some], "f8")
    arrays.add("stops.region", stops.region[some], "i4")
    arrays.add("stops.logits", stops.logits[some], "f4")
    arrays.add("stops.slopes", stops.slopes[some], "f4")
    if stops.inconsistency is not None:
        arrays.add("stops.inconsistency", stops.inconsistency[some], "f8")
    if stops.saliency is not None:
        arrays.add("compared", reduced(np.isfinite(stops.saliency[:1]).astype(float))[0] > 0, "u1")
        _add_maps(arrays, "stops.saliency", stops.saliency[some])
    if stops.expected is not None:
        _add_maps(arrays, "stops.expected", stops.expected[some])
    if stops.image is not None:
        arrays.add("stops.image", np.rint(255 * np.clip(reduced(stops.image[some]), 0, 1)), "u1")
    if stops.angles is not None:
        arrays.add("stops.angles", stops.angles[some], "f8")
    return arrays


def _add_maps(arrays: Arrays, name: str, maps: NDArray[np.float64]) -> None:
    """Maps ``(S, h, w)``, each times 127 over its largest magnitude; and what makes each a unit vector."""
    shown = reduced(np.nan_to_num(maps))
    largest = np.abs(shown).max(axis=(1, 2), keepdims=True, initial=0.0)
    size = np.linalg.norm(shown.reshape(len(shown), -1), axis=1)
    safe = np.where(largest > 0, largest, 1.0)
    arrays.add(name, np.rint(127 * shown / safe), "i1")
    arrays.add(
        f"{name}.unit", np.where(size > 0, largest[:, 0, 0] / 127 / np.where(size > 0, size, 1.0), 0.0), "f4"
    )


def reduced(pictures: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pictures ``(..., h, w)`` with at most ``MOST_PIXELS`` along a side: means of blocks of pixels."""
    height, width = pictures.shape[-2:]
    step = -(-max(height, width) // MOST_PIXELS)
    if step == 1:
        return pictures
    rows, columns = -(-height // step), -(-width // step)
    padding = [(0, 0)] * (pictures.ndim - 2) + [(0, rows * step - height), (0, columns * step - width)]
    whole = np.pad(pictures, padding, mode="edge")
    return whole.reshape(*pictures.shape[:-2], rows, step, columns, step).mean(axis=(-3, -1))
