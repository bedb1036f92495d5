"""The network over boxes of parameters: sound bounds, forward and backward."""
