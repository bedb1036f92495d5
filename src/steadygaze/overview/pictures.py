"""What the worst images look like, taken from the folders of their answers."""

from __future__ import annotations

import os
from base64 import b64encode
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from steadygaze.campaign.store import folder_of

SHOWN = ("nearest-failing", "worst-allowed", "original")  # of these the first that there is
PARTS = ("image", "saliency")
REPORT = "report.html"


def kept(store: Path) -> frozenset[str]:
    """Content keys of the cases whose folders are kept beside the store."""
    place = folder_of(store, "")
    try:
        with os.scandir(place) as found:
            return frozenset(one.name for one in found if Path(one.path, REPORT).is_file())
    except OSError:
        return frozenset()


def link(store: Path, key: str, page: Path) -> str:
    """Where a case's report lies, as seen from the folder of the page."""
    target = (folder_of(store, key) / REPORT).absolute()
    try:
        near = Path(os.path.relpath(target, page.absolute().parent))
    except ValueError:  # another drive
        return target.as_uri()
    return quote(os.fsencode(near.as_posix()))


def worst_pictures(store: Path, key: str) -> list[tuple[str, str]]:
    """What is shown, in words, and the picture as a reference that holds it; nothing where none is kept."""
    folder = folder_of(store, key) / "witness"
    for stem in SHOWN:
        held = {}
        with suppress(OSError):  # of the class alone there is no map
            for part in PARTS:
                held[part] = b64encode((folder / f"{stem}-{part}.png").read_bytes()).decode("ascii")
        if not held:
            continue
        words = stem.replace("-", " ")
        return [(f"{words}: {part}", f"data:image/png;base64,{text}") for part, text in held.items()]
    return []
