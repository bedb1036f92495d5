"""What the figures show, read back from their objects and their pixels."""

from __future__ import annotations

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import answers
from steadygaze.answer.drawing import Drawing, Polygons
from steadygaze.report import figures, palette
from steadygaze.report.figures import figure
from steadygaze.report.palette import Scale


@pytest.fixture(autouse=True)
def _small_maps(monkeypatch):
    monkeypatch.setattr(figures, "PIXELS", 120)


def drawn(result, drawing):
    chart = figure(result, drawing)
    chart.savefig("/dev/null", format="png", dpi=60)
    return chart


def texts(chart) -> str:
    found = [text.get_text() for legend in chart.legends for text in legend.get_texts()]
    for panel in chart.axes:
        found += [
            panel.get_xlabel(),
            panel.get_ylabel(),
            *(tick.get_text() for tick in panel.get_yticklabels()),
        ]
    return "\n".join(found)


@pytest.mark.parametrize(("n", "panels"), [(1, 3), (2, 2), (3, 4), (4, 7)])
@pytest.mark.parametrize("make", [answers.robust, answers.violated, answers.unknown])
def test_every_number_of_parameters_is_drawn(n, panels, make):
    chart = drawn(make(n), answers.drawing(n, side=8))
    assert len(chart.axes) == panels
    for axis in make(n).problem.axes():
        assert axis.name in texts(chart)


def test_the_legend_gives_the_shares_and_what_is_drawn():
    said = texts(drawn(answers.violated(), answers.drawing(side=8)))
    for part in ("robust  50.0 %", "class-changed  25.0 %", "attention-changed  20.0 %", "undecided  5.0 %"):
        assert part in said
    for part in (
        "45.0 %",
        "holes",
        "0.4123",
        "nearest known failure",
        "θ = 0",
        "δ = 0.3",
        "[of full brightness]",
    ):
        assert part in said


def test_the_map_shows_the_kind_of_each_cell():
    points = np.array([[-0.3, 0], [0, 0], [0, 1], [-0.3, 1], [0, 0], [0.3, 0], [0.3, 1], [0, 1]])
    cells = Polygons((0, 1), points, np.array([0, 4, 8]), np.array([0, 1], np.int8), np.array([0.0, 0.9]))
    chart = drawn(answers.robust(), Drawing(None, (cells,), ()))
    image = np.asarray(chart.axes[0].images[0].get_array())
    middle = image.shape[1] // 2
    assert (image[:, :middle] == palette.ROBUST_RAMP[0]).all()
    assert (image[:, middle:] == palette.CLASS_GREY).all()


def test_what_no_cell_covers_is_striped_as_undecided():
    points = np.array([[-0.3, 0], [0, 0], [0, 1], [-0.3, 1]])
    cells = Polygons((0, 1), points, np.array([0, 4]), np.array([0], np.int8), np.array([np.nan]))
    image = np.asarray(drawn(answers.unknown(), Drawing(None, (cells,), ())).axes[0].images[0].get_array())
    open_half = image[:, image.shape[1] // 2 :].reshape(-1, 3)
    assert {tuple(colour) for colour in np.unique(open_half, axis=0)} == set(palette.OPEN_STRIPES)


def test_an_answer_without_cells_still_has_its_boundary():
    chart = drawn(answers.violated(), Drawing(None, (), ()))
    assert len(chart.axes) == 1
    assert any("safe part" in str(patch.get_label()) for patch in chart.axes[0].patches)


def test_the_safe_range_is_shaded():
    chart = drawn(answers.violated(1), answers.drawing(1))
    low, high = answers.violated(1).origin.ranges[0]
    spans = [
        patch.get_extents().transformed(chart.axes[0].transData.inverted()) for patch in chart.axes[0].patches
    ]
    assert any(abs(span.x0 - low) < 1e-9 and abs(span.x1 - high) < 1e-9 for span in spans)


def test_a_step_of_the_inconsistency_is_not_joined():
    chart = drawn(answers.violated(1), answers.drawing(1))
    steps, gap = (chart.axes[panel].lines[0].get_ydata() for panel in (0, 1))
    assert np.isnan(steps).sum() > 100
    assert np.isnan(gap).sum() == 1  # continuous: broken only behind its end


def test_names_are_shown_as_they_are_not_as_formulas():
    result = answers.violated(2, source="$\\frac{1}$漢字\n.png")
    title = drawn(result, answers.drawing(side=4))._suptitle.get_text()
    assert "$\\frac{1}$???.png" in title


def test_shades_run_from_nothing_moved_to_the_threshold_and_on():
    kind = np.array([0, 0, 0, 2, 2, 1, 3], np.int8)
    drift = np.array([0.0, 0.3, np.nan, 0.3, 1.0, 0.1, np.nan])
    colours = palette.cell_colours(kind, drift, Scale(0.3, 1.0))
    expected = [*palette.ROBUST_RAMP, (120, 162, 197), *palette.ATTENTION_RAMP]
    assert np.abs(colours[:5].astype(int) - expected).max() <= 1
    assert np.isfinite(palette.ramp_colours(Scale(0.0, 0.0))).all()
    palette.cell_colours(kind, drift, Scale(0.0, 1.0))


def test_blue_and_orange_differ_in_luminance_from_their_neighbours_at_the_threshold():
    ends = np.array([palette.ROBUST_RAMP[1], palette.ATTENTION_RAMP[0]], float)
    assert (
        np.abs(ends[0, [0, 2]] - ends[1, [0, 2]]).max() > 80
    )  # blue-yellow contrast: seen with red-green blindness


def test_a_hundred_thousand_cells_are_drawn_in_one_image():
    drawing = answers.drawing(2, side=230)
    chart = figure(answers.violated(), drawing)
    assert len(drawing.polygons[0].kind) > 100_000
    assert len(chart.axes[0].images) == 1
    assert not chart.axes[0].collections, "cells drawn one by one take minutes"


def test_no_global_state_is_touched(monkeypatch):
    before = dict(mpl.rcParams)
    monkeypatch.setattr(mpl, "use", lambda *_: pytest.fail("the user's backend is theirs"))
    chart = drawn(answers.violated(), answers.drawing(side=4))
    assert isinstance(chart.canvas, FigureCanvasAgg)
    assert dict(mpl.rcParams) == before


def test_threshold_zero_and_a_map_without_loss_of_attention():
    result = replace(answers.robust(), problem=replace(answers.problem(), threshold=0.0))
    cells = answers.polygons(side=4)
    calm = replace(cells, kind=np.zeros_like(cells.kind), inconsistency=np.zeros_like(cells.inconsistency))
    drawn(result, Drawing(None, (calm,), ()))
