"""The report says what the answer says, loads nothing, and runs nothing."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import answers
from pointed import answer
from steadygaze.answer.result import Origin, Shares
from steadygaze.report import figures, still
from steadygaze.report import page as page_module
from steadygaze.report.exhibits import pictures
from steadygaze.report.inlining import source_hash
from steadygaze.report.page import not_proven, page, proven

HOSTILE = "/data/<script>alert('x')</script>\"><img src=x onerror=alert(1)>.png"


class Seen(HTMLParser):
    """The tags, the sources and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.sources, self.text = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


def report(result, n: int = 2) -> Seen:
    return Seen(page(result, answers.drawing(n, side=3), b"png"))


@pytest.mark.parametrize("make", [answers.robust, answers.violated, answers.unknown])
def test_the_answer_is_told_in_the_same_words_as_elsewhere(make):
    result = make()
    words = report(result).words
    for sentence in (
        result.problem.question(),
        result.headline(),
        result.why(),
        *result.range_sentences(),
        result.safe_scale_sentence(),
        result.failure_sentence(),
    ):
        assert sentence in words
    assert f"{result.verdict.value}" in words


def test_the_verdict_is_told_by_a_sign_and_a_word_not_by_colour_alone():
    assert "✓ robust" in report(answers.robust()).words
    assert "✗ violated" in report(answers.violated()).words
    assert "? unknown" in report(answers.unknown()).words


def test_the_page_is_self_contained():
    seen = report(answers.violated())
    assert len(seen.sources) == 1 + 3 * 4
    assert all(source.startswith("data:image/png;base64,") for source in seen.sources)
    assert not {"script", "link", "iframe", "object"} & set(seen.tags)


def test_hostile_names_are_shown_and_never_run():
    problem = answers.problem(source=HOSTILE)
    problem = replace(problem, model=replace(problem.model, path=HOSTILE, note=HOSTILE))
    result = replace(
        answers.violated(), problem=problem, reason=f"see {HOSTILE}", settings={HOSTILE: HOSTILE}
    )
    seen = report(result)
    assert "script" not in seen.tags
    assert seen.tags.count("img") == 1 + 3 * 4
    assert seen.words.count("<script>alert('x')</script>") >= 4


@pytest.mark.parametrize(
    "part",
    [
        "arXiv:2207.05902", "NeurIPS 2019", "ICML 2023", "float64", "threshold δ 0.3", "softmax removed",
        "visited 1 234", "brightness(amount=-0.3..0.3)", "mode=add", "margin 1e-09", "to [0, 1]",
    ],
)  # fmt: skip
def test_settings_numbers_and_references_are_there(part):
    assert part in report(answers.violated()).words


def test_references_follow_what_was_used():
    result = replace(answers.violated(), method="bfs")
    assert "Sotoudeh" not in report(result).words
    other = replace(result, problem=replace(result.problem, saliency="grad-cam", inconsistency="top-k(20)"))
    assert "Grad-CAM" in report(other).words
    assert "Ghorbani" in report(other).words


def test_what_is_not_proven_is_said():
    assert any("Undecided: 5.0 %" in sentence for sentence in not_proven(answers.violated()))
    assert not any("Undecided" in sentence for sentence in not_proven(answers.robust()))
    outer = replace(
        answers.violated(),
        claim="outer boundary",
        origin=Origin(None, answers.RANGES[:2], answers.BOUNDARY, None, "not examined"),
        shares=Shares(None, None, None, None),
    )
    assert any("not examined" in sentence for sentence in not_proven(outer))
    assert any("outer boundary" in sentence for sentence in proven(outer))
    assert not any("volumes" in sentence for sentence in proven(outer))
    assert "not known" in report(outer).words


def test_an_image_given_as_an_array_and_no_clip():
    problem = answers.problem()
    problem = replace(
        problem, clip=None, image=replace(problem.image, source=None, index=None, dataset_label=3)
    )
    words = report(replace(answers.violated(), problem=problem)).words
    for part in ("given as an array", "clip none", "label in the data set 3"):
        assert part in words


def test_what_was_done_to_the_image_and_a_wrong_class_are_told():
    problem = answers.problem()
    image = replace(problem.image, dataset_label=3, dataset_class="cat", conversions=("turned", "<cut>"))
    page = report(replace(answers.violated(), problem=replace(problem, image=image)))
    for part in (
        "The image, before anything else: turned; <cut>.",
        f"it predicts class {image.predicted}, while the data set says 3 (cat)",
        "label in the data set 3 (cat)",
        "image conversion turned",
    ):
        assert part in page.words
    assert replace(image, dataset_class="3").true_class() == "3"


def decoded(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_pictures_show_the_pixels_and_the_signs():
    exhibit = answers.exhibits(shape=(1, 2, 2))[0]
    exhibit = replace(
        exhibit,
        image=np.array([[[0.0, 1.0], [0.5, 0.25]]]),
        saliency=np.array([[[2.0, -2.0], [0.0, np.nan]]]),
        expected=np.array([[4.0, -4.0], [0.0, np.nan]]),
    )
    shown = pictures(exhibit)
    image, saliency = decoded(shown.image), decoded(shown.saliency)
    assert image.shape == (280, 280, 3)
    assert [image[0, 0, 0], image[0, -1, 0], image[-1, 0, 0], image[-1, -1, 0]] == [0, 255, 128, 64]
    assert tuple(saliency[0, 0]) == (178, 34, 24)
    assert tuple(saliency[0, -1]) == (33, 78, 150)
    assert tuple(saliency[-1, 0]) == (255, 255, 255)
    assert tuple(saliency[-1, -1]) == (205, 205, 205)
    # Twice as long but pointing the same way: no difference is to be seen.
    assert (decoded(shown.difference)[:140] == 255).all()
    assert (decoded(shown.expected) == saliency).all()


def test_colour_images_keep_their_colours_and_empty_maps_are_white():
    exhibit = replace(
        answers.exhibits(shape=(3, 4, 4))[0], saliency=np.zeros((3, 4, 4)), expected=np.zeros((3, 4, 4))
    )
    shown = pictures(exhibit)
    assert np.allclose(decoded(shown.image)[0, 0] / 255, exhibit.image[:, 0, 0], atol=0.003)
    assert (decoded(shown.saliency) == 255).all()


def test_the_map_is_embedded_whole():
    assert base64.b64encode(b"png").decode() in report(answers.violated()).sources[0]


def test_a_page_to_point_into_runs_its_own_script_and_no_other():
    own = answer("plane")
    html = page(own.result, replace(own.drawing(), atlas=own._atlas()), b"png")
    seen = Seen(html)
    assert seen.tags.count("script") == 3  # two hold data
    (code,) = re.findall(r'<script type="module">(.*?)</script>', html, re.DOTALL)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    assert source_hash(code) in policy.replace("&#39;", "'")
    assert "unsafe-inline" not in policy.partition("script-src")[2]
    assert own.result.headline() in seen.words


def test_where_no_picture_was_asked_for_a_sentence_says_how_to_see_the_map():
    own = answer("plane")
    seen = Seen(page(own.result, replace(own.drawing(), atlas=own._atlas())))
    assert len(seen.sources) == 4 * len(own.drawing().exhibits), "no picture of the map"
    assert "--picture" in seen.words
    assert "where scripts may run" in seen.words
    assert "--picture" not in Seen(page(own.result, own.drawing(), b"png")).words


def test_where_the_map_cannot_be_pointed_into_a_picture_is_drawn(monkeypatch):
    own = answer("plane")
    monkeypatch.setattr(figures, "PIXELS", 50)
    monkeypatch.setattr(still, "DOTS_PER_INCH", 30)
    monkeypatch.setattr(page_module, "MOST_CHARACTERS", 10)
    seen = Seen(page(own.result, replace(own.drawing(), atlas=own._atlas())))
    assert len(seen.sources) == 1 + 4 * len(own.drawing().exhibits)
    assert base64.b64decode(seen.sources[0].partition(",")[2]).startswith(b"\x89PNG")
    assert "--picture" not in seen.words


def test_where_there_is_no_room_to_point_into_the_page_is_the_report(monkeypatch):
    own = answer("plane")
    monkeypatch.setattr(page_module, "MOST_CHARACTERS", 10)
    html = page(own.result, replace(own.drawing(), atlas=own._atlas()), b"png")
    assert html == page(own.result, own.drawing(), b"png")
    assert "<script" not in html
