"""The built-in images and networks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import steadygaze
from steadygaze.errors import ImageError, ModelError
from steadygaze.question.digits import BUILTIN_MODELS, builtin_model, digit, digits, is_held_out


def test_the_images_are_scikit_learns():
    from sklearn.datasets import load_digits

    reference = load_digits()
    images, labels = digits()
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == np.float64
    np.testing.assert_array_equal(images[:, 0] * 16, reference.images)
    np.testing.assert_array_equal(labels, reference.target)


def test_users_import_them_from_the_package():
    import steadygaze.digits as public

    assert public.digit is digit
    assert public.builtin_model is builtin_model
    assert all(hasattr(public, name) for name in public.__all__)


@pytest.mark.parametrize("name", ["campaign", "digits", "errors"])
def test_modules_for_users_need_no_import_of_their_own(name):
    program = f"import steadygaze as sg; assert '{name}' in dir(sg); print(sg.{name}.__name__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"steadygaze.{name}"


def test_the_files_of_networks_lie_in_the_package():
    assert builtin_model("digits-mlp").parent == Path(steadygaze.__file__).parent / "models"


def test_a_digit_is_the_callers_own():
    image, label = digit(7)
    assert label == 7
    image[:] = 0
    assert digit(7)[0].any()


@pytest.mark.parametrize("index", [-1, 1797])
def test_a_digit_out_of_range_is_refused(index):
    with pytest.raises(ImageError, match="numbered 0 to 1796"):
        digit(index)


@pytest.mark.parametrize("name", BUILTIN_MODELS)
def test_a_built_in_network_classifies_what_it_never_saw(name):
    path = builtin_model(name)
    assert path.stat().st_size < 200_000
    images, labels = digits()
    held_out = [index for index in range(len(labels)) if is_held_out(index)]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": images[held_out].astype(np.float32)})
    assert np.asarray(logits).shape == (len(held_out), 10)
    assert (np.argmax(logits, axis=1) == labels[held_out]).mean() >= 0.96


@pytest.mark.parametrize("name", BUILTIN_MODELS)
def test_a_built_in_network_is_plain_onnx(name):
    proto = onnx.load(builtin_model(name))
    onnx.checker.check_model(proto, full_check=True)
    assert {node.op_type for node in proto.graph.node} <= {"Flatten", "Gemm", "Conv", "Relu", "MaxPool"}
    assert all(tensor.data_type == onnx.TensorProto.FLOAT for tensor in proto.graph.initializer)


def test_an_unknown_network_is_refused_by_name():
    with pytest.raises(ModelError, match=r"'digits-rnn'.*digits-cnn or digits-mlp"):
        builtin_model("digits-rnn")


def test_import_leaves_scikit_learn_and_torch_alone():
    slow = ("sklearn", "torch", "PIL")
    script = f"import sys, steadygaze.question.images; print([m for m in {slow} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
