"""Whether pixels in [0, 1] come to a network as it was made for them, or for pixels from 0 to 255."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from steadygaze.network.graph import Node
from steadygaze.network.layers import Permute, Reshape, ScaleShift
from steadygaze.network.reading.originals import Preparation
from steadygaze.network.taking import Take

# No pipeline leaves less than this between a black and a white pixel in [0, 1]: the standard deviations of
# data sets lie around 0.25, and 1/255, 1/127.5 and 1/58 (ImageNet's, of pixels from 0 to 255) are far below.
_NARROW = 1 / 32


def note_of_scale(nodes: Sequence[Node], preparation: Preparation) -> str | None:
    """A sentence where what comes before the first layer is made for pixels from 0 to 255, else None.

    The nodes are those of the network from the pixels on, before anything is put together. Of weights that
    take pixels as they are nothing can be told.
    """
    beyond = [number for number in preparation.mean if abs(number) > 1]
    if beyond:
        return (
            f"the mean {beyond[0]:g} is no pixel's, for pixels lie in [0, 1] here: if mean and std are those "
            f"of pixels from 0 to 255, divide both by 255 (--mean {beyond[0] / 255:.4g})"
        )
    black, white = _scaled(nodes)
    width = float((white - black).abs().max())
    if width > _NARROW:
        return None
    told = (
        f"black and white pixels, 0 and 1 here, come to the first layer only {width:.3g} apart, as where "
        "pixels from 0 to 255 are expected: "
    )
    if max(preparation.std) > 1:
        return told + f"divide mean and std by 255 (--std {max(preparation.std) / 255:.4g})"
    factor = "1/255" if set(preparation.std) == {1.0} else "a 255th of what is given"
    return told + f"if it was trained on these, give --std {factor}"


def _scaled(nodes: Sequence[Node]) -> tuple[Tensor, Tensor]:
    """What a black and a white image are in front of the first layer that is no scaling."""
    images = [torch.full((1, *nodes[0].shape), level, dtype=torch.float64) for level in (0.0, 1.0)]
    place = 0
    while True:
        readers = [i for i, node in enumerate(nodes) if place in node.inputs]
        if len(readers) != 1 or not isinstance(
            nodes[readers[0]].layer, ScaleShift | Permute | Reshape | Take
        ):
            return images[0], images[1]
        place = readers[0]
        images = [nodes[place].layer.forward(image) for image in images]
