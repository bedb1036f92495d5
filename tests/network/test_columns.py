"""Columns of tensors: the quick way and the plain one say the same, whatever the tensor."""

from __future__ import annotations

import pytest
import torch

from steadygaze.network.columns import (
    columns_of,
    may_be_within,
    rows_within,
    sums_of_magnitudes,
    unlike_first,
    used_in,
)
from steadygaze.network.layers import Dense

ROWS = (torch.rand((9, 40), generator=torch.Generator().manual_seed(1)) - 0.9).clamp_min(0.0)
KINDS = {
    "values": ROWS.double(),
    "pieces": (ROWS > 0).to(torch.uint8),
    "single": ROWS,
    "truth values": ROWS > 0,
    "turned": ROWS.double().T.contiguous().T,
    "a part": ROWS.double()[:, 3:30],
    "recorded": ROWS.double().requires_grad_(),
    "no rows": ROWS.double()[:0],
}


@pytest.mark.parametrize("rows", KINDS.values(), ids=KINDS)
def test_used_columns_are_those_that_any_row_has(rows):
    numbers = used_in(rows)
    assert numbers.dtype == torch.int64
    assert torch.equal(numbers, rows.any(dim=0).nonzero()[:, 0])
    assert torch.equal(columns_of(rows, numbers), rows[:, numbers])


@pytest.mark.parametrize("kind", ["values", "turned", "recorded", "single"])
def test_what_is_within_may_be_within(kind):
    """What is not may be where the tensor does not lie as the kernel takes it."""
    values, marks = KINDS[kind], torch.tensor([0.5], dtype=torch.float64)
    slack = torch.full((40,), 1e-9, dtype=torch.float64)
    assert may_be_within(values, marks, slack) == (kind != "values")
    assert may_be_within(values, marks, slack + 1)
    assert may_be_within(values, marks - 0.5, slack)
    assert may_be_within(values, marks, slack.expand(9, -1).contiguous()), "each row has its own"


@pytest.mark.parametrize("kind", ["values", "turned", "recorded", "no rows"])
@pytest.mark.parametrize("marks", [[0.5], [-2.0, 0.07]])
def test_rows_within_are_those_with_a_value_near_to_a_mark(kind, marks):
    values, slack = KINDS[kind], torch.linspace(0.0, 0.02, 40, dtype=torch.float64)
    off = (values[..., None] - torch.tensor(marks)).abs().amin(dim=2)
    found = rows_within(values, torch.tensor(marks, dtype=torch.float64), slack)
    assert found.tolist() == [bool((row <= slack).any()) for row in off]
    assert kind == "no rows" or marks == [0.5] or 0 < found.sum() < len(found)


@pytest.mark.parametrize("shape", [(5, 40), (1, 1), (3, 17), (0, 4), (4, 0)])
def test_magnitudes_of_one_row_are_those_of_a_product(shape):
    generator = torch.Generator().manual_seed(shape[1])
    weight, bias = (torch.randn(size, generator=generator).double() for size in (shape, shape[:1]))
    row = torch.randn((1, shape[1]), generator=generator).double()
    exact = row.abs() @ weight.abs().T + bias.abs()
    for own in (weight, 1e200 * weight):
        found = sums_of_magnitudes(own, bias, row)
        assert found is not None
        assert torch.allclose(found, row.abs() @ own.abs().T + bias.abs(), rtol=1e-14)
    layer = Dense(weight, bias)
    assert torch.allclose(layer.magnitude(row), exact, rtol=1e-14)
    assert torch.allclose(layer.magnitude(row.expand(3, -1)), exact.expand(3, -1), rtol=1e-14)
    assert sums_of_magnitudes(weight.float(), bias.float(), row.float()) is None


def test_a_magnitude_that_is_no_number_stays_none():
    weight, bias = torch.ones((2, 3), dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    weight[0, 1] = torch.nan
    row = torch.tensor([[1.0, 2.0, torch.inf]], dtype=torch.float64)
    found = sums_of_magnitudes(weight, bias, row)
    assert found is not None
    assert found[0, 0].isnan()
    assert found[0, 1].isinf()


@pytest.mark.parametrize("like", [0, 11, 12, 30, 40])
def test_inputs_that_are_the_same_in_every_row_are_taken_together(like):
    """As a blank background is: the product is the same, whichever and however many they are."""
    generator = torch.Generator().manual_seed(like)
    rows = torch.randn((20, 41), generator=generator).double()
    alike = torch.randperm(40, generator=generator)[:like] + 1
    rows[:, alike] = rows[:, :1]
    unlike = unlike_first(rows)
    assert (unlike is None) == (like < 20)
    assert unlike is None or not set(unlike.tolist()) & {0, *alike.tolist()}
    weight, bias = torch.randn((50, 41), generator=generator).double(), torch.ones(50).double()
    layer = Dense(weight, bias)
    slack = 1e-14 * layer.magnitude(rows)
    for own in (rows, rows[:3]):
        off = layer.forward_of_alive(own) - (own @ weight.T + bias)
        assert (off.abs() <= slack[: len(own)]).all()
    assert unlike_first(rows[:, :0]) is None
    assert unlike_first(rows.float()) is None
