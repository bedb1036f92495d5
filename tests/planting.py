"""Faults that are planted into searches, for the tests of what notices them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from steadygaze.question.problem import Problem
from steadygaze.search import judging, sweep
from variants import Variant


def posed(variant: Variant) -> Problem:
    """A problem of its own, so that nothing computed before the fault is reused."""
    return replace(variant).problem


def gaps_with(monkeypatch, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Change the gaps that the sweep judges by, not those of plain evaluation."""
    plain = judging.judge

    def judged(problem, *rest):
        with pytest.MonkeyPatch.context() as inner:
            whole = Problem.gaps
            inner.setattr(Problem, "gaps", lambda self, logits: change(whole(self, logits)))
            return plain(problem, *rest)

    monkeypatch.setattr(sweep, "judge", judged)
