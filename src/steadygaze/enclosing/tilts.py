"""Compiled: what was taken off images over boxes of places, put back as it depends on the coordinates.

Less a quadratic of the ways from the centres of the places, (u - centre) and (v - centre), the images lie in
known ranges: see ``enclosing.resampling``. Both ways are affine in the coordinates, but for an error, and
products of two coordinates are coordinates, too.
"""

from __future__ import annotations

from steadygaze.enclosing.enclosures import UNIT
from steadygaze.geometry.bits import kernel


@kernel
def put_back(fitted, u_slopes, u_error, v_slopes, v_error, moving, pairs, centre, slopes, error):
    """Centres, slopes and errors of images ``(B, M, H, W)`` and ``(B, n, M, H, W)``, filled in.

    fitted: ``(8, B, M, H, W)``, the ranges, what was taken off them (two slopes, a twist, two bows), and what
    rounding did. Places have k slopes ``(B, k, H, W)``, in the coordinates of the numbers ``(k,)``, and
    errors ``(B, H, W)``. pairs: ``(P, 3)``, two of the k each, and the number of the coordinate of their
    product; of squares that is 2 t² - 1. Slopes are 0 before.
    """
    low, high, across, down, twists, bows_u, bows_v, rounding = fitted
    boxes, channels, height, width = low.shape
    count = slopes.shape[1]
    turns = 4.0 * (len(pairs) + 4) * UNIT
    upward = 1.0 + 2.0 * (count * (count + 1) + 16) * UNIT
    for b in range(boxes):
        for y in range(height):
            for x in range(width):
                spread_u, spread_v = 0.0, 0.0
                for j in range(len(moving)):
                    spread_u += abs(u_slopes[b, j, y, x])
                    spread_v += abs(v_slopes[b, j, y, x])
                off_u, off_v = u_error[b, y, x], v_error[b, y, x]
                for m in range(channels):
                    least, most = low[b, m, y, x], high[b, m, y, x]
                    tilt_u, tilt_v = across[b, m, y, x], down[b, m, y, x]
                    twist, bow_u, bow_v = twists[b, m, y, x], bows_u[b, m, y, x], bows_v[b, m, y, x]
                    middle = least + (most - least) / 2.0
                    stray = (most - least) / 2.0 + abs(tilt_u) * off_u + abs(tilt_v) * off_v
                    rounded = rounding[b, m, y, x] + 4.0 * UNIT * (abs(least) + abs(most))
                    if tilt_u != 0.0 or tilt_v != 0.0:
                        rounded += 4.0 * UNIT * (abs(tilt_u) * spread_u + abs(tilt_v) * spread_v)
                        for j in range(len(moving)):
                            slope = tilt_u * u_slopes[b, j, y, x] + tilt_v * v_slopes[b, j, y, x]
                            slopes[b, moving[j], m, y, x] = slope
                    if twist != 0.0 or bow_u != 0.0 or bow_v != 0.0:
                        for p in range(len(pairs)):
                            j, k, product = pairs[p]
                            one_u, one_v = u_slopes[b, j, y, x], v_slopes[b, j, y, x]
                            other_u, other_v = u_slopes[b, k, y, x], v_slopes[b, k, y, x]
                            own = twist * one_u * other_v + bow_u * one_u * other_u + bow_v * one_v * other_v
                            if j == k:
                                own /= 2.0
                                middle += own
                            else:
                                own += twist * other_u * one_v
                                own += bow_u * other_u * one_u + bow_v * other_v * one_v
                            slopes[b, product, m, y, x] += own
                        stray += abs(twist) * (off_u * (spread_v + off_v) + off_v * spread_u)
                        stray += abs(bow_u) * off_u * (2.0 * spread_u + off_u)
                        stray += abs(bow_v) * off_v * (2.0 * spread_v + off_v)
                        reach = abs(twist) * spread_u * spread_v + abs(bow_u) * spread_u * spread_u
                        rounded += turns * (reach + abs(bow_v) * spread_v * spread_v)
                    centre[b, m, y, x], error[b, m, y, x] = middle, (stray + rounded) * upward
