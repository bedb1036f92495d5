"""Everything steadygaze raises on purpose.

SteadygazeError
├── UsageError               what was handed in cannot be used; the sentence says what to do (exit code 2)
│   ├── ModelError           the network: missing file, unknown layer, NaN weights, wrong shape
│   ├── ImageError           the image: missing file, wrong shape, values outside [0, 1]
│   ├── PerturbationError    the perturbation: unknown name, reversed range, 0 outside the range
│   │   ├── NotJointlyAffine the exact engines cannot take this chain; names the two links
│   │   └── NotEnclosable    the bound engine cannot take this chain; names the link
│   ├── NotPiecewiseAffine   the exact engines cannot take this network or this saliency map; names it
│   └── SettingError         any other setting: threshold, label, method, limits
├── FidelityError            the imported network disagrees with the original (exit code 1)
└── InternalCheckError       a self-check of the search failed: no verdict is given (exit code 1)
"""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

# Names that are less alike mean something else: rain is no affine.
_NEAR = 0.65


class SteadygazeError(Exception):
    """Base of every error that steadygaze raises on purpose."""


class UsageError(SteadygazeError):
    """What was handed in cannot be used."""


class ModelError(UsageError):
    """The network cannot be used."""


class ImageError(UsageError):
    """The image cannot be used."""


class PerturbationError(UsageError):
    """The perturbation cannot be used."""


class NotJointlyAffine(PerturbationError):
    """The chain multiplies parameters, so that no exact engine can take it."""


class NotEnclosable(PerturbationError):
    """A link of the chain does not say where its images lie for a box of amounts."""


class NotPiecewiseAffine(UsageError):
    """The network is not piecewise linear, or its map varies within a region: no exact engine can take it."""


class SettingError(UsageError):
    """A setting is outside what is allowed."""


class FidelityError(SteadygazeError):
    """The imported network and the original disagree."""


class InternalCheckError(SteadygazeError):
    """A self-check failed: the answer is withheld."""


def meant(got: str, allowed: Collection[str]) -> str:
    """The end of a sentence on a name that there is not: which is near it, if any, and which there are."""
    near = [name for name in allowed if name.startswith(got)] or get_close_matches(got, allowed, 1, _NEAR)
    return (f": did you mean {near[0]!r}? " if near else "; ") + f"allowed: {', '.join(allowed)}"
