"""Plain interval arithmetic backward through a network: what bounds of maps are to be tighter than."""

from __future__ import annotations

import torch
from torch import Tensor

from steadygaze.network.bounding.bounds import Bounds
from steadygaze.network.bounding.forms.derivatives import Derivative, SmoothSlopes
from steadygaze.network.bounding.forms.relaxing import Choice
from steadygaze.network.layers import AbstractAffine


def interval_gradient(bounds: Bounds, seed: Tensor, to: int = 0) -> tuple[Tensor, Tensor]:
    """Least and largest entries ``(B, N)`` of the gradient of ``<seed, logits>`` at node `to`.

    Units have the same doubts as in `bounds`; each number is known by its interval alone. Rounding is not
    accounted for.
    """
    graph = bounds.graph
    pending = {graph.last: (seed, torch.zeros_like(seed))}
    for index in range(graph.last, to, -1):
        if index not in pending:
            continue
        middle, radius = pending.pop(index)
        node = graph.nodes[index]
        shapes = tuple(graph.nodes[source].shape for source in node.inputs)
        if isinstance(node.layer, AbstractAffine):
            middles = node.layer.transpose(middle, shapes)
            radii = node.layer.absolute.transpose(radius, shapes)
        else:
            pulled = _pulled(bounds.slopes[index], middle.flatten(1), radius.flatten(1))
            middles, radii = ([own.reshape(len(own), *shapes[0])] for own in pulled)
        for source, middle, radius in zip(node.inputs, middles, radii, strict=True):
            before = pending.get(source, (torch.zeros_like(middle), torch.zeros_like(radius)))
            pending[source] = (before[0] + middle, before[1] + radius)
    middle, radius = (own.flatten(1) for own in pending[to])
    return middle - radius, middle + radius


def _pulled(
    slopes: Derivative | SmoothSlopes | Choice, middle: Tensor, radius: Tensor
) -> tuple[Tensor, Tensor]:
    """Middle and radius of the gradient before units, or before windows."""
    if isinstance(slopes, SmoothSlopes):
        slopes = slopes.derivative
    if isinstance(slopes, Derivative):
        doubt = slopes.radius
        if slopes.slopes is not None:
            doubt = doubt + slopes.slopes.abs().sum(dim=1)
        least, most = slopes.centre - doubt, slopes.centre + doubt
        return _hull(torch.stack([d * g for d in (least, most) for g in (middle - radius, middle + radius)]))
    rival = slopes.rival
    size = int(torch.tensor(slopes.layer.shape).prod())
    low, high = middle.new_zeros((2, len(middle), size))
    several = rival.any(dim=2)
    ends = torch.stack([middle - radius, middle + radius])
    bottom, top = (
        torch.where(several, ends.clamp_max(0.0), ends)[0],
        torch.where(several, ends.clamp_min(0.0), ends)[1],
    )
    low.scatter_add_(1, slopes.winner, bottom)
    high.scatter_add_(1, slopes.winner, top)
    for j in range(rival.shape[2]):
        place = slopes.layer.windows[:, j].clamp_min(0).expand(len(middle), -1)
        low.scatter_add_(1, place, torch.where(rival[..., j], bottom, 0.0))
        high.scatter_add_(1, place, torch.where(rival[..., j], top, 0.0))
    return (low + high) / 2, (high - low) / 2


def _hull(products: Tensor) -> tuple[Tensor, Tensor]:
    low, high = products.amin(dim=0), products.amax(dim=0)
    return (low + high) / 2, (high - low) / 2
