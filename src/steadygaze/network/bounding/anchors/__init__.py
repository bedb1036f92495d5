"""Values over small boxes as differences from those at a point, which are known to twice the precision."""
