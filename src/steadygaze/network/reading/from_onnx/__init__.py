"""ONNX files -> graph: the file opened, its nodes walked, each by its rule in a table."""
