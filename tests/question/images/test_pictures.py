"""Pictures of every kind that Pillow reads: their pixels, what is told of them, and what is refused."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from steadygaze.errors import ImageError
from steadygaze.question.framing import Framing
from steadygaze.question.images import load_image
from steadygaze.question.images.loading import image_from
from steadygaze.question.images.pictures import decoded

RANDOM = np.random.default_rng(11)
GREY = RANDOM.integers(0, 256, (6, 9), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (6, 9, 3), dtype=np.uint8)
ALPHA = RANDOM.integers(0, 256, (6, 9), dtype=np.uint8)
SMOOTH = np.stack(np.broadcast_arrays(np.arange(64)[:, None] * 4, np.arange(64) * 4, 128), -1).astype(
    np.uint8
)
DARK, WHITE = Framing(background=(0.0,)), Framing()


def png(width, height, depth, kind, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG written by hand: rows begin with their filter's byte."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)), *chunks]
    parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    made = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def loaded(path, framing=WHITE):
    return load_image(str(path), framing)


def refusal(path) -> str:
    with pytest.raises(ImageError) as caught:
        loaded(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


def planes(array: np.ndarray) -> np.ndarray:
    return np.atleast_3d(array).transpose(2, 0, 1) / 255


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "webp", "ppm", "gif"])
def test_lossless_kinds(tmp_path, ending):
    options = {"lossless": True, "exact": True} if ending == "webp" else {}
    if ending != "gif":
        Image.fromarray(COLOUR).save(tmp_path / f"c.{ending}", **options)
        found = loaded(tmp_path / f"c.{ending}")
        np.testing.assert_array_equal(found.image, planes(COLOUR))
        assert found.conversions == ()
    if ending != "webp":  # which knows no grey
        Image.fromarray(GREY).save(tmp_path / f"g.{ending}")
        found = loaded(tmp_path / f"g.{ending}")
        np.testing.assert_array_equal(found.image, np.broadcast_to(planes(GREY), found.image.shape))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg_as_pillow_reads_it(tmp_path, mode):
    Image.fromarray(SMOOTH).convert(mode).save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as reference:
        np.testing.assert_array_equal(loaded(tmp_path / "a.jpg").image, planes(np.asarray(reference)))
    assert loaded(tmp_path / "a.jpg").conversions == ()


def test_the_content_counts_rather_than_the_name(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    for name in ("a.jpg", "a", "a.dat"):
        (tmp_path / name).write_bytes((tmp_path / "a.png").read_bytes())
        np.testing.assert_array_equal(loaded(tmp_path / name).image, planes(COLOUR))


def over(colour, background):
    """Straight alpha, in exact arithmetic."""
    share = ALPHA[..., None] / 255
    return np.atleast_3d(colour) / 255 * share + np.asarray(background) * (1 - share)


@pytest.mark.parametrize("background", [(1.0,), (0.0,), (0.2, 0.4, 1.0)])
@pytest.mark.parametrize(("mode", "colour"), [("LA", GREY), ("RGBA", COLOUR)])
def test_alpha_is_composited_over_the_background(tmp_path, mode, colour, background):
    Image.fromarray(np.dstack([colour, ALPHA])).save(tmp_path / "a.png")
    found = loaded(tmp_path / "a.png", Framing(background=background))
    expected = np.broadcast_to(over(colour, background), (6, 9, len(found.image))).transpose(2, 0, 1)
    assert len(found.image) == (1 if mode == "LA" and len(background) == 1 else 3)
    np.testing.assert_allclose(found.image, expected, atol=0.6 / 255)
    shade = bytes(round(255 * value) for value in (background * 3)[:3]).hex()
    assert found.conversions == (f"transparency composited over the background #{shade}",)


def test_opaque_alpha_is_left_out(tmp_path):
    Image.fromarray(np.dstack([COLOUR, np.full((6, 9), 255, np.uint8)])).save(tmp_path / "a.png")
    found = loaded(tmp_path / "a.png", DARK)
    np.testing.assert_array_equal(found.image, planes(COLOUR))
    assert found.conversions == ("alpha left out, as it is opaque everywhere",)


def test_palettes(tmp_path):
    few = Image.fromarray(COLOUR // 128 * 255).quantize(8)
    few.save(tmp_path / "a.png")
    found = loaded(tmp_path / "a.png")
    np.testing.assert_array_equal(found.image, planes(np.asarray(few.convert("RGB"))))
    assert found.conversions == ("colours looked up in its palette",)
    few.save(tmp_path / "b.png", transparency=bytes([0, 255, 0]))
    clear = np.isin(np.asarray(few), (0, 2))
    for framing, shade in ((WHITE, 1), (DARK, 0)):
        found = loaded(tmp_path / "b.png", framing)
        assert (found.image[:, clear] == shade).all()
        np.testing.assert_array_equal(
            found.image[:, ~clear], planes(np.asarray(few.convert("RGB")))[:, ~clear]
        )
    Image.fromarray(GREY).save(tmp_path / "d.gif", transparency=int(GREY[2, 3]))
    assert loaded(tmp_path / "d.gif").image[:, 2, 3].min() == 1
    few.save(tmp_path / "c.gif", transparency=1)
    assert (loaded(tmp_path / "c.gif", DARK).image[:, np.asarray(few) == 1] == 0).all()


@pytest.mark.parametrize(
    ("pixels", "colour"), [(GREY, int(GREY[2, 3])), (COLOUR, tuple(map(int, COLOUR[2, 3])))]
)
def test_one_transparent_colour(tmp_path, pixels, colour):
    Image.fromarray(pixels).save(tmp_path / "a.png", transparency=colour)
    clear = (np.atleast_3d(pixels) == colour).all(-1)
    for framing, shade in ((WHITE, 1), (DARK, 0)):
        found = loaded(tmp_path / "a.png", framing)
        assert (found.image[:, clear] == shade).all()
        np.testing.assert_array_equal(found.image[:, ~clear], planes(pixels)[:, ~clear])
        assert "transparency composited" in found.conversions[0]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "big.tif", "a.pgm"])
def test_sixteen_bits_are_divided_by_65535(tmp_path, name):
    deep = RANDOM.integers(0, 65536, (6, 9)).astype(np.uint16)
    deep[0, :2] = 0, 65535
    if name == "big.tif":
        Image.frombytes("I;16B", (9, 6), deep.astype(">u2").tobytes()).save(tmp_path / name)
    elif name == "a.pgm":
        (tmp_path / name).write_bytes(b"P5 9 6 65535\n" + deep.astype(">u2").tobytes())
    else:
        Image.fromarray(deep).save(tmp_path / name)
    found = loaded(tmp_path / name)
    np.testing.assert_array_equal(found.image[0], deep / 65535)
    assert found.conversions == ("16 bits, divided by 65535",)
    np.testing.assert_array_equal(loaded(tmp_path / name, Framing(resize=(6, 9))).image, found.image)
    small = loaded(tmp_path / name, Framing(resize=(3, 4)))
    whole = Image.fromarray((deep / 65535).astype(np.float32)).resize((4, 3), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(small.image[0], np.asarray(whole))


def test_sixteen_bits_of_colour_lose_their_lower_ones_and_say_so(tmp_path):
    deep = RANDOM.integers(0, 65536, (6, 9, 3)).astype(">u2")
    (tmp_path / "a.png").write_bytes(png(9, 6, 16, 2, b"".join(b"\0" + row.tobytes() for row in deep)))
    found = loaded(tmp_path / "a.png")
    np.testing.assert_array_equal(found.image, planes(deep >> 8))
    assert found.conversions == ("16 bits a channel read as 8, the upper ones, as Pillow does",)


@pytest.mark.parametrize(("depth", "levels"), [(1, 2), (2, 4), (4, 16)])
def test_grey_of_few_bits(tmp_path, depth, levels):
    values = RANDOM.integers(0, levels, (6, 8)).astype(np.uint8)
    bits = np.unpackbits(values[..., None], axis=-1)[..., -depth:].reshape(6, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in np.packbits(bits, axis=-1))
    (tmp_path / "a.png").write_bytes(png(8, 6, depth, 0, rows))
    np.testing.assert_allclose(loaded(tmp_path / "a.png").image[0], values / (levels - 1), atol=1e-15)
    (tmp_path / "b.png").write_bytes(png(8, 6, depth, 0, rows, (b"tRNS", struct.pack(">H", 1))))
    assert "other than 8 bits" in refusal(tmp_path / "b.png")


def test_one_bit_says_so(tmp_path):
    Image.fromarray(GREY > 99).save(tmp_path / "a.png")
    assert loaded(tmp_path / "a.png").conversions == ("1 bit, black as 0 and white as 1",)


@pytest.mark.parametrize(("mode", "name"), [("CMYK", "a.jpg"), ("CMYK", "a.tif"), ("YCbCr", "a.tif")])
def test_other_colours(tmp_path, mode, name):
    picture = Image.fromarray(SMOOTH).convert(mode)
    picture.save(tmp_path / name, quality=95)
    found = loaded(tmp_path / name)
    np.testing.assert_allclose(found.image, planes(SMOOTH), atol=0.06)
    assert found.conversions == (f"{mode} to RGB by Pillow's formula, without a colour profile",)


def test_floating_point_pictures(tmp_path):
    values = RANDOM.random((6, 9)).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(loaded(tmp_path / "a.tif").image[0], values)
    Image.fromarray(values * 2).save(tmp_path / "b.tif")
    assert "must lie in [0, 1]" in refusal(tmp_path / "b.tif")


@pytest.mark.parametrize("mode", ["I", "LAB"])
def test_kinds_whose_scale_or_colours_are_not_known(tmp_path, mode):
    Image.new(mode, (4, 5)).save(tmp_path / "a.tif")
    assert "convert it to" in refusal(tmp_path / "a.tif")


UPRIGHT = {
    1: lambda a: a, 2: np.fliplr, 3: lambda a: a[::-1, ::-1], 4: np.flipud, 5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90,
}  # fmt: skip


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_exif_orientation_is_heeded(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if name == "a.webp" else {}
    Image.fromarray(COLOUR).save(tmp_path / name, exif=exif, **options)
    found = loaded(tmp_path / name)
    np.testing.assert_array_equal(found.image, planes(UPRIGHT[orientation](COLOUR)))
    told = (f"turned upright by its EXIF orientation, {orientation}",)
    assert found.conversions == (() if orientation == 1 else told)


def test_orientation_comes_before_the_cut_and_keeps_transparency(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.dstack([COLOUR, ALPHA])).save(tmp_path / "a.png", exif=exif)
    found = loaded(tmp_path / "a.png", Framing(crop=(0, 0, 2, 3)))
    expected = np.rot90(over(COLOUR, (1.0,)), -1)[:3, :2].transpose(2, 0, 1)
    np.testing.assert_allclose(found.image, expected, atol=0.6 / 255)
    assert [how.split()[0] for how in found.conversions] == ["turned", "transparency", "cropped"]
    Image.fromarray(GREY).save(tmp_path / "b.png", exif=exif, transparency=int(GREY[0, 0]))
    assert loaded(tmp_path / "b.png").image[0, 0, -1] == 1


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_several_pictures_in_one_file_are_refused(tmp_path, name):
    frames = [Image.fromarray(np.full((6, 9, 3), level, np.uint8)) for level in (0, 90, 200)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=100)
    assert "holds 3 pictures" in refusal(tmp_path / name)


def test_the_first_picture_of_a_camera_that_stores_two(tmp_path):
    frames = [Image.fromarray(SMOOTH), Image.fromarray(SMOOTH[::2, ::2])]
    frames[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=frames[1:])
    found = loaded(tmp_path / "a.jpg")
    assert found.image.shape == (3, 64, 64)
    assert found.conversions == ("the first of 2 pictures in the file",)


# What is refused


def encoded(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(SMOOTH).save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "tiff", "bmp", "gif", "ppm"])
def test_a_truncated_picture_is_refused_or_whole(tmp_path, kind):
    content, path = encoded(kind), tmp_path / "a.png"
    path.write_bytes(content)
    whole, refused = loaded(path).image, 0
    for end in range(1, len(content), max(1, len(content) // 60)):
        path.write_bytes(content[:end])
        try:
            np.testing.assert_array_equal(loaded(path).image, whole)  # what is missing is not of the pixels
        except ImageError:
            refused += 1
            assert "damaged" in refusal(path)
    assert refused > 50


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"<html>not found</html>", "is no picture that is read"),
        (b"\x89PNG\r\n\x1a\n", "damaged at its head"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no picture that is read"),
        (b"P6 100000 100000 255\n", "claims"),
        (b"P5 0 9 255\n", "a.png"),
    ],
)
def test_files_that_are_no_pictures(tmp_path, content, words):
    (tmp_path / "a.png").write_bytes(content)
    assert words in refusal(tmp_path / "a.png")


def test_a_damaged_picture_is_refused_or_a_picture():
    damage = np.random.default_rng(7)
    for mode in ("RGB", "RGBA", "P", "L", "1", "I;16", "CMYK"):
        picture = (
            Image.new(mode, (24, 24)) if mode == "I;16" else Image.fromarray(SMOOTH[:24, :24]).convert(mode)
        )
        for kind in ("png", "jpeg", "webp", "tiff", "gif", "bmp", "ppm"):
            stream = io.BytesIO()
            try:
                picture.save(stream, kind)
            except (OSError, ValueError):  # not every kind knows every mode
                continue
            for _ in range(8):
                content = bytearray(stream.getvalue())
                for _ in range(damage.integers(1, 5)):
                    content[damage.integers(0, min(300, len(content)))] = damage.integers(0, 256)
                try:
                    values = decoded(io.BytesIO(bytes(content)), "it", (1.0,)).values
                except ImageError:
                    continue
                assert values.shape[0] in (1, 3)
                assert values.dtype == np.uint8 or ((values >= 0) & (values <= 1)).all()


@pytest.mark.parametrize("side", [9_000, 11_000, 30_000])
def test_pictures_that_claim_too_many_pixels_take_no_memory(tmp_path, side):
    (tmp_path / "a.png").write_bytes(png(side, side, 8, 0, b"\0" * 100))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "at most 67,108,864 are read" in refusal(tmp_path / "a.png")


def test_deep_pictures_are_smaller(tmp_path):
    (tmp_path / "a.png").write_bytes(png(5000, 5000, 16, 0, b"\0" * 100))
    assert "at most 16,777,216 are read" in refusal(tmp_path / "a.png")


def test_a_large_picture_that_is_made_small(tmp_path):
    Image.new("RGB", (3000, 2000), (0, 128, 255)).save(tmp_path / "a.png", compress_level=1)
    assert "--resize" in refusal(tmp_path / "a.png")
    assert loaded(tmp_path / "a.png", Framing(resize=(8,))).image.shape == (3, 8, 12)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    Image.fromarray(GREY).save(tmp_path / "a.png")

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refused)
    assert "Permission denied" in refusal(tmp_path / "a.png")


def test_what_pillow_warns_of_is_told(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(SMOOTH).save(stream, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0")
    (tmp_path / "a.jpg").write_bytes(stream.getvalue())
    found = loaded(tmp_path / "a.jpg")
    assert any("Pillow warns: " in how and "EXIF" in how for how in found.conversions)


# Pictures in memory


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1", "CMYK", "I;16", "F"])
def test_a_picture_in_memory_is_read_as_its_file(tmp_path, mode):
    source = Image.fromarray(np.dstack([COLOUR, ALPHA]))
    picture = Image.new("I;16", (4, 5), 300) if mode == "I;16" else source.convert(mode)
    if mode == "F":
        picture = Image.fromarray(np.asarray(picture) / np.float32(255))
    picture.save(tmp_path / "a.tif")
    held, read = image_from(picture), loaded(tmp_path / "a.tif")
    np.testing.assert_array_equal(held.image, read.image)
    assert held.conversions == read.conversions
    assert (held.source, held.label) == (None, None)


def test_a_picture_in_memory_may_be_wrong_too():
    with pytest.raises(ImageError, match="mode HSV"):
        image_from(Image.new("HSV", (4, 5)))
    with pytest.raises(ImageError, match="whole numbers of 32 bits"):
        image_from(Image.new("I", (4, 5)))
    with pytest.raises(ImageError, match="claims 0 x 5 pixels"):
        image_from(Image.new("L", (0, 5)))
