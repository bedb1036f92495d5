"""Pages of the class alone: the same map to point into, which shows and says nothing of attention."""

from __future__ import annotations

import json

import pytest
from selenium.webdriver.common.keys import Keys

from pointed import answer
from steadygaze.report import embedding

GONE = ("saliency", "expected", "difference", "inconsistency", "meter")
WORDS = ("attention-changed", "attention moved", "inconsistency", "expected map", "δ")


def test_it_points_at_what_the_class_is_and_at_nothing_of_maps(browser, written):
    folder = written("class")
    browser.open(folder / "report.html")
    for part in GONE:
        assert browser.run("return document.querySelector(`[data-part=${arguments[0]}]`)", part) is None
    assert not browser.run("return document.querySelectorAll('input[name=colours]').length")
    seen = browser.run("return document.body.innerText")
    assert not [word for word in WORDS if word in seen]
    assert "The class alone was asked about" in browser.run(
        "return document.querySelector('.exactness').textContent"
    )
    failure = json.loads((folder / "result.json").read_text())["nearest_failure"]
    browser.one("#map").send_keys(Keys.END)
    browser.settle()
    told = browser.told()
    assert (told["theta"], told["kind"]) == (failure["theta"], "class-changed")
    assert told["predicted"] == str(failure["predicted"])
    browser.until("return document.getElementById('pointed-aloud').textContent.includes('The class becomes')")
    assert "nconsistency" not in browser.run("return document.getElementById('pointed-aloud').textContent")
    browser.one("#map").send_keys(Keys.HOME, "+", "p", Keys.ESCAPE)
    browser.click("button[data-jump='1']")
    assert browser.told()["theta"] == failure["theta"]
    assert not browser.errors()


def test_one_parameter_has_the_gap_alone(browser, written):
    browser.open(written("class line") / "report.html")
    arrays = [each["name"] for each in json.loads(browser.run(
        "return document.getElementById('atlas-facts').textContent"))["arrays"]]  # fmt: skip
    assert "line.gap" in arrays
    assert not [name for name in arrays if "inconsistency" in name and not name.startswith("cells")]
    browser.one("#map").send_keys(Keys.ARROW_RIGHT)
    browser.settle()
    assert browser.told()["theta"] == pytest.approx([0.01])
    assert not browser.errors()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("case", ["class", "class line"])
def test_nothing_keeps_anyone_out(browser, written, case, theme):
    browser.medium(prefers_color_scheme=theme)
    browser.open(written(case) / "report.html")
    assert browser.barriers() == []
    browser.medium()


def test_no_map_is_looked_at():
    atlas = answer("class")._atlas()
    assert atlas.stops.saliency is atlas.stops.inconsistency is atlas.expected is None
    assert embedding.largest_inconsistency(atlas) == 0
