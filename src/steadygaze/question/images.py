"""From what a user names or holds to an image: float64 (C, H, W) with values in [0, 1].

A source is one of

    digits:7              scikit-learn's digits
    idx:FOLDER:17         the t10k pair of IDX files as MNIST ships them, .gz or not
    idx:FOLDER:train:17   the training pair
    npz:FILE:17           keys `images`: (N, H, W) or (N, H, W, C), C of 1 or 3; perhaps `labels`: (N,)
    FILE.png              grey or RGB, 8 bits
    FILE.npy              (H, W), (C, H, W) or (H, W, C): see `as_image`

Numbers count from 0. Array values are uint8, divided by 255, or floating point in [0, 1]. Files are data:
nothing is unpickled, and sizes are checked before memory is taken, so that a header which claims too much is
an error. Of an archive only the bytes up to the image asked for are read. Every error is an ImageError.
"""

from __future__ import annotations

import gzip
import math
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from steadygaze.errors import ImageError
from steadygaze.question.digits import digit

LARGEST_IMAGE = 2**24
"""Most values of one image: far beyond any network that can be verified, far below what memory holds."""

CHANNEL_COUNTS = (1, 3)
FORMS = "digits:7, idx:FOLDER:17, idx:FOLDER:train:17, npz:FILE:17, FILE.png or FILE.npy"
NUMBERED = ("digits", "idx", "npz")
IDX_MAGIC = {"images": b"\x00\x00\x08\x03", "labels": b"\x00\x00\x08\x01"}
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_KINDS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with transparency", 6: "RGB with transparency"}
NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
CHUNK = 2**20

Stream = IO[bytes] | gzip.GzipFile


@dataclass(frozen=True)
class LoadedImage:
    """An image and where it comes from.

    image: float64 (C, H, W) in [0, 1]; label: as the data set gives it, None where it gives none;
    source: as the user wrote it; index: its number in the data set, None for a file of its own.
    """

    image: np.ndarray
    label: int | None
    source: str
    index: int | None


def load_image(source: str) -> LoadedImage:
    """The image that a source names; see the head of this module. Raises ImageError."""
    path = _path(source)
    kind, colon, rest = source.partition(":")
    # A file of exactly that name comes first, so that a colon in a file's name does no harm.
    if colon and kind in NUMBERED and not _is_file(path):
        return _numbered(source, kind, rest)
    suffix = path.suffix.lower()
    if suffix not in (".png", ".npy"):
        hint = f"; for an image inside an npz file write npz:{source}:INDEX" if suffix == ".npz" else ""
        raise ImageError(f"The image source {source!r} is not understood: write {FORMS}{hint}.")
    if not _is_file(path):
        raise ImageError(f"There is no image file {source!r}: check the path, or write {FORMS}.")
    with _readable(path):
        image = (
            _read_png(path) if suffix == ".png" else as_image(_read_npy(path), name=f"the image in {path}")
        )
    return LoadedImage(image, None, source, None)


def as_image(array: Any, *, name: str = "the image") -> np.ndarray:
    """A NumPy array, a torch tensor or anything NumPy takes as an image: float64 (C, H, W) in [0, 1], a copy.

    (H, W) is one channel. Three axes are (C, H, W), unless the last is 1 or 3 and the first is neither: then
    (H, W, C). uint8 is divided by 255; floating point must lie in [0, 1]. Raises ImageError.
    """
    values = _from_user(array)
    if values.ndim not in (2, 3):
        hint = ": drop the batch axis, image[0]" if values.ndim == 4 and len(values) == 1 else ""
        raise ImageError(
            f"The shape of {name} is {values.shape}; it must be (H, W), (C, H, W) or (H, W, C){hint}."
        )
    if not 0 < values.size <= LARGEST_IMAGE:
        raise ImageError(
            f"The shape of {name} is {values.shape}, {values.size} values; "
            f"it must have at least one and at most {LARGEST_IMAGE:,}: crop or shrink it."
        )
    if values.ndim == 2:
        values = values[None]
    elif values.shape[-1] in CHANNEL_COUNTS and values.shape[0] not in CHANNEL_COUNTS:
        values = np.moveaxis(values, -1, 0)
    return _in_unit_range(values, name)


def _from_user(array: Any) -> np.ndarray:
    """As NumPy sees it; torch is looked at only where the caller has imported it already."""
    torch = sys.modules.get("torch")
    try:
        if torch is not None and isinstance(array, torch.Tensor):
            plain = array.detach().cpu()
            return (plain.double() if plain.is_floating_point() else plain).numpy()
        return np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ImageError(
            f"A {type(array).__name__} is no image ({reason}): hand in a NumPy array, or a dense tensor."
        ) from error


def _in_unit_range(values: np.ndarray, name: str) -> np.ndarray:
    """float64 in [0, 1], contiguous, a copy."""
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values) / 255
    if values.dtype.kind != "f":
        raise ImageError(
            f"The values of {name} are of type {values.dtype}; they must be uint8 (0 to 255) or floating "
            "point (0 to 1): convert them, e.g. with .astype('uint8')."
        )
    image = np.array(values, dtype=np.float64, order="C")
    if not np.isfinite(image).all():
        raise ImageError(
            f"The values of {name} include NaN or infinity; they must lie in [0, 1]: mend the data."
        )
    if image.min() < 0 or image.max() > 1:
        raise ImageError(
            f"The values of {name} reach from {image.min():g} to {image.max():g}; they must lie in [0, 1]: "
            "scale them, and give a network's own normalisation as mean and std."
        )
    return image


def _numbered(source: str, kind: str, rest: str) -> LoadedImage:
    """The image of a source that ends in its number; digits alone lie in no file."""
    where, _, number = rest.rpartition(":")
    folder = where.removesuffix(":train")
    if not (number.isascii() and number.isdigit() and len(number) < 19) or bool(folder) == (kind == "digits"):
        raise ImageError(
            f"The image source {source!r} does not name an image of a data set: write it like one of {FORMS}."
        )
    index = int(number)
    if kind == "digits":
        image, label = digit(index)
    elif kind == "npz":
        image, label = _read_npz(_path(where), index)
    else:
        image, label = _read_idx(_path(folder), "t10k" if folder == where else "train", index)
    return LoadedImage(image, label, source, index)


def _path(text: str) -> Path:
    """The path, a leading ~ read as the shell would."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # ~somebody, who has no home here
        return Path(text)


def _is_file(path: Path) -> bool:
    """Whether there is such a file, as far as one may look."""
    try:
        return path.is_file()
    except OSError:  # a folder that may not be entered, a name too long
        return False


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what the readers of damaged files raise into one sentence."""
    try:
        yield
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        reason = str(error) or type(error).__name__
        raise ImageError(f"{path} cannot be read ({reason}): it may be damaged; fetch it again.") from error


def _exactly(stream: Stream, count: int, path: Path) -> bytes:
    """That many bytes, or an error where the file ends before."""
    content = stream.read(count)
    if len(content) != count:
        raise ImageError(f"{path} ends too early: its header claims more than it holds; fetch it again.")
    return content


def _skip(stream: Stream, count: int, path: Path) -> None:
    """Leaves bytes unread, a little at a time: a compressed stream cannot jump."""
    while count > 0:
        _exactly(stream, min(count, CHUNK), path)
        count -= CHUNK


def _check_index(index: int, count: int, path: Path) -> None:
    """Against what the header claims."""
    if index >= count:
        raise ImageError(
            f"There is no image {index} in {path}: it holds {count}, numbered from 0; choose another."
        )


def _check_size(shape: tuple[int, ...], path: Path) -> None:
    """Of one image, before memory is taken."""
    if not 0 < math.prod(shape) <= LARGEST_IMAGE:
        raise ImageError(
            f"The images of {path} are of shape {shape} by its header; an image must have at least one value "
            f"and at most {LARGEST_IMAGE:,}: crop or shrink it, or mend the file."
        )


# IDX: a magic number, the sizes as big-endian 32-bit integers, then the bytes
# (Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits").


def _read_idx(folder: Path, part: str, index: int) -> tuple[np.ndarray, int | None]:
    """One image of a pair of IDX files; no label where the folder lacks the labels."""
    path = _idx_file(folder, part, "images")
    if path is None:
        raise ImageError(
            f"There is no {part}-images-idx3-ubyte (or .gz) in the folder {str(folder)!r}: "
            "name the folder that holds the IDX files as the data set ships them."
        )
    with _readable(path), _opened(path) as stream:
        count, height, width = _idx_sizes(stream, path, "images")
        _check_size((height, width), path)
        _check_index(index, count, path)
        _skip(stream, index * height * width, path)
        pixels = _exactly(stream, height * width, path)
    image = np.frombuffer(pixels, np.uint8).reshape(1, height, width) / 255
    path = _idx_file(folder, part, "labels")
    if path is None:
        return image, None
    with _readable(path), _opened(path) as stream:
        (labels,) = _idx_sizes(stream, path, "labels")
        if labels != count:
            raise ImageError(f"{path} has {labels} labels for {count} images: the two files are no pair.")
        _skip(stream, index, path)
        return image, _exactly(stream, 1, path)[0]


def _idx_file(folder: Path, part: str, content: str) -> Path | None:
    """The file under either of the names that are in use."""
    dimension = {"images": 3, "labels": 1}[content]
    names = [f"{part}-{content}{mark}idx{dimension}-ubyte{end}" for mark in "-." for end in ("", ".gz")]
    return next((folder / name for name in names if _is_file(folder / name)), None)


def _opened(path: Path) -> Stream:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _idx_sizes(stream: Stream, path: Path, content: str) -> tuple[int, ...]:
    """The sizes that the header claims."""
    magic = stream.read(4)
    if magic != IDX_MAGIC[content]:
        raise ImageError(
            f"{path} starts with {magic.hex() or 'nothing'}, not with {IDX_MAGIC[content].hex()} as IDX "
            f"{content} do: it is another file, or compressed without the ending .gz."
        )
    return struct.unpack(f">{magic[3]}I", _exactly(stream, 4 * magic[3], path))


# npy and npz: the header is read by NumPy, the data by us, so that no more is taken than one image.


@dataclass(frozen=True)
class _Header:
    """What an npy stream says of its data, which follow."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype


def _npy_header(stream: Stream, path: Path) -> _Header:
    """Raises ImageError unless the data are numbers of a fixed size."""
    try:
        version = np.lib.format.read_magic(stream)
        header = _Header(*NPY_HEADERS[version](stream))
    except Exception as error:  # NumPy lets through whatever Python's own parser says of a damaged header
        raise ImageError(
            f"{path} is not an array file as NumPy writes it: save it with numpy.save."
        ) from error
    if len(header.shape) > 8 or min(header.shape, default=0) < 0:
        raise ImageError(f"{path} claims the shape {header.shape[:9]}: it may be damaged; fetch it again.")
    if header.dtype.kind not in "uif":
        raise ImageError(
            f"{path} holds values of type {header.dtype}; only numbers are read, never pickled objects: "
            "save it as uint8 or float."
        )
    return header


def _read_npy(path: Path) -> np.ndarray:
    with path.open("rb") as stream:
        header = _npy_header(stream, path)
        _check_size(header.shape, path)
        content = _exactly(stream, math.prod(header.shape) * header.dtype.itemsize, path)
    order = "F" if header.fortran_order else "C"
    return np.frombuffer(content, header.dtype).reshape(header.shape, order=order)


def _read_npz(path: Path, index: int) -> tuple[np.ndarray, int | None]:
    """One image of an archive; no label where the archive has none."""
    if not _is_file(path):
        raise ImageError(f"There is no npz file {str(path)!r}: check the path.")
    with _readable(path), zipfile.ZipFile(path) as archive:
        members = archive.namelist()
        if "images.npy" not in members:
            keys = ", ".join(name.removesuffix(".npy") for name in members[:8]) or "nothing"
            raise ImageError(
                f"{path} has no key 'images' (it has {keys}): save images=... and labels=... in it."
            )
        with archive.open("images.npy") as stream:
            header = _npy_header(stream, path)
            layout = header.shape[1:]
            if len(layout) != 2 and not (len(layout) == 3 and layout[-1] in CHANNEL_COUNTS):
                raise ImageError(
                    f"The images of {path} are of shape {header.shape}; it must be (N, H, W) or (N, H, W, C) "
                    "with C of 1 or 3: move the axes with numpy.moveaxis."
                )
            pixels = _entry(stream, header, index, path)
        image = np.moveaxis(pixels if len(layout) == 3 else pixels[..., None], -1, 0)
        label = _npz_label(archive, header.shape[0], index, path) if "labels.npy" in members else None
    return _in_unit_range(image, f"image {index} of {path}"), label


def _npz_label(archive: zipfile.ZipFile, images: int, index: int, path: Path) -> int:
    """The label of one of that many images."""
    with archive.open("labels.npy") as stream:
        header = _npy_header(stream, path)
        if header.shape != (images,) or header.dtype.kind not in "ui":
            raise ImageError(
                f"The labels of {path} are {header.dtype} of shape {header.shape}; they must be integers "
                f"of shape ({images},), one for each image: save them anew."
            )
        return int(_entry(stream, header, index, path))


def _entry(stream: Stream, header: _Header, index: int, path: Path) -> np.ndarray:
    """Entry `index` along the first axis of the array whose header was just read."""
    shape = header.shape[1:]
    _check_size(shape, path)
    _check_index(index, header.shape[0], path)
    if header.fortran_order and shape:
        raise ImageError(f"{path} is stored column by column: save it with numpy.ascontiguousarray.")
    size = math.prod(shape) * header.dtype.itemsize
    _skip(stream, index * size, path)
    return np.frombuffer(_exactly(stream, size, path), header.dtype).reshape(shape)


def _read_png(path: Path) -> np.ndarray:
    """An 8-bit grey or RGB picture; its colour profile and gamma are not applied."""
    from PIL import Image  # only pictures need it

    with path.open("rb") as stream:
        start = _exactly(stream, 26, path)
    if not start.startswith(PNG_SIGNATURE) or start[12:16] != b"IHDR":
        raise ImageError(f"{path} is no PNG file, whatever its name: convert it to PNG.")
    width, height, depth, kind = struct.unpack(">IIBB", start[16:26])
    if depth != 8 or PNG_KINDS.get(kind) not in ("grey", "RGB"):
        raise ImageError(
            f"{path} is a PNG of {depth} bits, {PNG_KINDS.get(kind, 'of unknown kind')}; only 8-bit grey and "
            "8-bit RGB are read: convert it, so that the pixels verified are the ones you mean."
        )
    _check_size((height, width, 3), path)
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            pixels, transparent = np.asarray(picture), "transparency" in picture.info
    except (SyntaxError, ValueError) as error:
        raise ImageError(f"{path} cannot be read ({error}): it may be damaged; fetch it again.") from error
    if transparent:
        raise ImageError(
            f"{path} is a PNG with a transparent colour; only pictures without transparency are read: "
            "convert it, so that the pixels verified are the ones you mean."
        )
    return np.atleast_3d(pixels).transpose(2, 0, 1) / 255
