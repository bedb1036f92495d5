"""The largest inputs of windows as forms: held against samples of what the inputs may be."""

import inspect

import numpy as np
import pytest

from steadygaze.enclosing import overtaking
from steadygaze.enclosing.overtaking import largest_of_windows

B, C, N, W, K = 3, 4, 12, 5, 4


def _windows(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    rows = rng.normal(size=(B, C, N))
    error = rng.random((B, N)) * 0.3
    windows = np.array([rng.permutation(N)[:K] for _ in range(W)])
    windows[0, 3] = -1
    place = rng.integers(0, 3, (B, W))
    winner = np.take_along_axis(np.broadcast_to(windows, (B, W, K)), place[..., None], axis=2)[..., 0]
    rival = (windows >= 0) & (windows != winner[..., None])
    return rows, error, windows, winner, rival


def _farthest(parts: tuple[np.ndarray, ...], total: np.ndarray, rng: np.random.Generator) -> float:
    """By how much a window's largest input is farther from its form than that allows, over samples."""
    rows, error, windows, winner, rival = parts
    found, off, away = largest_of_windows(rows, error, windows, winner, rival, total)
    worst = -np.inf
    for _ in range(2000):
        t = np.clip(rng.normal(size=C - 1) * 2, -1, 1)
        values = rows[:, 0] + np.einsum("c,bcn->bn", t, rows[:, 1:])
        values = values + error * np.clip(rng.normal(size=(B, N)) * 2, -1, 1)
        inputs = np.where(rival, values[:, windows.clip(0)], -np.inf)
        largest = np.maximum(inputs.max(axis=2), np.take_along_axis(values, winner, axis=1))
        form = found[:, 0] + np.einsum("c,bcn->bn", t, found[:, 1:])
        worst = max(worst, float((np.abs(largest - form) - off - away).max()))
    return worst


def test_the_largest_input_lies_within_its_form() -> None:
    rng = np.random.default_rng(0)
    worst = [_farthest(_windows(rng), np.zeros((B, W)), rng) for _ in range(5)]
    assert max(worst) <= 0
    assert max(worst) > -0.1  # no looser than need be


def test_what_the_others_may_exceed_it_by_is_a_deviation() -> None:
    rows, error, windows, winner, rival = _windows(np.random.default_rng(1))
    found, off, away = largest_of_windows(rows, error, windows, winner, np.zeros_like(rival), np.ones((B, W)))
    assert np.array_equal(found, np.take_along_axis(rows, winner[:, None], axis=2))
    assert np.array_equal(off, np.take_along_axis(error, winner, axis=1))
    assert (away == 1).all()


def test_rivals_of_a_box_do_not_count_in_another() -> None:
    rng = np.random.default_rng(2)
    rows, error, windows, winner, rival = _windows(rng)
    whole = largest_of_windows(rows, error, windows, winner, rival, np.zeros((B, W)))
    for b in range(B):
        one = slice(b, b + 1)
        alone = largest_of_windows(rows[one], error[one], windows, winner[one], rival[one], np.zeros((1, W)))
        assert all(np.array_equal(own[0], other[b]) for own, other in zip(alone, whole, strict=True))


def test_numbers_that_are_none_stay_none() -> None:
    rows, error, windows, winner, rival = _windows(np.random.default_rng(3))
    error[0, windows[1, 0]] = np.inf
    rows[1, 0, windows[2, 0]] = np.nan
    found, off, away = largest_of_windows(rows, error, windows, winner, rival, np.zeros((B, W)))
    for box, window in ((0, 1), (1, 2)):
        reach = off[box, window] + away[box, window]
        assert not np.isfinite(found[box, 0, window]) or not np.isfinite(reach)


@pytest.mark.parametrize(
    "fault", ["deviation = -low * slope / 4", "slope = 0.5 * high / (", "away[b, w] + 0"]
)
def test_a_planted_fault_is_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = {
        "deviation = -low * slope / 4": "deviation = -low * slope / 2",
        "slope = 0.5 * high / (": "slope = high / (",
        "away[b, w] + 0": "away[b, w] + deviation",
    }[fault]
    source = inspect.getsource(overtaking._largest_of_windows.py_func)
    assert right in source
    space = dict(vars(overtaking))
    exec(source.replace("@kernel\n", "").replace(right, fault), space)
    monkeypatch.setattr(overtaking, "_largest_of_windows", space["_largest_of_windows"])
    rng = np.random.default_rng(0)
    parts = _windows(rng)
    assert _farthest(parts, np.zeros((B, W)), rng) > 1e-3
