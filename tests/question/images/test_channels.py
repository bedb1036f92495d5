"""Grey for RGB and RGB for grey: to the last bit as Pillow has it, and only for what was stored."""

from __future__ import annotations

import numpy as np
from PIL import Image

from steadygaze.question.images import LoadedImage
from steadygaze.question.images.channels import other_channels


def stored(image) -> LoadedImage:
    return LoadedImage(image, conversions=("read",), stored=True)


def test_grey_is_repeated():
    grey = np.random.default_rng(0).random((1, 5, 4))
    found = other_channels(stored(grey))
    np.testing.assert_array_equal(found.image, np.concatenate([grey] * 3))
    assert found.conversions == ("read", "grey repeated for red, green and blue")


def test_every_kind_of_colour_becomes_the_grey_of_pillow():
    levels = [*range(0, 256, 15), 1, 127, 128, 254]
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(len(levels), -1, 3).astype(np.uint8)
    found = other_channels(stored(colours.transpose(2, 0, 1) / 255))
    np.testing.assert_array_equal(found.image[0], np.asarray(Image.fromarray(colours).convert("L")) / 255)
    assert "in 8 bits as Pillow does" in found.conversions[-1]


def test_finer_colours_are_not_rounded():
    colours = np.random.default_rng(1).random((3, 5, 4))
    found = other_channels(stored(colours))
    red, green, blue = colours
    np.testing.assert_allclose(found.image[0], 0.299 * red + 0.587 * green + 0.114 * blue, atol=1e-15)
    assert "not rounded" in found.conversions[-1]
    assert other_channels(stored(np.ones((3, 2, 2)))).image.max() == 1


def test_arrays_and_other_channels_are_left_alone():
    assert other_channels(LoadedImage(np.zeros((1, 5, 4)))) is None
    assert other_channels(stored(np.zeros((4, 5, 4)))) is None
