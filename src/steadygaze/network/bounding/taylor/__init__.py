"""Values over boxes as polynomials in the coordinates, plus or minus an error: Taylor models."""
