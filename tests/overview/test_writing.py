"""The page of a campaign: its numbers, what it leaves out and says so, and names that mean no good."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import zlib
from dataclasses import replace

import pytest

from overviews import HOSTILE, campaign
from recorded import entry
from steadygaze.aggregate import grouped, summary_of
from steadygaze.campaign.store import folder_of
from steadygaze.campaign.table import rows
from steadygaze.errors import SettingError
from steadygaze.overview import overview_of, page_of, telling, write_overview


def data(page):
    """What the page's script reads."""
    text = re.search(r'<script type="text/plain" id="data">([^<]*)</script>', page)[1]
    return json.loads(zlib.decompress(base64.b64decode(text)))


def column(cases, name):
    """A column of the page's table, as values."""
    names = cases["names"].get(name)
    return [value if names is None or value is None else names[value] for value in cases["columns"][name]]


def words(page):
    """The page without its marks."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page.split("<main>")[1].split("<script")[0]))


def test_its_numbers_are_those_of_the_summary(tmp_path):
    entries = campaign()
    page = overview_of(entries, tmp_path / "plan.sqlite", tmp_path / "page.html")
    summary, told = summary_of(grouped(entries)), words(page)
    held = data(page)
    assert held["curves"] == json.loads(json.dumps([group["curves"] for group in summary["groups"]]))
    for group in summary["groups"]:
        for row in group["table"]:
            for name in ("attention_robust", "class_robust", "other_reason", "attention_robust_accuracy"):
                assert telling.rate_words(row[name]) in told
                assert f"{row[name]['certain']} of {row[name]['n']}; {row[name]['unsettled']} open" in told
    for pair in summary["pairs"]:
        assert f"{pair['only_first']} / {pair['only_second']} of {pair['n']}" in told
    flat = rows(entries)
    for name in ("image", "model", "verdict", "status", "attention_holds", "seconds"):
        assert column(held["cases"], name) == [row[name] for row in flat]
    assert column(held["cases"], "fails") == [row["attention_fails"] for row in flat]


def test_of_the_class_alone_nothing_is_said_of_attention(tmp_path):
    alone = [entry(f"image {k}", (k / 10, k / 10, None, None), claim="class", label=0) for k in range(11)]
    page = overview_of(alone, tmp_path / "plan.sqlite", tmp_path / "page.html")
    told = words(page.partition("How to read this")[0])
    assert "light · the class alone" in told
    assert "1 of 11 images keep the class in the whole box; none is open." in told
    assert "attention" not in told.replace("class and attention", "") or "attention kept" not in told
    assert {"attention_robust", "other_reason"}.isdisjoint(data(page)["curves"][0])
    assert column(data(page)["cases"], "fails") == [k / 10 for k in range(11)]
    both = words(overview_of([*alone, *campaign()], tmp_path / "plan.sqlite", tmp_path / "page.html"))
    assert both.count("not asked") == 2
    assert both.count("light · the class alone") >= 2


def test_the_worst_of_the_class_alone_are_shown_without_maps(tmp_path):
    failing, store = entry("image", (0.5, 0.5, None, None), claim="class"), tmp_path / "plan.sqlite"
    folder = folder_of(store, failing.key)
    (folder / "witness").mkdir(parents=True)
    (folder / "report.html").write_text("", encoding="utf-8")
    (folder / "witness" / "nearest-failing-image.png").write_bytes(b"PNG")
    shown = overview_of([failing], store, tmp_path / "page.html").split('<ul class="worst">')[1]
    assert re.findall(r'alt="([^"]*)"', shown.split("</ul>")[0]) == ["image, nearest failing: image"]


def test_all_images_are_in_the_bar_once():
    for section in telling.sections(summary_of(grouped(campaign())), {}):
        for model in section["models"]:
            assert sum(part.count for part in model["parts"]) == model["n"]
            assert sum(part.width for part in model["parts"]) == pytest.approx(100)
            assert model["parts"][0].count == model["table"][-1]["attention_robust"]["certain"]


def test_the_worst_are_those_of_which_least_holds_and_none_that_hold(tmp_path):
    page = overview_of(campaign(), tmp_path / "plan.sqlite", tmp_path / "page.html")
    first = page.split('<ul class="worst">')[1].split("</ul>")[0]
    assert re.findall(r"<b>(image \d+)</b>", first) == [f"image {k}" for k in (0, 1, 2, 4, 5, 6, 7, 8)]
    held = [entry("a", (1, None, 1, None)), entry("b", (1, None, 1, None))]
    assert "Worst images" not in overview_of(held, tmp_path / "plan.sqlite", tmp_path / "page.html")


def test_a_page_that_would_be_too_large_says_what_it_lacks(tmp_path):
    entries = [
        replace(one, question={**one.question, "image": f"{one.key}{k * 7919 % 1000003}"})
        for k, one in enumerate(campaign(count=400))
    ]
    whole = overview_of(entries, tmp_path / "plan.sqlite", tmp_path / "page.html")
    small = overview_of(entries, tmp_path / "plan.sqlite", tmp_path / "page.html", most=len(whole) - 3000)
    assert len(small) <= len(whole) - 3000
    listed = data(small)["cases"]["n"]
    assert 0 < listed < 800
    assert f"the table has the first {listed} of 800 cases" in words(small)
    assert "the table has the first" not in words(whole)


def test_questions_that_do_not_fit_are_named(tmp_path):
    entries = [
        entry(str(k), (1, None, 0.5, 0.5), threshold=threshold)
        for threshold in (0.1, 0.2, 0.3)
        for k in range(3)
    ]
    page = overview_of(entries, tmp_path / "plan.sqlite", tmp_path / "page.html", most=1000)
    assert page.count('class="question-section"') == 1
    assert "2 questions are shown at a glance only" in words(page)


def test_names_do_no_harm(tmp_path):
    page = overview_of(campaign(HOSTILE), tmp_path / "plan.sqlite", tmp_path / "page.html")
    assert page.count("</script>") == 2
    assert "<img src=x" not in page
    broken = [entry("a\udcff", (1, None, 1, None), model="b\udc80")]
    overview_of(broken, tmp_path / "plan.sqlite", tmp_path / "page.html").encode("utf-8")


def test_nothing_comes_from_elsewhere(tmp_path):
    page = overview_of(campaign(), tmp_path / "plan.sqlite", tmp_path / "page.html")
    assert "default-src 'none'" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page.split("<script")[0])


def test_kept_folders_are_linked_from_where_the_page_lies(tmp_path):
    entries, store = campaign(), tmp_path / "my plan #1.sqlite"
    folder = folder_of(store, entries[0].key)
    (folder / "witness").mkdir(parents=True)
    (folder / "report.html").write_text("", encoding="utf-8")
    for part in ("image", "saliency"):
        (folder / "witness" / f"nearest-failing-{part}.png").write_bytes(b"PNG")
    page = overview_of(entries, store, tmp_path / "there" / "page.html")
    link = f"../my%20plan%20%231.sqlite.cases/{entries[0].key}/report.html".replace(" ", "%20")
    assert column(data(page)["cases"], "link")[:2] == [link, None]
    assert f'href="{link}"' in page
    assert page.count("data:image/png;base64,UE5H") == 2


def test_what_cannot_be_written_is_said(tmp_path):
    store = tmp_path / "plan.sqlite"
    assert page_of(store) == tmp_path / "plan.report.html"
    with pytest.raises(SettingError, match=r"must end in \.html"):
        write_overview(store, store)
    with pytest.raises(SettingError, match="run the campaign first"):
        write_overview(store, page_of(store))


def test_cases_of_a_plan_without_names_are_called_by_their_questions(tmp_path):
    entries = [replace(one, tags={"width": 0.5, "image": 7}) for one in campaign()]
    page = overview_of(entries, tmp_path / "plan.sqlite", tmp_path / "page.html")
    cases = data(page)["cases"]
    assert column(cases, "image")[0] == "7"
    assert column(cases, "model")[0] == "digits-mlp"
    assert column(cases, "perturbation")[0] == "brightness(amount=-0.1..0.1)"


def test_torch_is_not_needed():
    code = "import sys, steadygaze.overview; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
