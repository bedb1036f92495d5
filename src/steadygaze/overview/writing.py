"""The page of a campaign as a file: put together within its budget, and written in one piece."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from steadygaze.aggregate import grouped, summary_of
from steadygaze.aggregate.summary import SCALES
from steadygaze.answer.words import number, percent, written
from steadygaze.campaign.store import Entry, read
from steadygaze.errors import SettingError
from steadygaze.overview import telling
from steadygaze.overview.asked import asked, class_names, ended, surroundings
from steadygaze.overview.cases import packed, table_of
from steadygaze.overview.pictures import kept, link, worst_pictures
from steadygaze.placing import file_placed
from steadygaze.report.inlining import script, source_hash, style

# A page stays below 3 MB. What is first cut where there is too much: pictures, then questions, then rows.
MOST_CHARACTERS = 2_850_000
MOST_OF_PICTURES = 900_000
MOST_OF_QUESTIONS = 1_500_000
ENDINGS = (".html", ".htm")


def page_of(store: Path) -> Path:
    """Where the page of a store lies unless one says otherwise: beside it."""
    return store.with_name(f"{store.stem}.report.html")


def write_overview(store: str | Path, out: str | Path) -> Path:
    """Write the page of what a store holds now, and return its file; an earlier page is replaced as a whole.

    Raises SettingError where the store cannot be read or holds no cases, or the page cannot be written, or
    its name does not end in one of `ENDINGS`.
    """
    store, out = Path(store), Path(out)
    if out.suffix.lower() not in ENDINGS:
        raise SettingError(f"the report's file is {str(out)!r}; its name must end in {' or '.join(ENDINGS)}")
    entries = read(store)
    if not entries:
        raise SettingError(
            f"the store {str(store)!r} holds no cases yet; run the campaign first, for a moment at least"
        )
    try:
        with file_placed(out) as fresh:
            fresh.write_text(overview_of(entries, store, out), encoding="utf-8")
    except OSError as error:
        raise SettingError(
            f"the report {str(out)!r} cannot be written ({error.strerror or error}); give another file, or "
            "make room"
        ) from error
    return out


def overview_of(entries: Sequence[Entry], store: Path, out: Path, most: int = MOST_CHARACTERS) -> str:
    """The page as HTML; names that come from files are escaped, and nothing is loaded from anywhere.

    store: beside which the folders of cases lie, where they are kept. out: where the page will lie, as
    links to them count from there. most: characters that it may have.
    """
    summary = summary_of(grouped(entries))
    links = {key: link(store, key, out) for key in kept(store) & {entry.key for entry in entries}}
    told = telling.sections(summary, class_names(entries))
    _add_pictures(told, store, links, min(MOST_OF_PICTURES, most // 3))
    environment = _environment()
    shown, left_out = _sections(environment, told, min(MOST_OF_QUESTIONS, most // 2))
    code = script("overview", part="overview")
    how = ended(entries)
    about = {
        "name": written(entries[0].plan),
        "store": store.name,
        "entries": len(entries),
        "finished": len(entries) - how.get("not finished", 0),
        "ended": how,
        "sections": told,
        "shown": shown,
        "left_out": left_out,
        "asked": asked(entries),
        "surroundings": surroundings(entries),
        "style": Markup(style("report") + style("overview", part="overview")),
        "script": Markup(code),
        "policy": source_hash(code),
    }
    template = environment.get_template("overview.html.j2")
    curves = [group["curves"] for group in summary["groups"]]
    bare = len(template.render(about, data="", listed=len(entries)))
    data, listed = _data(entries, links, curves, most - bare)
    # Names of files may hold what is no text.
    return written(template.render(about, data=Markup(data), listed=listed))


def _add_pictures(told: Sequence[dict[str, Any]], store: Path, links: Mapping[str, str], room: int) -> None:
    """Of the worst images of each model: as many as fit, the worst of every question first."""
    for section in told:
        for model in section["models"]:
            model["worst"] = [
                {**case, "link": links.get(case["key"]), "pictures": [], "words": telling.worst_words(case)}
                for case in model["worst"][: telling.MOST_WORST]
                if telling.reach(case)[1] < 1
            ]
    for rank in range(telling.MOST_WORST):
        for model in (model for section in told for model in section["models"]):
            if rank < len(model["worst"]) and model["worst"][rank]["link"]:
                found = worst_pictures(store, model["worst"][rank]["key"])
                room -= sum(len(text) for _, text in found)
                if room < 0:
                    return
                model["worst"][rank]["pictures"] = found


def _sections(
    environment: Environment, told: Sequence[dict[str, Any]], room: int
) -> tuple[list[Markup], list[str]]:
    """The questions that fit, as HTML, and the titles of those that do not; one at least is shown."""
    template = environment.get_template("question.html.j2")
    shown: list[Markup] = []
    for place, section in enumerate(told):
        text = template.render(section=section, place=place, scales=len(SCALES))
        pictures = sum(
            len(picture)
            for model in section["models"]
            for case in model["worst"]
            for _, picture in case["pictures"]
        )
        room -= len(text) - pictures
        if room < 0 and shown:
            break
        shown.append(Markup(text))
    return shown, [section["title"] for section in told[len(shown) :]]


def _data(
    entries: Sequence[Entry], links: Mapping[str, str], curves: Sequence[Any], room: int
) -> tuple[str, int]:
    """What the script reads, and how many cases are in it: all, or as many of the first as fit."""
    listed = len(entries)
    while True:
        data = packed({"cases": table_of(entries[:listed], links), "curves": curves})
        if len(data) <= room or listed == 0:
            return data, listed
        listed = min(listed - 1, int(listed * room / len(data) * 0.95)) if listed > 10 else 0


def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(_source),
    )
    environment.filters |= {
        "percent": percent,
        "number": number,
        "rate": telling.rate_words,
        "interval": telling.interval_words,
        "headline": telling.headline,
    }
    return environment


def _source(name: str) -> str:
    return files("steadygaze.overview").joinpath(name).read_text(encoding="utf-8")
