"""Products in the sense of Einstein's sums, on top of the `Assembler`.

Each axis has a letter. Of a computed value and a constant those that both have and that are summed up are
what a matrix is multiplied along; those that both have and that stay make groups, each with its own matrix.
That is a dense layer, or a convolution of single numbers in groups. Two computed values are multiplied matrix
by matrix likewise, or number by number where nothing is summed up.
"""

from __future__ import annotations

import math
import string
from collections.abc import Container, Sequence

import numpy as np

from steadygaze.network.building import check_size
from steadygaze.network.reading.assembling import collapsing, joining
from steadygaze.network.reading.assembling.assembly import Assembler, Value
from steadygaze.network.reading.assembling.masking import Masked, masked, raised
from steadygaze.network.reading.assembling.rearranging import shape_of


def einsum(asm: Assembler, equation: str, parts: Sequence[Value | np.ndarray]) -> Value:
    """Einstein's sum of computed values, at least one, and any number of constants."""
    shapes = [shape_of(asm, part) for part in parts]
    letters, made = _letters(asm, equation, shapes)
    sizes: dict[str, int] = {}
    for own, shape in zip(letters, shapes, strict=True):
        for letter, size in zip(own, shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise asm.refuse(
                    f"axes {letter!r} of {equation!r} have {sizes[letter]} and {size} entries",
                    "allowed are equal sizes; expand the smaller one beforehand",
                )
    values = [(part, own) for part, own in zip(parts, letters, strict=True) if isinstance(part, Value)]
    for _, own in values:
        if len(set(own)) < len(own):
            raise asm.refuse(
                f"{equation!r} takes a diagonal of a computed value", "allowed is each letter once there"
            )
    constants = [
        (part, own) for part, own in zip(parts, letters, strict=True) if isinstance(part, np.ndarray)
    ]
    values.sort(key=lambda value: -sum(letter in value[1] for _, own in constants for letter in own))
    (x, of_x), *others = values
    wanted = {*made}.union(*(own for _, own in others))
    weight, of_weight = _joined(asm, constants, {*of_x, *wanted}, sizes)
    if not others:
        return _product(asm, x, of_x, weight, of_weight, made)
    if constants:
        kept = "".join(letter for letter in dict.fromkeys(of_x + of_weight) if letter in wanted)
        x, of_x = _product(asm, x, of_x, weight, of_weight, kept), kept
    for place, (y, of_y) in enumerate(others, start=1):
        behind = {*made}.union(*(own for _, own in others[place:]))
        x, of_x = _multiplied(asm, (x, of_x), (y, of_y), behind)
    return asm.permute(x, [of_x.index(letter) for letter in made]) if made else x


def _letters(asm: Assembler, equation: str, shapes: Sequence[Sequence[int]]) -> tuple[list[str], str]:
    """The letters of each part and of the result, dots written out."""
    equation = equation.replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    free = [letter for letter in string.ascii_letters if letter not in equation]
    lengths = [len(shape) - len(term.replace("...", "")) for term, shape in zip(terms, shapes, strict=False)]
    longest = max((n for n, term in zip(lengths, terms, strict=False) if "..." in term), default=0)
    fits = len(terms) == len(shapes) and 0 <= longest <= len(free) and equation.count("->") <= 1
    dots = "".join(free[: max(longest, 0)])
    written = [
        term.replace("...", dots[len(dots) - n :] if n > 0 else "")
        for term, n in zip(terms, lengths, strict=False)
    ]
    if not arrow:
        counted = [letter for term in written for letter in term]
        right = dots + "".join(
            sorted(letter for letter in set(counted) if counted.count(letter) == 1 and letter not in dots)
        )
    made = right.replace("...", dots)
    fits = fits and all(len(own) == len(shape) for own, shape in zip(written, shapes, strict=True))
    fits = fits and len(set(made)) == len(made) and set(made) <= {*"".join(written)}
    if not fits or not all(letter in string.ascii_letters for letter in "".join(written) + made):
        raise asm.refuse(
            f"its equation is {equation!r} for shapes {[tuple(shape) for shape in shapes]}",
            "allowed is one letter for each axis",
        )
    return written, made


def _joined(
    asm: Assembler, constants: Sequence[tuple[np.ndarray, str]], wanted: set[str], sizes: dict[str, int]
) -> tuple[np.ndarray, str]:
    """One constant of all, with the letters that anything else has."""
    letters = [letter for letter in sizes if letter in wanted and any(letter in own for _, own in constants)]
    made = "".join(letters)
    check_size(tuple(sizes[letter] for letter in made), f"a constant of {asm.where}")
    if not constants:
        return np.ones(()), ""
    equation = f"{','.join(own for _, own in constants)}->{made}"
    return np.einsum(equation, *(np.asarray(each, np.float64) for each, _ in constants), optimize=True), made


def _product(asm: Assembler, x: Value, of_x: str, weight: np.ndarray, of_weight: str, made: str) -> Value:
    """Their sum over all letters that are not in `made`, in its order."""
    alone = [letter for letter in of_x if letter not in of_weight + made]
    if len(alone) < len(of_x):
        x, of_x = _without(asm, (x, of_x), alone)
    both = [letter for letter in of_x if letter in of_weight and letter in made]
    summed = [letter for letter in of_x if letter not in made]
    own = [letter for letter in of_x if letter in made and letter not in of_weight]
    new = [letter for letter in of_weight if letter not in of_x]
    sizes = dict(zip(of_x, asm.shape(x), strict=True)) | dict(zip(of_weight, weight.shape, strict=True))
    groups, span, rows, each = (math.prod(sizes[a] for a in part) for part in (both, summed, own, new))
    order = [of_weight.index(letter) for letter in (*both, *new, *summed) if letter in of_weight]
    matrix = weight.transpose(order).reshape(groups, each, -1)
    matrix = np.broadcast_to(matrix, (groups, each, span))
    if groups == 1:
        x = asm.permute(x, [of_x.index(letter) for letter in (*both, *own, *summed)])
        x = asm.dense(asm.reshape(x, (1, span) if rows == 1 else (1, rows, span)), matrix[0], None)
        have = [*both, *own, *new]
    else:
        x = asm.permute(x, [of_x.index(letter) for letter in (*both, *summed, *own)])
        x = asm.reshape(x, (1, groups * span, rows, 1))
        kernel = matrix.reshape(groups * each, span, 1, 1)
        x = asm.conv(x, kernel, None, (1, 1), ((0, 0), (0, 0)), (1, 1), groups)
        have = [*both, *new, *own]
    x = asm.reshape(x, [sizes[letter] for letter in have])
    return asm.permute(x, [have.index(letter) for letter in made]) if made else x


def _multiplied(
    asm: Assembler, first: tuple[Value, str], second: tuple[Value, str], wanted: Container[str]
) -> tuple[Value, str]:
    """Two computed values with their letters: their product, summed over letters that are not wanted."""
    (x, of_x), (y, of_y) = (
        _without(asm, one, [letter for letter in one[1] if letter not in other[1] and letter not in wanted])
        for one, other in ((first, second), (second, first))
    )
    both = [letter for letter in of_x if letter in of_y and letter in wanted]
    summed = [letter for letter in of_x if letter in of_y and letter not in wanted]
    own, new = ([letter for letter in of if letter not in both + summed] for of in (of_x, of_y))
    sizes = dict(zip(of_x, asm.shape(x), strict=True)) | dict(zip(of_y, asm.shape(y), strict=True))
    if summed and (own or new):
        rows, span, columns = (math.prod(sizes[letter] for letter in part) for part in (own, summed, new))
        lead = [sizes[letter] for letter in both]
        x = asm.permute(x, [of_x.index(letter) for letter in (*both, *own, *summed)])
        y = asm.permute(y, [of_y.index(letter) for letter in (*both, *summed, *new)])
        made = joining.matrix_product(
            asm, asm.reshape(x, (*lead, rows, span)), asm.reshape(y, (*lead, span, columns))
        )
    else:  # number by number
        have = [*both, *summed]
        x = asm.permute(x, [of_x.index(letter) for letter in (*have, *own)])
        y = asm.permute(y, [of_y.index(letter) for letter in (*have, *new)])
        lead = [sizes[letter] for letter in have]
        x = asm.reshape(x, [*lead, *(sizes[letter] for letter in own), *(1 for _ in new)])
        y = asm.reshape(y, [*lead, *(1 for _ in own), *(sizes[letter] for letter in new)])
        made = joining.product(asm, x, y)
        if summed:
            made = collapsing.total(asm, made, range(len(both), len(have)), keep=False)
    letters = "".join((*both, *own, *new))
    return asm.reshape(made, [sizes[letter] for letter in letters]), letters


def _without(asm: Assembler, value: tuple[Value, str], alone: Sequence[str]) -> tuple[Value, str]:
    """A computed value with its letters, summed over some of them."""
    x, letters = value
    if not alone:
        return value
    x = collapsing.total(asm, x, [letters.index(letter) for letter in alone], keep=False)
    return x, "".join(letter for letter in letters if letter not in alone)


def attention(
    asm: Assembler,
    query: Value | np.ndarray,
    key: Value | np.ndarray,
    value: Value | np.ndarray,
    scale: float | None,
    mask: Value | np.ndarray | None = None,
) -> Value:
    """``softmax(q kᵀ scale + mask) v``; by default one by the root of the size of q (Vaswani et al., 2017).

    What is learnt may be constant: queries or keys, values. mask: numbers added to the scores, which may
    be computed (places relative to the query), or truth values, true where a score is seen.
    """
    if not isinstance(query, Value) and not isinstance(key, Value):
        raise asm.refuse("its queries and keys are constants", "allowed is one of them; compute what it sees")
    scale = 1 / math.sqrt(shape_of(asm, query)[-1]) if scale is None else scale
    rank = len(shape_of(asm, key))
    order = [*range(rank - 2), rank - 1, rank - 2]
    swapped = asm.permute(key, order) if isinstance(key, Value) else key.transpose(order)
    product = matrix_product(asm, query, swapped)
    scores: Value | Masked = asm.scale_shift(product, scale, 0.0)
    if isinstance(mask, Value):
        scores = asm.add(scores, mask)
    elif mask is not None and mask.dtype == np.bool_:
        scores = masked(asm, scores, mask)
    elif mask is not None:
        scores = raised(asm, scores, mask)
    return matrix_product(asm, joining.softmax(asm, scores, -1), value)


def matrix_product(asm: Assembler, first: Value | np.ndarray, second: Value | np.ndarray) -> Value:
    """The product of two values, at least one of them computed, as numpy's matmul has it."""
    if isinstance(first, Value) and isinstance(second, Value):
        return joining.matrix_product(asm, first, second)
    parts: list[Value | np.ndarray] = [first, second]
    shapes = [shape_of(asm, one) for one in parts]
    cores = ["nk"[-len(shapes[0]) :], "km"[: len(shapes[1])]]
    leads = [shape[:-2] for shape in shapes]
    try:
        full = np.broadcast_shapes(*leads)
    except ValueError:
        full = ()
    if not all(shapes) or (shapes[0][-1] != shapes[1][-2:][0]):
        raise asm.refuse(
            f"it multiplies values of shapes {shapes[0]} and {shapes[1]}",
            "allowed are matrices that fit; check the image's layout and its size (--resize)",
        )
    terms = []
    for place, (lead, core) in enumerate(zip(leads, cores, strict=True)):
        # Axes of one entry that the other repeats are not axes of this one.
        letters = string.ascii_uppercase[len(full) - len(lead) : len(full)]
        kept = [
            letter
            for letter, n, m in zip(letters, lead, full[len(full) - len(lead) :], strict=True)
            if n == m
        ]
        sizes = [n for n, m in zip(lead, full[len(full) - len(lead) :], strict=True) if n == m]
        shape = (*sizes, *shapes[place][-2:])
        part = parts[place]
        parts[place] = asm.reshape(part, shape) if isinstance(part, Value) else part.reshape(shape)
        terms.append("".join(kept) + core)
    made = "".join(a for a in string.ascii_uppercase[: len(full)] if a in terms[0] + terms[1])
    made += "n" * (len(cores[0]) == 2) + "m" * (len(cores[1]) == 2)
    result = einsum(asm, f"{terms[0]},{terms[1]}->{made}", parts)
    last = (*shapes[0][-2:-1], *(shapes[1][-1:] if len(shapes[1]) > 1 else ()))
    return asm.reshape(result, (*full, *last))
