"""Columns of rows: which are used, and whether a value is near to a mark; against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from steadygaze.geometry.columns import any_within, columns_unlike_first, rows_within, used_columns


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (40, 300), (0, 5), (5, 0)])
@pytest.mark.parametrize("kind", [np.float64, np.uint8])
def test_columns_are_used_where_any_row_is_not_zero(shape, kind):
    rng = np.random.default_rng(shape[1])
    rows = (rng.integers(1, 9, shape) * (rng.random(shape) < 0.05)).astype(kind)
    np.testing.assert_array_equal(used_columns(rows), np.flatnonzero(rows.any(axis=0)))


def test_what_is_no_number_or_tiny_is_used():
    rows = np.array([[0.0, -0.0, np.nan, 5e-324, np.inf, 0.0]])
    assert used_columns(rows).tolist() == [2, 3, 4]


@pytest.mark.parametrize("marks", [[0.0], [-1.0, 2.0]])
def test_values_are_within_where_one_of_them_is(marks):
    rng = np.random.default_rng(len(marks))
    marks, slack = np.array(marks), rng.uniform(1e-9, 1e-3, 50)
    off = np.where(rng.random((6, 50)) < 0.5, 1, -1) * 2 * slack + rng.choice(marks, (6, 50))
    assert not any_within(off, marks, slack)
    for mark in marks:
        for row, column in ((0, 0), (5, 49), (3, 20)):
            values = off.copy()
            values[row, column] = mark + slack[column]
            assert any_within(values, marks, slack) == (abs(values[row, column] - mark) <= slack[column])
            values[row, column] = mark - slack[column] / 2
            assert any_within(values, marks, slack)
            assert np.flatnonzero(rows_within(values, marks, slack)).tolist() == [row]
    assert not rows_within(off, marks, slack).any()
    assert not any_within(np.full((2, 50), np.nan), marks, slack)
    assert not any_within(off[:0], marks, slack)


@pytest.mark.parametrize("unlike", [[], [3], [1, 2, 9], [*range(1, 10)]])
def test_columns_unlike_the_first_are_found_up_to_so_many(unlike):
    rows = np.repeat(np.random.default_rng(3).uniform(-1, 1, (6, 1)), 10, axis=1)
    for place, column in enumerate(unlike):  # in one row each, or in several
        rows[place % 6 : place % 6 + 1 + place % 2, column] += 1e-16 + np.spacing(1.0)
    for most in range(11):
        found = columns_unlike_first(rows, most)
        assert (found is None) == (len(unlike) > most)
        assert found is None or found.tolist() == unlike
    rows[2, 4] = np.nan
    assert 4 in columns_unlike_first(rows, 10).tolist()
