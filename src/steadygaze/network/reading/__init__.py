"""From a file or a module to a graph that is shown to be the same function."""
