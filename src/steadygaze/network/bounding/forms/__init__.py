"""Affine forms carried forward through layers, and gradients carried back as forms."""
