"""The proof that an imported network is the one that was handed in: same logits, same gradients.

The original runs in single precision, ours in double, so that logits agree up to rounding. Gradients are
compared with autograd where the original has it, away from kinks: within rounding of one, either side is
right. Where it has none, the change of its logits along a segment is compared with the integral of our
gradient over that segment, which holds across any number of kinks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from steadygaze.errors import FidelityError, ModelError
from steadygaze.network.graph import Graph
from steadygaze.network.layers import AbstractAffine
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.reading.load import Network
from steadygaze.network.reading.originals import AbstractOriginal
from steadygaze.network.reading.seeking import telling_images

# Relative change of pixels that single precision does not see.
_SHAKE = 1e-7
# Gradients are compared against at least this share of the largest.
_SMALL = 0.01

# Of terms that cancel single precision leaves less than this share, in sums of up to some thousand terms.
_SINGLE = 1e-6


@dataclass(frozen=True)
class FidelityOptions:
    """How much may differ, and how hard to look.

    rounding is the relative rounding of the original's arithmetic that a whole network may accumulate,
    against the sum of absolute terms in the last layer; kink is how close to one a unit may be, against the
    largest of its layer; sought is how many further images are compared, each of which shows a unit on a
    piece that none before it does, and seconds how long they are sought; steps is the number of points at
    which an integral is sampled, segments how many directions are tried.
    """

    rounding: float = 1e-4
    kink: float = 1e-5
    gradient: float = 1e-2
    steps: int = 128
    segments: int = 6
    reach: float = 0.05
    sought: int = 48
    seconds: float = 0.1


@dataclass(frozen=True)
class Fidelity:
    """What was found: largest differences, relative, and how gradients were compared."""

    logits: float
    gradient: float
    gradient_by: str


def check_fidelity(network: Network, images: np.ndarray, options: FidelityOptions | None = None) -> Fidelity:
    """Compare the imported network with the original at pixels ``(B, C, H, W)``.

    Raises FidelityError if logits or gradients differ by more than rounding explains.
    """
    options = options or FidelityOptions()
    graph = network.graph
    given = torch.from_numpy(np.ascontiguousarray(images, np.float64))
    sought = telling_images(graph, given, options.sought, options.seconds)
    x = torch.cat([given, sought])
    logits = _compare_logits(network, x, len(given), options)
    label = int(graph.forward(x[:1]).argmax())
    gradient, way = _gradients_apart(network, x, label, options)
    if way == "finite differences":
        gradient = max(gradient, _compare_integrals(network.original, graph, given, label, options))
    if not gradient <= options.gradient:
        raise FidelityError(
            f"the gradient of the imported network {network.path} differs from the original's by "
            f"{gradient:.2g} "
            f"of its size (by {way}), allowed is {options.gradient:.2g}; please report this network"
        )
    return Fidelity(logits, gradient, way)


def _gradients_apart(network: Network, x: Tensor, label: int, options: FidelityOptions) -> tuple[float, str]:
    """How far gradients are apart where they can be told, and by what they were compared.

    Where the original's own runtime has no gradients, those of its evaluator are compared, if it has any, and
    "finite differences" are left to do.
    """
    clear = torch.from_numpy(_away_from_kinks(network.graph, x, options.kink))
    x = x[clear]
    if not len(x):
        return 0.0, "finite differences"
    theirs, way = network.original.gradient(x.numpy(), label), "autograd"
    if theirs is None:
        way = "finite differences"
        try:
            theirs = network.original.gradients(x.numpy(), label)
        except ModelError:
            return 0.0, way
    return _compare_gradients(network.graph, x, theirs, label), way


def _compare_logits(network: Network, x: Tensor, given: int, options: FidelityOptions) -> float:
    """Largest difference of logits, relative; of images sought far out, only where they are numbers."""
    theirs = np.asarray(network.original.logits(x.numpy()), np.float64)
    ours = network.graph.forward(x).numpy()
    if theirs.shape != ours.shape:
        raise FidelityError(
            f"the imported network {network.path} has logits of shape {ours.shape} and the original "
            f"{theirs.shape}, "
            "allowed are equal shapes; please report this network"
        )
    apart = np.abs(ours - theirs).max(axis=1)
    # What a change of the image within its own rounding does is rounding, too.
    shaken = network.graph.forward(x * (1 + _SHAKE * torch.sign(x - x.mean()))).numpy()
    explained = np.abs(shaken - ours).max(axis=1)
    told = np.isfinite(theirs).all(axis=1) | (np.arange(len(x)) < given)
    difference = float(((apart - explained) / _scales(network.graph, x))[told].max())
    if not difference <= options.rounding:
        raise FidelityError(
            f"the logits of the imported network {network.path} differ from the original's by "
            f"{difference:.2g} "
            f"of their size, allowed is {options.rounding:.2g}; please report this network"
        )
    return max(difference, 0.0)


def _scale(graph: Graph, x: Tensor) -> float:
    """Size of what is summed up in the last affine layer: what rounding is relative to."""
    return float(_scales(graph, x).max())


def _scales(graph: Graph, x: Tensor) -> np.ndarray:
    """The same for each image, ``(B,)``."""
    last = graph.nodes[-1]
    value = graph.forward(x)
    if isinstance(last.layer, AbstractAffine):
        inputs = graph.values_at(x, last.inputs)
        value = last.layer.magnitude(*(inputs[source] for source in last.inputs))
    return value.abs().amax(dim=1).clamp_min(np.finfo(np.float64).tiny).numpy()


def _away_from_kinks(graph: Graph, x: Tensor, closeness: float) -> np.ndarray:
    """Which images ``(B,)`` have no unit so close to a kink that rounding could move it across.

    A unit exactly on its kink stays there in the original if it sums zeros; terms that cancel leave noise
    there (see `_noise`). Which slope counts on a kink the two agree on for rectifiers; at the ends of a clip
    runtimes differ, so that those are no place to compare.
    """
    noise = _noise(graph, x)
    sources = {graph.nodes[index].inputs[0] for index in graph.piecewise}
    values = graph.values_at(x, sources)
    clear = torch.ones(len(x), dtype=torch.bool)
    for index in graph.piecewise:
        node = graph.nodes[index]
        value = values[node.inputs[0]].flatten(1)
        near = closeness * value.abs().amax(dim=1, keepdim=True)
        clipped = isinstance(node.layer, PiecewiseLinear) and len(node.layer.breakpoints) > 1
        if isinstance(node.layer, PiecewiseLinear):
            gaps = [(value - edge).abs() for edge in node.layer.breakpoints]
        else:
            gaps = _leads(node.layer, value) if isinstance(node.layer, MaxPool) else []
        for gap in gaps:
            clear &= ~(((gap > 0) | clipped) & (gap < near)).any(1)
        own = noise[node.inputs[0]].flatten(1)
        clear &= ~_picked_by_noise(node.layer, gaps, own).any(1)
    return clear.numpy()


def _picked_by_noise(layer: PiecewiseLinear | MaxPool, gaps: list[Tensor], noise: Tensor) -> Tensor:
    """Which units, or windows, ``(B, N)``, the noise ``(B, inputs)`` may put on either piece."""
    if isinstance(layer, PiecewiseLinear):
        return torch.stack([(gap <= noise) & (noise > 0) for gap in gaps]).any(dim=0)
    own = noise[:, layer.windows.clamp_min(0)].masked_fill(layer.windows < 0, 0.0).amax(dim=2)
    near = torch.stack([gap <= own for gap in gaps]).sum(dim=0)  # the winner is one of these
    return (near > 1) & (own > 0)


def _noise(graph: Graph, x: Tensor) -> dict[int, Tensor]:
    """What single precision may leave of terms that cancel, ``(B, *shape)`` of each node; 0 where all are 0.

    A share of the sum of absolute terms, times the slope of each unit on a piece that it may be on: nothing
    passes a rectifier that is off.
    """
    values = graph.values_at(x, range(len(graph.nodes)))
    noise = {0: _SINGLE * x.abs()}
    for index, node in enumerate(graph.nodes[1:], start=1):
        before = [noise[source] for source in node.inputs]
        if isinstance(node.layer, AbstractAffine):
            constant = node.layer.absolute.forward(*(torch.zeros_like(own) for own in before))
            noise[index] = node.layer.absolute.linear(*before) + _SINGLE * constant
        elif isinstance(node.layer, PiecewiseLinear):
            flat, own = values[node.inputs[0]].flatten(1), before[0].flatten(1)
            ends = [node.layer.slopes_of(node.layer.pieces_of(end)) for end in (flat - own, flat + own)]
            steepest = torch.stack(ends).abs().amax(dim=0)
            noise[index] = (steepest * own).reshape(values[index].shape)
        elif isinstance(node.layer, MaxPool):
            noise[index] = node.layer.forward(before[0])
        else:
            noise[index] = before[0] + _SINGLE * values[index].abs()
    return noise


def _leads(layer: MaxPool, flat: Tensor) -> list[Tensor]:
    """By how much each position of a window loses to the winner."""
    best = layer.forward(flat.reshape(len(flat), *layer.shape)).flatten(1)
    columns = layer.windows.T
    return [torch.where(column < 0, torch.inf, best - flat[:, column.clamp_min(0)]) for column in columns]


def _compare_gradients(graph: Graph, x: Tensor, theirs: np.ndarray, label: int) -> float:
    """Largest difference, against the largest entry of the gradient there, or of a small share of any."""
    ours = graph.gradient_at(x, label).numpy()
    told = np.isfinite(theirs).all(axis=(1, 2, 3))
    if not told.any():
        return 0.0
    size = np.abs(theirs[told]).max(axis=(1, 2, 3))
    size = np.maximum(size, max(_SMALL * size.max(), np.finfo(np.float64).tiny))
    return float((np.abs(ours[told] - theirs[told]).max(axis=(1, 2, 3)) / size).max())


def _compare_integrals(
    original: AbstractOriginal, graph: Graph, x: Tensor, label: int, options: FidelityOptions
) -> float:
    """Largest unexplained change of the original's logit along segments, against the change expected.

    What is explained beside our gradient: rounding of the logits, and kinks between the points of the
    integral.
    """
    starts, ends = _segments(x, options)
    noise = options.rounding * _scale(graph, torch.cat([starts, ends]))
    worst = 0.0
    for start, end in zip(starts, ends, strict=True):
        middle = (torch.arange(options.steps, dtype=torch.float64) + 0.5) / options.steps
        points = start + middle[:, None, None, None] * (end - start)
        slopes = (graph.gradient_at(points, label) * (end - start)).flatten(1).sum(1)
        logits = original.logits(torch.stack([start, end]).numpy())[:, label].astype(np.float64)
        explained = noise / 10 + float(slopes.diff().abs().sum()) / options.steps
        missing = abs(float(logits[1] - logits[0]) - float(slopes.mean())) - explained
        worst = max(worst, missing / max(float(slopes.abs().max()), np.finfo(np.float64).tiny))
    return worst


def _segments(x: Tensor, options: FidelityOptions) -> tuple[Tensor, Tensor]:
    """Segments that start at the images: half along random signs, half along random smooth shades."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(options.segments) % len(x)
    starts = x[rows]
    signs = torch.rand(starts.shape, generator=generator, dtype=torch.float64).sub(0.5).sign()
    coarse = torch.rand((*starts.shape[:2], 3, 3), generator=generator, dtype=torch.float64) - 0.5
    shades = torch.nn.functional.interpolate(coarse, starts.shape[2:], mode="bilinear")
    even = (torch.arange(options.segments) % 2 == 0)[:, None, None, None]
    return starts, starts + options.reach * torch.where(even, signs, 4 * shades)
