"""Perturbations of an image: the public list."""

from __future__ import annotations

from steadygaze.perturbation.affine import AbstractAffinePerturbation, AbstractPiecewiseAffinePerturbation
from steadygaze.perturbation.chain import AbstractPerturbation, Chain
from steadygaze.perturbation.composed import Affine
from steadygaze.perturbation.curved import Blur, Gamma, Hue
from steadygaze.perturbation.geometric import Translate
from steadygaze.perturbation.occlusion import Patch
from steadygaze.perturbation.perspective import Perspective
from steadygaze.perturbation.photometric import Blend, Brightness, Contrast, Direction, Exposure, Saturation
from steadygaze.perturbation.records import AffineImage, AffinePiece, Parameter
from steadygaze.perturbation.resampling import Rotate, Scale, Shear

#: Every perturbation that a specification can name.
BUILT_IN: tuple[type[AbstractPerturbation], ...] = (
    Brightness,
    Contrast,
    Exposure,
    Saturation,
    Patch,
    Blend,
    Direction,
    Translate,
    Rotate,
    Scale,
    Shear,
    Affine,
    Perspective,
    Hue,
    Gamma,
    Blur,
)

__all__ = [
    "BUILT_IN",
    "AbstractAffinePerturbation",
    "AbstractPerturbation",
    "AbstractPiecewiseAffinePerturbation",
    "Affine",
    "AffineImage",
    "AffinePiece",
    "Blend",
    "Blur",
    "Brightness",
    "Chain",
    "Contrast",
    "Direction",
    "Exposure",
    "Gamma",
    "Hue",
    "Parameter",
    "Patch",
    "Perspective",
    "Rotate",
    "Saturation",
    "Scale",
    "Shear",
    "Translate",
]
