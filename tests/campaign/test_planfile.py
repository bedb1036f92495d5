"""Plans as they are written down: what multiplies, in which order, and every sentence that refuses one."""

from __future__ import annotations

import tomllib

import numpy as np
import pytest

from steadygaze.campaign import plan_of, read_plan, store_of
from steadygaze.errors import SettingError
from steadygaze.question.preset import presets

PLAN = """
models = ["digits-mlp", { model = "digits-cnn", name = "cnn", layout = "chw", time_limit = 5 }]
images = ["digits:0..2", "digits:7"]
presets = ["occlusion"]
thresholds = [0.1, 0.3]
saliency = ["gradient", { saliency = "grad-cam", layer = "conv" }]

[perturbations]
mine = ["brightness(amount=-0.1..0.1)"]

[settings]
method = "sweep"
clip = "none"
"""


def plan(text: str = PLAN, **changes):
    return plan_of({**tomllib.loads(text), **changes})


def test_everything_multiplies():
    cases = plan().cases
    assert len(cases) == 2 * 4 * 2 * 2 * 2
    tags = [planned.tags for planned in cases]
    assert {tag["model"] for tag in tags} == {"digits-mlp", "cnn"}
    assert [tag["image"] for tag in tags if tag["model"] == "cnn"][:: 2 * 2 * 2] == [
        "digits:0", "digits:1", "digits:2", "digits:7",
    ]  # fmt: skip
    assert {tag["perturbation"] for tag in tags} == {"mine", "occlusion"}
    assert {tag["saliency"] for tag in tags} == {"gradient", "grad-cam of conv"}
    assert {tag["label"] for tag in tags if tag["image"] == "digits:7"} == {7}
    assert {tag["source"] for tag in tags} == {"digits:0..2", "digits:7"}
    assert {(case.case.method, case.case.clip) for case in cases} == {("sweep", None)}
    assert {(case.tags["model"], case.case.time_limit) for case in cases} == {("digits-mlp", 60), ("cnn", 5)}
    assert {(case.tags["saliency"], case.case.layer) for case in cases} == {
        ("gradient", None),
        ("grad-cam of conv", "conv"),
    }


def test_the_first_image_of_every_model_comes_first_then_model_by_model():
    order = list(dict.fromkeys((c.tags["model"], c.tags["image"]) for c in plan().cases))
    assert order[:3] == [("digits-mlp", "digits:0"), ("cnn", "digits:0"), ("digits-mlp", "digits:1")]
    assert [model for model, _ in order[2:]] == ["digits-mlp"] * 3 + ["cnn"] * 3


def test_few_keys_are_enough():
    (case,) = plan_of({"models": "digits-mlp", "images": "digits:3", "presets": "brightness"}).cases
    assert case.case.threshold == 0.3
    assert case.case.perturb == presets()["brightness"].perturb
    assert case.tags["saliency"] == "gradient"


ALONE = {"models": "digits-mlp", "images": "digits:3", "presets": "brightness", "claim": "class"}


def test_the_class_alone_is_asked_once_whatever_the_maps():
    (case,) = plan_of(ALONE).cases
    assert (case.case.claim, case.tags["saliency"], case.tags["threshold"]) == ("class", "none", None)
    settings = {"inconsistency": "l2", "measure": 5, "method": "bound"}
    mixed = plan_of(
        {**ALONE, "claim": ["class", "attention"], "thresholds": [0.1, 0.3], "settings": settings}
    ).cases
    told = [
        (each.case.claim, each.case.threshold, each.case.inconsistency, each.case.measure) for each in mixed
    ]
    assert told == [("class", 0.3, "cosine", 0), ("attention", 0.1, "l2", 5), ("attention", 0.3, "l2", 5)]
    assert {each.case.method for each in mixed} == {"bound"}
    for of_maps in ({"inconsistency": "l2"}, {"channel_sum": True}, {"measure": 5}):
        with pytest.raises(SettingError, match=f"no map is made, and {next(iter(of_maps))} is"):
            plan_of({**ALONE, "settings": of_maps})


def test_a_map_may_begin_at_an_image():
    begins = [{"saliency": "integrated-gradients", "baseline": source} for source in ("mean", "digits:4")]
    cases = plan_of({**ALONE, "claim": "attention", "saliency": begins}).cases
    assert [case.case.baseline for case in cases] == ["mean", "digits:4"]
    assert [case.tags["saliency"] for case in cases] == [
        "integrated-gradients from mean", "integrated-gradients from digits:4",
    ]  # fmt: skip


def test_images_may_be_the_first_ones_or_a_sample():
    def numbers(**table):
        cases = plan(images={"source": "digits:0..99", **table}).cases
        return list(dict.fromkeys(int(case.tags["image"].partition(":")[2]) for case in cases))

    assert numbers(first=3) == [0, 1, 2]
    drawn = numbers(sample=5)
    assert len(drawn) == 5
    assert drawn == sorted(drawn) == numbers(sample=5, seed=0) != numbers(sample=5, seed=1)


def test_an_image_counts_once_and_names_are_unique(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "x.npy", np.full((8, 8), 0.5))
    sources = [str(tmp_path / folder / "x.npy") for folder in "ab"]
    cases = plan(images=[*sources, sources[0], "digits:1", "digits:0..1"]).cases
    names = list(dict.fromkeys(case.tags["image"] for case in cases))
    assert names == [*sources, "digits:1", "digits:0"]


def test_the_plan_is_kept_as_it_was_written():
    written = {**tomllib.loads(PLAN), "gate": {"robust_accuracy(1.0)": 0.9}}
    assert plan_of(written).document == written


def test_a_file_names_the_plan_and_the_store(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(PLAN)
    assert read_plan(path).name == "mine"
    assert store_of(path) == tmp_path / "mine.sqlite"
    assert store_of(tmp_path / "some.sqlite") == tmp_path / "some.sqlite"
    path.write_text('store = "other.sqlite"\nname = "another"\n' + PLAN)
    assert (read_plan(path).name, str(store_of(path))) == ("another", "other.sqlite")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"modles": ["a"]}, "no key 'modles': did you mean 'models'.*allowed: name, store, models"),
        ({"time_limit": 2}, "'time_limit' is no key of a plan, but a setting; write it below .settings."),
        ({"label": 2}, "no key 'label'"),
        ({"models": []}, r"models is \[\]"),
        ({"models": [3]}, r"models is \[3\]"),
        ({"models": ["digits-mlp", "digits-mlp"]}, "'digits-mlp' twice"),
        ({"models": {"name": "x"}}, "without the key model"),
        ({"models": {"model": "digits-mlp", "layuot": "chw"}}, "no setting 'layuot': did you mean 'layout'"),
        ({"images": "digits:99999"}, "images: "),
        ({"images": "nowhere/"}, "images: "),
        ({"images": {"source": "digits:0..9", "firts": 1}}, "no key of images 'firts': did you mean 'first'"),
        ({"images": {"source": "digits:0..9", "first": 11}}, "from 1 to 10, which is how many there are"),
        ({"images": {"source": "digits:0..9", "first": 1, "sample": 1}}, "give one of them"),
        ({"presets": "oclusion"}, "no preset 'oclusion': did you mean 'occlusion'"),
        ({"presets": "mine", "perturbations": {"mine": "x()"}}, "'mine' is both a preset and"),
        ({"presets": [], "perturbations": {}}, "names no perturbations"),
        ({"perturbations": ["brightness(amount=0..1)"]}, "must be a table"),
        ({"perturbations": {"mine": []}}, r"perturbations\.mine is empty"),
        ({"perturbations": {"mine": "brightnes(amount=0..1)"}}, "no perturbation named 'brightnes'"),
        ({"perturbations": {"mine": "brightness(amount=10%..20%)"}}, "in percent"),
        ({"thresholds": ["a"]}, r"thresholds is \['a'\]"),
        ({"thresholds": [0.1, 0.1]}, "0.1 twice"),
        ({"saliency": {"saliency": "gradient", "layr": "x"}}, "did you mean 'layer'"),
        ({"saliency": {"layer": "x"}}, "without the key saliency"),
        ({"claim": "both"}, "claim is 'both'; allowed: attention or class, or a list of both"),
        ({"claim": ["class", "class"]}, "'class' twice"),
        ({"claim": "class"}, "no map is made, and saliency is .* leave saliency out, or write claim ="),
        ({"settings": {"claim": "class"}}, r"no setting there \(the plan has the key claim for it\)"),
        ({"keep": "some"}, "keep is 'some'; allowed: none, failing, all"),
        ({"settings": {"time_limt": 3}}, "no setting 'time_limt': did you mean 'time-limit'"),
        (
            {"settings": {"threshold": 0.1}},
            r"settings has 'threshold', which is no setting there \(the plan has the key thresholds for it\)",
        ),
        ({"settings": {"time_limit": "soon"}}, "time-limit must be a number"),
        ({"settings": {"time_limit": -1}}, "time limit is -1"),
        ({"settings": {"method": "magic"}}, "no method 'magic'"),
        ({"settings": 3}, "must be a table"),
        ({"name": 3}, "name is 3"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(changes, words):
    base = {} if "perturbations" in changes and "presets" in changes else {"presets": ["occlusion"]}
    with pytest.raises(SettingError, match=words):
        plan(**{"perturbations": {}, **base, **changes})


def test_what_is_missing_is_named():
    for key in ("models", "images"):
        with pytest.raises(SettingError, match=f"the plan has no {key}"):
            plan_of({name: value for name, value in tomllib.loads(PLAN).items() if name != key})


def test_a_file_that_is_no_plan_is_named(tmp_path):
    path = tmp_path / "plan.toml"
    for use in (read_plan, store_of):
        with pytest.raises(SettingError, match="check the path"):
            use(path)
    path.write_text("models = [")
    with pytest.raises(SettingError, match="is not TOML"):
        read_plan(path)
    path.write_text("models = []")
    with pytest.raises(SettingError, match=r"plan\.toml: models is"):
        read_plan(path)
