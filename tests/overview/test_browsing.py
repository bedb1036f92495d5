"""The page in a real browser: curves are read, the table sorts and filters, names do no harm."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from overviews import HOSTILE, campaign
from recorded import entry
from steadygaze.aggregate import grouped, summary_of
from steadygaze.campaign.table import rows
from steadygaze.overview import overview_of


@pytest.fixture
def shown(browser, tmp_path):
    """Shows the page of some entries."""

    def show(entries, scripts=True):
        path = tmp_path / "page.html"
        path.write_text(overview_of(entries, tmp_path / "plan.sqlite", path), encoding="utf-8")
        browser.open(path, scripts, part="cases")
        return browser

    return show


def cells(page, number):
    """A column of the table as it is shown."""
    return page.run(
        "const rows = [...document.querySelectorAll('.cases tbody tr:not(.told)')];"
        "return rows.map(row => row.cells[arguments[0]].innerText)",
        number,
    )


def test_the_curve_is_read_by_pointing_and_by_keys(shown):
    entries = campaign()
    page = shown(entries)
    field = page.one(
        "[data-measure=attention_robust_accuracy] .field, [data-measure=attention_robust] .field"
    )
    curves = summary_of(grouped(entries))["groups"][0]["curves"]
    told = "return arguments[0].closest('figure').querySelector('[data-part=read]').innerText"
    field.send_keys(Keys.END)
    measure = page.run("return arguments[0].closest('figure').dataset.measure", field)
    last = curves[measure]
    n = curves["labelled" if measure.endswith("accuracy") else "n"]
    assert f"({last['certain'][-1]} of {n}; {last['unsettled'][-1]} open" in page.run(told, field)
    for _ in range(3):
        field.send_keys(Keys.SHIFT + Keys.ARROW_LEFT)
    assert page.run(told, field).startswith("s = 0.7")
    assert "s = 0.7; one " in field.get_attribute("aria-valuetext")
    high = next(k for k, end in enumerate(curves["scale"]) if end >= 0.7)
    at, place = (last, high) if curves["scale"][high] == 0.7 else (curves["between"][measure], high - 1)
    assert f"({at['certain'][place]} of {n}; {at['unsettled'][place]} open" in page.run(told, field)
    assert page.errors() == []


def test_the_table_sorts_filters_and_tells_the_command(shown):
    entries = campaign()
    page = shown(entries)
    flat = rows(entries)
    head = page.one("button[data-column=attention_holds]")
    place = page.run("return arguments[0].closest('th').cellIndex", head)
    head.send_keys(Keys.ENTER)
    known = sorted(row["attention_holds"] for row in flat if row["attention_holds"] is not None)
    assert cells(page, place) == [f"{value:g}" for value in known] + ["–", "–"]
    head.send_keys(Keys.ENTER)
    assert head.find_element(By.XPATH, "..").get_attribute("aria-sort") == "descending"
    assert cells(page, place) == [f"{value:g}" for value in reversed(known)] + ["–", "–"]
    page.one("input[name=text]").send_keys("IMAGE 1")
    assert "6 of 24 cases" in page.one("[data-part=count]").text  # 1, 10 and 11 of both
    page.run(
        "const s = document.querySelector('form [name=model]'); s.value = '=two';"
        "s.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    assert "3 of 24 cases" in page.one("[data-part=count]").text
    page.click("button[data-row]")
    assert page.one(".told code").text == (
        "steadygaze verify digits-mlp --image digits:2 --perturb 'brightness(amount=-0.1..0.1)'"
    )
    page.click("button[type=reset]")
    page.until("return document.querySelector('[data-part=count]').textContent === '24 of 24 cases'")
    assert page.errors() == []


def test_names_that_mean_no_good_are_only_shown(shown):
    made = [entry(f"{HOSTILE} {k}", (1, None, 0.5, 0.5), model=HOSTILE) for k in range(3)]
    page = shown([*made, *campaign(HOSTILE)])
    page.click("button[data-row]")
    assert page.driver.title == "steadygaze: plan"
    assert page.run("return document.querySelectorAll('img').length") == 0
    assert page.errors() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_telephone_and_paper(shown, scheme):
    page = shown([*campaign(), *[entry(str(k), (1, None, 1, None), threshold=0.1) for k in range(4)]])
    page.size(360)
    page.medium(prefers_color_scheme=scheme)
    assert page.run("return document.documentElement.scrollWidth") == 360
    sections = "return [...document.querySelectorAll('.question-section')].filter(s => s.offsetHeight).length"
    assert page.run(sections) == 1
    page.medium("print")
    assert page.run(sections) == 2
    assert page.errors() == []


def test_without_a_script_everything_but_the_table_is_there(shown):
    page = shown(campaign(), scripts=False)
    text = page.one("main").text
    assert "of 12 images keep class and attention" in text
    assert "steadygaze campaign list" in text
    assert not page.shown("#table")


def test_ten_thousand_rows_stay_quick(shown):
    page = shown(campaign(count=5000))
    took = page.run(
        "const begin = performance.now(); document.querySelector('button[data-column=image]').click();"
        "const field = document.querySelector('input[name=text]'); field.value = 'image 49';"
        "field.dispatchEvent(new Event('input', {bubbles: true})); return performance.now() - begin"
    )
    found = 2 * sum("49" in str(k) for k in range(5000))
    assert f"{found} of 10 000 cases" in page.one("[data-part=count]").text
    assert took < 5000


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_keeps_anyone_out(browser, shown, theme):
    browser.medium(prefers_color_scheme=theme)
    assert shown(campaign()).barriers() == []
    browser.medium()
