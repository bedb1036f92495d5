"""Every way of convolving gives what PyTorch's own does, forward and backward."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from steadygaze.network.convolving import Window, convolved, pulled_back
from steadygaze.network.layers import Conv

# (in, out, groups, size): wide maps, more channels than places, channels one by one, groups of several,
# and several channels made from each.
SHAPES = ((3, 4, 1, 9), (3, 40, 1, 5), (6, 6, 6, 7), (4, 6, 2, 6), (3, 6, 3, 6), (5, 1, 1, 4))
WINDOWS = tuple(product(((1, 1), (2, 1)), ((0, 0), (1, 2)), ((1, 1), (1, 2)), ((3, 2), (1, 1))))


@pytest.mark.parametrize(("channels", "out", "groups", "size"), SHAPES)
@pytest.mark.parametrize(("stride", "padding", "dilation", "kernel"), WINDOWS)
def test_values_and_gradients_are_those_of_pytorch(
    channels, out, groups, size, stride, padding, dilation, kernel
):
    torch.manual_seed(0)
    window = Window(stride, padding, dilation, groups)
    weight = torch.randn(out, channels // groups, *kernel, dtype=torch.float64)
    bias = torch.randn(out, dtype=torch.float64)
    # Images as a transpose leaves them: not in the order of memory.
    x = torch.randn(3, size + 1, channels, size, dtype=torch.float64).transpose(1, 2).requires_grad_()
    expected = torch.nn.functional.conv2d(x, weight, bias, stride, padding, dilation, groups)
    g = torch.randn_like(expected)
    (gradient,) = torch.autograd.grad(expected, x, g)
    with torch.no_grad():
        torch.testing.assert_close(convolved(x, weight, bias, window), expected)
        torch.testing.assert_close(
            convolved(x, weight, None, window), expected - bias[:, None, None], rtol=1e-9, atol=1e-12
        )
        torch.testing.assert_close(pulled_back(g, weight, tuple(x.shape[1:]), window), gradient)
        single = pulled_back(g.float(), weight.float(), tuple(x.shape[1:]), window)
        torch.testing.assert_close(single.double(), gradient, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("channels", "out", "groups", "size"), SHAPES)
def test_large_batches_go_block_by_block(channels, out, groups, size, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr("steadygaze.network.convolving._BLOCK_BYTES", 1)
    monkeypatch.setattr("steadygaze.network.convolving._NARROW_BYTES", 1)
    layer = Conv(
        torch.randn(out, channels // groups, 3, 3, dtype=torch.float64),
        torch.randn(out, dtype=torch.float64),
        padding=(1, 1),
        groups=groups,
    )
    x = torch.randn(4, channels, size, size, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.conv2d(x, layer.weight, layer.bias, padding=1, groups=groups)
    g = torch.randn_like(expected)
    (gradient,) = torch.autograd.grad(expected, x, g)
    with torch.no_grad():
        torch.testing.assert_close(layer.forward(x), expected)
        torch.testing.assert_close(layer.transpose(g, (tuple(x.shape[1:]),))[0], gradient)
        # In single precision few channels have a way of their own.
        (single,) = layer.to(torch.float32).transpose(g.float(), (tuple(x.shape[1:]),))
        torch.testing.assert_close(single.double(), gradient, rtol=1e-4, atol=1e-4)


def test_a_batch_without_images_has_no_values():
    layer = Conv(torch.randn(40, 3, 3, 3, dtype=torch.float64), torch.zeros(40, dtype=torch.float64))
    x = torch.zeros(0, 3, 5, 5, dtype=torch.float64)
    assert layer.forward(x).shape == (0, 40, 3, 3)
    assert layer.transpose(layer.forward(x), ((3, 5, 5),))[0].shape == x.shape
