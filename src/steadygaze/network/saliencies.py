"""Saliency maps by name."""

from __future__ import annotations

import numpy as np
import torch

from steadygaze.errors import SettingError
from steadygaze.network.baselines import BASELINES, BLACK, GIVEN
from steadygaze.network.integrated import IntegratedGradients
from steadygaze.network.saliency import (
    AbsGradient,
    AbstractSaliency,
    GradCam,
    Gradient,
    GradientTimesInput,
    SoftmaxGradient,
)

_GRADIENTS: dict[str, type[Gradient | AbsGradient | GradientTimesInput | SoftmaxGradient]] = {
    each.name: each for each in (Gradient, AbsGradient, GradientTimesInput, SoftmaxGradient)
}
_OF_PIXELS = (*_GRADIENTS, IntegratedGradients.name)
SALIENCIES = (*_OF_PIXELS, GradCam.name)
"""Names that `by_name` takes."""


def by_name(
    name: str,
    channel_sum: bool = False,
    layer: str | None = None,
    baseline: str | np.ndarray = BLACK,
    source: str | None = None,
) -> AbstractSaliency:
    """The saliency of that name; raises SettingError if there is none, or none with these settings.

    baseline: of integrated gradients, a name or an image ``(C, H, W)``; source: what that image is called.
    """
    if name not in SALIENCIES:
        raise SettingError(f"saliency is {name!r}, allowed are {', '.join(SALIENCIES)}; choose one of these")
    if layer is not None and name != GradCam.name:
        raise SettingError(
            f"the layer is {layer!r} and the saliency {name!r}, which looks at the pixels; allowed is a "
            f"layer with {GradCam.name}: choose that, or leave the layer out"
        )
    if name != IntegratedGradients.name and not (isinstance(baseline, str) and baseline == BLACK):
        raise SettingError(
            f"a baseline belongs to {IntegratedGradients.name} and the saliency is {name!r}; choose that, or "
            "leave the baseline out"
        )
    if name == GradCam.name:
        if channel_sum:
            raise SettingError(
                "saliency 'grad-cam' has one map and got a channel sum, which is allowed with "
                f"{', '.join(_OF_PIXELS)}; leave the channel sum out"
            )
        return GradCam(layer)
    return _GRADIENTS[name](channel_sum) if name in _GRADIENTS else _integrated(channel_sum, baseline, source)


def _integrated(channel_sum: bool, baseline: str | np.ndarray, source: str | None) -> IntegratedGradients:
    if isinstance(baseline, str):
        if baseline not in BASELINES:
            raise SettingError(
                f"the baseline is {baseline!r}; allowed are {', '.join(BASELINES)}, or an image like the one "
                "to verify"
            )
        return IntegratedGradients(channel_sum, baseline)
    start = torch.from_numpy(np.array(baseline, np.float64))
    return IntegratedGradients(channel_sum, GIVEN, start, source)
