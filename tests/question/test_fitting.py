"""A stored image gets the channels that the network takes, whatever the network; an array does not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

import steadygaze as sg
from onnx_files import node, with_head
from steadygaze.errors import ImageError, ModelError, SettingError
from steadygaze.question.framing import Framing
from steadygaze.question.images import load_image

BRIGHTER = "brightness(amount=-0.01..0.01)"
GREY = np.random.default_rng(0).integers(0, 256, (6, 6), dtype=np.uint8)
COLOURS = np.random.default_rng(1).integers(0, 256, (12, 18, 3), dtype=np.uint8)


def network(channels: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(channels, 2, 3), nn.LeakyReLU(), nn.Flatten(), nn.Linear(32, 3)).eval()


@pytest.fixture
def grey(tmp_path) -> str:
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    return str(tmp_path / "grey.png")


@pytest.fixture
def colour(tmp_path) -> str:
    Image.fromarray(COLOURS).save(tmp_path / "colour.png")
    return str(tmp_path / "colour.png")


def test_grey_for_a_network_of_rgb(grey):
    answer = sg.verify(network(3), grey, BRIGHTER)
    asked = answer.result.problem.image
    assert asked.conversions == ("grey repeated for red, green and blue",)
    assert asked.source == grey
    np.testing.assert_array_equal(answer.problem.image, np.stack([GREY / 255] * 3))
    assert "grey repeated" in answer.result.problem.image_sentences()[0]


def test_rgb_for_a_grey_network(colour):
    answer = sg.verify(network(1), colour, BRIGHTER, resize=6, crop=6)
    small = Image.fromarray(COLOURS).resize((9, 6), Image.Resampling.BILINEAR)
    left = round((9 - 6) / 2)
    expected = np.asarray(small.crop((left, 0, left + 6, 6)).convert("L")) / 255
    np.testing.assert_array_equal(answer.problem.image[0], expected)
    assert [how.split()[0] for how in answer.result.problem.image.conversions] == [
        "resized",
        "cropped",
        "RGB",
    ]


def test_normalisation_for_three_channels_asks_for_three(grey):
    answer = sg.verify(network(3), grey, BRIGHTER, mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.4))
    assert answer.result.problem.mean == (0.1, 0.2, 0.3)


def test_a_network_that_declares_its_input(tmp_path, grey):
    path = tmp_path / "net.onnx"
    onnx.save(with_head([node("Relu", None)], {}, 108, shape=(3, 6, 6)), path)
    asked = sg.verify(path, grey, BRIGHTER).result.problem.image
    assert (asked.shape, len(asked.conversions)) == ((3, 6, 6), 1)


def test_an_array_is_taken_as_it_is():
    with pytest.raises(ModelError, match="channels"):
        sg.verify(network(3), GREY / 255, BRIGHTER)


def test_pictures_paths_and_arrays_are_resized_alike(colour):
    values = [
        sg.verify(network(3), given, BRIGHTER, resize=(6, 6), resampling="bicubic").problem.image
        for given in (colour, Image.open(colour), COLOURS)
    ]
    np.testing.assert_array_equal(values[0], values[1])
    np.testing.assert_array_equal(values[0], values[2])


def test_the_size_that_a_network_declares_is_told(tmp_path, colour):
    path = tmp_path / "net.onnx"
    onnx.save(with_head([node("Relu", None)], {}, 108, shape=(3, 6, 6)), path)
    with pytest.raises(ModelError, match="--resize 6x6"):
        sg.verify(path, colour, BRIGHTER)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (COLOURS, "use an image of 1 channel, as the network has, and of its size, 6x6$"),
        (COLOURS[:6, :6], "use an image of 1 channel, as the network has$"),
        (COLOURS[..., 0], "resize it with --resize 6x6$"),
    ],
)
def test_the_channels_that_a_network_declares_are_told(tmp_path, given, words):
    """Resizing alone does not help where the channels are others."""
    path = tmp_path / "net.onnx"
    onnx.save(with_head([node("Relu", None)], {}, 36, shape=(1, 6, 6)), path)
    with pytest.raises(ModelError, match=words):
        sg.verify(path, given / 255, BRIGHTER)


BY_CHANNELS = nn.Sequential(nn.Linear(3, 2), nn.Flatten())


@pytest.mark.parametrize(
    ("module", "given", "layout", "words"),
    [
        (nn.Linear(36, 3), COLOURS[:6, :6, 0], "auto", "layout flat$"),
        (BY_CHANNELS, COLOURS[:6, :6], "auto", r"\(H, W, C\): use layout hwc$"),
        (nn.Conv2d(3, 2, 6), COLOURS[:6, :6], "hwc", r"\(C, H, W\): use layout chw$"),
        (nn.Conv2d(3, 2, 6), COLOURS[:6, :6, 0], "auto", "of three channels: give it one$"),
        (nn.Conv2d(1, 2, 6), COLOURS[:6, :6], "auto", "of one channel: give it one$"),
        (nn.Conv2d(1, 2, 9), COLOURS[:6, :6, 0], "auto", "check layout and shape"),
    ],
    ids=["flat", "hwc", "chw", "grey", "colours", "size"],
)
def test_what_would_make_an_image_fit_a_module_is_told(module, given, layout, words):
    with pytest.raises(ModelError, match=words):
        sg.verify(module, given / 255, BRIGHTER, layout=layout)


class Unfinished(nn.Module):
    """Layers, and no forward that goes through them."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(36, 3)


class Elsewhere(Unfinished):
    """As it ran where there was a graphics card."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.flatten(1) + torch.zeros(36, device="cuda"))


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Unfinished(), "give it a forward that returns the logits, or hand in the part that has one$"),
        (nn.ModuleList([nn.Flatten(), nn.Linear(36, 3)]), "give it a forward that returns the logits"),
        pytest.param(
            Elsewhere(),
            r"take \.cuda\(\) and the devices that it names out of its forward",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="the device is there"),
        ),
    ],
    ids=["unfinished", "list", "elsewhere"],
)
def test_what_is_not_for_the_shape_is_not_called_so(module, words):
    with pytest.raises(ModelError, match=words) as refused:
        sg.verify(module, COLOURS[:6, :6, 0] / 255, BRIGHTER)
    assert "shape (--resize" not in str(refused.value)


def test_what_fits_neither_way_is_refused_as_it_is(colour):
    with pytest.raises(ModelError, match=r"\(1, 3, 12, 18\).*--resize"):
        sg.verify(network(1), colour, BRIGHTER)


def test_a_loaded_image_is_not_framed_again(colour):
    loaded = load_image(colour, Framing((6, 6)))
    assert sg.verify(network(3), loaded, BRIGHTER).result.problem.image.source == colour
    with pytest.raises(SettingError, match="give them to load_image"):
        sg.verify(network(3), loaded, BRIGHTER, crop=5)


def test_what_is_no_image_is_refused():
    with pytest.raises(ImageError, match="There is no image file"):
        sg.verify(network(3), "none.jpg", BRIGHTER)


def test_a_wrong_prediction_is_said(grey):
    module = network(3)
    predicted = int(module(torch.from_numpy(np.stack([GREY / 255] * 3)[None]).float()).argmax())
    for label, said in ((predicted, False), ((predicted + 1) % 3, True)):
        answer = sg.verify(module, grey, BRIGHTER, image_label=label)
        told = " ".join(answer.result.problem.image_sentences())
        assert (f"predicts class {predicted}, while the data set says {label}" in told) == said
        assert answer.result.problem.image.label == predicted
