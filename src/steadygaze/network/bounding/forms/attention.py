"""Attention over boxes of parameters: what of keys and values softmax lets through.

Softmax does not change where one number is added to all arguments of a row. So keys count less their mean
over all places, which is most of them where places are alike: errors of queries are stretched by what is left
alone, and so are those of the gradient at queries, as the gradient at a softmax's arguments sums to 0 in each
row. Probabilities sum to 1: what errors of theirs do to the mix of values is what they do to values less
their mean, but for what is known of them not summing to 1; and of the gradient at probabilities, which a
softmax takes on, values less their mean tell all.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from torch import Tensor

from steadygaze.enclosing.enclosures import UNIT
from steadygaze.enclosing.forms import Forms, lengths_of
from steadygaze.network.bounding.forms.joint import Factors, Scales, Shares, relax_joint
from steadygaze.network.bounding.forms.last_axis import levelled
from steadygaze.network.graph import Graph
from steadygaze.network.joint import AbstractJoint, MatrixProduct, Softmax
from steadygaze.network.layers import ScaleShift

# What rounding in a handful of operations may add, as a share.
_ROUNDING = 2.0**-40


def relax_joint_node(
    graph: Graph, index: int, inputs: tuple[Forms, ...], room: int, used: int, asked: Collection[int]
) -> tuple[Forms, Factors | Shares | Scales, Tensor]:
    """As `relax_joint`, for a node of which is known what it reads and who reads it.

    asked: nodes of which values or gradients are asked for. Of others values that a softmax alone reads are
    told but for one number for each row, and so are gradients that it takes on.
    """
    layer = graph.nodes[index].layer
    assert isinstance(layer, AbstractJoint), "one of the table of joint layers"
    if isinstance(layer, MatrixProduct):
        source = graph.nodes[index].inputs[0]
        if isinstance(graph.nodes[source].layer, Softmax):
            return _mixed(layer, inputs, room, used, asked=source in asked)
        if only_softmax_reads(graph, index, asked):
            return relax_joint(layer, (inputs[0], levelled(inputs[1])), room, used)
    return relax_joint(layer, inputs, room, used)


def only_softmax_reads(graph: Graph, index: int, asked: Collection[int]) -> bool:
    """Whether all that is made of a node's rows is a softmax, before which each row is scaled as one."""
    if index in asked:
        return False
    for reader in graph.readers[index]:
        layer = graph.nodes[reader].layer
        if isinstance(layer, Softmax):
            continue
        even = isinstance(layer, ScaleShift) and bool((layer.scale == layer.scale[..., :1]).all())
        if not even or not only_softmax_reads(graph, reader, asked):
            return False
    return bool(graph.readers[index])


def _mixed(
    layer: MatrixProduct, inputs: tuple[Forms, ...], room: int, used: int, asked: bool
) -> tuple[Forms, Factors, Tensor]:
    """Values mixed by probabilities p, of which p0 is known and e an error: ``p0 v + e v``.

    e v is ``e (v - mean) + s mean``, where s, what e sums to, is 1 less what p0 sums to.
    asked: whether somebody asks for the gradient at the probabilities: else softmax takes on all of it.
    """
    p, v = inputs
    made, slopes, deviation = relax_joint(layer, (p.without_errors(), v), room, used)
    assert isinstance(slopes, Factors), "of a product"
    level, mean = turned(levelled(turned(v))), v.most.mean(dim=-2, keepdim=True)
    missing = _missing(p)[..., None] * mean * (1 + _ROUNDING)
    error = layer.product(p.error, level.most) * (1 + _ROUNDING) + missing
    longer = layer.stretch(level.centre) + layer.stretch(level.reach)
    values = made.loosened(error, (longer * p.errors + lengths_of(missing)) * (1 + _ROUNDING))
    known = (p.without_symbols(), (v if asked else level).without_symbols())
    return values, replace(slopes, factors=known), deviation


def _missing(p: Forms) -> Tensor:
    """At least how far what is known of probabilities may be from summing to 1, row by row."""
    sums = p.rows.sum(dim=-1)
    sums[:, 0] -= 1.0
    rounding = (p.shape[-1] + 4) * UNIT * (p.rows.abs().sum(dim=-1).sum(dim=1) + 1.0)
    return (sums.abs().sum(dim=1) + 2 * rounding) * (1 + _ROUNDING)


def turned(forms: Forms) -> Forms:
    """With the last two axes exchanged."""
    return replace(forms, rows=forms.rows.transpose(-1, -2), error=forms.error.transpose(-1, -2))
