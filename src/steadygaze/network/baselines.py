"""Where the path of integrated gradients may begin, by name; apart, so that reading a plan needs no torch."""

BLACK, MEAN, GIVEN = "black", "mean", "given"
BASELINES = (BLACK, MEAN)
"""Names that a user may give; else an image."""
