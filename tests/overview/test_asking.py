"""The command of a case asks just that case."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, replace

import pytest

from steadygaze.campaign import make_case
from steadygaze.cli import _case, commands
from steadygaze.overview.asking import IMAGE, command

PLAIN = {"model": "digits-mlp", "image": "digits:2", "perturb": ["brightness(amount=-0.1..0.1)"]}
SETTINGS = [
    {},
    {"time-limit": 60, "memory-limit": 1.5, "regions-limit": 10, "threads": 2, "audit": 3},
    {"clip": "none", "mean": "-0.5,0.1,0.2", "std": [0.5], "layout": "hwc", "output": "-logits"},
    {"clip": [-1, 1], "resize": "8x9", "crop": "1,0,4,4", "background": "0.5", "resampling": "lanczos"},
    {"handover": False, "prove-interior": True, "reachable": True, "channel-sum": True, "undecided": 0.0},
    {"perturb": ["contrast(factor=0.5..1.5)", "patch(opacity=0..1, top=0)"], "label": 3, "norm": "l2"},
    {"model": "it's; rm -rf $HOME.onnx", "saliency": "grad-cam", "layer": 'a "b"', "threshold": 1e-09},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_what_is_read_back_is_the_case(settings):
    case = make_case(PLAIN, settings)
    kept = json.loads(json.dumps(asdict(case)))
    words = shlex.split(command(kept).replace(IMAGE, shlex.quote(case.image)))
    assert words[:2] == ["steadygaze", "verify"]
    verify = commands.commands["verify"]
    given = verify.make_context("verify", words[2:]).params
    options = {name: value for name, value in given.items() if name not in ("model", "as_json", "quiet")}
    assert _case(given["model"], options) == replace(case, threads=case.threads)


def test_what_is_usual_is_left_out():
    kept = json.loads(json.dumps(asdict(make_case(PLAIN))))
    assert command(kept) == (
        f"steadygaze verify digits-mlp --image {IMAGE} --perturb 'brightness(amount=-0.1..0.1)'"
    )
