"""The kinds of a cell, as the integers that arrays hold (the order of `result.KINDS`)."""

from __future__ import annotations

ROBUST, CLASS_CHANGED, ATTENTION_CHANGED, UNDECIDED = range(4)
