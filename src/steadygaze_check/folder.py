"""Read a certificate: a folder written by somebody else, and possibly by somebody who wishes to deceive.

Nothing is executed, no link is followed, no file is read whose size differs from what is declared, and no
array
is made whose size differs from that of its file. What is not as the format says raises `BadCertificate`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = "steadygaze/certificate/1"
ROBUST, CLASS_CHANGED, ATTENTION_CHANGED, UNDECIDED = range(4)
KINDS = ("robust", "class-changed", "attention-changed", "undecided")

_LONGEST_JSON = 8 << 20
_LARGEST_FILE = 16 << 30
# Name of each array, its allowed types, and its shape in the letters that `_Sizes` knows.
_ARRAYS: dict[str, tuple[tuple[str, ...], str]] = {
    "image": (("<f8",), "CHW"),
    "piece_base": (("<f8",), "PCHW"),
    "piece_directions": (("<f8",), "PnCHW"),
    "piece_vertices": (("<f8",), "Qn"),
    "piece_ptr": (("<i8",), "p"),
    "compared": (("|b1",), "O"),
    "vertices": (("<f8",), "Vn"),
    "cell_ptr": (("<i8",), "m"),
    "cell_vertex": (("<i8", "<i4"), "I"),
    "cell_facets": (("<u8",), "Iw"),
    "cell_kind": (("|i1",), "M"),
    "cell_piece": (("<i4",), "M"),
    "cell_region": (("<i8",), "M"),
    "origin_cells": (("<i8",), "R"),
}
_MOVES: dict[str, tuple[tuple[str, ...], str]] = {
    "moves_piece": (("<i4",), "E"),
    "moves_term": (("<i4",), "E"),
    "moves_out": (("<i4",), "E"),
    "moves_in": (("<i4",), "E"),
    "moves_weight": (("<f8",), "E"),
}
_SAMPLES: dict[str, tuple[tuple[str, ...], str]] = {
    "sample_theta": (("<f8",), "Sn"),
    "sample_image": (("<f8",), "SCHW"),
    "sample_expected": (("<f8",), "SO"),
}
_HEADER = re.compile(
    r"\{'descr': '(<f8|<i8|<i4|<u8|\|i1|\|b1)', 'fortran_order': False, "
    r"'shape': \(([0-9]{1,18}(?:, [0-9]{1,18})*)?,?\), \}"
)


class BadCertificate(Exception):
    """The folder is not a certificate in this format; one sentence says what is wrong."""


@dataclass(frozen=True)
class Certificate:
    """What a folder says; arrays by name as in docs/formats.md.

    Attributes:
        question, claims, model, map: the parts of certificate.json.
        box: ``(n, 2)``. clip: bounds of the pixels, or None.
        arrays: every array by its name without ``.npy``; all are finite, and all numbers in range.
        network: bytes of network.onnx.
    """

    question: dict[str, Any]
    claims: dict[str, Any]
    model: dict[str, Any]
    map: dict[str, Any]
    box: np.ndarray
    clip: tuple[float, float] | None
    arrays: dict[str, np.ndarray]
    network: bytes

    def __getattr__(self, name: str) -> np.ndarray:
        """Arrays are attributes, too."""
        try:
            return self.__dict__["arrays"][name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def dimension(self) -> int:
        """Number of parameters n."""
        return len(self.box)

    @property
    def volume(self) -> float:
        """Volume of the box."""
        return float(np.prod(self.box[:, 1] - self.box[:, 0]))


def read(folder: Path) -> Certificate:
    """The certificate in `folder`. Raises BadCertificate, in one sentence, for what is not as it must be."""
    try:
        plain = stat.S_ISDIR(os.lstat(folder).st_mode)
    except (OSError, ValueError) as problem:
        raise BadCertificate(f"{folder} cannot be opened: {problem}") from None
    _demand(plain, f"{folder} is not a folder")
    text = _bytes(folder, "certificate.json", None)
    try:
        content = json.loads(text.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as problem:
        raise BadCertificate(f"certificate.json is not JSON: {str(problem)[:200]}") from None
    _demand(isinstance(content, dict), "certificate.json holds no object")
    _demand(
        content.get("format") == FORMAT,
        f"format is {content.get('format')!r:.60}, this checker reads {FORMAT!r}",
    )
    parts = {name: _object(content, name) for name in ("files", "question", "claims", "map")}
    model = content.get("model") or {}
    _demand(isinstance(model, dict), "model is no object")
    question = parts["question"]
    box, clip = _question(question)
    moved = question["moves_map"] and "moves_piece.npy" in parts["files"]
    wanted = {**_ARRAYS, **(_MOVES if moved else {}), **(_SAMPLES if question.get("samples") else {})}
    _demand(
        set(parts["files"]) == {"network.onnx", *(f"{name}.npy" for name in wanted)},
        f"files lists {sorted(parts['files'])!r:.300}, the format has {', '.join(sorted(wanted))}",
    )
    sizes: dict[str, int] = {"n": len(box), "P": question["pieces"], "p": question["pieces"] + 1}
    arrays = {}
    for name, (types, letters) in wanted.items():
        arrays[name] = _array(
            name, _bytes(folder, f"{name}.npy", parts["files"][f"{name}.npy"]), types, letters, sizes
        )
    _demand(sizes["m"] == sizes["M"] + 1, f"cell_ptr has {sizes['m']} entries for {sizes['M']} cells")
    network = _bytes(folder, "network.onnx", parts["files"]["network.onnx"])
    made = Certificate(question, parts["claims"], model, parts["map"], box, clip, arrays, network)
    _in_range(made)
    return made


def number(of: Any, what: str) -> float:
    """`of` as a finite float; raises BadCertificate naming `what`."""
    fine = isinstance(of, (int, float)) and not isinstance(of, bool) and abs(of) < 1e300 and math.isfinite(of)
    _demand(fine, f"{what} is {of!r:.60}, it must be a finite number")
    return float(of)


def _question(question: dict[str, Any]) -> tuple[np.ndarray, tuple[float, float] | None]:
    """The box and the clip, after everything in the question has been looked at."""
    parameters = question.get("parameters")
    _demand(
        isinstance(parameters, list) and 1 <= len(parameters) <= 16, "parameters must be a list of 1 to 16"
    )
    box = np.zeros((len(parameters), 2))
    for row, each in zip(box, parameters, strict=True):
        _demand(isinstance(each, dict), "a parameter is no object")
        row[:] = number(each.get("low"), "low"), number(each.get("high"), "high")
        _demand(
            row[0] <= 0 <= row[1] and row[0] < row[1],
            f"a parameter runs from {row[0]} to {row[1]}; 0 must lie in it",
        )
    for name, least in (("classes", 1), ("label", 0), ("pieces", 0)):
        value = question.get(name)
        fine = isinstance(value, int) and not isinstance(value, bool) and least <= value < 1 << 24
        _demand(fine, f"{name} is {value!r:.60}")
    _demand(question["label"] < question["classes"], "label is not among the classes")
    _demand(isinstance(question.get("moves_map"), bool), "moves_map must be true or false")
    for name in ("saliency", "inconsistency"):
        part = _object(question, name)
        _demand(isinstance(part.get("name"), str), f"{name} has no name")
    _demand(question["saliency"].get("channel_sum") in (True, False), "channel_sum must be true or false")
    number(question.get("threshold"), "threshold")
    clip = question.get("clip")
    if clip is None:
        return box, None
    _demand(isinstance(clip, list) and len(clip) == 2, "clip must be two numbers or null")
    low, high = number(clip[0], "clip"), number(clip[1], "clip")
    _demand(low < high, f"clip runs from {low} to {high}")
    return box, (low, high)


def _in_range(made: Certificate) -> None:
    """Raise BadCertificate where numbers of vertices, cells, pieces or entries point out of their arrays."""
    for name, array in made.arrays.items():
        fine = array.dtype.kind != "f" or bool(np.isfinite(array).all() and (np.abs(array) < 1e100).all())
        _demand(fine, f"{name}.npy holds numbers that are not finite, or above 1e100")
    entries = made.image.size
    shown = entries // made.image.shape[0] if made.question["saliency"]["channel_sum"] else entries
    if made.question["saliency"]["name"] in ("gradient", "abs-gradient"):
        _demand(
            made.compared.size == shown, f"compared.npy has {made.compared.size} entries, the map {shown}"
        )
    _ascending("piece_ptr", made.piece_ptr, len(made.piece_vertices))
    _ascending("cell_ptr", made.cell_ptr, len(made.cell_vertex))
    _within("cell_vertex", made.cell_vertex, len(made.vertices))
    _within("cell_kind", made.cell_kind, 4)
    _within("cell_piece", made.cell_piece + 1, len(made.piece_base) + 1)
    _within("origin_cells", made.origin_cells, len(made.cell_kind))
    _demand(len(np.unique(made.origin_cells)) == len(made.origin_cells), "origin_cells names a cell twice")
    _demand(made.cell_facets.shape[1] <= 64, "cell_facets has more than 64 words")
    low, high = made.box.T
    inside = (made.vertices >= low).all() and (made.vertices <= high).all()
    _demand(bool(inside), "a vertex lies outside of the box")
    if "moves_piece" in made.arrays:
        _within("moves_piece", made.moves_piece, len(made.piece_base))
        _within("moves_term", made.moves_term, made.dimension + 1)
        _within("moves_out", made.moves_out, shown)
        _within("moves_in", made.moves_in, shown)


def _within(name: str, array: np.ndarray, limit: int) -> None:
    fine = not array.size or (array.min() >= 0 and array.max() < limit)
    _demand(bool(fine), f"{name}.npy holds a number outside of 0 to {limit - 1}")


def _ascending(name: str, array: np.ndarray, last: int) -> None:
    fine = array[0] == 0 and array[-1] == last and (np.diff(array) > 0).all()
    _demand(bool(fine), f"{name}.npy does not rise from 0 to {last}")


def _array(name: str, data: bytes, types: tuple[str, ...], letters: str, sizes: dict[str, int]) -> np.ndarray:
    """An array out of the bytes of its file; `sizes` learns and fixes the length of each axis."""
    wide = data[:8] == b"\x93NUMPY\x02\x00"
    _demand(
        wide or data[:8] == b"\x93NUMPY\x01\x00",
        f"{name}.npy does not start as a .npy file of version 1.0 or 2.0",
    )
    start = 12 if wide else 10
    length = int.from_bytes(data[8:start], "little")
    _demand(length <= 1024 and start + length <= len(data), f"{name}.npy has a header of {length} bytes")
    match = _HEADER.fullmatch(data[start : start + length].decode("latin-1").strip())
    if match is None or match[1] not in types:
        raise BadCertificate(f"{name}.npy has a header that is not one of {', '.join(types)} in C order")
    shape = tuple(int(part) for part in (match[2] or "").split(", ") if part)
    _demand(len(shape) == len(letters), f"{name}.npy has {len(shape)} axes, it must have {len(letters)}")
    kind = np.dtype(match[1])
    room = len(data) - start - length
    _demand(
        math.prod(shape) * kind.itemsize == room,
        f"{name}.npy has {room} bytes of numbers, its header says {shape}",
    )
    for letter, size in zip(letters, shape, strict=True):
        _demand(
            sizes.setdefault(letter, size) == size,
            f"{name}.npy is {shape}, which does not fit the other arrays",
        )
    if kind.kind == "b":
        raw = np.frombuffer(data, np.uint8, offset=start + length)
        _demand(bool((raw <= 1).all()), f"{name}.npy holds what is neither true nor false")
    _demand(math.prod(shape) > 0 or letters[0] in "REPQ", f"{name}.npy is empty")
    return np.frombuffer(data, kind, offset=start + length).reshape(shape)


def _bytes(folder: Path, name: str, declared: Any) -> bytes:
    """The bytes of a plain file, which must be as many as `declared` says and have that SHA-256."""
    if declared is not None:
        fine = isinstance(declared, dict) and isinstance(declared.get("bytes"), int)
        _demand(fine and 0 <= declared["bytes"] <= _LARGEST_FILE, f"files says no size for {name}")
    try:
        handle = os.open(
            folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)
        )
    except OSError as problem:
        raise BadCertificate(f"{name} cannot be opened: {problem.strerror}") from None
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        _demand(stat.S_ISREG(found.st_mode), f"{name} is not a plain file")
        limit = _LONGEST_JSON if declared is None else declared["bytes"]
        fits = found.st_size <= limit if declared is None else found.st_size == limit
        _demand(
            fits,
            f"{name} has {found.st_size} bytes, {limit} are {'allowed' if declared is None else 'declared'}",
        )
        data = file.read(limit + 1)
    _demand(len(data) == found.st_size, f"{name} changed while it was read")
    if declared is not None:
        same = hashlib.sha256(data).hexdigest() == declared.get("sha256")
        _demand(same, f"{name} does not have the SHA-256 that certificate.json declares")
    return data


def _object(content: dict[str, Any], name: str) -> dict[str, Any]:
    part = content.get(name)
    _demand(isinstance(part, dict), f"certificate.json has no object {name!r}")
    return part  # type: ignore[return-value]


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _demand(fine: bool, sentence: str) -> None:
    if not fine:
        raise BadCertificate(sentence)
