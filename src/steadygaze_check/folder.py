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

FORMAT = "steadygaze/certificate/2"
ROBUST, CLASS_CHANGED, ATTENTION_CHANGED, UNDECIDED = range(4)
KINDS = ("robust", "class-changed", "attention-changed", "undecided")

_CLAIMS = {"verdict", "shares", "safe_scale", "radius", "origin", "nearest_failure"}
_LONGEST_JSON, _LARGEST_FILE = 8 << 20, 16 << 30
# Name, types and axes of each array, and the range of its whole numbers. Equal letters are equal sizes: n
# parameters (N one more), P pieces (p one more), Q their planes, O entries of the map (D as they must be),
# V vertices, M cells (m one more), I incidences, S simplices. E, R, S, A and F, like P and Q, may be 0.
_ARRAYS = """image f8 CHW; piece_base f8 PCHW; piece_directions f8 PnCHW; piece_planes f8 QN;
piece_ptr i8 p; compared b1 O; vertices f8 Vn; cell_ptr i8 m; cell_vertex i8,i4 I 0 V; cell_kind i1 M 0 4;
cell_piece i4 M -1 P; cell_region i8 M; origin_cells i8 R 0 M; simplices i8,i4 SN 0 V;
simplex_cell i8,i4 S -1 M; apart_cell i8 A 0 M; apart_normal f8 An; failing f8 Fn"""
_MOVES = """; moves_piece i4 E 0 P; moves_term i4 E 0 N; moves_out i4 E 0 D; moves_in i4 E 0 D;
moves_weight f8 E"""
_SAMPLES = "; sample_theta f8 Tn; sample_image f8 TCHW; sample_expected f8 TO"
_HEADER = re.compile(
    rb"\x93NUMPY(?:\x01\0..|\x02\0....)\{'descr': '[<|](f8|i8|i4|i1|b1)', 'fortran_order': False, "
    rb"'shape': \(([0-9]{1,18}(?:, [0-9]{1,18})*)?,?\), \} *\n",
    re.DOTALL,
)


class BadCertificate(Exception):
    """The folder is not a certificate in this format; one sentence says what is wrong."""


@dataclass(frozen=True)
class Certificate:
    """What a folder says: the parts of certificate.json, the box ``(n, 2)`` with the number of parameters n,
    widths and volume, the arrays, and the bytes of network.onnx.

    Arrays are attributes, by name as in docs/formats.md; all are finite, and all numbers in range.
    """

    question: dict[str, Any]
    claims: dict[str, Any]
    model: dict[str, Any]
    map: dict[str, Any]
    box: np.ndarray
    dimension: int
    width: np.ndarray
    volume: float
    arrays: dict[str, np.ndarray]
    network: bytes

    def __getattr__(self, name: str) -> np.ndarray:
        return self.__dict__["arrays"][name]

    @property
    def class_alone(self) -> bool:
        """Whether only the class must hold: then there are no maps, and no threshold."""
        return bool(self.question["saliency"]["name"] == "none")

    def corners(self, cell: int) -> np.ndarray:
        """The vertices ``(m, n)`` of a cell."""
        return self.vertices[self.cell_vertex[self.cell_ptr[cell] : self.cell_ptr[cell + 1]]]


def demand(fine: object, sentence: str) -> None:
    """Raise BadCertificate with this sentence unless all is fine."""
    if not fine:
        raise BadCertificate(sentence)


def number(of: Any, what: str, least: float = -1e300, most: float = 1e300) -> float:
    """`of` as a float within limits; raises BadCertificate naming `what`."""
    demand(type(of) in (int, float) and least <= of <= most, f"{what} is {of!r:.60}")
    return float(of)


def boxed(pairs: Any, rows: int, what: str) -> np.ndarray:
    """Pairs of numbers about 0 ``(rows, 2)``, out of JSON; raises BadCertificate naming `what`."""
    demand(isinstance(pairs, list) and len(pairs) == rows, f"{what} is no list of {rows} pairs")
    return np.array([[number(low, what, most=0), number(high, what, 0)] for low, high in pairs]).reshape(
        -1, 2
    )


def read(folder: Path) -> Certificate:
    """The certificate in `folder`. Raises BadCertificate, or what reading raises, if it is none."""
    demand(stat.S_ISDIR(os.lstat(folder).st_mode), f"{folder} is not a folder")
    content = json.loads(_bytes(folder, "certificate.json", None).decode("utf-8"))
    demand(content["format"] == FORMAT, f"its format is not {FORMAT}")
    parts = [content[name] for name in ("question", "claims", "model", "map", "files")]
    demand(all(isinstance(part, dict) for part in parts), "a part of certificate.json is no object")
    question, claims, model, about, files = parts
    box = _box(question)
    moved = question["moves_map"] and "moves_piece.npy" in files
    listed = _ARRAYS + (_MOVES if moved else "") + (_SAMPLES if question.get("samples") else "")
    wanted = [entry.split() for entry in listed.split(";")]
    names = {"network.onnx", *(f"{name}.npy" for name, *_ in wanted)}
    fine = set(files) == names and all(isinstance(each, dict) for each in files.values())
    demand(fine, f"files must list {', '.join(sorted(names))}")
    demand(set(claims) >= _CLAIMS, f"claims must have {', '.join(sorted(_CLAIMS))}")
    demand(claims["verdict"] in ("robust", "violated", "unknown"), "the verdict is none")
    number(about["rest"], "the volume that is in no cell", 0)
    data = {name: _bytes(folder, name, files[name]) for name in names}
    n, width = len(box), np.ptp(box, axis=1)
    sizes = {"n": n, "N": n + 1, "P": question["pieces"], "p": question["pieces"] + 1}
    arrays = {name: _array(name, data[f"{name}.npy"], types, axes, sizes) for name, types, axes, *_ in wanted}
    sizes["D"] = arrays["image"][0 if question["saliency"]["channel_sum"] else slice(None)].size
    for name, _, _, *ends in wanted:
        if ends and arrays[name].size:
            least, limit = (int(sizes.get(end, end)) for end in ends)
            demand(least <= arrays[name].min() <= arrays[name].max() < limit, f"{name}.npy is out of range")
    with np.errstate(over="ignore", under="ignore"):  # what is said of such ranges is not proven
        bounds, network = (box, n, width, float(np.prod(width))), data["network.onnx"]
    made = Certificate(question, claims, model, about, *bounds, arrays, network)
    _consistent(made, sizes)
    return made


def _box(question: dict[str, Any]) -> np.ndarray:
    """The box, after everything in the question has been looked at."""
    saliency, measure, many = question["saliency"], question["inconsistency"], 1 << 24
    for name, least, limit in (("classes", 1, many), ("label", 0, question["classes"]), ("pieces", 0, many)):
        value = question[name]
        demand(type(value) is int and least <= value < limit, f"{name} is {value!r:.60}")
    for value, kind in (
        (question["moves_map"], bool),
        (saliency["channel_sum"], bool),
        (saliency["name"], str),
    ):
        demand(type(value) is kind, f"{value!r:.60} of the question is no {kind.__name__}")
    demand(type(measure["name"]) is str, "the inconsistency has no name")
    number(question["threshold"], "threshold")
    low, high = (number(each, "clip") for each in question["clip"] or (0, 1))
    pairs = [(each["low"], each["high"]) for each in question["parameters"]]
    box = boxed(pairs, min(max(len(pairs), 1), 16), "parameters")
    demand(low < high, f"the clip is from {low:g} to {high:g}")
    return box


def _consistent(made: Certificate, sizes: dict[str, int]) -> None:
    """Raise BadCertificate where arrays that fit the format do not fit one another."""
    for name, array in made.arrays.items():
        fine = array.dtype.kind != "f" or bool((np.abs(array) < 1e100).all())
        demand(fine, f"{name}.npy holds numbers that are not finite, or above 1e100")
    map_is_known = made.question["saliency"]["name"] in ("gradient", "abs-gradient")
    demand(not map_is_known or sizes["O"] == sizes["D"], "compared.npy is not of the size of a map")
    alone, question = made.class_alone, made.question
    maps = question["threshold"] or question["moves_map"] or made.compared.any()
    fine = alone == (question["inconsistency"]["name"] == "none") and not (alone and maps)
    demand(fine, "it asks about the class alone, and about maps")
    demand(sizes["m"] == sizes["M"] + 1 and sizes["F"] <= 64, "cell_ptr or failing is too long, or too short")
    for ptr, last in ((made.piece_ptr, sizes["Q"]), (made.cell_ptr, sizes["I"])):
        fine = ptr[0] == 0 and ptr[-1] == last and (np.diff(ptr) > 0).all()
        demand(fine, f"piece_ptr.npy or cell_ptr.npy does not rise from 0 to {last}")
    for points in (made.vertices, made.failing):
        inside = (points >= made.box[:, 0]) & (points <= made.box[:, 1])
        demand(inside.all(), "a vertex or a failing point lies outside of the box")
    demand(len(np.unique(made.origin_cells)) == len(made.origin_cells), "origin_cells names a cell twice")
    demand((np.diff(made.simplices, axis=1) > 0).all(), "a row of simplices.npy does not rise")
    own, vertices = made.simplex_cell >= 0, len(made.vertices)
    has = np.repeat(np.arange(sizes["M"]), np.diff(made.cell_ptr)) * vertices + made.cell_vertex
    used = made.simplex_cell[own, None].astype(np.int64) * vertices + made.simplices[own]
    demand(np.isin(used, has).all(), "a simplex has a vertex that its cell does not have")


def _array(name: str, data: bytes, types: str, axes: str, sizes: dict[str, int]) -> np.ndarray:
    """An array out of the bytes of its file; `sizes` learns and fixes the length of each axis."""
    match = _HEADER.match(data[:1024])
    if match is None or match[1].decode() not in types.split(","):
        raise BadCertificate(f"{name}.npy has a header that is not one of {types} in C order")
    shape = tuple(int(part) for part in (match[2] or b"").split(b", ") if part)
    kind, room = np.dtype(match[1].decode()).newbyteorder("<"), len(data) - match.end()
    start = 10 if data[6] == 1 else 12
    told = start + int.from_bytes(data[8:start], "little")
    demand(told == match.end(), f"{name}.npy has a header of another length than it says")
    fits = len(shape) == len(axes) and math.prod(shape) * kind.itemsize == room
    demand(fits, f"{name}.npy has {room} bytes of numbers, its header says {shape}, the format {axes}")
    fits = all(sizes.setdefault(letter, size) == size for letter, size in zip(axes, shape, strict=True))
    demand(fits and (room or axes[0] in "REPQSAF"), f"{name}.npy does not fit the other arrays, or is empty")
    array = np.frombuffer(data, kind, offset=match.end()).reshape(shape)
    demand(kind.kind != "b" or (array.view(np.uint8) <= 1).all(), f"{name}.npy holds neither true nor false")
    return array


def _bytes(folder: Path, name: str, told: Any) -> bytes:
    """The bytes of a plain file, which must be as many as `told` says and have that SHA-256."""
    size = _LONGEST_JSON if told is None else told["bytes"]
    demand(type(size) is int and 0 <= size <= _LARGEST_FILE, f"files says no size for {name}")
    demand(stat.S_ISREG(os.lstat(folder / name).st_mode), f"{name} is not a plain file")
    handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        fits = found.st_size <= size if told is None else found.st_size == size
        demand(stat.S_ISREG(found.st_mode) and fits, f"{name} is not a plain file of {size} bytes")
        data = file.read(size + 1)
    same = told is None or hashlib.sha256(data).hexdigest() == told.get("sha256")
    demand(len(data) == found.st_size and same, f"{name} is not what certificate.json declares")
    return data
