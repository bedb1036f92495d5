"""The driver: the only loop, the budget, the checks, and the verdict."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba.core.event as numba_events
import numpy as np
import torch

from steadygaze import inconsistency as inconsistencies
from steadygaze.answer import Answer
from steadygaze.checks import audit, check_cover, find_witness
from steadygaze.digits import BUILTIN_MODELS, builtin_model
from steadygaze.errors import ModelError, SettingError
from steadygaze.images import as_image
from steadygaze.kinds import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST
from steadygaze.network import saliency as saliencies
from steadygaze.network.load import Network, load_network
from steadygaze.perturbation.base import AbstractPerturbation
from steadygaze.perturbation.chain import Chain
from steadygaze.perturbation.notation import chain_of
from steadygaze.posing import pose
from steadygaze.problem import Problem
from steadygaze.reading import around_origin, safe_scale, shares_of
from steadygaze.result import (
    Failure,
    ImageInfo,
    ModelInfo,
    ParameterInfo,
    PerturbationInfo,
    ProblemInfo,
    Result,
    Verdict,
)
from steadygaze.search.base import AbstractSearch, CellMap, Options
from steadygaze.search.sweep import Sweep

if TYPE_CHECKING:
    from torch import nn

METHODS = ("auto", "sweep", "bfs", "gbs", "nearest", "bound")
_SEARCHES: dict[str, Callable[[Problem, Options], AbstractSearch]] = {"sweep": Sweep}
# The map may take this share of the memory limit; joining and reading it takes about as much again twice.
_MAP_SHARE = 1 / 3


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        fraction: share of the box that is judged. robust_share: share judged robust. regions: visited so far.
        phase: "compiling", "searching" or "checking".
    """

    fraction: float
    regions: int
    robust_share: float
    phase: str


@dataclass(frozen=True)
class Limits:
    """When to stop with what is known: seconds, GiB, activation regions (None: no limit)."""

    seconds: float | None = None
    memory: float = 2.0
    regions: int | None = None

    def __post_init__(self) -> None:
        for name, value in (
            ("time limit", self.seconds),
            ("memory limit", self.memory),
            ("regions limit", self.regions),
        ):
            if value is not None and not value > 0:
                raise SettingError(f"the {name} is {value}; it must be above 0, or left out for no limit")


@dataclass(frozen=True)
class ImageOrigin:
    """Where an image comes from (SRC notation), its number there, and the data set's label for it."""

    source: str | None = None
    index: int | None = None
    label: int | None = None


def verify(
    model: nn.Module | str | Path,
    image: Any,
    perturbation: AbstractPerturbation | str | Sequence[str | AbstractPerturbation],
    *,
    label: int | None = None,
    saliency: str = "gradient",
    channel_sum: bool = False,
    inconsistency: str = "cosine",
    threshold: float = 0.3,
    method: str = "auto",
    clip: tuple[float, float] | None = (0.0, 1.0),
    layout: str = "chw",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    time_limit: float | None = None,
    memory_limit: float = 2.0,
    regions_limit: int | None = None,
    device: str = "cpu",
    audit: int = 0,
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    image_source: str | None = None,
    image_index: int | None = None,
    image_label: int | None = None,
) -> Answer:
    """Prove how far the image may change before the class, or the reason for it, changes.

    Args:
        model: a `torch.nn.Module`, a path to .onnx or .pt2, "module:callable", or a built-in name
            (digits-mlp, digits-cnn).
        image: ``(C, H, W)``, ``(H, W)`` or ``(H, W, C)`` with values in [0, 1]; NumPy or torch.
        perturbation: a perturbation, a chain of them (``a | b``), or specifications in words.
        label: the class that must hold; must be the predicted one, which is the default.
        saliency: gradient, abs-gradient or grad-cam; channel_sum adds the map up over the channels.
        inconsistency: cosine, l1, l2, linf or top-k. threshold: largest inconsistency that counts as robust.
        method: sweep, or auto. clip: legal range of pixels, None for none.
        layout: chw, hwc or flat, as the model wants it; mean, std: its normalisation, one number or one per
            channel.
        time_limit: seconds; memory_limit: GiB; regions_limit: regions. A stopped run is an answer with its
            shares.
        device: where the network's arithmetic runs, "cpu" or "cuda". threads: default all cores, at most 8.
        audit: number of random points at which the map is compared with the original model.
        progress: called now and then.
        image_source, image_index, image_label: where the image comes from and what the data set calls it, for
            the record.

    Raises:
        UsageError: something handed in cannot be used; the sentence says what to do.
        FidelityError: the imported network disagrees with the original.
        InternalCheckError: a self-check failed; there is no answer.
    """
    _check_method(method)
    limits = Limits(time_limit, memory_limit, regions_limit)
    pixels = as_image(image)
    chain = perturbation if isinstance(perturbation, Chain) else chain_of(perturbation)
    began = time.perf_counter()
    network = _network(model, pixels.shape, layout, mean, std, device)
    problem = pose(
        network,
        pixels,
        chain,
        label=label,
        saliency=saliencies.by_name(saliency, channel_sum=channel_sum),
        inconsistency=inconsistencies.by_name(inconsistency),
        threshold=threshold,
        clip=clip,
    )
    return solve(
        problem,
        method=method,
        limits=limits,
        threads=threads,
        audit_points=audit,
        progress=progress,
        origin=ImageOrigin(image_source, image_index, image_label),
        loading=time.perf_counter() - began,
    )


def _network(
    model: nn.Module | str | Path,
    shape: tuple[int, ...],
    layout: str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    device: str,
) -> Network:
    """The imported network, on its device; built-in ones are found by their names."""
    where = _device(device)
    builtin = isinstance(model, str) and model in BUILTIN_MODELS
    if isinstance(model, str) and not builtin and ":" not in model and not Path(model).suffix:
        raise ModelError(
            f"the network is {model!r}, which is no file of a known kind and no built-in; allowed are a "
            f".onnx or .pt2 file, 'module:callable' and {', '.join(BUILTIN_MODELS)}; give one of these"
        )
    channels, height, width = shape
    network = load_network(
        builtin_model(str(model)) if builtin else model,
        input_shape=(channels, height, width),
        layout=layout,
        mean=mean,
        std=std,
    )
    return replace(network, graph=network.graph.to(where), path=str(model) if builtin else network.path)


def solve(
    problem: Problem,
    *,
    method: str = "auto",
    limits: Limits | None = None,
    threads: int | None = None,
    audit_points: int = 0,
    progress: Callable[[Progress], None] | None = None,
    origin: ImageOrigin | None = None,
    loading: float = 0.0,
) -> Answer:
    """`verify` for a problem that is already posed; the arguments are those of `verify`."""
    _check_method(method)
    limits = limits or Limits()
    threads = _checked_count("number of threads", threads, 1, min(8, torch.get_num_threads()))
    audit_points = _checked_count("number of audited points", audit_points, 0, 0)
    tell = progress or (lambda _: None)
    began = time.perf_counter()
    with _one_thread_each(), _announced(tell):
        search = _SEARCHES["sweep"](problem, Options(int(limits.memory * 2**30), threads))
        stopped = _run(search, limits, tell)
        map_ = search.found()
    searched = time.perf_counter()
    standing = search.standing()
    tell(Progress(standing.finished, standing.regions, standing.robust, "checking"))
    check_cover(problem, map_)
    audited = audit(problem, map_, audit_points)
    witness = find_witness(problem, map_)
    around = around_origin(map_, problem.box, problem.tolerance)
    verdict, reason = _verdict(problem, map_, witness.failure if witness else None, stopped)
    result = Result(
        problem=_described(problem, origin or ImageOrigin()),
        method=search.name,
        claim=search.claim,
        verdict=verdict,
        reason=reason,
        shares=shares_of(map_),
        origin=around.origin,
        safe_scale=safe_scale(map_, problem.box),
        nearest_failure=witness.failure if witness else None,
        regions=_regions(problem, map_, standing.regions),
        timing={
            "load": loading,
            "search": searched - began,
            "check": time.perf_counter() - searched,
            "total": loading + time.perf_counter() - began,
            **{f"{phase} (all threads)": spent for phase, spent in standing.work.items()},
        },
        versions=_versions(),
        tolerance=vars(problem.tolerance),
        settings={
            "threads": threads,
            "memory_limit_gib": limits.memory,
            "time_limit_s": limits.seconds,
            "regions_limit": limits.regions,
            "device": str(problem.graph.device),
            "audited": audited,
            "stopped": stopped,
        },
    )
    return Answer(result, problem, map_, around)


def _run(search: AbstractSearch, limits: Limits, tell: Callable[[Progress], None]) -> str | None:
    """The loop. Returns why it stopped early, or None."""
    began = time.perf_counter()
    try:
        while search.pending():
            search.step()
            standing = search.standing()
            tell(Progress(standing.finished, standing.regions, standing.robust, "searching"))
            if limits.seconds is not None and time.perf_counter() - began > limits.seconds:
                return f"the time limit of {limits.seconds:g} s"
            if standing.bytes > limits.memory * 2**30 * _MAP_SHARE:
                return f"the memory limit of {limits.memory:g} GiB"
            if limits.regions is not None and standing.regions >= limits.regions:
                return f"the limit of {limits.regions} regions"
    except KeyboardInterrupt:
        return "an interrupt"
    finally:
        search.close()
    return None


def _verdict(
    problem: Problem, map_: CellMap, failure: Failure | None, stopped: str | None
) -> tuple[Verdict, str]:
    failing = ((map_.kind == CLASS_CHANGED) | (map_.kind == ATTENTION_CHANGED)).any()
    if failure is not None:
        early = f"; the run was ended by {stopped}, the rest of the box is undecided" if stopped else ""
        return Verdict.VIOLATED, f"a failing point was found and replays in the original model{early}"
    if failing:
        return (
            Verdict.UNKNOWN,
            "the map has failing cells, but in none of them does the original model fail in its own "
            "precision",
        )
    if stopped:
        return Verdict.UNKNOWN, f"no failing point was found before {stopped} ended the run"
    if (map_.kind != ROBUST).any():
        return (
            Verdict.UNKNOWN,
            "some cells lie within the numerical tolerance of the threshold or of the class boundary",
        )
    if map_.tight:
        return (
            Verdict.UNKNOWN,
            "no cell fails, but at a point the class gap vanishes within the numerical tolerance",
        )
    return (
        Verdict.ROBUST,
        "every activation region in the box keeps the class and the attention, and the regions cover the box",
    )


def _described(problem: Problem, origin: ImageOrigin) -> ProblemInfo:
    network, chain = problem.network, problem.perturbation
    predicted = int(problem.replay(np.zeros((1, len(problem.box)))).predicted[0])
    source = origin.source or "array:" + hashlib.sha256(problem.image.tobytes()).hexdigest()[:16]
    return ProblemInfo(
        model=ModelInfo(
            network.path, network.sha256, network.graph.units, network.graph.parameters, network.output_note
        ),
        image=ImageInfo(
            source, origin.index, tuple(problem.image.shape), problem.label, predicted, origin.label
        ),
        perturbation=tuple(
            PerturbationInfo(
                link.name,
                dict(link.constants),
                tuple(ParameterInfo(p.name, p.unit, (p.low, p.high)) for p in link.parameters),
            )
            for link in chain.links
        ),
        clip=problem.clip,
        saliency=problem.saliency.name,
        inconsistency=problem.inconsistency.name,
        threshold=problem.threshold,
        channel_sum=problem.saliency.channel_sum,
    )


def _regions(problem: Problem, map_: CellMap, visited: int) -> dict[str, int]:
    """Regions by how much of each is robust."""
    known = map_.region >= 0
    count = len(map_.pattern)
    good = np.bincount(map_.region[known & (map_.kind == ROBUST)], minlength=count) > 0
    bad = np.bincount(map_.region[known & (map_.kind != ROBUST)], minlength=count) > 0
    return {
        "visited": visited,
        "wholly_robust": int((good & ~bad).sum()),
        "partly_robust": int((good & bad).sum()),
        "not_robust": int((~good & bad).sum()),
        "cells": map_.cells.count,
        "vertices": len(np.unique(map_.cells.names)),
        "affine_pieces": len(problem.pieces),
    }


@cache
def _versions() -> dict[str, str]:
    packages = ("steadygaze", "torch", "numpy", "numba", "onnx", "shapely")
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def _check_method(method: str) -> None:
    if method not in METHODS:
        raise SettingError(f"there is no method {method!r}; allowed: {', '.join(METHODS)}")
    if method not in ("auto", *_SEARCHES):
        raise SettingError(
            f"method {method!r} is not part of this release; use sweep (or auto, which picks it)"
        )


def _checked_count(what: str, value: int | None, least: int, default: int) -> int:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise SettingError(f"the {what} is {value!r}; it must be a whole number of at least {least}")
    return value


def _device(device: str) -> str:
    if device not in ("cpu", "cuda"):
        raise SettingError(f"the device is {device!r}; allowed: cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingError("the device is cuda, but torch sees no CUDA device here; use --device cpu")
    return device


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """The search's own threads share the cores; torch must not start more inside each of them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _announced(tell: Callable[[Progress], None]) -> Iterator[None]:
    """Say so when kernels are compiled, which happens once on a machine: the code is kept on disk."""

    class Listener(numba_events.Listener):
        def on_start(self, event: numba_events.Event) -> None:
            tell(Progress(0.0, 0, 0.0, "compiling"))

        def on_end(self, event: numba_events.Event) -> None:
            pass

    with numba_events.install_listener("numba:compile", Listener()):
        yield
