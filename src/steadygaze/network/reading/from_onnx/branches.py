"""Branches of ONNX files: `If` on what is known on reading, such as the number of axes of a value.

Exporters write it where they do not follow a shape. Of its two branches one is walked, in the place of the
node; a condition that is computed from the image is no branch that a proof could take.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto

from steadygaze.errors import ModelError


def taken(node: NodeProto, condition: Any, title: str) -> GraphProto:
    """The branch that the condition names. Raises ModelError where it is not known on reading."""
    if not isinstance(condition, np.ndarray) or condition.size != 1:
        raise ModelError(
            f"{title} takes one branch or another by what is computed from the image, allowed are networks "
            "that do the same steps for every image; write both as one, with maximum, minimum or clamp"
        )
    branches: Mapping[str, GraphProto] = {one.name: one.g for one in node.attribute}
    return branches["then_branch" if bool(condition.reshape(())) else "else_branch"]
