"""What a worker keeps from case to case: the networks that it has loaded, the last image and baseline."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import final

from steadygaze.errors import UsageError
from steadygaze.network.reading.load import Network
from steadygaze.question.case import Case
from steadygaze.question.images import Framing, Library, LoadedImage
from steadygaze.question.images.loading import baseline_of
from steadygaze.question.networks import network_of

# A constant of a network: double in its graph, single in the original that it is held against.
_BYTES_EACH = 8 + 4


@final
class Shelf:
    """Loaded networks, the least recently used put away where they would take more than ``room`` bytes.

    The one in use stays, however large. A network is known by all that it is read with: its name, the size of
    its images, layout, normalisation, output and device; that it cannot be read so is remembered too. Files
    are taken to stay as they are while a worker works.
    """

    def __init__(self, room: int = 2**28) -> None:
        self._room = room
        self._networks: OrderedDict[Hashable, Network | UsageError] = OrderedDict()
        self._library = Library()
        self._image: tuple[tuple[str, Framing], LoadedImage] | None = None
        self._baseline: tuple[tuple[str, Framing], str | LoadedImage] | None = None

    def network(self, case: Case, shape: tuple[int, ...]) -> Network:
        """The network of a case, for images of that shape. Raises ModelError or SettingError."""
        how = (shape, case.layout, case.mean, case.std, case.output, case.device)
        key = (case.model, *how)
        if key not in self._networks:
            try:
                self._networks[key] = network_of(case.model, *how)
            except UsageError as error:
                self._networks[key] = error
        self._networks.move_to_end(key)
        while len(self._networks) > 1 and self._taken() > self._room:
            self._networks.popitem(last=False)
        found = self._networks[key]
        if isinstance(found, UsageError):
            raise found.with_traceback(None)
        return found

    def image(self, case: Case) -> LoadedImage:
        """The image of a case. Raises ImageError."""
        key = (case.image, case.framing())
        if self._image is None or self._image[0] != key:
            self._image = (key, self._library.load(*key))
        return self._image[1]

    def baseline(self, case: Case) -> str | LoadedImage:
        """Where the path of integrated gradients begins. Raises ImageError."""
        key = (case.baseline, case.framing())
        if self._baseline is None or self._baseline[0] != key:
            self._baseline = (key, baseline_of(*key))
        return self._baseline[1]

    def clear(self) -> None:
        """Put everything away."""
        self._networks.clear()
        self._image = self._baseline = None

    def _taken(self) -> int:
        return _BYTES_EACH * sum(
            network.graph.parameters for network in self._networks.values() if isinstance(network, Network)
        )
