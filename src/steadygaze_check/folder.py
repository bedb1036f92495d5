"""Read a certificate: a folder written by somebody else, and possibly by somebody who wishes to deceive.

Nothing is executed, no link is followed, no file is read whose size differs from what is declared, and no
array is made whose size differs from that of its file. What is not as the format says is a `BadCertificate`.
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

_LONGEST_JSON, _LARGEST_FILE = 8 << 20, 16 << 30
# Name, types and axes of each array; equal letters are equal sizes: n parameters, P pieces (p one more), Q
# their vertices, V vertices, M cells (m one more), I incidences, w words, O entries of the map, E moves.
_ARRAYS = """image f8 CHW; piece_base f8 PCHW; piece_directions f8 PnCHW; piece_vertices f8 Qn;
piece_ptr i8 p; compared b1 O; vertices f8 Vn; cell_ptr i8 m; cell_vertex i8,i4 I; cell_facets u8 Iw;
cell_kind i1 M; cell_piece i4 M; cell_region i8 M; origin_cells i8 R"""
_MOVES = "; moves_piece i4 E; moves_term i4 E; moves_out i4 E; moves_in i4 E; moves_weight f8 E"
_SAMPLES = "; sample_theta f8 Sn; sample_image f8 SCHW; sample_expected f8 SO"
_HEADER = re.compile(
    r"\{'descr': '[<|](f8|i8|i4|u8|i1|b1)', 'fortran_order': False, "
    r"'shape': \(([0-9]{1,18}(?:, [0-9]{1,18})*)?,?\), \}"
)


class BadCertificate(Exception):
    """The folder is not a certificate in this format; one sentence says what is wrong."""


@dataclass(frozen=True)
class Certificate:
    """What a folder says: the parts of certificate.json, the box ``(n, 2)``, the bytes of network.onnx.

    Arrays are attributes, by name as in docs/formats.md; all are finite, and all numbers in range.
    """

    question: dict[str, Any]
    claims: dict[str, Any]
    model: dict[str, Any]
    map: dict[str, Any]
    box: np.ndarray
    arrays: dict[str, np.ndarray]
    network: bytes

    def __getattr__(self, name: str) -> np.ndarray:
        try:
            return self.__dict__["arrays"][name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def dimension(self) -> int:
        """Number of parameters n."""
        return len(self.box)

    @property
    def width(self) -> np.ndarray:
        """Widths of the box."""
        return self.box[:, 1] - self.box[:, 0]

    @property
    def volume(self) -> float:
        """Volume of the box."""
        return float(np.prod(self.width))

    def corners(self, cell: int) -> np.ndarray:
        """The vertices ``(m, n)`` of a cell."""
        return self.vertices[self.cell_vertex[self.cell_ptr[cell] : self.cell_ptr[cell + 1]]]


def read(folder: Path) -> Certificate:
    """The certificate in `folder`. Raises BadCertificate, in one sentence, for what is not as it must be."""
    try:
        plain = stat.S_ISDIR(os.lstat(folder).st_mode)
    except (OSError, ValueError) as problem:
        raise BadCertificate(f"{folder} cannot be opened: {problem}") from None
    demand(plain, f"{folder} is not a folder")
    try:
        content = json.loads(_bytes(folder, "certificate.json", None).decode("utf-8"), parse_constant=_never)
    except (ValueError, RecursionError) as problem:
        raise BadCertificate(f"certificate.json is not JSON: {str(problem)[:200]}") from None
    demand(isinstance(content, dict) and content.get("format") == FORMAT, f"its format is not {FORMAT}")
    files, question, claims, about = (_object(content, k) for k in ("files", "question", "claims", "map"))
    model = content.get("model") or {}
    demand(isinstance(model, dict), "model is no object")
    box = _box(question)
    moved = question["moves_map"] and "moves_piece.npy" in files
    listed = _ARRAYS + (_MOVES if moved else "") + (_SAMPLES if question.get("samples") else "")
    wanted = [entry.split() for entry in listed.split(";")]
    names = {"network.onnx", *(f"{name}.npy" for name, _, _ in wanted)}
    demand(set(files) == names, f"files must list {', '.join(sorted(names))}")
    sizes: dict[str, int] = {"n": len(box), "P": question["pieces"], "p": question["pieces"] + 1}
    arrays = {}
    for name, types, axes in wanted:
        arrays[name] = _array(name, _bytes(folder, f"{name}.npy", files[f"{name}.npy"]), types, axes, sizes)
    demand(sizes["m"] == sizes["M"] + 1, f"cell_ptr has {sizes['m']} entries for {sizes['M']} cells")
    network = _bytes(folder, "network.onnx", files["network.onnx"])
    made = Certificate(question, claims, model, about, box, arrays, network)
    _in_range(made)
    return made


def demand(fine: object, sentence: str) -> None:
    """Raise BadCertificate with this sentence unless all is fine."""
    if not fine:
        raise BadCertificate(sentence)


def number(of: Any, what: str) -> float:
    """`of` as a finite float; raises BadCertificate naming `what`."""
    fine = isinstance(of, (int, float)) and not isinstance(of, bool) and abs(of) < 1e300 and math.isfinite(of)
    demand(fine, f"{what} is {of!r:.60}, it must be a finite number")
    return float(of)


def _box(question: dict[str, Any]) -> np.ndarray:
    """The box, after everything in the question has been looked at."""
    parameters: Any = question.get("parameters")
    demand(isinstance(parameters, list) and 1 <= len(parameters) <= 16, "parameters is no list of 1 to 16")
    demand(all(isinstance(each, dict) for each in parameters), "a parameter is no object")
    box = np.array(
        [[number(each.get("low"), "low"), number(each.get("high"), "high")] for each in parameters]
    )
    demand(((box[:, 0] <= 0) & (box[:, 1] >= 0) & (box[:, 0] < box[:, 1])).all(), "0 must lie in the box")
    for name, least in (("classes", 1), ("label", 0), ("pieces", 0)):
        value = question.get(name)
        fine = isinstance(value, int) and not isinstance(value, bool) and least <= value < 1 << 24
        demand(fine, f"{name} is {value!r:.60}")
    demand(question["label"] < question["classes"], "label is not among the classes")
    demand(isinstance(question.get("moves_map"), bool), "moves_map must be true or false")
    for name in ("saliency", "inconsistency"):
        demand(isinstance(_object(question, name).get("name"), str), f"{name} has no name")
    demand(question["saliency"].get("channel_sum") in (True, False), "channel_sum must be true or false")
    number(question.get("threshold"), "threshold")
    clip: Any = question.get("clip")
    demand(clip is None or (isinstance(clip, list) and len(clip) == 2), "clip must be two numbers or null")
    if clip is not None:
        demand(number(clip[0], "clip") < number(clip[1], "clip"), "nothing lies within the clip")
    return box


def _in_range(made: Certificate) -> None:
    """Raise BadCertificate where numbers of vertices, cells, pieces or entries point out of their arrays."""
    for name, array in made.arrays.items():
        fine = array.dtype.kind != "f" or bool(np.isfinite(array).all() and (np.abs(array) < 1e100).all())
        demand(fine, f"{name}.npy holds numbers that are not finite, or above 1e100")
    shown = made.image.size // (made.image.shape[0] if made.question["saliency"]["channel_sum"] else 1)
    if made.question["saliency"]["name"] in ("gradient", "abs-gradient"):
        demand(made.compared.size == shown, f"compared.npy has {made.compared.size} entries, the map {shown}")
    for name, last in (("piece_ptr", len(made.piece_vertices)), ("cell_ptr", len(made.cell_vertex))):
        array = made.arrays[name]
        fine = array[0] == 0 and array[-1] == last and (np.diff(array) > 0).all()
        demand(fine, f"{name}.npy does not rise from 0 to {last}")
    limits = {"cell_vertex": len(made.vertices), "cell_kind": 4, "origin_cells": len(made.cell_kind)}
    limits |= {"moves_piece": len(made.piece_base), "moves_term": made.dimension + 1}
    for name, limit in (limits | {"moves_out": shown, "moves_in": shown}).items():
        array = made.arrays.get(name, np.zeros(0))
        demand(not array.size or (array.min() >= 0 and array.max() < limit), f"{name}.npy is out of range")
    fine = made.cell_piece.min() >= -1 and made.cell_piece.max() < len(made.piece_base)
    demand(fine, "cell_piece.npy is out of range")
    demand(len(np.unique(made.origin_cells)) == len(made.origin_cells), "origin_cells names a cell twice")
    demand(made.cell_facets.shape[1] <= 64, "cell_facets has more than 64 words")
    inside = (made.vertices >= made.box[:, 0]).all() and (made.vertices <= made.box[:, 1]).all()
    demand(inside, "a vertex lies outside of the box")


def _array(name: str, data: bytes, types: str, axes: str, sizes: dict[str, int]) -> np.ndarray:
    """An array out of the bytes of its file; `sizes` learns and fixes the length of each axis."""
    wide = data[:8] == b"\x93NUMPY\x02\x00"
    demand(wide or data[:8] == b"\x93NUMPY\x01\x00", f"{name}.npy is no .npy file of version 1.0 or 2.0")
    start = 12 if wide else 10
    length = int.from_bytes(data[8:start], "little")
    demand(length <= 1024 and start + length <= len(data), f"{name}.npy has a header of {length} bytes")
    match = _HEADER.fullmatch(data[start : start + length].decode("latin-1").strip())
    if match is None or match[1] not in types.split(","):
        raise BadCertificate(f"{name}.npy has a header that is not one of {types} in C order")
    shape = tuple(int(part) for part in (match[2] or "").split(", ") if part)
    room, kind = len(data) - start - length, np.dtype(match[1]).newbyteorder("<")
    fits = len(shape) == len(axes) and math.prod(shape) * kind.itemsize == room
    demand(fits, f"{name}.npy has {room} bytes of numbers, its header says {shape}, the format {axes}")
    for letter, size in zip(axes, shape, strict=True):
        demand(sizes.setdefault(letter, size) == size, f"{name}.npy does not fit the other arrays")
    raw = np.frombuffer(data, np.uint8, offset=start + length)
    demand(kind.kind != "b" or (raw <= 1).all(), f"{name}.npy holds what is neither true nor false")
    demand(math.prod(shape) > 0 or axes[0] in "REPQ", f"{name}.npy is empty")
    return np.frombuffer(data, kind, offset=start + length).reshape(shape)


def _bytes(folder: Path, name: str, declared: Any) -> bytes:
    """The bytes of a plain file, which must be as many as `declared` says and have that SHA-256."""
    if declared is not None:
        fine = isinstance(declared, dict) and isinstance(declared.get("bytes"), int)
        demand(fine and 0 <= declared["bytes"] <= _LARGEST_FILE, f"files says no size for {name}")
    try:
        handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as problem:
        raise BadCertificate(f"{name} cannot be opened: {problem.strerror}") from None
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        demand(stat.S_ISREG(found.st_mode), f"{name} is not a plain file")
        limit = _LONGEST_JSON if declared is None else declared["bytes"]
        fits = found.st_size <= limit if declared is None else found.st_size == limit
        demand(fits, f"{name} has {found.st_size} bytes, not {limit} as it may")
        data = file.read(limit + 1)
    demand(len(data) == found.st_size, f"{name} changed while it was read")
    same = declared is None or hashlib.sha256(data).hexdigest() == declared.get("sha256")
    demand(same, f"{name} does not have the SHA-256 that certificate.json declares")
    return data


def _object(content: dict[str, Any], name: str) -> dict[str, Any]:
    part = content.get(name)
    demand(isinstance(part, dict), f"certificate.json has no object {name!r}")
    return part  # type: ignore[return-value]


def _never(text: str) -> float:
    raise ValueError(f"{text} is no number")
