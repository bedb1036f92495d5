"""What works without a file of one's own: scikit-learn's digits, and two small networks trained on them.

The images are the 1,797 scans of handwritten digits that scikit-learn carries (E. Alpaydin and C. Kaynak,
"Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998): 8 by 8 pixels, 17 levels
of grey. The networks are ONNX files in the package's models/, made by scripts/train_digits.py; one image
in five was held out from their training.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from steadygaze.errors import ImageError, ModelError

LEVELS = 16
"""The brightest value of a scan; the darkest is 0."""

BUILTIN_MODELS = ("digits-cnn", "digits-mlp")


def is_held_out(index: int) -> bool:
    """Whether the built-in networks never saw this image in training."""
    return index % 5 == 2


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """All scans, float64 (1797, 1, 8, 8) in [0, 1], and their labels, int64 (1797,); both read-only."""
    from sklearn.datasets import load_digits  # slow to import, and nothing else needs it

    scans, labels = load_digits(return_X_y=True)
    images = (np.asarray(scans) / LEVELS).reshape(-1, 1, 8, 8)
    labels = np.asarray(labels, np.int64)
    images.flags.writeable = labels.flags.writeable = False
    return images, labels


def digit(index: int) -> tuple[np.ndarray, int]:
    """One scan, float64 (1, 8, 8) with values in [0, 1], and its label.

    Raises ImageError where there is no such scan.
    """
    images, labels = digits()
    if not 0 <= index < len(images):
        raise ImageError(
            f"There is no digit {index}: the digits are numbered 0 to {len(images) - 1}; choose one of them."
        )
    return images[index].copy(), int(labels[index])


def builtin_model(name: str) -> Path:
    """The ONNX file of a network that ships with the package: float32 (N, 1, 8, 8) in, logits (N, 10) out.

    Raises ModelError where no network has that name.
    """
    if name not in BUILTIN_MODELS:
        raise ModelError(
            f"There is no built-in network {name!r}: use {' or '.join(BUILTIN_MODELS)}, or a file's path."
        )
    return Path(__file__).parent.parent / "models" / f"{name}.onnx"
