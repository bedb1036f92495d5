"""The network on activation regions: stage by stage, from a boundary point, and the maps of a batch."""
