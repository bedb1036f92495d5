"""Faults planted in bounds and in branch and bound: each is noticed by a check or by a battery."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from branching import BRANCHING
from covering import check_cover
from formed import some_forms
from oracles import Locator
from steadygaze.enclosing import angles, forms
from steadygaze.enclosing.forms import SIGN, Forms
from steadygaze.errors import InternalCheckError
from steadygaze.geometry.kinds import UNDECIDED
from steadygaze.network.bounding import bounds as bounds_module
from steadygaze.network.bounding.bounds import Bounds
from steadygaze.network.bounding.forms import relaxing
from steadygaze.network.bounding.forms.derivatives import Derivative
from steadygaze.network.bounding.forms.slack import Slack
from steadygaze.question import inconsistency
from steadygaze.search import branch_and_bound, dividing
from steadygaze.search.base import Options
from steadygaze.search.boxes import map_of
from steadygaze.search.branch_and_bound import BranchAndBound
from variants import NETWORKS, Variant, mismatches

PLAIN = Variant("wide", "spot", clip=None)
STEEP = Variant("leaky", "three", clip=None)
BENT = Variant("hardtanh", "spot", clip=None)
DEEP = Variant("residual", "spot", clip=None)
TURNED = Variant("mlp", "turn")
NETWORKS.update(BRANCHING)
BRANCHED = Variant("opposed", "three", clip=None)
EVERY = (PLAIN, STEEP, BENT, DEEP, TURNED, BRANCHED)
BOXES = 30


def outside(variants=EVERY, room=32):
    """How many samples of random boxes lie outside of their bounds: gaps, maps, inconsistencies."""
    wrong = 0
    for variant in variants:
        problem, rng = replace(variant).problem, np.random.default_rng(5)
        box = problem.box
        span = np.ptp(box, axis=1) * 10.0 ** rng.uniform(-2, 0, (BOXES, 1))
        low = box[:, 0] + rng.random(span.shape) * (np.ptp(box, axis=1) - span)
        boxes = np.stack([low, low + span], axis=2)
        points = low[:, None] + rng.random((BOXES, 20, len(box))) * span[:, None]
        plain = variant.sampled(points.reshape(-1, len(box)))
        images = variant.images(points.reshape(-1, len(box)))
        maps = problem.maps_at(torch.from_numpy(images)).reshape(BOXES, 20, *problem.map0.shape).numpy()
        known = problem.bounds(boxes, room)
        ends = [bound.amin(dim=1) for bound in known.gaps(problem.label)]
        wrong += _beyond(*ends, plain.gap.reshape(BOXES, -1))
        wrong += _beyond(*problem.saliency.enclosed(known, problem.label, problem.pixels).bounds(), maps)
        wrong += _beyond(
            *problem.enclosed_inconsistency(boxes, known), plain.inconsistency.reshape(BOXES, -1)
        )
    return wrong


def _beyond(low, high, values):
    low, high = np.asarray(low)[:, None], np.asarray(high)[:, None]
    return int(((values < low - 1e-9) | (values > high + 1e-9)).sum())


def test_without_a_fault_nothing_is_outside():
    assert outside() == 0


# -- forms


def test_a_slope_of_the_wrong_sign(monkeypatch):
    def wrong(layer, *inputs, norm):
        made = affine(layer, *inputs, norm=norm)
        made.rows[:, 1, ..., ::2] *= -1
        return made

    affine = bounds_module.affine
    monkeypatch.setattr(bounds_module, "affine", wrong)
    assert outside()


def test_a_dropped_symbol(monkeypatch):
    def dropped(deviation, room, share=None):
        made = fresh(deviation, room, share)
        return replace(made, rows=made.rows[:, 1:], place=made.place[:, 1:], amount=made.amount[:, 1:])

    fresh = forms.fresh_symbols
    monkeypatch.setattr(forms, "fresh_symbols", dropped)
    assert outside()


def test_a_dropped_error(monkeypatch):
    def dropped(deviation, room, share=None):
        made = fresh(deviation, room, share)
        return replace(made, rest=torch.zeros_like(made.rest))

    fresh = forms.fresh_symbols
    monkeypatch.setattr(forms, "fresh_symbols", dropped)
    assert outside(room=2)


def test_errors_that_pass_through_weights_with_their_signs(monkeypatch):
    linear = Forms.linear
    monkeypatch.setattr(
        Forms,
        "linear",
        lambda self, function, absolute, *rest, **named: linear(self, function, function, *rest, **named),
    )
    assert outside(room=2)


def test_symbols_of_two_branches_in_one_place(monkeypatch):
    """As if a branch did not know of the other's symbols: what is added up would cancel."""
    pulled = Bounds._pulled
    monkeypatch.setattr(
        Bounds, "_pulled", lambda self, index, gradient, used: pulled(self, index, gradient, gradient.symbols)
    )
    x = torch.tensor([[[0.5, 0.5], [0.5, 0.5]]]).double()
    units = Forms(x, torch.zeros((1, 2)).double(), 1)
    first = relaxing.relax(relaxing._RECTIFIED, -units.raised(-x[:, 0]), None, 9, 0).values
    second = relaxing.relax(relaxing._RECTIFIED, units.raised(-x[:, 0]), None, 9, 0).values
    apart = relaxing.relax(relaxing._RECTIFIED, units.raised(-x[:, 0]), None, 9, first.symbols).values
    # relu(-t / 2) - relu(t / 2) is -t / 2; and where t is 1 the sum of both is 1/2.
    assert float((first + apart).bounds()[1].min()) >= 0.5
    assert float((first + -second).reach.min()) < float((first + -apart).reach.min())
    assert outside((BRANCHED,))


# -- relaxations


def test_a_radius_that_is_halved(monkeypatch):
    pulled = Derivative.pulled
    monkeypatch.setattr(
        Derivative,
        "pulled",
        lambda self, *rest: pulled(replace(self, radius=self.radius / 2), *rest),
    )
    assert outside()


def test_a_deviation_that_is_halved(monkeypatch):
    piecewise = relaxing.piecewise_relaxed

    def halved(*arguments):
        slope, offset, deviation, derivative = piecewise(*arguments)
        return slope, offset, deviation / 2, derivative

    monkeypatch.setattr(relaxing, "piecewise_relaxed", halved)
    assert outside()


def test_a_breakpoint_that_is_forgotten(monkeypatch):
    """Of hardtanh the upper one, in what is bounded; the network itself still has it."""
    piecewise = relaxing.piecewise_relaxed

    def forgetful(layer, *ranges):
        if len(layer.breakpoints) == 2:
            layer = replace(
                layer, breakpoints=layer.breakpoints[:1], slopes=layer.slopes[:2], offsets=layer.offsets[:2]
            )
        return piecewise(layer, *ranges)

    monkeypatch.setattr(relaxing, "piecewise_relaxed", forgetful)
    assert outside((BENT,))
    assert not outside((PLAIN,))


def test_an_optimistic_tolerance(monkeypatch):
    relax = relaxing.relax
    monkeypatch.setattr(
        bounds_module,
        "relax",
        lambda layer, own, tolerance, *rest: relax(
            layer, own, Slack.within(torch.full_like(own.error[0], 0.3).flatten()), *rest
        ),
    )
    assert outside((PLAIN, STEEP))


def test_two_values_claimed_of_a_symbol():
    """Halfway between its ends the vector is the other one, and at neither end it is near."""
    rng = np.random.default_rng(0)
    centre = some_forms(rng, symbols=0, spread=0.0, error=0.0).centre
    rows = torch.stack([centre, centre.flip(1)], dim=1)
    around = Forms(rows, torch.zeros_like(centre), 0)
    claimed = replace(around, origin=torch.full((3, 1, 2), SIGN))
    known = Forms.exact(centre, 0)
    assert (angles.cosine_bounds(around, known)[1] >= 1.0).all()
    assert (angles.cosine_bounds(claimed, known)[1] < 1.0).all()


# -- angles


def optimistic(**factors):
    """What bounds the angle, with some of its numbers multiplied."""
    side = angles._side

    def changed(*arguments):
        made = side(*arguments)
        return replace(made, **{name: getattr(made, name) * factor for name, factor in factors.items()})

    return changed


@pytest.mark.parametrize("lost", ["away", "other"])
def test_an_optimistic_angle(monkeypatch, lost):
    """Without its second-order term, or without part of the first."""
    monkeypatch.setattr(angles, "_side", optimistic(**{lost: 0.0}))
    assert outside()


def test_a_combination_that_is_not_tried(monkeypatch):
    combinations = angles._combinations
    monkeypatch.setattr(angles, "_combinations", lambda *given: combinations(*given)[:, -1:])
    assert outside()


def test_an_angle_that_takes_centres_for_everything(monkeypatch):
    cosine = inconsistency.cosine_bounds
    monkeypatch.setattr(
        inconsistency, "cosine_bounds", lambda s, e, near: cosine(Forms.exact(s.centre, s.count), e, near)
    )
    assert outside()


# -- branch and bound


def through(variant, steps=12):
    search = BranchAndBound(replace(variant).problem, Options(handover=False, undecided=0.05))
    try:
        while search.pending() and steps:
            search.step()
            steps -= 1
        return search.found()
    finally:
        search.close()


def test_a_half_that_is_lost(monkeypatch):
    halved = dividing.halved

    def shrunk(*given):
        made = halved(*given)
        made[0, :, 1] = made[0, :, 0]
        return made

    monkeypatch.setattr(dividing, "halved", shrunk)
    with pytest.raises(InternalCheckError, match="cover"):
        check_cover(PLAIN.problem, through(PLAIN))


def test_a_box_that_is_counted_twice(monkeypatch):
    monkeypatch.setattr(
        branch_and_bound,
        "map_of",
        lambda boxes, kind: map_of(np.repeat(boxes, 2, axis=0), np.repeat(kind, 2)),
    )
    map_ = through(PLAIN)
    with pytest.raises(InternalCheckError, match="cover"):
        check_cover(PLAIN.problem, map_)
    middle = map_.cells.theta[map_.cells.idx[: map_.cells.ptr[1]]].mean(axis=0)
    assert len(Locator(map_.cells).strictly(middle)) == 2


def test_a_box_in_the_place_of_another(monkeypatch):
    """Volumes add up: points find out that nothing is there."""
    halved = dividing.halved

    def repeated(boxes, *given):
        made = halved(boxes, *given)
        return np.concatenate([made[: len(boxes)]] * 2)

    monkeypatch.setattr(dividing, "halved", repeated)
    with pytest.raises(InternalCheckError):
        check_cover(PLAIN.problem, through(PLAIN))


@pytest.mark.parametrize("variant", [PLAIN, TURNED], ids=str)
def test_a_judgement_of_the_middle_alone(monkeypatch, variant):
    """A box is not what its middle is: samples disagree with the map."""

    def judged(problem, boxes, room, *more):
        found = judge(problem, boxes, room, *more)
        return replace(found, kind=problem.at(boxes.mean(axis=2)).kind)

    judge = branch_and_bound.judge_boxes
    assert not mismatches(variant, through(variant), variant.draw(300))[0]
    monkeypatch.setattr(branch_and_bound, "judge_boxes", judged)
    map_ = through(variant)
    assert (map_.kind != UNDECIDED).all()
    assert mismatches(variant, map_, variant.draw(300))[0]
