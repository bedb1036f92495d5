"""``steadygaze gate`` and ``steadygaze compare``, over one small campaign that is really run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from junitparser import JUnitXml

from steadygaze import verify
from steadygaze.campaign import read
from steadygaze.cli import run
from steadygaze.question.images import images_of, load_image

BRIGHTNESS = "brightness(amount=-0.6..0.6)"
PLAN = f"""
name = "small"
models = ["digits-mlp", "digits-cnn"]
images = ["digits:0..4"]
thresholds = [0.3]
[perturbations]
light = ["{BRIGHTNESS}"]
"""


MODELS = ("digits-mlp", "digits-cnn")


def reached(entries, model: str, claim: str) -> list[float]:
    """The scales up to which a claim is proven, image by image."""
    own = [entry for entry in entries if entry.tags["model"] == model]
    return [entry.record.answer["scales"][claim]["holds"] or 0.0 for entry in own]


def written(folder: Path, rules: str) -> Path:
    path = folder / "plan.toml"
    path.write_text(f"{PLAN}{rules}", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plan that has been run."""
    folder = tmp_path_factory.mktemp("campaign")
    plan = written(folder, '[gate]\nrules = ["accuracy >= 0", "crashed_rate == 0"]\n')
    assert run(["gate", str(plan), "--quiet"]) == 0
    return folder


def test_the_store_holds_every_case_with_the_scales_of_a_single_answer(place):
    entries = read(place / "plan.sqlite")
    assert len(entries) == 10
    entry = next(e for e in entries if e.tags["model"] == "digits-mlp" and e.tags["image"] == "digits:2")
    shares = verify("digits-mlp", load_image("digits:2").image, BRIGHTNESS, threshold=0.3).result.shares
    assert entry.record.answer["shares"]["robust"] == pytest.approx(shares.robust, abs=1e-12)
    own = [e.tags["label"] for e in entries if e.tags["model"] == "digits-mlp"]
    assert own == [each.label for each in images_of("digits:0..4")]


def test_a_broken_rule_ends_with_ten_and_an_open_one_with_twenty(place, tmp_path, capsys):
    junit, summary = tmp_path / "gate.xml", tmp_path / "summary.md"
    summary.write_text("before\n", encoding="utf-8")
    entries = read(place / "plan.sqlite")
    proven = {
        model: np.mean([holds >= 1 for holds in reached(entries, model, "attention")]) for model in MODELS
    }
    limit = max(proven.values()) + 0.01
    plan = written(place, f'[gate]\nrules = ["attention_robust_rate(1) >= {limit}", "crashed_rate == 0"]\n')
    code = run(["gate", str(plan), "--no-run", "--junit", str(junit), "--summary", str(summary)])
    assert code == 10
    told = capsys.readouterr().out
    assert told.count("✗ broken") == 2
    assert told.count("✓ kept") == 2
    assert told.endswith("small: broken\n")
    cases = [case for suite in JUnitXml.fromfile(str(junit)) for case in suite]
    results = [[type(result).__name__ for result in case.result] for case in cases]
    assert results == [["Failure"], [], ["Failure"], []]
    assert summary.read_text(encoding="utf-8").startswith("before\n✗ **steadygaze, small: broken**")


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        ("", r"states no rules; give it a table \[gate\]"),
        ('[gate]\nrules = "accuracy >= 0"\n', "states no rules"),
        ('[gate]\nrules = ["acuracy >= 0"]\n', "did you mean 'accuracy'"),
        ('[gate]\nrules = ["attention_robust_rate(1) >= 0"]\n', "all cases ask about the class alone"),
        ('[gate]\nrules = ["accuracy >= 0"]\nlevel = 3\n', "the key 'level'; allowed: rules"),
    ],
)
def test_a_gate_that_cannot_be_judged_is_refused_before_anything_runs(gate, words, tmp_path, capsys):
    plan = written(tmp_path, gate)
    if "class alone" in words:
        alone = plan.read_text().replace("thresholds = [0.3]", 'claim = "class"')
        plan.write_text(alone, encoding="utf-8")
    assert run(["gate", str(plan)]) == 2
    assert not (tmp_path / "plan.sqlite").exists()
    error = capsys.readouterr().err
    assert re.search(words, error)


def test_two_models_are_compared_on_the_same_images(place, capsys):
    assert run(["compare", str(place / "plan.sqlite"), "--scale", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    entries = read(place / "plan.sqlite")
    for one, claim in zip(found, ("class", "attention"), strict=True):
        pairs = list(zip(*([s >= 1 for s in reached(entries, m, claim)] for m in MODELS), strict=True))
        assert one["found"]["n"] == 5
        assert one["found"]["only_first"] == pairs.count((True, False))
        assert one["found"]["only_second"] == pairs.count((False, True))
    assert run(["compare", str(place / "plan.toml")]) == 0
    told = capsys.readouterr().out
    assert told.startswith("digits-mlp against digits-cnn: light, gradient, threshold 0.3\n")
    assert told.count("of 5 images") == 4


def test_a_campaign_is_compared_with_another_of_the_same_models(place, tmp_path, capsys):
    copied = tmp_path / "later.sqlite"
    copied.write_bytes((place / "plan.sqlite").read_bytes())
    assert run(["compare", str(place / "plan.sqlite"), str(copied)]) == 0
    told = capsys.readouterr().out
    assert told.count("no pair differs") == 8
    assert f"digits-cnn ({copied})" in told


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--models", "digits-mlp"], "it takes two names"),
        (
            ["--models", "digits-mlp,other"],
            "no model 'other' in the campaign; allowed: digits-mlp",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_sentence(place, options, words, capsys):
    assert run(["compare", str(place / "plan.sqlite"), *options]) == 2
    assert words in capsys.readouterr().err


def test_judging_and_comparing_need_no_torch(place):
    script = (
        "import sys; from steadygaze.cli import run; "
        f"run(['gate', {str(place / 'plan.toml')!r}, '--no-run']); "
        f"run(['compare', {str(place / 'plan.sqlite')!r}]); "
        "sys.exit('torch' in sys.modules)"
    )
    written(place, '[gate]\nrules = ["accuracy >= 0"]\n')
    done = subprocess.run([sys.executable, "-c", script], env=os.environ, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
