"""A network of one logit, a binary classifier: read as one of two classes.

The logits are (0, z): the class 1 is predicted where z > 0, its probability is the sigmoid of z, and its
saliency map that of z. The map of the class 0 would be nothing, so that for an image of that class the same
two classes are given as (-z, 0), which is less by z everywhere: same class gap, same softmax, and the map of
the class 0 is that of -z.
"""

from __future__ import annotations

from typing import final

import numpy as np
import torch

from steadygaze.network.graph import Graph, Node
from steadygaze.network.layers import Dense
from steadygaze.network.reading.assembling.assembly import Assembler, Value
from steadygaze.network.reading.originals import AbstractOriginal
from steadygaze.network.simplify import simplified

# What each logit is of z, by the class that is looked at.
_FACING = ((-1.0, 0.0), (0.0, 1.0))


def as_two(assembler: Assembler, logit: Value) -> Value:
    """The logits (0, z) of a value of one number."""
    weight = np.reshape(_FACING[1], (2, 1))
    return assembler.dense(assembler.reshape(logit, (1, 1)), weight, None)


def note(label: int = 1) -> str:
    """How the two classes came about, in words."""
    return f"one logit z read as two classes with the logits {'(-z, 0)' if label == 0 else '(0, z)'}"


def graph_facing(graph: Graph, label: int) -> Graph:
    """The network with logits (0, z), as it is for the class `label`."""
    if label == 1:
        return graph
    # Of (0, z): the first less the second, and nothing.
    weight = torch.tensor([[1.0, -1.0], [0.0, 0.0]], dtype=torch.float64, device=graph.device)
    layer = Dense(weight, torch.zeros(2, dtype=torch.float64, device=graph.device))
    return simplified(Graph((*graph.nodes, Node(layer, (graph.last,), (2,), "two classes"))))


@final
class TwoClasses(AbstractOriginal):
    """A model of one logit z as one of two classes, as it is for the class `label`."""

    def __init__(self, one: AbstractOriginal, label: int = 1) -> None:
        self.preparation = one.preparation
        self._one, self._factors = one, np.array(_FACING[label])
        self._label = label

    def facing(self, label: int) -> TwoClasses:
        """The same model, as it is for the class `label`."""
        return TwoClasses(self._one, label)

    def logits(self, images: np.ndarray) -> np.ndarray:
        logit = self._one.logits(images)
        return logit * self._factors.astype(logit.dtype)

    def gradient(self, images: np.ndarray, label: int) -> np.ndarray | None:
        slope = self._one.gradient(images, 0)
        return None if slope is None else slope * self._factors[label]

    @property
    def differentiates_in_double(self) -> bool:
        return self._one.differentiates_in_double

    def gradients(self, images: np.ndarray, label: int) -> np.ndarray:
        return self._one.gradients(images, 0) * self._factors[label]

    def in_double(self) -> AbstractOriginal | None:
        double = self._one.in_double()
        return None if double is None else TwoClasses(double, self._label)
