"""What steadygaze says of the class question, piece by piece: to be held against what others say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from steadygaze.certificate.cells import piece_of_cells
from steadygaze.geometry.kinds import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST, UNDECIDED
from steadygaze.search.base import CellMap
from steadygaze.verdict.answer import Answer
from steadygaze.verdict.reading import safe_scale
from steadygaze.verdict.witness import find_witness


def of_class(map_: CellMap) -> CellMap:
    """The map with the attention left out: what keeps the class is robust."""
    kept = map_.kind == ATTENTION_CHANGED
    return replace(map_, kind=np.where(kept, ROBUST, map_.kind).astype(np.int8), failing=None)


def expected_of(answer: Answer) -> dict[str, Any]:
    """The class part of an answer, whole and for each piece.

    `answer` of a piece is "unsat" where every cell in it keeps the class, "sat" where one does not and a
    point of it replays in the original model, else "unknown"; in all it is "sat" where one piece's is, and
    "unsat" where all are. Shares are of the whole box.
    """
    problem, map_ = answer.problem, of_class(answer.map)
    where = piece_of_cells(map_.cells, problem.pieces)
    whole = map_.volume.sum() + map_.rest
    witness = find_witness(problem, map_, "linf")
    shares = {
        name: float(map_.volume[map_.kind == kind].sum() / whole)
        for name, kind in (("class_kept", ROBUST), ("class_changed", CLASS_CHANGED))
    }
    pieces = [_of_piece(answer, map_, np.flatnonzero(where == piece)) for piece in range(len(problem.pieces))]
    told = {piece["answer"] for piece in pieces}
    return {
        "method": answer.result.method,
        "answer": "sat" if "sat" in told else "unsat" if told == {"unsat"} else "unknown",
        "label": problem.label,
        "parameters": [p.name for p in problem.perturbation.parameters],
        "box": problem.box.tolist(),
        "shares": {**shares, "undecided": max(0.0, 1.0 - sum(shares.values()))},
        "safe_scale_of_class": safe_scale(map_, problem.box),
        "nearest_class_change": None if witness is None else list(witness.failure.theta),
        "pieces": pieces,
    }


def _of_piece(answer: Answer, map_: CellMap, cells: np.ndarray) -> dict[str, Any]:
    kinds, known = map_.kind[cells], not map_.rest and len(cells) > 0
    if known and (kinds == ROBUST).all() and map_.ties is None:
        return {"answer": "unsat", "witness": None}
    if (kinds == CLASS_CHANGED).any():
        kept = np.where(np.isin(np.arange(len(map_.kind)), cells), map_.kind, UNDECIDED).astype(np.int8)
        witness = find_witness(answer.problem, replace(map_, kind=kept), "linf")
        if witness is not None:
            return {"answer": "sat", "witness": list(witness.failure.theta)}
    return {"answer": "unknown", "witness": None}
