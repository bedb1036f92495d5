"""Percents of an image's size in specifications, and the presets that are written in them."""

from __future__ import annotations

import numpy as np
import pytest

from steadygaze.errors import PerturbationError, SettingError
from steadygaze.perturbation import Brightness, Patch
from steadygaze.perturbation.notation import chain_of
from steadygaze.question.case import make_case
from steadygaze.question.lengths import in_pixels, texts_in_pixels
from steadygaze.question.preset import preset, presets

SHAPE = (3, 20, 40)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("patch(opacity=0..1, top=50%, left=50%, height=10%, width=10%)",
         "patch(opacity=0..1, top=10, left=20, height=2, width=4)"),
        ("patch(opacity=0..1, top=1%, left=0%, size=1%)", "patch(opacity=0..1, top=0, left=0, size=1)"),
        ("translate(dx=-5%..5%, dy=0..10%)", "translate(dx=-2.0..2.0, dy=0..2.0)"),
        ("blur(sigma=0 .. 5 %)", "blur(sigma=0..1.0)"),
        ("translate(dx=-1..1)", "translate(dx=-1..1)"),
        ("blend(amount=0..1, target=50%.npy)", "blend(amount=0..1, target=50%.npy)"),
    ],
)  # fmt: skip
def test_percents_are_of_the_right_side(written, read):
    assert texts_in_pixels([written], SHAPE) == (read,)


def test_what_is_no_length_has_no_percents():
    with pytest.raises(
        PerturbationError, match=r"'amount=-10%\.\.10%' is in percent.*stand with top, height"
    ):
        in_pixels("brightness(amount=-10%..10%)", SHAPE)


def test_perturbations_pass_through():
    given = Brightness(-0.1, 0.1)
    assert in_pixels(given, SHAPE) is given
    chain = chain_of(in_pixels([given, "patch(opacity=0..1, top=0, left=0, size=50%)"], SHAPE))
    assert [type(link) for link in chain.links] == [Brightness, Patch]
    assert chain.links[1].height == 10


@pytest.mark.parametrize("name", presets())
@pytest.mark.parametrize("side", [8, 28, 224])
def test_presets_fit_images_of_every_size(name, side):
    one = preset(name)
    assert one.stands_for.endswith(".")
    chain = chain_of(texts_in_pixels(one.perturb, (3, side, side)))
    chain.check((3, side, side))
    image = np.random.default_rng(0).uniform(0.2, 0.8, (3, side, side))
    changed = chain.apply(image[None], chain.box[None, :, 1])[0]
    assert np.abs(changed - image).max() > 1e-3
    assert len(chain.parameters) <= 4


def test_a_preset_comes_before_what_is_given_beside_it():
    base = {"model": "m", "image": "digits:1"}
    own = "contrast(amount=0..0.1)"
    assert make_case(base, {"preset": "brightness", "perturb": [own]}).perturb == (
        *preset("brightness").perturb,
        own,
    )
    assert make_case(base, {"preset": "glare"}).perturb == preset("glare").perturb
    with pytest.raises(SettingError, match="did you mean 'glare'"):
        make_case(base, {"preset": "glar"})
