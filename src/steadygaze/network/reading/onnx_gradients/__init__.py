"""ONNX files evaluated node by node in float64, with gradients, which their own runtime does not give."""
