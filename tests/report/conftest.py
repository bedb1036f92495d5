"""The answers that pages show, once for each process that tests."""

from __future__ import annotations

import pytest

from pointed import answer
from steadygaze.report import figures
from steadygaze.report import folder as module


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Gives the folder of a case's answer, which is written with a small still map."""
    folders = {}

    def write(case: str):
        if case not in folders:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(figures, "PIXELS", 100)
                patched.setattr(module, "DOTS_PER_INCH", 30)
                folders[case] = answer(case).save(tmp_path_factory.mktemp("answer"))
        return folders[case]

    return write
