"""What a cell of a notebook shows of an answer."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import answers
from steadygaze.report.notebook import MOST_MAPS, cell


class Balanced(HTMLParser):
    """Fails where an element is closed that was not opened last."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        if tag not in ("img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def shown(html: str) -> str:
    reader = Balanced()
    reader.feed(html)
    assert not reader.open
    return reader.text


def images(html: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(part))).convert("RGBA")) for part in found]


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("make", [answers.robust, answers.violated, answers.unknown])
def test_a_cell_says_what_the_terminal_says(n, make):
    result, drawing = make(n), answers.drawing(n, side=8)
    html = cell(result, drawing)
    text = shown(html)
    for sentence in (result.headline(), result.safe_scale_sentence(), *result.range_sentences()):
        assert sentence in text
    maps = 1 if n < 3 else min(MOST_MAPS, n * (n - 1) // 2)
    assert len(images(html)) == maps + 2 * len(drawing.exhibits)


def test_pictures_of_maps_stand_on_any_background():
    for n in (1, 2):
        picture = images(cell(answers.violated(n), answers.drawing(n, side=8)))[0]
        assert picture[0, 0, 3] == 0  # the margin is transparent
        assert picture[..., 3].max() == 255


def test_no_colour_of_text_or_page_is_fixed_but_that_of_kinds():
    html = cell(answers.violated(), answers.drawing(side=8))
    fixed = set(re.findall(r"(?<![-\w])(?:color|background): (#\w+)", html))
    assert fixed == {"#3f82bb", "#8a8a8a", "#e58b3a", "#d66aa0"}
    assert "<style" not in html


def test_names_are_escaped_and_nothing_is_loaded():
    html = cell(answers.violated(source="<script>alert(1)</script>.png"), answers.drawing(side=8))
    assert "<script" not in html
    assert "http" not in html
