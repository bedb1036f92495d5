"""The folder that other verifiers are handed."""

from __future__ import annotations

import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
from jinja2 import Environment

from steadygaze.errors import NotJointlyAffine, PerturbationError, SettingError
from steadygaze.export.expectation import expected_of
from steadygaze.export.parameter_network import parameter_network
from steadygaze.export.properties import vnnlib_1, vnnlib_2
from steadygaze.geometry.domain import domain_of
from steadygaze.network.writing.onnx_writer import Writer, onnx_of
from steadygaze.perturbation.chain import Chain
from steadygaze.placing import folder_made
from steadygaze.verdict.answer import Answer

_INDEX = "expected.json"
_README = """\
# A class question, for any verifier of neural networks

Made by {{ maker }}. Is the class of this image {{ label }} all over the range of the parameters?

{% for name, low, high in parameters -%}
- `theta[{{ loop.index0 }}]` is {{ name }}, from {{ low }} to {{ high }}
{% endfor %}
| file | what it is |
|---|---|
{% for piece in pieces -%}
| `{{ piece }}.onnx` | from theta (1, {{ parameters | length }}) to the logits (1, {{ classes }}): the perturbed image, the clip, the network; {{ precision }} |
| `{{ piece }}.vnnlib`, `{{ piece }}.2.vnnlib` | the property of that network, as VNN-LIB 1.0 and 2.0 |
{% endfor -%}
| `expected.json` | what steadygaze says, in all and of each piece |

The perturbed image is affine in theta on each of {{ pieces | length }} piece(s); there is one network and one property for
each, and the properties' domains tile the range. A property states a counterexample: theta in the piece, and another logit
that is at least that of class {{ label }}. `sat` means that there is one, `unsat` that the class holds all over the piece.

The class is all that these files ask. Whether the saliency map stays where it should be cannot be said in VNN-LIB.
The clip is written by two ReLUs. {{ rounding }}
"""  # noqa: E501 -- a table's row is one line


def check_exportable(chain: Chain, image: np.ndarray) -> None:
    """Raise SettingError, before any long work, for a perturbation that is no affine image on pieces.

    Whether it fits the image is asked later: a grey image may become RGB for the network.
    """
    try:
        chain.affine_pieces(image)
    except NotJointlyAffine as error:
        cause = str(error).split(":")[0].split(", so that")[0]
        raise SettingError(
            f"{cause}, and an export writes the image as an affine function of the parameters on each of its "
            "pieces; leave it out, or fix its parameters as constants"
        ) from error
    except PerturbationError:
        return


def write_export(answer: Answer, folder: Path, float64: bool = False) -> list[Path]:
    """Write networks, properties, README.md and expected.json into a folder; returns the paths.

    Files are made beside the folder, which appears with all of them at once. Where it is there already they
    are moved in at the end and replace those of an earlier export, all or none; others are left alone.
    float64: the networks' numbers as they are; by default rounded to single precision, which is what most
    verifiers read and the only precision in which onnxruntime convolves.
    Raises SettingError where the folder cannot be written.
    """
    place = folder.absolute()
    try:
        parent = place.parent
        with (
            folder_made(parent),
            tempfile.TemporaryDirectory(dir=parent, prefix=f".{place.name}-") as beside,
        ):
            fresh, aside = Path(beside, "fresh"), Path(beside, "aside")
            fresh.mkdir()
            aside.mkdir()
            _write(answer, fresh, float64)
            made = sorted(path.name for path in fresh.iterdir())
            if place.exists():
                _moved_in(fresh, place, aside)
            else:
                fresh.replace(place)
    except OSError as error:
        raise SettingError(
            f"the export cannot be written to {str(folder)!r} ({error.strerror}); choose another --out"
        ) from error
    return [folder / name for name in made]


def _moved_in(fresh: Path, folder: Path, aside: Path) -> None:
    """Replace an earlier export by the new one; whatever comes between, the earlier one is put back.

    expected.json, which lists the files, goes first and comes last: without it there is no export.
    """
    own = [path.name for path in fresh.iterdir()]
    earlier = {path.name for path in folder.glob("piece-*")} | {
        name for name in own if (folder / name).exists()
    }
    moved: list[tuple[Path, Path]] = []
    try:
        for name in sorted(earlier, key=lambda name: name != _INDEX):
            moved.append((folder / name, aside / name))
            (folder / name).replace(aside / name)
        for name in sorted(own, key=lambda name: name == _INDEX):
            moved.append((fresh / name, folder / name))
            (fresh / name).replace(folder / name)
    except BaseException:  # an interrupt, too
        for before, after in reversed(moved):
            if after.exists() and not before.exists():
                after.replace(before)
        raise


def _write(answer: Answer, folder: Path, float64: bool) -> None:
    problem = answer.problem
    kind = "float64" if float64 else "float32"
    graph, names = problem.network.graph.to("cpu"), [f"piece-{k}" for k in range(len(problem.pieces))]
    expected = expected_of(answer)
    for name, piece, own in zip(names, problem.pieces, expected["pieces"], strict=True):
        network = parameter_network(graph, piece.image, problem.clip)
        writer = Writer(np.float64 if float64 else np.float32, batch=1, pooling=True)
        model = onnx_of(network, writer, "theta", "logits")
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))
        domain = domain_of(piece.polytope)
        about = [
            f"{name}.onnx: is there theta in this piece where class {problem.label} is not the only largest?"
        ]
        (folder / f"{name}.vnnlib").write_text(vnnlib_1(domain, problem.label, graph.classes, about))
        (folder / f"{name}.2.vnnlib").write_text(vnnlib_2(domain, problem.label, graph.classes, about, kind))
        own |= {"network": f"{name}.onnx", "property": f"{name}.vnnlib", "property_2": f"{name}.2.vnnlib"}
    text = json.dumps(expected, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / _INDEX).write_text(f"{text}\n", encoding="utf-8")
    (folder / "README.md").write_text(_readme(answer, names, float64), encoding="utf-8")


def _readme(answer: Answer, names: list[str], float64: bool) -> str:
    problem = answer.problem
    return (
        Environment(keep_trailing_newline=True)
        .from_string(_README)
        .render(
            maker=f"steadygaze {version('steadygaze')}",
            label=problem.label,
            classes=problem.graph.classes,
            parameters=[(p.name, p.low, p.high) for p in problem.perturbation.parameters],
            pieces=names,
            precision="float64" if float64 else "float32",
            rounding="In floating point that may differ from a clip in the last place."
            if float64
            else "Numbers are rounded to float32: where weights were not float32 before, or normalisation is "
            "folded into them, this is a slightly different network (export --float64 rounds none).",
        )
    )
