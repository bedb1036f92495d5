"""Sizes and cuts: what Pillow makes of a whole picture, where torchvision would cut, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from steadygaze.errors import ImageError, SettingError
from steadygaze.question.framing import RESAMPLINGS, Framing, framing_of
from steadygaze.question.images.records import Pixels
from steadygaze.question.images.resizing import framed

COLOURS = np.random.default_rng(3).integers(0, 256, (20, 30, 3), dtype=np.uint8)
STORED = Pixels(COLOURS.transpose(2, 0, 1), ("read",))


def made(pixels=STORED, **asked) -> Pixels:
    return framed(pixels, framing_of(**asked), "photo")


@pytest.mark.parametrize("resampling", RESAMPLINGS)
def test_bytes_are_resized_as_pillow_resizes_the_whole_picture(resampling):
    found = made(resize="7x9", resampling=resampling)
    whole = Image.fromarray(COLOURS).resize((9, 7), Image.Resampling[resampling.upper()])
    np.testing.assert_array_equal(found.values, np.asarray(whole).transpose(2, 0, 1))
    assert found.conversions == ("read", f"resized from 20 high, 30 wide to 7 high, 9 wide, {resampling}")


@pytest.mark.parametrize("resampling", RESAMPLINGS)
def test_floating_point_is_resized_in_single_precision_and_stays_in_range(resampling):
    values = np.random.default_rng(4).integers(0, 2, (1, 9, 9)).astype(np.float64)
    found = made(Pixels(values), resize=(20, 31), resampling=resampling)
    whole = Image.fromarray(values[0].astype(np.float32)).resize(
        (31, 20), Image.Resampling[resampling.upper()]
    )
    np.testing.assert_array_equal(found.values[0], np.asarray(whole).clip(0, 1))
    assert found.values.dtype == np.float64
    assert "in single precision" in found.conversions[0]
    assert ("cut to [0, 1]" in found.conversions[0]) == (resampling in ("bicubic", "lanczos"))


# As torchvision.transforms.Resize(edge) says: the longer edge is int(edge * longer / shorter).
@pytest.mark.parametrize(
    ("height", "width", "edge", "expected"),
    [
        (20, 30, 8, (8, 12)),
        (30, 20, 8, (12, 8)),
        (20, 20, 8, (8, 8)),
        (21, 29, 8, (8, 11)),
        (3, 100, 7, (7, 233)),
    ],
)
def test_one_number_is_the_shorter_edge(height, width, edge, expected):
    found = made(Pixels(np.zeros((1, height, width), np.uint8)), resize=edge)
    assert found.values.shape[1:] == expected


# As torchvision.transforms.CenterCrop rounds: int(round((20 - 15) / 2)) is 2, (30 - 3) / 2 is 14 (13.5).
@pytest.mark.parametrize(
    ("crop", "top", "left", "height", "width"),
    [
        ("15x3", 2, 14, 15, 3),
        ("10x20", 5, 5, 10, 20),
        (12, 4, 9, 12, 12),
        ("3,2,5,7", 2, 3, 7, 5),
        ((0, 0, 30, 20), 0, 0, 20, 30),
    ],
)
def test_crops(crop, top, left, height, width):
    found = made(crop=crop)
    np.testing.assert_array_equal(found.values, STORED.values[:, top : top + height, left : left + width])
    assert len(found.conversions) == (1 if height == 20 else 2)


def test_the_size_comes_before_the_cut():
    found = made(resize=10, crop="10x10")
    wide = np.asarray(Image.fromarray(COLOURS).resize((15, 10), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(found.values, wide[:, 2:12].transpose(2, 0, 1))
    assert [how.split()[0] for how in found.conversions] == ["read", "resized", "cropped"]


def test_what_has_its_size_already_stays_as_it_is():
    assert made(resize=20, crop="20x30").conversions == ("read",)
    assert made().values is STORED.values


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"crop": "21x10"}, "does not lie inside"),
        ({"crop": (0, 0, 31, 20)}, "does not lie inside"),
        ({"crop": (25, 0, 10, 20)}, "does not lie inside"),
        ({"resize": (5000, 5000)}, "after --resize"),
    ],
)
def test_what_cannot_be_cut_or_made(asked, words):
    with pytest.raises(ImageError, match=words):
        made(**asked)


def test_an_image_that_is_still_too_large_is_told_of_resize():
    with pytest.raises(ImageError, match="--resize 224x224"):
        made(Pixels(np.broadcast_to(np.uint8(0), (3, 3000, 4000))))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"resize": 0}, "resize is 0"),
        ({"resize": (1, 2, 3)}, "resize is 1x2x3; it must be one edge"),
        ({"resize": ()}, "resize is"),
        ({"crop": (1, 2, 3)}, "crop is 1x2x3"),
        ({"crop": (-1, 0, 3, 3)}, "crop is -1x0x3x3"),
        ({"crop": (0, 0, 0, 3)}, "crop is 0x0x0x3"),
        ({"resize": 10**12}, "in pixels"),
        ({"resize": 2.5}, "whole numbers"),
        ({"resize": "2.5"}, "whole numbers"),
        ({"resize": object()}, "whole numbers"),
        ({"resampling": "cubic"}, "bilinear, bicubic, nearest, lanczos"),
        ({"background": (0.5, 0.5)}, "such as 1 for white"),
        ({"background": 2}, "within 0 and 1"),
        ({"background": float("nan")}, "within 0 and 1"),
        ({"background": "white"}, "one number"),
    ],
)
def test_what_is_no_framing(asked, words):
    with pytest.raises(SettingError, match=words):
        framing_of(**asked)


def test_the_default_leaves_images_alone():
    assert framing_of() == Framing()
    assert made(background=(0.5, 0.5, 1)).values is STORED.values
