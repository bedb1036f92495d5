"""What the page says around its map to point into: legend, choices, and how exact each part is."""

from __future__ import annotations

from typing import Any

import numpy as np

from steadygaze.answer.atlas import Atlas, HalfSpaces, Stretches
from steadygaze.answer.drawing import KINDS, Drawing
from steadygaze.answer.result import Result
from steadygaze.answer.words import given, number
from steadygaze.report.embedding import MOST_PIXELS, largest_inconsistency
from steadygaze.report.palette import ATTENTION_RAMP, FLAT, OPEN_STRIPES, ROBUST_RAMP

MODES = (("all", "all"), ("class", "class"), ("attention", "attention"), ("inconsistency", "inconsistency"))
IMAGE = ("image", "image")
PICTURES = (
    IMAGE,
    ("saliency", "saliency map"),
    ("expected", "expected map"),
    ("difference", "difference"),
)
ONLY_CLASS = "The class alone was asked about: no saliency map was made, so the page has none."
UNKNOWN_GREY = (200, 196, 190)
ALL = "all class attention inconsistency"


def surroundings(result: Result, drawing: Drawing, kept: int) -> dict[str, Any]:
    """For the template. kept: how many of the atlas's stops are in the page."""
    atlas, axes = drawing.atlas, result.problem.axes()
    assert atlas is not None, "only a drawing with an atlas can be pointed into"
    top, alone = largest_inconsistency(atlas), result.problem.class_alone
    shaded = len(axes) > 1 and not alone
    return {
        "class_alone": alone,
        "axes": [
            {
                "name": axis.name,
                "given": f"{given(axis.low)} to {given(axis.high)}{f' {axis.unit}' if axis.unit else ''}",
                "low": axis.low,
                "high": axis.high,
            }
            for axis in axes
        ],
        "plane": len(axes) > 2,
        "modes": MODES if shaded else (),
        "legend": _legend(result, atlas, len(axes)),
        "ramp": _ramp(result.problem.threshold, top) if shaded else None,
        "threshold": given(result.problem.threshold),
        "top": number(top, 3) if top > result.problem.threshold else "",
        "failure": result.failure_name() if result.nearest_failure else None,
        "jumps": [_jump(exhibit.title) for exhibit in drawing.exhibits],
        "pictures": (IMAGE,) if alone else PICTURES,
        "exactness": exactness(result, atlas, kept),
    }


def _jump(title: str) -> str:
    return {"original": "To θ = 0"}.get(title, f"To the {title} point")


def _legend(result: Result, atlas: Atlas, n: int) -> list[dict[str, str]]:
    robust, changed, moved, _ = FLAT
    light, open_ = "#d6d6d6", _css(OPEN_STRIPES[1])
    known = bool(np.isfinite(atlas.cells.inconsistency).all())
    if result.problem.class_alone:
        lost = _key(changed, "", "class-changed (two lines)") if n == 1 else _key(changed, "dots", KINDS[1])
        still_open = _key(open_, "stripes", "undecided, or not examined")
        return [_key(robust, "", "robust: the class holds"), lost, still_open, *_marks(result)]
    if n == 1:
        return [
            _key(robust, "", "robust"),
            _key(changed, "", "class-changed (two lines)"),
            _key(moved, "", "attention-changed (one line)"),
            _key(open_, "stripes", "undecided, or not examined"),
            *_marks(result),
        ]
    return [
        _key(robust, "", "robust", "all"),
        _key(robust, "", "class holds", "class"),
        _key(robust, "", "attention holds", "attention"),
        _key(robust, "", "attention holds", "inconsistency"),
        _key(changed, "dots", "class-changed", "all class"),
        _key(light, "dots", "class-changed: attention is not asked", "attention"),
        _key(moved, "lines", "attention-changed", "all attention"),
        _key(moved, "lines", "attention moved, whatever the class", "inconsistency"),
        *([] if known else [_key(_css(UNKNOWN_GREY), "", "not known of the cell", "inconsistency")]),
        _key(open_, "stripes", "undecided, or not examined", ALL),
        *_marks(result),
    ]


def _marks(result: Result) -> list[dict[str, str]]:
    marks = [_mark("✚", "θ = 0, the image itself")]
    if result.nearest_failure is not None:
        marks.append(_mark("◆", result.failure_name()))
    if result.origin is not None and result.origin.outer_boundary is not None:
        marks.append(_mark("━", "safe part around 0"))
    elif result.origin is not None:
        marks.append(_mark("━", "safe range, the others at 0"))
    if result.safe_scale is not None and 0 < result.safe_scale < 1 and len(result.problem.axes()) > 1:
        marks.append(_mark("┅", "box that is all robust"))
    return marks


def _key(colour: str, texture: str, text: str, modes: str = "") -> dict[str, str]:
    return {"colour": colour, "texture": texture, "text": text, "modes": modes, "mark": ""}


def _mark(mark: str, text: str) -> dict[str, str]:
    return {"mark": mark, "text": text, "modes": "", "colour": "", "texture": ""}


def _ramp(threshold: float, top: float) -> str:
    """The colour bar: blue for the first half, orange for the second, as beside the static map."""
    blue = f"{_css(ROBUST_RAMP[0])}, {_css(ROBUST_RAMP[1])}"
    if top <= threshold:
        return f"linear-gradient(90deg, {blue})"
    first, last = map(_css, ATTENTION_RAMP)
    return f"linear-gradient(90deg, {_css(ROBUST_RAMP[0])}, {_css(ROBUST_RAMP[1])} 50%, {first} 50%, {last})"


def _css(colour: tuple[int, ...]) -> str:
    return f"rgb({' '.join(map(str, colour))})"


def exactness(result: Result, atlas: Atlas, kept: int) -> list[str]:
    """One sentence for each thing that is shown: whether it is computed for theta itself, and from what."""
    alone = result.problem.class_alone
    return [
        _of_cells(atlas),
        *([] if alone else [_of_inconsistency(atlas, kept)]),
        _of_scores(atlas, kept),
        *([] if alone else [_of_maps(atlas, kept)]),
        _of_images(atlas, kept, alone),
        *_reduced(result),
        f"Scores{'' if alone else ' and maps'} are those of the imported network, in double precision; the "
        "points to jump to were also replayed in the original model.",
        *([ONLY_CLASS] if alone else []),
    ]


def _count(value: int) -> str:
    return f"{value:,}".replace(",", "\u00a0")


def _of_cells(atlas: Atlas) -> str:
    total, ground = _count(atlas.cell_count), atlas.ground
    on_border = (
        "A place within a billionth of the box of a border counts as on it, and is told the worse kind."
    )
    if isinstance(ground, Stretches | HalfSpaces):
        return f"Cells: exact. The page holds all of the {_count(len(atlas.cells.kind))}. {on_border}"
    pictured = [sheet.picture for sheet in ground if sheet.picture is not None]
    where = f"Cells: of the {total} those that a section through θ = 0 meets; elsewhere the page knows none."
    if pictured:
        rows, columns = pictured[0].shape
        told = (
            f"At the middle of each of {columns} × {rows} picture elements the cell is exact; pointing goes "
            "to the nearest middle."
        )
        return f"Cells: {total} are too many for this page. {told}" if len(ground) == 1 else f"{where} {told}"
    return (
        f"Cells: exact. The page holds all of the {total}. {on_border}"
        if len(ground) == 1
        else f"{where} {on_border}"
    )


def _seen(atlas: Atlas, kept: int) -> tuple[int, bool]:
    """How many regions the page has a point of; whether these are all."""
    regions = len(np.unique(atlas.stops.region[:kept][atlas.stops.region[:kept] >= 0]))
    return regions, regions == atlas.region_count and bool((atlas.cells.region >= 0).all())


def _by_regions(atlas: Atlas, kept: int, told: str) -> str:
    regions, every = _seen(atlas, kept)
    if every:
        return f"{told} for θ itself."
    return (
        f"{told} for θ itself in {_count(regions)} of {_count(atlas.region_count)} regions; elsewhere that "
        f"of the nearest of {_count(kept)} points at which the network was evaluated."
    )


def _sampled(kept: int) -> str:
    return f"that of the nearest of {_count(kept)} points at which the network was evaluated."


def _of_inconsistency(atlas: Atlas, kept: int) -> str:
    seen = np.isin(atlas.cells.region, atlas.stops.region[:kept]) & (atlas.cells.region >= 0)
    known = (np.isfinite(atlas.cells.inconsistency) | seen) & atlas.same_inconsistency
    if known.any():
        told = "Inconsistency: exact. It is constant in each cell."
        return told if known.all() else f"{told} Where it is not known, it is {_sampled(kept)}"
    if atlas.stops.angles is not None:
        return _by_regions(atlas, kept, "Inconsistency: computed from the angle between the two maps")
    return f"Inconsistency: {_sampled(kept)}"


def _of_scores(atlas: Atlas, kept: int) -> str:
    if not atlas.same_scores:
        return f"Class scores: {_sampled(kept)}"
    return _by_regions(atlas, kept, "Class scores: affine on each region, computed")


def _of_maps(atlas: Atlas, kept: int) -> str:
    rounded = "It is shown with 8 bits."
    if not (atlas.same_map and atlas.same_scores):
        return f"Saliency map: {_sampled(kept)} {rounded}"
    return f"{_by_regions(atlas, kept, 'Saliency map: constant on each region, given')} {rounded}"


def _of_images(atlas: Atlas, kept: int, alone: bool) -> str:
    names = [("image", atlas.image), *([] if alone else [("expected map", atlas.expected)])]
    own = " and ".join(name for name, form in names if form is not None)
    others = " and ".join(name for name, form in names if form is None)
    told = [f"The {own}: computed for θ itself, kept with 16 bits." if own else ""]
    told.append(f"The {others}: {_sampled(kept)}" if others else "")
    return " ".join(filter(None, told))


def _reduced(result: Result) -> list[str]:
    most = max(result.problem.image.shape[1:])
    return [f"Pictures are reduced to {MOST_PIXELS} pixels a side."] if most > MOST_PIXELS else []
