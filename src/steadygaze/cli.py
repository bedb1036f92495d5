"""The command line: options -> case -> verify -> report. With `commands`, all that prints or exits.

Nothing slow is imported before it is needed, so that ``--help`` answers at once.

Exit codes: 0 robust, 10 violated, 20 unknown, 2 bad usage, 1 a bug of ours, 130 interrupted before there was
any answer. An answer whose reader has gone (`| head -1`) is in its folder, and its exit code stands.
"""

from __future__ import annotations

import gc
import io
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from steadygaze.commands.campaign import campaign
from steadygaze.commands.case_options import options_of_a_case
from steadygaze.commands.compare import compare
from steadygaze.commands.gate import gate
from steadygaze.commands.layers import layers
from steadygaze.errors import SteadygazeError, UsageError
from steadygaze.question.case import READERS, Case, check_measure, make_case, read_toml
from steadygaze.question.limits import Limits
from steadygaze.terminal import printed, silence, unheard

if TYPE_CHECKING:
    from steadygaze.answer.result import Result
    from steadygaze.verdict.answer import Answer

EXIT_CODES = {"robust": 0, "violated": 10, "unknown": 20}
BUG, BAD_USAGE, INTERRUPTED = 1, 2, 130
_NO_ANSWER = "interrupted before there was an answer; nothing was written"
SECONDS_BETWEEN_LINES = 10
EXPORTED = "steadygaze-export"  # the folder of an export that names none
DEMO = Case(
    model="digits-mlp",
    image="digits:357",  # not in the training set; loses both its class and, elsewhere, its attention
    perturb=(
        "brightness(amount=-0.3..0.3)",
        "patch(opacity=0..1, top=2, left=2, height=3, width=3, mode=add)",
    ),
    threshold=0.3,
    picture=True,
    out="steadygaze-demo",
)

Command = TypeVar("Command", bound=Callable[..., Any])
Progress = Callable[[Any], None]  # takes the search's record: fraction, regions, robust_share, phase


def main() -> NoReturn:
    """The program ``steadygaze``."""
    # Importing torch makes half a million objects that stay: looking through them for rubbish, again and
    # again while they come, takes longer than some searches. `_solved` turns the collector on again.
    gc.disable()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # where the locale knows no θ, it is written as its number
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Carries out one command line and returns the exit code; every error is one line on standard error."""
    debug = "--debug" in arguments or os.environ.get("STEADYGAZE_DEBUG") == "1"
    try:
        with _interrupts_noted():
            code = commands.main(list(arguments), prog_name="steadygaze", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except UsageError as error:
        return _fail(str(error), BAD_USAGE, debug)
    except click.ClickException as error:
        return _fail(error.format_message() + _left_over(error), BAD_USAGE, debug)
    except (click.Abort, KeyboardInterrupt):
        return _fail(_NO_ANSWER, INTERRUPTED, debug)
    except SystemExit:  # click leaves so where the reader of a help text has gone
        return _fail("what was asked for could not be printed: its reader has gone", BAD_USAGE, debug)
    except SteadygazeError as error:
        return _fail(f"{error}. {_please_report(debug)}", BUG, debug)
    except OSError as error:  # printing a help text, most likely; the answer's folder has its own sentence
        silence()
        return _fail(f"the system refuses to read or write: {error}; see to that first", BAD_USAGE, debug)
    except Exception as error:
        return _fail(f"unexpected {type(error).__name__}: {error}. {_please_report(debug)}", BUG, debug)


@contextmanager
def _interrupts_noted() -> Iterator[None]:
    """An error after Ctrl-C is Ctrl-C: a library that it breaks off as it loads may fail later."""
    came = False

    def note(number: int, frame: object) -> NoReturn:
        nonlocal came
        came = True
        raise KeyboardInterrupt

    in_main = threading.current_thread() is threading.main_thread()  # only it is told of signals
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield
    except Exception as error:
        if came:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: what compiled code is interrupted in comes out as another."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _fail(sentence: str, code: int, debug: bool) -> int:
    if _interrupted(sys.exc_info()[1]):
        sentence, code = _NO_ANSWER, INTERRUPTED
    with unheard():
        if debug:
            traceback.print_exc()
        click.echo(f"error: {' '.join(sentence.split())}", err=True)
    return code


def _left_over(error: click.ClickException) -> str:
    """What to do about words that stand behind the model of a case without an option."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if (
        context is None
        or "extra argument" not in error.message
        or context.info_name not in ("verify", "export")
    ):
        return ""
    return ": MODEL is the only word without an option; give the image with --image, changes with --perturb"


def _please_report(debug: bool) -> str:
    advice = "" if debug else "; --debug shows where it happened"
    return (
        f"No verdict is given. Please report this with the command to the issue tracker of steadygaze{advice}"
    )


def _common_options(command: Command) -> Command:
    for add in (
        click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks."),
        click.option("--quiet", is_flag=True, help="No progress."),
    ):
        command = add(command)
    return command


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="steadygaze", message="%(prog)s %(version)s")
@click.pass_context
def commands(context: click.Context) -> None:
    """Prove how far an image may change before a classifier changes its answer, or its reason."""
    if context.invoked_subcommand is None:
        printed(context.get_help())


@commands.command()
@click.argument("model", required=False, metavar="MODEL|CASE.toml")
@options_of_a_case
@click.option("--json", "as_json", is_flag=True, help="Print result.json instead of words.")
@_common_options
def verify(model: str | None, as_json: bool, quiet: bool, **options: Any) -> int:
    """Verify one image: MODEL is an .onnx or .pt2 file, module:callable, digits-mlp or digits-cnn.

    A TOML file says the same, with the names of the options as keys; options override it.

    The exit code is 0 for robust, 10 for violated, 20 for unknown, 2 for bad usage.
    """
    case = _case(model, options)
    result = _answer(case, quiet)
    printed(result.to_json().rstrip() if as_json else _summary(result, case), Path(case.out))
    return EXIT_CODES[result.verdict.value]


@commands.command()
@click.argument("model", required=False, metavar="MODEL|CASE.toml")
@options_of_a_case
@click.option("--float64", is_flag=True, help="Networks in double precision, as computed here.")
@_common_options
def export(model: str | None, float64: bool, quiet: bool, **options: Any) -> int:
    """Write the class question for other verifiers: ONNX from the parameters to the logits, and VNN-LIB.

    Takes what verify takes, and verifies first: expected.json says what steadygaze answers. The exit code is
    0 where the files were written.
    """
    from steadygaze.export.writing import check_exportable, write_export
    from steadygaze.perturbation.notation import chain_of
    from steadygaze.question.images import load_image
    from steadygaze.question.lengths import in_pixels

    case = _case(model, {"out": EXPORTED} | {name: v for name, v in options.items() if v is not None})
    image = load_image(case.image, case.framing()).image
    check_exportable(chain_of(in_pixels(case.perturb, image.shape)), image)
    answer = _solved(case, quiet)
    paths = write_export(answer, Path(case.out), float64)
    click.echo(f"{answer.result.headline()}\n{answer.result.why()}\n")
    click.echo(
        f"Written to {case.out}: {', '.join(path.name for path in paths)}. README.md says which asks what."
    )
    return 0


@commands.command()
@click.option("--out", metavar="DIR", default=DEMO.out, show_default=True, help="The folder of the answer.")
@_common_options
def demo(out: str, quiet: bool) -> int:
    """Verify a small network on a real digit, in seconds; needs nothing."""
    case = replace(DEMO, out=READERS["out"]("out", out))
    result = _answer(case, quiet)
    shown = f"The picture: {Path(out, 'map.png')}\nThe whole story: {Path(out, 'report.html')}"
    printed(f"{result.problem.question()}\n\n{_summary(result, case)}\n{shown}", Path(out))
    return 0


@commands.command()
def schema() -> None:
    """Print the schema of result.json."""
    import json

    from steadygaze.answer.result import schema as published

    printed(json.dumps(published(), indent=2))


for command in (campaign, compare, gate, layers):
    commands.add_command(command)


def _case(model: str | None, options: dict[str, Any]) -> Case:
    given = {name: value for name, value in options.items() if value is not None and value != ()}
    if model is None:
        return make_case(given)
    if model.lower().endswith(".toml"):
        return make_case(read_toml(Path(model)), given)
    return make_case(given | {"model": model})


def _answer(case: Case, quiet: bool) -> Result:
    """Verifies the case and writes its folder."""
    answer = _solved(case, quiet)
    if case.measure:
        left = Limits(case.time_limit).left_for_more(answer.result.timing)
        answer = answer.measured(case.measure, time_limit=left)
    answer.save(case.out, certificate=case.certificate, picture=case.picture)
    return answer.result


def _solved(case: Case, quiet: bool) -> Answer:
    """Verifies the case; that its folder can be written is checked before. A time limit counts from here."""
    began = time.perf_counter()
    from steadygaze.perturbation.notation import chain_of
    from steadygaze.question.images import load_image
    from steadygaze.question.images.loading import baseline_of
    from steadygaze.question.lengths import in_pixels
    from steadygaze.report.folder import check_folder

    check_folder(Path(case.out))
    check_measure(case)
    loaded = load_image(case.image, case.framing())
    settings = case.settings()
    settings["baseline"] = baseline_of(case.baseline, case.framing())
    chain = chain_of(in_pixels(case.perturb, loaded.image.shape))
    with _progress(quiet) as progress:
        from steadygaze.verdict.driver import verify as verify_image  # here: torch takes seconds
        from steadygaze.verdict.engines import check_certificate

        gc.freeze()
        gc.enable()
        if case.certificate:
            check_certificate(case.method, len(chain.parameters))
        return verify_image(
            case.model,
            loaded,
            chain,
            progress=progress,
            spent=time.perf_counter() - began,
            **settings,
        )


def _summary(result: Result, case: Case) -> str:
    """The answer in a dozen lines; the sentences are the report's."""
    from steadygaze.answer.drawing import KINDS
    from steadygaze.answer.words import number, percent, written

    shares = [f"{KINDS[kind]} {percent(share)}" for kind, share in result.shares_asked()]
    visited = result.regions.get("visited")
    return "\n".join(
        [
            result.headline(),
            result.why(),
            *result.problem.model_sentences(),
            *result.problem.image_sentences(),
            "",
            f"Shares of the box: {', '.join(shares)}.",
            *result.part_sentences(),
            *result.range_sentences(),
            *result.problem.layer_sentences(),
            result.safe_scale_sentence(),
            result.failure_sentence(),
            *result.notes,
            "",
            f"{number(visited, 12)} {result.unit_of_work()} by {result.method} in {_took(result)}.",
            f"Written to {written(case.out)}: {', '.join(_files(case))}.",
            *_certificate_sentences(case),
            *_measured_sentences(result, case),
        ]
    )


def _took(result: Result) -> str:
    """How long an answer took, and what of a limit of time went to something else."""
    from steadygaze.answer.words import number

    timing, took = result.timing, f"{number(result.timing.get('total'), 3)} s"
    if compiling := timing.get("compiling"):
        took += f", of which {number(compiling, 2)} s compiling, only once on this machine"
    starting = timing.get("before the call", 0.0)
    if result.settings.get("stopped_by") == "time" and starting:
        took += f", after {number(starting, 2)} s of starting, which the limit counts"
    return took


def _files(case: Case) -> list[str]:
    return ["result.json", *(["map.png"] if case.picture else []), "report.html", "witness"]


def _certificate_sentences(case: Case) -> tuple[str, ...]:
    """Where the certificate is, how large, and what can be made of it, if there is one."""
    if not case.certificate:
        return ()
    from steadygaze.answer.words import size

    folder = Path(case.out, "certificate")
    large = size(sum(path.stat().st_size for path in folder.iterdir()))
    beyond = json.loads((folder / "certificate.json").read_text(encoding="utf-8"))["beyond_proof"]
    able = f"can look at points of it only, for {beyond}" if beyond else "proves or refutes it"
    return (f"The certificate ({large}): {folder}; steadygaze-check {folder} {able}.",)


def _measured_sentences(result: Result, case: Case) -> tuple[str, ...]:
    """Where time ran out on measuring."""
    drawn = result.measured.drawn if result.measured else 0
    if not case.measure or drawn == case.measure:
        return ()
    return (f"Likeness is measured at {drawn} points of {case.measure}: then the time was over.",)


@contextmanager
def _progress(quiet: bool) -> Iterator[Progress | None]:
    """On a terminal a bar; elsewhere a line now and then; in continuous integration nothing."""
    if quiet or (os.environ.get("CI") and not sys.stderr.isatty()):
        yield None
    elif sys.stderr.isatty():
        from steadygaze.verdict.showing import terminal_bar

        with terminal_bar() as progress:
            yield progress
    else:
        yield _lines()


def _lines() -> Progress:
    from steadygaze.answer.words import percent
    from steadygaze.verdict.showing import COMPILING, sentence

    last, seen = time.monotonic(), set()

    def show(now: Any) -> None:
        nonlocal last
        begins = now.phase not in seen and now.phase == COMPILING  # said at once: it comes before all else
        seen.add(now.phase)
        if begins or time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            with unheard():
                click.echo(f"{percent(now.fraction)} finished; {sentence(now)}", err=True)

    return show
