"""Bounds of public networks on public images against plain evaluation at samples, and against intervals."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import torch

from intervals import interval_gradient
from steadygaze.enclosing.angles import cosine_bounds
from steadygaze.enclosing.forms import Forms
from steadygaze.network.reading.load import load_network
from steadygaze.network.saliencies import by_name
from steadygaze.perturbation import Brightness, Chain, Rotate
from steadygaze.question.inconsistency import Cosine
from steadygaze.question.posing import pose

KW = {"mean": (0.485, 0.456, 0.406), "std": (0.225, 0.225, 0.225)}
RESNET = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2471, 0.2435, 0.2616)}
# name: (data set, options)
NETWORKS = {
    "mnist-net_256x2": ("mnist", {"layout": "flat"}),
    "marabou_mnist5x20_leaky_relu": ("mnist", {}),
    "ffnnSIGMOID__Point_6x200": ("mnist", {}),
    "convSmallRELU__Point": ("mnist", {}),
    "cifar_base_kw": ("cifar10", KW),
    "Convnet_maxpool": ("mnist", {}),
    "resnet_2b": ("cifar10", RESNET),
}
TURNED = Chain(Rotate(-5, 5), Brightness(-0.1, 0.1))
# Shares of the whole box: from one that holds many pieces to one in which hardly a unit changes its.
WIDTHS = (0.1, 0.03, 0.01, 0.001)


@pytest.fixture(scope="module")
def images(shared):
    folder = shared / "data"
    digits = np.frombuffer(
        gzip.decompress((folder / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8
    )
    cifar = np.load(folder / "cifar10" / "cifar10_test_exact.npz")["images"]
    return {
        "mnist": digits[16 : 16 + 784].reshape(1, 28, 28) / 255.0,
        "cifar10": cifar[200].transpose(2, 0, 1) / 255.0,
    }


def posed(name, shared, images, saliency="gradient"):
    data, options = NETWORKS[name]
    image = images[data]
    network = load_network(shared / "models" / f"{name}.onnx", input_shape=image.shape, **options)
    return pose(
        network,
        image,
        TURNED,
        label=None,
        saliency=by_name(saliency),
        inconsistency=Cosine(),
        threshold=0.3,
        clip=(0.0, 1.0),
    )


def boxes_of(problem):
    """One of each width, around a random point."""
    rng, box = np.random.default_rng(2), problem.box
    span = np.array(WIDTHS)[:, None] * np.ptp(box, axis=1)
    low = box[:, 0] + rng.random(span.shape) * (np.ptp(box, axis=1) - span)
    return np.stack([low, low + span], axis=2)


@pytest.mark.parametrize("name", NETWORKS)
def test_bounds_hold_at_samples(name, shared, images):
    """Gaps in onnxruntime, up to its own rounding; maps and their inconsistency in float64."""
    problem = posed(name, shared, images)
    boxes = boxes_of(problem)
    known = problem.bounds(boxes, 32)
    low, high = (bound.amin(dim=1).numpy() for bound in known.gaps(problem.label))
    least, most = problem.enclosed_inconsistency(boxes, known)
    maps = problem.saliency.enclosed(known, problem.label, problem.pixels)
    bottom, top = (bound.numpy() for bound in maps.bounds())
    assert most[-1] - least[-1] < 1.5, "the smallest box says something"
    rounding = problem.rounding_of_original()
    for row, box in enumerate(boxes):
        share = np.random.default_rng(row).random((12, 2))
        share[:4] = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]) * (1 - 2e-6) + 1e-6
        thetas = box[:, 0] + share * np.ptp(box, axis=1)
        points, original = problem.at(thetas), problem.replay(thetas)
        assert (low[row] <= original.gap + rounding).all()
        assert (original.gap <= high[row] + rounding).all()
        assert (low[row] <= points.gap + 1e-9).all()
        assert (points.gap <= high[row] + 1e-9).all()
        assert (least[row] <= points.inconsistency + 1e-9).all()
        assert (points.inconsistency <= most[row] + 1e-9).all()
        plain = problem.maps_at(problem.images(thetas)).numpy()
        slack = 1e-11 * np.abs(plain).max()
        assert (bottom[row] <= plain + slack).all()
        assert (plain <= top[row] + slack).all()


def widths(name, shared, images):
    """Widths of the cosine by plain intervals and by forms, for boxes of each width."""
    problem = posed(name, shared, images)
    known = problem.bounds(boxes_of(problem), 32)
    seed = torch.zeros((len(WIDTHS), problem.graph.classes), dtype=torch.float64)
    seed[:, problem.label] = 1.0
    forms = known.pull_back(Forms.exact(seed, 2), problem.pixels).flattened()
    low, high = interval_gradient(known, seed, problem.pixels)
    plain = Forms(((low + high) / 2)[:, None], (high - low) / 2, 2)
    target = Forms.exact(problem.map0.flatten().expand(len(WIDTHS), -1), 2)
    cosines = [cosine_bounds(own, target) for own in (plain, forms)]
    entries = (high - low).sum(dim=1) / (forms.bounds()[1] - forms.bounds()[0]).sum(dim=1)
    return [(high - low).numpy() for low, high in cosines], entries.numpy(), known.doubts.numpy()


@pytest.mark.parametrize("name", NETWORKS)
def test_angles_are_tighter_than_by_plain_intervals(name, shared, images):
    (plain, forms), _, _ = widths(name, shared, images)
    assert (forms <= 1.001 * plain + 1e-9).all()
    if name not in ("marabou_mnist5x20_leaky_relu", "resnet_2b"):
        # Of these two no box has doubts enough for a difference, or all of them far too many.
        # Boxes on which forms know nothing say nothing.
        some = forms < 2
        assert forms[some].sum() < 0.8 * plain[some].sum()
