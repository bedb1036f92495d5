"""Pages that one points into with mouse, fingers and keys, in a real browser; dark, narrow, on paper."""

from __future__ import annotations

import json

import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.keys import Keys


def test_the_mouse_peeks_and_a_click_stays(browser, written):
    browser.open(written("plane") / "report.html")
    canvas = browser.one("#map canvas")
    browser.run("arguments[0].scrollIntoView({block: 'center'})", canvas)
    before = browser.told()["theta"]
    ActionChains(browser.driver, duration=20).move_to_element_with_offset(canvas, 40, -60).perform()
    browser.settle()
    peeked = browser.told()
    assert peeked["theta"] != before
    assert browser.text("mode") == "under the pointer"
    ActionChains(browser.driver, duration=20).move_to_element(browser.one("#pointed")).perform()
    browser.settle()
    assert browser.told()["theta"] == before
    ActionChains(browser.driver, duration=20).move_to_element_with_offset(canvas, 40, -60).click().perform()
    ActionChains(browser.driver, duration=20).move_to_element(browser.one("#pointed")).perform()
    browser.settle()
    assert browser.told()["theta"] == peeked["theta"]
    fields = browser.run(
        "return [...document.querySelectorAll('[type=number]')].map((field) => Number(field.value))"
    )
    assert np.allclose(fields, peeked["theta"], rtol=1e-4)
    # A click in the middle of the frame is the middle of the box.
    where = browser.run(
        "const c = document.querySelector('#map canvas').getBoundingClientRect();"
        "return [58 + (c.width - 72) / 2 - c.width / 2, 12 + (c.height - 58) / 2 - c.height / 2]"
    )
    ActionChains(browser.driver, duration=20).move_to_element_with_offset(canvas, *where).click().perform()
    browser.settle()
    assert np.allclose(browser.told()["theta"], [0.0, 0.5], atol=0.004)


def test_keys_move_zoom_and_jump(browser, written):
    folder = written("plane")
    browser.open(folder / "report.html")
    browser.one("#map").send_keys(Keys.ARROW_RIGHT, Keys.ARROW_UP)
    browser.settle()
    assert np.allclose(browser.told()["theta"], [0.006, 0.01], atol=1e-12)
    browser.one("#map").send_keys("+")
    assert browser.text("zoom") == "1.5 ×"
    browser.one("#map").send_keys(Keys.SHIFT, Keys.ARROW_LEFT, Keys.NULL)
    browser.settle()
    assert np.allclose(browser.told()["theta"], [0.006 - 0.04, 0.01], atol=1e-12)
    browser.one("#map").send_keys("0")
    assert browser.text("zoom") == "whole box"
    browser.one("#map").send_keys(Keys.END)
    browser.settle()
    assert (
        browser.told()["theta"]
        == json.loads((folder / "result.json").read_text())["nearest_failure"]["theta"]
    )
    browser.one("#map").send_keys(Keys.HOME)
    browser.settle()
    assert browser.told()["theta"] == [0, 0]
    assert not browser.errors()


def test_sliders_and_fields_take_keys(browser, written):
    browser.open(written("space") / "report.html")
    slider = browser.one("#slider-2")
    slider.send_keys(Keys.ARROW_RIGHT * 3)
    browser.settle()
    assert np.allclose(browser.told()["theta"], [0, 0, 0.003], atol=1e-12)
    assert slider.get_attribute("aria-valuetext") == "0.003"
    field = browser.one("[data-axis='1'] input[type=number]")
    field.send_keys(Keys.CONTROL, "a", Keys.NULL, "0.05", Keys.ENTER)
    browser.settle()
    assert np.allclose(browser.told()["theta"], [0, 0.05, 0.003], atol=1e-12)
    field.send_keys(Keys.CONTROL, "a", Keys.NULL, "7", Keys.ENTER)
    browser.settle()
    assert browser.told()["theta"][1] == 0.1, "what is beyond the box stays within it"
    assert "pixel value" in browser.one("#slider-1").get_attribute("aria-valuetext")


def test_wheel_buttons_and_drag_move_the_view(browser, written):
    browser.open(written("plane") / "report.html")
    canvas = browser.one("#map canvas")
    browser.run("arguments[0].scrollIntoView({block: 'center'})", canvas)
    whole = browser.picture("#map canvas")
    ActionChains(browser.driver, duration=10).scroll_from_origin(
        ScrollOrigin.from_element(canvas, 30, 30), 0, -240
    ).perform()
    browser.settle()
    assert browser.text("zoom") not in ("whole box", "")
    closer = browser.picture("#map canvas")
    assert closer != whole
    ActionChains(browser.driver, duration=10).move_to_element(canvas).click_and_hold().move_by_offset(
        -80, 30
    ).release().perform()
    browser.settle()
    assert browser.picture("#map canvas") != closer
    assert browser.told()["theta"] == [0, 0] or browser.text("mode") == "under the pointer"
    browser.click("button[name=whole]")
    assert browser.text("zoom") == "whole box"
    browser.click("button[name=closer]")
    assert browser.text("zoom") == "1.6 ×"


@pytest.mark.slow
def test_two_fingers_zoom_and_one_points(browser, written):
    browser.open(written("plane") / "report.html")
    canvas = browser.one("#map canvas")
    browser.run("arguments[0].scrollIntoView({block: 'center'})", canvas)
    x, y = browser.run(
        "const r = arguments[0].getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]",
        canvas,
    )

    def touch(kind: str, *places: tuple[float, float]) -> None:
        fingers = [{"x": p, "y": q, "id": k} for k, (p, q) in enumerate(places)]
        browser.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    touch("touchStart", (x - 20, y))
    touch("touchStart", (x - 20, y), (x + 20, y))
    touch("touchMove", (x - 60, y), (x + 60, y))
    touch("touchEnd")
    browser.settle()
    assert browser.text("zoom") == "3 ×"
    assert browser.told()["theta"] == [0, 0]
    browser.click("button[name=whole]")
    browser.run("arguments[0].scrollIntoView({block: 'center'})", canvas)
    touch("touchStart", (x + 30, y - 40))
    touch("touchEnd")
    browser.settle()
    assert browser.told()["theta"] != [0, 0]


def test_colours_textures_and_borders_change_the_picture_and_its_legend(browser, written):
    browser.open(written("plane") / "report.html")
    pictures = {browser.picture("#map canvas")}
    for mode in ("class", "attention", "inconsistency"):
        browser.run("document.querySelector(`input[value=${arguments[0]}]`).click()", mode)
        browser.settle()
        pictures.add(browser.picture("#map canvas"))
        keys = browser.run(
            "return [...document.querySelectorAll('.keys li:not([hidden])')].map((key) => key.innerText)"
        )
        assert ("class holds" in keys) == (mode == "class")
    for name in ("textures", "borders"):
        browser.run("document.querySelector(`input[name=${arguments[0]}]`).click()", name)
        browser.settle()
        pictures.add(browser.picture("#map canvas"))
    assert len(pictures) == 6


@pytest.mark.slow
def test_play_ends_at_the_nearest_failure(browser, written):
    folder = written("plane")
    browser.medium(prefers_reduced_motion="reduce")
    browser.open(folder / "report.html")
    browser.run(
        "window.places = [];"
        "const panel = document.getElementById('pointed');"
        "const keep = () => places.push(panel.dataset.theta);"
        "new MutationObserver(keep).observe(panel, { attributeFilter: ['data-theta'] });"
    )
    browser.click("button[name=play]")
    assert browser.one("button[name=play]").get_attribute("aria-pressed") == "true"
    failure = json.loads((folder / "result.json").read_text())["nearest_failure"]["theta"]
    browser.until(
        "return document.querySelector('button[name=play]').getAttribute('aria-pressed') === 'false'"
    )
    browser.settle()
    assert browser.told()["theta"] == failure
    places = set(browser.run("return places"))
    assert 3 < len(places) <= 11, "where motion is to be reduced the way goes in steps"
    for place in map(json.loads, places):
        assert np.allclose(np.cross([*place, 0], [*failure, 0]), 0, atol=1e-12)


@pytest.mark.slow
def test_three_and_more_parameters_choose_their_plane(browser, written):
    for case in ("space", "four"):
        browser.open(written(case) / "report.html")
        first = browser.picture("#map canvas")
        browser.run(
            "const up = document.querySelector('select[name=up]');"
            "up.value = '2'; up.dispatchEvent(new Event('change'))"
        )
        browser.settle()
        assert browser.picture("#map canvas") != first
        browser.run("const across = document.querySelector('select[name=across]'); across.value = '2';"
                    "across.dispatchEvent(new Event('change'))")  # fmt: skip
        browser.settle()
        chosen = browser.run(
            "return ['across', 'up'].map((name) => document.querySelector(`select[name=${name}]`).value)"
        )
        assert sorted(chosen) == ["0", "2"], "an axis is not shown against itself"
        assert not browser.errors()


@pytest.mark.parametrize(
    "case", ["plane", *(pytest.param(case, marks=pytest.mark.slow) for case in ("line", "four", "unknown"))]
)
def test_a_narrow_window_holds_the_page(case, browser, written):
    browser.size(360, 800)
    browser.open(written(case) / "report.html")
    assert browser.run("return document.documentElement.scrollWidth") <= 360
    assert browser.run("return document.querySelector('#map canvas').clientWidth") > 250
    browser.click("button[data-jump='0']")
    assert browser.told()["kind"] != ""


def test_dark_and_light(browser, written):
    def background() -> str:
        return browser.run("return getComputedStyle(document.body).backgroundColor")

    browser.open(written("plane") / "report.html")
    light = background()
    browser.click("button[name=theme]")
    dark = background()
    assert dark != light
    assert browser.one("button[name=theme]").get_attribute("aria-pressed") == "true"
    browser.click("button[name=theme]")
    assert background() == light
    browser.medium(prefers_color_scheme="dark")
    browser.open(written("plane") / "report.html")
    assert background() == dark
    browser.click("button[name=theme]")
    assert background() == light


@pytest.mark.parametrize("case", ["plane", "line"])
def test_on_paper_the_map_its_legend_and_the_place_are_printed(case, browser, written):
    browser.medium("print", prefers_color_scheme="dark")
    browser.open(written(case) / "report.html")
    assert browser.shown("#map canvas")
    assert browser.shown("#mapped .keys")
    assert browser.shown("#pointed")
    assert not browser.shown("#benched")
    assert not browser.shown("#mapped button")
    assert not browser.shown(".still")
    assert browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    shape = "const c = document.querySelector('#map canvas');"
    assert browser.run(f"{shape}return c.clientWidth / c.clientHeight * c.height / c.width") == pytest.approx(
        1, abs=0.01
    ), "it is not stretched"


@pytest.mark.parametrize("case", ["plane", "line"])
def test_what_is_printed_in_the_dark_is_drawn_in_black(case, browser, written):
    """The numbers beside the map are written in the ink of the page."""
    brightest = (
        "const c = document.querySelector('#map canvas'), r = c.width / c.clientWidth;"
        "const d = c.getContext('2d').getImageData(0, 0, 50 * r, c.height / 3).data;"
        "let most = -1;"
        "for (let k = 0; k < d.length; k += 4) if (d[k + 3] > 200) most = Math.max(most, d[k]);"
        "return most"
    )
    browser.medium(prefers_color_scheme="dark")
    browser.open(written(case) / "report.html")
    assert browser.run(brightest) > 200
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert 0 <= browser.run(brightest) < 60
    assert browser.run("const c = document.querySelector('#map canvas'); return c.width / c.clientWidth") >= 2
    browser.run("dispatchEvent(new Event('afterprint'))")
    browser.settle()
    assert browser.run(brightest) > 200


@pytest.mark.parametrize(("picture", "instead"), [(True, ".still img"), (False, "p.still")])
def test_without_scripts_the_page_is_the_report(picture, instead, browser, written):
    browser.open(written("plane", picture=picture) / "report.html", scripts=False)
    try:
        assert browser.shown(instead)
        assert not browser.shown("#pointing")
        assert not browser.shown("button")
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_the_page_speaks_and_can_be_walked_through_by_keys(browser, written):
    browser.open(written("plane") / "report.html")
    visited = []
    for _ in range(30):
        ActionChains(browser.driver).send_keys(Keys.TAB).perform()
        visited.append(browser.run(
            "const e = document.activeElement;"
            "return [e.id || e.name || e.dataset.jump || e.dataset.copy || e.tagName,"
            "getComputedStyle(e.matches('.choices input') ? e.nextElementSibling : e).outlineStyle]"
        ))  # fmt: skip
    names = [name for name, _ in visited]
    for name in ("theme", "map", "slider-0", "slider-1", "play", "closer"):
        assert name in names
    assert names.index("theme") < names.index("map") < names.index("slider-0") < names.index("play")
    assert all(outline != "none" for name, outline in visited if name not in ("BODY", "HTML"))
    browser.one("#map").send_keys(Keys.END)
    browser.until("return document.getElementById('pointed-aloud').textContent.includes('attention-changed')")
    assert browser.one("#map").aria_role == "application"
    assert browser.one("#map").accessible_name == "Map of the parameters"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("case", ["line", "plane", "space"])
def test_nothing_keeps_anyone_out(browser, written, case, theme):
    browser.medium(prefers_color_scheme=theme)
    browser.open(written(case) / "report.html")
    assert browser.barriers() == []
    browser.medium()
