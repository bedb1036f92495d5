"""What becomes of errors on their way back through a norm, against the Jacobian written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from steadygaze.network.joint import Normalise, Softmax
from steadygaze.network.reading.load import load_network
from steadygaze.network.regions.rounding import terms_of_gradients


def drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("size", [2, 3, 8])
def test_squares_go_back_by_the_squares_of_the_jacobian(centred, size):
    layer, x, squares = Normalise(1e-2, centred), drawn(4, 3, size), drawn(4, 3, size).square()
    found = layer.squares_back(squares, layer.state(x), ((3, size),))[0]
    for row in range(4):
        jacobian = torch.autograd.functional.jacobian(lambda own: layer.forward(own[None])[0], x[row])
        flat = jacobian.reshape(3 * size, 3 * size)
        wanted = flat.square().T @ squares[row].flatten()
        torch.testing.assert_close(found[row].flatten(), wanted, rtol=1e-9, atol=1e-12)


def test_those_of_a_softmax_are_no_less():
    layer, x, squares = Softmax(), drawn(4, 5), drawn(4, 5).square()
    found = layer.squares_back(squares, layer.state(x), ((5,),))[0]
    for row in range(4):
        jacobian = torch.autograd.functional.jacobian(lambda own: layer.forward(own[None])[0], x[row])
        assert (found[row] >= jacobian.square().T @ squares[row] * (1 - 1e-9)).all()


def test_terms_of_a_gradient_through_many_norms_do_not_leave_it_far_behind():
    """As absolute values they would grow past any gradient, and no map be told from rounding."""
    torch.manual_seed(0)
    layers = [layer for _ in range(30) for layer in (nn.Linear(8, 8), nn.LayerNorm(8))]
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), *layers, nn.Linear(8, 3)).eval()
    graph = load_network(module, input_shape=(1, 2, 2)).graph
    x = drawn(1, 1, 2, 2)
    pieces, seed = graph.pieces_at(x), graph.seed(1, 1)
    gradient, terms = graph.pull_back(seed, pieces), terms_of_gradients(graph, seed, pieces)
    assert (gradient.abs() <= terms).all()
    assert float(terms.max()) < 1e4 * float(gradient.abs().max())
