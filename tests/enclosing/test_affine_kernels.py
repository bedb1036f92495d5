"""Sums, products and places by kernels: as by operations on arrays, and off by no more than they say."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from steadygaze.enclosing import affine_kernels, enclosures
from steadygaze.enclosing import resampling as module
from steadygaze.enclosing.enclosures import Enclosure
from steadygaze.enclosing.resampling import places_of

BOXES, COUNT = 3, 4
OPERATIONS = {"sum": lambda x, y: x + y, "product": lambda x, y: x * y}


def some(rng, *shape, size=1.0):
    return Enclosure(
        size * rng.standard_normal((BOXES, *shape)),
        rng.standard_normal((BOXES, COUNT, *shape)),
        0.1 * rng.random((BOXES, *shape)),
    )


def exact(numbers):
    return np.vectorize(Fraction, otypes=[object])(numbers)


def value(own, t, share):
    """Exactly what numbers are at t ``(n,)``, that share of their errors away from the affine part."""
    moved = sum(Fraction(at) * exact(own.slopes[:, j]) for j, at in enumerate(t))
    return exact(own.centre) + moved + Fraction(share) * exact(own.error)


def excess(made, values, t):
    return float((abs(values - value(made, t, 0)) - exact(made.error)).max())


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_a_kernel_makes_what_arrays_make(name, shape, monkeypatch):
    rng = np.random.default_rng(2)
    x, y = some(rng, *shape), some(rng, *shape)
    made = OPERATIONS[name](x, y)
    monkeypatch.setattr(enclosures, "_FEW", 0)
    other = OPERATIONS[name](x, y)
    for own, known in ((made.centre, other.centre), (made.slopes, other.slopes), (made.error, other.error)):
        np.testing.assert_allclose(own, known, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", OPERATIONS)
def test_rounding_is_counted(name, monkeypatch):
    def off():
        worst, rng = -np.inf, np.random.default_rng(3)
        for _ in range(60):
            # Slopes are so small that what is of second order hides no rounding.
            x, y = (
                Enclosure(own.centre, 1e-20 * own.slopes, 0 * own.error)
                for own in (some(rng, size=10.0**size) for size in rng.integers(-9, 9, 2))
            )
            t = rng.uniform(-1, 1, COUNT)
            made = OPERATIONS[name](x, y)
            worst = max(worst, excess(made, OPERATIONS[name](value(x, t, 0), value(y, t, 0)), t))
        return worst

    assert off() <= 0
    for kernel in ("added", "multiplied"):
        plain = getattr(affine_kernels, kernel)
        monkeypatch.setattr(affine_kernels, kernel, lambda *own, plain=plain: plain(*own[:-2], 0.0, 1.0))
    assert off() > 0


def placed(rows, t, shares, height, width):
    """Exactly where pixels are led, ``(2, B, H, W)``."""
    across, down = Fraction(width - 1, 2), Fraction(height - 1, 2)
    found = []
    for (a, b, c), shift in zip(rows, (across, down), strict=True):
        a, b, c = (value(own, t, share)[:, None, None] for own, share in zip((a, b, c), shares, strict=True))
        x = exact(np.arange(width)) - across
        y = (exact(np.arange(height)) - down)[:, None]
        found.append(a * x + b * y + c + shift)
    return found


@pytest.mark.parametrize("size", [1.0, 1e-12, 1e6])
def test_places_are_where_factors_lead(size, monkeypatch):
    def off():
        worst, rng = -np.inf, np.random.default_rng(4)
        for share in (0, 1, -1):
            rows = [[some(rng, size=size) for _ in range(3)] for _ in range(2)]
            if not share:
                rows = [[own.without_error() for own in row] for row in rows]
            t = rng.choice([-1.0, 1.0, 0.3], COUNT)
            made, true = places_of(rows, 4, 5), placed(rows, t, (share, -share, share), 4, 5)
            worst = max(worst, *(excess(own, known, t) for own, known in zip(made, true, strict=True)))
        return worst

    assert off() <= 0
    monkeypatch.setattr(module, "UNIT", 0.0)
    assert off() > 0


def test_pixels_that_stay_in_place_are_not_off():
    one, nothing = (Enclosure.exact(np.full(BOXES, number), COUNT) for number in (1.0, 0.0))
    across, down = places_of([[one, nothing, nothing], [nothing, one, nothing]], 3, 4)
    assert not across.error.any()
    assert not down.error.any()
    np.testing.assert_array_equal(across.centre[1], np.arange(4) + np.zeros((3, 1)))
    np.testing.assert_array_equal(down.centre[1], np.arange(3)[:, None] + np.zeros(4))


def test_what_is_read_only_is_taken_too():
    known = Enclosure.exact(np.arange(3.0), COUNT)
    assert not known.slopes.flags.writeable
    made = known * some(np.random.default_rng(5))
    assert made.slopes.shape == (BOXES, COUNT)
