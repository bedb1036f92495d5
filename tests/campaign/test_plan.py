"""Plans, and the keys that tell cases apart."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import onnx
import pytest
from PIL import Image

from steadygaze.campaign import Plan, PlannedCase, content, content_key, make_case
from steadygaze.errors import SettingError
from steadygaze.question.digits import builtin_model
from steadygaze.question.images import load_image

BRIGHTNESS = "brightness(amount=-0.1..0.1)"
CASE = make_case({"model": "digits-mlp", "image": "digits:2", "perturb": [BRIGHTNESS]})


CHANGES = [
    {"model": "digits-cnn"},
    {"image": "digits:3"},
    {"perturb": ("brightness(amount=-0.1..0.2)",)},
    {"perturb": (BRIGHTNESS, "contrast(amount=0)")},
    {"label": 2},
    {"claim": "class"},
    {"saliency": "abs-gradient"},
    {"channel_sum": True},
    {"inconsistency": "l2"},
    {"threshold": 0.31},
    {"method": "sweep"},
    {"clip": None},
    {"layout": "hwc"},
    {"mean": (0.5,)},
    {"std": (0.5,)},
    {"time_limit": 1.0},
    {"memory_limit": 1.0},
    {"regions_limit": 5},
    {"audit": 1},
    {"prove_interior": True},
    {"reachable": True},
    {"norm": "l2"},
    {"undecided": 0.05},
    {"handover": False},
    {"device": "cuda"},
    {"threads": 2},
    {"layer": "0"},
    {"baseline": "mean"},
    {"measure": 20},
    {"output": "logits"},
    {"resize": (9,)},
    {"crop": (7, 7)},
]
# What counts by the pixels that come of it, see below.
BY_PIXELS = {"resampling", "background"}


def test_the_changes_below_are_of_every_setting():
    told = {name for change in CHANGES for name in change}
    assert told | BY_PIXELS == {f.name for f in fields(CASE)} - {"out", "certificate", "picture"}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_every_ingredient_changes_the_key(change):
    assert content_key(replace(CASE, **change)) != content_key(CASE)


def test_the_version_changes_the_key(monkeypatch):
    before = content_key(CASE)
    monkeypatch.setattr(content, "version", lambda package: "99.0")
    assert content_key(CASE) != before


def test_names_and_places_do_not_change_the_key(tmp_path):
    model, image = tmp_path / "elsewhere.onnx", tmp_path / "image.npy"
    model.write_bytes(builtin_model("digits-mlp").read_bytes())
    np.save(image, load_image("digits:2").image)
    moved = replace(
        CASE, model=str(model), image=str(image), out="other", perturb=("brightness( amount = -0.1..0.1 )",)
    )
    assert content_key(moved) == content_key(CASE)


def test_how_an_image_is_made_counts_by_its_pixels(tmp_path):
    clear = tmp_path / "clear.png"
    Image.new("LA", (8, 8), (10, 100)).save(clear)
    same = [CASE, replace(CASE, resampling="nearest"), replace(CASE, background=(0.0,))]
    assert len({content_key(case) for case in same}) == 1
    other = [replace(CASE, resize=(9,)), replace(CASE, resize=(9,), resampling="nearest")]
    other += [replace(CASE, image=str(clear), background=(value,)) for value in (0.0, 1.0)]
    assert len({content_key(case) for case in other}) == 4


def test_an_array_counts_by_its_numbers(tmp_path):
    keys = []
    for name, value in (("a.npy", 0.5), ("b.npy", 0.5), ("c.npy", 0.6)):
        np.save(tmp_path / name, np.full((8, 8), value))
        keys.append(content_key(replace(CASE, perturb=(f"blend(amount=0..0.1, target={tmp_path / name})",))))
    assert keys[0] == keys[1] != keys[2]


def test_weights_beside_an_onnx_file_count(tmp_path):
    model = onnx.load(builtin_model("digits-mlp"))
    path = tmp_path / "net.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights", size_threshold=0)
    before = content_key(replace(CASE, model=str(path)))
    weights = bytearray((tmp_path / "weights").read_bytes())
    weights[4] ^= 1
    (tmp_path / "weights").write_bytes(weights)
    assert content_key(replace(CASE, model=str(path))) != before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"perturb": ("brightnes(amount=0..1)",)}, "no perturbation named 'brightnes'"),
        ({"method": "magic"}, "no method 'magic'"),
        ({"time_limit": -1.0}, "time limit is -1"),
        ({"resize": (0,)}, "resize is 0"),
    ],
)
def test_a_case_that_cannot_be_asked_is_refused_with_its_number(change, words):
    with pytest.raises(SettingError, match=rf"^case 1 of the plan 'p': .*{words}"):
        Plan("p", (PlannedCase(CASE), PlannedCase(replace(CASE, **change))))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "absent.onnx"}, "not a file"),
        ({"model": "package:network"}, r"torch\.export\.save"),
    ],
)
def test_a_model_without_content_of_its_own_is_refused(change, words):
    plan = Plan("p", (PlannedCase(CASE), PlannedCase(replace(CASE, **change), {"other": 1})))
    with pytest.raises(SettingError, match=words):
        plan.keys()


def test_cases_that_ask_the_same_have_the_same_key_and_share_a_record():
    first, again, other = Plan(
        "p", tuple(PlannedCase(c) for c in (CASE, CASE, replace(CASE, threshold=1.0)))
    ).keys()
    assert first == again != other


def test_an_image_that_cannot_be_read_has_a_key_until_it_is_mended(tmp_path):
    path = tmp_path / "image.npy"
    case = replace(CASE, image=str(path))
    keys = [content_key(case)]
    for pixels in (np.full((8, 8), np.nan), np.full((8, 8), 0.5)):
        np.save(path, pixels)
        keys.append(content_key(case))
    assert len(set(keys)) == 3


def test_an_empty_plan_and_odd_tags_are_refused():
    with pytest.raises(SettingError, match="no cases"):
        Plan("p", ())
    with pytest.raises(SettingError, match="the tag 'x' is"):
        Plan("p", (PlannedCase(CASE, {"x": [1]}),))  # pyright: ignore[reportArgumentType]
    with pytest.raises(SettingError, match="the tag 'x' is nan"):
        Plan("p", (PlannedCase(CASE, {"x": float("nan")}),))
