"""From a problem and the map of it to the records of the answer."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from math import isfinite
from typing import TypeGuard

import numpy as np

from steadygaze.answer.asked import CLASS_ALONE, CLASS_AND_ATTENTION
from steadygaze.answer.result import ImageInfo, ModelInfo, ParameterInfo, PerturbationInfo, ProblemInfo
from steadygaze.answer.words import written
from steadygaze.geometry.kinds import ROBUST
from steadygaze.network.baselines import GIVEN
from steadygaze.network.integrated import IntegratedGradients
from steadygaze.perturbation import BUILT_IN, AbstractPerturbation
from steadygaze.question.images.records import LoadedImage
from steadygaze.question.inconsistency import TopK
from steadygaze.question.problem import Problem
from steadygaze.search.base import CellMap, Options
from steadygaze.verdict.budget import Limits
from steadygaze.verdict.findings import Finding
from steadygaze.verdict.reading import Around


@dataclass(frozen=True)
class ImageOrigin:
    """Where an image comes from (SRC notation), its number there, the data set's label and its name.

    conversions: what was done to what is stored there, in order.
    """

    source: str | None = None
    index: int | None = None
    label: int | None = None
    class_name: str | None = None
    conversions: tuple[str, ...] = ()


def origin_of(loaded: LoadedImage, source: str | None, index: int | None, label: int | None) -> ImageOrigin:
    """As the image was loaded, but for what is given."""
    return ImageOrigin(
        loaded.source if source is None else source,
        loaded.index if index is None else index,
        loaded.label if label is None else label,
        loaded.class_name,
        loaded.conversions,
    )


def described(problem: Problem, origin: ImageOrigin) -> ProblemInfo:
    """The question as the answer states it: all that the answer depends on."""
    network, chain = problem.network, problem.perturbation
    prepared = network.original.preparation
    pixels = _sha256(problem.image)
    k = problem.inconsistency.k if isinstance(problem.inconsistency, TopK) else None
    return ProblemInfo(
        model=ModelInfo(
            written(network.path),
            network.sha256,
            network.graph.units,
            network.graph.parameters,
            network.output_note,
            network.sha256_as_read,
        ),
        image=ImageInfo(
            written(origin.source or "array:" + pixels[:16]),
            origin.index,
            tuple(problem.image.shape),
            problem.label,
            problem.predicted,
            origin.label,
            pixels,
            None if origin.class_name is None else written(origin.class_name),
            origin.conversions,
        ),
        perturbation=tuple(_link(link) for link in chain.links),
        clip=problem.clip,
        saliency=problem.saliency.name,
        inconsistency="none" if problem.class_alone else problem.inconsistency.name,
        threshold=0.0 if problem.class_alone else problem.threshold,
        must_hold=CLASS_ALONE if problem.class_alone else CLASS_AND_ATTENTION,
        channel_sum=problem.saliency.channel_sum,
        layer=problem.saliency.layer,
        baseline=_baseline(problem),
        baseline_source=_baseline_source(problem),
        layout=prepared.layout,
        mean=prepared.mean,
        std=prepared.std,
        output=network.output,
        k=k,
    )


def _baseline(problem: Problem) -> str | None:
    saliency = problem.saliency
    if not isinstance(saliency, IntegratedGradients):
        return None
    if saliency.baseline != GIVEN or saliency.start is None:
        return saliency.baseline
    return f"{GIVEN}:{_sha256(saliency.start.numpy())}"


def _baseline_source(problem: Problem) -> str | None:
    saliency = problem.saliency
    source = saliency.source if isinstance(saliency, IntegratedGradients) else None
    return None if source is None else written(source)


def _link(link: AbstractPerturbation) -> PerturbationInfo:
    """One perturbation; of one's own, what it keeps in its attributes counts as constants."""
    kept = vars(link)
    own = type(link) not in BUILT_IN
    attributes = {name: value for name, value in kept.items() if _is_plain(value) and name != "name"}
    constants = (attributes if own else {}) | dict(link.constants)
    return PerturbationInfo(
        link.name,
        {name: written(value) if isinstance(value, str) else value for name, value in constants.items()},
        tuple(ParameterInfo(p.name, p.unit, (p.low, p.high)) for p in link.parameters),
        {name: _sha256(value) for name, value in kept.items() if _is_array(value)},
        f"{type(link).__module__}.{type(link).__qualname__}" if own else None,
    )


def _is_plain(value: object) -> bool:
    """Whether it is a word, a finite number or a flag, or several of these."""
    if isinstance(value, tuple):
        return bool(value) and all(map(_is_plain, value))
    return isinstance(value, str | int) or (isinstance(value, float) and isfinite(value))


def _is_array(value: object) -> TypeGuard[np.ndarray]:
    """Whether it is an array of numbers."""
    return isinstance(value, np.ndarray) and value.dtype.kind in "biuf"


def _sha256(values: np.ndarray) -> str:
    """Of the numbers as float64, little-endian."""
    return hashlib.sha256(np.ascontiguousarray(values, dtype="<f8").tobytes()).hexdigest()


def regions_by_kind(problem: Problem, findings: Sequence[Finding], around: Around) -> dict[str, float]:
    """Regions by how much of each is robust, in the first map; visited are those of all searches.

    Where the robust part around 0 is known with its inside, so is how many regions it has a part in.
    """
    map_ = findings[0].map
    known = map_.region >= 0
    count = len(map_.pattern)
    good = np.bincount(map_.region[known & (map_.kind == ROBUST)], minlength=count) > 0
    bad = np.bincount(map_.region[known & (map_.kind != ROBUST)], minlength=count) > 0
    return {
        "visited": sum(finding.standing.regions for finding in findings),
        "wholly_robust": int((good & ~bad).sum()),
        "partly_robust": int((good & bad).sum()),
        "not_robust": int((~good & bad).sum()),
        **_around_origin(map_, around),
        "cells": map_.cells.count,
        "vertices": _distinct(map_.cells.names),
        "affine_pieces": len(problem.pieces) if problem.is_exact else 0,
        "hinges_per_region": problem.graph.units + problem.graph.windows,
        **{name: value for finding in findings for name, value in finding.standing.counts.items()},
    }


def _around_origin(map_: CellMap, around: Around) -> dict[str, float]:
    region = map_.region[around.cells]
    if around.origin is None or around.origin.interior != "examined" or (region < 0).any():
        return {}
    return {"around_origin": int(np.count_nonzero(np.bincount(region)))}


def _distinct(names: np.ndarray) -> int:
    """How many different names there are, in a quarter of the time that `np.unique` takes."""
    ordered = np.sort(names)
    return len(ordered[:1]) + int(np.count_nonzero(ordered[1:] != ordered[:-1]))


def asked_for(problem: Problem, options: Options, limits: Limits) -> dict[str, object]:
    """The settings of a run, by the names of the record."""
    return {
        "threads": options.threads,
        "memory_limit_gib": limits.memory,
        "time_limit_s": limits.seconds,
        "regions_limit": limits.regions,
        "device": str(problem.graph.device),
        "norm": options.norm,
        "prove_interior": options.examine,
        "reachable": options.reachable,
        "undecided": options.undecided,
        "handover": options.handover,
    }


@cache
def versions() -> dict[str, str]:
    """Versions of what the answer depends on."""
    packages = ("steadygaze", "torch", "numpy", "numba", "onnx", "shapely", "pillow")
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}
