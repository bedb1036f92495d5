"""A case from a file, from options, from both; what cannot be read is refused by name."""

from __future__ import annotations

import inspect
import tomllib

import pytest

from steadygaze.cli import verify
from steadygaze.errors import SettingError
from steadygaze.question import case as module
from steadygaze.question.case import Case, make_case, read_toml
from steadygaze.question.framing import Framing

NEEDED = {"model": "digits-mlp", "image": "digits:7", "perturb": ["brightness(amount=-0.3..0.3)"]}

FILE = """
model = "net.onnx"
image = "idx:mnist:3"
perturb = ["contrast(amount=-0.1..0.1)", "brightness(amount=-0.3..0.3)"]
resize = 256
crop = "224x225"
resampling = "bicubic"
background = [0, 0.5, 1]
label = 3
saliency = "abs-gradient"
channel-sum = true
inconsistency = "l2"
threshold = 1
method = "sweep"
clip = [0.1, 0.9]
layout = "flat"
mean = 0.5
std = [0.2, 0.3, 0.4]
time-limit = 60
memory_limit = 1.5
regions-limit = 1000
device = "cpu"
audit = 5
threads = 2
out = "there"
"""


def test_a_file_says_everything_that_options_say(tmp_path):
    path = tmp_path / "case.toml"
    path.write_text(FILE)
    case = make_case(read_toml(path))
    assert case == Case(
        model="net.onnx",
        image="idx:mnist:3",
        perturb=("contrast(amount=-0.1..0.1)", "brightness(amount=-0.3..0.3)"),
        resize=(256,),
        crop=(224, 225),
        resampling="bicubic",
        background=(0.0, 0.5, 1.0),
        label=3,
        saliency="abs-gradient",
        channel_sum=True,
        inconsistency="l2",
        threshold=1.0,
        method="sweep",
        clip=(0.1, 0.9),
        layout="flat",
        mean=(0.5,),
        std=(0.2, 0.3, 0.4),
        time_limit=60.0,
        memory_limit=1.5,
        regions_limit=1000,
        device="cpu",
        audit=5,
        threads=2,
        out="there",
    )
    assert isinstance(case.threshold, float)


def test_keys_are_the_long_names_of_the_options():
    command = {name for option in verify.params for name in option.opts if name.startswith("--")}
    apart = {"--json", "--quiet", "--debug"}
    assert {f"--{name}" for name in module.READERS} - {"--model"} == command - apart
    fields = {name.replace("-", "_") for name in module.READERS} - {
        "preset"
    }  # whose perturbations a case has
    assert fields == set(Case.__dataclass_fields__)


def test_text_of_the_command_line_reads_as_values_of_a_file():
    text = {
        "label": "3", "threshold": "0.25", "clip": "0.1,0.9", "mean": "0.5", "std": "0.2,0.3,0.4",
        "time-limit": "60", "audit": "5", "perturb": ("brightness(amount=-0.3..0.3)",),
    }  # fmt: skip
    case = make_case(NEEDED | text)
    assert (case.label, case.threshold, case.clip, case.audit) == (3, 0.25, (0.1, 0.9), 5)
    assert (case.mean, case.std, case.time_limit) == ((0.5,), (0.2, 0.3, 0.4), 60.0)
    assert case == make_case(NEEDED | text | {"label": 3, "clip": [0.1, 0.9], "mean": 0.5})


def test_sizes_in_every_form():
    for value in ("224x225", "224,225", [224, 225]):
        assert make_case(NEEDED | {"resize": value}).resize == (224, 225)
    case = make_case(NEEDED | {"resize": "256", "crop": "1,2,30,40", "background": "0.5"})
    assert case.framing() == Framing((256,), (1, 2, 30, 40), "bilinear", (0.5,))


def test_options_override_the_file():
    case = make_case(
        NEEDED | {"threshold": 0.1, "time_limit": 5}, {"threshold": "0.2", "perturb": ("x(a=0..1)",)}
    )
    assert (case.threshold, case.time_limit, case.perturb) == (0.2, 5.0, ("x(a=0..1)",))


def test_defaults_and_no_clip():
    case = make_case(NEEDED)
    assert case == Case(model="digits-mlp", image="digits:7", perturb=("brightness(amount=-0.3..0.3)",))
    assert case.clip == (0.0, 1.0)
    assert make_case(NEEDED | {"clip": "none"}).clip is None


def test_the_settings_are_arguments_of_verify_with_the_same_defaults():
    from steadygaze.verdict.driver import verify as verify_image

    parameters = inspect.signature(verify_image).parameters
    for name, value in make_case(NEEDED).settings().items():
        assert parameters[name].default == value, name


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("treshold", "threshold"),
        ("time", "time-limit"),
        ("perturbation", "perturb"),
    ],
)
def test_an_unknown_key_names_the_nearest(key, nearest):
    with pytest.raises(SettingError, match=f"{key}.*did you mean '{nearest}"):
        make_case(NEEDED | {key: 1})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("threshold", "abc", "a number"),
        ("threshold", True, "a number"),
        ("threshold", [0.3], "a number"),
        ("label", 1.5, "a whole number"),
        ("resize", "big", "whole numbers of pixels"),
        ("resize", 1.5, "whole numbers of pixels"),
        ("crop", True, "whole numbers of pixels"),
        ("background", "white", "a number"),
        ("label", "7.0", "a whole number"),
        ("audit", True, "a whole number"),
        ("clip", "0", "such as 0,1 or the word none"),
        ("clip", [0, 0.5, 1], "such as 0,1 or the word none"),
        ("clip", ["a", "b"], "a number"),
        ("clip", False, "such as 0,1"),
        ("mean", "0.1;0.2", "a number"),
        ("mean", {"red": 1}, "a number"),
        ("model", {"path": "x"}, "text"),
        ("model", "", "empty"),
        ("perturb", 5, "list of texts"),
        ("perturb", [5], "text"),
        ("channel-sum", "yes", "true or false"),
    ],
)
def test_a_value_of_the_wrong_form_is_refused_by_name(key, value, words):
    with pytest.raises(SettingError, match=rf"{key}.*{words}"):
        make_case(NEEDED | {key: value})


@pytest.mark.parametrize(
    ("name", "words"), [("model", "no model"), ("image", "--image"), ("perturb", "--perturb")]
)
def test_what_is_needed_is_asked_for(name, words):
    with pytest.raises(SettingError, match=words):
        make_case({key: value for key, value in NEEDED.items() if key != name})
    with pytest.raises(SettingError, match="no perturbation"):
        make_case(NEEDED | {"perturb": []})


def test_a_key_written_both_ways_is_refused():
    with pytest.raises(SettingError, match="twice"):
        make_case(NEEDED | {"time-limit": 1, "time_limit": 2})


def test_files_that_are_missing_or_no_toml(tmp_path):
    with pytest.raises(SettingError, match="no case file"):
        read_toml(tmp_path / "none.toml")
    with pytest.raises(SettingError, match="cannot be read"):
        read_toml(tmp_path)
    for content in (b"model = ", b"\xff\xfe"):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(SettingError, match="not TOML"):
            read_toml(tmp_path / "bad.toml")


def test_the_example_of_the_documentation_is_a_case(repository):
    text = (repository / "docs" / "formats.md").read_text()
    example = text.split("```toml\n")[1].split("```")[0]
    assert make_case(tomllib.loads(example)).out == "my-answer"


def test_a_number_for_each_channel_may_be_a_quotient():
    assert make_case(NEEDED, {"std": "1/255"}).std == (1 / 255,)
    assert make_case({**NEEDED, "mean": ["1/2", 0.25, "3"]}, {}).mean == (0.5, 0.25, 3.0)
    for wrong in ("1/0", "1/", "/2", "1/2/3", "a/2"):
        with pytest.raises(SettingError, match="std must be a number"):
            make_case(NEEDED, {"std": wrong})


def test_a_plan_for_many_cases_is_told_from_a_case():
    told = r"'models' is a key of plans .* `steadygaze campaign PLAN\.toml`, or give 'model'"
    with pytest.raises(SettingError, match=told):
        make_case({"models": ["digits-mlp"], "images": ["digits:0..9"]})
