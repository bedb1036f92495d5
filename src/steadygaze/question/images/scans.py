"""scikit-learn's digits as a set of images; see `question.digits`."""

from __future__ import annotations

from typing import ClassVar, final

from steadygaze.question.digits import digit, digits
from steadygaze.question.images.records import Labelled, Pixels
from steadygaze.question.images.sets import AbstractImageSet, Entry


@final
class Digits(AbstractImageSet):
    """``digits``, which lies in no file."""

    kind: ClassVar[str] = "digits"

    def entries(self) -> list[Entry]:
        """Named ``digits:17``."""
        return [Entry(str(k), f"digits:{k}", int(label)) for k, label in enumerate(digits()[1])]

    def image(self, key: str) -> Labelled:
        """By its number. Raises ImageError."""
        image, label = digit(int(key))
        return Labelled(Pixels(image), label, index=int(key))
