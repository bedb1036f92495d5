"""The question in numbers: what is asked, free of how it was asked."""

from __future__ import annotations

from typing import Any

import numpy as np

from steadygaze.certificate.expected_map import moves_of
from steadygaze.certificate.files import Files
from steadygaze.errors import NotJointlyAffine
from steadygaze.geometry.domain import domain_of
from steadygaze.geometry.polytope import Polytope
from steadygaze.network.saliency import GradCam
from steadygaze.network.writing.normal_form import normal_form
from steadygaze.network.writing.onnx_writer import value_names
from steadygaze.perturbation.records import AffinePiece
from steadygaze.question.inconsistency import TopK
from steadygaze.question.problem import Problem

# Points of the box, 0 first, at which a perturbation without affine pieces is written down instead.
_SAMPLES = 64
# What the checker proves, as docs/checker.md has it.
_PROVABLE_MAPS, _PROVABLE_MEASURES = ("gradient", "abs-gradient"), ("cosine", "l1", "l2", "linf")
_PROVABLE_MOVED = ("cosine", "l2")
# A perturbation by nothing may change the last places of the pixels.


def write_question(problem: Problem, files: Files) -> dict[str, Any]:
    """Write the network, the image, the pieces and the expected map; returns what the index says of them."""
    graph = problem.network.graph.to("cpu")
    keep = {problem.saliency.node(graph)} if isinstance(problem.saliency, GradCam) else set()
    files.raw("network.onnx", normal_form(graph, keep).SerializeToString(deterministic=True))
    files.whole("image", "<f8", _unvaried(problem))
    map0 = problem.map0.numpy()
    pieces = pieces_of(problem)
    in_pieces = not problem.moves_map or map0.shape[-2:] == problem.image.shape[-2:]
    _write_pieces(pieces, problem, files)
    files.whole("compared", "|b1", _compared(problem))
    if problem.moves_map and pieces and in_pieces:
        moves = moves_of(problem.perturbation, map0)
        for name, column, kind in zip(
            ("piece", "term", "out", "in", "weight"), moves, ("<i4",) * 4 + ("<f8",), strict=True
        ):
            files.whole(f"moves_{name}", kind, column)
    sampled = not (pieces and in_pieces)
    if sampled:
        _write_samples(problem, files)
    return {
        "parameters": [
            {"name": p.name, "low": float(p.low), "high": float(p.high)}
            for p in problem.perturbation.parameters
        ],
        "classes": graph.classes,
        "label": problem.label,
        "clip": None if problem.clip is None else [float(bound) for bound in problem.clip],
        "saliency": _saliency(problem),
        "inconsistency": _inconsistency(problem),
        "threshold": 0.0 if problem.class_alone else problem.threshold,
        "pieces": len(pieces),
        "moves_map": problem.moves_map,
        "samples": _SAMPLES if sampled else 0,
    }


def _unvaried(problem: Problem) -> np.ndarray:
    """The image ``(C, H, W)`` where all parameters are 0: as handed in, with the constant amounts applied."""
    return problem.perturbation.apply(problem.image, np.zeros((1, len(problem.box))))[0]


def beyond_proof(problem: Problem) -> str | None:
    """Why the checker can look at an answer to this question at points only; None if it can prove it."""
    asked, moves = not problem.class_alone, problem.moves_map
    saliency, measure = problem.saliency.name, problem.inconsistency.name
    reasons = {
        "the network is smooth": not problem.network.graph.piecewise_linear,
        f"{saliency} maps are not followed": asked and saliency not in _PROVABLE_MAPS,
        f"{measure} is not bounded": asked and measure not in _PROVABLE_MEASURES,
        "the perturbation has no affine pieces": not pieces_of(problem),
        f"{measure} of maps that move is not bounded": moves and measure not in _PROVABLE_MOVED,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def pieces_of(problem: Problem) -> tuple[AffinePiece, ...]:
    """The affine pieces of the perturbation, none where it has none."""
    try:
        return problem.pieces
    except NotJointlyAffine:
        return ()


def _write_pieces(pieces: tuple[AffinePiece, ...], problem: Problem, files: Files) -> None:
    count, n, shape = len(pieces), len(problem.box), problem.image.shape
    bases = (piece.image.base for piece in pieces)
    files.array("piece_base", "<f8", (count, *shape), bases)
    directions = (piece.image.directions for piece in pieces)
    files.array("piece_directions", "<f8", (count, n, *shape), directions)
    planes = [_planes(piece.polytope) for piece in pieces]
    files.whole("piece_planes", "<f8", np.concatenate([np.zeros((0, n + 1)), *planes]))
    files.whole("piece_ptr", "<i8", np.cumsum([0, *map(len, planes)]))


def _planes(polytope: Polytope) -> np.ndarray:
    """Rows (normal, offset) ``(F, n + 1)``: theta is in the polytope where each normal @ theta <= offset."""
    domain = domain_of(polytope)
    sides = np.eye(len(domain.low))
    normals, offsets = (-sides, sides, domain.normals), (-domain.low, domain.high, domain.offsets)
    return np.concatenate([np.concatenate(normals), np.concatenate(offsets)[:, None]], axis=1)


def _write_samples(problem: Problem, files: Files) -> None:
    """The image before the clip, and the expected map, at some points of the box."""
    draws = np.random.default_rng(0).random((_SAMPLES, len(problem.box)))
    thetas = problem.box[:, 0] + draws * (problem.box[:, 1] - problem.box[:, 0])
    thetas[0] = 0.0
    files.whole("sample_theta", "<f8", thetas)
    shape = (_SAMPLES, *problem.image.shape)
    images = (problem.perturbation.apply(problem.image, theta[None]) for theta in thetas)
    files.array("sample_image", "<f8", shape, images)
    expected = (problem.expected_at(theta[None]).numpy() for theta in thetas)
    files.array("sample_expected", "<f8", (_SAMPLES, problem.map0.numel()), expected)


def _compared(problem: Problem) -> np.ndarray:
    entries = np.full(problem.map0.numel(), not problem.class_alone)
    if problem.compared is not None:
        entries[:] = False
        entries[problem.compared.numpy()] = True
    return entries


def _saliency(problem: Problem) -> dict[str, Any]:
    saliency = problem.saliency
    told = {"name": saliency.name, "channel_sum": saliency.channel_sum}
    if isinstance(saliency, GradCam):
        graph = problem.network.graph
        told["tensor"] = value_names(graph)[saliency.node(graph)]
    return told


def _inconsistency(problem: Problem) -> dict[str, Any]:
    measure = problem.inconsistency
    if problem.class_alone:
        return {"name": "none"}
    return {"name": measure.name, "k": measure.k} if isinstance(measure, TopK) else {"name": measure.name}
