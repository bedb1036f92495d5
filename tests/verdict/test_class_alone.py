"""The class alone: every engine answers as plain evaluation does, and makes no map on the way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import steadygaze as sg
from sparing import sparing
from steadygaze.answer.result import Result
from steadygaze.digits import builtin_model, digit
from steadygaze.errors import SettingError
from steadygaze.geometry.kinds import CLASS_CHANGED, ROBUST
from steadygaze.network.saliency import AbstractGradientSaliency
from variants import FEW, SHAPES, Variant, mismatches

ENGINES = ("sweep", "bfs", "gbs", "nearest", "bound", "auto")
CHAIN = sg.Brightness(-0.4, 0.4) | sg.Patch(0, 1, top=2, left=2, size=3)


def asked(variant: Variant, method: str):
    return sg.verify(
        variant.module, variant.image, variant.perturbation, clip=variant.clip, claim="class", method=method,
        threads=1, time_limit=20,
    )  # fmt: skip


@pytest.mark.parametrize("method", ENGINES)
@pytest.mark.parametrize("variant", sparing([*FEW, *SHAPES[:4]]))
def test_every_engine_agrees_with_plain_evaluation(variant, method):
    answer = asked(variant, method)
    # With the largest inconsistency there is as its threshold, only the class can fail a plain evaluation.
    wrong, decided = mismatches(replace(variant, threshold=3.0), answer.map, variant.draw(60))
    assert not wrong
    assert decided or method in ("gbs", "nearest")
    assert answer.shares.attention_changed in (0, None)


@pytest.mark.parametrize("variant", FEW, ids=str)
def test_the_class_changes_where_it_does_when_attention_is_asked_about(variant):
    alone = asked(variant, "sweep").map
    both = variant.map
    shares = [map_.volume[map_.kind == CLASS_CHANGED].sum() for map_ in (alone, both)]
    assert shares[0] == pytest.approx(shares[1], abs=1e-9)
    assert alone.volume[alone.kind == ROBUST].sum() >= both.volume[both.kind == ROBUST].sum() - 1e-9


@pytest.mark.parametrize("method", ["sweep", "bfs", "nearest", "bound"])
def test_no_map_is_made(method, monkeypatch):
    def made(*given, **named):
        raise AssertionError("a saliency map was made")

    for name in ("seed", "maps", "logits_and_maps", "enclosed", "from_gradient"):
        monkeypatch.setattr(AbstractGradientSaliency, name, made)
    answer = sg.verify(builtin_model("digits-mlp"), digit(3)[0], CHAIN, claim="class", method=method)
    assert answer.verdict.value == "violated"


def test_a_network_without_attention_has_a_class():
    """The logits say what the signs of the pixels' sum say, and its gradient at the image is 0."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.Hardtanh(-1, 1)).double()
    with torch.no_grad():
        module[1].weight.copy_(torch.tensor([[4.0] * 4, [0.0] * 4]))
        module[1].bias.zero_()
    image = np.full((1, 2, 2), 0.5)
    with pytest.raises(SettingError, match="no attention to follow"):
        sg.verify(module, image, sg.Brightness(-0.2, 0.2))
    assert sg.verify(module, image, sg.Brightness(-0.2, 0.2), claim="class").verdict == "robust"


def test_the_answer_says_that_it_is_about_the_class(tmp_path):
    answer = sg.verify(builtin_model("digits-cnn"), digit(3)[0], CHAIN, claim="class")
    result = answer.result
    assert result.problem.must_hold == "class"
    assert (result.problem.saliency, result.problem.inconsistency) == ("none", "none")
    assert "The class alone" in result.problem.question()
    assert "robust in class" in result.headline()
    assert "inconsistency" not in result.failure_sentence()
    assert result.nearest_failure.inconsistency is answer.at([0, 0]).inconsistency is None
    folder = answer.save(tmp_path)
    assert Result.from_json((folder / "result.json").read_text()) == result
    assert {path.name for path in (folder / "witness").iterdir()} == {
        "original-image.npy", "original-image.png", "nearest-failing-image.npy", "nearest-failing-image.png",
    }  # fmt: skip
    page = (folder / "report.html").read_text().partition("<script")[0]
    assert "the attention stays" not in page
    assert page.count("saliency map") == page.count("no saliency map was made") == 2
    assert "inconsistency" not in page
    cell = answer._repr_html_()
    assert "class 3: the class alone; " in cell
    assert "none" not in cell.replace("none;", "")
    assert "attention" not in cell


def test_what_is_drawn_is_the_class():
    answer = sg.verify(builtin_model("digits-cnn"), digit(3)[0], sg.Brightness(-0.4, 0.4), claim="class")
    assert answer.plot().get_ylabel() == "class gap"
    with pytest.raises(SettingError, match="allowed: class gap"):
        answer.plot(value="inconsistency")
    assert "class gap; dashed: 0" in answer._repr_html_()
    words = [text.get_text() for text in answer.figure().legends[0].get_texts()]
    assert not [word for word in words if "attention" in word]
    with pytest.raises(SettingError, match="no maps to measure"):
        answer.measured(5)
    scales = answer.scales()
    assert (scales.attention_holds, scales.attention_fails) == (None, None)
    assert scales.class_holds is not None


def test_robust_says_so_of_the_class():
    answer = sg.verify(builtin_model("digits-mlp"), digit(3)[0], sg.Brightness(-0.01, 0.01), claim="class")
    assert "(the class alone)" in answer.result.headline()
    assert "attention" not in answer.result.headline() + answer.result.why()


def test_what_maps_are_like_is_not_asked_with_it():
    for setting in ({"threshold": 0.2}, {"saliency": "abs-gradient"}, {"inconsistency": "l2"}):
        with pytest.raises(SettingError, match=f"{next(iter(setting))} is .*leave .* out"):
            sg.verify(builtin_model("digits-mlp"), digit(3)[0], CHAIN, claim="class", **setting)
    with pytest.raises(SettingError, match="the claim is 'both'; allowed are attention"):
        sg.verify(builtin_model("digits-mlp"), digit(3)[0], CHAIN, claim="both")
