"""An answer as numbers that a program which shares nothing with this one can prove or refute.

The form is `steadygaze/certificate/2`, which docs/formats.md describes.
"""
