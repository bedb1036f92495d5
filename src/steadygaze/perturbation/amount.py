"""Perturbations by one amount, which varies or is constant."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from steadygaze.enclosing.enclosures import Enclosure
from steadygaze.perturbation.chain import AbstractPerturbation
from steadygaze.perturbation.settings import number


class AbstractOneAmount(AbstractPerturbation):
    """A change by one amount, the first of the ``settings``.

    A final class gives ``changed``, the definition in its own words, and ``enclosed``, and sets
    ``parameters`` and ``constants`` with ``settings.varying``.
    """

    @abstractmethod
    def changed(self, images: np.ndarray, amount: np.ndarray) -> np.ndarray:
        """The images (B, C, H, W) changed by ``amount`` (B, 1, 1, 1)."""

    @abstractmethod
    def enclosed(self, images: Enclosure, amount: Enclosure) -> Enclosure:
        """``changed`` for images (B, C, H, W) and an amount (B, 1, 1, 1) of which only enclosures are known.

        Written so that errors of the images go through what multiplies the images as a whole.
        """

    def apply(self, images: np.ndarray, thetas: np.ndarray) -> np.ndarray:
        """The images (B, C, H, W) changed by ``thetas`` (B, 1), or (B, 0) where the amount is constant."""
        amount = thetas if self.parameters else np.full((len(images), 1), self.constant())
        return self.changed(images, amount[:, :, None, None])

    def enclose(self, images: Enclosure, amounts: Enclosure) -> Enclosure:
        """``enclosed`` for the amount, which may be constant."""
        if self.parameters:
            return self.enclosed(images, amounts.reshaped(1, 1, 1))
        constant = np.full((len(images.centre), 1, 1, 1), self.constant())
        return self.enclosed(images, Enclosure.exact(constant, images.count))

    def limits(self) -> tuple[float, float]:
        """Least and largest amount; equal where it is constant."""
        if self.parameters:
            return self.parameters[0].low, self.parameters[0].high
        return self.constant(), self.constant()

    def constant(self) -> float:
        """The amount where it does not vary."""
        return number(self.name, self.constants[self.settings[0].name])

    def amount_in_words(self) -> str:
        """'-0.3 to 0.3', or the constant."""
        low, high = self.limits()
        return f"{low:g} to {high:g}" if self.parameters else f"{low:g}"
