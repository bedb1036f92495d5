"""The browser, and the answers that it shows, once for each process that tests."""

from __future__ import annotations

import pytest

from browser import started
from pointed import answer
from steadygaze.report import figures
from steadygaze.report import folder as module


@pytest.fixture(scope="session")
def _browser(tmp_path_factory):
    with started(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def browser(_browser):
    """The browser with room for a whole report, no wishes of its user, and nothing left in its console."""
    _browser.size(1280)
    _browser.medium()
    _browser.errors()
    return _browser


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Gives the folder of a case's answer, which is written with a small still map."""
    folders = {}

    def write(case: str):
        if case not in folders:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(figures, "PIXELS", 100)
                patched.setattr(module, "DOTS_PER_INCH", 30)
                folders[case] = answer(case).save(tmp_path_factory.mktemp("answer"))
        return folders[case]

    return write
