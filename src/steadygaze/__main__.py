"""``python -m steadygaze`` does what ``steadygaze`` does."""

from __future__ import annotations

from steadygaze.cli import main

if __name__ == "__main__":
    main()
