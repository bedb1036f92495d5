"""``report.html``: one file that says what was asked, what was found, and what was proven."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from steadygaze.answer.asked import Axis
from steadygaze.answer.drawing import KINDS, Drawing, Exhibit
from steadygaze.answer.result import PerturbationInfo, ProblemInfo, Result, Verdict
from steadygaze.answer.words import given, listing, number, percent, quantity
from steadygaze.report.embedding import embedded
from steadygaze.report.exhibits import pictures
from steadygaze.report.inlining import script, source_hash, style
from steadygaze.report.palette import FLAT
from steadygaze.report.pointing import surroundings
from steadygaze.report.references import references
from steadygaze.report.still import map_png

# A page stays below 3 MB; scripts, styles and the words around the map take some of it.
MOST_CHARACTERS = 2_850_000
SIGNS = {Verdict.ROBUST: "✓", Verdict.VIOLATED: "✗", Verdict.UNKNOWN: "?"}  # never by colour alone
MEANINGS = (
    "the class holds and the attention stays where it should be",
    "the network answers another class",
    "the class holds, but for another reason",
    "not settled: within rounding of a limit, left open by bounds, or not reached",
)


def page(result: Result, drawing: Drawing, picture: bytes | None = None) -> str:
    """The report as HTML. Names that come from files are escaped; nothing is loaded from anywhere.

    ``picture``: the still map as a PNG file, to stand in the page too. Without it one is drawn, by a library
    that is slow to import, only where there is no room for a map to point into.
    """
    template = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(_source),
    ).get_template("template.html.j2")
    told = _told(result, drawing)
    plain = {"pointing": None, "style": Markup(style("report")), "script_policy": ""}
    still = template.render(told, **plain, map=picture and _data_uri(picture))
    held = None if drawing.atlas is None else embedded(result, drawing, MOST_CHARACTERS - len(still))
    if held is None:
        return template.render(told, **plain, map=_data_uri(picture or map_png(result, drawing)))
    code = script("report")
    return template.render(
        told,
        map=picture and _data_uri(picture),
        pointing=surroundings(result, drawing, held.kept),
        style=Markup(style("report", "pointing")),
        script_policy=f"; script-src {source_hash(code)}",
        facts=Markup(held.facts),
        arrays=Markup(held.arrays),
        script=Markup(code),
    )


def _source(name: str) -> str:
    return files("steadygaze.report").joinpath(name).read_text(encoding="utf-8")


def _told(result: Result, drawing: Drawing) -> dict[str, Any]:
    """What the page says, pointed into or not."""
    return {
        "result": result,
        "sign": SIGNS[result.verdict],
        "shares": _share_rows(result),
        "exhibits": [_exhibit(exhibit, result) for exhibit in drawing.exhibits],
        "measured": _measured(result),
        "proven": proven(result),
        "not_proven": not_proven(result),
        "settings": _settings(result),
        "counts": _counts(result),
        "references": references(result),
    }


def _measured(result: Result) -> list[dict[str, str]]:
    axes = result.problem.axes()
    return [
        {
            "name": row.name,
            **{key: _digits(getattr(row, key)) for key in ("least", "median", "largest")},
            "where": _where(axes, row.theta) if row.theta else "",
        }
        for row in (result.measured.measures if result.measured else ())
    ]


def _where(axes: Sequence[Axis], theta: Sequence[float]) -> str:
    return ", ".join(f"{axis.name} = {number(v)}" for axis, v in zip(axes, theta, strict=True))


def _digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


@dataclass(frozen=True)
class ShareRow:
    name: str
    share: str
    width: float
    colour: str
    meaning: str


def _share_rows(result: Result) -> list[ShareRow]:
    meanings = (CLASS_HOLDS if result.problem.class_alone else MEANINGS[0], *MEANINGS[1:])
    return [
        ShareRow(KINDS[kind], percent(share), 100 * (share or 0.0), FLAT[kind], meanings[kind])
        for kind, share in result.shares_asked()
    ]


def _exhibit(exhibit: Exhibit, result: Result) -> dict[str, Any]:
    shown = pictures(exhibit, side=1)  # enlarged by the style sheet
    axes = result.problem.axes()
    where = _where(axes, exhibit.theta)
    return {
        "title": exhibit.title,
        "where": where,
        "kind": KINDS[exhibit.kind],
        "predicted": exhibit.predicted,
        "class_gap": number(exhibit.class_gap),
        "inconsistency": None if exhibit.saliency is None else number(exhibit.inconsistency, 6),
        "pictures": [
            (name, _data_uri(png))
            for name, png in (
                ("image", shown.image),
                ("saliency map", shown.saliency),
                ("expected map", shown.expected),
                ("difference", shown.difference),
            )
            if png is not None
        ],
    }


CLASS_HOLDS = "the class holds"
BY_BOUNDS = (
    "Every point of the box lies in a cell, judged or undecided. The cells are boxes in which bounds, which "
    "hold at every point of them, decide {}{}; their volumes were checked to add up to the "
    "box."
)
HANDED_OVER = ", and parts of boxes that were taken apart into the linear pieces of the network"
PROVEN = {
    "whole box": "Every point of the box lies in a cell, judged or undecided. The cells were found by "
    "following the linear pieces of the network, not by sampling; their volumes were checked to add up "
    "to the box.",
    "outer boundary": "The outer boundary of the safe part around 0 was followed in full, from region to "
    "region, not by sampling.",
    "radius": "Every region that is nearer to 0 than the radius was examined.",
}
NOT_CLOSED = "What was visited is judged; the boundary of the safe part was not followed to its end."
REPLAYED = (
    "The nearest failure was replayed in the original model, in its own precision, and fails there too."
)
FIDELITY = "After import, the network was compared with the original model, forward and backward."
NOT_CLAIMED = (
    "Nothing is said about changes outside the ranges given, about other changes, or about other images.",
    "Whether a saliency map explains the network well is not judged: only whether it stays where it should.",
)


CLASS_ONLY = (NOT_CLAIMED[0], "Nothing is said about attention: no saliency map was made.")


def proven(result: Result) -> list[str]:
    """What the answer vouches for, one sentence each."""
    followed = result.claim != "outer boundary" or result.origin is not None
    found = PROVEN[result.claim] if followed else NOT_CLOSED
    if result.method.startswith("bound"):
        asked = "the class" if result.problem.class_alone else "class and attention"
        found = BY_BOUNDS.format(asked, HANDED_OVER if result.regions.get("boxes_handed_over") else "")
    return [
        found,
        *([REPLAYED] if result.nearest_failure else []),
        FIDELITY,
    ]


def not_proven(result: Result) -> list[str]:
    """Where the answer ends, one sentence each."""
    margins = listing(
        [f"{name} {quantity(value)}" for name, value in result.tolerance.items()] or ["not stated"]
    )
    sentences = [
        "Verdicts are about the real-valued network with the given weights, computed in float64 with "
        f"tolerance ({margins}). Rounding inside another runtime, such as float32, is not covered.",
        *(CLASS_ONLY if result.problem.class_alone else NOT_CLAIMED),
    ]
    undecided = result.shares.undecided
    if undecided is None or undecided > 0:
        sentences.insert(
            0,
            f"Undecided: {percent(undecided)} of the box. What lies within the tolerance of a limit is never "
            "guessed; what bounds leave open, or a stopped run has not reached, is not known.",
        )
    followed = result.origin is not None and result.claim == "outer boundary"
    if followed and result.origin is not None and result.origin.interior == "not examined":
        sentences.insert(0, "The interior of the safe part was not examined: its boundary may enclose holes.")
    return sentences


def _settings(result: Result) -> list[tuple[str, str]]:
    problem = result.problem
    clip = "none" if problem.clip is None else f"to [{given(problem.clip[0])}, {given(problem.clip[1])}]"
    source = problem.image.source or "given as an array"
    rows = [
        ("model", problem.model.path),
        ("SHA-256", problem.model.sha256 or "not a file"),
        ("SHA-256 as read", problem.model.graph_sha256 or "not recorded"),
        ("size", f"{problem.model.units} units, {problem.model.parameters} parameters"),
        ("image", source),
        ("shape", " × ".join(map(str, problem.image.shape))),
        ("class", f"{problem.image.label} (predicted: {problem.image.predicted})"),
    ]
    if problem.model.note:
        rows.insert(4, ("note", problem.model.note))
    if problem.image.dataset_label is not None:
        rows.append(("label in the data set", problem.image.true_class()))
    rows += [("image conversion", how) for how in problem.image.conversions]
    rows += [("perturbation", _notation(link)) for link in problem.perturbation]
    rows += [
        ("layout", problem.layout or "not recorded"),
        ("mean and standard deviation", _normalisation(problem)),
        ("clip", clip),
        ("what must hold", "the class alone" if problem.class_alone else problem.must_hold),
        *([] if problem.class_alone else _of_maps(problem)),
        ("engine", result.method),
        ("claim", result.claim),
    ]
    return rows + [(name.replace("_", " "), quantity(value)) for name, value in result.settings.items()]


def _of_maps(problem: ProblemInfo) -> list[tuple[str, str]]:
    return [
        ("saliency", problem.basis()),
        ("inconsistency", problem.inconsistency),
        ("threshold δ", given(problem.threshold)),
    ]


def _normalisation(problem: ProblemInfo) -> str:
    if problem.mean is None or problem.std is None:
        return "not recorded"
    return f"{', '.join(map(given, problem.mean))} and {', '.join(map(given, problem.std))}"


def _notation(link: PerturbationInfo) -> str:
    ranges = [f"{p.name}={given(p.range[0])}..{given(p.range[1])}" for p in link.parameters]
    return f"{link.name}({', '.join(ranges + [f'{k}={quantity(v)}' for k, v in link.constants.items()])})"


def _counts(result: Result) -> list[tuple[str, str]]:
    regions = [
        (f"regions: {name.replace('_', ' ')}", _count(value)) for name, value in result.regions.items()
    ]
    seconds = [
        (f"seconds: {name.replace('_', ' ')}", _seconds(value)) for name, value in result.timing.items()
    ]
    return regions + seconds + [(f"version: {name}", str(value)) for name, value in result.versions.items()]


def _seconds(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {number(part, 3)}" for name, part in value.items()) or "none"
    return number(value, 3)


def _count(value: object) -> str:
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else quantity(value)


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{b64encode(png).decode('ascii')}"
