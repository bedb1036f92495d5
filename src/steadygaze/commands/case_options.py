"""The options of a case on the command line; their defaults are kept in `Case`."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import click

from steadygaze.question.case import Case

Command = Callable[..., Any]
Added = Callable[[Command], Command]


def options_of_a_case(command: Command) -> Command:
    """The command with all options of a case."""
    return reduce(lambda wrapped, add: add(wrapped), reversed([*_asked(), *_sought()]), command)


def _option(name: str, metavar: str, text: str) -> Added:
    default = getattr(Case, name.lstrip("-").replace("-", "_"), None)
    return click.option(name, metavar=metavar, help=text if default is None else f"{text}  [{default}]")


def _asked() -> list[Added]:
    """What is asked: image, perturbation, and what must hold."""
    return [
        _option("--image", "SRC", "A picture, digits:7, idx:FOLDER:17, npz:FILE:17 or FILE.npy."),
        _option("--resize", "N|HxW", "Resize the image first; N is its shorter edge."),
        _option("--crop", "HxW|L,T,W,H", "Then crop it: the centre, or by left, top, width and height."),
        _option("--resampling", "NAME", "bilinear, bicubic, nearest or lanczos, of Pillow."),
        click.option(
            "--background", metavar="V[,V,V]", help="What shows through transparency.  [1, which is white]"
        ),
        click.option(
            "--perturb", metavar="SPEC", multiple=True,
            help="Such as 'brightness(amount=-0.3..0.3)'; repeat for a chain.",
        ),
        _option("--preset", "NAME", "Perturbations under a name; `steadygaze campaign presets` lists them."),
        _option("--label", "N", "The class to hold.  [the predicted one]"),
        _option(
            "--claim", "attention|class",
            "What must hold: the class and the reason for it, or the class alone; then no map is made.",
        ),
        _option(
            "--saliency", "NAME",
            "gradient, abs-gradient, gradient-x-input or grad-cam; with bound also softmax-gradient or "
            "integrated-gradients.",
        ),
        click.option("--channel-sum/--no-channel-sum", default=None, help="Sum maps over the channels."),
        _option("--layer", "NAME", "With grad-cam: the convolution to look at.  [the last one]"),
        _option(
            "--baseline", "black|mean|SRC",
            "With integrated-gradients: where the path to the image begins, SRC as for --image.",
        ),
        _option("--inconsistency", "NAME", "cosine, l1, l2, linf or top-k."),
        _option("--threshold", "D", "The largest inconsistency that counts as the same attention."),
    ]  # fmt: skip


def _sought() -> list[Added]:
    """How the answer is sought, how the network is read, and what is written."""
    return [
        _option(
            "--method", "auto|sweep|bfs|gbs|nearest|bound",
            "sweep: the whole map at once. bfs: the same, region by region. gbs: the outer boundary of "
            "the robust part around 0. nearest: outwards to the first failure. bound: any perturbation "
            "and network, by bounds over boxes. auto: sweep, and where half of the budget does not last, "
            "nearest and gbs (with three and more parameters bound before them); bound for what has no "
            "affine pieces.",
        ),
        click.option(
            "--prove-interior", is_flag=True, default=None, help="With gbs: examine the inside too."
        ),
        click.option(
            "--reachable", is_flag=True, default=None,
            help="With bfs: only what is reachable from 0 through robust parts.",
        ),
        _option("--norm", "linf|l2", "With nearest: how distance is measured, in half-widths of the box."),
        _option(
            "--undecided", "SHARE",
            "With bound: what may be left undecided once a failure is known.  [0 where exact engines can "
            "take over, else 0.01]",
        ),
        click.option(
            "--handover/--no-handover", default=None,
            help="With bound: whether exact engines take over where few units change their piece.",
        ),
        _option("--clip", "LO,HI|none", "What changed pixels are clipped to."),
        _option(
            "--layout", "auto|chw|hwc|flat",
            "How the model takes its images; auto: as its input is declared, and chw where it is not.",
        ),
        _option("--mean", "M[,M...]", "Subtracted from pixels in [0, 1] before the model."),
        _option("--std", "S[,S...]", "Then divided by; 1/255 for a network that takes 0 to 255."),
        _option(
            "--output", "NAME|INDEX",
            "Which of several outputs holds the logits; of ONNX files any value.  [the only one, or logits]",
        ),
        _option(
            "--time-limit", "SECONDS",
            "Stop then, with an honest partial answer; compiling on a first run is not counted.",
        ),
        _option("--memory-limit", "GIB", "Memory for the search."),
        _option("--regions-limit", "N", "Stop after so many regions."),
        _option("--device", "cpu|cuda", "Where to compute."),
        _option("--audit", "N", "Compare map and model at N random points; a mismatch fails the run."),
        _option("--threads", "N", "Threads to compute with.  [all]"),
        _option("--measure", "N", "Also measure likeness otherwise at N random points: no claim."),
        click.option(
            "--certificate/--no-certificate", default=None,
            help="Also write the answer in numbers, for steadygaze-check to prove or refute.",
        ),
        click.option(
            "--picture/--no-picture", default=None,
            help="Also write map.png, and put it into the report for browsers without scripts.",
        ),
        _option("--out", "DIR", "The folder of the answer."),
    ]  # fmt: skip
