"""Sums over the coefficients of forms, bands and rows by kernels: against those by PyTorch, on any device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from second_device import second_device
from steadygaze.enclosing import forms, passes
from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding.rows import bands, lines
from steadygaze.network.bounding.rows.bands import Band
from steadygaze.network.bounding.rows.bands import moved as moved_by
from steadygaze.network.bounding.rows.lines import Lines
from steadygaze.network.layers import Dense

BOXES, COUNT, UNITS = 3, 4, 21


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def band():
    middle, half = normal(BOXES, 1 + COUNT, 3, 7, seed=1), normal(BOXES, 1 + COUNT, 3, 7, seed=2)
    return Band(middle, 0.1 * half, 0.01 * normal(BOXES, 3, 7, seed=3).abs())


def lines_of(kind=torch.float64):
    return Lines(
        *(normal(BOXES, UNITS, seed=seed).to(kind) for seed in range(4, 8)), torch.ones(BOXES, UNITS).to(kind)
    )


def moved(part, device):
    """What is made of tensors, on a device."""
    if isinstance(part, torch.Tensor):
        return part.to(device)
    return type(part)(
        *(own.to(device) if isinstance(own, torch.Tensor) else own for own in vars(part).values())
    )


def made(name, device, kind=torch.float64):
    if name == "forms":
        own = moved(Forms(band().middle, band().error, 2), device)
        return own.spread, own.reach, own.size, own.strays, *own.bounds()
    if name == "units":
        own = moved(Forms(band().middle, band().error, 2), device).flattened()
        slope, offset, deviation = (moved(normal(BOXES, UNITS, seed=seed), device) for seed in (8, 9, 10))
        bent = own.bent(slope, offset, deviation.abs())
        return bent.rows, bent.error, own.blamed(deviation.abs())
    if name == "ranges":
        return moved(band(), device).bounds
    if name == "bands":
        own = moved(band(), device).through(moved(lines_of(), device), (3, 7))
        return own.middle, own.half, own.error
    return moved(lines_of(kind), device).pulled(moved(normal(BOXES, 5, UNITS).to(kind), device))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("forms", torch.float64),
        ("units", torch.float64),
        ("ranges", torch.float64),
        ("bands", torch.float64),
        ("rows", torch.float64),
        ("rows", torch.float32),
    ],
)
def test_kernels_say_what_other_devices_do(name, kind):
    own = made(name, "cpu", kind)
    with second_device():
        others = [part.cpu() for part in made(name, "cuda", kind)]
    for one, other in zip(own, others, strict=True):
        close = 1e-12 if kind == torch.float64 else 1e-4
        torch.testing.assert_close(one, torch.as_tensor(other).to(one.dtype), rtol=close, atol=close)


def test_kernels_are_asked_on_a_processor(monkeypatch):
    asked = list[str]()
    kernels = {
        **dict.fromkeys(("reaches_of", "bands_between"), bands),
        **dict.fromkeys(("sums_of", "moved_by_units", "blame_of"), forms),
        "rows_between": lines,
    }
    for name, module in kernels.items():
        kernel = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *parts, kernel=kernel, name=name: asked.append(name) or kernel(*parts)
        )
    for name in ("units", "ranges", "bands", "rows"):
        made(name, "cpu")
    assert set(asked) == set(kernels)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_not_taken_for_others(bad):
    rows = normal(BOXES, 5, UNITS).numpy().copy()
    rows[1, 2, 3] = bad
    own = lines_of()
    lower, upper = (part.numpy() for part in own.sides)
    before, sums = passes.rows_between(rows, own.below.numpy(), own.above.numpy(), lower, upper)
    assert not np.isfinite(before[1, 2, 3])
    assert not np.isfinite(sums[:, 1, 2]).any()
    assert np.isfinite(np.delete(before.reshape(BOXES * 5, UNITS), 7, axis=0)).all()


def test_rows_of_all_boxes_are_those_of_each():
    rows = normal(1, 5, UNITS)
    for one, other in zip(lines_of().pulled(rows), lines_of().pulled(rows.repeat(BOXES, 1, 1)), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("share", [0.0, 1e6])
def test_rounding_of_an_affine_layer_is_in_bands_and_ranges(share):
    """Numbers that are known: what is left of them is rounding, which neither may leave out."""
    weight, bias = 1e3 * normal(400, UNITS, seed=1), share * normal(400, seed=2)
    known = normal(BOXES, UNITS, seed=3)
    rows = torch.cat([known[:, None], torch.zeros(BOXES, COUNT, UNITS, dtype=torch.float64)], dim=1)
    exact = Band(rows, torch.zeros_like(rows), torch.zeros_like(known))
    own, (low, high) = moved_by(Dense(weight, bias), [exact], [(known, known)])
    true = known.numpy().astype(np.longdouble) @ weight.numpy().T + bias.numpy()
    for least, most in ((low, high), own.bounds):
        assert (least.numpy() <= true).all()
        assert (true <= most.numpy()).all()
    assert (np.abs(own.middle[:, 0].numpy() - true) <= own.error.numpy()).all()
    assert float(own.error.max()) < 1e-6
