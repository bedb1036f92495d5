"""Modules become one script, each after those that it needs, and nothing of their imports is left."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

from steadygaze.report.inlining import script, source_hash, style

FOLDER = files("steadygaze.report").joinpath("browser")


def test_every_module_is_in_the_script_once_and_after_what_it_imports():
    text = script("report")
    names = [file.name.removesuffix(".js") for file in FOLDER.iterdir() if file.name.endswith(".js")]
    for name in names:
        assert text.count(f"const from_{name} = ") == (name != "report")
        source = FOLDER.joinpath(f"{name}.js").read_text(encoding="utf-8")
        for other in re.findall(r'from "\./([a-z]+)\.js"', source):
            assert name == "report" or text.index(f"const from_{other} = ") < text.index(
                f"const from_{name} = "
            )
    assert not re.search(r"^(import|export) ", text, re.MULTILINE)


def test_what_is_imported_is_exported():
    for file in FOLDER.iterdir():
        source = file.read_text(encoding="utf-8")
        for wanted, other in re.findall(
            r'^import \{([^}]*)\} from "\./([a-z]+)\.js";$', source, re.MULTILINE
        ):
            exported = FOLDER.joinpath(f"{other}.js").read_text(encoding="utf-8")
            for name in wanted.split(","):
                assert re.search(
                    rf"^export (async )?(function|class|const) {name.strip()}\b", exported, re.MULTILINE
                )


def test_a_script_cannot_end_its_element_and_files_are_short():
    assert "</script" not in script("report")
    assert "</style" not in style("report", "pointing")
    for file in FOLDER.iterdir():
        assert file.read_text(encoding="utf-8").count("\n") <= 450


def test_the_policy_names_the_text_by_its_hash():
    text = "let θ = 0;\n"
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert source_hash(text) == f"'sha256-{digest}'"
