"""Data sets of the ``datasets`` package on this machine; all but the last tests need that package."""

from __future__ import annotations

import io
import re
import socket
import sys
from importlib import import_module

import numpy as np
import pytest
from PIL import Image

from steadygaze.errors import ImageError
from steadygaze.question.images import images_of, load_image

LABELS = [1, 0, 1, -1]
GREYS = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)


@pytest.fixture(scope="module")
def package():
    """The package; its progress is not shown."""
    found = pytest.importorskip("datasets", reason="the optional package datasets is not installed")
    found.disable_progress_bars()
    return found


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    def refused(*_, **__):
        raise AssertionError("nothing is asked of the network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def write_table(columns, path, **options) -> None:
    """A Parquet file that knows nothing of images."""
    made = import_module("pyarrow").table(columns)
    import_module("pyarrow.parquet").write_table(made, path, **options)


@pytest.fixture
def rows(package):
    features = package.Features({
        "id": package.Value("int64"),
        "img": package.Image(),
        "kind": package.ClassLabel(names=["cat", "dog"]),
        "word": package.Value("string"),
    })  # fmt: skip
    pictures = [Image.fromarray(grey) for grey in GREYS]
    words = ["hound", "puss", "hound", None]
    columns = {"id": [5, 6, 7, 8], "img": pictures, "kind": LABELS, "word": words}
    return package.Dataset.from_dict(columns, features=features)


@pytest.fixture(params=["saved", "split", "formatted", "parquet", "hub"])
def source(request, rows, package, tmp_path) -> str:
    """The same data set in every form."""
    if request.param == "saved":
        rows.save_to_disk(tmp_path / "set")
        return f"datasets:{tmp_path}/set"
    if request.param == "formatted":
        rows.with_format("numpy").save_to_disk(tmp_path / "set")
        return f"datasets:{tmp_path}/set"
    if request.param == "split":
        package.DatasetDict({"train": rows.select([0]), "test": rows}).save_to_disk(tmp_path / "set")
        return f"datasets:{tmp_path}/set:split=test"
    if request.param == "parquet":
        rows.to_parquet(tmp_path / "set.parquet", batch_size=3)
        return f"datasets:{tmp_path}/set.parquet"
    (tmp_path / "set" / "data").mkdir(parents=True)
    rows.select([0]).to_parquet(tmp_path / "set/data/train-00000-of-00001.parquet")
    rows.select(range(3)).to_parquet(tmp_path / "set/data/test-00000-of-00002.parquet")
    rows.select([3]).to_parquet(tmp_path / "set/data/test-00001-of-00002.parquet")
    return f"datasets:{tmp_path}/set:split=test"


def test_images_and_labels(source):
    entries = images_of(source)
    assert [entry.label for entry in entries] == [1, 0, 1, None]
    assert [entry.reference for entry in entries] == [f"{source}:{number}" for number in range(4)]
    assert [entry.name.split(":")[1] for entry in entries] == list("0123")
    for number, entry in enumerate(entries):
        loaded = load_image(entry.reference)
        np.testing.assert_array_equal(loaded.image[0], GREYS[number] / 255)
        assert (loaded.label, loaded.index) == (entry.label, number)
        assert loaded.class_name == {0: "cat", 1: "dog", None: None}[entry.label]


def test_other_columns(source):
    with pytest.raises(ImageError, match="'hound', which is no class number"):
        images_of(f"{source}:label=word")
    entries = images_of(f"{source}:label=word:classes=sorted")
    assert [entry.label for entry in entries] == [0, 1, 0, None]
    assert load_image(entries[1].reference).class_name == "puss"
    assert [entry.label for entry in images_of(f"{source}:label=id:1..2")] == [6, 7]


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (":4", "it holds 4, numbered from 0"),
        (":label=nothing:0", "has no column 'nothing' (it has id, img, kind, word)"),
        (":image=nothing:0", "has no column 'nothing'"),
        (":image=id:0", "is not there"),
        (":split=val:0", "has no split 'val'"),
    ],
)
def test_what_a_data_set_does_not_hold(source, end, words):
    with pytest.raises(ImageError, match=re.escape(words)):
        load_image(source.removesuffix(":split=test") + end if "split" in end else source + end)


def test_a_split_is_needed_where_there_are_several(rows, package, tmp_path):
    package.DatasetDict({"train": rows, "test": rows}).save_to_disk(tmp_path / "set")
    with pytest.raises(ImageError, match=r"needs a split \(it has train, test\)"):
        images_of(f"datasets:{tmp_path}/set")


def test_several_columns_of_labels_are_not_guessed(rows, package, tmp_path):
    rows.add_column("fine", [0, 1, 0, 1]).cast_column("fine", package.ClassLabel(num_classes=2)).save_to_disk(
        tmp_path / "set"
    )
    with pytest.raises(ImageError, match="which column is the label"):
        images_of(f"datasets:{tmp_path}/set")
    assert [entry.label for entry in images_of(f"datasets:{tmp_path}/set:label=fine")] == [0, 1, 0, 1]


def test_arrays_and_files_beside_the_rows(package, tmp_path):
    features = package.Features({"x": package.Array2D((5, 6), "uint8"), "y": package.Value("int32")})
    package.Dataset.from_dict({"x": GREYS, "y": [3, 2, 1, 0]}, features=features).save_to_disk(tmp_path / "a")
    loaded = load_image(f"datasets:{tmp_path}/a:2")
    np.testing.assert_array_equal(loaded.image[0], GREYS[2] / 255)
    assert loaded.label == 1
    Image.fromarray(GREYS[1]).save(tmp_path / "1.png")
    places = [str(tmp_path / "1.png"), str(tmp_path / "none.png"), "https://example.org/1.png"]
    rows = {"image": [{"path": place, "bytes": None} for place in places]}
    write_table(rows, tmp_path / "b.parquet")
    np.testing.assert_array_equal(load_image(f"datasets:{tmp_path}/b.parquet:0").image[0], GREYS[1] / 255)
    for number in (1, 2):
        with pytest.raises(ImageError, match="is not there"):
            load_image(f"datasets:{tmp_path}/b.parquet:{number}")


def test_parquet_files_that_say_nothing_of_their_columns(package, tmp_path):
    stream = io.BytesIO()
    Image.fromarray(GREYS[0]).save(stream, "png")
    rows = {"image": [{"bytes": stream.getvalue(), "path": "x.png"}] * 2, "label": [1, 0]}
    write_table(rows, tmp_path / "plain.parquet", row_group_size=1)
    assert [entry.label for entry in images_of(f"{tmp_path}/plain.parquet")] == [1, 0]
    loaded = load_image(f"datasets:{tmp_path}/plain.parquet:1")
    np.testing.assert_array_equal(loaded.image[0], GREYS[0] / 255)
    assert (loaded.label, loaded.class_name) == (0, None)


def test_damaged_ones(rows, tmp_path):
    rows.save_to_disk(tmp_path / "set")
    next((tmp_path / "set").glob("*.arrow")).write_bytes(b"rubbish")
    rows.to_parquet(tmp_path / "set.parquet")
    (tmp_path / "set.parquet").write_bytes((tmp_path / "set.parquet").read_bytes()[:-9])
    for source in ("set", "set.parquet"):
        with pytest.raises(ImageError, match="cannot be read"):
            load_image(f"datasets:{tmp_path}/{source}:0")


# Without the package


@pytest.mark.parametrize("name", ["none", "none.parquet", "https://example.org/set", "s3://bucket/set"])
def test_only_what_lies_on_this_machine_is_read(name):
    with pytest.raises(ImageError, match=r"There is no folder or \.parquet file"):
        load_image(f"datasets:{name}:0")


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(ImageError, match="neither a saved data set nor Parquet files"):
        load_image(f"datasets:{tmp_path}:0")


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(ImageError, match=re.escape("pip install 'steadygaze[datasets]'")):
        load_image(f"datasets:{tmp_path}:0")
