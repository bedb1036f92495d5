"""From the one graph form to files that other programs read."""
