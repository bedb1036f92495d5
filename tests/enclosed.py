"""How enclosures over boxes of parameters are tested: boxes of every kind, and dense samples in them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from steadygaze.enclosing.enclosures import Enclosure, Pairs
from steadygaze.perturbation import Chain

# How far a value may seem to be outside because apply() and the comparison are rounded too.
ROUNDING = 1e-13


def boxes_in(
    box: np.ndarray, rng: np.random.Generator, knots: tuple[float, ...] = (0.0,)
) -> Iterator[np.ndarray]:
    """Batches (B, n, 2) of boxes in ``box`` (n, 2).

    All of it, points, boxes of every size, and boxes with a corner or their middle exactly at ``knots``.
    """
    low, high = box.T
    yield box[None]
    points = rng.uniform(low, high, (3, len(box)))
    zero = np.zeros((1, len(box)))
    yield np.stack([np.vstack([points, zero, [low]])] * 2, axis=2)
    for size in (1e-12, 1e-3, 0.05, 0.4):
        half = size * (high - low) / 2 * rng.uniform(0.5, 1.0, (3, len(box)))
        middle = rng.uniform(low + half, high - half)
        yield np.clip(np.stack([middle - half, middle + half], axis=2), box[:, :1], box[:, 1:])
    at = np.clip(rng.choice(np.array(knots), (6, len(box))), low, high)
    half = rng.choice([1e-9, 0.01, 0.2], (6, len(box))) * (high - low)
    ends = np.where(rng.random((6, len(box))) < 0.5, at - half, at), at + half
    yield np.clip(np.stack(ends, axis=2), box[:, :1], box[:, 1:])


def thetas_in(
    boxes: np.ndarray, rng: np.random.Generator, count: int, knots: tuple[float, ...] = (0.0,)
) -> tuple[np.ndarray, np.ndarray]:
    """Points (count, B, n) of each box, and their t: inside, on faces, at corners, at knots in between."""
    low, high = boxes[..., 0], boxes[..., 1]
    middle, half = low + (high - low) / 2, (high - low) / 2
    t = rng.uniform(-1, 1, (count, *low.shape))
    t = np.where(rng.random(t.shape) < 0.3, np.sign(t), t)
    t[0] = 0
    thetas = np.clip(middle + half * t, low, high)
    chosen = rng.choice(np.array(knots), t.shape)
    thetas = np.where((rng.random(t.shape) < 0.2) & (chosen >= low) & (chosen <= high), chosen, thetas)
    safe = np.where(half > 0, half, 1.0)
    return thetas, np.where(half > 0, np.clip((thetas - middle) / safe, -1, 1), 0.0)


def excess_of(
    chain: Chain,
    image: np.ndarray,
    boxes: np.ndarray,
    rng: np.random.Generator,
    *,
    knots: tuple[float, ...] = (0.0,),
    count: int = 24,
) -> float:
    """How far sampled images and expected maps lie outside their enclosures over ``boxes`` at most.

    Both with and without coordinates for the products of parameters.
    """
    map0 = image - 0.4
    thetas, t = thetas_in(boxes, rng, count, knots)
    excess = -np.inf
    for products in {(), chain.products}:
        amounts = Enclosure.of_boxes(boxes, products)
        enclosed, expected = chain.enclose(image, amounts), chain.enclose_expected(map0, amounts)
        for theta, at in zip(thetas, t, strict=True):
            own = with_products(at, products)
            excess = max(
                excess,
                outside(enclosed, chain.apply(image, theta), own),
                outside(expected, chain.expected(map0, theta), own),
            )
    return excess


def with_products(t: np.ndarray, products: Pairs) -> np.ndarray:
    """Coordinates (B, n), and behind them those of the products."""
    made = [2 * t[:, j] ** 2 - 1 if j == k else t[:, j] * t[:, k] for j, k in products]
    return np.column_stack([t, *made])


def outside(enclosed: Enclosure, values: np.ndarray, t: np.ndarray) -> float:
    """How far ``values`` (B, *shape) lie outside at ``t`` (B, n), at most; below 0 inside."""
    if not (enclosed.error >= 0).all():
        return float("inf")
    away = np.abs(values - enclosed.at(t)) - enclosed.error
    low, high = enclosed.bounds()
    beyond = np.maximum(low - values, values - high)
    return float(max(away.max(), beyond.max()) - ROUNDING * max(1.0, np.abs(values).max()))


def total_error(
    chain: Chain, image: np.ndarray, width: float, around: float = 0.37, products: Pairs = ()
) -> float:
    """Sum of the errors over all pixels, over the box of ``width`` (a share of the whole) around a point."""
    low, high = chain.box.T
    middle = low + (around + 0.1 * np.arange(len(low))) * (high - low)
    half = width * (high - low) / 2
    box = np.stack([middle - half, middle + half], axis=1)[None]
    return float(chain.enclose(image, Enclosure.of_boxes(box, products)).error.sum())
