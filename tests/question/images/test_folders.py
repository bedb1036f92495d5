"""Folders with a subfolder for each class: which images, in which order, of which class."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from steadygaze.errors import ImageError
from steadygaze.question.images import images_of, load_image


def picture(path, level=0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 5), level, np.uint8)).save(path)


@pytest.fixture
def photos(tmp_path):
    for level, name in enumerate(["dog/b.png", "cat/2.jpg", "cat/10.png", "dog/deep/a.PNG", "zebra/x.bmp"]):
        picture(tmp_path / "photos" / name, level)
    np.save(tmp_path / "photos/cat/3.npy", np.zeros((4, 5)))
    for passed in ("cat/.hidden.png", "cat/notes.txt", ".ipynb_checkpoints/x.png", "dog/.thumbs/b.png"):
        picture((tmp_path / "photos" / passed).with_suffix(".png"))
    (tmp_path / "photos/cat/notes.txt").write_text("no picture")
    (tmp_path / "photos/cat/notes.png").unlink()
    return tmp_path / "photos"


def test_classes_count_in_sorted_order_of_the_folders(photos):
    entries = images_of(f"folder:{photos}")
    assert [(entry.name, entry.label) for entry in entries] == [
        ("cat/10.png", 0), ("cat/2.jpg", 0), ("cat/3.npy", 0), ("dog/b.png", 1), ("dog/deep/a.PNG", 1),
        ("zebra/x.bmp", 2),
    ]  # fmt: skip
    assert images_of(str(photos)) == entries


def test_references_name_files_and_numbers_do_too(photos):
    for number, entry in enumerate(images_of(str(photos))):
        assert entry.reference == f"folder:{photos}:{entry.name}"
        by_name, by_number = load_image(entry.reference), load_image(f"folder:{photos}:{number}")
        np.testing.assert_array_equal(by_name.image, by_number.image)
        assert by_name.label == by_number.label == entry.label
        assert by_name.class_name == entry.name.split("/")[0]
        assert (by_name.index, by_number.index) == (None, number)
        assert images_of(entry.reference) == [entry]
    assert [entry.label for entry in images_of(f"folder:{photos}:1..3")] == [0, 0, 1]


def test_a_file_that_is_added_leaves_references_right(photos):
    before = images_of(str(photos))[-1].reference
    level = load_image(before).image
    picture(photos / "ape/first.png", 9)
    np.testing.assert_array_equal(load_image(before).image, level)


def test_a_name_that_is_not_there_is_no_image(photos):
    with pytest.raises(ImageError, match=r"no file 'cat/none\.png' among the 6 images"):
        images_of(f"folder:{photos}:cat/none.png")


def test_an_empty_folder_is_a_class(photos):
    (photos / "bird").mkdir()
    assert [entry.label for entry in images_of(str(photos))] == [1, 1, 1, 2, 2, 3]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.txt", "zebra\ndog\n\ncat\n"),
        ("classes.json", json.dumps(["zebra", "dog", "cat"])),
        ("numbers.json", json.dumps({"cat": 2, "dog": 1, "zebra": 0, "ape": 17})),
        ("bom.txt", "\ufeffzebra\r\ndog\r\ncat\r\n"),
    ],
)
def test_classes_of_a_file(photos, tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    entries = images_of(f"folder:{photos}:classes={tmp_path / name}")
    assert [entry.label for entry in entries] == [2, 2, 2, 1, 1, 0]
    assert load_image(entries[-1].reference).label == 0
    assert load_image(f"folder:{photos}:classes={tmp_path / name}:0").label == 2


def test_classes_in_the_reference(photos):
    entries = images_of(f"folder:{photos}:classes=zebra,cat,dog:3..5")
    assert [entry.label for entry in entries] == [2, 2, 0]
    assert load_image(entries[0].reference).label == 2


def test_names_that_are_numbers(tmp_path):
    for name in ("0", "1", "2"):
        picture(tmp_path / "few" / name / "a.png")
    assert [entry.label for entry in images_of(str(tmp_path / "few"))] == [0, 1, 2]
    for name in map(str, range(11)):
        picture(tmp_path / "many" / name / "a.png")
    with pytest.raises(ImageError, match="classes=numbers or classes=sorted"):
        images_of(str(tmp_path / "many"))
    by_number = images_of(f"folder:{tmp_path}/many:classes=numbers")
    in_order = images_of(f"folder:{tmp_path}/many:classes=sorted")
    assert [entry.label for entry in by_number] == [0, 1, 10, *range(2, 10)]
    assert [entry.label for entry in in_order] == list(range(11))
    with pytest.raises(ImageError, match="classes=numbers or classes=sorted"):
        load_image(f"folder:{tmp_path}/many:10/a.png")
    assert load_image(f"folder:{tmp_path}/many:classes=numbers:10/a.png").label == 10


def test_pictures_without_subfolders_have_no_class(tmp_path):
    for name in ("b.png", "a:b.png"):
        picture(tmp_path / name)
    entries = images_of(str(tmp_path))
    assert [(entry.name, entry.label) for entry in entries] == [("a:b.png", None), ("b.png", None)]
    assert [entry.reference for entry in entries] == [f"folder:{tmp_path}:0", f"folder:{tmp_path}:b.png"]
    assert load_image(entries[0].reference).class_name is None


def test_a_link_to_a_folder_is_a_class_and_circles_do_no_harm(photos, tmp_path):
    (photos / "yak").symlink_to(photos / "cat")
    (photos / "dog" / "again").symlink_to(photos)
    assert [entry.name for entry in images_of(str(photos))][5:8] == ["yak/10.png", "yak/2.jpg", "yak/3.npy"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("folder:{0}/none:0", "There is no folder"),
        ("folder:{0}/none:cat/1.png", "There is no file"),
        ("folder:{0}:cat/none.png", "There is no file 'cat/none.png'"),
        ("folder:{0}:cat/../../secret.png", "There is no file"),
        ("folder:{0}:6", "it holds 6, numbered from 0"),
        ("folder:{0}", "does not name an image"),
        ("{0}", "does not name an image"),
        ("folder:{0}:classes=cat,dog:zebra/x.bmp", "The class 'zebra' of"),
        ("folder:{0}:classes=numbers:0", "The class 'cat' of"),
        ("folder:{0}:classes=none.txt:0", "There is no file 'none.txt'"),
        ("folder:{0}:classes=cat,cat:0", "names 2 classes, 1 of them different"),
    ],
)
def test_what_a_folder_does_not_hold(photos, tmp_path, source, words):
    picture(tmp_path / "secret.png")
    with pytest.raises(ImageError, match=re.escape(words)):
        load_image(source.format(photos))


@pytest.mark.parametrize("content", ["{", "[1, 2]", '{"cat": -1}', '{"cat": true}', '"cat"', "[]"])
def test_lists_of_classes_that_are_none(photos, tmp_path, content):
    (tmp_path / "classes.json").write_text(content)
    with pytest.raises(ImageError, match=r"classes|no number"):
        images_of(f"folder:{photos}:classes={tmp_path}/classes.json")


def test_folders_that_cannot_be_what_is_meant(photos, tmp_path):
    (tmp_path / "bare").mkdir()
    with pytest.raises(ImageError, match="holds no pictures"):
        images_of(str(tmp_path / "bare"))
    picture(photos / "stray.png")
    with pytest.raises(ImageError, match=r"stray\.png, for one"):
        images_of(str(photos))
    picture(tmp_path / "set/train/cat/1.png")
    picture(tmp_path / "set/test/cat/1.png")
    with pytest.raises(ImageError, match="look like parts of a data set"):
        images_of(str(tmp_path / "set"))
    assert len(images_of(f"folder:{tmp_path}/set:classes=test,train")) == 2
