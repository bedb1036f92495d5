"""steadygaze proves how far an image may change before a classifier changes its answer, or its reason.

The public list. Names are loaded when they are first used, so that asking for help does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steadygaze.answer import Answer, PointAnswer
    from steadygaze.driver import Limits, Progress, solve, verify
    from steadygaze.errors import (
        FidelityError,
        ImageError,
        InternalCheckError,
        ModelError,
        NotJointlyAffine,
        NotPiecewiseAffine,
        PerturbationError,
        SettingError,
        SteadygazeError,
        UsageError,
    )
    from steadygaze.images import LoadedImage, load_image
    from steadygaze.perturbation.base import (
        AbstractAffinePerturbation,
        AbstractPerturbation,
        AbstractPiecewiseAffinePerturbation,
        Parameter,
    )
    from steadygaze.perturbation.chain import Chain
    from steadygaze.perturbation.geometric import Translate
    from steadygaze.perturbation.occlusion import Patch
    from steadygaze.perturbation.photometric import Blend, Brightness, Contrast, Direction, Saturation
    from steadygaze.problem import Problem
    from steadygaze.result import Result, Verdict

__version__ = version("steadygaze")

__all__ = [
    "AbstractAffinePerturbation",
    "AbstractPerturbation",
    "AbstractPiecewiseAffinePerturbation",
    "Answer",
    "Blend",
    "Brightness",
    "Chain",
    "Contrast",
    "Direction",
    "FidelityError",
    "ImageError",
    "InternalCheckError",
    "Limits",
    "LoadedImage",
    "ModelError",
    "NotJointlyAffine",
    "NotPiecewiseAffine",
    "Parameter",
    "Patch",
    "PerturbationError",
    "PointAnswer",
    "Problem",
    "Progress",
    "Result",
    "Saturation",
    "SettingError",
    "SteadygazeError",
    "Translate",
    "UsageError",
    "Verdict",
    "load_image",
    "solve",
    "verify",
]

_HOMES = {
    "answer": ("Answer", "PointAnswer"),
    "driver": ("Limits", "Progress", "solve", "verify"),
    "errors": (
        "FidelityError",
        "ImageError",
        "InternalCheckError",
        "ModelError",
        "NotJointlyAffine",
        "NotPiecewiseAffine",
        "PerturbationError",
        "SettingError",
        "SteadygazeError",
        "UsageError",
    ),
    "images": ("LoadedImage", "load_image"),
    "perturbation": (
        "AbstractAffinePerturbation",
        "AbstractPerturbation",
        "AbstractPiecewiseAffinePerturbation",
        "Blend",
        "Brightness",
        "Chain",
        "Contrast",
        "Direction",
        "Parameter",
        "Patch",
        "Saturation",
        "Translate",
    ),
    "problem": ("Problem",),
    "result": ("Result", "Verdict"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"steadygaze has no {name!r}")
    value = getattr(import_module(f"steadygaze.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
