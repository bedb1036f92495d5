"""The answer's folder: written beside its place, then moved in."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from steadygaze.answer.drawing import Drawing
from steadygaze.answer.result import Result
from steadygaze.errors import SettingError
from steadygaze.placing import folder_made
from steadygaze.report.exhibits import write_witness
from steadygaze.report.page import page
from steadygaze.report.still import map_png

NAMES = (
    "certificate",
    "witness",
    "boundary.npz",
    "map.png",
    "report.html",
    "result.json",
)  # in the order in which they are moved in


def check_folder(folder: Path) -> None:
    """Refuse, before any long work, a folder that cannot be written; makes nothing. Raises SettingError."""
    with _told(folder):
        if "\0" in str(folder):
            raise OSError(errno.EINVAL, "a name cannot hold the character NUL")
        existing = next(place for place in (folder, *folder.absolute().parents) if _is_there(place))
        if not existing.is_dir():
            kind = "a link that leads to no folder" if existing.is_symlink() else "a file"
            raise NotADirectoryError(errno.ENOTDIR, f"{existing} is {kind}")
        if max(len(os.fsencode(part)) for part in folder.absolute().parts) > os.pathconf(
            existing, "PC_NAME_MAX"
        ):
            raise OSError(errno.ENAMETOOLONG, "the name is too long")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, f"no permission to write in {existing}")


def write(
    result: Result,
    drawing: Drawing,
    folder: Path,
    certify: Callable[[Path], None] | None = None,
    picture: bool = False,
) -> Path:
    """See ``report.write_report``."""
    check_folder(folder)
    with _told(folder), folder_made(folder):
        # Inside the folder: the same file system, so that moving is renaming.
        fresh = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
        try:
            _write_all(result, drawing, fresh, picture)
            if certify is not None:
                (fresh / "certificate").mkdir()
                certify(fresh / "certificate")
            _swap(fresh, folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return folder


def _write_all(result: Result, drawing: Drawing, folder: Path, picture: bool) -> None:
    drawn = map_png(result, drawing) if picture else None
    if drawn is not None:
        (folder / "map.png").write_bytes(drawn)
    (folder / "report.html").write_text(page(result, drawing, drawn), encoding="utf-8")
    write_witness(drawing.exhibits, folder / "witness")
    if drawing.boundary is not None:
        np.savez_compressed(folder / "boundary.npz", **vars(drawing.boundary))
    (folder / "result.json").write_text(result.to_json(), encoding="utf-8")


def _swap(fresh: Path, folder: Path) -> None:
    """Move the new over the old; a folder cannot be renamed over another, so the old one steps aside."""
    for name in NAMES:
        old, new = folder / name, fresh / name
        if old.is_dir() and not old.is_symlink():
            old.replace(fresh / f"old-{name}")
        if new.exists():
            new.replace(old)
        else:  # not every answer has all of these; an earlier answer's would contradict this one
            old.unlink(missing_ok=True)


def _is_there(place: Path) -> bool:
    """Whether there is anything of that name, a link that leads nowhere included."""
    try:
        place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SettingError(
            f"the answer cannot be written to {str(folder)!r} ({error.strerror or error}): "
            "choose another folder with --out"
        ) from error
