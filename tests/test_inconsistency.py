"""The measures against their definitions in plain Python, and their promises by hypothesis."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steadygaze.errors import SettingError
from steadygaze.inconsistency import BUILT_IN, L2, Cosine, TopK, by_name

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
