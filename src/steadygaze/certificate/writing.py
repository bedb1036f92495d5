"""The whole certificate of an answer: the question in numbers, the map, and the claims."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from steadygaze.answer.result import Result
from steadygaze.certificate.cells import write_map
from steadygaze.certificate.files import Files
from steadygaze.certificate.question import beyond_proof, pieces_of, write_question
from steadygaze.errors import SettingError
from steadygaze.question.problem import Problem
from steadygaze.search.base import CellMap

FORMAT = "steadygaze/certificate/2"
INDEX = "certificate.json"


def check_certifiable(map_: CellMap) -> None:
    """Raise SettingError where the map has no cells that cover the box."""
    if map_.inner:
        raise SettingError(
            "a certificate holds the cells of the map, and with so many parameters the search keeps "
            "half-spaces instead of cells; fix some of the parameters, use --method bound, or leave the "
            "certificate out"
        )


def write_certificate(
    result: Result, problem: Problem, map_: CellMap, origin: np.ndarray, folder: Path
) -> None:
    """Write certificate.json and what it names into `folder`, which is there and empty.

    origin: numbers in the map of the cells of R0.
    Raises SettingError where the map has no cells, the network is too large, or the expected map is not
    linear in the original one.
    """
    check_certifiable(map_)
    files = Files(folder)
    question = write_question(problem, files)
    told = write_map(map_, pieces_of(problem), origin, result, problem.box, files)
    files.index(
        INDEX,
        {
            "format": FORMAT,
            "made_by": f"steadygaze {version('steadygaze')}",
            "method": result.method,
            "beyond_proof": beyond_proof(problem),
            "model": _model(problem),
            "files": files.written,
            "question": question,
            "map": told,
            "claims": _claims(result),
        },
    )


def _model(problem: Problem) -> dict[str, Any]:
    """The original as the user named it, and how it is handed pixels."""
    network, wanted = problem.network, problem.network.original.preparation
    return {
        "path": network.path,
        "sha256": network.sha256,
        "layout": wanted.layout,
        "mean": list(wanted.mean),
        "std": list(wanted.std),
        "scale": wanted.scale,
        "output": network.output,
    }


# What an answer says of its nearest failure beyond what the checker looks at is no claim of a certificate.
_NOT_CHECKED = ("inconsistency", "margin")


def _claims(result: Result) -> dict[str, Any]:
    document = result.to_dict()
    origin, failure = document["origin"], document["nearest_failure"]
    if failure:
        own = failure["distance"] if failure["theta_distance"] is None else failure["theta_distance"]
        failure |= {"theta_distance": own, "norm": document["settings"].get("norm", "linf")}
        failure = {name: value for name, value in failure.items() if name not in _NOT_CHECKED}
        failure["nearest"] = result.failure_name() == "nearest failure"
    return {
        "verdict": document["verdict"],
        "shares": document["shares"],
        "safe_scale": document["safe_scale"],
        "radius": document["radius"],
        "origin": origin and {key: origin[key] for key in ("share", "ranges", "interior", "complete")},
        "nearest_failure": failure,
    }
