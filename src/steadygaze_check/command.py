"""The command line: `steadygaze-check CERTIFICATE [--model ORIGINAL] [--json FILE]`."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from steadygaze_check.cells import Examiner
from steadygaze_check.claims import CERTIFIED, OPEN, REFUTED, Judge, Proven, Report
from steadygaze_check.faces import Faces
from steadygaze_check.folder import CLASS_CHANGED, UNDECIDED, BadCertificate, Certificate, demand, read
from steadygaze_check.network import Network
from steadygaze_check.points import Points, borders

_POINTS, _SECONDS, _COMPARED, _SEED = 256, 15.0, 16, 20260714
_RUNNABLE = "Abs Add Asinh Atan Clip Concat Conv Cos Div Erf Exp Flatten Gather Gemm Greater Identity"
_RUNNABLE += " Log MatMul Max MaxPool Min Mul PRelu Pad Pow ReduceMax ReduceMean Relu Reshape Sigmoid"
_RUNNABLE += " Sin Slice Softmax Softplus Sqrt Sub Tanh Transpose Where"
# What logits go through at the end of a network that tells probabilities, and what leaves them as they are.
_ENDING = "Cast Flatten Gather Identity Log LogSoftmax Reshape Sigmoid Slice Softmax Squeeze Transpose"
_ENDING += " Unsqueeze"
_JOINING = "Concat"  # 1 - p and p, of a single logit
_ALIKE = 1e-3  # how far probabilities may be off those of the logits, by whatever precision the file has
_ENDS = {0: "All claims are certified.", 10: "A claim is refuted.", 20: "Not everything could be certified."}


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if all claims are certified, 10 if one is refuted, 20 if one is not certified, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="steadygaze-check", description=__doc__)
    parser.add_argument("certificate", type=Path, help="the folder that steadygaze wrote")
    parser.add_argument("--model", type=Path, help="the original ONNX file, to be compared with network.onnx")
    parser.add_argument("--json", type=Path, help="write the report to this file, too")
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    try:
        certificate = read(options.certificate)
        report = check(certificate)
        if options.model is not None:
            report.add("original", (True, *_compared(certificate, options.model.read_bytes())))
        asked = "the class alone" if certificate.class_alone else "class and attention"
        report.numbers |= {"asked": asked, "seconds": round(time.perf_counter() - began, 3)}
        if options.json is not None:
            findings = [{"claim": n, "status": s, "text": t} for n, s, t in report.findings]
            content = {"exit_code": report.code, "theta": report.theta, "findings": findings} | report.numbers
            options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        print(f"{len(certificate.cell_kind)} cells of {certificate.dimension} parameters; asked: {asked}")
        for name, status, text in report.findings:
            print(f"  {status:>13}  {name}: {''.join(each if each.isprintable() else '?' for each in text)}")
        print(f"At θ = {report.theta}\n" if report.theta else "", _ENDS[report.code], sep="", flush=True)
    except Exception as problem:
        print(f"steadygaze-check: nothing is proven: {' '.join(_told(problem).split())}", file=sys.stderr)
        return 2
    return report.code


def _told(problem: Exception) -> str:
    """What went wrong, in a sentence."""
    if isinstance(problem, BadCertificate):
        return str(problem)
    if isinstance(problem, OSError):
        return f"{problem.filename} cannot be read or written ({problem.strerror}); give another path"
    # A folder that gets past `folder` and fails is broken in a way that was not foreseen.
    return (
        f"this is no certificate as docs/formats.md has it ({type(problem).__name__}: {problem}); hand over "
        "the folder `certificate` of an answer, as it was written"
    )


def check(certificate: Certificate) -> Report:
    """Everything that is proven, refuted or left open about a certificate."""
    question, label = certificate.question, certificate.question["label"]
    try:
        _provable(certificate)
        network = Network(certificate.network, certificate.image.shape, question["classes"], question["clip"])
    except BadCertificate as problem:
        return _by_points(certificate, str(problem))
    points, count, report = Points(certificate, network), len(certificate.cell_kind), Report()
    examiner = Examiner(certificate, network, points.comparison)
    kind, shrink, volume = np.full(count, UNDECIDED, np.int8), np.zeros(count), np.zeros(count)
    for cells in examiner.batches():
        kind[cells], shrink[cells], volume[cells] = examiner.examine(cells)
    best = max(range(question["classes"]), key=points.origin_logits.__getitem__)
    away = float(np.abs(certificate.piece_base[points.origin_piece] - certificate.image).max())
    text = f"{label}; the network says {best} at θ = 0, where the image is {away:.3g} off image.npy"
    report.add(
        "label",
        (best != label, REFUTED, text, np.zeros(certificate.dimension)),
        (True, CERTIFIED if away <= 1e-12 else OPEN, text),
    )
    faces = Faces(examiner.ties, certificate.width)
    return Judge(certificate, points, Proven(kind, shrink, volume, faces, examiner.torn), report).all()


def _provable(certificate: Certificate) -> None:
    """Raise BadCertificate, with the reason, if nothing can be proven of this question."""
    question, arrays = certificate.question, certificate.arrays
    saliency, measure = (f"{question[each]['name']:.40}" for each in ("saliency", "inconsistency"))
    followed = measure in ("cosine", "l2") and "moves_piece" in arrays
    least, most = certificate.width.min(), certificate.width.max()
    counted = "wide, and this program counts its own rounding for those from 1e-12 to 1e12 alone"
    demand(1e-12 <= least <= most <= 1e12, f"ranges are from {least:.3g} to {most:.3g} {counted}")
    demand(saliency in ("gradient", "abs-gradient", "none"), f"{saliency} maps are not followed")
    demand(measure in ("cosine", "l2", "l1", "linf", "none"), f"{measure} is not bounded")
    demand(len(arrays["piece_base"]), "the image is not piecewise affine in the parameters")
    demand(followed or not question["moves_map"], f"{measure} of expected maps that move is not bounded")


def _by_points(certificate: Certificate, why: str) -> Report:
    """The classes at points of cells, by onnx's own reference evaluator; this proves nothing."""
    report, looked, failed, label = Report(), 0, 0, certificate.question["label"]
    began = time.perf_counter()
    # No operator that runs other graphs, or makes more than it was handed.
    nodes = onnx.load_model_from_string(certificate.network).graph.node
    other = sorted({f"{node.op_type:.40}" for node in nodes} - {*_RUNNABLE.split()})
    which = f"its network of {len(nodes)} operators {', '.join(other)[:200]}"
    demand(len(nodes) < 5000 and not other, f"{which} is not one that can be looked at: {why}")
    for theta, image, told in _places(certificate):
        if time.perf_counter() - began > _SECONDS:
            break
        try:
            logits = _logits(certificate.network, _clipped(certificate, image)[None])
        except Exception:  # whatever it raises, it is no proof of anything
            failed += 1
            continue
        looked, changed = looked + 1, told == CLASS_CHANGED
        gap = logits[label] - np.delete(logits, label).max(initial=-np.inf)
        if abs(gap) > 1e-6 * max(1.0, np.abs(logits).max()) and (gap < 0) != changed:
            text = f"a cell is not what it is called: its class gap at a point inside is {gap:.6g}"
            report.add("kinds", (True, REFUTED, text, theta))
            return report
    demand(looked or not failed, f"its network cannot be run: {why}")
    text = f"checked at {looked} points, not certified: {why}; only the class was looked at"
    report.add("kinds", (True, OPEN, text))
    return report


def _places(certificate: Certificate) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Points, the images there before the clip, and what their cells are called."""
    c, draw = certificate, np.random.default_rng(_SEED)
    usable = np.flatnonzero((c.cell_piece >= 0) & (c.cell_kind != UNDECIDED))
    for cell in draw.permutation(usable)[:_POINTS]:
        corners, piece = c.corners(cell), int(c.cell_piece[cell])
        theta = draw.dirichlet(np.ones(len(corners))) @ corners
        if (borders(c, piece, theta[None])[0] >= 0).all():
            yield theta, _unclipped(c, piece, theta), int(c.cell_kind[cell])
    spots = c.vertices[c.cell_vertex]
    low, high = (each.reduceat(spots, c.cell_ptr[:-1], axis=0) for each in (np.minimum, np.maximum))
    for theta, image in zip(c.arrays.get("sample_theta", ()), c.arrays.get("sample_image", ()), strict=True):
        kinds = set(c.cell_kind[((low <= theta) & (theta <= high)).all(axis=1)].tolist())
        if len(kinds) == 1 and UNDECIDED not in kinds:
            yield theta, image, kinds.pop()


def _unclipped(certificate: Certificate, piece: int, theta: np.ndarray) -> np.ndarray:
    """The image at θ before the clip, ``(C, H, W)``."""
    return certificate.piece_base[piece] + np.tensordot(theta, certificate.piece_directions[piece], axes=1)


def _clipped(certificate: Certificate, image: np.ndarray) -> np.ndarray:
    """What the network is handed."""
    clip = certificate.question["clip"]
    return image if clip is None else np.clip(image, *clip)


def _logits(network: bytes, pixels: np.ndarray) -> np.ndarray:
    """What onnx's reference evaluator makes of pixels, at the network's first output."""
    return next(iter(_values(network, pixels).values()))


def _values(network: bytes, pixels: np.ndarray, asked: str | None = None) -> dict[str, np.ndarray]:
    """The outputs at pixels, shaped and rounded as the network takes them, or the value asked for.

    And what these are a softmax or another shape of, as their numbers show: by onnx's own reference
    evaluator.
    """
    model: Any = onnx.load_model_from_string(network)
    taken = model.graph.input[0].type.tensor_type
    shape = [max(1, size.dim_value) for size in taken.shape.dim]
    given = pixels.reshape(shape).astype(np.float64 if taken.elem_type == 11 else np.float32)
    inside = any(asked in node.output for node in model.graph.node)
    outputs: list[Any] = [asked] if inside else [each.name for each in model.graph.output]
    names = [*outputs]
    for node in reversed(model.graph.node):
        if node.op_type in (*_ENDING.split(), _JOINING) and {*node.output} & {*names}:
            names += node.input if node.op_type == _JOINING else node.input[:1]
    found: Any = ReferenceEvaluator(model).run(names, {model.graph.input[0].name: given})
    kept = ((name, value) for name, value in zip(names, found, strict=True) if isinstance(value, np.ndarray))
    made = {name: value.astype(np.float64).reshape(-1) for name, value in kept if value.dtype.kind in "fiu"}
    ends = [made[name] for name in outputs if name in made]
    return {name: value for name, value in made.items() if any(_tells(end, value) for end in ends)}


def _tells(end: np.ndarray, logits: np.ndarray) -> bool:
    """Whether the numbers at the end are these logits, in their order, or probabilities of their classes."""
    with np.errstate(all="ignore"):
        sigmoid = np.exp(-np.logaddexp(0.0, -logits))
        shares = logits - np.logaddexp.reduce(logits)
        forms = [logits, sigmoid, np.exp(shares), shares]
    if logits.size == 1:
        forms.append(np.concatenate([1 - sigmoid, sigmoid]))
    alike = (form for form in forms if form.size == end.size)
    return any(np.allclose(end, form, _ALIKE, _ALIKE, equal_nan=True) for form in alike)


def _compared(certificate: Certificate, original: bytes) -> tuple[str, str]:
    """Whether the original file is the one that was certified, and gives the same logits at points."""
    about, draw, scale = certificate.model, np.random.default_rng(_SEED), 1.0
    if hashlib.sha256(original).hexdigest() != about.get("sha256"):
        return REFUTED, "the original does not have the SHA-256 that the certificate names"
    mean, std = (np.reshape(about.get(k) or d, (-1, 1, 1)) for k, d in (("mean", 0.0), ("std", 1.0)))
    off, values = dict[str, list[float]](), dict[str, np.ndarray]()
    for _ in range(_COMPARED):
        theta = certificate.box[:, 0] + draw.random(certificate.dimension) * certificate.width
        image = _clipped(certificate, _unclipped(certificate, 0, theta))
        given = (image - mean) / std * (about.get("scale") or 1.0)
        given = given.transpose(1, 2, 0) if about.get("layout") == "hwc" else given
        try:
            values, told = _values(original, given, about.get("output")), _logits(certificate.network, image)
        except Exception as problem:  # onnx has no common class of exceptions
            return OPEN, f"onnx cannot run both networks: {str(problem)[:80]!r}"
        scale = max(scale, float(np.abs(told).max()))
        for name, value in values.items():
            # A single logit z stands for two classes, (0, z).
            logits = np.append(0.0, value) if value.size == 1 and told.size == 2 else value
            if logits.size == told.size:
                far = float(np.nan_to_num(np.abs(logits - told).max(), nan=np.inf))
                off.setdefault(name, []).append(far)
    # What the outputs tell of at some points alone is not theirs.
    most = {name: max(each) for name, each in off.items() if len(each) == _COMPARED}
    if not most:
        return OPEN, f"none of its values {', '.join(values)[:80]!r} has as many entries as there are classes"
    name, worst = min(most.items(), key=lambda pair: pair[1])
    if worst > 1e-3 * scale:
        return REFUTED, f"its logits differ by {worst:.2e} from those of network.onnx"
    where = f"logits ({name[:80]!r}) within {worst:.2e} at 16 points"
    return CERTIFIED, f"same SHA-256; {where} (checked, not certified)"
