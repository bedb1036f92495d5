"""Compiled code is kept in the first folder that can be written, and nowhere if there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numba
import pytest

import steadygaze
from steadygaze.geometry import caching

PACKAGE = Path(steadygaze.__file__).parent


@pytest.fixture
def places(monkeypatch, tmp_path):
    """Says which folders can be written, and asks anew."""

    def allow(*folders: Path) -> None:
        monkeypatch.setattr(caching, "_writable", lambda place: place in folders)
        caching.folder.cache_clear()

    monkeypatch.delenv(caching.VARIABLE, raising=False)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(caching, "user_cache_path", lambda _: tmp_path)
    yield allow
    caching.folder.cache_clear()


BESIDE = PACKAGE / "geometry" / "__pycache__"


def test_the_package_s_own_folder_is_the_usual_one(places):
    places(BESIDE)
    assert caching.folder() == Path()
    assert not caching.inherited(), "numba finds it by itself"


def test_the_variable_goes_before_all(places, monkeypatch, tmp_path):
    monkeypatch.setenv(caching.VARIABLE, str(tmp_path / "own"))
    places(BESIDE, tmp_path / "own")
    assert caching.folder() == tmp_path / "own"
    assert caching.inherited() == {caching.VARIABLE: str(tmp_path / "own")}


def test_a_variable_that_names_no_writable_folder_is_told(places, monkeypatch, tmp_path):
    monkeypatch.setenv(caching.VARIABLE, str(tmp_path / "own"))
    places(BESIDE)
    with pytest.warns(RuntimeWarning, match="nothing can be written"):
        assert caching.folder() == Path()


def test_then_comes_the_user_s_folder(places, tmp_path):
    places(tmp_path / "kernels")
    assert caching.folder() == tmp_path / "kernels"


def test_then_a_new_folder_of_this_process(places):
    places()
    with pytest.warns(RuntimeWarning, match=caching.VARIABLE):
        found = caching.folder()
    assert found.is_dir()
    assert caching.inherited() == {caching.VARIABLE: str(found)}
    shutil.rmtree(found)


def test_and_last_nothing_is_kept(places, monkeypatch):
    def refused(**_: object) -> str:
        raise OSError("no room")

    places()
    monkeypatch.setattr(caching.tempfile, "mkdtemp", refused)
    with pytest.warns(RuntimeWarning, match=caching.VARIABLE):
        assert caching.folder() is None
    assert not caching.inherited()
    doubled = caching.compiler()(lambda x: 2 * x)
    assert doubled(3) == 6
    assert not doubled._cache.__class__.__name__.startswith("Function"), "compiled in memory"


def test_numba_s_own_setting_is_put_back(places, tmp_path):
    places(tmp_path / "kernels")
    (tmp_path / "kernels").mkdir()
    tripled = caching.compiler()(_tripled)
    assert numba.config.CACHE_DIR == ""
    assert tripled(2) == 6
    assert list((tmp_path / "kernels").rglob("*.nbi")), "kept in the folder chosen"


def _tripled(x):
    return 3 * x


def test_a_folder_is_tried_and_not_only_looked_at(tmp_path):
    assert caching._writable(tmp_path / "new" / "folder")
    (tmp_path / "file").touch()
    assert not caching._writable(tmp_path / "file" / "below")


STRANGER = ("setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups")
# It may read everything, as where the files of the installation belong to all, and write next to nothing.
READING = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")


ASKED = "import steadygaze.geometry.bits as bits; print(bits.mix(bits.U(1)))"


@pytest.mark.skipif(
    shutil.which("setpriv") is None or not hasattr(os, "getuid") or os.getuid() != 0,
    reason="only root can become another user, with setpriv",
)
@pytest.mark.parametrize("temporary", [True, False])
def test_a_stranger_without_a_home_can_use_a_package_that_nobody_may_write(tmp_path, temporary):
    shutil.copytree(PACKAGE, tmp_path / "steadygaze", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {key: value for key, value in os.environ.items() if key not in ("HOME", caching.VARIABLE)}
    environment |= {"PYTHONPATH": str(tmp_path), "TMPDIR": "/tmp" if temporary else "/nowhere"}
    told = subprocess.run(
        [*STRANGER, *READING, sys.executable, "-c", ASKED],
        env=environment, capture_output=True, text=True, cwd="/",
    )  # fmt: skip
    if "setpriv" in told.stderr or "Permission denied" in told.stderr:
        pytest.skip(f"another user cannot run this interpreter: {told.stderr[:100]}")
    assert told.returncode == 0, told.stderr
    assert told.stdout.strip().isdigit()
    assert "STEADYGAZE_CACHE_DIR" in told.stderr, "it says why each process compiles anew"


def test_no_warning_where_all_is_well():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        caching.folder()


WITHOUT_BLAS = """
import sys
import numba, numpy as np
from steadygaze.geometry.bits import popcount

assert popcount(np.uint64(7)) == 3
assert "scipy.linalg" not in sys.modules
product = numba.njit(lambda a, b: a @ b)(np.eye(2), np.array([[1.0, 2.0], [3.0, 4.0]]))
assert product.tolist() == [[1, 2], [3, 4]]
assert hasattr(sys.modules["scipy.linalg.cython_blas"], "__pyx_capi__"), "it is the true one"
"""


def test_numba_imports_scipys_linear_algebra_only_for_who_needs_it():
    done = subprocess.run([sys.executable, "-c", WITHOUT_BLAS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
