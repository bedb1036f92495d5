"""What an answer shows of itself: in words, in a notebook, on axes of one's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import steadygaze as sg
from steadygaze.report import figures


@pytest.fixture(autouse=True)
def _small_maps(monkeypatch):
    monkeypatch.setattr(figures, "PIXELS", 60)


def verified(*perturbation: str) -> sg.Answer:
    torch.manual_seed(3)
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(16, 12), torch.nn.ReLU(), torch.nn.Linear(12, 3)
    )
    image = np.random.default_rng(1).uniform(0.2, 0.8, (4, 4))
    return sg.verify(model, image, list(perturbation), threshold=0.2, method="sweep")


ONE = ("brightness(amount=-0.3..0.3)",)


@pytest.fixture(scope="module")
def two() -> sg.Answer:
    return verified(*ONE, "patch(opacity=0..1, top=0, left=0, size=2, mode=add)")


@pytest.fixture(scope="module")
def three() -> sg.Answer:
    return verified(
        "contrast(amount=-0.5..0.5)", *ONE, "patch(opacity=0..1, top=0, left=0, size=2, mode=add)"
    )


def axes():
    return Figure().subplots()


def pixels(panel) -> np.ndarray:
    (image,) = panel.get_images()
    return image.get_array()


def test_an_answer_is_one_line_of_text_and_a_cell_of_a_notebook(two):
    assert repr(two) == f"<Answer: {two.result.headline()}>"
    assert two.result.headline() in two._repr_html_()


def test_the_map_is_drawn_on_axes_of_ones_own(two):
    panel = axes()
    assert two.plot(panel) is panel
    assert panel.get_xlim() == (-0.3, 0.3)
    assert panel.get_ylim() == (0.0, 1.0)
    assert "brightness.amount" in panel.get_xlabel()
    assert panel.get_legend() is not None
    assert two.plot(axes(), legend=False).get_legend() is None


def test_without_axes_pyplot_gets_a_figure_and_the_whole_picture_none(two):
    from matplotlib import pyplot as plt

    before = plt.get_fignums()
    panel = two.plot()
    assert panel.figure.number not in before
    plt.close(panel.figure)
    assert isinstance(two.figure(), Figure)
    assert plt.get_fignums() == before


@pytest.mark.parametrize("value", ["inconsistency", "class gap"])
def test_one_parameter_is_a_curve(value):
    answer = verified(*ONE)
    panel = answer.plot(axes(), value=value)
    assert value in panel.get_ylabel()
    x, y = panel.get_lines()[0].get_data()
    for theta in (-0.21, 0.05, 0.17):
        point = answer.at([theta])
        shown = np.interp(theta, x[np.isfinite(x)], y[np.isfinite(x)])
        assert shown == pytest.approx(
            point.class_gap if value == "class gap" else point.inconsistency, abs=2e-3
        )
    with pytest.raises(sg.SettingError, match="class gap"):
        answer.plot(axes(), value="gap")


@pytest.mark.parametrize(
    ("chosen", "at"),
    [
        ((0, 1), None),
        (("patch.opacity", "contrast.amount"), None),
        ((2, 0), (0.0, 0.15, 0.0)),
        ((0, 1), (0, 0, 0.4)),
    ],
)
def test_slices_show_what_holds_at_their_points(three, chosen, at):
    panel = three.plot(axes(), axes=chosen, at=at)
    names = [axis.name for axis in three.result.problem.axes()]
    i, j = (names.index(one) if isinstance(one, str) else one for one in chosen)
    assert names[i] in panel.get_xlabel()
    assert names[j] in panel.get_ylabel()
    image, (left, right), (low, high) = pixels(panel), panel.get_xlim(), panel.get_ylim()
    side, agreeing, rng = len(image), 0, np.random.default_rng(0)
    for row, column in rng.integers(0, side, (25, 2)):
        theta = np.array(at or (0.0, 0.0, 0.0), float)
        theta[i] = left + (column + 0.5) / side * (right - left)
        theta[j] = low + (row + 0.5) / side * (high - low)
        red, green, blue = map(int, image[row, column])
        kind = "robust" if blue > red else "class-changed" if red == green == blue else "attention-changed"
        agreeing += kind == three.at(theta).kind
    assert agreeing == 25
    kept = all(value == 0 for k, value in enumerate(at or (0, 0, 0)) if k not in (i, j))
    assert ("θ = 0" in " ".join(t.get_text() for t in panel.get_legend().get_texts())) == kept


def test_axes_and_points_that_an_answer_does_not_have_are_refused(three):
    for wrong in [(0, 3), ("brightness.amount", "brightness.amount"), ("hue.degrees", 0), (0, 1, 2)]:
        with pytest.raises(sg.SettingError, match="two of"):
            three.plot(axes(), axes=wrong)
    with pytest.raises(sg.SettingError, match="within"):
        three.plot(axes(), at=[0, 0.5, 0])
