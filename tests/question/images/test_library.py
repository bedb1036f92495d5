"""Sets that stay open: the same images as those read one by one, without unpacking what lies before them."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from steadygaze.errors import ImageError
from steadygaze.question.images import Library, load_image, sets
from steadygaze.question.images import idx as idx_files

COUNT = 20


@pytest.fixture
def folders(tmp_path):
    """An IDX folder with compressed files, and an archive."""
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 4, 4), np.uint8)
    labels = (np.arange(COUNT) % 3).astype(np.uint8)
    content = b"\x00\x00\x08\x03" + struct.pack(">3I", COUNT, 4, 4) + images.tobytes()
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(content))
    content = b"\x00\x00\x08\x01" + struct.pack(">I", COUNT) + labels.tobytes()
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(content))
    np.savez_compressed(tmp_path / "set.npz", images=images, labels=labels)
    return f"idx:{tmp_path}", f"npz:{tmp_path / 'set.npz'}"


def test_images_are_those_read_one_by_one(folders):
    library = Library(room=1)
    for number in (0, 1, 2, 7, 3, COUNT - 1, 4):
        for source in folders:
            kept, alone = library.load(f"{source}:{number}"), load_image(f"{source}:{number}")
            assert np.array_equal(kept.image, alone.image)
            assert (kept.label, kept.index) == (alone.label, alone.index) == (number % 3, number)
    with pytest.raises(ImageError, match=f"no image {COUNT}"):
        library.load(f"{folders[0]}:{COUNT}")


def test_a_set_is_unpacked_once(folders, monkeypatch):
    opened = []
    monkeypatch.setattr(idx_files.gzip, "open", lambda path: opened.append(path) or gzip.GzipFile(path))
    library = Library()
    for number in range(COUNT):
        library.load(f"{folders[0]}:{number}")
    assert len(opened) == 2 * 3  # images and labels: two read as far as needed, then all at once
    monkeypatch.setattr(sets, "MOST_UNPACKED", 10)
    opened.clear()
    library = Library()
    for number in range(5):
        assert library.load(f"{folders[0]}:{number}").label == number % 3
    assert len(opened) > 10  # too large to be kept


def test_a_file_that_is_damaged_farther_on_gives_what_it_has(folders):
    path = Path(folders[0].removeprefix("idx:")) / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-12])
    library = Library()
    for number in (0, 1, 0, 1, 2):
        assert np.array_equal(
            library.load(f"{folders[0]}:{number}").image, load_image(f"{folders[0]}:{number}").image
        )
