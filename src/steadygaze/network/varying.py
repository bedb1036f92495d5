"""Tolerances that differ from image to image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from torch import Tensor


class AbstractVarying(dict[int, Tensor], ABC):
    """Tolerances ``(units,)`` of nodes that pick, over the whole box; those at an image may be smaller."""

    @abstractmethod
    def of(self, values: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """The tolerances ``(B, units)`` where all nodes have these values ``(B, *shape)``."""


def at_values(
    tolerances: Mapping[int, Tensor] | None, values: Callable[[], Mapping[int, Tensor]]
) -> Mapping[int, Tensor]:
    """The tolerances where all nodes have the values that are asked for if they vary; none where None."""
    return tolerances.of(values()) if isinstance(tolerances, AbstractVarying) else tolerances or {}
