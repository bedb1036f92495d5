"""The class question, handed to other verifiers: networks from parameters to logits, and VNN-LIB."""
