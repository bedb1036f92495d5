"""steadygaze proves how far an image may change before a classifier changes its answer, or its reason."""
