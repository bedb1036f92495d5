"""What all sets of images have in common: entries that go by a number or a name, and an image for each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from steadygaze.question.images.records import Labelled


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

    @abstractmethod
    def entries(self) -> list[Entry]:
        """All of its images, in the order of their numbers; no pixels are read."""

    @abstractmethod
    def image(self, key: str) -> Labelled:
        """The image that goes by this key: its number, or the name that `entries` gives."""
