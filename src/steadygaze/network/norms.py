"""How much longer an affine layer can make a vector: upper bounds of its spectral norm.

What is known of errors entry by entry grows by |W| from layer to layer, as if all of them conspired: in a
network of twenty convolutions the rounding of float64 grows beyond its values. The length of all errors
together grows by the largest singular value of W, which is several times less for each layer.

A convolution is part of the one that goes around on a torus that its windows do not fill, and that one falls
apart into a small matrix for each frequency (Sedghi, Gupta and Long, The singular values of convolutional
layers, ICLR 2019). Where these are many, a few of all frequencies tell enough: uᴴ A(ω) v is a trigonometric
polynomial of some degree m, which falls no faster than cos(m ω) from where it is largest, so that one of N
evenly spaced frequencies comes up to cos(π m / N) of it (Ehlich and Zeller, Schwankung von Polynomen zwischen
Gitterpunkten, 1964). The largest singular value of a matrix A is at most the 2k-th root of the trace of
(Aᵀ A)ᵏ, which is little more for a large k. For large matrices that is estimated from below, and c for which
c I - Aᵀ A has a Cholesky factor is a bound: where floating-point arithmetic finds one, no eigenvalue is below
what it may have rounded off (Rump, Verification of positive definiteness, BIT 46, 2006).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from steadygaze.network.layers import (
    AbstractAffine,
    Add,
    AveragePool,
    Concat,
    Conv,
    Dense,
    Pad,
    Permute,
    Reshape,
    ScaleShift,
    Shape,
)
from steadygaze.network.taking import Take
from steadygaze.network.transposed import TransposedConv

# (Aᵀ A) is squared so often: the bound of a matrix of n columns is then at most n ** (1 / 128) too large.
_SQUARINGS = 5
# Frequencies for each degree where those of the torus are too many: bounds of 3 x 3 kernels are then at most
# 4, 7 and 17 % too large.
_FREQUENCIES = (16, 12, 8)
# Products of all squarings from which on frequencies are fewer, or else they are made in float32, and beyond
# which a bound that is less tight is taken: a tenth of a second, and half a second of work.
_MUCH, _TOO_MUCH = 2**30, 2**33
# Makes up for rounding, which is far below this share of sums of absolute values here: in float64, and where
# matrices of up to a thousand columns and length 1 are squared in float32.
_UPWARD, _UPWARD_NARROW = 1 + 2.0**-26, 1 + 2.0**-8
# From so many products on, all squarings together, Cholesky factors are sought, which takes a third to a
# fifth of the time.
_MANY = 2**26
# An estimate of ‖A‖² takes so many steps; the first c is so much above it, and each next one above the last.
_STEPS, _FIRST, _NEXT, _TRIES = 16, 1.1, 1.15, 6
# Matrices of up to so many columns are factored in float32: what may be rounded off is a quarter of c, then.
_NARROW = 2048
# What a number may lose by rounding, of its size: in float32 and in float64.
_UNITS = 2.0**-24, 2.0**-53


def norm_of(layer: AbstractAffine, shapes: tuple[Shape, ...]) -> float:
    """At least the length of ``W x`` for inputs x of these shapes, of length 1 together."""
    match layer:
        case Reshape() | Permute() | Pad() | Concat():
            return 1.0
        case Add():
            return math.sqrt(len(shapes)) * _UPWARD
        case Take():
            return math.sqrt(layer.terms) * _UPWARD
        case ScaleShift():
            return float(layer.scale.abs().max())
        case AveragePool():
            return spectral_norm(layer.rows) * spectral_norm(layer.columns)
        case Dense():
            return _of_rows(layer, shapes)
        case Conv():
            return _of_windows(layer, shapes[0][1:])
        case TransposedConv():
            return _of_windows(layer, layer.output_shape(*shapes)[1:])
    return norm_by_sums(layer, shapes)


def norm_by_sums(layer: AbstractAffine, shapes: tuple[Shape, ...]) -> float:
    """The root of the largest sum of a row times that of a column."""
    own: Tensor = next(value for value in vars(layer).values() if isinstance(value, Tensor))
    ones = [own.new_ones((1, *shape)) for shape in shapes]
    made = layer.absolute.linear(*ones)
    back = layer.absolute.transpose(torch.ones_like(made), shapes)
    most = max(float(part.max()) for part in back)
    return math.sqrt(float(made.max())) * math.sqrt(most) * _UPWARD


def _of_rows(layer: Dense, shapes: tuple[Shape, ...]) -> float:
    """That of a dense layer's matrix."""
    fewer, more = sorted(layer.weight.shape)
    if fewer**2 * (more + fewer) <= _TOO_MUCH:
        return spectral_norm(layer.weight)
    size = _scale_of(layer.weight)
    return min(
        norm_by_sums(layer, shapes), float(torch.linalg.matrix_norm(layer.weight / size)) * size * _UPWARD
    )


def _of_windows(layer: Conv | TransposedConv, extents: Shape) -> float:
    """That of the convolution with these weights on maps of these extents; groups do not mix."""
    out, channels, *kernel = layer.weight.shape
    weight = layer.weight.reshape(layer.groups, out // layer.groups, channels, *kernel)
    if math.prod(kernel) == 1:
        return spectral_norm(weight.flatten(2))
    reach = [step * (size - 1) for step, size in zip(layer.dilation, kernel, strict=True)]
    torus = [extent + more for extent, more in zip(extents, reach, strict=True)]
    size = min(weight.shape[1:3])

    def effort_of(grid: list[int]) -> int:
        return 4 * (math.prod(grid) // 2 + grid[0]) * layer.groups * size**3 * _SQUARINGS

    grids = [torus, *(_coarser(torus, reach, each) for each in _FREQUENCIES)]
    grid = next((one for one in grids if effort_of(one) <= _MUCH), grids[-1])
    effort = effort_of(grid)
    if effort > _TOO_MUCH:
        # A window reads each entry at most once for each of its places.
        return math.sqrt(math.prod(kernel)) * spectral_norm(weight.flatten(2))
    spread = weight.new_zeros((*weight.shape[:3], *(more + 1 for more in reach)))
    spread[..., :: layer.dilation[0], :: layer.dilation[1]] = weight
    found = torch.fft.rfft2(spread, s=grid)
    between = math.prod(
        math.cos(math.pi * _degree(more) / few) if few < all_ else 1.0
        for few, all_, more in zip(grid, torus, reach, strict=True)
    )
    return spectral_norm(found.flatten(3).movedim(3, 0).contiguous(), narrow=effort > _MUCH) / between


def _degree(reach: int) -> int:
    """That of the trigonometric polynomial of a kernel that reaches so far, counted from its middle."""
    return -(-reach // 2)


def _coarser(torus: list[int], reach: list[int], each: int) -> list[int]:
    """The torus with so many frequencies for each degree, where it has more."""
    return [min(all_, max(each * _degree(more), 1)) for all_, more in zip(torus, reach, strict=True)]


def spectral_norm(matrices: Tensor, narrow: bool = False) -> float:
    """At least the largest singular value of any of the matrices ``(..., m, n)``; narrow: in float32."""
    if not matrices.numel():
        return 0.0
    size = _scale_of(matrices)
    matrices = matrices / size
    if matrices.shape[-1] == 1 or matrices.shape[-2] == 1:
        return float(torch.linalg.vector_norm(matrices, dim=(-2, -1)).max()) * size * _UPWARD
    if math.prod(matrices.shape) * min(matrices.shape[-2:]) * _SQUARINGS >= _MANY:
        found = _factored(matrices)
        if found is not None:
            return found * size
    if narrow:
        matrices = matrices.to(torch.complex64 if matrices.is_complex() else torch.float32)
    turned = matrices.mH if matrices.shape[-2] > matrices.shape[-1] else matrices
    power, logarithm = turned @ turned.mH, 0.0
    # ‖A‖² <= scale_0 (scale_1 (... ‖power‖) ^ 1/2) ^ 1/2, each scale being the length of what is squared.
    # From length 1 on, that of n columns is no less than n ** -16: float64 needs no scale before the last.
    for step in range(_SQUARINGS + 1):
        if narrow or step in (0, _SQUARINGS):
            length = torch.linalg.vector_norm(_real(power), dim=(-3, -2, -1))[..., None, None]
            least = torch.finfo(length.dtype).tiny
            logarithm = logarithm + length.clamp_min(least).double().log() / 2**step
            if step < _SQUARINGS:
                power = power * length.clamp_min(least).reciprocal()
        if step < _SQUARINGS:
            power = power @ power
    assert isinstance(logarithm, Tensor), "there is a step"
    return math.exp(float(logarithm.max()) / 2) * size * (_UPWARD_NARROW if narrow else _UPWARD)


def _factored(matrices: Tensor) -> float | None:
    """As `spectral_norm`, of matrices of magnitudes about 1, by Cholesky factors; None without any."""
    if matrices.shape[-2] > matrices.shape[-1]:
        matrices = matrices.mH.resolve_conj()
    rows, columns = matrices.shape[-2:]
    single = rows <= _NARROW
    unit = _UNITS[0] if single else _UNITS[1]
    known = matrices
    if single:
        known = matrices.to(torch.complex64 if matrices.is_complex() else torch.float32)
    lengths = torch.linalg.vector_norm(_real(matrices), dim=(-3, -2, -1))
    most = float(lengths.max()) * _UPWARD
    square = known @ known.mH
    along, estimate = known.new_ones((*known.shape[:-2], rows, 1)), 0.0
    for _ in range(_STEPS):
        along = square @ along
        longer = torch.linalg.vector_norm(_real(along), dim=(-3, -2, -1))[..., None, None]
        estimate, along = float(longer.max()), along / longer.clamp_min(torch.finfo(longer.dtype).tiny)
    # What rounding may come to of sums of complex products is at most four times that of real ones.
    times = 4 if matrices.is_complex() else 1
    c = estimate * _FIRST
    for _ in range(_TRIES):
        factor, failed = torch.linalg.cholesky_ex(c * torch.eye(rows, dtype=known.dtype) - square)
        if not bool(failed.any()) and bool(torch.isfinite(_real(factor)).all()):
            # That of the square, of its difference from c I, and of the factor's: its share of the trace.
            rounded = times * unit * ((columns + 4) * most**2 + (rows + 8) * rows * c) * _UPWARD_NARROW
            return (math.sqrt(c + rounded) + 2 * unit * most) * _UPWARD
        c *= _NEXT
    return None


def _scale_of(matrices: Tensor) -> float:
    """About the largest number in them, a power of two: squares of numbers below 1e-154 would be lost."""
    largest = float(_real(matrices).abs().max())
    return math.ldexp(0.5, math.frexp(largest)[1]) if 0 < largest < math.inf else 1.0


def _real(matrices: Tensor) -> Tensor:
    """The numbers that matrices ``(..., m, n)`` are made of, ``(..., m, n, parts)``."""
    return torch.view_as_real(matrices) if matrices.is_complex() else matrices[..., None]
