"""What every test may ask for."""

from __future__ import annotations

import os

# Before NumPy and torch are imported: the test processes run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parent.parent

# Examples come from a fixed seed, so that a red run can be repeated; HYPOTHESIS_PROFILE=search looks further.
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=50)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the project."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of public networks and images beside the project; tests that need it are skipped without."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip(
            f"the folder of public networks and images is not there: {folder.name}/ beside the project"
        )
    return folder


@pytest.fixture(scope="session")
def _browser(tmp_path_factory):
    """The browser, once for each process that tests."""
    from browser import started  # here: only the tests of pages need selenium

    with started(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def browser(_browser):
    """The browser with room for a whole page, no wishes of its user, and nothing left in its console."""
    _browser.size(1280)
    _browser.medium()
    _browser.errors()
    return _browser
