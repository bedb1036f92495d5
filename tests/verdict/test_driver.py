"""The driver: limits, interrupts, verdicts, and that nothing that goes wrong inside ends as robust."""

from __future__ import annotations

import dataclasses
import signal

import numpy as np
import pytest

import steadygaze as sg
import steadygaze.verdict.driver
from covering import check_cover
from steadygaze.answer.result import Verdict
from steadygaze.errors import InternalCheckError, SettingError
from steadygaze.geometry.kinds import CLASS_CHANGED, ROBUST, UNDECIDED
from steadygaze.question.images import load_image
from steadygaze.search.base import Standing
from steadygaze.search.sweep import Sweep
from steadygaze.verdict.budget import INTERRUPT
from steadygaze.verdict.checks import audit
from steadygaze.verdict.engines import search_by_name
from steadygaze.verdict.findings import Finding, Stopped, claim_of, stopped_of, verdict_of
from steadygaze.verdict.witness import find_witness

BOX = sg.Brightness(-0.3, 0.3) | sg.Patch(0, 1, top=3, left=3, size=2)


@pytest.fixture(scope="module")
def image():
    return load_image("digits:202").image


@pytest.fixture(scope="module")
def answer(image):
    return sg.verify("digits-mlp", image, BOX, threads=2)


def test_the_answer_holds_together(answer):
    shares = answer.shares
    assert answer.verdict == Verdict.VIOLATED
    assert sum(shares.values()) == pytest.approx(1, abs=1e-12)
    assert shares.undecided == 0
    assert 0 < answer.safe_scale < 1
    around = np.unique(answer.map.region[answer.around.cells])
    assert answer.result.regions["around_origin"] == len(around) > 0
    assert answer.result.regions["vertices"] == len(set(answer.map.cells.names.tolist()))
    failure = answer.result.nearest_failure
    assert answer.at(failure.theta).kind == failure.kind != "robust"
    # The box shrunk to the safe scale is robust at its corners; a little larger it is not.
    corners = np.stack(np.meshgrid(*answer.problem.box), -1).reshape(-1, 2) * answer.safe_scale
    assert (answer.problem.at(corners * (1 - 1e-6)).kind == ROBUST).all()


def test_a_small_box_is_robust(image):
    answer = sg.verify("digits-mlp", image, sg.Brightness(-0.02, 0.02), audit=50)
    assert answer.verdict == Verdict.ROBUST
    assert answer.safe_scale == 1
    assert answer.shares.robust == 1
    assert answer.result.nearest_failure is None
    assert answer.result.origin.ranges == ((-0.02, 0.02),)


def test_the_result_does_not_depend_on_threads(image, answer):
    one = sg.verify("digits-mlp", image, BOX, threads=1)
    assert np.array_equal(np.sort(one.map.pattern), np.sort(answer.map.pattern))
    assert one.shares.values() == pytest.approx(answer.shares.values(), abs=1e-12)
    assert one.safe_scale == answer.safe_scale
    assert one.result.origin.outer_boundary == answer.result.origin.outer_boundary


@pytest.mark.parametrize(
    ("limit", "words"),
    [({"regions_limit": 1}, "limit of 1 regions"), ({"time_limit": 1e-9}, "time limit")],
)
def test_a_limit_ends_in_an_honest_partial_answer(image, limit, words, monkeypatch):
    monkeypatch.setattr("steadygaze.search.sweep._CELLS", 8)
    answer = sg.verify("digits-cnn", image, BOX, threads=1, **limit)
    assert answer.shares.undecided > 0
    assert sum(answer.shares.values()) == pytest.approx(1, abs=1e-9)
    assert answer.verdict in (Verdict.UNKNOWN, Verdict.VIOLATED)
    assert words in answer.result.reason
    assert words in answer.result.settings["stopped"]


def test_the_shares_are_of_the_search_that_knows_most(image, monkeypatch):
    """They were the sweep's: 100 % undecided, beside a safe scale that was known as far as it goes."""
    genuine = steadygaze.verdict.driver._found

    def found(name, problem, options, *rest):
        if name != "sweep":
            return genuine(name, problem, options, *rest)
        search = search_by_name(name, problem, options)
        late = Stopped("time", "the time limit of 1 s")
        return Finding(search.name, search.claim, search.found(), None, search.standing(), late)

    monkeypatch.setattr(steadygaze.verdict.driver, "_found", found)
    answer = sg.verify("digits-mlp", image, BOX)
    assert answer.result.method == "nearest + sweep + gbs"
    assert answer.shares.robust >= answer.safe_scale**2 > 0


def test_what_ended_the_run_is_what_ended_the_last_search_wherever_it_stands(answer):
    """It was that of the search that knows least, which may have come to its end before another began."""
    part = dataclasses.replace(answer.map, rest=1e-3, kind=np.full_like(answer.map.kind, ROBUST))
    nearest = Finding("nearest", "radius", part, None, Standing(0.1, 0.1, 1, 0), None)
    bound = Finding("bound", "whole box", part, None, Standing(0.3, 0.3, 1, 0), INTERRUPT, turn=1)
    for findings in ([nearest, bound], [bound, nearest]):
        assert stopped_of(findings) == INTERRUPT
        assert INTERRUPT.words in verdict_of(answer.problem, findings, None)[1]
    done = dataclasses.replace(bound, stopped=None)
    assert claim_of([done, nearest]) == claim_of([nearest, done]) == "whole box"


def test_an_interrupt_gives_the_partial_answer(image, monkeypatch):
    monkeypatch.setattr("steadygaze.search.sweep._CELLS", 8)

    def interrupt(progress: sg.Progress) -> None:
        if progress.phase == "searching" and progress.fraction > 0:
            raise KeyboardInterrupt

    answer = sg.verify("digits-cnn", image, BOX, threads=2, progress=interrupt)
    assert 0 < answer.shares.undecided < 1
    assert answer.result.settings["stopped"] == "an interrupt"
    assert answer.verdict != Verdict.ROBUST


@pytest.mark.parametrize("swallowed", [None, SystemError, InternalCheckError], ids=str)
def test_what_a_second_interrupt_breaks_off_is_no_answer(image, monkeypatch, swallowed):
    """Compiled code makes another error of it, and what is broken off may not be whole."""
    advance = Sweep._advance

    def broken_off(self, *arguments):
        try:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            if swallowed is not None:
                raise swallowed("returned a result with an exception set") from error
        return advance(self, *arguments)

    monkeypatch.setattr(Sweep, "_advance", broken_off)
    with pytest.raises(KeyboardInterrupt):
        sg.verify("digits-cnn", image, BOX, threads=1)


def test_the_memory_limit_bounds_the_map(image, monkeypatch):
    monkeypatch.setattr("steadygaze.verdict.budget._MAP_SHARE", 1e-7)
    monkeypatch.setattr("steadygaze.search.sweep._CELLS", 8)
    answer = sg.verify("digits-cnn", image, BOX, threads=1)
    assert "memory limit" in answer.result.reason
    assert answer.shares.undecided > 0


def test_an_error_in_the_search_is_never_an_answer(image, monkeypatch):
    def broken(self, batch):
        raise ZeroDivisionError

    monkeypatch.setattr(Sweep, "_advance", broken)
    with pytest.raises(ZeroDivisionError):
        sg.verify("digits-mlp", image, BOX)


def lost(map_, chosen):
    """The map without the chosen cells."""
    keep = np.setdiff1d(np.arange(map_.cells.count), chosen)
    return dataclasses.replace(
        map_,
        cells=map_.cells.take(keep)[0],
        kind=map_.kind[keep],
        region=map_.region[keep],
        volume=map_.volume[keep],
    )


def test_a_lost_cell_is_noticed(answer):
    largest = int(answer.map.volume.argmax())
    with pytest.raises(InternalCheckError, match="cover"):
        check_cover(answer.problem, lost(answer.map, [largest]))


def test_lost_cells_whose_volume_another_claims_are_noticed(answer):
    largest = answer.map.volume.argsort()[-20:]
    gone = lost(answer.map, largest)
    swollen = gone.volume.copy()
    swollen[0] += answer.map.volume[largest].sum()
    pattern = answer.map.pattern.copy()
    pattern[answer.map.region[largest]] = 0
    with pytest.raises(InternalCheckError, match="lies in no cell"):
        check_cover(answer.problem, dataclasses.replace(gone, volume=swollen, pattern=pattern))


def test_the_audit_finds_a_wrong_kind(answer):
    assert audit(answer.problem, answer.map, 300) > 250
    wrong = answer.map.kind.copy()
    wrong[wrong == CLASS_CHANGED] = ROBUST
    with pytest.raises(InternalCheckError, match="theta = "):
        audit(answer.problem, dataclasses.replace(answer.map, kind=wrong), 300)


def test_a_failure_that_does_not_replay_is_no_witness(answer):
    """A map that calls robust cells failing finds no witness, so that the verdict cannot be violated."""
    wrong = np.where(answer.map.kind == ROBUST, CLASS_CHANGED, ROBUST).astype(np.int8)
    some = np.flatnonzero(answer.map.kind == ROBUST)[:20]
    kept = np.full(answer.map.cells.count, UNDECIDED, np.int8)
    kept[some] = wrong[some]
    map_ = dataclasses.replace(answer.map, kind=kept)
    assert find_witness(answer.problem, map_) is None
    finding = Finding("sweep", "whole box", map_, None, Standing(1.0, 0.0, 1, 0), None)
    verdict, reason = verdict_of(answer.problem, [finding], None)
    assert verdict == Verdict.UNKNOWN
    assert "original model" in reason


def test_a_gap_that_vanishes_at_a_point_is_not_robust(image):
    answer = sg.verify("digits-mlp", image, sg.Brightness(-0.02, 0.02))
    tight = dataclasses.replace(answer.map, ties=answer.map.cells)
    finding = Finding("sweep", "whole box", tight, None, Standing(1.0, 1.0, 1, 0), None)
    assert verdict_of(answer.problem, [finding], None)[0] == Verdict.UNKNOWN


def test_robust_needs_the_whole_box_whatever_ended_the_search(image):
    answer = sg.verify("digits-mlp", image, sg.Brightness(-0.02, 0.02))
    part = dataclasses.replace(answer.map, rest=1e-3)
    open_ = dataclasses.replace(answer.map, kind=np.append(answer.map.kind[1:], UNDECIDED).astype(np.int8))
    for stopped in (None, INTERRUPT):
        for map_ in (part, open_, answer.map):
            finding = Finding("sweep", "whole box", map_, None, Standing(1.0, 1.0, 1, 0), stopped)
            assert finding.whole == (map_ is answer.map)
            wanted = Verdict.ROBUST if finding.whole else Verdict.UNKNOWN
            assert verdict_of(answer.problem, [finding], None)[0] == wanted


@pytest.mark.parametrize(
    "setting",
    [
        {"method": "sweep", "undecided": 0.1},
        {"method": "bound", "undecided": 1.0},
        {"method": "nearest", "handover": False},
        {"method": "sweep", "prove_interior": True},
        {"method": "gbs", "reachable": True},
        {"method": "gbs", "norm": "l2"},
        {"norm": "l7"},
        {"method": "magic"},
        {"device": "tpu"},
        {"threads": 0},
        {"threads": -2},
        {"audit": -1},
        {"time_limit": 0},
        {"memory_limit": -1},
        {"regions_limit": 0},
        {"threshold": -0.1},
        {"threshold": float("nan")},
        {"threshold": 2.5},
        {"label": 3},
        {"label": 99},
        {"clip": (1.0, 0.0)},
    ],
)
def test_bad_settings_are_refused(image, setting):
    with pytest.raises(SettingError):
        sg.verify("digits-mlp", image, BOX, **setting)
