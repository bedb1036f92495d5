"""Posing a problem: everything that is asked is checked here, once, before any work begins."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from steadygaze.deadline import NEVER, Deadline, Expired
from steadygaze.errors import ImageError, ModelError, PerturbationError, SettingError
from steadygaze.network.graph import Graph, Node
from steadygaze.network.layers import Input
from steadygaze.network.pieces import PiecewiseLinear
from steadygaze.network.reading.fidelity import check_fidelity
from steadygaze.network.reading.load import Network
from steadygaze.network.saliency import AbstractSaliency
from steadygaze.perturbation.chain import Chain
from steadygaze.question.inconsistency import AbstractInconsistency
from steadygaze.question.limits import is_number
from steadygaze.question.problem import Problem
from steadygaze.tolerance import Tolerance

# How far, as a share of its largest entry, rounding may take the expected map from the original at theta = 0.
_UNMOVED = 1e-9
# Entries of maps are compared by their squares, and these by their ratio.
_LARGEST = 1e100
# A box is known by its corners, of which n parameters have 2^n; a search takes many times their memory.
_MOST_PARAMETERS = 16
# By so many powers of ten the volume of a box may differ from 1: of the smallest boxes in it, of ten
# parameters, double precision holds the volumes, too.
_VOLUME = 150


def pose(
    network: Network,
    image: np.ndarray,
    perturbation: Chain,
    *,
    label: int | None,
    saliency: AbstractSaliency,
    inconsistency: AbstractInconsistency,
    threshold: float,
    clip: tuple[float, float] | None,
    tolerance: Tolerance | None = None,
    deadline: Deadline = NEVER,
    late: Deadline = NEVER,
) -> Problem:
    """Check everything that is asked, and the import itself, and put it together.

    Towards the deadline the import is compared at fewer points, but never at none; late is when no problem
    is wanted any more.

    Raises:
        ImageError: the image does not fit the network, or leaves the clip's range.
        PerturbationError: the perturbation does not fit the image, or moves the expected map at theta = 0.
        SettingError: threshold or label out of range, label not predicted, a saliency map that is all zero,
            or one that is not there when its deadline passes.
        FidelityError: the imported network and the original disagree.
        Expired: it is late, and not all is checked.
    """
    _check_settings(threshold, clip, inconsistency)
    _check_image(image, network.graph, clip)
    perturbation.check(image.shape)
    _check_box(perturbation)
    graph, pixels = _clipped(network.graph, clip)
    problem = Problem(
        network=network,
        graph=graph,
        pixels=pixels,
        perturbation=perturbation,
        image=image,
        label=0,
        clip=clip,
        saliency=saliency.settled(network.graph, image),
        inconsistency=inconsistency,
        threshold=float(threshold),
        tolerance=tolerance or Tolerance(),
    )
    thetas = np.concatenate([np.zeros((1, len(problem.box))), problem.probes])
    images, asked = problem.images(thetas).numpy(), problem.values_at_probes
    problem.evaluate(late)
    fidelity = check_fidelity(
        network, images, values_at=lambda count: asked(count - 1), deadline=deadline, late=late
    )
    problem = problem.of_label(_label(label, fidelity.predicted, network.graph.classes))
    if (facing := network.facing(problem.label)) is not network:
        graph, pixels = _clipped(facing.graph, clip)
        settled = saliency.settled(facing.graph, image)
        problem = replace(problem, network=facing, graph=graph, pixels=pixels, saliency=settled)
    late.ask()
    _ = problem.by_network  # all that is learnt
    late.ask()
    try:
        _check_unmoved(problem)
        nothing = problem.follows_nothing
    except Expired:
        raise SettingError(
            f"the {saliency.name} map of the image alone takes longer than the time limit leaves for it: the "
            f"path from the baseline goes through a network of {problem.graph.units:,} units, with a "
            "gradient wherever one of them changes its piece; give a longer limit or none, or choose "
            "gradient-x-input or the claim class"
        ) from None
    _check_size(problem)
    if nothing:
        raise SettingError(
            f"the {saliency.name} map of the image is zero wherever it is compared, up to rounding, so that "
            "there is no attention to follow: is the output saturated, or all of the image under the patch? "
            "choose another image or saliency"
        )
    _check_told(problem)
    return problem


def _check_settings(
    threshold: float, clip: tuple[float, float] | None, inconsistency: AbstractInconsistency
) -> None:
    if not (is_number(threshold) and math.isfinite(threshold) and threshold >= 0):
        raise SettingError(f"the threshold is {threshold!r}; it must be a number of at least 0, such as 0.3")
    if threshold > inconsistency.maximum:
        raise SettingError(
            f"the threshold is {threshold}, but {inconsistency.name} never exceeds {inconsistency.maximum}; "
            "give a smaller one"
        )
    if clip is None:
        return
    pair = isinstance(clip, Sequence) and len(clip) == 2 and all(is_number(bound) for bound in clip)
    if not (pair and all(map(math.isfinite, clip)) and clip[0] < clip[1]):
        shown = f"{clip[0]},{clip[1]}" if pair else repr(clip)
        raise SettingError(f"the clip is {shown}; it must be two numbers, the smaller first, or none")


def _check_image(image: np.ndarray, graph: Graph, clip: tuple[float, float] | None) -> None:
    if tuple(image.shape) != tuple(graph.input_shape):
        raise ImageError(
            f"the image has shape {tuple(image.shape)}, but the network takes {tuple(graph.input_shape)} "
            "(channels, height, width); hand in an image of that shape or set the layout"
        )
    low, high = float(image.min()), float(image.max())
    bounds = clip or (0.0, 1.0)
    if not (bounds[0] <= low and high <= bounds[1]):
        raise ImageError(
            f"the image has values from {low:g} to {high:g}; they must lie within {bounds[0]:g} and "
            f"{bounds[1]:g}; scale the pixels to [0, 1]"
        )


def _check_box(perturbation: Chain) -> None:
    """Corners must be few enough to be held, and shares of boxes halved often be quotients of volumes."""
    parameters = len(perturbation.box)
    if parameters > _MOST_PARAMETERS:
        raise PerturbationError(
            f"the chain has {parameters} parameters, allowed are up to {_MOST_PARAMETERS}, as a box of n has "
            "2^n corners; fix some of them as constants, or ask for some at a time"
        )
    size = float(np.log10(np.ptp(perturbation.box, axis=1)).sum())
    if abs(size) > _VOLUME:
        raise PerturbationError(
            f"the box of all ranges has a volume of about 1e{size:+.0f}, which cannot be computed with; it "
            f"must be at least 1e-{_VOLUME} and at most 1e+{_VOLUME}: give other units, or fewer parameters"
        )


def _label(label: int | None, predicted: int, classes: int) -> int:
    if label is None:
        return predicted
    label = _whole(label)
    if not 0 <= label < classes:
        raise SettingError(f"the label is {label}; the network has classes 0 to {classes - 1}")
    if label != predicted:
        raise SettingError(
            f"the label is {label}, but the network predicts {predicted} for the unperturbed image, so that "
            "nothing is robust; choose another image, or leave the label out to verify the predicted class"
        )
    return label


def _check_size(problem: Problem) -> None:
    """Raise SettingError where squares of the map's entries, or products of them, leave double precision."""
    if problem.class_alone or not problem.target.numel():
        return
    largest = float(problem.target.abs().max())
    if largest and not 1 / _LARGEST <= largest <= _LARGEST:
        raise SettingError(
            f"the largest entry of the {problem.saliency.name} map of the image is {largest:.3g}, which "
            f"leaves nothing to compare in double precision; it must lie between {1 / _LARGEST:g} and "
            f"{_LARGEST:g}: scale the weights of the network"
        )


def _check_told(problem: Problem) -> None:
    """Raise SettingError where what is expected hangs by rounding: entries that tie, or nearly so."""
    if problem.class_alone:
        return
    if math.isinf(problem.expected_slack) or bool(problem.inconsistency.doubtful(problem.target[None]).any()):
        raise SettingError(
            f"the inconsistency is {problem.inconsistency.name}, and rounding alone tells the k-th largest "
            f"entry of the {problem.saliency.name} map of the image from the next one, and no answer could "
            "rest on it; choose a smaller or a larger k"
        )


def _check_unmoved(problem: Problem) -> None:
    """At theta = 0 nothing has changed: a perturbation of one's own may see it otherwise."""
    if not bool(problem.map0.isfinite().all()):
        raise ModelError(
            f"the {problem.saliency.name} map of the unperturbed image is not finite, allowed are networks "
            "that have a gradient there; add a small number to what is divided by, or clamp it"
        )
    expected, original = problem.expected_at(np.zeros((1, len(problem.box))))[0], problem.map0
    off = float((expected - original).abs().max()) if expected.shape == original.shape else math.inf
    if not off <= _UNMOVED * float(original.abs().max()):
        raise PerturbationError(
            f"the expected map of {problem.perturbation!r} at theta = 0 is off by {off:.3g} from the map of "
            "the unperturbed image, to which constant amounts are applied already; it must be the same: let "
            "expect() move maps by what varies alone"
        )


def _whole(label: Any) -> int:
    """A whole number of any library: of Python, NumPy, or a tensor of one."""
    try:
        if isinstance(label, bool):
            raise TypeError("a truth value")
        return operator.index(label)
    except TypeError:
        raise SettingError(
            f"the label is {label!r}, a {type(label).__name__}; it must be a whole number, such as 3"
        ) from None


def _clipped(graph: Graph, clip: tuple[float, float] | None) -> tuple[Graph, int]:
    """The graph with the clip in front, and the index of the node that holds the clipped pixels."""
    if clip is None:
        return graph, 0
    low, high = (torch.tensor(float(bound), dtype=torch.float64, device=graph.device) for bound in clip)
    zero, one = torch.zeros_like(low), torch.ones_like(low)
    layer = PiecewiseLinear(
        torch.stack([low, high]),
        torch.stack([zero, one, zero])[:, None],
        torch.stack([low, zero, high])[:, None],
    )
    shape = graph.input_shape
    front = (Node(Input(shape), (), shape, "image"), Node(layer, (0,), shape, "clip"))
    rest = (replace(node, inputs=tuple(source + 1 for source in node.inputs)) for node in graph.nodes[1:])
    return Graph((*front, *rest)), 1
