"""Whether a question has an exact form on activation regions, before any of them is looked for."""

from __future__ import annotations

from steadygaze.errors import NotJointlyAffine, NotPiecewiseAffine
from steadygaze.network.graph import Graph
from steadygaze.network.saliency import AbstractGradientSaliency, AbstractSaliency, NoMap
from steadygaze.perturbation.chain import Chain
from steadygaze.question.inconsistency import AbstractInconsistency


def check_form(
    graph: Graph,
    saliency: AbstractSaliency,
    perturbation: Chain,
    inconsistency: AbstractInconsistency,
    threshold: float,
) -> None:
    """Raise where no exact engine can take the question; that the chain has affine pieces, the chain says.

    Raises:
        NotPiecewiseAffine: the network or its map has no exact form on activation regions, or the
            inconsistency no exact test there.
        NotJointlyAffine: the chain moves the expected map, and the actual one varies within a region, too.
    """
    if not graph.piecewise_linear:
        raise NotPiecewiseAffine(
            f"{graph.nodes[graph.smooth[0]].name} is smooth, so that the network has no linear pieces and no "
            "exact engine can take it; use --method bound"
        )
    if isinstance(saliency, NoMap):
        return
    if saliency.varies and not saliency.affine:
        raise NotPiecewiseAffine(
            f"{saliency.name} maps vary within a linear piece of the network, so that no exact engine can "
            "take them; use --method bound, or gradient, abs-gradient or gradient-x-input maps"
        )
    moves = perturbation.moves_map
    follows = saliency.affine or not isinstance(saliency, AbstractGradientSaliency)
    if (moves or follows) and inconsistency.cone(threshold) is None:
        cause = "a perturbation that moves the map" if moves else f"{saliency.name} maps"
        raise NotPiecewiseAffine(
            f"{inconsistency.name} cannot be decided exactly for {cause}, because it varies inside a region; "
            "use --inconsistency cosine or l2, or --method bound"
        )
    if moves and follows:
        raise NotJointlyAffine(
            f"{saliency.name} maps and a perturbation that moves the expected map multiply their parameters, "
            "so that no exact engine can take the pair; use gradient or abs-gradient maps, --method bound, "
            "or fix the shift as a constant"
        )
