"""Run by an interpreter that has maraboupy: ask Marabou about properties of networks.

    python marabou_boxes.py QUESTIONS.json

QUESTIONS.json is a list of {"network", "property"}; printed is a list of {"answer", "theta"}, as JSON on the
last line.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from maraboupy import Marabou, MarabouCore

SECONDS = 60


def answer(network: str, wanted: str) -> dict[str, object]:
    """Marabou's answer, and its counterexample."""
    read = Marabou.read_onnx(network)
    query = read.getInputQuery()
    MarabouCore.loadProperty(query, wanted)
    options = Marabou.createOptions(verbosity=0, timeoutInSeconds=SECONDS)
    told, values, *_ = MarabouCore.solve(query, options, "")
    inputs = read.inputVars[0].reshape(-1).tolist()
    return {"answer": told, "theta": [values[i] for i in inputs] if told == "sat" else None}


if __name__ == "__main__":
    questions = json.loads(Path(sys.argv[1]).read_text())
    told = json.dumps([answer(each["network"], each["property"]) for each in questions])
    sys.stdout.write(f"\n{told}\n")
