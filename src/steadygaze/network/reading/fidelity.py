"""The proof that an imported network is the one that was handed in: same logits, same gradients.

The original runs in single precision, ours in double, so that logits agree up to rounding. Gradients are
compared with autograd where the original has it, away from kinks: within rounding of one, either side is
right. Where all images are near to some, the original in double precision tells. Where there is neither, the
change of its logits along a segment is compared with the integral of our gradient over that segment, which
holds across any number of kinks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from steadygaze.deadline import NEVER, Deadline
from steadygaze.errors import FidelityError, ModelError
from steadygaze.network.graph import Graph, Node
from steadygaze.network.layers import AbstractAffine, AbstractLayer, Dense
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.reading.load import Network
from steadygaze.network.reading.noise import gaps_of, noise_at, picked_by_noise
from steadygaze.network.reading.originals import AbstractOriginal
from steadygaze.network.reading.seeking import telling_images
from steadygaze.network.reading.slopes import Slopes, apart_in_double, gradients_apart

# Relative change of pixels that single precision does not see.
_SHAKE = 1e-7
# Segments go along signs and along shades in turn: one of each is always compared.
_KINDS_OF_SEGMENTS = 2
# A last layer of fewer inputs than that only says in another way what was summed up before it.
_FEWEST = 3
# An integral is sampled at this many points at least.
_LEAST_STEPS = 8
# Of the time that is left comparing integrals may take this share.
_SHARE_OF_INTEGRALS = 0.2
# Of the largest networks the unperturbed image and one more are compared: all of them lie close together.
_FEWEST_IMAGES = 2
# Of logits below this, on the way to which still smaller ones are multiplied, single precision may leave 0.
_DROWNED = 1e-30


@dataclass(frozen=True)
class FidelityOptions:
    """How much may differ, and how hard to look.

    rounding is the relative rounding of the original's arithmetic that a whole network may accumulate,
    against the sum of absolute terms in the last layer; kink is how close to one a unit may be, against the
    largest of its layer; sought is how many further images are compared, each of which shows a unit on a
    piece that none before it does, and seconds how long they are sought; steps is the number of points at
    which an integral is sampled, segments how many directions are tried, those after the first of either kind
    as long as `integrating` seconds last. effort bounds how many images are compared, and points sampled: so
    many products (see `Graph.effort`) in one pass over all of them; but `least` images are in any case, or
    two where one takes as many as `long`.
    """

    rounding: float = 1e-4
    kink: float = 1e-5
    gradient: float = 1e-2
    steps: int = 128
    segments: int = 6
    reach: float = 0.05
    sought: int = 48
    seconds: float = 0.1
    integrating: float = 0.5
    effort: int = 2 * 10**9
    least: int = 3
    long: int = 10**9


@dataclass(frozen=True)
class Fidelity:
    """What was found: largest differences, relative, and how gradients were compared.

    predicted is the class that the imported network gives the first of the images.
    """

    logits: float
    gradient: float
    gradient_by: str
    predicted: int


def check_fidelity(
    network: Network,
    images: np.ndarray,
    options: FidelityOptions | None = None,
    values_at: Callable[[int], Mapping[int, Tensor] | None] | None = None,
    deadline: Deadline = NEVER,
    late: Deadline = NEVER,
) -> Fidelity:
    """Compare the imported network with the original at pixels ``(B, C, H, W)``.

    Gradients, and logits at further images that show its units on all pieces, are compared once for a
    network; logits at the images given, always.

    values_at gives values of the network's nodes at so many of the images, the first, if they are at hand.
    Where gradients take long to compare, fewer are compared towards the deadline, but never none. late is
    when even that takes too long.

    Raises FidelityError if logits or gradients differ by more than rounding explains, Expired where it is
    late before all is compared.
    """
    options = options or FidelityOptions()
    known = network.proven.get(options)
    on_processor = network.graph.device.type == "cpu"
    own = network if on_processor else replace(network, graph=network.graph.to("cpu"))
    at_hand = values_at if values_at is not None and on_processor else _nothing_at_hand
    if isinstance(known, Fidelity):
        # What is left to ask is whether the two agree at these images.
        given = _affordable(images, own, options)
        values = at_hand(len(given))
        if values is None:
            read = {own.graph.last, *_summing(own.graph)[0].inputs}
            values = own.graph.values_at(given, read, skip_idle=True)
        apart = _compare_logits(own, given, values, len(given), options)
        predicted = int(values[own.graph.last][0].argmax())
        return replace(known, logits=max(known.logits, apart), predicted=predicted)
    found = _compared(own, images, options, at_hand, deadline, late)
    network.proven[options] = found
    return found


def _nothing_at_hand(count: int) -> None:
    del count


def _compared(
    network: Network,
    images: np.ndarray,
    options: FidelityOptions,
    at_hand: Callable[[int], Mapping[int, Tensor] | None],
    deadline: Deadline,
    late: Deadline,
) -> Fidelity:
    """All that is compared of a network that was not compared before: at the images, and at others sought."""
    graph = network.graph
    most = _most(graph, options)
    given = _affordable(images, network, options)
    sought = given[:0]
    if most > len(given):
        sought = telling_images(graph, given, min(options.sought, most - len(given)), options.seconds)
    x, values = torch.cat([given, sought]), None if len(sought) else at_hand(len(given))
    if values is None:
        values = graph.values_at(x, range(len(graph.nodes)), deadline=late)
    late.ask()
    logits = _compare_logits(network, x, values, len(given), options)
    late.ask()
    # Of two classes made of one logit the first has no gradient.
    predicted = int(values[graph.last][0].argmax())
    label = 1 if network.single else predicted
    clear = torch.from_numpy(_away_from_kinks(graph, x, values, options.kink))
    some = _told_by_gradients(clear, graph, options)
    pieces = {index: own[some] for index, own in graph.pieces_of(values).items()}
    del values  # of a large network they take much room
    late.ask()
    # As many in double precision, too, as the effort allows.
    in_double = int(np.clip(options.effort // (2 * graph.effort), 1, len(some)))
    shown = Slopes(x[some], pieces, graph, label)
    gradient, way = gradients_apart(network.original, shown, bool(clear.any()), options.gradient)
    late.ask()
    if np.isnan(gradient):
        raise ModelError(
            f"the gradient of the network {network.path} is not finite at the images at hand, allowed are "
            "finite ones; where it divides by 0, add a small number to the divisor, or clamp it"
        )
    if way == "autograd" and not gradient <= options.gradient:
        if apart_in_double(network.original, shown, in_double) <= options.gradient:
            raise ModelError(
                f"the gradient of {network.path} in its own precision is off by {gradient:.2g} of its "
                "size from what its weights give in double precision, allowed is "
                f"{options.gradient:.2g}; its terms cancel, or its units are saturated (are pixels "
                "scaled as in training?): hand in module.double()"
            )
        if _compare_integrals(network.original, graph, given, label, options, deadline) <= options.gradient:
            raise ModelError(
                f"PyTorch's gradient of {network.path} is not the slope of its logits: it is off by "
                f"{gradient:.2g} of its size, where that of the imported network explains how they change; "
                "allowed are networks of which it is; export it with an open batch axis (a single image's is "
                "wrong where tokens are made of what a batch normalisation makes), or take out a backward "
                "pass of its own"
            )
    if way == "finite differences":
        double = apart_in_double(network.original, shown, in_double)
        if double <= options.gradient:
            gradient, way = max(gradient, double), "autograd in double precision"
        else:
            late.ask()
            apart = _compare_integrals(network.original, graph, given, label, options, deadline)
            gradient = max(gradient, apart)
    if not gradient <= options.gradient:
        raise FidelityError(
            f"the gradient of the imported network {network.path} differs from the original's by "
            f"{gradient:.2g} "
            f"of its size (by {way}), allowed is {options.gradient:.2g}; please report this network"
        )
    return Fidelity(logits, gradient, way, predicted)


def _most(graph: Graph, options: FidelityOptions) -> int:
    least = options.least if graph.effort < options.long else min(options.least, _FEWEST_IMAGES)
    return max(least, options.effort // graph.effort)


def _affordable(images: np.ndarray, network: Network, options: FidelityOptions) -> Tensor:
    """The first of the images, as many as the effort allows."""
    return torch.from_numpy(np.ascontiguousarray(images[: _most(network.graph, options)], np.float64))


def _told_by_gradients(clear: Tensor, graph: Graph, options: FidelityOptions) -> Tensor:
    """The images at which gradients are compared, of those that are clear ``(B,)`` of kinks, or else of all.

    Of a network whose images take long one is enough: its gradient reads all that the image lets through.
    """
    rows = clear.nonzero()[:, 0] if clear.any() else torch.arange(len(clear))
    return rows if graph.effort < options.long else rows[:1]


def _compare_logits(
    network: Network, x: Tensor, values: Mapping[int, Tensor], given: int, options: FidelityOptions
) -> float:
    """Largest difference of logits, relative; of images sought far out, only where both are numbers.

    values: at least of the logits, and of what is summed up for them.
    """
    theirs = np.asarray(network.original.logits(x.numpy()), np.float64)
    ours = values[network.graph.last].numpy()
    if theirs.shape != ours.shape:
        raise FidelityError(
            f"the imported network {network.path} has logits of shape {ours.shape} and the original "
            f"{theirs.shape}, "
            "allowed are equal shapes; please report this network"
        )
    if not (np.isfinite(theirs[:given]).all() and np.isfinite(ours[:given]).all()):
        raise ModelError(
            f"the logits of the network {network.path} are not finite for the images at hand, allowed are "
            "finite ones; where it divides by 0, add a small number to the divisor, or clamp it"
        )
    told = np.isfinite(theirs).all(axis=1) & np.isfinite(ours).all(axis=1)
    apart = np.abs(ours[told] - theirs[told]).max(axis=1)
    sizes = _scales(network.graph, values)[told]
    difference = float((apart / sizes).max())
    if not difference <= options.rounding:
        # What a change of the image within its own rounding does is rounding, too.
        shares = (apart - _by_shaking(network.graph, x, values)[told]) / sizes
        # Where logits are nothing but rounding, as behind a norm of black, they tell nothing.
        heard = _above_noise(network.graph, x, ours)[told]
        difference = float((shares[heard] if heard.any() else shares).max())
    if not difference <= options.rounding:
        largest = float(np.abs(ours[told]).max())
        if largest < _DROWNED:
            raise ModelError(
                f"the logits of the network {network.path} are at most {largest:.2g}, allowed are such as "
                "single precision holds, in which it gives others itself; a deep network that was never "
                "trained may be like that: load its trained weights, or hand in module.double()"
            )
        if _as_in_double(network, x[torch.from_numpy(told)], ours[told], options.rounding * sizes):
            raise ModelError(
                f"the logits of {network.path} in its own precision are off by {difference:.2g} of their "
                f"size from what its weights give in double precision, allowed is {options.rounding:.2g}; "
                "its weights are large (are pixels scaled as in training?): hand in module.double()"
            )
        raise FidelityError(
            f"the logits of the imported network {network.path} differ from the original's by "
            f"{difference:.2g} "
            f"of their size, allowed is {options.rounding:.2g}; please report this network"
        )
    return max(difference, 0.0)


def _as_in_double(network: Network, x: Tensor, ours: np.ndarray, allowed: np.ndarray) -> bool:
    """Whether logits ``(B, K)`` are the original's in double precision, if it has that, but for ``(B,)``."""
    wide = network.original.in_double()
    if wide is None:
        return False
    theirs = np.asarray(wide.logits(x.numpy()), np.float64)
    return bool((np.abs(ours - theirs).max(axis=1) <= allowed).all())


def _by_shaking(graph: Graph, x: Tensor, values: Mapping[int, Tensor]) -> np.ndarray:
    """How far logits ``(B,)`` move where pixels do within their own rounding: some up, others down."""
    # Of one colour, or of black, a norm leaves nothing but rounding, which those behind it make large.
    every_other = torch.arange(x[0].numel()).reshape(x[0].shape).remainder(2) * 2.0 - 1
    ours, moved = values[graph.last], np.zeros(len(x))
    for change in (x * torch.sign(x - x.mean()), x.abs().clamp_min(1.0) * every_other):
        apart = (graph.forward(x + _SHAKE * change) - ours).abs().amax(dim=1)
        moved = np.maximum(moved, apart.numpy())
    return moved


def _above_noise(graph: Graph, x: Tensor, logits: np.ndarray) -> np.ndarray:
    """At which pixels logits ``(B, K)`` are more than what single precision leaves of the terms, ``(B,)``."""
    noise = noise_at(graph, x)[graph.last].flatten(1).amax(dim=1).numpy()
    return np.abs(logits).max(axis=1) > noise


def _scale(graph: Graph, x: Tensor) -> float:
    """Size of what is summed up in the last affine layer: what rounding is relative to."""
    return float(_scales(graph, graph.values_at(x, {graph.last, *_summing(graph)[0].inputs})).max())


def _summing(graph: Graph) -> tuple[Node, list[Dense | PiecewiseLinear]]:
    """The last node that sums up, and the layers behind it, in turn, that only say it in another way.

    Two classes made of one logit sum up nothing, nor do rectifiers: the layer before does.
    """
    last, behind = graph.nodes[-1], list[Dense | PiecewiseLinear]()
    while _says_it_again(last.layer):
        assert isinstance(last.layer, Dense | PiecewiseLinear)
        behind.insert(0, last.layer)
        last = graph.nodes[last.inputs[0]]
    return last, behind


def _says_it_again(layer: AbstractLayer) -> bool:
    if isinstance(layer, Dense):
        return layer.weight.shape[1] < _FEWEST
    return isinstance(layer, PiecewiseLinear) and layer.is_hinge


def _scales(graph: Graph, values: Mapping[int, Tensor]) -> np.ndarray:
    """The same for each image, ``(B,)``, given the values of the logits and of what is summed up for them."""
    last, behind = _summing(graph)
    if isinstance(last.layer, AbstractAffine):
        value = last.layer.magnitude(*(values[source] for source in last.inputs))
        for layer in behind:  # its constants and weights count, too
            value = layer.magnitude(value) if isinstance(layer, Dense) else value * layer.slopes.abs().max()
    else:
        value = values[graph.last]
    return value.flatten(1).abs().amax(dim=1).clamp_min(np.finfo(np.float64).tiny).numpy()


def _away_from_kinks(graph: Graph, x: Tensor, values: Mapping[int, Tensor], closeness: float) -> np.ndarray:
    """Which images ``(B,)`` have no unit so close to a kink that rounding could move it across.

    values: those of all nodes there.

    A unit exactly on its kink stays there in the original if it sums zeros; terms that cancel leave noise
    there (see `noise_at`). Which slope counts on a kink the two agree on for rectifiers; at the ends of a
    clip, and where an absolute value is 0, runtimes differ, and some let equal inputs of a window share the
    gradient: those are no places to compare.
    """
    clear = torch.ones(len(x), dtype=torch.bool)
    for index in graph.piecewise:
        node = graph.nodes[index]
        assert isinstance(node.layer, PiecewiseLinear | MaxPool)
        value = values[node.inputs[0]].flatten(1)
        near = closeness * value.abs().amax(dim=1, keepdim=True)
        differs = isinstance(node.layer, PiecewiseLinear) and not _is_rectifier(node.layer)
        gaps = gaps_of(node.layer, value)
        for gap in gaps:
            clear &= ~((gap > 0) & (gap < near) | differs & (gap <= near)).any(1)
        if isinstance(node.layer, MaxPool) and node.layer.shared:
            clear &= ~(torch.stack(gaps) <= 0).sum(0).gt(1).any(1)
        if not clear.any():  # of many units some are always near: what noise does, nobody needs to know
            return clear.numpy()
    noise = noise_at(graph, x, values)
    for index in graph.piecewise:
        layer, source = graph.nodes[index].layer, graph.nodes[index].inputs[0]
        assert isinstance(layer, PiecewiseLinear | MaxPool)
        gaps = gaps_of(layer, values[source].flatten(1))
        clear &= ~picked_by_noise(layer, gaps, noise[source].flatten(1)).any(1)
    return clear.numpy()


def _is_rectifier(layer: PiecewiseLinear) -> bool:
    """Whether it bends once, and all runtimes take the slope below the bend on it."""
    return len(layer.breakpoints) == 1 and not layer.shared


def _compare_integrals(
    original: AbstractOriginal,
    graph: Graph,
    x: Tensor,
    label: int,
    options: FidelityOptions,
    deadline: Deadline,
) -> float:
    """Largest unexplained change of the original's logit along segments, against the change expected.

    What is explained beside our gradient: rounding of the logits, and kinks between the points at which it is
    taken: the ends of the segment among them, for a logit may die before the first point of the integral.

    A segment of each kind is looked at in any case, at so many points as its part of the time allows.
    """
    starts, ends = _segments(x, options)
    worst, ends_at = 0.0, deadline.part(_SHARE_OF_INTEGRALS)
    noise = options.rounding * _scale(graph, torch.cat([starts, ends]))
    further = Deadline.after(options.integrating)
    most = int(np.clip(2 * options.effort // graph.effort, _LEAST_STEPS, options.steps))
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if number >= _KINDS_OF_SEGMENTS and (further.passed() or ends_at.passed()):
            break
        part = ends_at.part(1 / max(_KINDS_OF_SEGMENTS - number, 1))

        def sloped(along: Tensor, start: Tensor = start, way: Tensor = end - start) -> Tensor:
            gradients = graph.gradient_at(start + along[:, None, None, None] * way, label)
            return (gradients * way).flatten(1).sum(1)

        before = part.clock()
        outer = sloped(torch.tensor([0.0, 1.0], dtype=torch.float64))
        steps = _fitting(most, (part.clock() - before) / 2, part)
        inner = sloped((torch.arange(steps, dtype=torch.float64) + 0.5) / steps)
        slopes = torch.cat([outer[:1], inner, outer[1:]])
        logits = original.logits(torch.stack([start, end]).numpy())[:, label].astype(np.float64)
        explained = noise / 10 + float(slopes.diff().abs().sum()) / steps
        missing = abs(float(logits[1] - logits[0]) - float(slopes[1:-1].mean())) - explained
        worst = max(worst, missing / max(float(slopes.abs().max()), np.finfo(np.float64).tiny))
    return worst


def _fitting(most: int, seconds: float, deadline: Deadline) -> int:
    """At how many points of a segment, each of which takes so long, the time allows to look."""
    return most if deadline.left >= most * seconds else max(_LEAST_STEPS, int(deadline.left / seconds))


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
