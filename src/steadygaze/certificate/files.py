"""Files of a certificate as they are written: block by block, with their sizes and hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

# Rows of a large array are made and written so many numbers at a time: 16 MiB of float64.
BLOCK = 1 << 21


class Files:
    """The files of one folder, each written once, and what is known of them.

    Attributes:
        folder: where they are written.
        written: name -> {"sha256", "bytes"}.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: dict[str, dict[str, str | int]] = {}

    def array(self, name: str, kind: str, shape: tuple[int, ...], blocks: Iterable[np.ndarray]) -> None:
        """An array of this shape and kind (such as "<f8") as `name`.npy, from its numbers in order."""
        header = {"descr": kind, "fortran_order": False, "shape": shape}
        digest, size = hashlib.sha256(), 0
        path = self.folder / f"{name}.npy"
        with path.open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, header)
        digest.update(path.read_bytes())
        with path.open("ab") as stream:
            size = stream.tell()
            for block in blocks:
                numbers = np.ascontiguousarray(block, np.dtype(kind)).data.cast("B") if block.size else b""
                digest.update(numbers)
                size += stream.write(numbers)
        self.written[path.name] = {"sha256": digest.hexdigest(), "bytes": size}

    def whole(self, name: str, kind: str, array: np.ndarray) -> None:
        """An array that is at hand, as `name`.npy."""
        self.array(name, kind, array.shape, in_blocks(array))

    def raw(self, name: str, content: bytes) -> None:
        """A file of these bytes."""
        (self.folder / name).write_bytes(content)
        self.written[name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}

    def index(self, name: str, document: dict[str, Any]) -> None:
        """A JSON file, in which numbers are the shortest that are read back as the same double."""
        text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
        (self.folder / name).write_text(f"{text}\n", encoding="utf-8")


def in_blocks(array: np.ndarray) -> Iterable[np.ndarray]:
    """Its rows, so many at a time that a copy of them is small."""
    rows = max(1, BLOCK * len(array) // max(1, array.size))
    return (array[first : first + rows] for first in range(0, len(array), rows))
