"""Polynomials as rows of coefficients: against evaluation at points, with nothing left out uncounted."""

from __future__ import annotations

import math

import pytest
import torch

from steadygaze.enclosing import double_kernels
from steadygaze.enclosing.monomials import Monomials, monomials


def drawn(seed, *shape):
    return 2 * torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1


def value(m, rows, t):
    """At one point ``(n,)``."""
    powers = [math.prod(float(t[k]) for k in own) for own in m.factors[: rows.shape[1]]]
    powers = torch.tensor(powers, dtype=torch.float64)
    return torch.einsum("k,bk...->b...", powers, rows)


@pytest.mark.parametrize(("variables", "degree"), [(1, 1), (1, 6), (2, 4), (3, 3), (4, 2)])
def test_there_is_one_of_each_and_they_are_ordered_by_degree(variables, degree):
    m = monomials(variables, degree)
    assert m.rows == math.comb(variables + degree, degree) == len(set(m.factors))
    assert [len(own) for own in m.factors] == sorted(len(own) for own in m.factors)
    assert m.factors[1 : 1 + variables] == [(k,) for k in range(variables)]
    assert m.ends[-1] == m.rows


@pytest.mark.parametrize(("variables", "degree"), [(1, 3), (2, 2), (3, 2)])
def test_products_are_those_of_values_where_nothing_is_left_out(variables, degree):
    m = Monomials(variables, 2 * degree)
    count = m.ends[degree]
    a, b = drawn(1, 2, count, 3, 4), drawn(2, 2, count, 4, 5)
    found = m.product(torch.matmul, a, b)
    for seed in range(4):
        t = drawn(seed, variables)
        assert torch.allclose(value(m, found, t), value(m, a, t) @ value(m, b, t), rtol=0, atol=1e-13)


@pytest.mark.parametrize(("variables", "degree"), [(1, 5), (2, 3), (3, 2)])
@pytest.mark.parametrize("constant", [0.0, 0.3])
@pytest.mark.parametrize("by", ["kernel", "tensors"])
def test_what_compositions_leave_out_is_no_more_than_they_say(monkeypatch, variables, degree, constant, by):
    if by == "tensors":  # as on a GPU
        monkeypatch.setattr(double_kernels, "suit", lambda x: False)
    m = monomials(variables, degree)
    inner = drawn(3, 2, m.rows, 7) / m.rows
    inner[:, 0] *= constant
    numbers = [drawn(k, 2, 7) for k in range(degree)]
    rows, whole, lost = m.composed(numbers, inner)
    for seed in range(20):
        t = drawn(100 + seed, variables).sign() if seed < 8 else drawn(100 + seed, variables)
        own = value(m, inner, t)
        true = sum(number * own ** (k + 1) for k, number in enumerate(numbers))
        assert ((value(m, rows, t) - true).abs() <= lost + 1e-14).all()
        assert (true.abs() <= whole + 1e-14).all()
    assert (lost < whole).all()
    if not constant:  # what is left out is of a higher degree
        halved = m.composed(numbers, inner * 0.5 ** torch.tensor([len(own) for own in m.factors])[:, None])[2]
        assert (halved <= lost * 0.5 ** (degree + 1) * (1 + 1e-12)).all()


@pytest.mark.parametrize(("variables", "degree"), [(1, 5), (2, 3), (3, 2)])
@pytest.mark.parametrize(("given", "orders"), [(None, 2), (3, 4), (None, 1), (None, 7)])
def test_kernels_compose_what_tensors_compose(monkeypatch, variables, degree, given, orders):
    m = monomials(variables, degree)
    inner = drawn(3, 2, m.rows, 3, 50)[:, :given]
    numbers = [drawn(k, 2, 3, 50) for k in range(orders)]
    found = m.composed(numbers, inner)
    monkeypatch.setattr(double_kernels, "suit", lambda x: False)
    for one, other in zip(found, m.composed(numbers, inner), strict=True):
        assert torch.allclose(one, other, rtol=1e-13, atol=1e-13 * float(other.abs().max()))
