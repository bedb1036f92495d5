"""VNN-LIB as text: read back by an evaluator of the tests' own, and by the package for version 2.0."""

from __future__ import annotations

import operator

import numpy as np
import pytest
import vnnlib

from steadygaze.export.properties import vnnlib_1, vnnlib_2
from steadygaze.geometry.domain import Domain, domain_of
from steadygaze.geometry.polytope import box, product, triangle

TRIANGLE = triangle(*np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1e-5]]))
WEDGE = product(TRIANGLE, box(np.array([-0.25]), np.array([3e-7])))
DOMAINS = {
    "line": box(np.array([-0.3]), np.array([1e-9])),
    "box": box(np.array([-0.3, 0.0, -2.0]), np.array([0.3, 1.0, 0.0])),
    "triangle": TRIANGLE,
    "wedge": WEDGE,
}
CONNECTIVES = {"and": lambda *parts: all(parts), "or": lambda *parts: any(parts)}
RELATIONS = {"<=": operator.le, ">=": operator.ge}


def parsed(text: str) -> list:
    """S-expressions as nested lists."""
    text = "\n".join(line.partition(";")[0] for line in text.splitlines())
    stack: list[list] = [[]]
    for word in text.replace("(", " ( ").replace(")", " ) ").split():
        if word == "(":
            stack.append([])
        elif word == ")":
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(word)
    (found,) = stack
    return found


def value(term: object, values: dict[str, float]) -> float | bool:
    if isinstance(term, str):
        return values[term] if term in values else float(term)
    head, *rest = term
    parts = [value(part, values) for part in rest]
    if head in CONNECTIVES:
        return CONNECTIVES[head](*parts)
    if head in RELATIONS:
        return RELATIONS[head](*parts)
    return sum(parts) if head == "+" else float(np.prod(parts))


def holds(text: str, theta: np.ndarray, logits: np.ndarray) -> bool:
    """Whether theta and logits satisfy all assertions."""
    values = {f"X_{i}": v for i, v in enumerate(theta)} | {f"Y_{j}": v for j, v in enumerate(logits)}
    values |= {f"theta[0,{i}]": v for i, v in enumerate(theta)}
    values |= {f"logits[0,{j}]": v for j, v in enumerate(logits)}
    return all(value(claim[1], values) for claim in parsed(text) if claim[0] == "assert")


@pytest.mark.parametrize("write", [vnnlib_1, vnnlib_2])
@pytest.mark.parametrize("name", DOMAINS)
def test_it_states_the_piece_and_the_counterexample(name, write):
    polytope, rng = DOMAINS[name], np.random.default_rng(1)
    text = write(domain_of(polytope), 2, 4, ["a question"])
    weights = rng.dirichlet(np.ones(len(polytope.vertices)), 30)
    inside = weights @ polytope.vertices
    kept, lost = np.array([0.0, 0.5, 1.0, -3.0]), np.array([0.0, 0.5, 1.0, 1.0])
    for theta in inside:
        assert holds(text, theta, lost)
        assert not holds(text, theta, kept)
    middle = polytope.centre
    for vertex in polytope.vertices:
        assert not holds(text, middle + 1.01 * (vertex - middle), lost)


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("name", DOMAINS)
def test_the_package_parses_version_2(name, kind):
    domain = domain_of(DOMAINS[name])
    query = vnnlib.parse_query_string(vnnlib_2(domain, 0, 3, ["a question", "of two lines"], kind))
    assert len(query.assertions) == 2 * len(domain.low) + len(domain.normals) + 1
    (network,) = query.networks
    assert [tuple(each.shape) for each in (*network.inputs, *network.outputs)] == [
        (1, len(domain.low)),
        (1, 3),
    ]


def test_two_classes_have_one_rival():
    text = vnnlib_2(domain_of(DOMAINS["line"]), 1, 2, [])
    vnnlib.parse_query_string(text)
    assert "(assert (>= logits[0,0] logits[0,1]))" in text


def test_numbers_are_read_back_as_they_are():
    low, high = np.array([-1 / 3]), np.array([np.nextafter(0, 1)])
    text = vnnlib_1(Domain(low, high, np.zeros((0, 1)), np.zeros(0)), 0, 2, [])
    bounds = [claim[1] for claim in parsed(text) if claim[0] == "assert"][:2]
    assert [float(bound[2]) for bound in bounds] == [low[0], high[0]]
    assert not any("e" in bound[2] for bound in bounds), "VNN-LIB knows no exponents"
