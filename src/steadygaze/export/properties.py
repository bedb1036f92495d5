"""The class question on one piece as VNN-LIB, versions 1.0 and 2.0.

Both state what a counterexample is: theta in the piece, and another logit that is at least the label's. A
solver that says `sat` has found one; `unsat` means that the class holds all over the piece.

Sources: the VNN-LIB 1.0 of VNN-COMP (Demarchi, Guidotti, Pulina, Tacchella, "Supporting standardization of
neural networks verification with VNN-LIB and CoCoNet", 2023), and the grammar of VNN-LIB 2.0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from steadygaze.geometry.domain import Domain

# Factors that are no more than rounding.
_NOTHING = 1e-12


def vnnlib_1(domain: Domain, label: int, classes: int, about: Sequence[str]) -> str:
    """The property in VNN-LIB 1.0: `X_i` are the parameters, `Y_j` the logits. `about` becomes comments."""
    n = len(domain.low)
    rivals = [f"(and (>= Y_{j} Y_{label}))" for j in range(classes) if j != label]
    return _text(
        [f"; {line}" for line in about],
        [f"(declare-const X_{i} Real)" for i in range(n)],
        [f"(declare-const Y_{j} Real)" for j in range(classes)],
        _within(domain, lambda i: f"X_{i}"),
        [f"(assert (or {' '.join(rivals)}))"],
    )


def vnnlib_2(domain: Domain, label: int, classes: int, about: Sequence[str], kind: str = "float32") -> str:
    """The property in VNN-LIB 2.0, of a network `f` from `theta` [1, n] to `logits` [1, K].

    kind: of the network's numbers, "float32" or "float64".
    """
    rivals = [f"(>= logits[0,{j}] logits[0,{label}])" for j in range(classes) if j != label]
    claim = rivals[0] if len(rivals) == 1 else f"(or {' '.join(rivals)})"
    return _text(
        [f"; {line}" for line in about],
        ["(vnnlib-version <2.0>)"],
        [
            "(declare-network f",
            f"    (declare-input theta {kind} [1,{len(domain.low)}])",
            f"    (declare-output logits {kind} [1,{classes}])",
            ")",
        ],
        _within(domain, lambda i: f"theta[0,{i}]"),
        [f"(assert {claim})"],
    )


def _within(domain: Domain, name: Callable[[int], str]) -> list[str]:
    bounds = [
        f"(assert ({sign} {name(i)} {_decimal(value)}))"
        for i, pair in enumerate(zip(domain.low, domain.high, strict=True))
        for sign, value in zip((">=", "<="), pair, strict=True)
    ]
    planes = [
        f"(assert (<= (+ {' '.join(_products(normal, name))}) {_decimal(offset)}))"
        for normal, offset in zip(domain.normals, domain.offsets, strict=True)
    ]
    return [*bounds, *planes]


def _products(normal: np.ndarray, name: Callable[[int], str]) -> list[str]:
    return [f"(* {_decimal(factor)} {name(i)})" for i, factor in enumerate(normal) if abs(factor) > _NOTHING]


def _decimal(value: float) -> str:
    """The shortest decimal that is read back as the same double; the formats know no exponents."""
    return np.format_float_positional(value, trim="0")


def _text(*blocks: list[str]) -> str:
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"
