"""The answers that pages show, once for each process that tests."""

from __future__ import annotations

import pytest

from pointed import answer
from steadygaze.report import figures, still


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Gives the folder of a case's answer, which is written with a small still map where one is asked for."""
    folders = {}

    def write(case: str, picture: bool = False):
        if (case, picture) not in folders:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(figures, "PIXELS", 100)
                patched.setattr(still, "DOTS_PER_INCH", 30)
                folder = tmp_path_factory.mktemp("answer")
                folders[case, picture] = answer(case).save(folder, picture=picture)
        return folders[case, picture]

    return write
