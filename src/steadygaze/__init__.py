"""steadygaze proves how far an image may change before a classifier changes its answer, or its reason.

The public list. Names are loaded when they are first used, so that asking for help does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steadygaze.answer.result import Result, Verdict
    from steadygaze.enclosing.enclosures import Enclosure
    from steadygaze.errors import (
        FidelityError,
        ImageError,
        InternalCheckError,
        ModelError,
        NotEnclosable,
        NotJointlyAffine,
        NotPiecewiseAffine,
        PerturbationError,
        SettingError,
        SteadygazeError,
        UsageError,
    )
    from steadygaze.perturbation.affine import AbstractAffinePerturbation, AbstractPiecewiseAffinePerturbation
    from steadygaze.perturbation.chain import AbstractPerturbation, Chain
    from steadygaze.perturbation.composed import Affine
    from steadygaze.perturbation.curved import Blur, Gamma, Hue
    from steadygaze.perturbation.geometric import Translate
    from steadygaze.perturbation.occlusion import Patch
    from steadygaze.perturbation.perspective import Perspective
    from steadygaze.perturbation.photometric import (
        Blend,
        Brightness,
        Contrast,
        Direction,
        Exposure,
        Saturation,
    )
    from steadygaze.perturbation.records import Parameter
    from steadygaze.perturbation.resampling import Rotate, Scale, Shear
    from steadygaze.question.framing import Framing
    from steadygaze.question.images import ImageEntry, LoadedImage, images_of, load_image
    from steadygaze.question.limits import Limits
    from steadygaze.question.problem import Problem
    from steadygaze.verdict.answer import Answer, PointAnswer
    from steadygaze.verdict.budget import Progress
    from steadygaze.verdict.driver import solve, verify

__all__ = [
    "AbstractAffinePerturbation",
    "AbstractPerturbation",
    "AbstractPiecewiseAffinePerturbation",
    "Affine",
    "Answer",
    "Blend",
    "Blur",
    "Brightness",
    "Chain",
    "Contrast",
    "Direction",
    "Enclosure",
    "Exposure",
    "FidelityError",
    "Framing",
    "Gamma",
    "Hue",
    "ImageEntry",
    "ImageError",
    "InternalCheckError",
    "Limits",
    "LoadedImage",
    "ModelError",
    "NotEnclosable",
    "NotJointlyAffine",
    "NotPiecewiseAffine",
    "Parameter",
    "Patch",
    "Perspective",
    "PerturbationError",
    "PointAnswer",
    "Problem",
    "Progress",
    "Result",
    "Rotate",
    "Saturation",
    "Scale",
    "SettingError",
    "Shear",
    "SteadygazeError",
    "Translate",
    "UsageError",
    "Verdict",
    "images_of",
    "load_image",
    "solve",
    "verify",
]

_HOMES = {
    "answer.result": ("Result", "Verdict"),
    "errors": (
        "FidelityError",
        "ImageError",
        "InternalCheckError",
        "ModelError",
        "NotEnclosable",
        "NotJointlyAffine",
        "NotPiecewiseAffine",
        "PerturbationError",
        "SettingError",
        "SteadygazeError",
        "UsageError",
    ),
    "enclosing.enclosures": ("Enclosure",),
    "perturbation": (
        "AbstractAffinePerturbation",
        "AbstractPerturbation",
        "AbstractPiecewiseAffinePerturbation",
        "Affine",
        "Blend",
        "Blur",
        "Brightness",
        "Chain",
        "Contrast",
        "Direction",
        "Exposure",
        "Gamma",
        "Hue",
        "Parameter",
        "Patch",
        "Perspective",
        "Rotate",
        "Saturation",
        "Scale",
        "Shear",
        "Translate",
    ),
    "question.framing": ("Framing",),
    "question.images": ("ImageEntry", "LoadedImage", "images_of", "load_image"),
    "question.problem": ("Problem",),
    "verdict.answer": ("Answer", "PointAnswer"),
    "question.limits": ("Limits",),
    "verdict.budget": ("Progress",),
    "verdict.driver": ("solve", "verify"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
_MODULES = ("campaign", "digits", "errors")  # those that users import from


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # it takes twice as long as all else here

        return version("steadygaze")
    if name in _MODULES:
        return import_module(f"steadygaze.{name}")
    if name not in _HOME:
        raise AttributeError(f"steadygaze has no {name!r}")
    value = getattr(import_module(f"steadygaze.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES, "__version__"})
