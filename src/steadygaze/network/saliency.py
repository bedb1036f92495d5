"""Saliency maps: where the network looks when it says a class.

In an activation region the gradient of a logit is constant, so that a gradient map is one map per region.
Grad-CAM (Selvaraju et al., ICCV 2017) weighs the activations of a convolution, which are affine in a
region, by constant weights; its map there is the positive part of an affine map. The gradient times the
pixels is affine in a region. The gradient of a softmax probability varies in another way: it is for bounds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from steadygaze.enclosing.enclosures import UNIT
from steadygaze.enclosing.forms import Forms
from steadygaze.errors import SettingError
from steadygaze.network.bounding.bounds import Bounds
from steadygaze.network.bounding.forms.relaxing import magnitudes, rectified
from steadygaze.network.convolutions import Standing, convolutions, standing
from steadygaze.network.graph import Graph


class AbstractSaliency(ABC):
    """A way to make a map out of a network, images and a class.

    channel_sum adds the channels up, where the map has any: ``(C, H, W)`` becomes ``(H, W)``. varies says
    that the map varies within an activation region, and affine that it does so as an affine function of the
    image, which exact engines follow, as they follow the positive part of one. layer names the layer whose
    activations make the map, None where it is made of gradients by the pixels.
    """

    name: str
    channel_sum: bool = False
    varies: bool = False
    affine: bool = False
    layer: str | None = None

    def settled(self, graph: Graph, image: np.ndarray | None = None) -> AbstractSaliency:
        """The same with all settled that depends on the network, or on the unperturbed image ``(C, H, W)``.

        Raises SettingError where they do not fit, such as a layer that the network has not.
        """
        del graph, image
        return self

    def standing(self, graph: Graph) -> Standing:
        """Where the entries of a map are in the image: by default each at its own pixel."""
        del graph
        return Standing((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))

    @abstractmethod
    def map_shape(self, graph: Graph) -> tuple[int, ...]:
        """Shape of one map; raises SettingError if this network has no such map."""

    @abstractmethod
    def maps(
        self, graph: Graph, images: Tensor, label: int, tolerances: Mapping[int, Tensor] | None = None
    ) -> Tensor:
        """Maps ``(B, *map_shape)`` of class `label` at pixels ``(B, C, H, W)``.

        tolerances are those of `Graph.pieces_at`.
        """

    def logits_and_maps(
        self, graph: Graph, images: Tensor, label: int, tolerances: Mapping[int, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits ``(B, K)`` beside what `maps` gives; in one pass where the map needs no other."""
        return graph.forward(images), self.maps(graph, images, label, tolerances)

    @abstractmethod
    def reads(self, graph: Graph, pixels: int) -> tuple[int, ...]:
        """The nodes whose values `enclosed` asks of bounds; node `pixels` is handed to the classifier."""

    @abstractmethod
    def enclosed(self, bounds: Bounds, label: int, pixels: int) -> Forms:
        """Where the maps lie over boxes: forms ``(B, *map_shape)``."""


class AbstractGradientSaliency(AbstractSaliency):
    """A map that is a function of one gradient with respect to the pixels.

    That is the gradient of ``<seed, logits>``, multiplied by the pixels if times_pixels says so. linear says
    that the map of a sum of gradients is the sum of their maps.
    """

    times_pixels: bool = False
    linear: bool = False

    def seed(self, logits: Tensor, label: int) -> Tensor:
        """How the gradients of the logits add up: weights ``(B, K)``, given logits ``(B, K)``.

        By default they are one-hot: the gradient of the class's logit.
        """
        seed = torch.zeros_like(logits)
        seed[:, label] = 1.0
        return seed

    def enclosed_seed(self, logits: Forms, label: int) -> Forms:
        """The same over boxes, given forms ``(K,)``; its symbols are new."""
        return Forms.exact(self.seed(logits.centre, label), logits.count)

    @abstractmethod
    def of(self, gradients: Tensor) -> Tensor:
        """Maps ``(B, C, H, W)``, before channels are added, of gradients of the same shape.

        The gradients are multiplied by the pixels already, where they are to be.
        """

    def of_enclosed(self, gradients: Forms, room: int) -> Forms:
        """The same over boxes, for forms ``(N,)`` with room for so many symbols: by default the gradient."""
        del room
        return gradients

    def from_gradient(self, gradients: Tensor) -> Tensor:
        """Maps in flattened order, ``(B, P)``, of gradients ``(B, C, H, W)``."""
        return self._summed(gradients).flatten(1)

    def map_shape(self, graph: Graph) -> tuple[int, ...]:
        return graph.input_shape[1:] if self.channel_sum else graph.input_shape

    def maps(
        self, graph: Graph, images: Tensor, label: int, tolerances: Mapping[int, Tensor] | None = None
    ) -> Tensor:
        return self.logits_and_maps(graph, images, label, tolerances)[1]

    def logits_and_maps(
        self, graph: Graph, images: Tensor, label: int, tolerances: Mapping[int, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        logits, pieces = graph.logits_and_pieces(images, tolerances)
        return logits, self.maps_on(graph, images, label, logits, pieces)

    def maps_on(
        self, graph: Graph, images: Tensor, label: int, logits: Tensor, pieces: Mapping[int, Tensor]
    ) -> Tensor:
        """`maps` where the logits ``(B, K)`` and pieces at the images are known."""
        gradients = graph.pull_back(self.seed(logits, label), pieces)
        return self._summed(gradients * images if self.times_pixels else gradients)

    def reads(self, graph: Graph, pixels: int) -> tuple[int, ...]:
        return (graph.last, pixels) if self.times_pixels else (graph.last,)

    def enclosed(self, bounds: Bounds, label: int, pixels: int) -> Forms:
        seed = self.enclosed_seed(bounds.values[bounds.graph.last], label)
        gradients = bounds.pull_back(seed, pixels)
        if self.times_pixels:
            gradients = gradients.times(bounds.values[pixels])
        shape = gradients.shape
        maps = self.of_enclosed(gradients.flattened(), bounds.room).reshaped(*shape)
        if not self.channel_sum:
            return maps
        return maps.linear(lambda x: x.sum(1), lambda x: x.sum(1), shape[0])

    def _summed(self, gradients: Tensor) -> Tensor:
        maps = self.of(gradients)
        return maps.sum(1) if self.channel_sum else maps


@dataclass(frozen=True)
class Gradient(AbstractGradientSaliency):
    """The gradient itself, with its signs (Simonyan et al., 2013)."""

    channel_sum: bool = False
    name = "gradient"
    linear = True

    def of(self, gradients: Tensor) -> Tensor:
        return gradients


@dataclass(frozen=True)
class AbsGradient(AbstractGradientSaliency):
    """The absolute value of the gradient; channels are added after it is taken."""

    channel_sum: bool = False
    name = "abs-gradient"

    def of(self, gradients: Tensor) -> Tensor:
        return gradients.abs()

    def of_enclosed(self, gradients: Forms, room: int) -> Forms:
        return magnitudes(gradients, room)


@dataclass(frozen=True)
class GradientTimesInput(AbstractGradientSaliency):
    """The gradient times the pixels handed to the classifier (Shrikumar et al., 2016)."""

    channel_sum: bool = False
    name = "gradient-x-input"
    times_pixels = True
    varies = True
    affine = True

    def of(self, gradients: Tensor) -> Tensor:
        return gradients


@dataclass(frozen=True)
class SoftmaxGradient(AbstractGradientSaliency):
    """The gradient of the class's softmax probability p_c, without its factor p_c > 0.

    It is ``sum over j of p_j (∇f_c - ∇f_j)``: what sets the class apart from its rivals, each with the weight
    of its own probability.
    """

    channel_sum: bool = False
    name = "softmax-gradient"
    varies = True

    def seed(self, logits: Tensor, label: int) -> Tensor:
        seed = -torch.softmax(logits, dim=1)
        seed[:, label] = 0.0
        seed[:, label] = -seed.sum(dim=1)  # 1 - p_c, without its cancellation where p_c is nearly 1
        return seed

    def enclosed_seed(self, logits: Forms, label: int) -> Forms:
        """The mean-value form of softmax p: its derivatives p_j (1[j = k] - p_k), p within its own range."""
        logits = logits.without_symbols().with_symbols(0)
        p = torch.softmax(logits.centre, dim=1)
        low, high = _softmax_range(logits)
        own = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
        least = torch.where(_eye(p), (low * (1 - high))[:, None], -high[:, :, None] * high[:, None, :])
        most = torch.where(_eye(p), (high * (1 - low))[:, None], -low[:, :, None] * low[:, None, :])
        radius = torch.maximum(own - least, most - own)
        rows = torch.cat([p[:, None], logits.rows[:, 1:] @ own], dim=1)
        error = (radius @ logits.reach[..., None] + own.abs() @ logits.error[..., None])[..., 0]
        rounding = 64 * (p.shape[1] + 4) * UNIT * (1 + logits.size.amax(dim=1, keepdim=True))
        rows, error = -rows, error + rounding
        rows[..., label], error[..., label] = 0.0, 0.0
        rows[..., label], error[..., label] = -rows.sum(dim=-1), error.sum(dim=-1)
        return Forms(rows, error, logits.count)

    def of(self, gradients: Tensor) -> Tensor:
        return gradients


@dataclass(frozen=True)
class GradCam(AbstractSaliency):
    """``relu(sum over k of alpha_k A_k)``, in the shape ``(h, w)`` of the feature maps A of a convolution.

    A are the activations of the convolution, after the activation function if one alone reads it (a batch
    normalisation counts as part of the convolution); alpha_k is the spatial mean of the gradient of the
    class's logit with respect to A_k. `layer` names the convolution; None is the last one, see
    `convolutions`. place is the node where A is in the network at hand, once it is `settled`.
    """

    layer: str | None = None
    place: int | None = None
    name = "grad-cam"

    def settled(self, graph: Graph, image: np.ndarray | None = None) -> GradCam:
        del image
        if self.place is not None:
            return self
        found = convolutions(graph)
        if not found:
            raise SettingError(
                "saliency 'grad-cam' needs a convolution and the network has none; choose a map of the "
                "pixels, such as gradient"
            )
        chosen = [one for one in found if self.layer in (None, one.name)]
        if not chosen:
            raise SettingError(
                f"the layer is {self.layer!r}, allowed are {', '.join(one.name for one in found)}; "
                "choose one of these, or leave the layer out for the last convolution"
            )
        return GradCam(chosen[0].name, chosen[0].node)

    def node(self, graph: Graph, pixels: int = 0) -> int:
        """The node whose output is A, where node `pixels` of the graph is what the network is handed.

        Raises SettingError if the network has no convolution, or none of that name.
        """
        if self.place is not None:
            return self.place + pixels
        return self.settled(graph).node(graph)

    def standing(self, graph: Graph) -> Standing:
        return standing(graph, self.node(graph))

    def map_shape(self, graph: Graph) -> tuple[int, ...]:
        return graph.nodes[self.node(graph)].shape[1:]

    def maps(
        self, graph: Graph, images: Tensor, label: int, tolerances: Mapping[int, Tensor] | None = None
    ) -> Tensor:
        node = self.node(graph)
        activations = graph.values_at(images, (node,))[node]
        gradients = graph.pull_back(graph.seed(label, len(images)), graph.pieces_at(images, tolerances), node)
        return self.from_parts(activations, gradients)

    def reads(self, graph: Graph, pixels: int) -> tuple[int, ...]:
        return (graph.last, self.node(graph, pixels))

    def enclosed(self, bounds: Bounds, label: int, pixels: int) -> Forms:
        node = self.node(bounds.graph, pixels)
        logits, activations = bounds.values[bounds.graph.last], bounds.values[node]
        seed = torch.zeros_like(logits.centre)
        seed[:, label] = 1.0
        gradients = bounds.pull_back(Forms.exact(seed, logits.count), node)
        places = gradients.shape[1] * gradients.shape[2]
        alpha = gradients.linear(lambda x: x.mean((2, 3)), lambda x: x.mean((2, 3)), places)
        weighed = alpha.reshaped(-1, 1, 1).times(activations)
        maps = weighed.linear(lambda x: x.sum(1), lambda x: x.sum(1), gradients.shape[0])
        return rectified(maps.flattened(), bounds.room).reshaped(*maps.shape)

    def from_parts(self, activations: Tensor, gradients: Tensor) -> Tensor:
        """Maps ``(B, h, w)`` of activations A and of the gradients there, both ``(B, K, h, w)``."""
        return torch.einsum("bk,bkhw->bhw", gradients.mean((2, 3)), activations).clamp_min(0.0)


@dataclass(frozen=True)
class NoMap(AbstractSaliency):
    """Where the class alone is asked about: one entry that never changes, and costs nothing."""

    name = "none"

    def map_shape(self, graph: Graph) -> tuple[int, ...]:
        del graph
        return (1, 1)

    def maps(
        self, graph: Graph, images: Tensor, label: int, tolerances: Mapping[int, Tensor] | None = None
    ) -> Tensor:
        del graph, label, tolerances
        return torch.ones((len(images), 1, 1), dtype=torch.float64, device=images.device)

    def reads(self, graph: Graph, pixels: int) -> tuple[int, ...]:
        del pixels
        return (graph.last,)

    def enclosed(self, bounds: Bounds, label: int, pixels: int) -> Forms:
        del label, pixels
        logits = bounds.values[bounds.graph.last]
        return Forms.exact(torch.ones_like(logits.error[:, :1, None]), logits.count)


def _softmax_range(logits: Forms) -> tuple[Tensor, Tensor]:
    """Least and largest probabilities ``(B, K)``: p_j = 1 / (1 + sum over k != j of exp(z_k - z_j))."""
    rows = logits.rows[:, :, None, :] - logits.rows[:, :, :, None]
    away = rows[:, 1:].abs().sum(dim=1) + logits.error[:, None] + logits.error[..., None]
    away = away + 64 * UNIT * (logits.size[:, None] + logits.size[..., None])
    none = torch.where(_eye(logits.error), -torch.inf, 0.0)
    smallest, largest = rows[:, 0] - away + none, rows[:, 0] + away + none
    return 1 / (1 + torch.exp(largest).sum(dim=-1)), 1 / (1 + torch.exp(smallest).sum(dim=-1))


def _eye(rows: Tensor) -> Tensor:
    """The diagonal ``(K, K)`` bool for rows ``(B, K)``."""
    return torch.eye(rows.shape[1], dtype=torch.bool, device=rows.device)
