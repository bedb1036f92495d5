"""An independent checker of steadygaze's certificates: see docs/checker.md for what it proves and how.

It shares no code with steadygaze. In the order in which it is read: `folder` (the certificate, as hostile
input), `arithmetic` (exact numbers, and bounds of rounding), `network` (network.onnx), `values` (values and
gradients with error bounds), `points` (maps compared, and single points, exactly), `cells` (what is proven of
each cell), `tiling` (that cells cover the box), `claims`, `command`.
"""

import os
import signal


def main() -> int:
    """The program. Ctrl-C ends it at once, also while the libraries are read in that may let it pass."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stopped)
    from steadygaze_check.command import main as run

    return run()


def _stopped(*_: object) -> None:
    os.write(2, b"steadygaze-check: nothing is proven: it was stopped before the end; ask again\n")
    os._exit(130)
