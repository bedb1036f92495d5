"""Geometric questions beside the verifiers made for them: ``python -m benchmarks.geometric``.

The networks are those of ``geometric/`` in the shared models, trained by the authors of such verifiers; the
images the first ones of the data set's test file that the network classifies rightly. Each network is read,
and compared with its file, once for all images of a row, as the others do. Their figures were taken beside
this project on two cores: superDeepG (2025) and CGT's verifier (2023).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.__main__ import REPOSITORY
from steadygaze.network.reading.fidelity import check_fidelity
from steadygaze.network.reading.load import Network, load_network
from steadygaze.question.images import load_image
from steadygaze.verdict.answer import Answer
from steadygaze.verdict.driver import verify
from steadygaze.verdict.lone import LONE

# Images among which the rightly classified ones are sought.
_SOUGHT = 100
_CLAIMS = ("class", "attention")
_COLUMNS = ("question", "network", "once", "class alone", "with attention (0.3)", "range kept", "others")
#: Seconds that passed, and seconds of processor: on a busy machine the two lie far apart.
_Seconds = tuple[float, float]
_WIDTH = 150  # where the output is not a terminal
_CIFAR = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)}
_MNIST = {"mean": (0.1307,), "std": (0.3081,)}


@dataclass(frozen=True)
class Question:
    """A row: what is asked of which network, and what others needed, in words."""

    name: str
    network: str
    perturb: tuple[str, ...]
    others: str


QUESTIONS = (
    Question("rotate ±30°", "mnist-pgd-r30", ("rotate(degrees=-30..30)",), "superDeepG 2 of 2, 89 s"),
    Question("rotate ±30°", "mnist-cgt-r30", ("rotate(degrees=-30..30)",), "CGT 9 of 9, 1.3 s"),
    Question(
        "shear x ±0.02", "mnist-pgd-sh2r2sc2b2", ("shear(x=-0.02..0.02)",), "superDeepG 2 of 2, 12 s"
    ),
    Question(
        "scale ±0.02", "mnist-pgd-sh2r2sc2b2", ("scale(amount=-0.02..0.02)",), "superDeepG 2 of 2, 7 s"
    ),
    Question(
        "translate ±1 both, bilinear", "mnist-pgd-t2",
        ("translate(dx=-1..1, dy=-1..1, interpolation=bilinear)",), "superDeepG 1 of 1, 209 s",
    ),
    Question(
        "scale ±5 %, rotate ±5°, exposure ±5 %, brightness ±0.01", "mnist-cgt-sc5r5c5b",
        (
            "affine(scale=-0.05..0.05, degrees=-5..5)", "exposure(amount=-0.05..0.05)",
            "brightness(amount=-0.01..0.01)",
        ),
        "CGT > 250 s",
    ),
    Question("scale ±0.01", "cifar-pgd-sc1r1b1", ("scale(amount=-0.01..0.01)",), "superDeepG 0 of 1, 82 s"),
    Question("rotate ±10°", "cifar-pgd-r10", ("rotate(degrees=-10..10)",), "superDeepG > 150 s"),
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask all questions, print what came of them; 2 where the networks are absent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=REPOSITORY.parent / "shared", help="networks and data")
    parser.add_argument("--images", type=int, default=10, help="of each question (default 10)")
    parser.add_argument("--time-limit", type=float, default=60.0, help="seconds a case (default 60)")
    parser.add_argument("--claims", nargs="*", default=_CLAIMS, choices=_CLAIMS, help="what is asked")
    parser.add_argument("--only", nargs="*", default=[], help="networks whose name contains one of these")
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    models = options.shared.resolve() / "models/geometric"
    if not models.is_dir():
        console.print(f"There is no folder {models}: nothing is measured.")
        return 2
    table = Table(
        title=(
            "certified / refuted / open, seconds an image and of processor (medians); once: of processor, "
            "for reading and comparing the network; range kept: least and median; "
            f"load at first {os.getloadavg()[0]:.1f}"
        )
    )
    for column in _COLUMNS:
        table.add_column(column)
    for question in QUESTIONS:
        if options.only and not any(part in question.network for part in options.only):
            continue
        posed = _posed(question, options)
        cells = [
            _asked(posed, claim, options, console) if claim in options.claims else ("not asked", "-")
            for claim in _CLAIMS
        ]
        table.add_row(
            question.name, question.network, f"{posed.once:.1f} s", cells[0][0], cells[1][0], cells[1][1],
            question.others,
        )  # fmt: skip
    console.print(table)
    return 0


@dataclass(frozen=True)
class _Posed:
    """A row with its network read and compared with its file, the images, and what that took once."""

    question: Question
    network: Network
    source: str
    once: float


def _posed(question: Question, options: argparse.Namespace) -> _Posed:
    worked = time.process_time()
    shared, cifar = options.shared.resolve(), question.network.startswith("cifar")
    source = f"npz:{shared}/data/cifar10/cifar10_test_exact.npz" if cifar else f"idx:{shared}/data/mnist"
    mean, std = (_CIFAR if cifar else _MNIST).values()
    shape = (3, 32, 32) if cifar else (1, 28, 28)
    model = shared / f"models/geometric/{question.network}.onnx"
    with LONE:  # as a question has it: threads that meet after each operation wait for one another
        network = load_network(model, input_shape=shape, mean=mean, std=std)
        check_fidelity(network, load_image(f"{source}:0").image[None])
    return _Posed(question, network, source, time.process_time() - worked)


def _asked(posed: _Posed, claim: str, options: argparse.Namespace, console: Console) -> tuple[str, str]:
    verdicts, seconds, scales = {"robust": 0, "violated": 0, "unknown": 0}, list[_Seconds](), list[float]()
    for answer, spent in _answers(posed, claim, options):
        verdicts[answer.verdict.value] += 1
        seconds.append(spent)
        scales.append(answer.safe_scale or 0.0)
        told = f"{answer.result.headline()} {spent[0]:.1f} s, {spent[1]:.1f} s of processor"
        console.print(f"{posed.question.network}, {claim}: {told}", style="dim")
    if not seconds:
        return f"none of {_SOUGHT} images is classified rightly", "-"
    counts = " / ".join(str(count) for count in verdicts.values())
    passed, computed = (median(part) for part in zip(*seconds, strict=True))
    return f"{counts}, {passed:.1f} s, {computed:.1f} s", f"{min(scales):.0%}, {median(scales):.0%}"


def _answers(posed: _Posed, claim: str, options: argparse.Namespace) -> Iterator[tuple[Answer, _Seconds]]:
    """The answers of the first images that the network classifies rightly, with seconds of each."""
    found = 0
    for number in range(_SOUGHT):
        image = load_image(f"{posed.source}:{number}")
        logits = posed.network.graph.forward(torch.from_numpy(image.image)[None])
        if int(logits.argmax()) != image.label:
            continue
        began, worked = time.perf_counter(), time.process_time()
        answer = verify(
            posed.network, image, posed.question.perturb, claim=claim, time_limit=options.time_limit
        )
        yield answer, (time.perf_counter() - began, time.process_time() - worked)
        found += 1
        if found == options.images:
            return


if __name__ == "__main__":
    raise SystemExit(main())
