"""An independent checker of steadygaze's certificates: see docs/checker.md for what it proves and how.

It shares no code with steadygaze. Modules, in the order in which they are read: `folder` (the certificate,
as hostile input), `network` (network.onnx as a list of operations), `dyadic` (exact arithmetic), `balls`
(floating point with error bounds), `maps` (saliency maps and inconsistency), `kinds` (what is
proven of each cell),
`tiling` (that the cells cover the box), `claims` (what the certificate says of the whole), `command`.
"""
