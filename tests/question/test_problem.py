"""Posing a question: what is refused, and what the numbers of a problem are."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from oracles import gradients_of
from steadygaze.errors import (
    ImageError,
    NotJointlyAffine,
    NotPiecewiseAffine,
    PerturbationError,
    SettingError,
)
from steadygaze.geometry.kinds import ROBUST, UNDECIDED
from steadygaze.network.reading.load import Network, load_network
from steadygaze.network.saliencies import SALIENCIES
from steadygaze.network.saliencies import by_name as saliency
from steadygaze.perturbation import (
    AbstractPerturbation,
    Brightness,
    Chain,
    Contrast,
    Parameter,
    Patch,
    Saturation,
    Translate,
)
from steadygaze.perturbation.notation import chain_of
from steadygaze.question.conditions import cones_on
from steadygaze.question.distances import distances_of, distances_on, maps_on
from steadygaze.question.inconsistency import by_name as inconsistency
from steadygaze.question.posing import pose
from steadygaze.search.judging import by_distance
from steadygaze.verdict.driver import solve
from variants import EVERY, FOLLOWED, INEXACT, SMOOTH, VARIANTS, Variant, picture

every = pytest.mark.parametrize("variant", EVERY, ids=str)
at_points = pytest.mark.parametrize("variant", [*EVERY, *INEXACT], ids=str)


def ask(net="mlp", image=None, chain=None, **changed):
    """Pose a problem that is fine but for what is changed."""
    usual = {
        "label": None,
        "saliency": saliency("gradient"),
        "inconsistency": inconsistency("cosine"),
        "threshold": 0.3,
        "clip": (0.0, 1.0),
    }
    module = Variant(net, "spot").module if isinstance(net, str) else net
    image = picture(1) if image is None else image
    network = net if isinstance(net, Network) else load_network(module, input_shape=(1, 6, 6))
    return pose(network, image, chain or Chain(Brightness(-0.3, 0.3)), **{**usual, **changed})


def test_a_sound_question_is_taken():
    problem = ask()
    assert problem.label == ask(label=problem.label).label


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"threshold": -0.1}, SettingError, ["threshold", "-0.1"]),
        ({"threshold": float("nan")}, SettingError, ["threshold", "nan"]),
        ({"threshold": 2.5}, SettingError, ["threshold", "2.5", "cosine"]),
        ({"clip": (1.0, 0.0)}, SettingError, ["clip", "smaller first"]),
        ({"clip": (0.0, float("inf"))}, SettingError, ["clip"]),
        ({"image": np.zeros((1, 5, 6))}, ImageError, ["(1, 5, 6)", "(1, 6, 6)"]),
        ({"image": picture(1) * 255}, ImageError, ["255", "scale"]),
        ({"image": picture(1) - 0.5, "clip": None}, ImageError, ["-0.5"]),
        ({"image": np.full((1, 6, 6), np.nan)}, ImageError, ["nan"]),
        ({"label": 3}, SettingError, ["label is 3", "0 to 2"]),
        ({"label": -1}, SettingError, ["label is -1"]),
        ({"chain": Chain(Brightness(0.2))}, PerturbationError, ["varies"]),
        ({"chain": Chain(Saturation(-1, 1))}, PerturbationError, ["channels"]),
        ({"chain": Chain(Patch(0, 1, top=5, left=0, size=3))}, PerturbationError, ["patch"]),
        ({"chain": Chain(Patch(0, 1, top=0, left=0, size=6))}, SettingError, ["zero", "under the patch"]),
        (
            {"chain": Chain(Patch(0, 1, top=0, left=0, size=6)), "inconsistency": inconsistency("top-k")},
            SettingError,
            ["zero", "under the patch"],
        ),
        ({"saliency": saliency("grad-cam")}, SettingError, ["grad-cam", "convolution"]),
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_refused_with_a_reason(changed, error, words):
    with pytest.raises(error) as caught:
        ask(**changed)
    message = str(caught.value)
    assert not [word for word in words if word not in message], message


def test_a_label_that_is_not_predicted_is_refused():
    predicted = ask().label
    with pytest.raises(SettingError, match=f"predicts {predicted}"):
        ask(label=(predicted + 1) % 3)


def test_a_saturated_network_has_no_attention_to_follow():
    module = nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    with torch.no_grad():
        module[1].bias -= 100.0
    with pytest.raises(SettingError, match="saturated"):
        ask(module)


@pytest.mark.parametrize("factor", [1e-200, 1e-310, 1e120])
def test_a_map_whose_squares_leave_double_precision_is_refused(factor):
    torch.manual_seed(0)  # of other biases all may be below 0
    module = nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    with torch.no_grad():
        module[1].weight.mul_(factor)
    with pytest.raises(SettingError, match=r"nothing to compare in double precision.*scale the weights"):
        ask(module)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_maps_beyond_double_precision_are_near_no_other(metric):
    problem = ask(inconsistency=inconsistency(metric))
    sizes = torch.tensor([[0.0], [1e-200], [1e200], [torch.inf], [torch.nan]], dtype=torch.float64)
    distances, doubtful, _ = distances_of(problem, sizes.repeat(1, len(problem.target)))
    assert distances[0] == 2.0
    assert doubtful.tolist() == [False, True, True, True, True]
    kinds = by_distance(distances, np.zeros(5, bool), problem)
    assert kinds[-1] == UNDECIDED


def test_maps_that_bend_and_move_are_refused_by_exact_engines():
    problem = ask("max pool", chain=Chain(Translate(dx=(-1, 1))), saliency=saliency("grad-cam"))
    with pytest.raises(NotJointlyAffine, match=r"grad-cam.*--method bound"):
        problem.check_exact()
    assert not problem.is_exact


def test_measures_without_an_exact_test_are_refused_by_exact_engines():
    problem = ask(chain=Chain(Translate(dx=(-1, 1))), inconsistency=inconsistency("l1"))
    with pytest.raises(NotPiecewiseAffine, match=r"l1.*cosine.*--method bound"):
        problem.check_exact()
    assert not problem.is_exact


def test_products_of_parameters_are_refused_when_pieces_are_wanted():
    problem = ask(chain=Chain(Brightness(-0.1, 0.1), Contrast(-0.1, 0.1)))
    with pytest.raises(NotJointlyAffine, match=r"brightness.*contrast"):
        _ = problem.pieces


@pytest.mark.parametrize("variant", INEXACT, ids=str)
def test_what_is_not_piecewise_affine_is_refused_when_stages_are_wanted(variant):
    with pytest.raises(NotPiecewiseAffine, match=r"use .*--method bound") as caught:
        _ = variant.problem.stages
    assert ("is smooth" if variant.net in SMOOTH else variant.saliency) in str(caught.value)


def test_the_first_smooth_layer_is_named():
    with pytest.raises(NotPiecewiseAffine, match=r"^layer 'silu' \(node '2'\) is smooth"):
        Variant("silu conv", "spot").problem.check_exact()
    assert Variant("mlp", "spot").problem.check_exact() is None


@pytest.mark.parametrize("method", ["sweep", "bfs", "gbs", "nearest"])
@pytest.mark.parametrize("variant", [INEXACT[0], INEXACT[6]], ids=str)
def test_no_exact_engine_takes_what_is_not_piecewise_affine(variant, method):
    with pytest.raises(NotPiecewiseAffine, match="use --method bound"):
        solve(variant.problem, method=method)


@at_points
def test_points_are_judged_as_the_module_judges_them(variant):
    thetas = variant.draw(60, seed=21)
    points, plain = variant.problem.at(thetas), variant.sampled(thetas)
    np.testing.assert_allclose(points.gap, plain.gap, atol=1e-10)
    # Right on a kink rounding may choose another piece for one of the two.
    np.testing.assert_allclose(points.inconsistency, plain.inconsistency, atol=1e-9)
    np.testing.assert_array_equal(points.kind, plain.kind)
    replayed = variant.problem.replay(thetas)
    np.testing.assert_array_equal(replayed.kind, plain.kind)
    assert ((points.predicted == variant.problem.label) == (points.gap > 0)).all()


@at_points
def test_the_graph_takes_the_image_before_the_clip(variant):
    problem, thetas = variant.problem, variant.draw(20, seed=22)
    whole = problem.graph.forward(problem.unclipped(thetas))
    np.testing.assert_allclose(whole, problem.network.graph.forward(problem.images(thetas)), atol=1e-12)
    assert problem.graph.nodes[problem.pixels].shape == problem.image.shape
    if variant.clip is not None:
        images = problem.images(thetas).numpy()
        assert images.min() >= variant.clip[0]
        assert images.max() <= variant.clip[1]


def test_bounds_leave_out_a_clip_that_cuts_nothing_off():
    boxes = Variant("mlp", "turn").perturbation.box[None] * 0.3
    doubts = {
        clip: Variant("mlp", "turn", clip=clip).problem.bounds(boxes, 8).doubts.tolist()
        for clip in ((0.0, 1.0), None)
    }
    assert doubts[0.0, 1.0] == doubts[None]
    brighter = {
        clip: Variant("mlp", "zoom, brighter", clip=clip).problem.bounds(
            Variant("mlp", "zoom, brighter").perturbation.box[None], 8
        )
        for clip in ((0.0, 1.0), None)
    }
    assert brighter[0.0, 1.0].doubts > brighter[None].doubts


def test_gradients_are_with_respect_to_the_pixels_after_the_clip():
    # A clipped pixel does not move with theta, but the network still looks at it.
    variant = Variant("mlp", "brightness")
    problem, thetas = variant.problem, np.array([[-0.3], [0.25]])
    pieces = problem.graph.pieces_at(problem.unclipped(thetas))
    maps = maps_on(problem, pieces, len(thetas))
    plain = gradients_of(variant.module, variant.images(thetas), problem.label)
    np.testing.assert_allclose(maps, plain.reshape(2, -1), atol=1e-12)
    assert (plain[:, :, 0, 0] != 0).all(), "the pixel is blank, and clipped at the first theta"


@pytest.mark.parametrize("method", ["sweep", "bfs", "gbs", "nearest"])
@pytest.mark.parametrize("change", [Brightness(-0.3, 0.3), Translate(dx=(-0.4, 0.6))], ids=repr)
def test_a_network_without_hidden_units_has_one_region(change, method):
    """Nothing picks pieces, neither unit nor clip; only the shift has two pieces of its own."""
    torch.manual_seed(2)
    module = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).double()
    answer = solve(ask(module, chain=Chain(change), clip=None), method=method, audit_points=50)
    assert answer.result.regions["visited"] == (2 if change.moves_map else 1)


def test_gaps_leave_the_label_out():
    problem = ask()
    logits = torch.tensor([[5.0, 1.0, 2.0]], dtype=torch.float64)
    for label, expected in ((0, [4, 3]), (1, [-4, -1]), (2, [-3, 1])):
        np.testing.assert_array_equal(replace(problem, label=label).gaps(logits), [expected])
    assert len(problem.gap_names) == len(problem.gap_tolerance) == 2


@every
def test_the_affine_pieces_are_the_images(variant):
    problem = variant.problem
    for piece in problem.pieces:
        corners = piece.polytope.vertices
        weights = np.random.default_rng(0).dirichlet(np.ones(len(corners)), size=6)
        thetas = weights @ corners
        np.testing.assert_allclose(piece.image.at(thetas), problem.unclipped(thetas), atol=1e-12)


@pytest.mark.parametrize("variant", [v for v in FOLLOWED if v.perturbation.moves_map], ids=str)
def test_expected_maps_are_affine_on_the_pieces(variant):
    problem = variant.problem
    kept = slice(None) if problem.compared is None else problem.compared.numpy()
    for piece, expected in zip(problem.pieces, problem.expected_pieces, strict=True):
        corners = piece.polytope.vertices
        thetas = np.random.default_rng(0).dirichlet(np.ones(len(corners)), size=6) @ corners
        plain = problem.expected_at(thetas).flatten(1).numpy()[:, kept]
        np.testing.assert_allclose(expected.at(thetas), plain, atol=1e-12)


@pytest.mark.parametrize("variant", [v for v in FOLLOWED if v.perturbation.moves_map], ids=str)
def test_cones_say_where_the_threshold_is_met(variant):
    """h is positive just where the inconsistency is below the threshold, and its tangents lie above it."""
    problem = variant.problem
    for number, piece in enumerate(problem.pieces[:3]):
        corners = piece.polytope.vertices
        thetas = np.random.default_rng(number).dirichlet(np.ones(len(corners)), size=40) @ corners
        pieces = problem.graph.pieces_at(problem.unclipped(thetas))
        cones = cones_on(problem, number, pieces, len(thetas))
        rows = np.arange(len(thetas))
        value, slack, _ = cones.values(rows, thetas)
        plain = variant.sampled(thetas)
        below = plain.inconsistency < variant.threshold
        clear = np.abs(value) > slack
        assert clear.mean() > 0.8
        sign = 1 if cones.concave else -1
        np.testing.assert_array_equal((sign * value > 0)[clear], below[clear])
        level, slope = cones.tangents(rows, thetas)
        for other in thetas[::7]:
            there = cones.heights(rows, np.broadcast_to(other, thetas.shape))
            assert (level + slope @ other >= there - 1e-9 * np.maximum(1, np.abs(there))).all()
        np.testing.assert_allclose(level + (slope * thetas).sum(axis=1), value, atol=1e-9)


def test_hidden_pixels_are_not_compared():
    problem = Variant("mlp", "spot").problem
    hidden = np.zeros((6, 6), bool)
    hidden[1:3, 1:3] = True
    np.testing.assert_array_equal(problem.target.numpy()[hidden.reshape(-1)], 0)
    assert np.count_nonzero(problem.target.numpy()) == 32
    counted = replace(problem, inconsistency=inconsistency("top-k(3)"))
    assert len(counted.target) == 32
    np.testing.assert_array_equal(problem.compared, np.flatnonzero(~hidden))
    shown = problem.shown(problem.map0[None])[0]
    np.testing.assert_array_equal(np.isnan(shown[0]), hidden)
    for asked in (problem, counted):
        np.testing.assert_array_equal(asked.shown(asked.kept(asked.map0[None]))[0], shown)


@pytest.mark.parametrize("kind", ["spot", "shift", "brightness"])
def test_the_unperturbed_image_replays_alike_alone_and_among_others(kind):
    problem = Variant("max pool", kind).problem
    alone, among = (problem.replay(np.zeros((count, len(problem.box)))) for count in (1, 3))
    np.testing.assert_allclose(alone.gap[0], among.gap[1], rtol=1e-6)
    np.testing.assert_allclose(alone.maps[0], among.maps[1], rtol=1e-5, atol=1e-7)
    assert alone.kind[0] == among.kind[1]


CONSTANT = [
    "translate(dx=-1..1, dy=1)",
    "translate(dx=-2..2, dy=0.5)",
    "translate(dx=1) | translate(dx=-1..1)",
    "translate(dx=1) | brightness(amount=-0.1..0.1)",
    "translate(dx=-1..1, dy=1, interpolation=bilinear) | rotate(degrees=90)",
    "rotate(degrees=20) | brightness(amount=-0.1..0.1)",
    "rotate(degrees=-20..20) | translate(dx=0.5, dy=-1)",
    "scale(amount=0.3) | shear(x=-0.2..0.2, y=0.1)",
    "brightness(amount=0.2) | contrast(amount=-0.1..0.1)",
    "patch(opacity=0.3, top=1, left=1, size=2) | scale(amount=-0.2..0.2)",
    "blur(sigma=0.4) | translate(dx=0..1) | gamma(amount=0.1)",
]


@cache
def looking() -> Network:
    """A convolutional network whose Grad-CAM map is nowhere 0 where the image is not."""
    torch.manual_seed(3)
    module = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(108, 3)).double()
    with torch.no_grad():
        module[0].weight.abs_()
        module[3].weight[0].abs_()
        module[3].bias[0] += 1
    return load_network(module, input_shape=(1, 6, 6))


@pytest.mark.parametrize("chain", CONSTANT)
@pytest.mark.parametrize("measure", ["cosine", "l1", "l2", "linf", "top-k"])
def test_at_zero_nothing_has_changed(chain, measure):
    for name in SALIENCIES:
        problem = ask(
            looking(), chain=chain_of(chain), saliency=saliency(name), inconsistency=inconsistency(measure),
            threshold=0.0, image=0.2 + picture(1) / 2,
        )  # fmt: skip
        zero = np.zeros((1, len(problem.box)))
        for points in (problem.at(zero), problem.replay(zero)):
            assert points.inconsistency[0] == 0
            assert points.kind[0] == ROBUST


def test_a_constant_shift_moves_no_map_and_exact_engines_take_it():
    chain = chain_of("translate(dx=1) | brightness(amount=-0.1..0.1)")
    shifted = ask(chain=chain)
    assert not shifted.follows_maps
    image = np.pad(picture(1), ((0, 0), (0, 0), (1, 0)))[..., :-1]
    by_hand = ask(image=image, chain=Chain(Brightness(-0.1, 0.1)))
    assert solve(shifted, method="sweep").result.shares == solve(by_hand, method="sweep").result.shares
    assert ask(looking(), chain=chain, saliency=saliency("grad-cam")).is_exact


def test_an_own_expected_map_that_moves_at_zero_is_refused():
    class Rolled(AbstractPerturbation):
        name, moves_map = "rolled", True
        parameters = (Parameter("by", "pixels", 0.0, 1.0),)

        def apply(self, images, thetas):
            return np.roll(images, 1, axis=-1) + thetas[:, :, None, None] / 10

        def expect(self, maps, thetas):
            return np.roll(maps, 1, axis=-1)

    with pytest.raises(PerturbationError, match=r"expected map of .*rolled.* at theta = 0 is off by"):
        ask(chain=Chain(Rolled()))


def test_probes_lie_in_the_box_and_stay_the_same():
    variant = Variant("mlp", "three")
    box, probes = variant.perturbation.box, variant.problem.probes
    assert ((box[:, 0] <= probes) & (probes <= box[:, 1])).all()
    np.testing.assert_array_equal(probes, replace(variant.problem).probes)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("width", [1e-3, 0.05, 1.0])
def test_distances_on_regions_are_those_at_their_points(variant, width):
    problem = variant.problem
    centre = problem.box.mean(axis=1)
    half = width * np.ptp(problem.box, axis=1) / 2
    thetas = centre + half * np.random.default_rng(4).uniform(-1, 1, (300, len(half)))
    pieces = problem.graph.pieces_at(problem.unclipped(thetas))
    distance, doubtful = distances_on(problem, pieces, len(thetas))
    assert not (doubtful & (np.abs(distance - problem.threshold) > problem.tolerance.margin)).any()
    np.testing.assert_allclose(distance, problem.at(thetas).inconsistency, atol=1e-12)
