"""One question as it is written down: a TOML file, options of the command line, or both.

The keys of the file are the long names of the options (``time-limit``, or ``time_limit``); an option that is
given as well overrides the file. Paths are taken as on the command line: from the folder one works in.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from steadygaze.errors import SettingError, meant
from steadygaze.question.framing import Framing, sizes
from steadygaze.question.preset import preset

ATTENTION, CLASS = "attention", "class"
CLAIMS = (ATTENTION, CLASS)
"""What must hold: the class and the reason for it, or the class alone."""

METHODS = ("auto", "sweep", "bfs", "gbs", "nearest", "bound")
NORMS = ("linf", "l2")


@dataclass(frozen=True)
class Case:
    """What to verify. Only form is checked here (a number is a number); values are, where they are used."""

    model: str
    image: str
    perturb: tuple[str, ...]
    resize: tuple[int, ...] | None = None
    crop: tuple[int, ...] | None = None
    resampling: str = "bilinear"
    background: tuple[float, ...] = (1.0,)
    label: int | None = None
    claim: str = ATTENTION
    saliency: str = "gradient"
    channel_sum: bool = False
    layer: str | None = None
    baseline: str = "black"
    inconsistency: str = "cosine"
    threshold: float = 0.3
    method: str = "auto"
    clip: tuple[float, float] | None = (0.0, 1.0)
    layout: str = "auto"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    output: str | None = None
    time_limit: float | None = None
    memory_limit: float = 2.0
    regions_limit: int | None = None
    device: str = "cpu"
    audit: int = 0
    prove_interior: bool = False
    reachable: bool = False
    norm: str = "linf"
    undecided: float | None = None
    handover: bool = True
    threads: int | None = None
    measure: int = 0
    certificate: bool = False
    picture: bool = False
    out: str = "steadygaze-out"

    def settings(self) -> dict[str, Any]:
        """The keyword arguments of ``verify`` beside the model, the framed image and the perturbation."""
        apart = ("model", "image", "perturb", *FRAMING, *KEEPING)
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in apart}

    def framing(self) -> Framing:
        """What is done to the image before the network sees it. Raises SettingError."""
        return Framing(self.resize, self.crop, self.resampling, self.background)


FRAMING = ("resize", "crop", "resampling", "background")
"""The fields that say so."""

KEEPING = ("measure", "certificate", "picture", "out")
"""The fields that say what is told beside an answer or written of it; the answer does not depend on them."""

NEEDED = {
    "model": "name a model: an .onnx or .pt2 file, module:callable, digits-mlp or digits-cnn",
    "image": "name an image with --image, such as digits:7 or FILE.png",
    "perturb": (
        "name a perturbation with --perturb, such as 'brightness(amount=-0.3..0.3)', or one of "
        "`steadygaze campaign presets` with --preset"
    ),
}

# Of files of settings in other languages; no network is kept in one.
_OTHER_ENDINGS = (".yaml", ".yml", ".json")


def check_measure(case: Case) -> None:
    """Raise SettingError where likeness of maps is to be measured, and the class alone is asked about."""
    if case.measure and case.claim == CLASS:
        raise SettingError(
            f"measure is {case.measure}, which compares maps, and the claim is about the class alone, for "
            f"which none is made; leave measure out, or claim {ATTENTION}"
        )


def make_case(*sources: Mapping[str, Any]) -> Case:
    """A case from one or more sets of values by option name, later ones first in rank.

    The perturbations of a preset come before those that are given beside it.

    Args:
        sources: values by the names of the options of `steadygaze verify`, as numbers or in words.

    Raises:
        SettingError: for an unknown name, a value of the wrong form, or where model, image or perturbation
            is missing.
    """
    values: dict[str, Any] = {}
    for source in sources:
        values |= _read(source)
    if name := values.pop("preset", None):
        values["perturb"] = (*preset(name).perturb, *values.get("perturb", ()))
    model = values.get("model", "")
    if model.lower().endswith(_OTHER_ENDINGS):
        raise SettingError(
            f"the case file is {model!r}, and case files are TOML: write it as such, with a name in .toml"
        )
    for name, hint in NEEDED.items():
        if not values.get(name):
            raise SettingError(f"no {'perturbation' if name == 'perturb' else name} is given: {hint}")
    return Case(**values)


def read_toml(path: Path, what: str = "case file") -> dict[str, Any]:
    """The values of a file, called `what`. Raises SettingError where it is missing or is no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors begin with a mark
    except FileNotFoundError:
        raise SettingError(f"there is no {what} {str(path)!r}: check the path") from None
    except OSError as error:
        raise SettingError(
            f"the {what} {str(path)!r} cannot be read: {error.strerror or error}; see to that first"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"the {what} {str(path)!r} is not TOML: {error}; mend it there") from error


# Keys of plans, and what a case has in their place.
_PLANS = {"models": "model", "images": "image", "perturbations": "perturb", "presets": "preset"}
_PLANS |= {"thresholds": "threshold"}


def _read(source: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in source.items():
        option = key.replace("_", "-")
        if key in _PLANS:
            raise SettingError(
                f"{key!r} is a key of plans for many cases, and this is one case: run it with `steadygaze "
                f"campaign PLAN.toml`, or give {_PLANS[key]!r}"
            )
        if option not in READERS:
            raise SettingError(f"there is no setting {key!r}{meant(option, READERS)}")
        name = option.replace("-", "_")
        if name in values:
            raise SettingError(f"{option} is given twice, with - and with _: give it once")
        values[name] = READERS[option](option, value)
    return values


def _text(option: str, value: Any) -> str:
    if isinstance(value, str) and value:
        return value
    if value == "":
        raise SettingError(f"{option} is empty: give its value, or leave it out where it is not needed")
    raise SettingError(f"{option} must be text, got {value!r}")


def _name(option: str, value: Any) -> str:
    """A name, or a number that stands for one."""
    return _text(option, str(value) if isinstance(value, int) and not isinstance(value, bool) else value)


def _texts(option: str, value: Any) -> tuple[str, ...]:
    parts = [value] if isinstance(value, str) else value
    if isinstance(parts, list | tuple):
        return tuple(_text(option, part) for part in parts)
    raise SettingError(f"{option} must be text or a list of texts, got {value!r}")


def _flag(option: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise SettingError(f"{option} must be true or false, got {value!r}")


def _number(option: str, value: Any) -> float:
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise SettingError(f"{option} must be a number, got {value!r}")


def _whole(option: str, value: Any) -> int:
    if isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return int(value)
        except ValueError:
            pass
    raise SettingError(f"{option} must be a whole number, got {value!r}")


def _numbers(option: str, value: Any) -> tuple[float, ...]:
    """One number, or one for each channel."""
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(_quotient(option, part) for part in (parts if isinstance(parts, list | tuple) else [parts]))


def _quotient(option: str, value: Any) -> float:
    """A number, or two with a stroke between them, such as 1/255."""
    above, stroke, below = value.partition("/") if isinstance(value, str) else (value, "", "")
    if not stroke:
        return _number(option, value)
    if not (divisor := _number(option, below)):
        raise SettingError(f"{option} must be a number, got {value!r}, which divides by 0")
    return _number(option, above) / divisor


def _clip(option: str, value: Any) -> tuple[float, float] | None:
    if value == "none":
        return None
    parts = value.split(",") if isinstance(value, str) else value
    if isinstance(parts, list | tuple) and len(parts) == 2:
        return _number(option, parts[0]), _number(option, parts[1])
    raise SettingError(f"{option} must be two numbers such as 0,1 or the word none, got {value!r}")


READERS: Mapping[str, Callable[[str, Any], Any]] = {
    "model": _text,
    "image": _text,
    "perturb": _texts,
    "preset": _text,
    "resize": sizes,
    "crop": sizes,
    "resampling": _text,
    "background": _numbers,
    "label": _whole,
    "claim": _text,
    "saliency": _text,
    "channel-sum": _flag,
    "layer": _text,
    "baseline": _text,
    "inconsistency": _text,
    "threshold": _number,
    "method": _text,
    "clip": _clip,
    "layout": _text,
    "mean": _numbers,
    "std": _numbers,
    "output": _name,
    "time-limit": _number,
    "memory-limit": _number,
    "regions-limit": _whole,
    "device": _text,
    "audit": _whole,
    "prove-interior": _flag,
    "reachable": _flag,
    "norm": _text,
    "undecided": _number,
    "handover": _flag,
    "threads": _whole,
    "measure": _whole,
    "certificate": _flag,
    "picture": _flag,
    "out": _text,
}
