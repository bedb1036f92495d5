"""Tables of paths and labels: with and without headers, and what their lines may lack."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from steadygaze.errors import ImageError
from steadygaze.question.images import images_of, load_image


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in ner").mkdir()
    for level, name in enumerate(["a.png", "in ner/b.png", "c,d.png"]):
        Image.fromarray(np.full((4, 5), level, np.uint8)).save(tmp_path / name)
    return tmp_path


def table(folder, text, encoding="utf-8"):
    (folder / "set.csv").write_bytes(text.encode(encoding))
    return folder / "set.csv"


ROWS = 'a.png,3\n\nin ner/b.png,0\n"c,d.png",3\n'


@pytest.mark.parametrize(
    "text",
    [
        ROWS,
        "path,label\n" + ROWS,
        "File , Class\r\n" + ROWS.replace("\n", "\r\n"),
        "\ufefffilename,target\n" + ROWS,
        "image,what\n" + ROWS,
        "name,label\n" + ROWS,
        "path\tlabel\na.png\t3\nin ner/b.png\t0\nc,d.png\t3",
        "path;label\na.png;3\nin ner/b.png;0\nc,d.png;3",
    ],
)
def test_a_table_with_and_without_a_header(folder, text):
    path = table(folder, text)
    entries = images_of(f"csv:{path}")
    assert [(entry.name, entry.label) for entry in entries] == [
        ("a.png", 3),
        ("in ner/b.png", 0),
        ("c,d.png", 3),
    ]
    assert images_of(str(path)) == entries
    for level, entry in enumerate(entries):
        assert entry.reference == f"csv:{path}:{level}"
        loaded = load_image(entry.reference)
        assert (loaded.image * 255 == level).all()
        assert (loaded.label, loaded.index, loaded.class_name) == (entry.label, level, None)
    assert [entry.label for entry in images_of(f"csv:{path}:1..2")] == [0, 3]


def test_columns_by_name(folder):
    path = table(folder, "id,where,coarse,fine\n1,a.png,0,5\n2,in ner/b.png,1,6\n")
    with pytest.raises(ImageError, match=r"path column .* is not clear"):
        images_of(f"csv:{path}")
    entries = images_of(f"csv:{path}:path=where:label=fine")
    assert [entry.label for entry in entries] == [5, 6]
    assert load_image(entries[1].reference).label == 6
    assert [entry.label for entry in images_of(f"csv:{path}:path=where")] == [None, None]
    with pytest.raises(ImageError, match="no column 'nowhere'"):
        images_of(f"csv:{path}:path=nowhere")
    path = table(folder, "path,label,class\na.png,0,cat\n")
    with pytest.raises(ImageError, match=r"label column .* is not clear"):
        images_of(f"csv:{path}")
    assert images_of(f"csv:{path}:label=class:classes=dog,cat")[0].label == 1


def test_paths_alone_have_no_label(folder):
    for text in ("a.png\na.png\n", "pictures\na.png\na.png\n"):
        entries = images_of(f"csv:{table(folder, text)}")
        assert [(entry.name, entry.label) for entry in entries] == [("a.png", None), ("a.png (2)", None)]
    assert images_of(f"csv:{table(folder, 'path,label' + chr(10) + 'a.png,' + chr(10))}")[0].label is None


def test_names_need_their_numbers(folder):
    path = table(folder, "path,label\na.png,dog\nin ner/b.png,cat\n")
    with pytest.raises(ImageError, match=r"label on line 2 .* is 'dog'.*classes=FILE"):
        images_of(f"csv:{path}")
    (folder / "classes.txt").write_text("ape\ncat\ndog\n")
    for setting, labels in (("sorted", [1, 0]), (f"{folder}/classes.txt", [2, 1]), ("dog,cat", [0, 1])):
        entries = images_of(f"csv:{path}:classes={setting}")
        assert [entry.label for entry in entries] == labels
        loaded = load_image(entries[0].reference)
        assert (loaded.label, loaded.class_name) == (labels[0], "dog")


def test_paths_that_are_whole(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    path = table(elsewhere, f"{folder}/a.png,1\n")
    assert load_image(f"csv:{path}:0").label == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label\na.png,1\nnone.png,2\n", "which line 3 of"),
        ("path,label\na.png,1\na.png\n", "Line 3 of"),
        ("path,label\na.png,1\n,2\n", "Line 3 of"),
        ("path,label\na.png,1\na.png,-1\n", "line 3 of"),
        ("path,label\na.png,1\na.png,1.0\n", "no class number"),
        ("path,label\na.png,1\n", "it holds 1"),
        ("left,right\nx,1\n", "is not clear"),
        ('path,label\n"a.png,1\n', "no CSV"),
        ("path,label\na.png,1\nb\0.png,1\n", "which line 3 of"),
    ],
)
def test_lines_that_cannot_be_read(folder, text, words):
    with pytest.raises(ImageError, match=re.escape(words)):
        load_image(f"csv:{table(folder, text)}:1")


def test_files_that_are_no_table(folder):
    with pytest.raises(ImageError, match=r"no text in UTF-8|no CSV in UTF-8"):
        images_of(f"csv:{table(folder, 'päth,label', 'latin-1')}")
    for text in ("", "path,label\n", "\n\n"):
        with pytest.raises(ImageError, match="holds no images"):
            images_of(f"csv:{table(folder, text)}")
    with pytest.raises(ImageError, match="There is no table"):
        images_of("csv:none.csv")
