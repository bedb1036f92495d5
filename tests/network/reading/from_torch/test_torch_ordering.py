"""Which modules keep the order of axes, so that PyTorch's gradient of a single image can be taken alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from steadygaze.network.reading.from_torch.ordering import keeps_order
from steadygaze.network.reading.load import load_network

SHAPE = (2, 8, 8)


class Net(nn.Module):
    """Convolutions, batch normalisation and a residual sum, and then a head."""

    def __init__(self, head):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm, self.last, self.head = nn.BatchNorm2d(4), nn.BatchNorm2d(4), head
        for norm in (self.norm, self.last):
            norm.running_var = torch.rand(4) + 0.5
            norm.running_mean = 0.4 * torch.rand(4) - 0.2
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        x = self.norm(self.first(x))
        return self.out(self.head(self.last(self.second(x.relu()) + x)))


HEADS = {
    "pooled": (lambda x: torch.relu(x).mean((2, 3)), True),
    "flattened": (lambda x: torch.relu(x).flatten(2).mean(2), True),
    "tokens": (lambda x: torch.relu(x.flatten(2).transpose(1, 2)).mean(1), False),
    "permuted": (lambda x: torch.relu(x.permute(0, 2, 3, 1)).mean((1, 2)), False),
    "turned": (lambda x: torch.relu(x.rot90(1, (2, 3))).mean((2, 3)), False),
    "summed by letters": (lambda x: torch.einsum("bchw->bc", torch.relu(x)), False),
}


@pytest.mark.parametrize("name", HEADS)
def test_it_is_told_which_modules_do(name):
    head, keeps = HEADS[name]
    program = torch.export.export(Net(head).eval(), (torch.rand(1, *SHAPE),))
    assert keeps_order(program) == keeps


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_a_single_image_has_the_gradient_that_it_has_among_others(name, form):
    module = Net(HEADS[name][0]).eval()
    for part in (module.first, module.second):
        part.weight.data = part.weight.data.contiguous(memory_format=form)
    network = load_network(module, input_shape=SHAPE)
    images = np.random.default_rng(0).uniform(size=(3, *SHAPE))
    together = network.original.gradients(images, 1)
    singly = np.concatenate([network.original.gradients(image[None], 1) for image in images])
    assert np.allclose(singly, together, atol=1e-6)
    ours = network.graph.gradient_at(torch.from_numpy(images), 1).numpy()
    assert np.allclose(together, ours, atol=1e-5)
