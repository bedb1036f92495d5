"""A plan as it is written down: models × images × perturbations × maps × thresholds, in one TOML file.

    models = ["small.onnx", { model = "large.onnx", name = "large", layout = "hwc" }]
    images = ["digits:0..99"]
    presets = ["photometric-mild"]
    thresholds = [0.1, 0.3]

    [perturbations]
    mine = ["brightness(amount=-0.3..0.3)"]

    [settings]
    time_limit = 60

All keys are in `KEYS`; `settings`, and the table of a model, take the settings of a case file. Paths are
taken as on the command line: from the folder one works in.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from steadygaze.campaign.crew import KEEP
from steadygaze.campaign.plan import Plan, PlannedCase
from steadygaze.errors import ImageError, SettingError, meant
from steadygaze.question.case import ATTENTION, CLAIMS, CLASS, KEEPING, READERS, make_case, read_toml
from steadygaze.question.images import ImageEntry, images_of
from steadygaze.question.preset import preset, presets

KEYS: Mapping[str, str] = {
    "name": "what the campaign is called",
    "store": "the file of its records",
    "models": "a model or a list of them; a table gives one a name and settings of its own",
    "images": "a source of images or a list of them; a table may take its first ones, or a sample",
    "presets": "perturbations of the package, by their names",
    "perturbations": "a table of your own: a name and its perturbations",
    "claim": "what must hold: attention (class and attention), class (the class alone), or a list of both",
    "thresholds": "the largest inconsistencies that count as the same attention",
    "saliency": "a saliency map or a list of them; a table gives one layer, channel_sum and a name",
    "keep": "of which answers the folder is kept: none, failing or all",
    "settings": "a table of the settings of a case file, for all cases",
    "gate": "a table of what a gate asks for",
}
# What a plan has keys of its own for, or what has no meaning for many cases.
_KEPT_APART = tuple(name for name in KEEPING if name != "measure")
_APART = ("model", "image", "perturb", "preset", "claim", "threshold", "saliency", "label", *_KEPT_APART)
# What the plan itself calls some of these.
_KEY_OF = {"model": "models", "image": "images", "perturb": "perturbations", "preset": "presets"}
_KEY_OF |= {"claim": "claim", "threshold": "thresholds", "saliency": "saliency"}
_OF_A_MAP = ("layer", "channel-sum", "baseline")
_OF_MAPS = (*_OF_A_MAP, "inconsistency", "measure")
DEFAULT_TIME_LIMIT = 60.0
"""Seconds for a case of a plan that names no limit: a case without one might never end."""


def read_plan(path: str | Path) -> Plan:
    """The plan of a TOML file.

    Args:
        path: the file; its keys: [Campaigns](../campaigns.md).

    Returns:
        The plan, checked.

    Raises:
        SettingError: if the file is missing or is no TOML, a key is unknown, or what it says cannot be
            used; the sentence names the key, what it got and what is allowed.
    """
    path = Path(path)
    document = read_toml(path, "plan file")
    try:
        return plan_of({"name": path.stem, **document})
    except SettingError as error:
        raise SettingError(f"{path}: {error}") from error


def store_of(path: str | Path) -> Path:
    """The store of a plan file (beside it, under its name, unless it says otherwise), or a store itself.

    Raises:
        SettingError: if the plan cannot be read.
    """
    path = Path(path)
    if path.suffix.lower() != ".toml":
        return path
    try:
        named = read_toml(path, "plan file").get("store")
    except SettingError as error:
        raise SettingError(
            f"the store of {str(path)!r} is not known, as it cannot be read: {error}"
        ) from error
    return Path(_text("store", named)) if named is not None else path.with_suffix(".sqlite")


def plan_of(document: Mapping[str, Any]) -> Plan:
    """The plan that a document says: what `read_plan` reads from a file, as a mapping.

    Raises:
        SettingError: as `read_plan` does.
    """
    for key in document:
        if key not in KEYS and key.replace("_", "-") in READERS.keys() - set(_APART):
            raise SettingError(f"{key!r} is no key of a plan, but a setting; write it below [settings]")
        if key not in KEYS:
            raise SettingError(_unknown("key", key, KEYS))
    models = [_model(one) for one in _listed("models", document, (str, dict))]
    _check_unique("models", [one.name for one in models])
    images = _images(document)
    sets = _sets(document)
    keep = document.get("keep", "none")
    if keep not in KEEP:
        raise SettingError(f"keep is {keep!r}; allowed: {', '.join(KEEP)}")
    common = _settings("settings", document.get("settings", {}), _APART)
    asked = _asked(document, [common, *(model.settings for model in models)])
    cases = [
        PlannedCase(
            make_case(
                {"time-limit": DEFAULT_TIME_LIMIT},
                compared.of(common),
                compared.of(model.settings),
                compared.settings,
                {"model": model.model, "image": image.entry.reference, "perturb": sets[name]},
            ),
            {
                "model": model.name,
                "image": image.entry.name,
                "perturbation": name,
                **compared.tags,
                "label": image.entry.label,
                "source": image.source,
            },
            keep,
        )
        for model, image in _ordered(models, images)
        for name in sets
        for compared in asked
    ]
    return Plan(_text("name", document.get("name", "campaign")), tuple(cases), dict(document))


@dataclass(frozen=True)
class _Named:
    """A model or a map: its name in reports, and its own settings; model: what a case calls it."""

    name: str
    settings: Mapping[str, Any]
    model: str = ""


@dataclass(frozen=True)
class _Compared:
    """What must hold: the settings of a case that say so, and the tags."""

    settings: Mapping[str, Any]
    tags: Mapping[str, Any]

    def of(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Settings for all cases as these cases take them: of the class alone none speaks of maps."""
        alone = "claim" in self.settings
        return {k: value for k, value in given.items() if not (alone and k.replace("_", "-") in _OF_MAPS)}


@dataclass(frozen=True)
class _Image:
    """An image, and the source that it comes from."""

    entry: ImageEntry
    source: str


def _ordered(models: Sequence[_Named], images: Sequence[_Image]) -> Iterator[tuple[_Named, _Image]]:
    """The first image of every model, which tells what to expect of the whole; then model by model.

    So a worker keeps the network that it has loaded.
    """
    yield from ((model, images[0]) for model in models)
    yield from ((model, image) for model in models for image in images[1:])


def _model(given: str | dict[str, Any]) -> _Named:
    if isinstance(given, str):
        return _Named(_stem(given), {}, given)
    if "model" not in given:
        raise SettingError(
            f"a table of models is {given!r}, without the key model; name the file or built-in"
        )
    model = _text("model", given["model"])
    own = {key: value for key, value in given.items() if key not in ("model", "name")}
    return _Named(
        _text("name of a model", given.get("name", _stem(model))),
        _settings(f"the table of the model {model!r}", own, _APART, ("model", "name")),
        model,
    )


def _stem(model: str) -> str:
    """A file's name without folder and ending; anything else as it is."""
    path = Path(model)
    return path.stem if path.suffix.lower() in (".onnx", ".pt2") else model


def _map(given: str | dict[str, Any]) -> _Named:
    if isinstance(given, str):
        return _Named(given, {"saliency": given})
    if "saliency" not in given:
        raise SettingError(f"a table of saliency is {given!r}, without the key saliency; name the map")
    allowed = ("saliency", "name", *_OF_A_MAP)
    own = {key: value for key, value in given.items() if key != "name"}
    apart = [name for name in READERS if name not in allowed]
    settings = _settings("a table of saliency", own, apart, ("name",))
    words = [given["saliency"]]
    words += [f"of {given['layer']}"] if "layer" in given else []
    words += [f"from {given['baseline']}"] if "baseline" in given else []
    words += ["summed over channels"] if given.get("channel_sum", given.get("channel-sum")) else []
    return _Named(_text("name of a saliency map", given.get("name", " ".join(map(str, words)))), settings)


def _asked(document: Mapping[str, Any], settings: Sequence[Mapping[str, Any]]) -> list[_Compared]:
    """Every map with every threshold where attention is asked about, and the class alone where that is.

    settings: of all cases, and of those of each model.
    """
    claims = _listed("claim", document, (str,), default=ATTENTION)
    _check_unique("claim", claims)
    for claim in claims:
        if claim not in CLAIMS:
            raise SettingError(f"claim is {claim!r}; allowed: {' or '.join(CLAIMS)}, or a list of both")
    own = {key: document[key] for key in ("saliency", "thresholds") if key in document}
    told = [own, *({k: v for k, v in one.items() if k.replace("_", "-") in _OF_MAPS} for one in settings)]
    of_maps = next(((key, value) for one in told for key, value in one.items()), None)
    if of_maps is not None and ATTENTION not in claims:
        key, value = of_maps
        raise SettingError(
            f"the claim is {CLASS}, the class alone, for which no map is made, and {key} is {value!r}; "
            f"leave {key} out, or write claim = [{ATTENTION!r}, {CLASS!r}]"
        )
    maps = [_map(one) for one in _listed("saliency", document, (str, dict), default="gradient")]
    _check_unique("saliency", [one.name for one in maps])
    thresholds = _listed("thresholds", document, (int, float), default=0.3)
    _check_unique("thresholds", thresholds)
    both = [
        _Compared(
            {**look.settings, "threshold": threshold}, {"threshold": float(threshold), "saliency": look.name}
        )
        for look in maps
        for threshold in thresholds
    ]
    alone = [_Compared({"claim": CLASS}, {"threshold": None, "saliency": "none"})]
    return [compared for claim in claims for compared in (alone if claim == CLASS else both)]


def _images(document: Mapping[str, Any]) -> list[_Image]:
    """Every image once, names made unique by their source where two sources have the same."""
    found: list[_Image] = []
    for one in _listed("images", document, (str, dict)):
        table = {"source": one} if isinstance(one, str) else one
        for key in table:
            if key not in ("source", "first", "sample", "seed"):
                raise SettingError(_unknown("key of images", key, ("source", "first", "sample", "seed")))
        source = _text("source of images", table.get("source"))
        try:
            entries = images_of(source)
        except ImageError as error:
            raise SettingError(f"images: {error}") from error
        found += [_Image(entry, source) for entry in _chosen(entries, table)]
    references = dict[str, _Image]()
    for image in found:
        references.setdefault(image.entry.reference, image)
    found = list(references.values())
    names = Counter(image.entry.name for image in found)
    return [
        replace(image, entry=image.entry._replace(name=image.entry.reference))
        if names[image.entry.name] > 1
        else image
        for image in found
    ]


def _chosen(entries: list[ImageEntry], table: Mapping[str, Any]) -> list[ImageEntry]:
    first, sample = table.get("first"), table.get("sample")
    if first is not None and sample is not None:
        raise SettingError(f"images have both first = {first!r} and sample = {sample!r}; give one of them")
    for key, count in (("first", first), ("sample", sample)):
        whole = isinstance(count, int) and not isinstance(count, bool)
        if count is not None and not (whole and 1 <= count <= len(entries)):
            raise SettingError(
                f"{key} of the images {table['source']!r} is {count!r}; it must be a whole number from 1 to "
                f"{len(entries)}, which is how many there are"
            )
    if sample is not None:
        chosen = random.Random(table.get("seed", 0)).sample(range(len(entries)), sample)
        return [entries[number] for number in sorted(chosen)]
    return entries[:first]


def _sets(document: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The perturbations by name: of one's own, then presets."""
    own = document.get("perturbations", {})
    if not isinstance(own, dict):
        raise SettingError(
            f"perturbations is {own!r}; it must be a table of names, each with a text or a list of "
            "texts such as 'brightness(amount=-0.3..0.3)'"
        )
    sets = {name: _texts(f"perturbations.{name}", texts) for name, texts in own.items()}
    for name in _listed("presets", document, (str,), default=[]):
        if name in sets:
            raise SettingError(
                f"{name!r} is both a preset and a name of your own in perturbations; call yours otherwise"
            )
        sets[name] = preset(name).perturb
    if not sets:
        raise SettingError(
            "the plan names no perturbations; give presets (such as "
            f"{', '.join(list(presets())[:3])}), a table [perturbations] of your own, or both"
        )
    return sets


def _settings(where: str, given: Any, apart: Sequence[str], also: Sequence[str] = ()) -> dict[str, Any]:
    """Settings of a case, their names known; what they say is checked where cases are made."""
    if not isinstance(given, dict):
        raise SettingError(f"{where} is {given!r}; it must be a table of settings")
    allowed = [name for name in READERS if name not in apart]
    for key in given:
        name = key.replace("_", "-")
        if name in apart and name in READERS:
            hint = f" (the plan has the key {_KEY_OF[name]} for it)" if name in _KEY_OF else ""
            raise SettingError(
                f"{where} has {key!r}, which is no setting there{hint}; allowed: "
                f"{', '.join([*also, *allowed])}"
            )
        if name not in allowed:
            raise SettingError(f"{where}: {_unknown('setting', key, [*also, *allowed])}")
    return given


def _listed(key: str, document: Mapping[str, Any], kinds: tuple[type, ...], default: Any = None) -> list[Any]:
    """A list, or a single thing as one. Raises SettingError where it is missing, empty or of another kind."""
    given = document.get(key, default)
    if given is None:
        raise SettingError(f"the plan has no {key}; give {KEYS[key]}")
    listed = given if isinstance(given, list) else [given]
    wrong = [one for one in listed if not isinstance(one, kinds) or isinstance(one, bool) or one in ("", {})]
    if wrong or (not listed and default is None):
        raise SettingError(f"{key} is {given!r}; allowed: {KEYS[key]}")
    return listed


def _check_unique(key: str, names: Sequence[Any]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SettingError(f"{key} has {twice!r} twice; leave one out, or give each a name of its own")


def _text(key: str, value: Any) -> str:
    if isinstance(value, str) and value:
        return value
    raise SettingError(f"{key} is {value!r}; it must be a text")


def _texts(key: str, value: Any) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    if not listed:
        raise SettingError(f"{key} is empty; it must be a text or a list of texts")
    return tuple(_text(key, one) for one in listed)


def _unknown(what: str, got: str, allowed: Sequence[str] | Mapping[str, str]) -> str:
    return f"there is no {what} {got!r}{meant(got, allowed)}"
