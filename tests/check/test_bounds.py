"""Bounds of rounding, held against exact fractions on small random networks."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from check.certificates import answer_of, write
from steadygaze_check.arithmetic import Dyadic
from steadygaze_check.cells import Examiner
from steadygaze_check.folder import read
from steadygaze_check.network import Network
from steadygaze_check.points import Points, exact_point
from steadygaze_check.region import Region
from steadygaze_check.tiling import Tiling, determinants
from steadygaze_check.values import class_gaps, forward

DOUBLES = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(arrays(np.float64, (3,), elements=DOUBLES), arrays(np.float64, (3,), elements=DOUBLES))
def test_dyadic_arithmetic_is_that_of_fractions(a, b):
    one, two = Dyadic.of(a), Dyadic.of(b)
    product = Dyadic(one.whole * two.whole, one.exponent + two.exponent)
    for k in range(3):
        assert one.plus(two).fractions()[k] == Fraction(a[k]) + Fraction(b[k])
        assert product.fractions()[k] == Fraction(a[k]) * Fraction(b[k])
    np.testing.assert_array_equal(Dyadic.of(a).rounded(), a)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@given(data=st.data())
def test_determinants_are_within_their_bounds(n, data):
    corners = data.draw(arrays(np.float64, (1, n + 1, n), elements=st.floats(-1, 1, allow_subnormal=False)))
    value, error = determinants(corners)
    exact = [[Fraction(x) for x in row] for row in corners[0]]
    edges = [[x - y for x, y in zip(row, exact[0], strict=True)] for row in exact[1:]]
    assert abs(Fraction(value[0]) - determinant(edges)) <= Fraction(error[0])


def determinant(rows: list[list[Fraction]]) -> Fraction:
    if not rows:
        return Fraction(1)
    minors = ([row[:k] + row[k + 1 :] for row in rows[1:]] for k in range(len(rows)))
    return sum(((-1) ** k * rows[0][k] * determinant(minor) for k, minor in enumerate(minors)), Fraction(0))


@pytest.fixture(scope="module", params=["dense", "conv", "pool", "leaky", "residual", "clip"])
def asked(request, tmp_path_factory):
    options = {"clip": (0.15, 0.75)} if request.param == "clip" else {}
    kind = "dense" if request.param == "clip" else request.param
    certificate = read(write(answer_of(kind, 2, **options), tmp_path_factory.mktemp(kind) / "certificate"))
    return certificate, Network(certificate.network, (1, 6, 6), 3, certificate.question["clip"])


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=4))
def test_logits_are_within_their_bounds_at_points(asked, shares):
    certificate, network = asked
    low, high = certificate.box.T
    theta = np.clip(low + np.array(shares) * (high - low), low, high)
    examiner = Examiner(certificate, network, Points(certificate, network).comparison)
    last, hinges = forward(network, examiner.start(0), theta, np.abs(certificate.box).max(axis=1))
    gaps = class_gaps(last, 0)
    for row, point in enumerate(theta):
        logits, _ = exact_point(network, certificate, 0, point)
        away = [Fraction(value) - exact for value, exact in zip(last.value[row], logits, strict=True)]
        assert all(abs(float(each)) <= limit for each, limit in zip(away, last.radius, strict=True))
        for column, other in enumerate((1, 2)):
            for place, exact in enumerate((logits[other], logits[0])):
                value, radius = gaps.value[row, place, column], gaps.radius[place, column]
                assert abs(Fraction(value) - exact) <= radius
    assert all((hinge.radius >= 0).all() for hinge in hinges)


def test_proven_kinds_hold_at_random_points_of_the_shrunken_cells(asked):
    certificate, network = asked
    points = Points(certificate, network)
    examiner = Examiner(certificate, network, points.comparison)
    draw = np.random.default_rng(0)
    for cells in examiner.batches():
        for cell, kind, shrink, _ in zip(cells, *examiner.examine(cells), strict=True):
            corners = certificate.vertices[
                certificate.cell_vertex[slice(*certificate.cell_ptr[cell : cell + 2])]
            ]
            middle = corners.mean(axis=0)
            theta = middle + shrink * (draw.dirichlet(np.ones(len(corners))) @ corners - middle)
            assert kind == points.kind(0, theta)


def test_a_map_is_covered_and_its_volumes_add_up(asked):
    certificate, _ = asked
    found = Tiling(certificate)
    assert found.high.sum() == pytest.approx(certificate.volume, rel=1e-11)
    assert found.surplus(Region(certificate.box)) <= 1e-10 * certificate.volume
