"""What the page says of each question: the numbers of `summary_of`, arranged for a reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steadygaze.answer.asked import CLASS_ALONE
from steadygaze.answer.words import interval, number, percent, toward_zero
from steadygaze.overview.charts import curve, strip
from steadygaze.report.palette import FLAT

SERIES = 6  # colours and dashes of curves; further models begin again
MOST_CLASSES = 60
MOST_WORST = 8
_ROBUST, _CLASS, _ATTENTION, _OPEN = FLAT
_SOMEHOW = "#a98467"
_CHARTS = (
    ("attention_robust", "Class and attention are kept", "certified robust accuracy, class and attention"),
    ("class_robust", "The class is kept", "certified robust accuracy, class alone"),
    ("other_reason", "Same class, other reason", "share that keeps the class and loses its attention"),
)
_CHARTS_ALONE = (_CHARTS[1],)
_CLAIMS = (("class", "the class"), ("attention", "class and attention"))
# What the columns of tables hold: a measure of `summary_of`, and what stands above it.
_WHOLE = (
    ("attention_robust", "class and attention kept"),
    ("class_robust", "class kept"),
    ("other_reason", "same class, other reason"),
)
_EVERY = (
    *_WHOLE,
    ("attention_robust_accuracy", "accuracy, class and attention"),
    ("class_robust_accuracy", "accuracy, class"),
)
_BY_CLASS = (
    ("attention_robust_accuracy", "class and attention kept"),
    ("class_robust_accuracy", "class kept"),
    ("other_reason", "same class, other reason"),
)


@dataclass(frozen=True)
class Part:
    """A part of n images: what became of them, how many, in percent of the bar, and the colour."""

    words: str
    count: int
    width: float
    colour: str
    mark: str


def sections(summary: Mapping[str, Any], class_names: Mapping[int, str]) -> list[dict[str, Any]]:
    """One for each question (perturbations, threshold, saliency map, claim), models in their order."""
    models = list(dict.fromkeys(group["model"] for group in summary["groups"]))
    asked: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for place, group in enumerate(summary["groups"]):
        asked.setdefault(_question(group), []).append({**group, "place": place})
    told = []
    for question, groups in asked.items():
        views = [_model(group, models.index(group["model"]) % SERIES) for group in groups]
        pairs = [pair for pair in summary["pairs"] if _question(pair) == question]
        alone = is_alone(groups[0])
        told.append(
            {
                "title": _title(groups[0]),
                "columns": [column for column in _EVERY if not (alone and _is_of_attention(column[0]))],
                "by_class": [column for column in _BY_CLASS if not (alone and _is_of_attention(column[0]))],
                "perturbation": question[0],
                "models": views,
                "charts": _charts(groups, views),
                "lanes": _lanes(groups, views),
                "classes": _classes(groups, class_names),
                "pairs": [_pair(pair) for pair in pairs],
            }
        )
    return told


def rate_words(rate: Mapping[str, Any]) -> str:
    """How many of how many, and how many are not settled."""
    if not rate["n"]:
        return "of no image"
    most = f": at most {percent(rate['high'])}" if rate["unsettled"] else ""
    return f"{percent(rate['low'])} ({rate['certain']} of {rate['n']}; {rate['unsettled']} open{most})"


def interval_words(rate: Mapping[str, Any]) -> str:
    """The 95 % interval of a rate."""
    return f"95 % interval {percent(rate['interval'][0])} to {percent(rate['interval'][1])}"


def signed(value: float) -> str:
    """A difference of shares, with its sign, in percentage points."""
    return f"{100 * value:+.1f}".replace("-", "−")


def _question(told: Mapping[str, Any]) -> tuple[Any, ...]:
    return told["perturbation"], told["threshold"], told["saliency"], told["must_hold"]


def is_alone(told: Mapping[str, Any]) -> bool:
    """Whether a group asked about the class alone."""
    return told["must_hold"] == CLASS_ALONE


def _is_of_attention(measure: str) -> bool:
    return not measure.startswith("class_")


def _title(told: Mapping[str, Any]) -> str:
    if is_alone(told):
        return f"{told['perturbation']} · the class alone"
    return f"{told['perturbation']} · {told['saliency']} · threshold {number(told['threshold'])}"


def _model(group: Mapping[str, Any], colour: int) -> dict[str, Any]:
    """One model's answer to one question, as a headline and a bar of all its images."""
    whole, n, alone = group["table"][-1], group["n"], is_alone(group)
    robust = whole["class_robust" if alone else "attention_robust"]
    kept, other = robust["certain"], 0 if alone else whole["other_reason"]["certain"]
    changed = n - whole["class_robust"]["certain"] - whole["class_robust"]["unsettled"]
    somehow = max(0, n - robust["unsettled"] - kept - other - changed)
    unsettled = n - kept - other - changed - somehow
    parts = [
        (_kept(group), kept, _ROBUST, "✓"),
        ("keep the class, for another reason", other, _ATTENTION, "✗"),
        ("change their class", changed, _CLASS, "✗"),
        ("fail; not settled whether in class or in attention alone", somehow, _SOMEHOW, "✗"),
        ("not settled", unsettled, _OPEN, "?"),
    ]
    shown = [Part(words, count, 100 * count / n, tone, mark) for words, count, tone, mark in parts if count]
    return {
        **group,
        "colour": colour,
        "glance": [whole.get(name) for name, _ in _WHOLE],
        "parts": shown,
        "robust": robust,
        "without": n - group["answered"],
        "bar_words": "; ".join(f"{part.count} {part.words}" for part in shown),
    }


def _kept(group: Mapping[str, Any]) -> str:
    """What images do that are proven."""
    return "keep the class" if is_alone(group) else "keep class and attention"


def headline(view: Mapping[str, Any]) -> str:
    """The whole of a model's answer in one sentence."""
    robust = view["robust"]
    told = f"{robust['certain']} of {robust['n']} images {_kept(view)} in the whole box"
    if not robust["unsettled"]:
        return f"{told}; none is open."
    return f"{told}, at most {robust['certain'] + robust['unsettled']} with the {robust['unsettled']} open."


def _charts(groups: Sequence[Mapping[str, Any]], views: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Curves over the scale; accuracies where every model's images have a true class."""
    labelled = all(group["labelled"] == group["n"] for group in groups)
    charts = []
    for measure, title, words in _CHARTS_ALONE if is_alone(groups[0]) else _CHARTS:
        own = f"{measure}_accuracy" if labelled and measure != "other_reason" else measure
        charts.append(
            {
                "title": title,
                "words": words if labelled else words.replace("certified robust accuracy", "certified share"),
                "measure": own,
                "accuracy": own.endswith("accuracy"),
                "curves": [
                    {
                        "place": group["place"],
                        "colour": view["colour"],
                        "model": group["model"],
                        "n": group["n"],
                        "shape": curve(group["curves"], own, group["n"]),
                    }
                    for group, view in zip(groups, views, strict=True)
                ],
            }
        )
    return charts


def _lanes(groups: Sequence[Mapping[str, Any]], views: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Distributions: of the scales up to which claims are proven, and of each parameter's safe range."""
    lanes: dict[str, dict[str, Any]] = {}
    for group, view in zip(groups, views, strict=True):
        about = {"model": group["model"], "colour": view["colour"]}
        for claim, words in _CLAIMS:
            told = group["scales"].get(claim)
            if told is not None and told["known"]:
                lane = lanes.setdefault(
                    f"scale {claim}",
                    {
                        "title": f"Proven up to this s: {words}",
                        "low": "0",
                        "high": "1",
                        "rows": [],
                    },
                )
                lane["rows"].append(
                    about
                    | {"n": told["n"], "known": told["known"], "strips": [strip(told["quantiles"], 0.0, 1.0)]}
                    | {"median": toward_zero(told["quantiles"][3]), "quantiles": [told["quantiles"]]}
                )
        for told in group["ranges"]:
            low, high = told["box"]
            title = f"Safe range of {told['parameter']}" + (f", in {told['unit']}" if told["unit"] else "")
            lane = lanes.setdefault(
                f"range {told['parameter']} {low} {high}",
                {"title": f"{title}, the others at 0", "low": number(low), "high": number(high), "rows": []},
            )
            lane["rows"].append(
                about
                | {"n": told["n"], "known": told["known"]}
                | {"strips": [strip(told[end], low, high) for end in ("low", "high")]}
                | {"median": interval(told["low"][3], told["high"][3])}
                | {"quantiles": [told["low"], told["high"]]}
            )
    return list(lanes.values())


def _classes(groups: Sequence[Mapping[str, Any]], names: Mapping[int, str]) -> dict[str, Any]:
    """Rows by true class, the columns of all models; of very many, those of which least is certified."""
    rows: dict[int, dict[str, Any]] = {}
    for group in groups:
        for told in group["classes"]:
            rows.setdefault(told["label"], {})[group["model"]] = told
    chosen = sorted(rows)
    if len(rows) > MOST_CLASSES:
        least = "class_robust_accuracy" if is_alone(groups[0]) else "attention_robust_accuracy"

        def certified(label: int) -> float:
            return sum(told[least]["low"] for told in rows[label].values())

        chosen = sorted(sorted(chosen, key=certified)[:MOST_CLASSES])
    return {
        "all": len(rows),
        "rows": [
            {"name": f"{label} {names[label]}" if label in names else str(label), "models": rows[label]}
            for label in chosen
        ],
    }


def _pair(pair: Mapping[str, Any]) -> dict[str, Any]:
    """One comparison in words, each number with what it is about."""
    low, high = pair["interval"]
    reach, reach_p = pair["scale_interval"], pair["scale_p"]
    return {
        **pair,
        "difference_words": f"{signed(pair['difference'])} points",
        "interval_words": f"{signed(low)} to {signed(high)}",
        "p_words": "no pair differs" if pair["p"] is None else f"p = {number(pair['p'], 2)}",
        "reach_words": f"{pair['scale_difference']:+.3f}".replace("-", "−"),
        "reach_interval": "fewer than 6 pairs"
        if reach is None
        else f"{reach[0]:+.3f} to {reach[1]:+.3f}".replace("-", "−"),
        "reach_p": "too few pairs differ" if reach_p is None else f"p = {number(reach_p, 2)}",
    }


def reach(case: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """From where on what was asked fails, and up to where it is proven."""
    claim = "attention" if "attention_holds" in case else "class"
    return case[f"{claim}_fails"], case[f"{claim}_holds"]


def worst_words(case: Mapping[str, Any]) -> str:
    """Why an image is among the worst."""
    fails, holds = reach(case)
    kinds = {"class-changed": "another class", "attention-changed": "another reason"}
    if fails is None:
        return f"proven up to s = {toward_zero(holds)}; no failure is known"
    told = f"fails from s = {number(fails, 3)} on"
    if case["failure"] in kinds:
        told += f": {kinds[case['failure']]}"
    if case["theta"] is not None:
        told += f", at θ = ({', '.join(number(value, 3) for value in case['theta'])})"
    return told
