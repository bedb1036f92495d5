"""Linear bounds carried backward, row by row, and the lines between which they see the layers."""
