"""Gradients as combinations of few maps, against a backward pass for each region."""

from __future__ import annotations

import pytest
import torch

from graphs import rand, relu, residual_graph
from steadygaze.network.building import GraphBuilder
from steadygaze.network.graph import Graph
from steadygaze.network.layers import Dense, Reshape
from steadygaze.network.regions.combined import Combined, combined


def dense_graph(low: float = 0.0) -> Graph:
    """Two hidden layers, most units of which are idle near 0."""
    b = GraphBuilder((1, 8, 8))
    at = b.add(Reshape((64,)), 0, name="flat")
    for k, (units, inputs) in enumerate(((30, 64), (20, 30))):
        at = b.add(Dense(rand(units, inputs, seed=k), rand(units, seed=9 + k) - 0.3), at, name=f"dense {k}")
        at = b.add(relu(low), at, name=f"act {k}")
    return b.build(b.add(Dense(rand(5, 20, seed=7), rand(5, seed=8)), at, name="logits"))


def near(graph: Graph, rows: int, size: float) -> torch.Tensor:
    """Pixels on a small square of a plane, so that few units vary."""
    shape = graph.input_shape
    sides = torch.rand((rows, 2), generator=torch.Generator().manual_seed(5), dtype=torch.float64) * size
    plane = torch.stack([rand(*shape, seed=21), rand(*shape, seed=22)])
    return 0.2 * rand(1, *shape, seed=20) + torch.einsum("ri,ichw->rchw", sides, plane)


CASES = {
    "one region": (residual_graph(), 0.0),
    "dense": (dense_graph(), 0.3),
    "dense, wider": (dense_graph(), 0.5),
    "leaky": (dense_graph(0.2), 0.3),
    "residual": (residual_graph(), 0.5),
    "more varies": (residual_graph(100), 0.1),
}


@pytest.mark.parametrize(("graph", "size"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("to", [0, 1, 2, 3])
def test_combinations_are_the_gradients_of_each_region(graph, size, to):
    pieces = graph.pieces_at(near(graph, 400, size))
    assert size == 0.0 or any((chosen != chosen[0]).any() for chosen in pieces.values())
    for label in range(graph.classes):
        found = combined(graph, label, pieces, to, 400)
        assert found is not None
        plain = graph.pull_back(graph.seed(label, 400), pieces, to)
        together = torch.einsum("rk,k...->r...", found.weights, found.maps)
        assert torch.allclose(together, plain, atol=1e-13)


def test_windows_whose_winners_vary_are_followed_too():
    graph = residual_graph()
    pieces = graph.pieces_at(near(graph, 400, 0.3))
    pool = next(i for i, node in enumerate(graph.nodes) if node.name == "pool")
    assert (pieces[pool] != pieces[pool][0]).any()


def test_a_dense_network_goes_through_its_first_activations():
    graph = dense_graph()
    found = combined(graph, 0, graph.pieces_at(near(graph, 400, 0.02)), 0, 400)
    assert found is not None
    assert found.safe
    assert found.maps.shape[0] < 30


def test_few_regions_and_much_that_varies_do_not_pay():
    graph = residual_graph()
    assert combined(graph, 0, graph.pieces_at(near(graph, 1, 0.1)), 0, 1) is None
    assert combined(graph, 0, graph.pieces_at(0.5 + rand(20, 2, 8, 8)), 0, 20) is None


def test_rows_that_cancel_are_told():
    weights = torch.tensor([[1.0, 1.0], [1.0, 1.0 + 1e-3]], dtype=torch.float64)
    maps = torch.tensor([[1.0, 2.0], [-1.0, -2.1]], dtype=torch.float64)
    sizes = torch.linalg.vector_norm(weights @ maps, dim=1)
    assert Combined(weights, maps, safe=False).cancelling(5 * sizes).tolist() == []
    assert Combined(weights, maps, safe=False).cancelling(0.1 * sizes).tolist() == [0, 1]
    assert not len(Combined(weights, maps, safe=True).cancelling(0.0 * sizes))


def test_where_nothing_varies_one_map_is_all_and_cannot_cancel():
    graph = residual_graph()
    found = combined(graph, 0, graph.pieces_at(near(graph, 50, 0.0)), 2, 50)
    assert found is not None
    assert found.weights.shape == (50, 1)
    assert len(found.maps) == 1
    assert found.safe
    varies = combined(graph, 0, graph.pieces_at(near(graph, 400, 0.5)), 2, 400)
    assert varies is not None
    assert len(varies.maps) > 1
    assert not varies.safe


def test_a_network_without_products_behind_the_node():
    """Nothing but activations lies between the node and the logits."""
    b = GraphBuilder((1, 2, 2))
    flat = b.add(Reshape((4,)), 0, name="flat")
    graph = b.build(b.add(relu(0.1), b.add(Reshape((4,)), flat, name="again"), name="logits"))
    pieces = graph.pieces_at(torch.linspace(-1, 1, 200, dtype=torch.float64).reshape(50, 1, 2, 2))
    same = {node: chosen[:1].expand(50, -1) for node, chosen in pieces.items()}
    for some in (pieces, same):
        found = combined(graph, 2, some, flat, 50)
        plain = graph.pull_back(graph.seed(2, 50), some, flat)
        assert found is None or torch.allclose(torch.einsum("rk,ki->ri", found.weights, found.maps), plain)


@pytest.mark.parametrize(("rows", "alive"), [(8, 5), (5, 4)])
def test_weights_at_hand_are_combined_wherever_they_are_no_more_than_regions(rows, alive):
    """Behind a reshape alone the maps to combine are rows of the first layer, which need no pass."""
    graph = dense_graph()
    pieces = {node: chosen[:rows] for node, chosen in graph.pieces_at(near(graph, 400, 0.3)).items()}
    found = combined(graph, 2, pieces, 0, rows)
    assert found is not None
    assert found.weights.shape == (rows, alive)
    plain = graph.pull_back(graph.seed(2, rows), pieces)
    assert torch.allclose(torch.einsum("rk,k...->r...", found.weights, found.maps), plain, atol=1e-13)
