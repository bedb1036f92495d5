"""Saliency maps: where the network looks when it says a class.

In an activation region the gradient of a logit is constant, so that a gradient map is one map per region.
Grad-CAM (Selvaraju et al., ICCV 2017) weighs the activations of the last convolution, which are affine in a
region, by constant weights; its map there is the positive part of an affine map.
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

    channel_sum adds the channels up, where the map has any: ``(C, H, W)`` becomes ``(H, W)``.
    """

    name: str
    channel_sum: bool = False

    @abstractmethod
    def map_shape(self, graph: Graph) -> tuple[int, ...]:
        """Shape of one map; raises SettingError if this network has no such map."""

    @abstractmethod
    def maps(self, graph: Graph, images: Tensor, label: int) -> Tensor:
        """Maps ``(B, *map_shape)`` of class `label` at pixels ``(B, C, H, W)``."""


class AbstractGradientSaliency(AbstractSaliency):
    """A map that is a function of the gradient of the class's logit with respect to the pixels."""

    @abstractmethod
    def of(self, gradients: Tensor) -> Tensor:
        """Maps ``(B, C, H, W)``, before channels are added, of gradients of the same shape."""

    def from_gradient(self, gradients: Tensor) -> Tensor:
        """Maps in flattened order, ``(B, P)``, of gradients ``(B, C, H, W)``."""
        return self._summed(gradients).flatten(1)

    def map_shape(self, graph: Graph) -> tuple[int, ...]:
        return graph.input_shape[1:] if self.channel_sum else graph.input_shape

    def maps(self, graph: Graph, images: Tensor, label: int) -> Tensor:
        return self._summed(graph.gradient_at(images, label))

    def _summed(self, gradients: Tensor) -> Tensor:
        maps = self.of(gradients)
        return maps.sum(1) if self.channel_sum else maps


@dataclass(frozen=True)
class Gradient(AbstractGradientSaliency):
    """The gradient itself, with its signs (Simonyan et al., 2013)."""

    channel_sum: bool = False
    name = "gradient"

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
                "allowed are 'gradient' and 'abs-gradient'; choose one of these"
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


SALIENCIES = (Gradient.name, AbsGradient.name, GradCam.name)
"""Names that `by_name` takes."""


def by_name(name: str, channel_sum: bool = False) -> AbstractSaliency:
    """The saliency of that name; raises SettingError if there is none, or none with a channel sum."""
    if name == Gradient.name:
        return Gradient(channel_sum)
    if name == AbsGradient.name:
        return AbsGradient(channel_sum)
    if name != GradCam.name:
        raise SettingError(f"saliency is {name!r}, allowed are {', '.join(SALIENCIES)}; choose one of these")
    if channel_sum:
        raise SettingError(
            "saliency 'grad-cam' has one map and got a channel sum, which is allowed with gradient and "
            "abs-gradient; leave the channel sum out"
        )
    return GradCam()
