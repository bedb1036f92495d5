"""Reading images: what is understood, and what is refused in which words."""

from __future__ import annotations

import gzip
import io
import re
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from steadygaze.errors import ImageError
from steadygaze.question.digits import digit
from steadygaze.question.images import as_image, images_of, load_image

RANDOM = np.random.default_rng(5)
GREYS = RANDOM.integers(0, 256, (6, 5, 4), dtype=np.uint8)
COLOURS = RANDOM.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9], dtype=np.uint8)


def idx_bytes(array: np.ndarray, sizes: tuple[int, ...] | None = None) -> bytes:
    """An IDX file; the sizes in its header may lie."""
    sizes = sizes or array.shape
    return bytes([0, 0, 8, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes) + array.tobytes()


def npy_bytes(array: np.ndarray, shape: tuple[int, ...] | None = None, descr: str | None = None) -> bytes:
    """An npy file; the shape and type in its header may lie."""
    stream = io.BytesIO()
    header = {"descr": descr or array.dtype.str, "fortran_order": False, "shape": shape or array.shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + array.tobytes()


@pytest.fixture
def folder(tmp_path):
    """A folder with one file of each kind."""
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(GREYS)))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(LABELS)))
    (tmp_path / "train-images.idx3-ubyte").write_bytes(idx_bytes(GREYS[::-1].copy()))
    (tmp_path / "train-labels.idx1-ubyte").write_bytes(idx_bytes(LABELS[::-1].copy()))
    np.savez_compressed(tmp_path / "set.npz", images=COLOURS, labels=LABELS.astype(np.int64))
    np.save(tmp_path / "grey.npy", GREYS[2] / 255)
    Image.fromarray(GREYS[2]).save(tmp_path / "grey.png")
    Image.fromarray(COLOURS[2]).save(tmp_path / "colour.png")
    return tmp_path


def test_sources_are_names_and_paths(folder):
    assert load_image(folder / "grey.png").image.shape == load_image(str(folder / "grey.png")).image.shape
    for other in (np.zeros((4, 4)), torch.zeros(1, 4, 4), None, 3):
        with pytest.raises(ImageError, match=r"of type .*must be text .* to verify\(\) as it is"):
            load_image(other)


def refusal(source) -> str:
    """The one sentence with which a source is refused."""
    with pytest.raises(ImageError) as caught:
        load_image(str(source))
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


# What is understood


def test_digits():
    loaded = load_image("digits:7")
    np.testing.assert_array_equal(loaded.image, digit(7)[0])
    assert (loaded.label, loaded.source, loaded.index) == (7, "digits:7", 7)


@pytest.mark.parametrize("index", [0, 3, 5])
def test_idx_pairs_under_both_names(folder, index):
    test, train = load_image(f"idx:{folder}:{index}"), load_image(f"idx:{folder}:train:{5 - index}")
    np.testing.assert_array_equal(test.image, GREYS[index][None] / 255)
    np.testing.assert_array_equal(train.image, test.image)
    assert test.label == train.label == LABELS[index]
    assert (test.index, train.index) == (index, 5 - index)


def test_idx_without_labels_has_none(folder):
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    assert load_image(f"idx:{folder}:1").label is None


def test_mnist_as_shipped(shared):
    loaded = load_image(f"idx:{shared}/data/mnist:17")
    assert loaded.image.shape == (1, 28, 28)
    assert loaded.label == 7
    assert loaded.image.max() == 1


def test_cifar_as_shipped(shared):
    path = shared / "data/cifar10/cifar10_test_exact.npz"
    loaded = load_image(f"npz:{path}:4")
    with np.load(path) as reference:
        np.testing.assert_array_equal(loaded.image * 255, reference["images"][4].transpose(2, 0, 1))
        assert loaded.label == reference["labels"][4]


@pytest.mark.parametrize("dtype", ["uint8", ">f4", "float64"])
@pytest.mark.parametrize("pixels", [GREYS, COLOURS], ids=["grey", "colour"])
def test_npz_layouts_and_types(tmp_path, pixels, dtype):
    scaled = pixels if dtype == "uint8" else (pixels / 255).astype(dtype)
    np.savez(tmp_path / "set.npz", images=scaled)
    loaded = load_image(f"npz:{tmp_path}/set.npz:2")
    expected = np.atleast_3d(pixels[2]).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(loaded.image, expected, atol=1e-7 if dtype == ">f4" else 0)
    assert loaded.image.dtype == np.float64
    assert loaded.label is None


def test_a_picture_three_pixels_high_is_not_taken_for_colours(tmp_path):
    np.savez(tmp_path / "set.npz", images=np.zeros((2, 3, 7, 1)))
    assert load_image(f"npz:{tmp_path}/set.npz:0").image.shape == (1, 3, 7)


def test_png_and_npy(folder):
    np.testing.assert_array_equal(load_image(f"{folder}/grey.png").image, GREYS[2][None] / 255)
    np.testing.assert_array_equal(load_image(f"{folder}/grey.npy").image, GREYS[2][None] / 255)
    loaded = load_image(f"{folder}/colour.png")
    np.testing.assert_array_equal(loaded.image, COLOURS[2].transpose(2, 0, 1) / 255)
    assert (loaded.label, loaded.index) == (None, None)


def test_npy_stored_column_by_column(tmp_path):
    np.save(tmp_path / "f.npy", np.asfortranarray(GREYS[1]))
    np.testing.assert_array_equal(load_image(f"{tmp_path}/f.npy").image[0], GREYS[1] / 255)


@pytest.mark.parametrize("name", ["a:b.png", "idx:3.png", "npz:x:1.png", "digits:7.PNG"])
def test_a_colon_in_a_files_name_does_no_harm(folder, monkeypatch, name):
    monkeypatch.chdir(folder)
    (folder / "grey.png").rename(folder / name)
    assert load_image(name).image.shape == (1, 5, 4)


def test_a_colon_in_a_folders_name_does_no_harm(folder, monkeypatch):
    inner = folder / "C:" / "set:1"
    inner.mkdir(parents=True)
    for path in folder.glob("t10k*"):
        path.rename(inner / path.name)
    monkeypatch.chdir(folder)
    assert load_image("idx:C:/set:1:4").label == LABELS[4]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5, 4), (1, 5, 4)),
        ((1, 5, 4), (1, 5, 4)),
        ((3, 5, 4), (3, 5, 4)),
        ((5, 4, 3), (3, 5, 4)),
        ((5, 4, 1), (1, 5, 4)),
        ((7, 5, 4), (7, 5, 4)),
        ((1, 784, 1), (1, 784, 1)),
        ((3, 5, 3), (3, 5, 3)),
    ],
)
def test_axes(shape, expected):
    array = RANDOM.random(shape)
    image = as_image(array)
    assert image.shape == expected
    moved = array if shape == expected or len(shape) == 2 else np.moveaxis(array, -1, 0)
    np.testing.assert_array_equal(image, moved.reshape(expected))
    assert not np.shares_memory(image, array)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_tensors(dtype):
    tensor = torch.rand(3, 5, 4).to(dtype).requires_grad_()
    np.testing.assert_array_equal(as_image(tensor), tensor.detach().double().numpy())
    assert as_image(torch.full((2, 2), 255, dtype=torch.uint8)).max() == 1


# Many at once


@pytest.mark.parametrize(
    ("source", "names", "labels"),
    [
        ("digits:7", ["digits:7"], [7]),
        ("digits:7..9", ["digits:7", "digits:8", "digits:9"], [7, 8, 9]),
        ("digits:12,3..4,3", ["digits:12", "digits:3", "digits:4"], [2, 3, 4]),
        ("idx:{}:2..3", ["t10k:2", "t10k:3"], [4, 1]),
        ("idx:{}:train", [f"train:{k}" for k in range(6)], [9, 5, 1, 4, 1, 3]),
        ("idx:{}:train:0,5", ["train:0", "train:5"], [9, 3]),
        ("npz:{}/set.npz", [f"set:{k}" for k in range(6)], [3, 1, 4, 1, 5, 9]),
        ("npz:{}/set.npz:5", ["set:5"], [9]),
        ("{}/grey.npy", ["grey.npy"], [None]),
        ("{}/colour.png", ["colour.png"], [None]),
    ],
)
def test_the_images_of_a_source(folder, source, names, labels):
    entries = images_of(source.format(folder))
    assert [entry.name for entry in entries] == names
    assert [entry.label for entry in entries] == labels
    for entry in entries:
        loaded = load_image(entry.reference)
        assert loaded.label == entry.label
        assert images_of(entry.reference) == [entry]


def test_all_digits_and_sets_without_labels(folder):
    assert len(images_of("digits")) == 1797
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    assert [entry.label for entry in images_of(f"idx:{folder}")] == [None] * 6
    np.savez(folder / "bare.npz", images=GREYS)
    assert {entry.label for entry in images_of(f"npz:{folder}/bare.npz")} == {None}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("digits:9..7", "the smaller number first"),
        ("digits:0..1797", "there are 1797"),
        ("idx:{}:6", "there are 6"),
        ("npz:{}/set.npz:3,17", "there are 6"),
        ("npz:none.npz", "There is no npz file"),
        ("cats", "not understood"),
        ("none.png", "There is no image file"),
        ("idx", "not understood"),
        ("npz:", "does not name an image"),
        ("digits:x", "does not name an image"),
    ],
)
def test_sources_without_such_images(folder, source, words):
    with pytest.raises(ImageError, match=re.escape(words)):
        images_of(source.format(folder))


def test_a_set_that_claims_too_many_images_is_not_listed(folder):
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(GREYS, (2**31, 5, 4))))
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with zipfile.ZipFile(folder / "many.npz", "w") as archive:
        archive.writestr("images.npy", npy_bytes(GREYS, (10**12, 5, 4)))
    for source in (f"idx:{folder}", f"npz:{folder}/many.npz"):
        with pytest.raises(ImageError, match="is listed with at least one and at most"):
            images_of(source)


# What is refused


@pytest.mark.parametrize("source", ["", "digits", "cat", "cat.jpg", "mnist:3", "folder/"])
def test_an_unknown_source_is_told_the_forms(source):
    assert "digits:7, idx:FOLDER:17" in refusal(source)


@pytest.mark.parametrize(
    "source",
    [
        "digits:",
        "digits:-1",
        "digits:1:2",
        "digits:1_0",
        "idx:17",
        "idx::17",
        "idx::train:17",
        "npz:f.npz",
        "npz::3",
    ],
)
def test_a_source_without_number_or_file_is_told_the_forms(source):
    assert "does not name an image" in refusal(source)


def test_a_bare_npz_is_told_how_to_name_the_image(folder):
    assert f"npz:{folder}/set.npz:INDEX" in refusal(folder / "set.npz")


@pytest.mark.parametrize(
    "source", ["no.png", "no.npy", "npz:no.npz:1", "idx:no:1", "x" * 5000 + ".png", "a\0.png"]
)
def test_a_missing_file_is_named(source):
    assert "There is no" in refusal(source)


@pytest.mark.parametrize("source", ["idx:{}:6", "idx:{}:train:600", "npz:{}/set.npz:6"])
def test_an_index_beyond_the_end(folder, source):
    assert "it holds 6, numbered from 0" in refusal(source.format(folder))


def test_a_header_that_claims_too_much_takes_no_memory(tmp_path):
    huge = (1_000_000, 1_000_000)
    (tmp_path / "a.npy").write_bytes(npy_bytes(GREYS[0], huge))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", npy_bytes(GREYS, (1, *huge)))
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(GREYS, (1, *huge)))
    png = bytearray(io_png(GREYS[0]))
    png[16:24] = struct.pack(">II", *huge)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    (tmp_path / "a.png").write_bytes(png)
    tracemalloc.start()
    for source in ("{}/a.npy", "npz:{}/a.npz:0", "idx:{}:0", "{}/a.png"):
        assert "1000000" in refusal(source.format(tmp_path))
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def io_png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def test_a_header_that_claims_more_than_the_file_holds(tmp_path):
    (tmp_path / "a.npy").write_bytes(npy_bytes(GREYS[0], (50, 40)))
    np.savez(tmp_path / "b.npz", images=GREYS)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", npy_bytes(GREYS, (10**12, 5, 4)))
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(GREYS, (2**31, 5, 4))))
    for source in ("{}/a.npy", "npz:{}/a.npz:7", "idx:{}:1000"):
        assert "ends too early" in refusal(source.format(tmp_path))


def test_only_the_stream_up_to_the_image_is_read(folder):
    path = folder / "t10k-images-idx3-ubyte.gz"
    noise = RANDOM.integers(0, 256, (20_000, 5, 4), dtype=np.uint8)
    path.write_bytes(gzip.compress(idx_bytes(noise))[:200_000])
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    np.testing.assert_array_equal(load_image(f"idx:{folder}:3").image[0], noise[3] / 255)
    assert "cannot be read" in refusal(f"idx:{folder}:19999")


def test_pickles_are_never_read(tmp_path):
    objects = np.array([{"a": 1}], dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "a.npz", images=objects)
    assert "never pickled objects" in refusal(tmp_path / "a.npy")
    assert "never pickled objects" in refusal(f"npz:{tmp_path}/a.npz:0")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"pictures": GREYS}, "no key 'images' (it has pictures)"),
        ({"images": COLOURS.transpose(0, 3, 1, 2)}, "(N, H, W, C)"),
        ({"images": np.zeros((3, 4))}, "(N, H, W, C)"),
        ({"images": np.float64(1)}, "(N, H, W, C)"),
        ({"images": GREYS.astype(int)}, "uint8"),
        ({"images": GREYS * 1.0}, "[0, 1]"),
        ({"images": np.asfortranarray(GREYS)}, "ascontiguousarray"),
        ({"images": GREYS, "labels": LABELS[1:]}, "one for each image"),
        ({"images": GREYS, "labels": LABELS / 2}, "one for each image"),
        ({"images": GREYS, "labels": np.zeros((6, 2), int)}, "one for each image"),
    ],
)
def test_npz_that_are_no_images(tmp_path, arrays, words):
    np.savez(tmp_path / "a.npz", **arrays)
    assert words in refusal(f"npz:{tmp_path}/a.npz:0")


def test_files_that_are_something_else(folder):
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(LABELS)))
    (folder / "train-labels.idx1-ubyte").write_bytes(idx_bytes(LABELS[1:]))
    for name in ("a.png", "a.npy", "a.npz"):
        (folder / name).write_bytes(b"<html>not found, and long enough to hold a header</html>")
    assert "00000803" in refusal(f"idx:{folder}:0")
    assert "no pair" in refusal(f"idx:{folder}:train:0")
    assert "no picture" in refusal(folder / "a.png")
    assert "numpy.save" in refusal(folder / "a.npy")
    assert "cannot be read" in refusal(f"npz:{folder}/a.npz:0")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((4, 4), np.nan), "NaN"),
        (np.full((4, 4), np.inf), "NaN or infinity"),
        (np.full((4, 4), 1.0001), "[0, 1]"),
        (np.full((4, 4), -1e-9), "[0, 1]"),
        (np.zeros((4, 4), int), "uint8"),
        (np.zeros((4, 4), np.uint16), "image / 65535"),
        (np.zeros((4, 4), bool), "image / 1"),
        (np.zeros((4, 4), complex), "uint8"),
        (np.zeros(4), "(C, H, W)"),
        (np.zeros((1, 3, 4, 4)), "image[0]"),
        (np.zeros((2, 3, 4, 4)), "(C, H, W)"),
        (np.zeros((0, 4)), "at least one"),
        (np.broadcast_to(np.float64(0), (5000, 5000)), "at most"),
        ([[1.0], [1.0, 0.0]], "NumPy array"),
        ("cat.png", "(C, H, W)"),
        (None, "(C, H, W)"),
    ],
)
def test_arrays_that_are_no_images(array, words):
    with pytest.raises(ImageError) as caught:
        as_image(array)
    assert words in str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("grey.npy", "{}/grey.npy"),
        ("grey.png", "{}/grey.png"),
        ("set.npz", "npz:{}/set.npz:4"),
        ("t10k-images-idx3-ubyte.gz", "idx:{}:4"),
        ("train-images.idx3-ubyte", "idx:{}:train:4"),
    ],
)
def test_a_damaged_file_is_an_image_error_or_an_image(folder, name, source, data):
    intact = (folder / name).read_bytes()
    damaged = bytearray(intact)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(intact) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.just(len(intact)) | st.integers(0, len(intact)))
    (folder / name).write_bytes(damaged[:end])
    try:
        image = load_image(source.format(folder)).image
    except ImageError:
        return
    finally:
        (folder / name).write_bytes(intact)
    assert image.ndim == 3
    assert ((image >= 0) & (image <= 1)).all()
