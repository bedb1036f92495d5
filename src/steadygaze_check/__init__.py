"""An independent checker of steadygaze's certificates: see docs/checker.md for what it proves and how.

It shares no code with steadygaze. In the order in which it is read: `folder` (the certificate, as hostile
input), `arithmetic` (exact numbers, and bounds of rounding), `network` (network.onnx), `values` (values and
gradients with error bounds), `points` (maps compared, and single points, exactly), `cells` (what is proven of
each cell), `tiling` (that cells cover the box), `claims`, `command`.
"""
