"""Maps that move with the image: curved boundaries, cells that meet in parts of facets, crossed windows."""

from __future__ import annotations

import numpy as np
import pytest

import steadygaze
from random_problems import random_problem
from steadygaze.perturbation import Chain, Translate
from steadygaze_check.command import main
from steadygaze_check.cones import separation


def certified(seed: int, parameters: int, folder, *, diagonal: bool = False) -> int:
    """What the checker makes of the sweep's map of a random problem, shifted along one axis or two."""
    case = random_problem(seed, parameters, moving=True)
    both = Chain(Translate(dx=(-1.0, 1.0), dy=(0.0, 1.0)))
    answer = steadygaze.verify(
        case.made, case.image, both if diagonal else case.perturbation, method="sweep", threads=1,
        clip=case.clip, saliency=case.saliency, inconsistency=case.inconsistency, threshold=case.threshold,
    )  # fmt: skip
    return main([str(answer.save(folder / "answer", certificate=True) / "certificate")])


CASES = {
    "a pooling window is crossed where what reads it is flat": (11, 1, False),
    "a map is 0 where opposite terms cancel": (12, 2, False),
    "boundaries are curved, and 0 lies on the border of two pieces of the shift": (17, 2, True),
}


@pytest.mark.parametrize("case", CASES)
def test_all_claims_are_certified(case, tmp_path, capsys):
    seed, parameters, diagonal = CASES[case]
    assert certified(seed, parameters, tmp_path, diagonal=diagonal) == 0, capsys.readouterr().out


def test_cells_that_meet_in_parts_of_facets_refute_nothing(tmp_path, capsys):
    assert certified(13, 3, tmp_path) != 10, capsys.readouterr().out
    assert "R0: 55 cells, at least 0.4335" in capsys.readouterr().out


@pytest.mark.parametrize("seed", range(20))
def test_the_direction_of_a_separation_is_the_best_of_many(seed):
    """Its least value over the vertices is that of c |e| - <s, e> over convex combinations, by duality."""
    draw = np.random.default_rng(seed)
    corners, size = int(draw.integers(2, 8)), int(draw.integers(2, 6))
    maps, fixed = draw.normal(size=(corners, size)) + 2.0, draw.normal(size=size)
    times = float(draw.uniform(0.2, 1.0)) * np.linalg.norm(fixed)
    weight = separation((maps @ maps.T)[None], (maps @ fixed)[None], np.array([times]))[0]
    along = weight @ maps
    assert np.linalg.norm(along) <= 1
    least = (times * maps @ along - maps @ fixed).min()
    mixed = draw.dirichlet(np.full(corners, 0.5), 4000) @ maps
    assert least <= (times * np.linalg.norm(mixed, axis=1) - mixed @ fixed).min() + 1e-9
    combined = (weight / weight.sum()) @ maps
    assert least == pytest.approx(times * np.linalg.norm(combined) - combined @ fixed, abs=1e-6)
