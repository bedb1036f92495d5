"""What all sets of images have in common: entries that go by a number or a name, and an image for each."""

from __future__ import annotations

import io
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from steadygaze.question.images.files import Stream
from steadygaze.question.images.records import Labelled

MOST_UNPACKED = 2**28
"""Bytes of a compressed stream that are kept in memory."""


@dataclass(frozen=True)
class Entry:
    """One image of a set: the last part of its reference, a short name of its own, its true class if any."""

    key: str
    name: str
    label: int | None


class AbstractImageSet(ABC):
    """A file or folder of many images, as a reference names it: ``kind:where:setting=value:entry``.

    kind: the word it starts with; keys: the settings that it may have; names_files: whether entries may be
    names of files beside numbers. Made from `where`, the settings and the background of what is transparent,
    which are looked at when something is read: every method raises ImageError.
    """

    kind: ClassVar[str]
    keys: ClassVar[tuple[str, ...]] = ()
    names_files: ClassVar[bool] = False

    def __init__(
        self, where: str, settings: Mapping[str, str], background: tuple[float, ...] = (1.0,)
    ) -> None:
        self.where, self.settings, self.background = where, settings, background
        self._openings, self._unpacked = dict[Hashable, int](), dict[Hashable, bytes | None]()

    def _kept(self, name: Hashable, open_: Callable[[], Stream]) -> Stream:
        """A compressed stream, from its third opening on as it was unpacked in memory, where it fits there.

        Whoever reads one image of a set reads no farther than that; whoever reads many does not unpack what
        comes before each of them again.
        """
        times = self._openings.get(name, 0)
        self._openings[name] = times + 1
        if times == 2:
            self._unpacked[name] = _all_of(open_)
        content = self._unpacked.get(name)
        return open_() if content is None else io.BytesIO(content)

    @abstractmethod
    def entries(self) -> list[Entry]:
        """All of its images, in the order of their numbers; no pixels are read."""

    @abstractmethod
    def image(self, key: str) -> Labelled:
        """The image that goes by this key: its number, or the name that `entries` gives."""


def _all_of(open_: Callable[[], Stream]) -> bytes | None:
    """Everything in a stream; None where it is too much, or damaged: images before that are good."""
    try:
        with open_() as stream:
            content = stream.read(MOST_UNPACKED + 1)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile):
        return None
    return content if len(content) <= MOST_UNPACKED else None
