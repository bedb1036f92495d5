"""The program ``steadygaze``, which ``python -m steadygaze`` is, too."""

from __future__ import annotations

import os
import signal
from typing import NoReturn


def main() -> NoReturn:
    """The program. Ctrl-C ends it at once while it is being read in, which takes a tenth of a second."""
    own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if own:
        signal.signal(signal.SIGINT, _stopped)
    from steadygaze.cli import main as run

    if own:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


def _stopped(*_: object) -> None:
    os.write(2, b"error: interrupted before there was an answer; nothing was written\n")
    os._exit(130)


if __name__ == "__main__":
    main()
