"""What hangs together, against scipy's graphs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from steadygaze.geometry.joining import connected


@pytest.mark.parametrize("pairs", [0, 1, 30, 70, 300])
@pytest.mark.parametrize("seed", range(5))
def test_parts_and_their_numbers_are_those_of_a_search_from_the_first(pairs, seed):
    found = np.random.default_rng(seed).integers(0, 100, (pairs, 2))
    links = coo_array((np.ones(pairs), found.T), shape=(100, 100))
    assert connected(found, 100).tolist() == connected_components(links, directed=False)[1].tolist()


def test_a_long_chain_is_one_part_whichever_way_its_links_come():
    ends = np.arange(1, 100_000)
    chain = np.stack([ends, ends - 1], axis=1)
    for links in (chain, chain[::-1], np.random.default_rng(0).permutation(chain)):
        assert not connected(links, 100_000).any()


def test_nothing_hangs_together_where_there_is_nothing():
    assert connected(np.zeros((0, 2)), 0).tolist() == []
