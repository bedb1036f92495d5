"""Directions that show a fixed map to be too far from expected ones that are affine in θ."""

from __future__ import annotations

import numpy as np

# So many steps at most; what they find is only a hint, and is held against each vertex.
_STEPS = 64


def separation(gram: np.ndarray, products: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Weights ``(C, m)`` w of expected maps e_k, the m of a cell, that make up u = Σ w_k e_k with |u| <= 1.

    Of all such u it has about the largest least value of c <u, e_k> - <s, e_k>, over k: by duality the least
    of c |e| - <s, e> over convex combinations e, whose direction u is. Weight is moved from the one vertex to
    the other, each time as far as is best.

    Args:
        gram: ``(C, m, m)`` products of the e_k. products: ``(C, m)`` <s, e_k>. times: ``(C,)`` c.
    """
    rows, lengths = np.arange(len(gram)), np.sqrt(np.einsum("ckk->ck", gram))
    weight = np.zeros(products.shape)
    weight[rows, (times[:, None] * lengths - products).argmin(axis=1)] = 1.0
    for _ in range(_STEPS):
        bent = np.einsum("cij,cj->ci", gram, weight)
        square = np.einsum("ci,ci->c", bent, weight)
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.nan_to_num(times[:, None] * bent / np.sqrt(square)[:, None]) - products
            to, of = slope.argmin(axis=1), np.where(weight > 0, slope, -np.inf).argmax(axis=1)
            b, q = bent[rows, to] - bent[rows, of], products[rows, to] - products[rows, of]
            c = gram[rows, to, to] - 2 * gram[rows, to, of] + gram[rows, of, of]
            room, apart = times**2 * c - q**2, np.maximum(square * c - b**2, 0.0)
            best = np.where(room > 0, (q * np.sqrt(apart / room) - b) / c, np.where(q > 0, np.inf, 0.0))
        step = np.clip(np.nan_to_num(best, nan=0.0, posinf=1.0, neginf=0.0), 0.0, weight[rows, of])
        step[to == of] = 0.0
        if not step.any():
            break
        weight[rows, to] += step
        weight[rows, of] -= step
    square = np.einsum("cij,ci,cj->c", gram, weight, weight)
    total = (weight * lengths).sum(axis=1)
    # Where the sum of maps is much shorter than they are, rounding rules its direction; u = 0 is one, too.
    size = np.sqrt(np.maximum(square, 0.0) + 2.0**-40 * total**2)
    usable = size > total / 2
    return np.where(usable[:, None], weight / np.where(usable, size, 1.0)[:, None], 0.0)
