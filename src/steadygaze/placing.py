"""Files and folders of what is written: there as a whole, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path


@contextmanager
def folder_made(folder: Path) -> Iterator[None]:
    """Make a folder, and those that it lies in, for what is written meanwhile.

    Where that fails, the folders that were made and are empty are taken away again.

    Raises OSError where the folder cannot be made.
    """
    made = list(takewhile(lambda place: not place.exists(), (folder, *folder.parents)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:  # an interrupt, too
        for place in made:
            with suppress(OSError):
                place.rmdir()
        raise


@contextmanager
def file_placed(path: Path) -> Iterator[Path]:
    """Gives another name beside a file to write to, which replaces the file at the end, and only then.

    Raises OSError where that is not possible.
    """
    fresh = path.with_name(f".{path.name}.part")
    with folder_made(path.parent):
        try:
            yield fresh
            fresh.replace(path)
        finally:
            with suppress(OSError):
                fresh.unlink()
