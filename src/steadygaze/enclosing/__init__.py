"""Numbers, functions and images over boxes, each with what rounding and curving may add."""
