"""Random points of the unit cube, the same whenever they are asked for."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=64)
def unit_draws(seed: int, count: int, dimension: int) -> np.ndarray:
    """So many points ``(count, dimension)`` of [0, 1)^n, by the seed alone; not to be written to.

    A generator takes longer to begin than a small answer has for its points: those asked for last are kept.
    """
    draws = np.random.default_rng(seed).random((count, dimension))
    draws.flags.writeable = False
    return draws
