"""Public networks on public images: the import agrees with onnxruntime, and layouts are right."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import torch

from steadygaze.errors import ModelError
from steadygaze.network.reading.fidelity import check_fidelity
from steadygaze.network.reading.load import load_network

KW = {"mean": (0.485, 0.456, 0.406), "std": (0.225, 0.225, 0.225)}
RESNET = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2471, 0.2435, 0.2616)}

# name: (data set, options, units, max-pool windows, measured accuracy)
NETWORKS = {
    "mnist-net_256x2": ("mnist", {"layout": "flat"}, 512, 0, 0.981),
    "mnist-net_256x4": ("mnist", {"layout": "flat"}, 1024, 0, 0.976),
    "mnist-net_256x6": ("mnist", {"layout": "flat"}, 1536, 0, 0.969),
    "mnist-10x2": ("mnist", {"layout": "hwc"}, 20, 0, 0.941),
    "marabou_mnist5x20_leaky_relu": ("mnist", {}, 120, 0, 0.945),
    "convSmallRELU__Point": ("mnist", {}, 3604, 0, 0.983),
    "Convnet_maxpool": ("mnist", {}, 23328, 1152, 0.979),
    "cifar_base_kw": ("cifar10", KW, 3172, 0, 0.58),
    "cifar10_small": ("cifar10", {"layout": "hwc"}, 2568, 0, 0.64),
    "resnet_2b": ("cifar10", RESNET, 6244, 0, 0.74),
    "ffnnSIGMOID__Point_6x200": ("mnist", {}, 1200, 0, 0.977),
}


def idx(path):
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8)


@pytest.fixture(scope="module")
def images(shared):
    folder = shared / "data"
    digits = idx(folder / "mnist" / "t10k-images-idx3-ubyte.gz")[16:].reshape(-1, 1, 28, 28)
    labels = idx(folder / "mnist" / "t10k-labels-idx1-ubyte.gz")[8:]
    cifar = np.load(folder / "cifar10" / "cifar10_test_exact.npz")
    return {
        "mnist": (digits[:300] / 255.0, labels[:300]),
        "cifar10": (cifar["images"][:200].transpose(0, 3, 1, 2) / 255.0, cifar["labels"][:200]),
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_network_agrees_with_onnxruntime_and_with_the_labels(name, shared, images):
    data, options, units, windows, accuracy = NETWORKS[name]
    pixels, labels = images[data]
    path = shared / "models" / f"{name}.onnx"
    network = load_network(path, input_shape=pixels.shape[1:], **options)
    assert (network.graph.units, network.graph.windows) == (units, windows)
    ours = network.graph.forward(torch.from_numpy(pixels)).numpy()
    theirs = network.original.logits(pixels)
    assert np.abs(ours - theirs).max() <= 3e-6 * np.abs(theirs).max()
    assert abs((ours.argmax(1) == labels).mean() - accuracy) < 0.03
    found = check_fidelity(network, pixels[:17])
    assert found.gradient_by == "finite differences"


@pytest.mark.parametrize("name", ["mnist-10x2", "marabou_mnist5x20_leaky_relu", "resnet_2b"])
def test_gradient_equals_finite_differences_in_single_pixels(name, shared, images):
    """Central differences of onnxruntime, where no unit changes its piece between the two points."""
    data, options, *_ = NETWORKS[name]
    pixels = images[data][0][:6]
    network = load_network(shared / "models" / f"{name}.onnx", input_shape=pixels.shape[1:], **options)
    graph, step = network.graph, 2e-3
    rng = np.random.default_rng(0)
    compared = 0
    for image in pixels:
        x = torch.from_numpy(image[None])
        label = int(graph.forward(x).argmax())
        gradient = graph.gradient_at(x, label)[0].numpy()
        for place in rng.permutation(image.size)[:40]:
            place = np.unravel_index(place, image.shape)
            ends = np.stack([image, image])
            ends[:, *place] += (-step, step)
            pieces = graph.pieces_at(torch.from_numpy(ends))
            if any(not torch.equal(p[0], p[1]) for p in pieces.values()):
                continue
            logits = network.original.logits(ends)[:, label].astype(np.float64)
            difference = (logits[1] - logits[0]) / (2 * step)
            tolerance = 1e-6 * np.abs(logits).max() / step + 1e-4 * abs(gradient[place])
            assert abs(difference - gradient[place]) <= tolerance
            compared += 1
    assert compared > 40


def test_the_gradient_of_a_network_of_sigmoids_equals_finite_differences(shared, images):
    """Of onnxruntime along the gradient itself, extrapolated: single pixels drown in its rounding."""
    pixels, path = images["mnist"][0][:12], shared / "models" / "ffnnSIGMOID__Point_6x200.onnx"
    network = load_network(path, input_shape=(1, 28, 28))
    for image in pixels:
        x = torch.from_numpy(image[None])
        label = int(network.graph.forward(x).argmax())
        gradient = network.graph.gradient_at(x, label)[0].numpy()
        direction = gradient / np.abs(gradient).max()
        changes = []
        for step in (4e-3, 2e-3):
            ends = np.stack([image - step * direction, image + step * direction])
            logits = network.original.logits(ends)[:, label].astype(np.float64)
            changes.append((logits[1] - logits[0]) / (2 * step))
        assert (4 * changes[1] - changes[0]) / 3 == pytest.approx((gradient * direction).sum(), rel=1e-2)


def test_the_wrong_layout_of_a_real_network_says_which_is_right(shared):
    with pytest.raises(ModelError, match="use layout flat"):
        load_network(shared / "models" / "mnist-net_256x2.onnx", input_shape=(1, 28, 28), layout="chw")
