"""From what a user names or holds to an image: the one place that knows every kind of source."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np

from steadygaze.errors import ImageError, SettingError
from steadygaze.network.baselines import BASELINES
from steadygaze.question.framing import Framing
from steadygaze.question.images.arrays import as_pixels, scaled
from steadygaze.question.images.files import is_file, is_folder, path_of
from steadygaze.question.images.folders import ClassFolder
from steadygaze.question.images.hub import HubSet
from steadygaze.question.images.idx import IdxPair
from steadygaze.question.images.notation import Reference, parsed
from steadygaze.question.images.npz import NpzArchive
from steadygaze.question.images.pictures import picture_pixels
from steadygaze.question.images.records import ImageEntry, Labelled, LoadedImage, Pixels
from steadygaze.question.images.resizing import framed
from steadygaze.question.images.scans import Digits
from steadygaze.question.images.sets import AbstractImageSet, Entry
from steadygaze.question.images.single import is_image_name, read_file
from steadygaze.question.images.tables import Table

FORMS = (
    "digits:7, idx:FOLDER:17, idx:FOLDER:train:17, npz:FILE:17, folder:FOLDER:cat/1.jpg, csv:FILE:17, "
    "datasets:PATH:17, FILE.npy, or a picture such as FILE.jpg"
)
_SETS: Mapping[str, type[AbstractImageSet]] = {
    one.kind: one for one in (Digits, IdxPair, NpzArchive, ClassFolder, Table, HubSet)
}
_TABLES = {".csv": Table.kind, ".tsv": Table.kind, ".parquet": HubSet.kind}
_AS_IT_IS = Framing()


def load_image(source: str | Path, framing: Framing = _AS_IT_IS) -> LoadedImage:
    """The image that a source names, in the size and cut asked for.

    Args:
        source: such as `"digits:7"`, `"idx:FOLDER:17"`, `"npz:FILE:17"`, `"folder:FOLDER:cat/1.jpg"`,
            `"csv:FILE:17"`, `"FILE.npy"` or a picture; all of them: [Formats](../formats.md#images).
        framing: in which size and cut; by default as it is stored.

    Returns:
        The image with what the source says of it.

    Raises:
        ImageError: if the source is not understood, cannot be read, or holds no image.
    """
    return Library().load(source, framing)


@final
class Library:
    """Sets of images that stay open, so that the next image of a set is not sought from the beginning.

    The last few sets are kept; files are taken to stay as they are meanwhile.
    """

    def __init__(self, room: int = 4) -> None:
        self._room = room
        self._sets: OrderedDict[str, AbstractImageSet] = OrderedDict()

    def load(self, source: str | Path, framing: Framing = _AS_IT_IS) -> LoadedImage:
        """As `load_image`."""
        if not isinstance(source, str | Path):  # pyright: ignore[reportUnnecessaryIsInstance] (who calls?)
            raise ImageError(
                f"The image source is of type {type(source).__name__}; it must be text that names an image, "
                "such as 'digits:7' or 'FILE.png': hand an array, a tensor or a picture to verify() as it is."
            )
        named = str(source)
        return _framed(self._found(named, framing), named, framing)

    def _found(self, source: str, framing: Framing) -> Labelled:
        """The stored image."""
        reference = _reference(source)
        if reference is None:
            return Labelled(read_file(path_of(_checked_file(source)), framing.background))
        if not reference.is_one:
            raise _unnumbered(source)
        name = repr((reference.kind, reference.where, sorted(reference.settings.items()), framing.background))
        known = self._sets.setdefault(name, _set_of(reference, framing))
        self._sets.move_to_end(name)
        while len(self._sets) > self._room:
            self._sets.popitem(last=False)
        return known.image(reference.entry)


def image_from(image: Any, framing: Framing = _AS_IT_IS) -> LoadedImage:
    """The image that a user hands in: a source's name, a picture of Pillow's, an array, or a loaded image.

    Raises ImageError, and SettingError where a loaded image is to be framed again.
    """
    if isinstance(image, LoadedImage):
        if framing != _AS_IT_IS:
            raise SettingError(
                "the image is loaded already, so that resize, crop, resampling and background come too late: "
                "give them to load_image, as in load_image(name, Framing(resize=(256,)))"
            )
        return image
    if isinstance(image, str | Path):
        return load_image(str(image), framing)
    if _is_picture(image):
        return _framed(Labelled(picture_pixels(image, framing.background)), None, framing)
    pixels = framed(as_pixels(image), framing, "The image")
    return LoadedImage(scaled(pixels.values), conversions=pixels.conversions)


def baseline_of(given: Any, framing: Framing = _AS_IT_IS) -> str | LoadedImage:
    """Where the path of integrated gradients begins: one of `BASELINES` as it is, else an image.

    given: a name, or what `image_from` takes; framed as the image to verify is. Raises as that does.
    """
    if isinstance(given, str) and given in BASELINES:
        return given
    try:
        return image_from(given, _AS_IT_IS if isinstance(given, LoadedImage) else framing)
    except ImageError as error:
        names = ", ".join(BASELINES)
        raise ImageError(f"the baseline is neither {names} nor an image that can be read: {error}") from error


def images_of(source: str) -> list[ImageEntry]:
    """All images of a source, in order, without reading their pixels.

    Args:
        source: as for `load_image`, with several numbers where one is asked for, `"digits:0..99"` or
            `"digits:7,20..29"`, or none for all.

    Returns:
        An entry for each image, at least one.

    Raises:
        ImageError: if the source is not understood, cannot be read, or has no such images.
    """
    reference = _reference(source)
    if reference is None:
        return [ImageEntry(path_of(source).name, _checked_file(source), None)]
    entries = _chosen(_set_of(reference).entries(), reference, source)
    return [ImageEntry(entry.name, reference.to(entry.key), entry.label) for entry in entries]


def _chosen(entries: list[Entry], reference: Reference, source: str) -> list[Entry]:
    """The entries that the reference names."""
    if not reference.entry:
        return entries
    if not reference.spans:
        named = [entry for entry in entries if entry.key == reference.entry]
        if not named:
            raise ImageError(
                f"There is no file {reference.entry!r} among the {len(entries)} images of "
                f"{reference.where!r}: check the name."
            )
        return named
    chosen: dict[int, Entry] = {}
    for first, last in reference.spans:
        if not first <= last < len(entries):
            raise ImageError(
                f"{source!r} asks for the images {first} to {last}, but there are {len(entries)}, numbered "
                "from 0: name such as there are, the smaller number first."
            )
        chosen |= {number: entries[number] for number in range(first, last + 1)}
    return list(chosen.values())


def _reference(source: str) -> Reference | None:
    """The source taken apart; None for a file of one image."""
    kind, colon, rest = source.partition(":")
    path = path_of(source)
    # A file of exactly that name comes first, so that a colon in a file's name does no harm.
    if is_file(path):
        kind = _TABLES.get(path.suffix.lower())
        return None if kind is None else Reference(kind, source)
    if kind not in _SETS or not (colon or kind == "digits"):
        return Reference("folder", source) if source and is_folder(path) else None
    reference = parsed(kind, rest, _SETS[kind].keys, _SETS[kind].names_files)
    if bool(reference.where.removesuffix(":train")) == (kind == "digits"):
        raise _unnumbered(source)
    return reference


def _set_of(reference: Reference, framing: Framing = _AS_IT_IS) -> AbstractImageSet:
    return _SETS[reference.kind](reference.where, reference.settings, framing.background)


def _checked_file(source: str) -> str:
    """The source where it is a file that may hold one image."""
    path = path_of(source)
    suffix = path.suffix.lower()
    if suffix == ".npz" or not (is_file(path) or is_image_name(path.name)):
        hint = f"; for an image inside an npz file write npz:{source}:INDEX" if suffix == ".npz" else ""
        raise ImageError(f"The image source {source!r} is not understood: write {FORMS}{hint}.")
    if not is_file(path):
        raise ImageError(f"There is no image file {source!r}: check the path, or write {FORMS}.")
    return source


def _unnumbered(source: str) -> ImageError:
    return ImageError(
        f"The image source {source!r} does not name an image of a data set: write it like one of {FORMS}."
    )


def _framed(found: Labelled, source: str | None, framing: Framing) -> LoadedImage:
    name = "The picture" if source is None else source
    pixels: Pixels = framed(found.pixels, framing, name)
    return LoadedImage(
        scaled(pixels.values),
        found.label,
        source,
        found.index,
        found.class_name,
        pixels.conversions,
        stored=True,
    )


def _is_picture(image: Any) -> bool:
    """Whether it is a picture of Pillow's, which is not imported to find out."""
    return not isinstance(image, np.ndarray) and any(
        base.__module__ == "PIL.Image" and base.__name__ == "Image" for base in type(image).__mro__
    )
