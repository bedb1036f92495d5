"""Saliency maps: where the network looks when it says a class.

In an activation region the gradient of a logit is constant, so that a gradient map is one map per region.
Grad-CAM (Selvaraju et al., ICCV 2017) weighs the activations of the last convolution, which are affine in a
region, by constant weights; its map there is the positive part of an affine map. The gradient of a softmax
probability and the gradient times the pixels vary within a region in other ways: they are for bounds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from steadygaze.errors import SettingError
from steadygaze.network.graph import Graph


class AbstractSaliency(ABC):
    """A way to make a map out of a network, images and a class.

    channel_sum adds the channels up, where the map has any: ``(C, H, W)`` becomes ``(H, W)``. varies says
    that the map varies within an activation region in a way that no exact engine follows.
    """

    name: str
    channel_sum: bool = False
    varies: bool = False

    @abstractmethod
    def map_shape(self, graph: Graph) -> tuple[int, ...]:
        """Shape of one map; raises SettingError if this network has no such map."""

    @abstractmethod
    def maps(self, graph: Graph, images: Tensor, label: int) -> Tensor:
        """Maps ``(B, *map_shape)`` of class `label` at pixels ``(B, C, H, W)``."""


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

    @abstractmethod
    def of(self, gradients: Tensor) -> Tensor:
        """Maps ``(B, C, H, W)``, before channels are added, of gradients of the same shape.

        The gradients are multiplied by the pixels already, where they are to be.
        """

    def from_gradient(self, gradients: Tensor) -> Tensor:
        """Maps in flattened order, ``(B, P)``, of gradients ``(B, C, H, W)``."""
        return self._summed(gradients).flatten(1)

    def map_shape(self, graph: Graph) -> tuple[int, ...]:
        return graph.input_shape[1:] if self.channel_sum else graph.input_shape

    def maps(self, graph: Graph, images: Tensor, label: int) -> Tensor:
        logits, pieces = graph.logits_and_pieces(images)
        gradients = graph.pull_back(self.seed(logits, label), pieces)
        return self._summed(gradients * images if self.times_pixels else gradients)

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


@dataclass(frozen=True)
class GradientTimesInput(AbstractGradientSaliency):
    """The gradient times the pixels handed to the classifier (Shrikumar et al., 2016)."""

    channel_sum: bool = False
    name = "gradient-x-input"
    times_pixels = True
    varies = True

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

    def of(self, gradients: Tensor) -> Tensor:
        return gradients


@dataclass(frozen=True)
class GradCam(AbstractSaliency):
    """``relu(sum over k of alpha_k A_k)``, in the shape ``(h, w)`` of the last convolution's feature maps A.

    A are the activations of the last convolution, after the activation function if one follows directly (a
    batch normalisation counts as part of the convolution); alpha_k is the spatial mean of the gradient of the
    class's logit with respect to A_k.
    """

    name = "grad-cam"

    def node(self, graph: Graph) -> int:
        """The node whose output is A; raises SettingError if the network has no convolution."""
        index = graph.last_convolution()
        if index is None:
            raise SettingError(
                "saliency 'grad-cam' needs a convolution and the network has none, "
                f"allowed are {', '.join(_GRADIENTS)}; choose one of these"
            )
        return index

    def map_shape(self, graph: Graph) -> tuple[int, ...]:
        return graph.nodes[self.node(graph)].shape[1:]

    def maps(self, graph: Graph, images: Tensor, label: int) -> Tensor:
        node = self.node(graph)
        activations = graph.values_at(images, (node,))[node]
        seed = graph.seed(label, len(images))
        return self.from_parts(activations, graph.pull_back(seed, graph.pieces_at(images), to=node))

    def from_parts(self, activations: Tensor, gradients: Tensor) -> Tensor:
        """Maps ``(B, h, w)`` of activations A and of the gradients there, both ``(B, K, h, w)``."""
        return torch.einsum("bk,bkhw->bhw", gradients.mean((2, 3)), activations).clamp_min(0.0)


_GRADIENTS: dict[str, type[Gradient | AbsGradient | GradientTimesInput | SoftmaxGradient]] = {
    each.name: each for each in (Gradient, AbsGradient, GradientTimesInput, SoftmaxGradient)
}
SALIENCIES = (*_GRADIENTS, GradCam.name)
"""Names that `by_name` takes."""


def by_name(name: str, channel_sum: bool = False) -> AbstractSaliency:
    """The saliency of that name; raises SettingError if there is none, or none with a channel sum."""
    if name in _GRADIENTS:
        return _GRADIENTS[name](channel_sum)
    if name != GradCam.name:
        raise SettingError(f"saliency is {name!r}, allowed are {', '.join(SALIENCIES)}; choose one of these")
    if channel_sum:
        raise SettingError(
            "saliency 'grad-cam' has one map and got a channel sum, which is allowed with "
            f"{', '.join(_GRADIENTS)}; leave the channel sum out"
        )
    return GradCam()
