"""Random points that are the same whenever they are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from steadygaze.geometry.draws import unit_draws


def test_they_are_those_of_the_seed_and_kept():
    wanted = np.random.default_rng(11).random((5, 3))
    np.testing.assert_array_equal(unit_draws(11, 5, 3), wanted)
    assert unit_draws(11, 5, 3) is unit_draws(11, 5, 3)


def test_nobody_changes_them_for_the_next():
    with pytest.raises(ValueError, match="read-only"):
        unit_draws(11, 5, 3)[0] = 0.0


def test_few_are_kept_whatever_is_asked():
    for seed in range(200):
        unit_draws(seed, 1, 1)
    assert unit_draws.cache_info().currsize <= 64
