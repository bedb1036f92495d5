"""The measures against their definitions in plain Python, and their promises by hypothesis."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from formed import MIXED, coordinates, drawn, some_forms, symbols_of
from sparing import sparing
from steadygaze.enclosing.forms import Forms
from steadygaze.errors import SettingError
from steadygaze.question.inconsistency import BUILT_IN, L1, L2, Cosine, Linf, TopK, by_name

RNG = np.random.default_rng(0)
ACTUAL = RNG.standard_normal((300, 700))
EXPECTED = RNG.standard_normal((300, 700))
NAMES = [cls.name for cls in BUILT_IN]


def unit(values, order):
    size = {1: np.abs(values).sum(), 2: np.sqrt((values**2).sum()), 3: np.abs(values).max()}[order]
    return values / size


def ranked(values, k):
    return set(sorted(range(len(values)), key=lambda i: (-abs(values[i]), i))[:k])


PLAIN = {
    "cosine": lambda s, e: 1 - float(unit(s, 2) @ unit(e, 2)),
    "l1": lambda s, e: float(np.abs(unit(s, 1) - unit(e, 1)).sum()),
    "l2": lambda s, e: float(np.sqrt(((unit(s, 2) - unit(e, 2)) ** 2).sum())),
    "linf": lambda s, e: float(np.abs(unit(s, 3) - unit(e, 3)).max()),
    "top-k": lambda s, e: (
        1 - len(ranked(s, round(0.05 * len(s))) & ranked(e, round(0.05 * len(s)))) / round(0.05 * len(s))
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_definition(name):
    measure = by_name(name)
    actual, expected = torch.from_numpy(ACTUAL), torch.from_numpy(EXPECTED)
    each = measure.between(actual, expected).numpy()
    one = measure.between(actual, expected[0]).numpy()
    for row in range(0, 300, 17):
        assert each[row] == pytest.approx(PLAIN[name](ACTUAL[row], EXPECTED[row]), abs=1e-12)
        assert one[row] == pytest.approx(PLAIN[name](ACTUAL[row], EXPECTED[0]), abs=1e-12)
    np.testing.assert_array_equal(actual.numpy(), ACTUAL)
    assert each.dtype == np.float64


@pytest.mark.parametrize("name", ["cosine", "l1", "l2", "linf"])
def test_combinations_of_few_maps_are_measured_as_they_are(name):
    """Against sums in extended precision, also where what is added up cancels."""
    maps, expected, weights = ACTUAL[:6, :50].copy(), EXPECTED[0, :50], ACTUAL[:40, :6].copy()
    maps[1] = maps[0] + 1e-5 * EXPECTED[1, :50]
    weights[0] = [1, -1, 0, 0, 0, 0]
    weights[1] = 0
    distances, lengths = by_name(name).of_combined(*map(torch.from_numpy, (weights, maps, expected)))
    wide = weights.astype(np.longdouble) @ maps.astype(np.longdouble)
    np.testing.assert_allclose(lengths, np.sqrt((wide**2).sum(axis=1)).astype(float), rtol=1e-10)
    assert distances[1] == by_name(name).maximum
    for row in (0, *range(2, 40)):
        assert distances[row].item() == pytest.approx(PLAIN[name](wide[row], expected), abs=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_a_zero_map_is_as_far_as_can_be(name):
    measure = by_name(name)
    rows = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]], dtype=torch.float64)
    expected = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    np.testing.assert_allclose(measure.between(rows, expected), [measure.maximum, 0], atol=1e-12)
    np.testing.assert_array_equal(measure.between(rows[:0], expected), [])


@pytest.mark.parametrize("name", ["cosine", "l1", "l2", "linf"])
def test_opposite_maps_reach_the_maximum(name):
    measure = by_name(name)
    rows = torch.from_numpy(ACTUAL)
    distances = measure.between(rows, -rows)
    np.testing.assert_allclose(distances, measure.maximum)
    assert (distances <= measure.maximum).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3), st.sampled_from(NAMES))
def test_size_does_not_matter_and_equal_maps_agree(seed, factor, name):
    rng = np.random.default_rng(seed)
    actual, expected = torch.from_numpy(rng.standard_normal((2, 4, 30)))
    measure = by_name(name)
    distances = measure.between(actual, expected)
    np.testing.assert_allclose(measure.between(factor * actual, expected[:, :]), distances, atol=1e-12)
    np.testing.assert_allclose(measure.between(actual, factor * actual), 0, atol=1e-12)
    assert ((distances >= 0) & (distances <= measure.maximum)).all()


@pytest.mark.parametrize("measure", [Cosine(), L2()])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.9, 1.0, 1.5])
def test_the_cone_says_the_same_as_the_measure(measure, threshold):
    rng = np.random.default_rng(4)
    expected = torch.from_numpy(rng.standard_normal(3))
    actual = torch.from_numpy(rng.standard_normal((4000, 3)))
    kappa = measure.cone(threshold)
    sizes = actual.norm(dim=1) * expected.norm()
    np.testing.assert_array_equal(
        measure.between(actual, expected) <= threshold, actual @ expected >= kappa * sizes
    )


@pytest.mark.parametrize("name", ["l1", "linf", "top-k"])
def test_others_have_no_cone(name):
    assert by_name(name).cone(0.3) is None


@given(
    st.lists(st.integers(-2, 2), min_size=6, max_size=6), st.lists(st.integers(-2, 2), min_size=6, max_size=6)
)
def test_ties_go_to_the_lower_index(actual, expected):
    distance = (
        TopK(3)
        .between(torch.tensor([actual], dtype=torch.float64), torch.tensor(expected, dtype=torch.float64))
        .item()
    )
    wanted = 1 - len(ranked(actual, 3) & ranked(expected, 3)) / 3 if any(actual) and any(expected) else 1.0
    assert distance == pytest.approx(wanted)


def test_k_is_a_count_or_a_share():
    assert by_name("top-k").k == 0.05
    assert by_name("top-k(20)").k == 20
    assert by_name("top-k(0.1)").k == 0.1
    few = torch.ones((1, 3), dtype=torch.float64)
    assert TopK(50).between(few, few[0]).item() == 0
    for wrong in (0, -3, 1.5, 0.0, True, float("nan"), "5"):
        with pytest.raises(SettingError, match="the k of top-k is"):
            TopK(wrong)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(SettingError) as caught:
        by_name("ssim")
    assert all(name in str(caught.value) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e-150, 1e150, 1e200, 1e306])
def test_squares_that_leave_double_precision_leave_the_direction(name, size):
    measure = by_name(name)
    actual, expected = torch.from_numpy(ACTUAL[:6, :50]), torch.from_numpy(EXPECTED[:6, :50])
    right = measure.between(actual, expected)
    huge = actual * size / actual.abs().amax()
    for other in (expected, expected * size / expected.abs().amax()):
        torch.testing.assert_close(measure.between(huge, other), right, rtol=0, atol=1e-9)
        low, high = measure.bounds(Forms.exact(huge, 2), Forms.exact(other, 2))
        assert ((low <= right + FAR) & (right <= high + FAR)).all()
    weights = torch.eye(6, dtype=torch.float64)
    combined = torch.stack([measure.of_combined(weights, huge, row)[0] for row in expected])
    torch.testing.assert_close(combined.diagonal(), right, rtol=0, atol=1e-9)
    errors = 1e-9 * huge.abs()
    assert (measure.slack(huge, errors) >= measure.slack(actual, 1e-9 * actual.abs()) * (1 - 1e-9)).all()


# -- over boxes

BOUNDED = [*NAMES, "top-k(3)", "top-k(1)"]
FAR = 1e-12


@pytest.mark.parametrize("name", BOUNDED)
@pytest.mark.parametrize("spread", sparing([0.0, 1e-6, 0.03, 0.3, 3.0]))
@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_bounds_hold_at_samples(name, spread, seed):
    rng, measure = np.random.default_rng(seed), by_name(name)
    actual = some_forms(rng, shape=(8,), spread=spread, error=spread, origin=MIXED if seed % 2 else None)
    expected = some_forms(rng, shape=(8,), spread=spread * rng.choice([0.0, 1.0]), error=0.0, symbols=0)
    if seed % 3 == 0:  # nearly the same map, some entries level with others
        expected = replace(expected, rows=actual.rows[:, :3].round(decimals=1), error=actual.error)
    low, high = measure.bounds(actual, expected)
    for _ in range(8):
        t, s = coordinates(rng, 3, 2), symbols_of(rng, actual)
        found = measure.between(drawn(rng, actual, t, s), drawn(rng, expected, t, s[:, :0]))
        assert (low <= found + FAR).all()
        assert (found <= high + FAR).all()
    assert (low >= 0).all()
    assert (high <= measure.maximum + FAR).all()


@pytest.mark.parametrize("name", BOUNDED)
def test_bounds_of_known_maps_are_their_inconsistency(name):
    measure = by_name(name)
    actual, expected = torch.from_numpy(ACTUAL[:20]), torch.from_numpy(EXPECTED[:20])
    found = measure.between(actual, expected)
    for bound in measure.bounds(Forms.exact(actual, 2), Forms.exact(expected, 2)):
        torch.testing.assert_close(bound, found, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", BOUNDED)
def test_bounds_of_maps_that_vanish(name):
    """One that is 0 all over the box is as far as can be; one that may be 0, possibly."""
    measure = by_name(name)
    nothing = torch.zeros((1, 2, 6), dtype=torch.float64)
    known = Forms.exact(torch.arange(1.0, 7.0, dtype=torch.float64)[None], 1)
    vanishing = Forms(nothing, nothing[:, 0], 1)
    for low, high in (measure.bounds(vanishing, known), measure.bounds(known, vanishing)):
        assert (low.item(), high.item()) == (measure.maximum, measure.maximum)
    moving = nothing.clone()
    moving[:, 1] = known.centre
    around = nothing[:, 0] + 1e-300
    for forms in (Forms(moving, nothing[:, 0], 1), Forms(nothing, around, 1)):
        for low, high in (measure.bounds(forms, known), measure.bounds(known, forms)):
            assert low.item() < measure.maximum
            assert high.item() == measure.maximum


def test_top_k_is_told_where_order_is():
    """Only entries that may be among the k largest of one map and not of the other make a difference."""
    rows = torch.tensor([[[9.0, 8.0, -7.0, 1.0, 0.5]]], dtype=torch.float64)
    error = torch.tensor([[0.0, 0.0, 0.0, 2.0, 0.0]], dtype=torch.float64)
    same = Forms.exact(rows[:, 0], 0)
    assert [bound.item() for bound in TopK(3).bounds(Forms(rows, error, 0), same)] == [0.0, 0.0]
    low, high = TopK(3).bounds(Forms(rows, error + torch.tensor([0.0, 0.0, 0.0, 5.0, 0.0]), 0), same)
    assert low.item() == 0.0
    assert high.item() == pytest.approx(1 / 3)
    other = Forms.exact(rows[:, 0].flip(1), 0)
    low, high = TopK(1).bounds(Forms(rows, error, 0), other)
    assert (low.item(), high.item()) == (1.0, 1.0)


@pytest.mark.parametrize("measure", [L1(), L2(), Linf(), Cosine()], ids=repr)
def test_bounds_close_in_with_the_map(measure):
    """Halving what is not known of a map at least nearly halves what is not known of its distance."""
    rng = np.random.default_rng(12)
    actual = some_forms(rng, shape=(8,), error=0.0)
    known, wide = Forms.exact(some_forms(rng, shape=(8,)).centre, 2), []
    for share in (2e-3, 1e-3):
        rows = torch.cat([actual.rows[:, :1], share * actual.rows[:, 1:]], dim=1)
        low, high = measure.bounds(replace(actual, rows=rows), known)
        wide.append(high - low)
    assert (wide[1] < 0.51 * wide[0]).all()
