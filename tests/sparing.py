"""Some cases of a family every day, the others among the slow tests: they differ in a parameter alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def sparing(cases: Iterable[Any], one_in: int = 2, first: int = 0) -> list[Any]:
    """The cases as parameters; one in so many, counted from `first`, is asked every day."""
    return [
        pytest.param(case, id=str(case), marks=[] if number % one_in == first else [pytest.mark.slow])
        for number, case in enumerate(cases)
    ]
