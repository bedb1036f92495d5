"""Bad input, through the whole program: one sentence that helps, exit code 2, nothing written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from sparing import sparing
from steadygaze import cli

BRIGHTER = "brightness(amount=-0.3..0.3)"


def dense_onnx(
    path: Path, weight: np.ndarray, *, activation: str = "Relu", inputs: tuple[int, ...] = (1, 1, 8, 8)
) -> None:
    """Flatten, one dense layer, an activation: written with the onnx package alone."""
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["hidden"], transB=1),
        helper.make_node(activation, ["hidden"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, inputs)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, len(weight)))],
        [
            numpy_helper.from_array(weight.astype(np.float32), "weight"),
            numpy_helper.from_array(np.zeros(len(weight), np.float32), "bias"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """A folder with files that cannot be used."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CI", "1")
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(10, 64))
    dense_onnx(tmp_path / "nan.onnx", np.where(np.eye(10, 64) > 0, np.nan, weight))
    dense_onnx(tmp_path / "tan.onnx", weight, activation="Tan")
    dense_onnx(tmp_path / "sigmoid.onnx", weight, activation="Sigmoid")
    dense_onnx(tmp_path / "big.onnx", rng.normal(size=(10, 784)), inputs=(1, 1, 28, 28))
    (tmp_path / "rubbish.onnx").write_bytes(b"this is no network")
    np.save(tmp_path / "bright.npy", np.full((8, 8), 1.5))
    np.save(tmp_path / "nan.npy", np.full((8, 8), np.nan))
    np.save(tmp_path / "flat.npy", np.zeros(64))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }"
    Path("huge.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "nine.png")
    (tmp_path / "rubbish.png").write_bytes(b"this is no picture")
    return tmp_path


def arguments(model="digits-mlp", image="digits:7", perturb=BRIGHTER, **options) -> list[str]:
    """A command line that is right but for what is given."""
    given = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    return ["verify", model, "--image", image, "--perturb", perturb, *given]


BAD = {
    "model file missing": (arguments(model="none.onnx"), "none.onnx"),
    "model of no known form": (arguments(model="net.h5"), "net.h5"),
    "model that is no network": (arguments(model="rubbish.onnx"), "rubbish.onnx"),
    "module missing": (arguments(model="no_such_module:build"), "no_such_module"),
    "callable missing": (arguments(model="math:no_such"), "no_such"),
    "callable that gives no module": (arguments(model="time:time"), "Module"),
    "built-in misspelt": (arguments(model="digits-mpl"), "digits-mlp"),
    "weights not finite": (arguments(model="nan.onnx"), "nan|finite"),
    "layer unknown": (arguments(model="tan.onnx"), "Tan"),
    "network that is smooth": (
        arguments(model="sigmoid.onnx", method="sweep"),
        r"Sigmoid.* is smooth.*use --method bound",
    ),
    "map that varies in a region": (
        arguments(saliency="softmax-gradient", method="nearest"),
        "softmax-gradient.*use --method bound",
    ),
    "network for another shape": (arguments(model="big.onnx"), "28"),
    "image file missing": (arguments(image="none.png"), "none.png"),
    "image source not understood": (arguments(image="digit-7"), "digits:7"),
    "image number too large": (arguments(image="digits:100000"), "100000"),
    "image of another shape": (arguments(image="nine.png"), "9"),
    "image that is no picture": (arguments(image="rubbish.png"), "rubbish.png"),
    "image array of one axis": (arguments(image="flat.npy"), "64"),
    "image outside [0, 1]": (arguments(image="bright.npy"), "1.5"),
    "image not finite": (arguments(image="nan.npy"), "nan|finite"),
    "image that is a pickle": (arguments(image="objects.npy"), "objects.npy"),
    "image header that claims 10^12 values": (arguments(image="huge.npy"), "huge.npy"),
    "image of one number for several": (arguments(image="digits:7..9"), "does not name an image"),
    "image for another size, with the size": (arguments(image="nine.png"), "--resize 8x8"),
    "image without its option": (
        ["verify", "digits-mlp", "digits:7", "--perturb", BRIGHTER],
        r"extra argument \(digits:7\): MODEL is the only word without an option; give the image with --image",
    ),
    "resize of nothing": (arguments(resize=0), "resize is 0"),
    "resize that is no size": (arguments(resize="big"), "224x224"),
    "crop outside the image": (arguments(crop="9x9"), "does not lie inside"),
    "resampling unknown": (arguments(resize=8, resampling="cubic"), "bicubic"),
    "background above 1": (arguments(background=255), "within 0 and 1"),
    "folder that is not there": (arguments(image="folder:none:cat/1.png"), "no file|no folder"),
    "perturbation unknown": (arguments(perturb="brightnes(amount=-0.3..0.3)"), "did you mean .brightness."),
    "perturbation that is none": (
        arguments(perturb="rain(amount=0..1)"),
        "named .rain.; allowed: brightness",
    ),
    "perturbation that is a target": (arguments(perturb="fog(amount=0..1)"), "target=fog. blends with it"),
    "model nearly built in": (arguments(model="digits-cn"), "did you mean .digits-cnn."),
    "perturbation unreadable": (arguments(perturb="brightness(amount"), "brightness"),
    "range reversed": (arguments(perturb="brightness(amount=0.3..-0.3)"), "0.3"),
    "range without 0": (arguments(perturb="brightness(amount=0.1..0.3)"), "0.1"),
    "range not finite": (arguments(perturb="brightness(amount=0..inf)"), "inf"),
    "no parameter at all": (arguments(perturb="brightness(amount=0.1)"), "parameter|range|vari"),
    "setting of a perturbation unknown": (arguments(perturb="brightness(amount=0..1, top=3)"), "top"),
    "patch outside the image": (
        arguments(perturb="patch(opacity=0..1, top=7, left=2, height=3, width=3)"),
        "patch",
    ),
    "chain that multiplies parameters": (
        arguments(perturb=f"{BRIGHTER} | contrast(amount=-0.1..0.1)", method="sweep"),
        "brightness.*contrast|contrast.*brightness",
    ),
    "label not predicted": (arguments(label=3), "predict"),
    "label that is no class": (arguments(label=10), "0 to 9"),
    "label negative": (arguments(label=-1), "0 to 9"),
    "threshold negative": (arguments(threshold=-0.1), "-0.1"),
    "threshold not a number": (arguments(threshold="nan"), "nan"),
    "saliency unknown": (arguments(saliency="gradcam"), "grad-cam"),
    "layer of no such name": (
        arguments(model="digits-cnn", saliency="grad-cam", layer="nope"),
        "the layer is 'nope', allowed are layer3, layer0",
    ),
    "layer for maps of pixels": (
        arguments(model="digits-cnn", layer="layer0"),
        "looks at the pixels.*grad-cam",
    ),
    "inconsistency unknown": (arguments(inconsistency="cosin"), "cosine"),
    "method unknown": (arguments(method="swep"), "sweep"),
    "norm unknown": (arguments(method="nearest", norm="l1"), "l2"),
    "norm for another method": (arguments(method="sweep", norm="l2"), "nearest"),
    "inside for another method": ([*arguments(method="nearest"), "--prove-interior"], "gbs"),
    "reachable for another method": ([*arguments(method="gbs"), "--reachable"], "bfs"),
    "undecided for another method": ([*arguments(method="sweep"), "--undecided", "0.1"], "bound"),
    "undecided above 1": ([*arguments(method="bound"), "--undecided", "1.5"], "below 1"),
    "no hand-over for another method": ([*arguments(method="gbs"), "--no-handover"], "bound"),
    "clip reversed": (arguments(clip="1,0"), "clip"),
    "clip that cuts the image": (arguments(clip="0.4,0.6"), "0.4"),
    "layout unknown": (arguments(layout="cwh"), "chw"),
    "mean for other channels": (arguments(mean="0.1,0.2,0.3"), "mean"),
    "std of zero": (arguments(std="0"), "std|standard"),
    "time limit negative": (arguments(time_limit=-1), "time limit|time-limit"),
    "time limit without an end": (arguments(time_limit="inf"), "inf; it must be a number above 0, or left"),
    "memory limit without an end": (arguments(memory_limit="inf"), "memory limit is inf"),
    "case file in YAML": (["verify", "case.yaml"], "'case.yaml', and case files are TOML"),
    "case file in JSON": (["verify", "case.JSON", "--image", "digits:7"], "case files are TOML"),
    "baseline unknown": (
        arguments(saliency="integrated-gradients", baseline="white"),
        "neither black, mean nor an image that can be read: .*'white'",
    ),
    "memory limit of zero": (arguments(memory_limit=0), "memory limit|memory-limit"),
    "regions limit of zero": (arguments(regions_limit=0), "regions limit|regions-limit"),
    "device unknown": (arguments(device="gpu"), "cuda"),
    "folder without a name": (arguments(out=""), "out is empty: give its value, or leave it out"),
    "folder of the demo without a name": (["demo", "--out", ""], "out is empty"),
    "image without a name": (arguments(image=""), "image is empty"),
    "audit negative": (arguments(audit=-1), "audit"),
    "threads negative": (arguments(threads=-2), "threads"),
    "threads zero": (arguments(threads=0), "threads"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_one_sentence(name, capsys, workplace):
    given, words = BAD[name]
    before = set(workplace.iterdir())
    assert cli.run(given) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert re.search(words, err), err
    assert set(workplace.iterdir()) == before


@pytest.mark.parametrize("name", sparing(["model file missing", "threshold negative"]))
def test_the_same_as_a_program(name, workplace):
    given, _ = BAD[name]
    done = subprocess.run(
        [sys.executable, "-m", "steadygaze", *given],
        cwd=workplace,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_the_demo_as_a_program(workplace):
    done = subprocess.run(
        [sys.executable, "-m", "steadygaze", "demo"],
        cwd=workplace,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (workplace / "steadygaze-demo" / "report.html").is_file()
    assert done.stdout.startswith("May this image change by brightness.amount")
