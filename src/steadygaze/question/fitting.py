"""A network and an image that go together: in grey or in RGB, as the network wants."""

from __future__ import annotations

from collections.abc import Callable

from steadygaze.errors import UsageError
from steadygaze.network.reading.load import Network
from steadygaze.question.images.channels import other_channels
from steadygaze.question.images.records import LoadedImage


def fitted(loaded: LoadedImage, read: Callable[[tuple[int, ...]], Network]) -> tuple[Network, LoadedImage]:
    """The network that `read` reads for a shape (C, H, W), and the image in as many channels as it takes.

    Not every network says how many it takes; so it is read for the image as it is, and where that is refused
    for the image in RGB instead of grey, or in grey instead of RGB. Raises UsageError as `read` does for the
    image as it is, where it refuses both.
    """
    try:
        return read(loaded.image.shape), loaded
    except UsageError:
        other = other_channels(loaded)
        if other is None:
            raise
        try:
            return read(other.image.shape), other
        except UsageError:
            pass
        raise
