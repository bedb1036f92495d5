"""PyTorch operators that resize rows, maps and volumes: by the nearest entries, linear and cubic.

Weights along an axis are what PyTorch makes of each entry alone: the operator on the rows of the identity.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch._ops import OpOverload

from steadygaze.network.building import check_size
from steadygaze.network.reading.assembling.assembly import Value
from steadygaze.network.reading.assembling.resizing import resampled, resized
from steadygaze.network.reading.from_torch.arguments import (
    COMPUTED,
    FLAG,
    NONE,
    Argument,
    Call,
    Rows,
    Rule,
    only,
    weights,
    whole_numbers,
)
from steadygaze.network.reading.marks import mixed


def _resizing(name: str) -> Rule:
    """The rule of the operator of that name, in either of its forms."""

    def rule(call: Call) -> Value:
        asm, given = call.assembler, call.arguments
        source = "input" if "input" in given else "self"
        shape, dimensions = call.shape(source), _dimensions(name)
        if len(shape) != 2 + dimensions or not call.value(source).batched:
            raise asm.refuse(
                f"got a value of shape {shape}",
                f"allowed are {2 + dimensions} axes, of which the first is the batch",
            )
        sizes, scales = shape[2:], _scales(call, dimensions)
        counts = given["output_size"] or [
            int(size * scale) for size, scale in zip(sizes, scales, strict=True) if scale is not None
        ]
        if len(counts) != dimensions:
            raise call.refuse("output_size", f"{dimensions} whole numbers")
        if name.endswith("_aa") and counts[-1] == 1:
            raise asm.refuse(
                "it resizes to one column with antialias, of which PyTorch makes what it makes of no other",
                "allowed are two columns and more; take the mean",
            )
        corners = [given["align_corners"]] if "align_corners" in given else []
        matrices = []
        for size, count, scale in zip(sizes, counts, scales, strict=True):
            if scale is not None and int(size * scale) != count:
                raise asm.refuse(
                    f"it resizes {size} entries to {count} by a factor of {scale:g}",
                    "allowed is a factor that makes that size; name one of them",
                )
            check_size((count, size), f"the weights of {asm.where}")
            matrices.append(_along(call, _operator(name), dimensions, size, count, corners, scale))
        return resized(asm, call.value(source), matrices)

    return rule


def _scales(call: Call, dimensions: int) -> list[float | None]:
    given = call.arguments
    if "scale_factors" in given:
        scales = given["scale_factors"]
        if (scales is None) == (given["output_size"] is None) or len(
            scales or given["output_size"]
        ) != dimensions:
            raise call.refuse(
                "scale_factors", "a number for each axis, or None where there is an output size"
            )
        return list(scales or [None] * dimensions)
    names = ("scales",) if dimensions == 1 else ("scales_d", "scales_h", "scales_w")[-dimensions:]
    return [given[name] for name in names]


def _dimensions(name: str) -> int:
    return next(count for count in (1, 2, 3) if f"{count}d" in name)


def _operator(name: str) -> OpOverload:
    return getattr(torch.ops.aten, name).default


def _along(
    call: Call,
    operator: OpOverload,
    dimensions: int,
    size: int,
    count: int,
    corners: list[bool],
    scale: float | None,
) -> Tensor:
    """What each of `size` entries counts for each of `count`, ``(count, size)``."""

    def made(precision: torch.dtype) -> Tensor:
        # Along the columns of one row: maps of one column are taken for another order in memory.
        rows = [1] * (dimensions - 1)
        alone = torch.eye(size, dtype=precision).reshape(1, size, *rows, size)
        found = operator(alone, [*rows, count], *corners, *[None for _ in rows], scale)
        return found.reshape(size, count).T.double()

    wide, own = made(torch.float64), made(torch.float32)
    if not torch.allclose(wide, own, atol=1e-3):
        raise call.assembler.refuse(
            "which entry is the nearest hangs on how it is rounded",
            "allowed are sizes where float32 and float64 agree; name the size in place of the factor",
        )
    return wide.contiguous()


_POSITIVE = Argument("a number above 0", lambda given: isinstance(given, float) and 0 < given < 2**20)
_EACH = Argument(
    "numbers above 0",
    lambda given: isinstance(given, (list, tuple)) and all(map(_POSITIVE.fits, given)),
)
_ARGUMENTS = {
    "self": COMPUTED,
    "input": COMPUTED,
    "output_size": NONE | whole_numbers(least=1),
    "align_corners": FLAG,
    "scale_factors": NONE | _EACH,
    **dict.fromkeys(("scales", "scales_d", "scales_h", "scales_w"), NONE | _POSITIVE),
}
_NAMES = (
    *(
        f"{nearest}{count}d"
        for nearest in ("upsample_nearest", "_upsample_nearest_exact")
        for count in (1, 2, 3)
    ),
    *("upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d"),
    *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
)


def _sampled(call: Call) -> Value:
    """grid_sampler, at places that are constant or computed."""
    modes, paddings = ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")
    mode, padding = modes[call["interpolation_mode"]], paddings[call["padding_mode"]]
    return resampled(call.assembler, call.value("input"), call["grid"], mode, padding, call["align_corners"])


_THREE = only(0, 1, 2)

ROWS: Rows = (
    *((f"{name} {name}.vec", _resizing(name), _ARGUMENTS) for name in _NAMES),
    (
        "grid_sampler grid_sampler_2d",
        mixed(_sampled),
        {"input": COMPUTED, "grid": weights(4) | COMPUTED, "align_corners": FLAG}
        | {"interpolation_mode": _THREE, "padding_mode": _THREE},
    ),
)
"""Operators that resize, by name and overload."""
