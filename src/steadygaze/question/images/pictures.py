"""Pictures, by Pillow: what is stored in them, and what it takes to make grey or RGB of it.

Everything that is done is told in words. Colour profiles and gamma are not applied.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from steadygaze.errors import ImageError
from steadygaze.question.images.arrays import checked
from steadygaze.question.images.files import LARGEST_IMAGE, readable
from steadygaze.question.images.records import Pixels

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (
    ".bmp", ".gif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
LARGEST_PICTURE = 2**26
"""Most pixels of a picture of 8 bits that is read to be made smaller: some 200 MB of RGB."""

_FORMATS = (
    "BMP",
    "GIF",
    "JPEG",
    "PNG",
    "PPM",
    "TIFF",
    "WEBP",
)  # none that runs a program; JPEG opens MPO too
_KINDS = "JPEG, PNG, WebP, TIFF, BMP, GIF and PPM"
_ORIENTATION = 0x0112  # the tag of EXIF
_TURNS = {  # by orientation: what undoes it (EXIF 2.3, section 4.6.4 A)
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_DEEP = ("I;16", "I;16B", "I;16L", "I;16N")
_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")


def read_picture(path: Path, background: tuple[float, ...]) -> Pixels:
    """The pixels of a picture's file, whatever its name; see `picture_pixels`. Raises ImageError."""
    with readable(path), path.open("rb") as stream:
        return decoded(stream, str(path), background)


def decoded(stream: IO[bytes], name: str, background: tuple[float, ...]) -> Pixels:
    """The pixels of an encoded picture; `name` says which. Raises ImageError."""
    from PIL import Image

    if not stream.read(1):
        raise ImageError(f"{name} is empty: it has no bytes at all; fetch it again.")
    stream.seek(0)

    def opened() -> Image.Image:
        try:
            return Image.open(stream, formats=_FORMATS)
        except Image.UnidentifiedImageError:
            raise ImageError(
                f"{name} is no picture that is read ({_KINDS}), whatever its name, or it is damaged at its "
                "head: convert it to one of these, or fetch it again."
            ) from None
        except Image.DecompressionBombError as error:
            reason = str(error).split(",")[0]
            raise _too_large(name, f"too much: {reason[:1].lower()}{reason[1:]}") from error

    return _guarded(opened, name, background)


def picture_pixels(picture: Image.Image, background: tuple[float, ...], name: str = "the picture") -> Pixels:
    """The pixels of a picture of Pillow's: grey or RGB, uint8, or float64 where it has more bits.

    Turned as its EXIF orientation says; palettes looked up; transparency composited over the background.
    Raises ImageError where it is animated, too large, damaged, or of a kind whose scale is not known.
    """
    return _guarded(lambda: picture, name, background)


def _guarded(opened: Callable[[], Image.Image], name: str, background: tuple[float, ...]) -> Pixels:
    """With whatever Pillow raises as one sentence, and whatever it warns of among the conversions."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            picture = opened()
            _check_picture(picture, name)
            pixels = _loaded(picture, name, background)
        except (ImageError, MemoryError):
            raise
        except Exception as error:  # Pillow lets through whatever its readers run into in a damaged file
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ImageError(
                f"{name} cannot be read ({reason}): it may be damaged; fetch it again."
            ) from error
    told = dict.fromkeys(" ".join(str(warning.message).split()) for warning in warned)
    return Pixels(pixels.values, (*(f"Pillow warns: {words}" for words in told), *pixels.conversions))


def _check_picture(picture: Image.Image, name: str) -> None:
    """Before its pixels are taken."""
    width, height = picture.size
    most = LARGEST_IMAGE if picture.mode in (*_DEEP, "I", "F") else LARGEST_PICTURE
    if not 0 < width * height <= most:
        raise _too_large(name, f"{width} x {height} pixels", most)
    if getattr(picture, "is_animated", False) and picture.format != "MPO":
        raise ImageError(
            f"{name} holds {getattr(picture, 'n_frames', 'several')} pictures, as an animation or several "
            "pages; one is verified: save the one that you mean as a file of its own."
        )


def _too_large(name: str, claim: str, most: int = LARGEST_PICTURE) -> ImageError:
    return ImageError(
        f"{name} claims {claim}; at most {most:,} are read: shrink it with another program, or "
        "fetch it again if it is not so large."
    )


def _loaded(picture: Image.Image, name: str, background: tuple[float, ...]) -> Pixels:
    from PIL import Image

    raw, notes = _raw_mode(picture), list[str]()
    if picture.format == "MPO" and getattr(picture, "n_frames", 1) > 1:
        notes.append(f"the first of {getattr(picture, 'n_frames', 1)} pictures in the file")
    before = picture.getexif().get(_ORIENTATION, 1)
    picture.load()
    after = picture.getexif().get(_ORIENTATION, 1)  # of TIFF files Pillow has heeded it already
    if after in _TURNS:
        # Modes and what is known of transparency are kept.
        picture = picture.transpose(Image.Transpose[_TURNS[after]])
    if before in _TURNS:
        notes.append(f"turned upright by its EXIF orientation, {before}")
    if "16" in raw and picture.mode not in (*_DEEP, "I"):
        notes.append("16 bits a channel read as 8, the upper ones, as Pillow does")
    pixels = Pixels(np.zeros(0), tuple(notes))
    if picture.mode in (*_DEEP, "I", "F"):
        return _deep(picture, raw, pixels, name)
    return _shown(picture, raw, pixels, name, background)


def _raw_mode(picture: Image.Image) -> str:
    """How the pixels lie in the file, in Pillow's words; empty for a picture that is in memory already."""
    tiles: Any = getattr(picture, "tile", None)
    if not tiles:
        return ""
    arguments = tiles[0][3]
    return str(arguments if isinstance(arguments, str) else arguments and arguments[0])


def _deep(picture: Image.Image, raw: str, pixels: Pixels, name: str) -> Pixels:
    """Grey of more than 8 bits."""
    if "transparency" in picture.info:
        raise _refused_transparency(name)
    values = np.asarray(picture)[None]
    if picture.mode == "F":
        how = "floating-point values taken as they are"
        return pixels.converted(checked(values, f"the picture {name}"), how)
    scaled_by_format = picture.format == "PPM" or (picture.format == "PNG" and "16" in raw)
    if (picture.mode == "I" and not scaled_by_format) or raw == "I;12":
        raise ImageError(
            f"{name} holds whole numbers of {'12' if raw == 'I;12' else '32'} bits, whose brightest value is "
            "not known: convert it to 8 or 16 bits, or to floating point in [0, 1]."
        )
    return pixels.converted(checked(values / 65535, name), "16 bits, divided by 65535")


def _shown(
    picture: Image.Image, raw: str, pixels: Pixels, name: str, background: tuple[float, ...]
) -> Pixels:
    """Grey or RGB of 8 bits."""
    notes = []
    if picture.mode in ("P", "PA"):
        notes.append("colours looked up in its palette")
    if picture.mode in _WITH_ALPHA or "transparency" in picture.info:
        known = picture.mode in ("L", "RGB") and (raw in ("", picture.mode) or picture.format == "GIF")
        if picture.mode not in (*_WITH_ALPHA, "P") and not known:
            raise _refused_transparency(name)  # Pillow would compare it with pixels of another scale
        picture, how = _composited(picture, background)
        notes.append(how)
    elif picture.mode == "1":
        picture = picture.convert("L")
        notes.append("1 bit, black as 0 and white as 1")
    elif picture.mode == "P":
        picture = picture.convert("RGB")
    elif picture.mode in ("CMYK", "YCbCr"):
        notes.append(f"{picture.mode} to RGB by Pillow's formula, without a colour profile")
        picture = picture.convert("RGB")
    if picture.mode not in ("L", "RGB"):
        raise ImageError(
            f"{name} is a picture of mode {picture.mode}; grey, RGB, palettes, transparency, CMYK and YCbCr "
            "are read: convert it to RGB."
        )
    values = np.atleast_3d(np.asarray(picture)).transpose(2, 0, 1)
    return Pixels(values, (*pixels.conversions, *notes))


def _composited(picture: Image.Image, background: tuple[float, ...]) -> tuple[Image.Image, str]:
    """The picture over its background, and how."""
    from PIL import Image

    grey = picture.mode in ("L", "LA", "La", "1") and len(set(background)) == 1
    unmultiplied = {"La": "LA"}.get(picture.mode)
    layered = (picture.convert(unmultiplied) if unmultiplied else picture).convert("RGBA")
    if layered.getchannel("A").getextrema() == (255, 255):
        out, how = layered.convert("RGB"), "alpha left out, as it is opaque everywhere"
    else:
        colour = tuple(round(255 * value) for value in (background * 3)[:3])
        canvas = Image.new("RGBA", picture.size, (*colour, 255))
        out = Image.alpha_composite(canvas, layered).convert("RGB")
        how = f"transparency composited over the background #{bytes(colour).hex()}"
    return (out.getchannel("R") if grey else out), how


def _refused_transparency(name: str) -> ImageError:
    return ImageError(
        f"{name} makes one of its colours transparent and has other than 8 bits, which Pillow does not read "
        "faithfully: convert it, so that the pixels verified are the ones that you mean."
    )
