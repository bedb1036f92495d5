"""The images: what to train on, what to hold out, and how a case names one of them."""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from steadygaze.errors import ImageError

TRAINED_ON = 8_000  # of the 10,000 test images, where there is no training file
CIFAR_FIRST = 200  # numbers 200 to 299 of the file are the first hundred images of the CIFAR-10 test set
CIFAR_COUNT = 100


@dataclass(frozen=True)
class Part:
    """Some images: pixels ``(N, C, H, W)`` in [0, 1], labels ``(N,)``, and the source of each."""

    images: Tensor
    labels: Tensor
    sources: tuple[str, ...]


@dataclass(frozen=True)
class DataSet:
    """A data set; train is None where nothing is trained on it. note: the split, in words."""

    name: str
    train: Part | None
    held_out: Part
    note: str


def load_idx(name: str, folder: Path) -> DataSet:
    """A data set in IDX files, as MNIST and Fashion-MNIST ship them.

    With the training pair in the folder, that is trained on and the test pair is held out; otherwise the
    first 8,000 test images are trained on and the others held out. Raises ImageError where the files lack.
    """
    test = _pair(folder, "t10k", f"idx:{folder}:")
    if _file(folder, "train", "images") is not None:
        train = _pair(folder, "train", f"idx:{folder}:train:")
        note = f"trained on the {len(train.labels):,} training images; all test images held out"
        return DataSet(name, train, test, note)
    note = (
        f"the folder has only the test file: trained on its first {TRAINED_ON:,} images, the other "
        f"{len(test.labels) - TRAINED_ON:,} held out"
    )
    return DataSet(name, _cut(test, 0, TRAINED_ON), _cut(test, TRAINED_ON, len(test.labels)), note)


def load_cifar(file: Path) -> DataSet:
    """A hundred test images of CIFAR-10 from an npz file; nothing is trained on it."""
    with np.load(file, allow_pickle=False) as archive:
        images, labels = archive["images"], archive["labels"]
    part = Part(
        torch.tensor(images.astype(np.float32) / 255).movedim(-1, 1),
        torch.tensor(labels.astype(np.int64)),
        tuple(f"npz:{file}:{number}" for number in range(len(labels))),
    )
    end = min(CIFAR_FIRST + CIFAR_COUNT, len(labels))
    return DataSet(
        "CIFAR-10", None, _cut(part, CIFAR_FIRST, end), "the first hundred test images; nothing is trained"
    )


def _cut(part: Part, start: int, end: int) -> Part:
    return Part(part.images[start:end], part.labels[start:end], part.sources[start:end])


def _pair(folder: Path, part: str, prefix: str) -> Part:
    images, labels = _idx(folder, part, "images", 3), _idx(folder, part, "labels", 1)
    if len(images) != len(labels):
        raise ImageError(
            f"{folder} has {len(images)} {part} images for {len(labels)} labels; the two files must be a "
            "pair: fetch them again"
        )
    return Part(
        torch.tensor(images.astype(np.float32)[:, None] / 255),
        torch.tensor(labels.astype(np.int64)),
        tuple(f"{prefix}{number}" for number in range(len(labels))),
    )


def _file(folder: Path, part: str, content: str) -> Path | None:
    dimension = {"images": 3, "labels": 1}[content]
    names = [f"{part}-{content}{mark}idx{dimension}-ubyte{end}" for mark in "-." for end in ("", ".gz")]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _idx(folder: Path, part: str, content: str, dimensions: int) -> np.ndarray:
    path = _file(folder, part, content)
    if path is None:
        raise ImageError(
            f"there is no {part}-{content}-idx{dimensions}-ubyte (or .gz) in {str(folder)!r}; name the "
            "folder of the IDX files with --mnist or --fashion"
        )
    content_of_file = path.read_bytes()
    raw = gzip.decompress(content_of_file) if path.suffix == ".gz" else content_of_file
    start = 4 * (dimensions + 1)
    if len(raw) < start or raw[:4] != bytes((0, 0, 8, dimensions)):
        raise ImageError(f"{path} is no IDX file of {content}; fetch it again")
    shape = struct.unpack(f">{dimensions}I", raw[4:start])
    values = np.frombuffer(raw, np.uint8, offset=start)
    if values.size != np.prod(shape, dtype=object):
        raise ImageError(f"{path} holds {values.size} values where its header claims {shape}; fetch it again")
    return values.reshape(shape)
