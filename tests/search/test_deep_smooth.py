"""Deep networks of norms: class and attention are certified over small boxes about 0, where forms drown."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from anchored_cases import deep
from steadygaze.deadline import Deadline
from steadygaze.geometry.kinds import ROBUST, UNDECIDED
from steadygaze.network.bounding import bounds, polynomials, small_boxes
from steadygaze.network.bounding.anchors.anchored import Anchored
from steadygaze.network.bounding.taylor import polynomial
from steadygaze.network.bounding.tightening import Effort
from steadygaze.network.reading.load import load_network
from steadygaze.network.saliency import Gradient, NoMap
from steadygaze.perturbation.notation import chain_of
from steadygaze.question.inconsistency import Cosine
from steadygaze.question.posing import pose
from steadygaze.question.problem import Problem
from steadygaze.search import branch_and_bound, judged_boxes
from steadygaze.search.base import Options
from steadygaze.search.boxes import volumes_of
from steadygaze.search.branch_and_bound import BranchAndBound
from steadygaze.search.experience import Experience, Judged
from steadygaze.search.falsifying import Falsifier
from steadygaze.search.judged_boxes import judge_boxes
from steadygaze.verdict.driver import verify

IMAGE = np.random.default_rng(0).uniform(0.2, 0.8, (1, 6, 6))
LINE = chain_of("brightness(amount=-0.05..0.05)")
PLANE = chain_of("brightness(amount=-0.05..0.05) | patch(opacity=0..0.2, top=1, left=1, size=2)")
FEW = 1500


def holds_in(answer):
    """At random points of the safe box the original keeps class and attention."""
    box, rng = answer.problem.box, np.random.default_rng(1)
    thetas = (answer.safe_scale or 0.0) * (box[:, 0] + rng.random((60, len(box))) * (box[:, 1] - box[:, 0]))
    points = answer.problem.replay(thetas)
    assert (points.gap > 0).all()
    assert (points.inconsistency <= 0.3).all()


@pytest.mark.slow
@pytest.mark.parametrize("perturbation", [LINE, PLANE], ids=["line", "plane"])
def test_attention_is_certified_about_zero_where_samples_hold(perturbation):
    module = deep(16)
    answer = verify(module, IMAGE, perturbation, threshold=0.3, method="bound", regions_limit=FEW)
    assert answer.safe_scale is not None
    assert answer.safe_scale > 0
    holds_in(answer)


@pytest.mark.slow
def test_it_is_not_where_boxes_about_zero_are_never_small(monkeypatch):
    """What the test before rests on: halved in turn with all others, boxes are not small enough in time."""
    monkeypatch.setattr(branch_and_bound, "_IN_VAIN", 10**9)
    monkeypatch.setattr(Problem, "follows_polynomials", False)
    answer = verify(deep(16), IMAGE, LINE, threshold=0.3, method="bound", regions_limit=FEW)
    assert answer.safe_scale == 0


def posed(image, saliency=None, chain=LINE):
    network = load_network(deep(16), input_shape=image.shape)
    return pose(
        network, image, chain, label=None, threshold=0.3, clip=(0.0, 1.0),
        saliency=saliency or Gradient(), inconsistency=Cosine(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("chain", "most"), [(LINE, 1), (chain_of("affine(degrees=-5..5, scale=-0.1..0.1)"), 4)]
)
def test_boxes_that_take_long_are_judged_few_at_once(chain, most, monkeypatch):
    """A step of forty of a small transformer took half of a limit of 10 s, and the last one was lost."""
    asked = list[int]()

    def judged(problem, boxes, *_):
        asked.append(len(boxes))
        nothing, open_ = np.zeros(len(boxes)), np.full(len(boxes), UNDECIDED)
        return Judged(open_, nothing, np.full(boxes.shape[:2], 0.5), *(nothing for _ in range(10)))

    monkeypatch.setattr(branch_and_bound, "judge_boxes", judged)
    monkeypatch.setattr(branch_and_bound, "CHEAP", 0)
    monkeypatch.setattr(Falsifier, "search", lambda self: None)
    search = BranchAndBound(posed(IMAGE, NoMap(), chain), Options(2**30, 1))
    while len(asked) < 16:
        search.step()
    search.close()
    assert max(asked) == most


@pytest.mark.parametrize(("saliency", "drifts"), [(NoMap(), False), (Gradient(), True)])
def test_coefficients_are_known_to_twice_the_precision_where_maps_are_asked_about(
    monkeypatch, saliency, drifts
):
    image, seen, whole = IMAGE.copy(), list[Anchored](), small_boxes.polynomial_bounds
    image[0, :2], image[0, 4:] = 0.0, 1.0
    monkeypatch.setattr(
        small_boxes, "polynomial_bounds", lambda graph, own, *a: (seen.append(own), whole(graph, own, *a))[1]
    )
    problem = posed(image, saliency)
    judged = judge_boxes(problem, np.array([[[0.0, 0.05 * 2.0**-12]], [[-0.05 * 2.0**-12, 0.0]]]), 32)
    assert (judged.kind == ROBUST).all()
    assert [own.drift is not None for own in seen] == [drifts]


def test_pixels_at_the_ends_of_the_clip_are_known_as_well_as_others():
    image = IMAGE.copy()
    image[0, :2], image[0, 4:] = 0.0, 1.0
    problem, boxes = posed(image), np.array([[[0.0, 2.0**-44]]])
    found = problem.bounds(boxes, 32)
    low, high = found.gaps(problem.label)
    assert ((high - low) < 1e-11).all()
    assert (found.values[problem.graph.last].errors < 1e-14).all()


def test_boxes_about_zero_end_there_where_pixels_are_at_an_end_of_the_clip(monkeypatch):
    """As a blank background is: units bend at 0, and of a deep network no box with 0 inside is decided."""
    judged, own = list[np.ndarray](), branch_and_bound.judge_boxes
    monkeypatch.setattr(
        branch_and_bound, "judge_boxes", lambda _, boxes, *a: (judged.append(boxes), own(_, boxes, *a))[1]
    )
    image = IMAGE.copy()
    image[0, :2] = 0.0
    answer = verify(deep(16), image, LINE, threshold=0.3, method="bound", regions_limit=16)
    assert (np.abs(np.concatenate(judged)).min(axis=2) == 0).any()
    assert all(((boxes <= 0).all(axis=2) | (boxes >= 0).all(axis=2)).all() for boxes in judged)
    assert answer.safe_scale is not None
    assert answer.safe_scale > 0
    points = answer.problem.replay(answer.safe_scale * np.linspace(-0.05, 0.05, 41)[:, None])
    assert (points.gap > 0).all()
    assert (points.inconsistency <= 0.3).all()


class Bending(nn.Sequential):
    """A norm before units that bend: both ways of bounding it are tried."""

    def __init__(self):
        torch.manual_seed(1)
        super().__init__(
            nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 8), nn.ReLU()
        )
        self.append(nn.Linear(8, 3))


@pytest.mark.parametrize(("seconds", "besides"), [(None, True), (1000.0, True), (8.0, False)])
def test_what_polynomials_leave_open_is_judged_by_forms_where_there_is_time(monkeypatch, seconds, besides):
    """That is, where polynomials took an eighth of what is left at most; and no box changes."""
    network = load_network(Bending().eval(), input_shape=IMAGE.shape)
    problem = pose(
        network, IMAGE, LINE, label=None, threshold=0.3, clip=(0.0, 1.0),
        saliency=Gradient(), inconsistency=Cosine(),
    )  # fmt: skip
    efforts, own, clock = list[Effort](), Problem.bounds, [0.0]

    def noted(self, boxes, room, effort=Effort.FORMS, *rest, **more):
        efforts.append(effort)
        clock[0] += 1.0
        return own(self, boxes, room, effort, *rest, **more)

    monkeypatch.setattr(Problem, "bounds", noted)
    boxes = np.array([[[-0.9, 0.9]], [[0.0, 0.05 * 2.0**-12]], [[-0.05 * 2.0**-10, 0.0]]])
    deadline = Deadline(np.inf if seconds is None else seconds, clock=lambda: clock[0])
    judged = judge_boxes(problem, boxes, 32, deadline=deadline)
    assert efforts[0] is Effort.POLYNOMIALS
    assert judged.kind[0] == UNDECIDED
    assert (judged.kind[1:] == ROBUST).all()
    assert len(judged.kind) == len(judged.doubts) == 3
    assert (Effort.FORMS in efforts) == besides


def test_small_boxes_that_rounding_leaves_open_are_asked_more_precisely_and_then_all_are(monkeypatch):
    own = bounds.pulled_back

    def drowned(graph, slopes, seed, to, deadline, precise, behind):
        """As of a map that is little beside what rounding leaves of it."""
        made = own(graph, slopes, seed, to, deadline, precise, behind)
        return made if precise else made.loosened(torch.full_like(made.error, 1e3))

    monkeypatch.setattr(bounds, "pulled_back", drowned)
    problem, experience = posed(IMAGE), Experience()
    tiny, wide = (np.array([[[0.0, 0.05 * 2.0**-power]]]) for power in (20, 12))
    found = []
    for boxes in (wide, tiny, wide):
        judged = judge_boxes(problem, boxes, 32, experience)
        # Boxes that are judged at the same time must not depend on which of them comes first.
        assert not experience.drowned or found == [UNDECIDED, ROBUST]
        experience.learn(volumes_of(boxes) / problem.volume, judged)
        found.append(judged.kind[0])
    assert found == [UNDECIDED, ROBUST, ROBUST]
    assert experience.drowned
    assert judge_boxes(problem, tiny, 32).kind[0] == ROBUST
    assert judge_boxes(problem, wide, 32).kind[0] == UNDECIDED


def test_where_rounding_leaves_nothing_open_gradients_are_not_asked_more_precisely(monkeypatch):
    own, asked = bounds.pulled_back, list[bool]()
    monkeypatch.setattr(bounds, "pulled_back", lambda *given: (asked.append(given[5]), own(*given))[1])
    experience = Experience()
    boxes = np.array([[[0.0, 0.05 * 2.0**-20]], [[0.0, 0.05 * 2.0**-12]]])
    judged = judge_boxes(posed(IMAGE), boxes, 32, experience)
    assert (judged.kind == ROBUST).all()
    assert asked == [False]
    assert not judged.precise.any()


def test_small_boxes_are_not_judged_together_with_others():
    problem = posed(IMAGE)
    tiny, wide = 0.05 * 2.0**-34, 0.05
    boxes = np.array([[[-wide, 0.0]], [[0.0, tiny]], [[0.0, wide]], [[-tiny, 0.0]]])
    found = judge_boxes(problem, boxes, 32)
    alone = [judge_boxes(problem, box[None], 32).kind[0] for box in boxes]
    assert found.kind.tolist() == alone
    assert found.kind[1] == found.kind[3] != found.kind[0] == found.kind[2]


class CrossCovariance(nn.Module):
    """Tokens by their directions alone, which over a wide box may have no length at all."""

    def __init__(self, seed, pools):
        super().__init__()
        torch.manual_seed(seed)
        self.pools = pools
        self.keys, self.hidden, self.out = nn.Linear(4, 4, bias=False), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        directions = nn.functional.normalize(self.keys(x.reshape(-1, 4, 4)), dim=1)
        likeness = directions @ directions.transpose(1, 2)
        if self.pools:
            likeness = nn.functional.max_pool2d(likeness[:, None], 3, 1, padding=1)[:, 0]
        return self.out(nn.functional.gelu(self.hidden(likeness)).mean(1))


@pytest.mark.parametrize(
    ("seed", "pools"),
    [(0, True), *(pytest.param(*own, marks=pytest.mark.slow) for own in ((0, False), (1, False), (1, True)))],
)
def test_a_direction_that_may_have_no_length_leaves_a_box_undecided_and_no_more(seed, pools):
    image = np.random.default_rng(seed).uniform(0.1, 0.9, (1, 4, 4))
    wide = chain_of("brightness(amount=-1..1) | patch(opacity=0..1, top=1, left=0, size=3)")
    module = CrossCovariance(seed, pools).double().eval()
    answer = verify(module, image, wide, threshold=0.3, method="bound", regions_limit=100, threads=1)
    assert sum(part or 0.0 for part in vars(answer.shares).values()) == pytest.approx(1)
    holds_in(answer)
    assert answer.safe_scale is None or answer.safe_scale > 0


def answer_of_ends(perturbation=LINE, limit=30):
    """Where some pixels are at the ends of the clip: they bend at 0 alone."""
    image = IMAGE.copy()
    image[0, :2], image[0, 4:] = 0.0, 1.0
    return verify(
        deep(20, 16, nn.GELU, seed=3), image, perturbation, threshold=0.3, method="bound", regions_limit=limit
    )


@pytest.mark.slow
def test_pixels_at_the_ends_of_the_clip_do_not_make_safe_boxes_small(monkeypatch):
    """Boxes on each side of 0 are followed as if there were no clip."""
    # Of few pixels symbols do as much.
    monkeypatch.setattr(polynomial, "FEW_DOUBTS", 0)
    monkeypatch.setattr(judged_boxes, "room_for_doubts", lambda *_: 0)
    answer = answer_of_ends()
    assert answer.safe_scale >= 2.0**-9
    holds_in(answer)
    monkeypatch.setattr(branch_and_bound, "axes_bent_at_zero", lambda _, images: False)
    monkeypatch.setattr(polynomials, "_bends_of", lambda *_: (None, None))
    assert answer_of_ends().safe_scale == 0


@pytest.mark.slow
def test_nor_do_those_that_two_parameters_move(monkeypatch):
    """Under a patch that brightens they bend on a line through 0, all of them alike."""
    answer = answer_of_ends(PLANE)
    assert answer.safe_scale >= 2.0**-12
    holds_in(answer)
    monkeypatch.setattr(polynomials, "_bends_of", lambda *_: (None, None))
    assert answer_of_ends(PLANE).safe_scale < 2.0**-20
