"""Integrated gradients (Sundararajan, Taly, Yan, ICML 2017): what each pixel adds on the way from a baseline.

The map at x is ``(x - b) * integral over t in [0, 1] of the gradient at b + t (x - b)``, b being the
baseline. At a point the integral is exact where the network is piecewise linear. Over a box of parameters
the path is cut into parts; over each part t is one more unknown, bounds of the gradient hold for all images
on it, and the map lies within the sum of what the parts may be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from steadygaze.deadline import NEVER, Deadline
from steadygaze.enclosing.enclosures import UNIT
from steadygaze.enclosing.forms import Forms
from steadygaze.errors import SettingError
from steadygaze.network.baselines import BASELINES, BLACK
from steadygaze.network.bounding.bounds import Bounds, bounds_of
from steadygaze.network.graph import Graph
from steadygaze.network.paths import integrated
from steadygaze.network.saliency import AbstractSaliency

# Parts of the path over a box: as many as make the image move along one as far as it does over the box.
_FEWEST, _MOST = 4, 96
# Parts of paths are bounded side by side: as many as have forms of so many bytes, and at least so many.
_BLOCK_BYTES, _LEAST_ROWS = 1 << 24, 4


@dataclass(frozen=True, eq=False)
class IntegratedGradients(AbstractSaliency):
    """See the module.

    Attributes:
        channel_sum: as for all maps.
        baseline: b as a name: black (0), mean (of each channel of the unperturbed image) or given.
        start: b as pixels ``(C, H, W)`` float64; None until the image is known.
        source: what an image that was given is called; None where it came as an array.
        deadline: asked on the way along each path, of which one may take hours through a large network; maps
            at points raise Expired where it passes.
    """

    channel_sum: bool = False
    baseline: str = BLACK
    start: Tensor | None = None
    source: str | None = None
    deadline: Deadline = NEVER
    name = "integrated-gradients"
    varies = True

    def settled(self, graph: Graph, image: np.ndarray | None = None) -> IntegratedGradients:
        """The same with the baseline's pixels.

        Raises SettingError where a given baseline has another shape than the network's images, or is not
        finite.
        """
        if self.start is not None:
            if tuple(self.start.shape) != tuple(graph.input_shape) or not self.start.isfinite().all():
                raise SettingError(
                    f"the baseline has shape {tuple(self.start.shape)}; it must be an image of finite "
                    f"numbers of shape {tuple(graph.input_shape)}, like the one to verify, or "
                    f"{' or '.join(BASELINES)}"
                )
            return self
        if self.baseline == BLACK:
            return replace(self, start=torch.zeros(graph.input_shape, dtype=torch.float64))
        assert image is not None, "the mean is that of the image"
        mean = torch.from_numpy(np.array(image, np.float64)).mean(dim=(1, 2), keepdim=True)
        return replace(self, start=mean.expand(graph.input_shape).contiguous())

    def map_shape(self, graph: Graph) -> tuple[int, ...]:
        return graph.input_shape[1:] if self.channel_sum else graph.input_shape

    def maps(
        self, graph: Graph, images: Tensor, label: int, tolerances: Mapping[int, Tensor] | None = None
    ) -> Tensor:
        def gradients(points: Tensor) -> Tensor:
            pieces = graph.pieces_at(points, tolerances)
            return graph.pull_back(graph.seed(label, len(points)), pieces)

        return self.maps_by(graph, images, gradients)

    def maps_by(self, graph: Graph, images: Tensor, gradients: Callable[[Tensor], Tensor]) -> Tensor:
        """Maps of gradients that come from elsewhere, such as the original; the graph says where they change.

        gradients: makes gradients ``(B, C, H, W)`` of images ``(B, C, H, W)``.
        """
        start = self._start(images)
        means = torch.stack([integrated(graph, start, image, gradients, self.deadline) for image in images])
        return self._summed(means * (images - start))

    def reads(self, graph: Graph, pixels: int) -> tuple[int, ...]:
        return (graph.last, pixels)

    def enclosed(self, bounds: Bounds, label: int, pixels: int) -> Forms:
        values = bounds.values[pixels]
        way = values.raised(-self._start(values.error).expand_as(values.error)).without_symbols()
        maps = way.times(self._mean(bounds, label, pixels, way))
        if not self.channel_sum:
            return maps
        return maps.linear(lambda x: x.sum(1), lambda x: x.sum(1), maps.shape[0])

    def _mean(self, bounds: Bounds, label: int, pixels: int, way: Forms) -> Forms:
        """Where the mean gradient along the path lies: ``1 / parts`` times the sum over the parts."""
        boxes, parts = len(way.error), _parts(way)
        number = torch.arange(boxes * parts, device=way.error.device)
        widest = max(math.prod(node.shape) for node in bounds.graph.nodes)
        block = max(_LEAST_ROWS, _BLOCK_BYTES // (8 * widest * (1 + way.count + bounds.room)))
        rows = way.rows.new_zeros((boxes, *way.rows.shape[1:]))
        error, size = torch.zeros_like(way.error), torch.zeros_like(way.error)
        for some in number.split(block):
            box = some // parts
            found = self._over_parts(bounds, label, pixels, way.take(box), (some % parts) / parts, 1 / parts)
            rows.index_add_(0, box, found.rows)
            error.index_add_(0, box, found.error)
            size.index_add_(0, box, found.size)
        rounding = (parts + 8) * UNIT * size  # of the sum, and of 1 / parts
        return Forms(rows / parts, (error + rounding) / parts * (1 + (parts + 8) * UNIT), way.count)

    def _over_parts(
        self, bounds: Bounds, label: int, pixels: int, way: Forms, low: Tensor, length: float
    ) -> Forms:
        """Where the gradient at the pixels lies over boxes, for all t from low ``(B,)`` on over a length.

        Its symbols are errors.
        """
        expanded = (slice(None), *[None] * len(way.shape))
        middle, half = (low + length / 2)[expanded].expand_as(way.error), length / 2 + 4 * UNIT
        images = way.scaled(middle).raised(self._start(way.error).expand_as(way.error))
        # t - middle is half times a symbol: it moves the centre of the way, and what strays from it strays.
        images = images.loosened(half * way.reach * (1 + 8 * UNIT))
        images = images.joined((half * way.centre)[:, None], 0, None)
        last = bounds.graph.last
        along = bounds_of(
            bounds.graph, images, (last,), bounds.tolerances, bounds.room, start=pixels,
            deadline=bounds.deadline,
        )  # fmt: skip
        seed = torch.zeros_like(along.values[last].centre)
        seed[:, label] = 1.0
        gradients = along.pull_back(Forms.exact(seed, way.count), pixels)
        return gradients.without_symbols().with_symbols(0)

    def _start(self, like: Tensor) -> Tensor:
        assert self.start is not None, "posing settles the baseline"
        return self.start.to(like.device)

    def _summed(self, maps: Tensor) -> Tensor:
        return maps.sum(1) if self.channel_sum else maps


def _parts(way: Forms) -> int:
    """Into how many parts the path is cut for boxes over which it goes this way."""
    length, moves = (each.flatten(1).sum(dim=1) for each in (way.centre.abs(), way.reach))
    wanted = float((length / (2 * moves).clamp_min(np.finfo(np.float64).tiny)).amax())
    return max(math.ceil(min(wanted, _MOST)), _FEWEST)
