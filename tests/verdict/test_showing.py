"""Where progress is shown, and what is refused."""

from __future__ import annotations

import re
import sys
import types

import IPython
import pytest
from IPython.core.display_functions import DisplayHandle

import steadygaze as sg
from steadygaze.verdict import showing

NOW = sg.Progress(0.25, 12, 0.2, "searching", 0.125)


@pytest.fixture
def notebook(monkeypatch):
    """As in a kernel: what is displayed, page by page."""
    pages: list[str] = []
    monkeypatch.setattr(IPython, "get_ipython", lambda: types.SimpleNamespace(kernel=object()))
    for method in ("display", "update"):
        monkeypatch.setattr(DisplayHandle, method, lambda self, page: pages.append(page.data))
    return pages


def test_in_a_notebook_a_bar_comes_and_goes(notebook):
    with showing.shown("auto") as tell:
        tell(NOW)
        tell(NOW)  # at once: the page is not written again
    start, bar, end = notebook
    assert start == ""
    assert re.search(r'<progress max="1" value="0.25\d*">', bar)
    assert "12 regions" in bar
    assert "0.125 half-widths" in bar
    assert end == ""


def test_the_bar_goes_where_the_search_fails(notebook):
    with pytest.raises(ZeroDivisionError), showing.shown("auto"):
        raise ZeroDivisionError
    assert notebook == ["", ""]


def test_elsewhere_nobody_is_bothered(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    for progress in ("auto", None):
        with showing.shown(progress) as tell:
            tell(NOW)
    assert capsys.readouterr() == ("", "")


def test_ones_own_function_is_told_all():
    told = []
    with showing.shown(told.append) as tell:
        tell(NOW)
    assert told == [NOW]


@pytest.mark.parametrize("wrong", [True, "bar", 3])
def test_what_cannot_be_told_is_refused_before_anything_else(wrong):
    with pytest.raises(sg.SettingError, match="'auto'"):
        sg.verify("no such model", [[0.5]], "brightness(amount=0..1)", progress=wrong)


def test_what_says_itself_in_a_sentence_is_shown_with_it(notebook):
    with showing.shown("auto") as tell:
        tell(types.SimpleNamespace(fraction=0.5, sentence=lambda: "half & half"))
    assert "half &amp; half" in notebook[1]
