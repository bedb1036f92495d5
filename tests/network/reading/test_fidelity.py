"""Planted faults: an import that is wrong in any layer must not pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from steadygaze.deadline import NEVER, Deadline
from steadygaze.errors import FidelityError, ModelError
from steadygaze.network.graph import Graph
from steadygaze.network.layers import Conv, Dense
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.reading import fidelity
from steadygaze.network.reading.fidelity import FidelityOptions, check_fidelity
from steadygaze.network.reading.load import load_network
from steadygaze.network.reading.originals import AbstractOriginal
from steadygaze.network.reading.seeking import telling_images

# Images that show a unit on each of its pieces are sought until they are found, however busy the machine.
PATIENT = FidelityOptions(seconds=60.0)


class Wrapped(AbstractOriginal):
    """Another original with its logits."""

    def __init__(self, original):
        self.preparation = original.preparation
        self._original = original

    def logits(self, images):
        return self._original.logits(images)


class WithoutGradient(Wrapped):
    """The same original in a runtime that has no gradients."""

    def gradient(self, images, label):
        return None


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 8),
        nn.LeakyReLU(),
        nn.Linear(8, 3),
    )
    return load_network(module, input_shape=(1, 8, 8))


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(0, 1, (9, 1, 8, 8))


def with_layer(network, index, layer):
    nodes = list(network.graph.nodes)
    nodes[index] = replace(nodes[index], layer=layer)
    return replace(network, graph=Graph(tuple(nodes)))


def test_a_right_import_passes_by_either_way(network, images):
    found = check_fidelity(network, images)
    assert found.gradient_by == "autograd"
    assert found.logits < 1e-6
    assert found.gradient < 1e-5
    blind = replace(network, original=WithoutGradient(network.original))
    assert check_fidelity(blind, images).gradient_by == "finite differences"


@pytest.mark.parametrize("layer", [nn.Hardtanh(), nn.ReLU6()], ids=["hard tanh", "relu6"])
def test_units_exactly_at_the_end_of_a_clip_pass(layer):
    """PyTorch has no slope there, where others go on; some image of a few greys meets it exactly."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False), layer, nn.Linear(2, 2)).double()
    with torch.no_grad():
        module[1].weight[:] = torch.tensor([[2.0, 0.0, 0.0, 0.0], [12.0, 0.0, 0.0, 0.0]])
    images = np.concatenate(
        [np.full((1, 1, 2, 2), 0.5), np.random.default_rng(0).uniform(0, 1, (3, 1, 2, 2))]
    )
    check_fidelity(load_network(module, input_shape=(1, 2, 2)), images)
    check_fidelity(load_network(module, input_shape=(1, 2, 2)), images[:1])


class Tokens(nn.Module):
    """Convolutions before a transformer: tokens made of what a batch normalisation makes."""

    def __init__(self):
        super().__init__()
        self.stem, self.last = nn.Sequential(nn.Conv2d(1, 4, 4, 4), nn.BatchNorm2d(4)), nn.Linear(4, 3)

    def forward(self, x):
        return torch.relu(self.last(self.stem(x).flatten(2).transpose(1, 2))).mean(1)


def test_a_single_image_has_the_gradient_that_it_has_among_others(images):
    torch.manual_seed(0)
    original = load_network(Tokens().eval(), input_shape=(1, 8, 8)).original
    singly = np.concatenate([original.gradients(image[None], 1) for image in images])
    assert np.allclose(singly, original.gradients(images, 1), atol=1e-6)


class Misled(WithoutGradient):
    """The right logits with a gradient that is not theirs."""

    def gradient(self, images, label):
        return self._original.gradient(images, label)[..., ::-1].copy()


class Mixing(nn.Module):
    """The largest number of all images of a batch, and so of others, too."""

    def __init__(self, share):
        super().__init__()
        torch.manual_seed(0)
        self.share, self.out = share, nn.Linear(64, 3)

    def forward(self, x):
        return self.out(x.flatten(1)) + self.share * x.max()


@pytest.mark.parametrize("share", [1e-5, 1.0])
def test_images_are_looked_at_alone_where_the_module_mixes_those_of_a_batch(images, share):
    mixing = load_network(Mixing(share), input_shape=(1, 8, 8))
    found = mixing.original.gradient(images, 0)
    alone = np.concatenate([mixing.original.gradient(image[None], 0) for image in images])
    assert np.array_equal(found, alone)
    check_fidelity(mixing, images)


def test_a_gradient_of_pytorch_that_is_no_slope_is_told_from_a_wrong_import(network, images):
    misled = replace(network, original=Misled(network.original))
    with pytest.raises(ModelError, match=r"is not the slope of its logits.*open batch axis"):
        check_fidelity(misled, images)


def test_gradients_below_single_precision_pass(images):
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Sigmoid(), nn.Linear(8, 8), nn.Linear(8, 3))
    with torch.no_grad():
        for layer in (module[1], module[3], module[4]):
            layer.weight *= 1e-20
    assert check_fidelity(load_network(module, input_shape=(1, 8, 8)), images).gradient < 1e-2


def test_a_wrong_value_anywhere_is_found(network, images):
    planted = 0
    for index, node in enumerate(network.graph.nodes):
        if isinstance(node.layer, Conv | Dense):
            wrong = [
                replace(node.layer, weight=node.layer.weight.flip(-1)),
                replace(node.layer, bias=node.layer.bias + 0.01),
            ]
        elif isinstance(node.layer, PiecewiseLinear):
            wrong = [replace(node.layer, slopes=torch.tensor([[0.02], [1.0]]).double())]
        else:
            continue
        for layer in wrong:
            planted += 1
            with pytest.raises(FidelityError, match="the logits of the imported network Sequential differ"):
                check_fidelity(with_layer(network, index, layer), images)
    assert planted == 8


class Crooked(Graph):
    """Right values, wrong gradients."""

    def pull_back(self, *given, **named):
        return super().pull_back(*given, **named).flip(-1)


def test_a_logit_that_dies_at_once_passes_without_autograd():
    """As image 112 of MNIST in mnist-net_256x2, whose last layer is a rectifier: alive in the image alone."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.ReLU()).double()
    with torch.no_grad():
        module[1].weight[:] = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
        module[1].bias[:] = torch.tensor([-2.0 + 2e-4, 0.0])
    network = load_network(module, input_shape=(1, 2, 2))
    blind = replace(network, original=WithoutGradient(network.original))
    check_fidelity(blind, np.full((1, 1, 2, 2), 0.5))


@pytest.mark.parametrize("autograd", [True, False])
def test_a_wrong_gradient_is_found(network, images, autograd):
    original = network.original if autograd else WithoutGradient(network.original)
    crooked = replace(network, graph=Crooked(network.graph.nodes), original=original)
    with pytest.raises(FidelityError, match="the gradient of the imported network Sequential differs"):
        check_fidelity(crooked, images)


class Nearby(Wrapped):
    """An original whose single precision has put units on the other side of a kink, and that has a double."""

    def gradient(self, images, label):
        return 1.5 * self._original.gradient(images, label)

    def in_double(self):
        return self._original.in_double()


def test_where_every_image_is_near_a_kink_double_precision_tells(network, images, monkeypatch):
    monkeypatch.setattr(fidelity, "_away_from_kinks", lambda graph, x, *given: np.zeros(len(x), bool))
    nearby = replace(network, original=Nearby(network.original))
    found = check_fidelity(nearby, images)
    assert found.gradient_by == "autograd in double precision"
    assert found.gradient < 1e-6
    crooked = replace(nearby, graph=Crooked(network.graph.nodes))
    with pytest.raises(FidelityError, match="the gradient of the imported network Sequential differs"):
        check_fidelity(crooked, images)


def test_logits_that_single_precision_does_not_hold_are_told_of(images):
    """As of a deep network that was never trained: 0 as it computes itself, and 1e-45 in double precision."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), *(nn.Linear(64, 64, bias=False) for _ in range(3)))
    with torch.no_grad():
        for part in list(module)[1:]:
            part.weight.mul_(1e-14)
    with pytest.raises(ModelError, match="trained weights") as raised:
        check_fidelity(load_network(module, input_shape=(1, 8, 8)), images)
    assert "report" not in str(raised.value)
    assert check_fidelity(load_network(module.double(), input_shape=(1, 8, 8)), images).logits < 1e-9


def test_a_gradient_that_single_precision_gets_wrong_is_told_of(images):
    """Large terms cancel before a bend, and large constants behind it hide that from the logits."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 3))
    with torch.no_grad():
        module[1].weight.mul_(3e7)
        module[1].bias.copy_(-(module[1].weight.double() @ torch.from_numpy(images[0]).flatten()))
        module[3].bias.add_(1e5)
    with pytest.raises(ModelError, match=r"in its own precision is off .* hand in module.double\(\)"):
        check_fidelity(load_network(module, input_shape=(1, 8, 8)), images[:1])


def test_a_gradient_that_takes_the_wrong_winner_is_found(network, images):
    class Misrouted(Graph):
        def pieces_of(self, values, tolerances=None):
            return self._misrouted(super().pieces_of(values, tolerances))

        def logits_and_pieces(self, x, tolerances=None):
            logits, pieces = super().logits_and_pieces(x, tolerances)
            return logits, self._misrouted(pieces)

        def _misrouted(self, pieces):
            pools = [i for i, node in enumerate(self.nodes) if isinstance(node.layer, MaxPool)]
            return {i: 3 - p if i in pools else p for i, p in pieces.items()}

    misrouted = replace(network, graph=Misrouted(network.graph.nodes))
    with pytest.raises(FidelityError, match="the gradient"):
        check_fidelity(misrouted, images)


@pytest.mark.parametrize("autograd", [True, False])
def test_a_wrong_derivative_of_smooth_units_is_found(images, autograd):
    class Steeper(Graph):
        def pieces_of(self, values, tolerances=None):
            return self._steeper(super().pieces_of(values, tolerances))

        def logits_and_pieces(self, x, tolerances=None):
            logits, pieces = super().logits_and_pieces(x, tolerances)
            return logits, self._steeper(pieces)

        def _steeper(self, pieces):
            return {i: 1.1 * p if i in self.smooth else p for i, p in pieces.items()}

    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Sigmoid(), nn.Linear(8, 3))
    network = load_network(module, input_shape=(1, 8, 8))
    original = network.original if autograd else WithoutGradient(network.original)
    network = replace(network, original=original)
    assert check_fidelity(network, images).gradient < 1e-3
    with pytest.raises(FidelityError, match="the gradient"):
        check_fidelity(replace(network, graph=Steeper(network.graph.nodes)), images)


def test_units_on_their_kink_do_not_raise_alarms():
    """Blank images put every unit without a bias exactly on its kink."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    )
    network = load_network(module, input_shape=(1, 8, 8))
    images = np.zeros((5, 1, 8, 8))
    images[1:, 0, 2, 2] = 0.5
    check_fidelity(network, images)
    check_fidelity(replace(network, original=WithoutGradient(network.original)), images)


def test_another_number_of_classes_is_found(network, images):
    other = load_network(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), input_shape=(1, 8, 8))
    with pytest.raises(FidelityError, match="allowed are equal shapes"):
        check_fidelity(replace(network, original=other.original), images)


# -- arguments that are read in part: the difference shows only where the units concerned are on the piece
# concerned


def pieced(node, slopes=None, edges=None):
    """The node's layer with other slopes, ``(pieces, N)``, or other breakpoints."""
    layer = node.layer
    marks = layer.breakpoints if edges is None else torch.tensor(edges).double()
    slopes = layer.slopes if slopes is None else slopes
    offsets = [torch.zeros_like(slopes[0])]
    for k, mark in enumerate(marks):
        offsets.append(offsets[-1] + (slopes[k] - slopes[k + 1]) * mark)
    if edges is None and len(marks) == 2:
        offsets = list(layer.offsets)
    return replace(layer, breakpoints=marks, slopes=slopes, offsets=torch.stack(offsets))


def convolutional(activation, weight=1.0, bias=1.5):
    """Units that are above 0 at every image in the legal range: what is below shows farther out alone."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), activation, nn.Flatten(), nn.Linear(4 * 36, 3))
    with torch.no_grad():
        net[0].weight.mul_(weight)
        net[0].bias.fill_(bias)
    return net


@pytest.mark.parametrize("channel", range(4))
def test_a_slope_that_is_wrong_for_one_channel_is_found(images, channel):
    net = convolutional(nn.PReLU(4))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([0.25, 0.25, 0.25, 0.25]))
        net[1].weight[channel] = 0.1
    read = load_network(net, input_shape=(1, 8, 8))
    check_fidelity(read, images[:1])
    (index,) = read.graph.piecewise
    slopes = read.graph.nodes[index].layer.slopes.clone()
    slopes[0] = 0.25
    wrong = with_layer(read, index, pieced(read.graph.nodes[index], slopes=slopes))
    x = torch.from_numpy(images)
    assert (wrong.graph.forward(x) - read.graph.forward(x)).abs().max() < 1e-12, "no image given shows it"
    with pytest.raises(FidelityError):
        check_fidelity(wrong, images, PATIENT)


def test_a_clip_that_is_forgotten_where_few_units_reach_it_is_found(images):
    """ReLU6 read as ReLU: in the legal range no unit comes near to 6."""
    read = load_network(convolutional(nn.ReLU6()), input_shape=(1, 8, 8))
    check_fidelity(read, images)
    (index,) = read.graph.piecewise
    relu = load_network(convolutional(nn.ReLU()), input_shape=(1, 8, 8))
    wrong = with_layer(read, index, relu.graph.nodes[index].layer)
    for original in (read.original, WithoutGradient(read.original)):
        with pytest.raises(FidelityError):
            check_fidelity(replace(wrong, original=original), images[:3], PATIENT)


def test_what_rounds_behind_a_narrow_layer_counts(images):
    """A few numbers near 0 before constants: rounding of the constants is no difference of the networks."""
    narrow = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 4)
    )
    with torch.no_grad():
        narrow[0].weight.fill_(1e-5)
        narrow[0].bias.zero_()
        narrow[4].bias.copy_(torch.tensor([0.7, 0.3, 0.1, -0.9]))
    read = load_network(narrow, input_shape=(1, 8, 8))
    assert check_fidelity(read, images).logits < 1e-6
    last = read.graph.last
    layer = read.graph.nodes[last].layer
    wrong = with_layer(read, last, replace(layer, bias=1.001 * layer.bias))
    with pytest.raises(FidelityError):
        check_fidelity(wrong, images)


def test_norms_that_leave_nothing_but_rounding_of_a_black_image_are_taken(images):
    """Each makes it hundreds of times as large: what comes of it is no difference of the networks."""
    torch.manual_seed(50)
    layers: list[nn.Module] = [nn.Conv2d(1, 8, 3, padding=1)]
    for _ in range(10):
        layers += [nn.InstanceNorm2d(8, affine=True), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)]
    deep = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
    read = load_network(deep, input_shape=(1, 8, 8))
    black = np.zeros((1, 1, 8, 8))
    apart = np.abs(read.original.logits(black) - read.graph.forward(torch.zeros(1, 1, 8, 8).double()).numpy())
    assert apart.max() > 1e-3
    check_fidelity(read, np.concatenate([images, black]))
    last = read.graph.last
    layer = read.graph.nodes[last].layer
    wrong = with_layer(read, last, replace(layer, bias=layer.bias + 1e-3))
    with pytest.raises(FidelityError):
        check_fidelity(wrong, images)


def test_logits_that_are_nothing_but_rounding_of_a_norm_are_not_compared(images):
    """Of one colour behind a sigmoid and a norm without constants: 3e-7 by one way, 1e-14 by the other."""
    torch.manual_seed(3)
    layers = (nn.Conv2d(1, 6, 2), nn.Sigmoid(), nn.InstanceNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(6, 3, bias=False)).eval()
    read = load_network(module, input_shape=(1, 8, 8))
    black = np.zeros((1, 1, 8, 8))
    own, ours = read.original.logits(black), read.graph.forward(torch.from_numpy(black)).numpy()
    assert np.abs(own - ours).max() > 1e-3 * np.abs(ours).max() > 0
    check_fidelity(read, np.concatenate([images, black]))
    last = read.graph.last
    layer = read.graph.nodes[last].layer
    wrong = with_layer(read, last, replace(layer, weight=1.001 * layer.weight))
    with pytest.raises(FidelityError):
        check_fidelity(wrong, np.concatenate([images, black]))


def test_logits_behind_a_rectifier_are_off_by_what_is_summed_ahead_of_it(images):
    """Where terms of 1 cancel to 1e-6, the rest is off by 1e-7 of 1, whatever of it passes the rectifier."""
    torch.manual_seed(1)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3), nn.ReLU())
    with torch.no_grad():
        module[1].weight *= 1e-4  # what pixels do is far below what is summed behind
        module[1].bias.fill_(1.0)
        total = module[:4](torch.from_numpy(images[:1]).float())[0]
        module[3].bias -= total - 1e-6
    read = load_network(module, input_shape=(1, 8, 8))
    assert read.graph.forward(torch.from_numpy(images[:1])).max() < 1e-5
    assert check_fidelity(read, images).logits < 1e-6
    index = read.graph.last - 1
    layer = read.graph.nodes[index].layer
    wrong = with_layer(read, index, replace(layer, bias=layer.bias + 1e-3))
    with pytest.raises(FidelityError):
        check_fidelity(wrong, images)


def test_gradients_that_are_nothing_but_rounding_are_not_compared(images):
    """A norm of two numbers that are always equal: logits depend on nothing, and terms cancel."""
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 2, 5), nn.Conv2d(2, 2, 4)
    with torch.no_grad():
        layers[0].weight *= 3
        for layer in layers:
            layer.weight[1], layer.bias[1] = layer.weight[0], layer.bias[0]
    last = nn.GroupNorm(1, 2), nn.SiLU(), nn.Flatten(), nn.Linear(2, 3)
    network = load_network(nn.Sequential(layers[0], nn.Tanh(), layers[1], *last), input_shape=(1, 8, 8))
    found = check_fidelity(network, images)
    assert found.gradient == 0
    assert found.gradient_by == "autograd"


@pytest.mark.parametrize(("bias", "precision"), [(9.0, torch.float32), (20.0, torch.float64)])
def test_gradients_of_saturated_units_are_not_compared(images, bias, precision):
    """Where tanh is 1 up to rounding, its slope 1 - tanh^2 is a rounding error, or 0."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 3)).to(precision)
    with torch.no_grad():
        module[1].weight.mul_(0.5)
        module[1].bias.copy_(torch.tensor([bias, -bias]).repeat(4))
    network = load_network(module, input_shape=(1, 8, 8))
    ours = network.graph.gradient_at(torch.from_numpy(images), 0).numpy()
    theirs = network.original.gradients(images, 0)
    assert np.abs(ours - theirs).max() > 0.01 * np.abs(theirs).max()
    assert check_fidelity(network, images).gradient < 1e-2


def test_logits_that_single_precision_gets_wrong_are_told_of(images):
    """Terms of millions cancel to what a rectifier lets through, and rounding is all that is left."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 8), nn.ReLU6(), nn.Linear(8, 3))
    with torch.no_grad():
        module[1].weight.mul_(1e7)
        inner = module[1](torch.from_numpy(images).float().flatten(1)).double()
        onto = torch.linalg.pinv(inner) @ inner  # nothing of the images is left but in single precision
        module[2].weight.copy_(module[2].weight.double() @ (torch.eye(64).double() - onto))
    with pytest.raises(ModelError, match=r"in its own precision are off .* hand in module.double\(\)"):
        check_fidelity(load_network(module, input_shape=(1, 8, 8)), images)


def test_a_bound_that_is_a_little_off_is_found(images):
    read = load_network(convolutional(nn.Hardtanh(-1.0, 4.0)), input_shape=(1, 8, 8))
    check_fidelity(read, images)
    (index,) = read.graph.piecewise
    wrong = with_layer(read, index, pieced(read.graph.nodes[index], edges=[-1.0, 4.2]))
    with pytest.raises(FidelityError):
        check_fidelity(wrong, images, PATIENT)


def test_each_unit_is_seen_on_each_piece(network, images):
    x = torch.from_numpy(images[:2])
    sought = telling_images(network.graph, x, 400, 20.0)
    pieces = network.graph.pieces_at(torch.cat([x, sought]))
    for index in network.graph.piecewise:
        layer = network.graph.nodes[index].layer
        if isinstance(layer, PiecewiseLinear):
            for piece in range(len(layer.breakpoints) + 1):
                assert (pieces[index] == piece).any(dim=0).all()
    assert len(telling_images(network.graph, x, 5, 20.0)) <= 5
    assert len(telling_images(network.graph, x, 400, 0.0)) <= 16


def test_integrals_end_in_time_but_one_of_each_kind_is_compared(network, images, monkeypatch):
    seen = []
    monkeypatch.setattr(
        Graph, "gradient_at", lambda graph, x, label: seen.append(len(x)) or torch.zeros_like(x)
    )
    options = FidelityOptions(integrating=0.0, gradient=np.inf)
    fidelity._compare_integrals(network.original, network.graph, torch.from_numpy(images), 0, options, NEVER)
    assert sum(seen) == 2 * (2 + options.steps)


@pytest.mark.parametrize(("left", "most"), [(1e6, 6 * 130), (100.0, 30), (0.5, 20)])
def test_integrals_look_at_as_many_points_as_the_time_allows(network, images, monkeypatch, left, most):
    """A clock that a gradient puts on by a second: a fifth of the time left is theirs."""
    now, gradient = [0.0], Graph.gradient_at

    def slowly(graph, x, label):
        now[0] += len(x)
        return gradient(graph, x, label)

    monkeypatch.setattr(Graph, "gradient_at", slowly)
    blind = replace(network, original=WithoutGradient(network.original))
    deadline = Deadline(ends=left, clock=lambda: now[0])
    check_fidelity(blind, images, FidelityOptions(integrating=1e3), deadline=deadline)
    assert 20 <= now[0] <= most
    crooked = replace(blind, graph=Crooked(network.graph.nodes))
    with pytest.raises(FidelityError, match="the gradient"):
        check_fidelity(crooked, images, deadline=Deadline(ends=left, clock=lambda: now[0]))


class Counting(AbstractOriginal):
    """An original that counts the images at which it is asked."""

    def __init__(self, original):
        self.preparation = original.preparation
        self.logits_at, self.gradients_at = 0, 0
        self._original = original

    def logits(self, images):
        self.logits_at += len(images)
        return self._original.logits(images)

    def gradient(self, images, label):
        self.gradients_at += len(images)
        return self._original.gradient(images, label)


def test_gradients_are_compared_once_for_a_network(network, images):
    counting = Counting(network.original)
    watched = replace(network, original=counting)
    first = check_fidelity(watched, images)
    assert counting.gradients_at
    counting.logits_at = counting.gradients_at = 0
    again = check_fidelity(watched, images[:2])
    assert (counting.logits_at, counting.gradients_at) == (2, 0), "logits at the images given, and no more"
    assert (again.gradient, again.gradient_by) == (first.gradient, first.gradient_by)
    check_fidelity(watched, images[:2], FidelityOptions(gradient=1e-3))
    assert counting.gradients_at, "by other measures it was not compared yet"


def test_a_network_made_of_a_compared_one_is_compared_anew(network, images):
    """Whatever was shown of a graph and an original says nothing of another one."""
    check_fidelity(network, images)
    index = next(i for i, node in enumerate(network.graph.nodes) if isinstance(node.layer, Dense))
    layer = network.graph.nodes[index].layer
    with pytest.raises(FidelityError):
        check_fidelity(with_layer(network, index, replace(layer, weight=1.5 * layer.weight)), images)
    counting = Counting(network.original)
    check_fidelity(replace(network, original=counting), images)
    assert counting.gradients_at


def test_a_network_that_failed_is_not_taken_for_compared(network, images):
    index = next(i for i, node in enumerate(network.graph.nodes) if isinstance(node.layer, Dense))
    layer = network.graph.nodes[index].layer
    wrong = with_layer(network, index, replace(layer, weight=1.5 * layer.weight))
    for _ in range(2):
        with pytest.raises(FidelityError):
            check_fidelity(wrong, images)


def test_logits_at_the_image_given_are_compared_every_time(network, images):
    """An import that is wrong only where no image was looked at before."""
    sane = network.original.logits
    crooked = Counting(network.original)
    watched = replace(network, original=crooked)
    check_fidelity(watched, images)
    crooked.logits = lambda asked: sane(asked) + (np.abs(asked - 0.25).max() < 1e-9)
    check_fidelity(watched, images)
    with pytest.raises(FidelityError, match="logits"):
        check_fidelity(watched, np.full((1, 1, 8, 8), 0.25))
