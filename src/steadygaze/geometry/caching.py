"""Where compiled kernels are kept: in the first of several folders in which one may write.

Where the package is installed for all, or a container runs as a user that it does not know, the package's own
folder may be read-only and there may be no home. Nothing here changes numba's settings for others: its folder
is set while one of our functions is decorated, and put back.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numba as nb
from numba.core import config
from platformdirs import user_cache_path

#: The variable that names the folder; it goes before all others.
VARIABLE = "STEADYGAZE_CACHE_DIR"
# What numba imports to see whether it is there. Our kernels multiply no matrices.
_BLAS = "scipy.linalg.cython_blas"
# numba's own settings; its types do not tell what is in them.
_SETTINGS: Any = config
# What numba finds by itself: the folder of its own variable, or __pycache__ beside the source.
_BESIDE = Path()


def compiler(**options: Any) -> Callable[[Callable], Any]:
    """A decorator that has numba compile a function and keep the code where that is possible."""

    def decorate(function: Callable) -> Any:
        with _kept_in(folder()) as kept:
            return nb.njit(cache=kept, **options)(function)

    return decorate


def _numba_without_blas() -> None:
    """Have numba load what it knows of arrays, without scipy's linear algebra, which takes as long again.

    Where a kernel of anyone's multiplies matrices, numba imports that then.
    """
    if _BLAS in sys.modules:
        return
    sys.modules[_BLAS] = ModuleType(_BLAS)
    try:
        import_module("numba.np.arraymath")
    finally:
        del sys.modules[_BLAS]


_numba_without_blas()


@cache
def folder() -> Path | None:
    """The folder of this process: `Path()` for numba's own choice, None to compile in memory each time."""
    own, found = os.environ.get(VARIABLE), _usual()
    if own and _writable(Path(own)):
        return Path(own)
    if own:
        warnings.warn(
            f"{VARIABLE} is {own!r}, where nothing can be written; compiled code is kept "
            f"{'elsewhere' if found else 'nowhere'}; name a folder that can be written",
            RuntimeWarning,
            stacklevel=2,
        )
    if found is not None:
        return found
    try:  # a new one: code found in a shared one may be anyone's
        lost = Path(tempfile.mkdtemp(prefix="steadygaze-"))
    except OSError:
        lost = None
    warnings.warn(
        "there is no folder to keep compiled code in, so that each process compiles it anew, which takes "
        f"up to a minute; set {VARIABLE} to a folder that can be written",
        RuntimeWarning,
        stacklevel=2,
    )
    if lost is not None:
        atexit.register(shutil.rmtree, lost, ignore_errors=True)
    return lost


def inherited() -> dict[str, str]:
    """What a process that we start needs in its environment to keep its code where this one does."""
    own = folder()
    return {} if own in (None, _BESIDE) else {VARIABLE: str(own)}


def _usual() -> Path | None:
    """The package's own folder, or the user's; None where neither can be written."""
    if _SETTINGS.CACHE_DIR or _writable(Path(__file__).parent / "__pycache__"):
        return _BESIDE
    try:
        home = user_cache_path("steadygaze") / "kernels"
    except (OSError, RuntimeError, KeyError):  # a user without a name or a home
        return None
    return home if _writable(home) else None


def _writable(place: Path) -> bool:
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place).close()
    except (OSError, ValueError):
        return False
    return True


@contextmanager
def _kept_in(place: Path | None) -> Iterator[bool]:
    """While a function is decorated: the folder for its code; yields whether there is one."""
    before = _SETTINGS.CACHE_DIR
    if place not in (None, _BESIDE):
        _SETTINGS.CACHE_DIR = str(place)
    try:
        yield place is not None
    finally:
        _SETTINGS.CACHE_DIR = before
