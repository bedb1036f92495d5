"""What must hold: the class and the reason for it, or the class alone."""

from __future__ import annotations

from typing import Any, NamedTuple

from steadygaze.errors import SettingError
from steadygaze.network import saliencies
from steadygaze.network.baselines import BLACK
from steadygaze.network.saliency import AbstractSaliency, NoMap
from steadygaze.question import inconsistency as inconsistencies
from steadygaze.question.case import ATTENTION, CLAIMS, CLASS
from steadygaze.question.images.records import LoadedImage
from steadygaze.question.inconsistency import AbstractInconsistency, Cosine

# What a question about the class alone says nothing of, with the values that nobody has to give.
_OF_MAPS = {
    "saliency": "gradient", "channel_sum": False, "layer": None, "baseline": BLACK, "inconsistency": "cosine",
    "threshold": 0.3,
}  # fmt: skip


class Compared(NamedTuple):
    """The map, the measure and the threshold that a question is posed with."""

    saliency: AbstractSaliency
    inconsistency: AbstractInconsistency
    threshold: float


def compared(claim: str, **of_maps: Any) -> Compared:
    """What `pose` takes of a claim and of the settings of maps: saliency, channel_sum, layer, baseline (a
    name, or an image that is loaded), inconsistency and threshold.

    Raises SettingError where there is no such claim, map or measure, or where the class alone is asked about
    and something is said of maps.
    """
    if claim not in CLAIMS:
        raise SettingError(
            f"the claim is {claim!r}; allowed are {ATTENTION}, which is the class and the reason for it, and "
            f"{CLASS}, which is the class alone"
        )
    if claim == CLASS:
        for name, usual in _OF_MAPS.items():
            if of_maps[name] is not usual and of_maps[name] != usual:
                raise SettingError(
                    f"the claim is about the class alone, for which no map is made, and {name} is "
                    f"{of_maps[name]!r}; leave {name} out, or claim {ATTENTION}"
                )
        return Compared(NoMap(), Cosine(), Cosine.maximum)
    begins = of_maps["baseline"]
    baseline, source = (begins.image, begins.source) if isinstance(begins, LoadedImage) else (begins, None)
    return Compared(
        saliencies.by_name(of_maps["saliency"], of_maps["channel_sum"], of_maps["layer"], baseline, source),
        inconsistencies.by_name(of_maps["inconsistency"]),
        of_maps["threshold"],
    )
