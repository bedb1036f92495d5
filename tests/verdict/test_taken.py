from __future__ import annotations

import pytest
import torch

from steadygaze.verdict.taken import TakenRows

VALUES = {0: torch.arange(12.0).reshape(4, 3), 3: torch.arange(8.0).reshape(4, 2)}


@pytest.mark.parametrize("rows", [slice(1, 3), slice(0), torch.tensor([3, 0, 3])])
def test_rows_of_each_node_are_taken(rows):
    taken = TakenRows(VALUES, rows)
    assert list(taken) == [0, 3]
    for node, value in VALUES.items():
        assert torch.equal(taken[node], value[rows])
        assert taken[node] is taken[node]


def test_rows_of_rows_are_taken_and_other_nodes_are_unknown():
    taken = TakenRows(TakenRows(VALUES, slice(1, None)), slice(1, 2))
    assert torch.equal(taken[3], VALUES[3][2:3])
    assert 1 not in taken
    with pytest.raises(KeyError):
        taken[1]
