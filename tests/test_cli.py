"""What the command line prints, where, and with which exit code.

The search is replaced by a made-up one; `test_cli_errors.py` runs the real one.
"""

from __future__ import annotations

import codecs
import json
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest

import answers
from steadygaze import cli
from steadygaze.answer.result import Result, schema
from steadygaze.errors import FidelityError, ModelError
from steadygaze.report import figures, still, write_report

DIGIT = ("verify", "digits-mlp", "--image", "digits:7", "--perturb", "brightness(amount=-0.3..0.3)")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CI", "1")
    monkeypatch.delenv("STEADYGAZE_DEBUG", raising=False)
    monkeypatch.setattr(figures, "PIXELS", 50)
    monkeypatch.setattr(still, "DOTS_PER_INCH", 30)


@pytest.fixture
def search(monkeypatch):
    """Stands in for `steadygaze.verdict.driver`; `asked` keeps what it was called with."""
    fake = SimpleNamespace(asked=None, result=answers.violated(), raises=None, progress=[], certify=None)

    def verify(model, image, perturbation, **settings):
        fake.asked = {"model": model, "image": image, "perturbation": perturbation, **settings}
        for now in fake.progress:
            settings["progress"](now)
        if fake.raises is not None:
            raise fake.raises
        drawing = answers.drawing(side=2)
        return SimpleNamespace(
            result=fake.result,
            save=lambda folder, certificate, picture: write_report(
                fake.result, drawing, folder, fake.certify if certificate else None, picture
            ),
        )

    module = ModuleType("steadygaze.verdict.driver")
    module.verify = verify
    monkeypatch.setitem(sys.modules, "steadygaze.verdict.driver", module)
    return fake


@pytest.mark.parametrize(
    ("make", "code"), [(answers.robust, 0), (answers.violated, 10), (answers.unknown, 20)]
)
def test_the_exit_code_is_the_verdict(search, capsys, make, code):
    search.result = make()
    assert cli.run(DIGIT) == code
    assert capsys.readouterr().out.startswith(make().headline())


def test_what_was_compiled_is_told(search, capsys):
    search.result = replace(search.result, timing={"total": 11.25, "compiling": 8.04})
    cli.run(DIGIT)
    assert "in 11.2 s, of which 8 s compiling, only once on this machine." in capsys.readouterr().out


@pytest.mark.parametrize(("by", "told"), [("time", True), ("memory", False), (None, False)])
def test_what_starting_took_of_a_limit_of_time_is_told(search, capsys, by, told):
    """An answer of a second that a limit of three ended is a riddle otherwise."""
    timing = {"total": 1.07, "before the call": 2.04}
    search.result = replace(search.result, timing=timing, settings={"stopped_by": by})
    cli.run(DIGIT)
    out = capsys.readouterr().out
    assert "in 1.07 s" in out
    assert ("in 1.07 s, after 2 s of starting, which the limit counts." in out) == told


def test_the_answer_in_words(search, capsys, tmp_path):
    cli.run([*DIGIT, "--out", "there"])
    out, err = capsys.readouterr()
    result = search.result
    for sentence in (result.why(), *result.range_sentences(), result.safe_scale_sentence()):
        assert sentence in out
    assert result.failure_sentence() in out
    assert "robust 50.0 %, class-changed 25.0 %, attention-changed 20.0 %, undecided 5.0 %" in out
    assert "1234 regions by sweep in 1.25 s" in out
    assert "Written to there: result.json, report.html, witness.\n" in out
    assert err == ""
    assert {path.name for path in (tmp_path / "there").iterdir()} == {"result.json", "report.html", "witness"}


@pytest.mark.parametrize(
    ("method", "visited", "words"),
    [
        ("sweep", 1, "1 region by sweep"),
        ("sweep", 2, "2 regions by sweep"),
        ("bound", 1, "1 box by bound"),
        ("bound", 2, "2 boxes and regions by bound"),
    ],
)
def test_a_single_region_is_one(search, capsys, method, visited, words):
    regions = {**search.result.regions, "visited": visited}
    search.result = replace(search.result, method=method, regions=regions)
    cli.run(DIGIT)
    assert words in capsys.readouterr().out


def test_a_table_of_a_campaign_needs_a_file(capsys):
    assert cli.run(["campaign", "export", "plan.toml"]) == 2
    assert "such as --out cases.csv" in capsys.readouterr().err


def test_each_default_is_told_once(capsys):
    cli.run(["verify", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "[black] [black]" not in told
    assert "[0] [0]" not in told


def test_a_picture_is_written_where_it_is_asked_for(search, capsys, tmp_path):
    (tmp_path / "case.toml").write_text(
        'model = "digits-cnn"\nimage = "digits:3"\nperturb = "brightness(amount=-0.1..0.1)"\npicture = true\n'
    )
    for asked in ([*DIGIT, "--picture"], ["verify", "case.toml"]):
        cli.run([*asked, "--out", "there"])
        assert "Written to there: result.json, map.png, report.html, witness.\n" in capsys.readouterr().out
        assert (tmp_path / "there" / "map.png").exists()
        cli.run([*asked, "--no-picture", "--out", "there"])
        assert not (tmp_path / "there" / "map.png").exists()


@pytest.mark.parametrize(
    ("beyond", "told"),
    [(None, "proves or refutes it"), ("maps vary", "can look at points of it only, for maps")],
)
def test_what_can_be_made_of_the_certificate_is_told(search, capsys, beyond, told):
    def certify(place):
        (place / "certificate.json").write_text(json.dumps({"beyond_proof": beyond}))

    search.certify = certify
    cli.run([*DIGIT, "--out", "there", "--certificate"])
    said = capsys.readouterr().out
    assert f"steadygaze-check there/certificate {told}" in said
    assert f"The certificate ({len(json.dumps({'beyond_proof': beyond}))} bytes): there/certificate" in said


def test_what_rounding_has_decided_is_told(search, capsys, tmp_path):
    search.result = replace(answers.violated(), notes=("The map is decided by rounding.",))
    cli.run([*DIGIT, "--out", "there"])
    assert "The map is decided by rounding." in capsys.readouterr().out
    assert "The map is decided by rounding." in (tmp_path / "there" / "report.html").read_text()
    written = Result.from_json((tmp_path / "there" / "result.json").read_text())
    assert written.notes == search.result.notes


def test_without_a_picture_nothing_is_drawn(tmp_path):
    """By a process of its own: what draws is slow to import, and what torch may import for gradients."""
    run = (
        "import sys; from steadygaze import cli; code = cli.run(sys.argv[1:]); "
        "sys.exit(bool({'matplotlib', 'sympy'} & set(sys.modules)) or code not in (0, 10))"
    )
    command = [sys.executable, "-c", run, *DIGIT, "--out", str(tmp_path / "there")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "there" / "report.html").exists()


def test_json_is_all_that_is_printed(search, capsys, tmp_path):
    assert cli.run([*DIGIT, "--json"]) == 10
    out, err = capsys.readouterr()
    assert json.loads(out) == search.result.to_dict()
    assert json.loads((tmp_path / "steadygaze-out" / "result.json").read_text()) == json.loads(out)
    assert err == ""


def test_the_search_gets_what_was_asked(search):
    options = ["--threshold", "0.2", "--clip", "none", "--mean", "0.5", "--time-limit", "3", "--channel-sum"]
    cli.run([*DIGIT, "--perturb", "contrast(amount=0)", *options])
    asked = search.asked
    assert asked["model"] == "digits-mlp"
    assert asked["image"].image.shape == (1, 8, 8)
    assert (asked["image"].source, asked["image"].index, asked["image"].label) == ("digits:7", 7, 7)
    assert [link.name for link in asked["perturbation"].links] == ["brightness", "contrast"]
    assert (asked["threshold"], asked["clip"], asked["mean"], asked["time_limit"]) == (0.2, None, (0.5,), 3.0)
    assert asked["channel_sum"] is True
    assert asked["method"] == "auto"
    assert asked["spent"] > 0  # the time limit counts from the program's start


@pytest.mark.parametrize("name", ["case.toml", "CASE.TOML"])
def test_a_file_as_some_editors_write_it(search, tmp_path, name):
    """A byte order mark at the start, carriage returns, a name in capitals."""
    text = 'model = "digits-cnn"\r\nimage = "digits:3"\r\nperturb = "brightness(amount=-0.1..0.1)"\r\n'
    (tmp_path / name).write_bytes(codecs.BOM_UTF8 + text.encode())
    cli.run(["verify", name])
    assert search.asked["model"] == "digits-cnn"


def test_the_image_is_made_as_asked(search, capsys):
    cli.run([*DIGIT, "--resize", "16", "--crop", "12x10", "--resampling", "nearest"])
    image = search.asked["image"]
    assert image.image.shape == (1, 12, 10)
    assert [how.split()[0] for how in image.conversions] == ["resized", "cropped"]
    assert "nearest" in image.conversions[0]
    assert "resize" not in search.asked
    capsys.readouterr()


def test_what_was_done_to_the_image_and_a_wrong_class_are_said(search, capsys):
    image = search.result.problem.image
    told = replace(image, conversions=("a", "b"), dataset_label=image.predicted + 1, dataset_class="cat")
    search.result = replace(search.result, problem=replace(search.result.problem, image=told))
    cli.run(DIGIT)
    out = capsys.readouterr().out
    assert "The image, before anything else: a; b." in out
    assert f"it predicts class {image.predicted}, while the data set says {image.predicted + 1} (cat)" in out


def test_a_file_says_the_same_and_options_override_it(search, tmp_path):
    (tmp_path / "case.toml").write_text(
        'model = "digits-cnn"\nimage = "digits:3"\nperturb = "brightness(amount=-0.1..0.1)"\n'
        "threshold = 0.1\nchannel-sum = true\n"
    )
    cli.run(["verify", "case.toml", "--image", "digits:5", "--no-channel-sum"])
    asked = search.asked
    assert (asked["model"], asked["image"].index, asked["threshold"]) == ("digits-cnn", 5, 0.1)
    assert asked["channel_sum"] is False


@pytest.mark.parametrize("make", [answers.robust, answers.violated, answers.unknown])
def test_the_demo_ends_well_whatever_its_verdict(search, capsys, make):
    search.result = make()
    assert cli.run(["demo"]) == 0
    out = capsys.readouterr().out
    assert make().problem.question() in out
    assert "steadygaze-demo/map.png" in out
    assert search.asked["model"] == "digits-mlp"
    assert [link.name for link in search.asked["perturbation"].links] == ["brightness", "patch"]


def test_the_schema_is_printed(capsys):
    assert cli.run(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()


def error_line(capsys) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["verfy"], "Did you mean"),
        (["verify", "--nothing"], "--nothing"),
        (["verify"], "no model is given"),
        (["verify", "digits-mlp"], "--image"),
        (["verify", "digits-mlp", "--image", "digits:7"], "--perturb"),
        (["verify", "digits-mlp", "--image"], "--image"),
        (["verify", "a", "b"], "unexpected extra argument"),
        ([*DIGIT, "--threshold", "low"], "threshold must be a number, got 'low'"),
        (["verify", "none.toml"], "no case file"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(capsys, arguments, words):
    assert cli.run(arguments) == 2
    assert words in error_line(capsys)


def test_a_place_that_cannot_be_written_is_refused_before_the_search(search, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "nowhere").symlink_to("there/is/nothing")
    (tmp_path / "loop").symlink_to("loop")
    long = "x" * 300
    for place in (
        "file",
        "file/x",
        "nowhere",
        "nowhere/x",
        "loop",
        "loop/x",
        long,
        f"new/{long}/new",
        "a\0b",
    ):
        assert cli.run([*DIGIT, "--out", place]) == 2
        assert "--out" in error_line(capsys)
        assert search.asked is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "loop", "nowhere"]


def test_errors_of_the_search_have_their_exit_codes(search, capsys):
    for error, code, words in [
        (ModelError("layer Sigmoid\nis not known"), 2, "layer Sigmoid is not known"),
        (FidelityError("the imported network disagrees"), 1, "disagrees. No verdict is given. Please report"),
        (ZeroDivisionError("by zero"), 1, "unexpected ZeroDivisionError: by zero. No verdict is given."),
    ]:
        search.raises = error
        assert cli.run(DIGIT) == code
        assert words in error_line(capsys)


def test_an_interruption_before_any_answer(search, capsys, tmp_path):
    search.raises = KeyboardInterrupt()
    assert cli.run(DIGIT) == 130
    assert capsys.readouterr().err.strip().startswith("error: interrupted")  # click ends the line of the ^C
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [SystemError, ModelError, FidelityError])
def test_an_interruption_of_compiled_code_is_no_fault_to_report(search, capsys, error):
    search.raises = error("<built-in function spans> returned a result with an exception set")
    search.raises.__cause__ = KeyboardInterrupt()
    assert cli.run(DIGIT) == 130
    assert capsys.readouterr().err.strip().startswith("error: interrupted")


def test_an_interruption_that_a_library_lets_pass_is_no_fault_to_report(monkeypatch, capsys):
    """So does torch, which is broken off in the middle of reading in NumPy."""

    def broken() -> list[str]:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise ImportError("cannot load module more than once per process")

    monkeypatch.setattr("steadygaze.network.reading.listing.lines", broken)
    before = signal.getsignal(signal.SIGINT)
    assert cli.run(["layers"]) == 130
    assert error_line(capsys).startswith("error: interrupted")
    assert signal.getsignal(signal.SIGINT) is before


READ_IN = """
import signal, sys

class Stopping:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Stopping())
from steadygaze.__main__ import main
sys.argv = ["steadygaze", "layers"]
main()
"""


def test_an_interruption_while_the_program_is_read_in():
    done = subprocess.run([sys.executable, "-c", READ_IN], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == f"error: {cli._NO_ANSWER}\n"


def test_an_interrupt_that_is_to_be_ignored_is_while_the_program_is_read_in():
    program = READ_IN.replace(
        "import signal, sys", "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_interrupt_that_is_to_be_ignored_is(monkeypatch, capsys):
    def interrupted() -> list[str]:
        signal.raise_signal(signal.SIGINT)
        return ["all of them"]

    monkeypatch.setattr("steadygaze.network.reading.listing.lines", interrupted)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert cli.run(["layers"]) == 0
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().out == "all of them\n"


@pytest.mark.parametrize("how", ["option", "variable"])
def test_a_traceback_only_on_request(search, capsys, monkeypatch, how):
    search.raises = ZeroDivisionError("by zero")
    if how == "variable":
        monkeypatch.setenv("STEADYGAZE_DEBUG", "1")
    assert cli.run([*DIGIT, *(["--debug"] if how == "option" else [])]) == 1
    assert "Traceback" in capsys.readouterr().err


def now(fraction: float, phase: str = "searching") -> SimpleNamespace:
    return SimpleNamespace(fraction=fraction, regions=12, robust_share=0.5, phase=phase, radius=None)


def test_progress_goes_to_standard_error_in_lines(search, capsys, monkeypatch):
    monkeypatch.delenv("CI")
    monkeypatch.setattr(cli, "SECONDS_BETWEEN_LINES", 0)
    search.progress = [now(0.25), now(0.5)]
    cli.run([*DIGIT, "--json"])
    out, err = capsys.readouterr()
    told = "searching: 12 regions, 50.0 % robust"
    assert err == f"25.0 % finished; {told}\n50.0 % finished; {told}\n"
    json.loads(out)


def test_compiling_is_announced_once_and_at_once(search, capsys, monkeypatch):
    monkeypatch.delenv("CI")
    search.progress = [now(0, "compiling"), now(0, "compiling"), now(0.5)]
    cli.run(DIGIT)
    assert capsys.readouterr().err == "0 % finished; compiling, only once on this machine\n"


def test_quiet_runs_have_no_progress(search, monkeypatch):
    cli.run(DIGIT)
    assert search.asked["progress"] is None
    monkeypatch.delenv("CI")
    cli.run([*DIGIT, "--quiet"])
    assert search.asked["progress"] is None


def test_a_terminal_gets_a_bar(search, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    search.progress = [now(0.25), now(1.0)]
    assert cli.run(DIGIT) == 10
    assert search.result.headline() in capsys.readouterr().out


PROBE = """
import sys
from steadygaze.cli import run
code = run(["verify", "--help"])
slow = {"torch", "numba", "matplotlib", "numpy", "scipy", "onnx", "sklearn", "jinja2"} & set(sys.modules)
assert not slow, slow
sys.exit(code)
"""


def test_help_imports_nothing_slow():
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--threshold" in done.stdout


@pytest.mark.parametrize("arguments", [[], ["--help"], ["verify", "-h"], ["demo", "--help"], ["--version"]])
def test_help_and_version_as_a_program(arguments):
    done = subprocess.run(
        [sys.executable, "-m", "steadygaze", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "steadygaze" in done.stdout
    assert done.stderr == ""
