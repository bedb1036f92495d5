"""Studies made with the package: each a folder of its own, with one command to run and one to report."""
