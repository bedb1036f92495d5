"""What ``steadygaze campaign`` prints, where, and with which exit code; cases answer themselves at once."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest

from steadygaze import cli
from steadygaze.campaign import AbstractCrew, Reply, Status, pool
from steadygaze.campaign.record import this_machine
from steadygaze.commands import campaign_words

PLAN = """
models = ["digits-mlp", "digits-cnn"]
images = ["digits:0..2"]
presets = ["brightness"]
"""


class Quick(AbstractCrew):
    """Answers at once: the first case is violated, one of the last refused, all else robust."""

    workers = 2
    interrupted_after = None

    def __init__(self, workers=None):
        self.asked = workers

    def work(self, tasks, watch):
        for number, task in enumerate(tasks):
            watch([task])
            if number == self.interrupted_after:
                raise KeyboardInterrupt
            verdict = "violated" if number == 0 else "robust"
            if task.case.image == "digits:2" and task.case.model == "digits-cnn":
                yield task, Reply(Status.REFUSED, "it was planted", 0.5, {}, this_machine(2), None)
            else:
                answer = {"verdict": verdict, "safe_scale": 0.25, "predicted": 0}
                yield task, Reply(Status.SOLVED, "because", 0.5, {}, this_machine(2), answer)


@pytest.fixture(autouse=True)
def _plan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CI", "1")
    monkeypatch.delenv("STEADYGAZE_DEBUG", raising=False)
    monkeypatch.setattr(pool, "PoolCrew", Quick)
    monkeypatch.setattr(Quick, "interrupted_after", None)
    (tmp_path / "plan.toml").write_text(PLAN)


def test_a_plan_is_run_and_not_done_again(capsys, tmp_path):
    assert cli.run(["campaign", "plan.toml"]) == 0
    said, complained = capsys.readouterr()
    assert "plan: 6 cases in" in said
    assert "4 robust, 1 violated, 0 unknown, 1 no answer" in said
    assert "1 refused: it was planted" in said
    assert "Records: plan.sqlite" in said
    assert "Report: plan.report.html" in said
    assert not complained
    assert cli.run(["campaign", "run", "plan.toml"]) == 0
    assert "no work was done" in capsys.readouterr().out
    assert cli.run(["campaign", "--retry", "refused", "plan.toml"]) == 0
    assert "1 cases in 0 s (1 refused); 5 were finished before" in capsys.readouterr().out
    assert cli.run(["campaign", "plan.toml", "--store", "other.sqlite"]) == 0
    assert (tmp_path / "other.sqlite").is_file()


def test_a_changed_plan_does_what_is_new_and_leaves_out_what_is_gone(capsys, tmp_path):
    cli.run(["campaign", "plan.toml"])
    (tmp_path / "plan.toml").write_text(PLAN.replace("digits:0..2", "digits:1..3"))
    capsys.readouterr()
    assert cli.run(["campaign", "plan.toml"]) == 0
    assert "2 cases in" in capsys.readouterr().out
    cli.run(["campaign", "status", "plan.toml"])
    assert "6 of 6 cases finished" in capsys.readouterr().out


def test_an_interrupt_says_how_to_go_on(capsys, monkeypatch):
    monkeypatch.setattr(Quick, "interrupted_after", 2)
    assert cli.run(["campaign", "plan.toml"]) == 130
    said = capsys.readouterr().out
    assert "interrupted with 4 left" in said
    assert "To go on: steadygaze campaign plan.toml" in said
    cli.run(["campaign", "status", "plan.toml"])
    assert "2 of 6 cases finished" in capsys.readouterr().out


def test_status_and_list_and_export_tell_the_same(capsys, tmp_path):
    cli.run(["campaign", "plan.toml"])
    capsys.readouterr()
    for target in ("plan.toml", "plan.sqlite"):
        assert cli.run(["campaign", "status", target, "--json"]) == 0
        standing = json.loads(capsys.readouterr().out)
        assert (standing["finished"], standing["verdicts"]["robust"]) == (6, 4)
    assert cli.run(["campaign", "list", "plan.toml", "--where", "verdict=robust", "--limit", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 cases"
    assert lines[1].endswith("robust, safe scale 0.25, 0.5 s")
    assert lines[2] == "... and 3 more"
    assert cli.run(["campaign", "list", "plan.toml", "--where", "status=refused"]) == 0
    assert "refused, 0.5 s: it was planted" in capsys.readouterr().out
    for command in ("list plan.toml", "export plan.toml --out none.csv"):
        assert cli.run(["campaign", *command.split(), "--where", "status=refsued"]) == 0
        assert "\nNo case has status=refsued; there are: " in capsys.readouterr().out
    assert (
        cli.run(["campaign", "export", "plan.toml", "--out", "cases.csv", "--where", "model=digits-cnn"]) == 0
    )
    assert "3 rows written to cases.csv" in capsys.readouterr().out
    with (tmp_path / "cases.csv").open(newline="") as stream:
        assert {row["model"] for row in csv.DictReader(stream)} == {"digits-cnn"}


def test_a_page_is_written_at_the_end_and_when_it_is_asked_for(capsys, tmp_path, monkeypatch):
    page = tmp_path / "plan.report.html"
    assert cli.run(["campaign", "plan.toml", "--no-report"]) == 0
    assert "Report:" not in capsys.readouterr().out
    assert not page.exists()
    assert cli.run(["campaign", "report", "plan.toml", "--out", "there/page.html"]) == 0
    assert "The report: there/page.html" in capsys.readouterr().out
    assert "6 of 6 cases finished" in (tmp_path / "there" / "page.html").read_text(encoding="utf-8")
    page.mkdir()  # so that no file of that name can be written: no failure of the run
    assert cli.run(["campaign", "plan.toml"]) == 0
    said, complained = capsys.readouterr()
    assert "no work was done" in said
    assert complained.startswith("note: the report 'plan.report.html' cannot be written")
    assert cli.run(["campaign", "report", "plan.toml"]) == 2
    assert cli.run(["campaign", "report", "plan.sqlite", "--out", "plan.sqlite"]) == 2
    assert [path.name for path in tmp_path.glob(".*.part")] == []


def test_presets_are_listed(capsys):
    assert cli.run(["campaign", "presets"]) == 0
    said = capsys.readouterr().out
    assert "\nocclusion\n" in said
    assert "brightness(amount=-0.3..0.3)" in said
    assert cli.run(["campaign", "presets", "glare"]) == 0
    assert capsys.readouterr().out.startswith("glare\n    A bright spot")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["statu", "plan.toml"], "did you mean 'status'"),
        (["absent.toml"], "there is no plan file 'absent.toml'"),
        (["status", "absent.toml"], "cannot be read"),
        (["list", "absent.sqlite"], "there is no store 'absent.sqlite'"),
        (["run"], "Missing argument"),
        (["plan.toml", "--retry", "dreamt"], "'dreamt' is not one of"),
        (["presets", "glar"], "did you mean 'glare'"),
    ],
)
def test_what_cannot_be_used_is_bad_usage(capsys, arguments, words):
    assert cli.run(["campaign", *arguments]) == 2
    said, complained = capsys.readouterr()
    assert not said
    assert complained.startswith("error: ")
    assert words in complained


def test_help_names_the_commands(capsys):
    assert cli.run(["campaign", "--help"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("run", "status", "list", "export", "report", "presets"))


def test_progress_goes_to_standard_error_in_lines(capsys, monkeypatch):
    monkeypatch.delenv("CI")
    monkeypatch.setattr(campaign_words, "SECONDS_BETWEEN_LINES", 0)
    assert cli.run(["campaign", "plan.toml"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("0 of 6 cases; starting")
    assert "1 of 6 cases; 0 robust, 1 violated, 0 unknown; " in lines[2]
    assert "left (" in lines[3]


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    assert cli.run(["campaign", "plan.toml"]) == 0
    said = capsys.readouterr().err
    assert "6/6" in said
    assert "4 robust, 1 violated, 0 unknown, 1 no answer" in said


def test_looking_on_does_not_import_torch(tmp_path):
    cli.run(["campaign", "plan.toml"])
    script = (
        "import sys; from steadygaze import cli; "
        "codes = [cli.run(['campaign', *a.split()]) for a in ('status plan.toml', 'list plan.toml', "
        "'export plan.toml --out a.csv', 'presets', 'report plan.toml')]; "
        "slow = {'torch', 'numba', 'sklearn', 'matplotlib', 'pyarrow', 'onnxruntime'} & set(sys.modules); "
        "sys.exit(f'{codes} {slow}' if any(codes) or slow else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
