"""The driver: the only loop, the budget, the checks, and the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadygaze.answer.result import Result
from steadygaze.deadline import NEVER, Deadline, Expired
from steadygaze.errors import SettingError
from steadygaze.geometry.ahead import EVERY, WALKING
from steadygaze.network.reading.from_torch.surroundings import on_processor
from steadygaze.network.reading.load import Network
from steadygaze.perturbation.chain import AbstractPerturbation, Chain
from steadygaze.perturbation.notation import chain_of
from steadygaze.question.claims import compared
from steadygaze.question.fitting import fitted
from steadygaze.question.framing import framing_of
from steadygaze.question.images import LoadedImage
from steadygaze.question.images.channels import as_many_channels
from steadygaze.question.images.loading import baseline_of, image_from
from steadygaze.question.lengths import in_pixels
from steadygaze.question.limits import Limits, in_time
from steadygaze.question.networks import network_of
from steadygaze.question.posing import pose
from steadygaze.question.problem import Problem
from steadygaze.question.timing import problem_until, saliency_until
from steadygaze.search.base import AbstractSearch, Options, Standing
from steadygaze.verdict.answer import Answer
from steadygaze.verdict.budget import INTERRUPT, Budget, Progress, kept_for_reading
from steadygaze.verdict.engines import (
    MOST_CORNERED,
    auto_bounds,
    check_method,
    check_parameters,
    search_by_name,
    searches_for,
)
from steadygaze.verdict.expecting import expectation
from steadygaze.verdict.findings import (
    Finding,
    Stopped,
    claim_of,
    last_of,
    stopped_of,
    verdict_of,
)
from steadygaze.verdict.held import Claims, Held, budget_of, hold
from steadygaze.verdict.lone import LONE, shared_for
from steadygaze.verdict.notes import notes_of
from steadygaze.verdict.reading import shares_of
from steadygaze.verdict.recording import (
    ImageOrigin,
    asked_for,
    described,
    origin_of,
    regions_by_kind,
    versions,
)
from steadygaze.verdict.reviewing import reviewed
from steadygaze.verdict.showing import check_progress, shown
from steadygaze.verdict.surroundings import announced, interrupts, uncounted, unrecorded

if TYPE_CHECKING:
    from torch import nn


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
    claim: str = "attention",
    saliency: str = "gradient",
    channel_sum: bool = False,
    layer: str | None = None,
    baseline: Any = "black",
    inconsistency: str = "cosine",
    threshold: float = 0.3,
    method: str = "auto",
    clip: tuple[float, float] | None = (0.0, 1.0),
    layout: str = "auto",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    output: str | int | None = None,
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
    progress: Callable[[Progress], None] | str | None = None,
    spent: float = 0.0,
    image_source: str | None = None,
    image_index: int | None = None,
    image_label: int | None = None,
) -> Answer:
    """Prove how far the image may change before the class, or the reason for it, changes.

    Args:
        model: a `torch.nn.Module`, which is left as it is; the path of an .onnx or .pt2 file;
            `"module:callable"`; a built-in, `"digits-mlp"` or `"digits-cnn"`; or a network that was
            imported before, such as `answer.problem.network`.
        image: `(H, W)`, `(C, H, W)` or `(H, W, C)`, values in [0, 1] or uint8, NumPy or torch; a picture of
            Pillow's; or what `load_image` takes or gives.
        perturbation: a perturbation, a chain of them (`a | b`), or specifications such as
            `"brightness(amount=-0.3..0.3)"`, one or several.
        resize: how large the image is made first, in pixels: the shorter edge, or height and width.
        crop: what of it is kept then: height and width of the centre, or left, top, width and height.
        resampling: `"bilinear"`, `"bicubic"`, `"nearest"` or `"lanczos"`.
        background: what shows through where a picture is transparent, in [0, 1].
        label: the class that must hold; the predicted one, which is the default.
        claim: what must hold: `"attention"`, the class and the reason for it, or `"class"` alone: then no map
            is made, and nothing may be said of saliency, inconsistency and threshold.
        saliency: `"gradient"`, `"abs-gradient"`, `"gradient-x-input"` or `"grad-cam"`; for bounds also
            `"softmax-gradient"` or `"integrated-gradients"`.
        channel_sum: whether maps are summed over the channels.
        layer: with grad-cam, the name of the convolution to look at; by default the last.
        baseline: with integrated-gradients, where the path to the image begins: `"black"`, `"mean"` (of each
            channel of the image), or an image like the one to verify, in any form that `image` takes.
        inconsistency: `"cosine"`, `"l1"`, `"l2"`, `"linf"` or `"top-k"`.
        threshold: δ, the largest inconsistency that counts as the same attention, at least 0.
        method: `"sweep"`, `"bfs"`, `"gbs"`, `"nearest"`, `"bound"`, or `"auto"`, which picks.
        clip: the legal range of pixels, to which changed images are clipped; None for no clip.
        layout: how the model takes its images: `"chw"`, `"hwc"`, `"flat"`, or `"auto"`, as its declared
            input has it (colours are flattened only when asked for; `"chw"` where none is declared).
        mean: subtracted from pixels in [0, 1] before the model: one number, or one for each channel.
        std: what pixels are then divided by, likewise.
        output: which of several outputs holds the logits: its name, or its number from 0 on; of an ONNX file
            any value inside it has a name. By default the only one, or the one named `logits`.
        time_limit: seconds, loading and those `spent` before the call included, those in which kernels are
            compiled, once on a machine, not. Stopped by a limit, an answer tells what is known.
        memory_limit: GiB, for the search.
        regions_limit: activation regions to visit.
        device: `"cpu"` or `"cuda"`.
        audit: number of random points at which map and original are compared beside those of every answer;
            one mismatch is an error.
        prove_interior: with gbs, whether the inside of the boundary is examined too.
        reachable: with bfs, whether to stay within what is reachable from 0 through robust parts.
        norm: with nearest, `"linf"` or `"l2"`: how distance is measured, in half-widths of the box.
        undecided: with bound, the share of the box that may be left so once a failure is known; by default
            0 where exact engines can take over, else 0.01.
        handover: with bound, whether exact engines take over where few units change their piece.
        threads: to compute with; by default all of torch's, at most 8.
        progress: a function that is called with `Progress` now and then; `"auto"` for a bar in a notebook
            or on a terminal.
        spent: seconds of the time limit that were over before the call, such as with starting the program.
        image_source: where the image comes from, for the record.
        image_index: its number in a data set, for the record.
        image_label: what the data set calls it, for the record.

    Returns:
        The answer: verdict, shares, ranges, witness; drawn, saved and asked further from there.

    Raises:
        UsageError: if something handed in cannot be used: a ModelError, ImageError, PerturbationError,
            NotPiecewiseAffine or SettingError, whose sentence says what to do.
        FidelityError: if the imported network disagrees with the original.
        InternalCheckError: if a check of the search on itself failed; there is no answer then.
    """
    began = time.perf_counter()
    limits = Limits(time_limit, memory_limit, regions_limit, spent)
    options = Options(0, 1, norm, prove_interior, reachable, undecided, handover)
    check_method(method, options)
    check_progress(progress)
    framing = framing_of(resize, crop, resampling, background)
    begins = baseline_of(baseline, framing)
    maps = partial(
        compared, claim, saliency=saliency, channel_sum=channel_sum, layer=layer, inconsistency=inconsistency,
        threshold=threshold,
    )  # fmt: skip
    maps(baseline=begins)  # what is wrong with it is said before a network is read
    loaded = image_from(image, framing)
    with LONE:
        given = in_pixels(perturbation, loaded.image.shape)
        chain = given if isinstance(given, Chain) else chain_of(given)
        until = partial(limits.late, began=began)
        read = partial(
            network_of, model, layout=layout, mean=mean, std=std, output=output, device=device, late=until
        )
        with in_time(limits):
            network, loaded = fitted(loaded, read)
        begins = as_many_channels(begins, loaded) if isinstance(begins, LoadedImage) else begins
        asked = maps(baseline=begins)._asdict()
        deadline = limits.deadline(time.perf_counter() - began)
        asked["saliency"] = saliency_until(asked["saliency"], deadline)
        alone, late = shared_for(network.graph, threads), until(network.graph.effort)
        with unrecorded(chain), in_time(limits), alone(), uncounted(late, deadline) as (compiling, *ends):
            late, deadline = ends
            late.ask()
            problem = pose(
                network, loaded.image, chain, label=label, clip=clip, deadline=deadline, late=late, **asked
            )
        problem = problem_until(problem, NEVER)
    return solve(
        problem, method=method, limits=limits, threads=threads, audit_points=audit, options=options,
        progress=progress, origin=origin_of(loaded, image_source, image_index, image_label),
        loading=time.perf_counter() - began - compiling.seconds,
    )  # fmt: skip


@on_processor()
def solve(
    problem: Problem,
    *,
    method: str = "auto",
    limits: Limits | None = None,
    threads: int | None = None,
    audit_points: int = 0,
    options: Options | None = None,
    progress: Callable[[Progress], None] | str | None = None,
    origin: ImageOrigin | None = None,
    loading: float = 0.0,
) -> Answer:
    """`verify` for a problem that is already posed, such as the `problem` of another answer.

    Args:
        problem: the question.
        method: as in `verify`.
        limits: when to stop; by default after 2 GiB.
        threads: as in `verify`.
        audit_points: `audit` of `verify`.
        options: of the searches; its memory and threads are set by `limits` and `threads`.
        progress: as in `verify`.
        origin: where the image comes from, for the record.
        loading: seconds that have been spent already, which count for a limit of time.

    Returns:
        The answer.

    Raises:
        UsageError: if a method cannot take the problem, or a setting is not allowed.
        InternalCheckError: if a check of the search on itself failed; there is no answer then.
    """
    limits = limits or Limits()
    threads = _checked_count("number of threads", threads, 1, min(8, LONE.usual))
    audit_points = _checked_count("number of audited points", audit_points, 0, 0)
    options = replace(options or Options(), memory=int(limits.memory * 2**30), threads=threads)
    check_method(method, options)
    check_parameters(method, problem, options)
    with shown(progress) as tell, LONE, unrecorded(problem.perturbation):
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
    with interrupts() as asked:
        deadline = replace(limits.deadline(loading, problem.graph.effort), halted=asked)
        kept = kept_for_reading(problem, deadline, limits.allowance)
        kernels = EVERY if method in ("auto", "sweep", "nearest") else WALKING
        with announced(tell, kernels, deadline.later(-kept.seconds)) as compiling:
            deadline = compiling.deadline
            budget = Budget(limits, deadline, limits.regions)
            findings = _searched(problem_until(problem, deadline), method, options, budget, tell)
        searched = time.perf_counter()
        main, standing, stopped = findings[0], last_of(findings).standing, stopped_of(findings)
        tell(Progress(standing.finished, standing.regions, standing.robust, "checking", standing.radius))
        # One interrupt ends what is in work: the search, or, after it, the reading.
        late = (
            Deadline.after(limits.allowance) if asked() else deadline.later(kept.seconds + limits.allowance)
        )
        timed = problem_until(problem, late)
        alone = shared_for(problem.graph, options.threads)
        with alone():
            review = reviewed(timed, findings, options.norm, audit_points, late)
    around, scale, radius = review.around, review.scale, review.radius
    failure = review.witness.failure if review.witness else None
    verdict, reason = verdict_of(problem, findings, failure)
    if late.passed():
        reason += _unread(stopped or budget.out_of_time)
    claims = Claims(scale, around.origin, radius, failure)
    left, over = deadline.later(kept.seconds).left, deadline.later(kept.seconds).passed()
    with alone():
        maps, seconds = [finding.map for finding in findings], budget_of(searched - began)
        held = hold(timed, maps, claims, seconds, review.ahead, kept.held(left), over)
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
            **({"before the call": limits.spent} if limits.spent else {}),
            **({"compiling": compiling.seconds} if compiling.seconds else {}),
            "total": loading + time.perf_counter() - began,
            **_by_phase(findings),
        },
        versions=versions(),
        notes=(
            *notes_of(problem, failure, held.by_rounding, held.there),
            *expectation(problem, findings, scale, failure, limits.spent + loading),
        ),
        tolerance=vars(problem.tolerance),
        settings={
            **asked_for(problem, options, limits),
            **_checked(review.audited, held),
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
    findings: list[Finding] = []
    for name, share in _searches(problem, budget.deadline, options.threads):
        if findings and (budget.deadline.passed() or findings[-1].whole):
            break
        left = budget.less(sum(finding.standing.regions for finding in findings))
        asked = replace(options, norm="linf") if name == "sweep" else options
        found = _found(name, problem, asked, left.part(share), tell)
        findings.append(replace(found, turn=len(findings)))
        if name == "sweep" and (findings[-1].complete or findings[-1].stopped in (None, INTERRUPT)):
            break
    return sorted(findings, key=_least_known)


def _searches(problem: Problem, deadline: Deadline, threads: int) -> tuple[tuple[str, float], ...]:
    """`searches_for`; where the time is over before it is known which, one that will find nothing."""
    try:
        return searches_for(problem, deadline, threads)
    except Expired:
        return (("nearest", 1.0),)


def _least_known(finding: Finding) -> tuple[bool, float]:
    """What to sort by so that the map that tells most of the box comes first; a boundary tells no inside."""
    return not finding.complete, -finding.standing.finished * (finding.claim != "outer boundary")


def _found(
    name: str, problem: Problem, options: Options, budget: Budget, tell: Callable[[Progress], None]
) -> Finding:
    alone = shared_for(problem.graph, options.threads)
    search = search_by_name(name, problem, replace(options, deadline=budget.deadline, alone=alone))
    began, way = time.perf_counter(), list[tuple[float, float]]()

    def note(now: Standing) -> None:
        far = now.radius if now.reached is None else now.reached
        if far and (not way or far > way[-1][1]):
            way.append((time.perf_counter() - began, far))

    stopped = _run(search, budget, tell, note)
    seconds, map_, enclosed = time.perf_counter() - began, search.found(), search.enclosed()
    return Finding(
        search.name, search.claim, map_, enclosed, search.standing(), stopped, tuple(way), seconds
    )  # fmt: skip


def _checked(audited: int, held: Held) -> dict[str, int]:
    """How many points were looked at, for the record."""
    return {"audited": audited, "held_points": held.agreeing, "held_points_too_close": held.close}


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


def _run(
    search: AbstractSearch,
    budget: Budget,
    tell: Callable[[Progress], None],
    note: Callable[[Standing], None],
) -> Stopped | None:
    """The loop. Returns why it stopped early, or None."""
    try:
        while search.pending():
            search.step()
            now = search.standing()
            note(now)
            try:
                tell(Progress(now.finished, now.regions, now.robust, "searching", now.radius))
            except KeyboardInterrupt:  # between steps the search is whole, within one it is not
                return INTERRUPT
            stopped = budget.exceeded(now)
            if stopped:
                return stopped
    except Expired:
        return budget.out_of_time
    finally:
        search.close()
    return None


def _checked_count(what: str, value: int | None, least: int, default: int) -> int:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise SettingError(f"the {what} is {value!r}; it must be a whole number of at least {least}")
    return value
