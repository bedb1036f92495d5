"""Half precision: how far what rounds at every step is from the network of real numbers with its weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from steadygaze.errors import FidelityError
from steadygaze.network.reading.originals import AbstractOriginal

# How many roundings of a number may add up in a whole network, and by how much more than what rounding the
# image alone does to the logits.
_ROUNDINGS, _MORE = 32, 8
# Images at which the two are compared.
_IMAGES = 3


def compared(
    given: Callable[[], AbstractOriginal],
    wide: AbstractOriginal,
    precision: str,
    rounding: float,
    shape: tuple[int, ...],
    unable: type[Exception],
) -> str:
    """What the answer says of the precision, where the two have the same logits but for rounding.

    given makes the model as it was handed in, and raises `unable` where its runtime cannot run it; wide has
    the same weights in single precision; rounding is the distance from 1 to the next number; shape is that of
    an image.

    Raises FidelityError where they differ by more than rounding explains.
    """
    note = f"half precision taken as exact ({precision}"
    images = np.random.default_rng(0).uniform(0.0, 1.0, (_IMAGES, *shape))
    ours, moved = (wide.logits(images * (1 + change)) for change in (0.0, rounding))
    try:
        theirs = given().logits(images)
    except unable:
        return f"{note}, not compared: it cannot be run here)"
    allowed = _ROUNDINGS * rounding * np.abs(ours).max() + _MORE * np.abs(moved - ours).max()
    apart = np.abs(theirs.astype(np.float64) - ours).max()
    if not apart <= allowed:
        raise FidelityError(
            f"the network in {precision} gives other logits than that of real numbers with its weights, by "
            f"{apart:.2g} where rounding explains {allowed:.2g}; numbers may leave its range: hand in the "
            "network in float32"
        )
    return f"{note})"
