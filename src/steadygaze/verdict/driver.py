"""The driver: the only loop, the budget, the checks, and the verdict."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba.core.event as numba_events
import torch

from steadygaze.answer.result import Result
from steadygaze.deadline import Deadline, Expired
from steadygaze.errors import SettingError
from steadygaze.geometry.ahead import EVERY, WALKING, compiled_beside
from steadygaze.network import saliency as saliencies
from steadygaze.network.reading.load import Network
from steadygaze.network.reading.torch_surroundings import on_processor
from steadygaze.perturbation.chain import AbstractPerturbation, Chain
from steadygaze.perturbation.notation import chain_of
from steadygaze.question import inconsistency as inconsistencies
from steadygaze.question.fitting import fitted
from steadygaze.question.framing import framing_of
from steadygaze.question.images.loading import image_from
from steadygaze.question.lengths import in_pixels
from steadygaze.question.limits import Limits
from steadygaze.question.networks import network_of
from steadygaze.question.posing import pose
from steadygaze.question.problem import Problem
from steadygaze.search.base import AbstractSearch, Options
from steadygaze.verdict.answer import Answer
from steadygaze.verdict.budget import INTERRUPT, Budget, Progress
from steadygaze.verdict.checks import audit, check_cover
from steadygaze.verdict.engines import (
    MOST_CORNERED,
    auto_bounds,
    check_method,
    check_parameters,
    search_by_name,
)
from steadygaze.verdict.findings import (
    Finding,
    Stopped,
    around_of,
    claim_of,
    nearest_witness,
    radius_of,
    scale_of,
    verdict_of,
)
from steadygaze.verdict.held import Claims, budget_of, hold
from steadygaze.verdict.reading import shares_of
from steadygaze.verdict.recording import ImageOrigin, described, origin_of, regions_by_kind, versions

if TYPE_CHECKING:
    from torch import nn

# From so many parameters on, auto lets bounds prune for the exact engines.
_MANY = 3


@on_processor()
def verify(
    model: nn.Module | str | Path | Network,
    image: Any,
    perturbation: AbstractPerturbation | str | Sequence[str | AbstractPerturbation],
    *,
    resize: int | str | Sequence[int] | None = None,
    crop: int | str | Sequence[int] | None = None,
    resampling: str = "bilinear",
    background: float | Sequence[float] = (1.0,),
    label: int | None = None,
    saliency: str = "gradient",
    channel_sum: bool = False,
    layer: str | None = None,
    inconsistency: str = "cosine",
    threshold: float = 0.3,
    method: str = "auto",
    clip: tuple[float, float] | None = (0.0, 1.0),
    layout: str = "chw",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    output: str | None = None,
    time_limit: float | None = None,
    memory_limit: float = 2.0,
    regions_limit: int | None = None,
    device: str = "cpu",
    audit: int = 0,
    prove_interior: bool = False,
    reachable: bool = False,
    norm: str = "linf",
    undecided: float | None = None,
    handover: bool = True,
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    image_source: str | None = None,
    image_index: int | None = None,
    image_label: int | None = None,
) -> Answer:
    """Prove how far the image may change before the class, or the reason for it, changes.

    Args:
        model: a `torch.nn.Module`, .onnx or .pt2, "module:callable", a built-in, or `network_of` one of them.
        image: ``(C, H, W)``, ``(H, W)`` or ``(H, W, C)`` with values in [0, 1], NumPy or torch; or a picture
            of Pillow's, or what `load_image` takes or gives.
        resize, crop, resampling, background: what is done to the image first, see `Framing`.
        perturbation: a perturbation, a chain of them (``a | b``), or specifications in words.
        label: the class that must hold; must be the predicted one, which is the default.
        saliency: gradient, abs-gradient, gradient-x-input, softmax-gradient or grad-cam; channel_sum sums it;
            layer names the convolution that grad-cam looks at, by default the last one.
        inconsistency: cosine, l1, l2, linf or top-k. threshold: largest inconsistency that counts as robust.
        method: sweep, bfs, gbs, nearest, bound, or auto, which picks. clip: legal range of pixels or None.
        layout: chw, hwc or flat; mean, std: the model's normalisation; output: the ONNX value of its logits.
        time_limit: seconds, loading included; memory_limit: GiB; regions_limit. A stopped run is an answer.
        device: "cpu" or "cuda". threads: default all, at most 8. audit: points to compare map and model at.
        prove_interior: with gbs, examine the inside too. reachable: with bfs, stay within what is reachable
            from 0 through robust parts. norm: with nearest, "linf" or "l2", in half-widths of the box.
        undecided: with bound, the share of the box that may be left so once a failure is known; by default
            none where exact engines can take over, else 0.01. handover: with bound, whether they do.
        progress: called now and then. image_source, image_index, image_label: for the record.
    Raises UsageError where something handed in cannot be used, FidelityError where the imported network
    disagrees with the original, InternalCheckError where a self-check failed.
    """
    began = time.perf_counter()
    limits = Limits(time_limit, memory_limit, regions_limit)
    options = Options(0, 1, norm, prove_interior, reachable, undecided, handover)
    check_method(method, options)
    loaded = image_from(image, framing_of(resize, crop, resampling, background))
    with _LONE:
        chain = _chain(in_pixels(perturbation, loaded.image.shape))
        read = partial(network_of, model, layout=layout, mean=mean, std=std, output=output, device=device)
        network, loaded = fitted(loaded, read)
        problem = pose(
            network, loaded.image, chain, label=label, threshold=threshold, clip=clip,
            saliency=saliencies.by_name(saliency, channel_sum, layer),
            inconsistency=inconsistencies.by_name(inconsistency),
        )  # fmt: skip
    return solve(
        problem, method=method, limits=limits, threads=threads, audit_points=audit, options=options,
        progress=progress, origin=origin_of(loaded, image_source, image_index, image_label),
        loading=time.perf_counter() - began,
    )  # fmt: skip


def _chain(given: AbstractPerturbation | str | Sequence[str | AbstractPerturbation]) -> Chain:
    """A chain as it is; of anything else the one that it makes."""
    return given if isinstance(given, Chain) else chain_of(given)


@on_processor()
def solve(
    problem: Problem,
    *,
    method: str = "auto",
    limits: Limits | None = None,
    threads: int | None = None,
    audit_points: int = 0,
    options: Options | None = None,
    progress: Callable[[Progress], None] | None = None,
    origin: ImageOrigin | None = None,
    loading: float = 0.0,
) -> Answer:
    """`verify` for a problem that is already posed.

    The arguments are those of `verify`; of `options` memory and threads are set by `limits` and `threads`.
    """
    limits = limits or Limits()
    threads = _checked_count("number of threads", threads, 1, min(8, _LONE.usual))
    audit_points = _checked_count("number of audited points", audit_points, 0, 0)
    options = replace(options or Options(), memory=int(limits.memory * 2**30), threads=threads)
    check_method(method, options)
    check_parameters(method, problem, options)
    tell = progress or (lambda _: None)
    with _LONE:
        return _solved(problem, method, options, limits, audit_points, tell, origin or ImageOrigin(), loading)


def _solved(
    problem: Problem,
    method: str,
    options: Options,
    limits: Limits,
    audit_points: int,
    tell: Callable[[Progress], None],
    origin: ImageOrigin,
    loading: float,
) -> Answer:
    """Search, check, and make the answer."""
    began = time.perf_counter()
    with _interrupts() as asked:
        deadline = replace(Deadline.after(limits.seconds, loading), halted=asked)
        budget = Budget(limits, deadline, limits.regions)
        with _announced(tell, EVERY if method in ("auto", "sweep", "nearest") else WALKING):
            findings = _searched(problem, method, options, budget, tell)
        searched = time.perf_counter()
        main, standing, stopped = findings[0], findings[-1].standing, findings[-1].stopped
        tell(Progress(standing.finished, standing.regions, standing.robust, "checking", standing.radius))
        # One interrupt ends what is in work: the search, or, after it, the reading.
        late = Deadline.after(limits.allowance) if asked() else deadline.later(limits.allowance)
        for finding in findings:
            check_cover(problem, finding.map, late)
        audited = audit(problem, main.map, audit_points, late)
        witness = nearest_witness(problem, findings, options.norm, late)
        around = around_of(problem, findings, late)
        scale = scale_of(findings, problem.box, late)
    failure = witness.failure if witness else None
    verdict, reason = verdict_of(problem, findings, failure)
    if late.passed():
        reason += _unread(stopped or budget.out_of_time)
    radius = radius_of(findings, problem.box, options.norm)
    held = hold(
        problem,
        [finding.map for finding in findings],
        Claims(scale, around.origin, radius, failure),
        budget_of(searched - began),
    )
    result = Result(
        problem=described(problem, origin),
        method=" + ".join(finding.method for finding in findings),
        claim=claim_of(findings),
        verdict=verdict,
        reason=reason,
        shares=shares_of(main.map),
        origin=around.origin,
        safe_scale=scale,
        nearest_failure=failure,
        radius=radius,
        regions=regions_by_kind(problem, findings, around),
        timing={
            "load": loading,
            "search": searched - began,
            "check": time.perf_counter() - searched,
            "held against the network": held.seconds,
            "total": loading + time.perf_counter() - began,
            **_by_phase(findings),
        },
        versions=versions(),
        tolerance=vars(problem.tolerance),
        settings={
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
            "audited": audited,
            "held_points": held.agreeing,
            "held_points_too_close": held.close,
            "stopped": stopped.words if stopped else None,
            "stopped_by": stopped.by if stopped else None,
        },
    )
    return Answer(result, problem, main.map, around)


def _searched(
    problem: Problem, method: str, options: Options, budget: Budget, tell: Callable[[Progress], None]
) -> list[Finding]:
    """What the search finds, first what the answer's map is; with auto, what others add to the sweep's."""
    if method == "auto" and auto_bounds(problem):
        method = "bound"
    if method == "auto" and len(problem.box) > MOST_CORNERED:
        method = "nearest"
    if method != "auto":
        return [_found(method, problem, options, budget, tell)]
    findings = [_found("sweep", problem, replace(options, norm="linf"), budget.part(0.5), tell)]
    if findings[0].stopped in (None, INTERRUPT):
        return findings
    # Bounds pay where there are many regions to a box: with three and more parameters.
    others = [("bound", 0.5)] if len(problem.box) >= _MANY else []
    for name, share in (*others, ("nearest", 0.5), ("gbs", 1.0)):
        if budget.deadline.passed() or findings[-1].whole:
            break
        left = budget.less(sum(finding.standing.regions for finding in findings))
        findings.append(_found(name, problem, options, left.part(share), tell))
    return sorted(findings, key=lambda finding: -finding.standing.finished * (finding.claim == "whole box"))


def _found(
    name: str, problem: Problem, options: Options, budget: Budget, tell: Callable[[Progress], None]
) -> Finding:
    search = search_by_name(name, problem, replace(options, deadline=budget.deadline))
    stopped = _run(search, budget, tell)
    map_, enclosed = search.found(), search.enclosed()
    return Finding(search.name, search.claim, map_, enclosed, search.standing(), stopped)


def _unread(stopped: Stopped) -> str:
    """The end of the reason where what was found could not be read to its end."""
    return (
        f"; {stopped.words} left no time to read all of what was found, so that the robust part "
        "around 0, the safe scale and the nearest failure are given as far as they were read"
    )


def _by_phase(findings: Sequence[Finding]) -> dict[str, float]:
    """Seconds of work by phase, of all searches and threads."""
    spent: dict[str, float] = {}
    for finding in findings:
        for phase, seconds in finding.standing.work.items():
            spent[f"{phase} (all threads)"] = spent.get(f"{phase} (all threads)", 0.0) + seconds
    return spent


def _run(search: AbstractSearch, budget: Budget, tell: Callable[[Progress], None]) -> Stopped | None:
    """The loop. Returns why it stopped early, or None."""
    try:
        while search.pending():
            search.step()
            now = search.standing()
            tell(Progress(now.finished, now.regions, now.robust, "searching", now.radius))
            stopped = budget.exceeded(now)
            if stopped:
                return stopped
    except Expired:
        return budget.out_of_time
    except KeyboardInterrupt:
        return INTERRUPT
    finally:
        search.close()
    return None


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Ctrl-C is heeded where the time is asked, which leaves the search whole; a second one at once."""
    asked = False

    def note(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    if threading.current_thread() is not threading.main_thread():  # only it is told of signals
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.default_int_handler)


def _checked_count(what: str, value: int | None, least: int, default: int) -> int:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise SettingError(f"the {what} is {value!r}; it must be a whole number of at least {least}")
    return value


class _Lone:
    """Has torch use one thread for each operation while any question is asked, from whichever thread.

    The search's own threads share the cores; torch must not start more inside each of them. What else is
    evaluated, in loading and checking, is small: where another process has one of the cores, threads that
    meet after each operation take ten to forty times as long as one alone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asking, self._before = 0, 1

    def __enter__(self) -> None:
        with self._lock:
            if not self._asking:
                self._before = torch.get_num_threads()
            self._asking += 1
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._asking -= 1
            if not self._asking:
                torch.set_num_threads(self._before)

    @property
    def usual(self) -> int:
        """How many threads torch has where nothing is asked."""
        with self._lock:
            return self._before if self._asking else torch.get_num_threads()


# The number of torch's threads is the process's, and so is who has changed it.
_LONE = _Lone()


@contextmanager
def _announced(tell: Callable[[Progress], None], kernels: str) -> Iterator[None]:
    """Say so when kernels are compiled, which happens once on a machine: the code is kept on disk."""
    with compiled_beside(kernels) as begin:

        class Listener(numba_events.Listener):
            def on_start(self, event: numba_events.Event) -> None:
                tell(Progress(0.0, 0, 0.0, "compiling"))
                begin()

            def on_end(self, event: numba_events.Event) -> None:
                pass

        with numba_events.install_listener("numba:compile", Listener()):
            yield
