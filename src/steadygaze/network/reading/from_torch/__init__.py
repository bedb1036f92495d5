"""PyTorch modules -> graph: a module traced, its operations walked, each by its rule in a table."""
