"""Where every pixel crosses a grid line at 0 each has a symbol, which deep networks do not multiply."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from steadygaze.deadline import NEVER, Deadline
from steadygaze.enclosing.forms import Forms
from steadygaze.geometry.kinds import ROBUST, UNDECIDED
from steadygaze.network.bounding.tightening import Effort
from steadygaze.network.reading.load import load_network
from steadygaze.network.saliency import Gradient, NoMap
from steadygaze.perturbation.notation import chain_of
from steadygaze.question.inconsistency import Cosine
from steadygaze.question.posing import pose
from steadygaze.search import branch_and_bound, straying
from steadygaze.search.experience import Experience
from steadygaze.search.judged_boxes import judge_boxes
from steadygaze.search.sides import Sides
from steadygaze.search.straying import rooms_of, shared_by
from steadygaze.verdict.driver import verify

IMAGE = np.random.default_rng(0).uniform(0.2, 0.8, (1, 6, 6))
TURNED = chain_of("affine(degrees=-5..5, scale=-0.05..0.05)")


class Recurrent(nn.Module):
    """Rows of an image one after the other, as PyTorch's recurrent layers take them."""

    def __init__(self, kind, both):
        super().__init__()
        self.cell = nn.RNN(6, 12, 2, nonlinearity=kind, bidirectional=both, batch_first=True)
        self.head = nn.Linear(24 if both else 12, 3)

    def forward(self, x):
        return self.head(4 * self.cell(x[:, 0])[0][:, -1])


class Tokens(nn.Module):
    """Attention over patches of two by two pixels."""

    def __init__(self, layers):
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 2, 2)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.head = nn.Sequential(nn.LayerNorm(8), nn.Flatten(), nn.Linear(72, 3))

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def tokens(layers):
    torch.manual_seed(3)
    return Tokens(layers).double().eval()


def recurrent(kind, both):
    torch.manual_seed(3)
    module = Recurrent(kind, both)
    with torch.no_grad():
        for weights in module.cell.parameters():
            weights *= 2.0
    return module.double().eval()


def posed(module, chain=TURNED, saliency=None):
    network = load_network(module, input_shape=IMAGE.shape)
    return pose(
        network, IMAGE, chain, label=None, threshold=0.3, clip=(0.0, 1.0),
        saliency=saliency or Gradient(), inconsistency=Cosine(),
    )  # fmt: skip


MODULES = {
    "tokens": lambda: tokens(3),
    "recurrent": lambda: recurrent("relu", False),
    "both ways": lambda: recurrent("tanh", True),
}
MOVED = "brightness(amount=-0.1..0.1) | translate(dx=-1..1, dy=-1..1)"


def first_halvings_of(problem, deadline):
    return straying.first_halvings(problem, Sides(problem), deadline)


def about_zero(problem, halvings):
    return 0.5**halvings * problem.box[None]


def test_each_error_gets_a_symbol_in_its_place():
    rng = np.random.default_rng(1)
    rows, error = (
        torch.from_numpy(rng.normal(size=(2, 3, 4, 5))),
        torch.from_numpy(rng.random((2, 4, 5)) ** 9),
    )
    error[0, 2] = 0.0
    forms = Forms(rows, error, 2)
    apart = forms.apart()
    assert apart.symbols == 20
    assert not apart.error.any()
    assert torch.equal(apart.rows[:, :3], rows)
    assert torch.equal(apart.rows[:, 3:].abs().sum(dim=1), error)
    assert int((apart.rows[:, 3:] != 0).sum()) == 35
    for own, other in zip(apart.bounds(), forms.bounds(), strict=True):
        assert torch.allclose(own, other, rtol=1e-14)


@pytest.mark.parametrize(
    ("name", "shared"), [*((name, 0) for name in MODULES), ("tokens", 9), ("both ways", 64)]
)
@pytest.mark.parametrize("halvings", [5, 24])
def test_bounds_hold_at_random_points(name, shared, halvings):
    chain = TURNED if name == "tokens" or shared else chain_of(MOVED)
    problem = posed(MODULES[name](), chain)
    box = about_zero(problem, halvings)
    bounds = problem.bounds(box, 600, Effort.PIXELS, shared=shared)
    low, high = bounds.gaps(problem.label)
    least, most = problem.enclosed_inconsistency(box, bounds)
    rng = np.random.default_rng(2)
    draws = box[0, :, 0] + rng.integers(0, 3, (60, len(problem.box))) / 2 * np.ptp(box[0], axis=1)
    thetas = np.concatenate(
        [draws, box[0, :, 0] + rng.random((60, len(problem.box))) * np.ptp(box[0], axis=1)]
    )
    images = problem.unclipped(thetas).clamp(0, 1).requires_grad_(True)
    logits = MODULES[name]()(images)
    gaps = problem.gaps(logits).detach()
    assert (gaps >= low - 1e-12).all()
    assert (gaps <= high + 1e-12).all()
    (maps,) = torch.autograd.grad(logits[:, problem.label].sum(), images)
    expected = problem.expected_at(thetas, problem.map0)
    maps, expected = problem.kept(maps), problem.kept(expected)
    found = 1 - torch.nn.functional.cosine_similarity(maps, expected, dim=1).numpy()
    assert found.min() >= least[0] - 1e-9
    assert found.max() <= most[0] + 1e-9


@pytest.mark.parametrize("name", MODULES)
def test_boxes_about_zero_are_decided_that_are_not_without(name, monkeypatch):
    problem = posed(MODULES[name](), TURNED if name == "tokens" else chain_of(MOVED))
    box = about_zero(problem, 9)
    found = judge_boxes(problem, box, 32, Experience(strays=True))
    assert (found.kind[0], found.pixels[0]) == (ROBUST, 1)
    found = judge_boxes(problem, box, 32, Experience())
    assert found.kind[0] == UNDECIDED
    assert np.isnan(found.pixels[0])


@pytest.mark.slow
@pytest.mark.parametrize("symbols", [True, False])
def test_a_search_has_a_safe_scale_that_it_has_not_without(symbols, monkeypatch):
    """The whole box about 0 is judged, not its parts: how pixels bend there does not count."""
    monkeypatch.setattr(straying, "GROWTH", 0.0)
    if not symbols:
        monkeypatch.setattr(branch_and_bound, "first_halvings", lambda *_: None)
    module, chain = recurrent("tanh", both=True), chain_of(MOVED)
    answer = verify(module, IMAGE, chain, threshold=0.3, method="bound", threads=1, regions_limit=6)
    reached = answer.safe_scale or 0.0
    assert (reached > 0.5**8) == symbols
    if symbols:
        box, rng = answer.problem.box, np.random.default_rng(1)
        points = answer.problem.replay(reached * rng.uniform(-1, 1, (60, 3)) * box[:, 1])
        assert (points.gap > 0).all()
        assert (points.inconsistency <= 0.3).all()


def test_pixels_share_symbols_where_there_is_no_time_for_one_each(monkeypatch):
    """As many as there are directions, or as are affordable; and boxes are decided that are not without."""
    problem, box = posed(tokens(3)), 0.5**12 * TURNED.box[None]
    assert shared_by(problem, NEVER) == 0
    monkeypatch.setattr(straying, "seconds_of", lambda _, rows: np.inf if rows == 68 else 1.0)
    directions = shared_by(problem, NEVER)
    assert 8 < directions < 36
    found = judge_boxes(problem, box, 32, Experience(strays=True))
    assert (found.kind[0], found.pixels[0]) == (ROBUST, 1)
    assert judge_boxes(problem, box, 32, Experience()).kind[0] == UNDECIDED
    moved = posed(tokens(1), chain_of("rotate(degrees=-5..5) | scale(amount=-0.05..0.05)"))
    assert shared_by(moved, NEVER) == 0


def test_it_is_asked_where_pixels_stray_and_networks_multiply(monkeypatch):
    module, box = tokens(1), np.array([0.5**9])[:, None, None]
    turned, moved, brighter = (
        posed(module, chain)
        for chain in (
            TURNED,
            chain_of(MOVED),
            chain_of("brightness(amount=-0.1..0.1) | contrast(amount=-0.1..0.1)"),
        )
    )
    # Where content is shifted, what bends is on a line that boxes are judged on both sides of.
    assert [first_halvings_of(own, NEVER) for own in (turned, moved, brighter)] == [16, None, None]
    # A single turn bends at 0 alone, and parts that end there do not.
    assert first_halvings_of(posed(module, chain_of("rotate(degrees=-5..5)")), NEVER) is None
    # Pixels that stray by no more than a hundredth are small enough from the first.
    little = posed(module, chain_of("affine(degrees=-0.01..0.01, scale=-0.0001..0.0001)"))
    assert first_halvings_of(little, NEVER) == 0
    experience, short = Experience(strays=True), Deadline.after(1e-6)
    assert first_halvings_of(turned, short) is None
    for problem, deadline, rooms in ((turned, NEVER, 1024), (brighter, NEVER, 0), (turned, short, 0)):
        assert rooms_of(problem, box * problem.box, experience, deadline, 0).tolist() == [rooms]
    # Over larger boxes hopelessly much strays; away from 0 it is not tried before one at 0 was decided.
    assert rooms_of(turned, turned.box[None], experience, NEVER, 0).tolist() == [0]
    aside = turned.box[:, 1] * np.array([0.5**9, 0.5**8])[:, None]
    assert rooms_of(turned, aside.T[None], experience, NEVER, 0).tolist() == [0]
    alone = posed(module, saliency=NoMap())
    assert rooms_of(alone, box * alone.box, experience, NEVER, 0).tolist() == [32]
    monkeypatch.setattr(straying, "GROWTH", np.finfo(np.float64).max)
    few = posed(recurrent("relu", both=False), chain_of(MOVED))
    assert first_halvings_of(few, NEVER) is None
