"""Parts of a box about 0: what is known of each is told once, and nothing is left out."""

from __future__ import annotations

import numpy as np
import pytest

from smooth_networks import made
from steadygaze.geometry.kinds import ATTENTION_CHANGED, ROBUST, UNDECIDED
from steadygaze.network.reading.load import load_network
from steadygaze.network.saliency import Gradient
from steadygaze.perturbation.notation import chain_of
from steadygaze.question.inconsistency import Cosine
from steadygaze.question.posing import pose
from steadygaze.search.about_zero import AboutZero
from steadygaze.search.boxes import axes_bent_at_zero, parted_at_zero, volumes_of
from steadygaze.search.reaching_out import ReachingOut

BOX = np.array([[-0.25, 0.5], [-3.0, 0.5]])


@pytest.mark.parametrize("seed", range(12))
def test_each_part_is_told_once_as_large_as_it_was_decided(seed):
    rng = np.random.default_rng(seed)
    parts = parted_at_zero(BOX)
    about, reaching = AboutZero(parts), ReachingOut(int(rng.choice([0, 5, 16])))
    reaching.parts = len(parts)
    # Of each part the halvings from which on it is decided.
    least, told, asked = rng.integers(0, rng.choice([2, 9, 30]), len(parts)), [], []
    while (halvings := reaching.halvings) is not None:
        open_ = False
        while not open_ and len(left := about.left(halvings)):
            own = int(left[0])
            kind = ROBUST if halvings >= least[own] else UNDECIDED
            about.learn(left[:1], halvings, np.array([kind], np.int8))
            asked.append((own, halvings))
            open_ = kind == UNDECIDED
        if not open_:
            assert about.alike
            boxes, kinds = about.added()
            assert (kinds == ROBUST).all()
            told.append(boxes)
            around = about.around()
            whole = np.concatenate([*told, around])
            assert volumes_of(whole).sum() == pytest.approx(volumes_of(BOX[None])[0])
            thetas = BOX[:, 0] + rng.random((50, 2)) * np.ptp(BOX, axis=1)
            inside = (whole[:, None, :, 0] <= thetas) & (thetas <= whole[:, None, :, 1])
            assert (inside.all(axis=2).sum(axis=0) == 1).all()
        reaching.learn(not open_)
    assert reaching.decided == least.max()
    assert len(asked) == len(set(asked))
    for own in range(len(parts)):  # nothing is asked again that a larger one has told
        sizes = [halvings for part, halvings in asked if part == own]
        decided = [k for k, size in enumerate(sizes) if size >= least[own]]
        assert all(sizes[later] < sizes[first] for first in decided for later in range(first + 1, len(sizes)))


def test_parts_of_several_kinds_are_no_box_of_one():
    about = AboutZero(parted_at_zero(BOX))
    about.learn(np.arange(3), 2, np.full(3, ROBUST))
    assert not about.alike
    about.learn(np.array([3]), 2, np.array([ATTENTION_CHANGED]))
    assert not about.alike
    about.learn(np.array([3]), 4, np.array([ROBUST]))
    assert about.alike
    assert not len(about.left(4))
    assert about.left(2).tolist() == [3]


def test_the_one_left_open_last_comes_first():
    about = AboutZero(parted_at_zero(BOX))
    about.learn(np.array([2]), 0, np.array([UNDECIDED]))
    assert about.left(5).tolist() == [2, 0, 1, 3]


@pytest.mark.parametrize(("darkest", "cut"), [(0.2, [False, True, True]), (0.0, [True, True, True])])
def test_a_box_is_cut_where_images_bend_and_everywhere_where_units_do(darkest, cut):
    """A clip is a unit that bends at 0 where pixels lie on its ends."""
    image = np.random.default_rng(0).uniform(0.2, 0.8, (1, 6, 6))
    image[0, 0, 0] = darkest
    problem = pose(
        load_network(made("attention"), input_shape=image.shape), image,
        chain_of("brightness(amount=-0.1..0.1) | translate(dx=-1..1, dy=-1..1)"), label=None, threshold=0.3,
        clip=(0.0, 1.0), saliency=Gradient(), inconsistency=Cosine(),
    )  # fmt: skip
    axes = axes_bent_at_zero(problem)
    assert axes.tolist() == cut
    assert len(parted_at_zero(problem.box, axes)) == 2 ** sum(cut)
    assert not axes_bent_at_zero(problem, images=False).any()
