"""The browser, once for each process that tests."""

from __future__ import annotations

import pytest

from browser import started


@pytest.fixture(scope="session")
def _browser(tmp_path_factory):
    with started(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def browser(_browser):
    """The browser with room for a whole page, no wishes of its user, and nothing left in its console."""
    _browser.size(1280)
    _browser.medium()
    _browser.errors()
    return _browser
