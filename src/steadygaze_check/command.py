"""The command line: `steadygaze-check CERTIFICATE [--model ORIGINAL] [--json FILE]`."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from steadygaze_check.cells import Examiner
from steadygaze_check.claims import CERTIFIED, OPEN, REFUTED, Judge, Report
from steadygaze_check.folder import CLASS_CHANGED, KINDS, UNDECIDED, BadCertificate, Certificate, read
from steadygaze_check.network import Network
from steadygaze_check.points import Points, borders

_PROVABLE_MAPS, _PROVABLE_MEASURES = ("gradient", "abs-gradient"), ("cosine", "l2", "l1", "linf")
_POINTS, _SEED = 256, 20260714
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
            report.add("original", (True, *_compared(certificate, options.model)))
        report.numbers["seconds"] = round(time.perf_counter() - began, 3)
        if options.json is not None:
            findings = [{"claim": n, "status": s, "text": t} for n, s, t in report.findings]
            content = {"exit_code": report.code, "theta": report.theta, "findings": findings} | report.numbers
            options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        print(_text(certificate, report), flush=True)
    except Exception as problem:
        # A folder that gets past `folder` and fails is broken in a way that was not foreseen.
        known = isinstance(problem, BadCertificate)
        told = str(problem) if known else f"nothing is proven, for {type(problem).__name__}: {problem}"
        print(f"steadygaze-check: {' '.join(told.split())}", file=sys.stderr)
        return 2
    return report.code


def check(certificate: Certificate) -> Report:
    """Everything that is proven, refuted or left open about a certificate."""
    why = _beyond(certificate)
    if why is not None:
        return _by_points(certificate, why)
    question = certificate.question
    try:
        network = Network(
            certificate.network, certificate.image.shape, question["classes"], question.get("clip")
        )
    except BadCertificate as problem:
        return _by_points(certificate, str(problem))
    points = Points(certificate, network)
    examiner, count = Examiner(certificate, network, points.comparison), len(certificate.cell_kind)
    kind, shrink = np.full(count, UNDECIDED, np.int8), np.zeros(count)
    for cells in examiner.batches():
        kind[cells], shrink[cells] = examiner.examine(cells)
    report = Report()
    report.add("label", (True, *_origin(certificate, points)))
    return Judge(certificate, points, kind, shrink, report).all()


def _beyond(certificate: Certificate) -> str | None:
    """Why nothing can be proven of this question, if so."""
    question = certificate.question
    saliency, measure = question["saliency"]["name"], question["inconsistency"]["name"]
    if saliency not in _PROVABLE_MAPS:
        return f"{saliency!r:.40} maps vary within a cell in ways that this checker does not follow"
    if measure not in _PROVABLE_MEASURES:
        return f"{measure!r:.40} is not among what this checker bounds"
    if not len(certificate.piece_base):
        return "the image is not piecewise affine in the parameters"
    if question["moves_map"] and (measure not in ("cosine", "l2") or "moves_piece" not in certificate.arrays):
        return f"the expected map moves, which is followed for cosine and l2 only, not for {measure!r:.40}"
    return None


def _origin(certificate: Certificate, points: Points) -> tuple[Any, ...]:
    """The image at θ = 0 before the clip is the image handed over, and the network gives it the label."""
    label, logits = certificate.question["label"], points.origin_logits
    best = max(range(len(logits)), key=lambda k: logits[k])
    if best != label:
        theta = np.zeros(certificate.dimension)
        return REFUTED, f"at θ = 0 the network says {best}, not {label}", theta
    away = float(np.abs(certificate.piece_base[points.origin_piece] - certificate.image).max())
    declared = certificate.question.get("constant_amounts") is True
    text = f"the network says {label} at θ = 0, where the image is {away:.3g} off image.npy"
    return CERTIFIED if away <= 1e-12 or declared else OPEN, text


def _by_points(certificate: Certificate, why: str) -> Report:
    """The classes at points of cells, by onnx's own reference evaluator; this proves nothing."""
    draw, report, looked = np.random.default_rng(_SEED), Report(), 0
    usable = np.flatnonzero((certificate.cell_piece >= 0) & (certificate.cell_kind != UNDECIDED))
    for cell in draw.permutation(usable)[:_POINTS]:
        corners = certificate.corners(cell)
        theta = draw.dirichlet(np.ones(len(corners))) @ corners
        piece, told = int(certificate.cell_piece[cell]), int(certificate.cell_kind[cell])
        sides = borders(certificate, piece, theta[None])
        logits = None if sides is None or (sides[0] < 0).any() else _logits(certificate, piece, theta)
        if logits is None:
            continue
        looked += 1
        label = certificate.question["label"]
        gap = logits[label] - np.delete(logits, label).max()
        if abs(gap) > 1e-6 * max(1.0, np.abs(logits).max()) and (gap < 0) != (told == CLASS_CHANGED):
            text = f"cell {cell} is called {KINDS[told]}, and its class gap at a point inside is {gap:.6g}"
            report.add("kinds", (True, REFUTED, text, theta))
            return report
    text = f"checked at {looked} points, not certified: {why}; only the class was looked at"
    report.add("kinds", (True, OPEN, text))
    return report


def _image(certificate: Certificate, piece: int, theta: np.ndarray) -> np.ndarray:
    """What the network is handed at θ, ``(C, H, W)``."""
    image = certificate.piece_base[piece] + np.tensordot(theta, certificate.piece_directions[piece], axes=1)
    clip = certificate.question.get("clip")
    return image if clip is None else np.clip(image, *clip)


def _logits(certificate: Certificate, piece: int, theta: np.ndarray) -> np.ndarray | None:
    import onnx
    from onnx.reference import ReferenceEvaluator

    try:
        model = onnx.load_model_from_string(certificate.network)
        given = {model.graph.input[0].name: _image(certificate, piece, theta)[None]}
        result: Any = ReferenceEvaluator(model).run(None, given)
        return np.asarray(result[0][0], np.float64)
    except Exception:  # whatever it raises, it is no proof of anything
        return None


def _compared(certificate: Certificate, model: Path) -> tuple[str, str]:
    """Whether the original file is the one that was certified, and gives the same logits at points."""
    data = model.read_bytes()
    if hashlib.sha256(data).hexdigest() != certificate.model.get("sha256"):
        return REFUTED, f"{model} does not have the SHA-256 that the certificate names"
    try:
        import onnxruntime

        pair: list[Any] = [onnxruntime.InferenceSession(each) for each in (data, certificate.network)]
    except Exception as problem:  # onnxruntime has no common class of exceptions
        return OPEN, f"onnxruntime cannot run both networks: {str(problem)[:80]!r}"
    draw, worst, scale, about = np.random.default_rng(_SEED), 0.0, 1.0, certificate.model
    mean, std = (np.reshape(about.get(k) or d, (-1, 1, 1)) for k, d in (("mean", 0.0), ("std", 1.0)))
    theirs, ours = (session.get_inputs()[0] for session in pair)
    shape = [size if isinstance(size, int) and size > 0 else 1 for size in theirs.shape]
    for _ in range(16):
        theta = certificate.box[:, 0] + draw.random(certificate.dimension) * certificate.width
        image = _image(certificate, 0, theta)
        given = (image - mean) / std
        given = given.transpose(1, 2, 0) if about.get("layout") == "hwc" else given
        given = given.reshape(shape).astype(np.float64 if "double" in theirs.type else np.float32)
        one = pair[0].run(None, {theirs.name: given})[0].reshape(-1)
        two = pair[1].run(None, {ours.name: image[None]})[0].reshape(-1)
        worst, scale = max(worst, float(np.abs(one - two).max())), max(scale, float(np.abs(two).max()))
    if worst > 1e-3 * scale:
        return REFUTED, f"its logits differ by {worst:.2e} from those of network.onnx"
    return CERTIFIED, f"same SHA-256; logits within {worst:.2e} at 16 points (checked, not certified)"


def _text(certificate: Certificate, report: Report) -> str:
    lines = [f"{len(certificate.cell_kind)} cells of {certificate.dimension} parameters"]
    lines += [f"  {status:>13}  {name}: {text}" for name, status, text in report.findings]
    if "certified" in report.numbers:
        shares = report.numbers["certified"].items()
        told = ", ".join(f"{name.replace('_', '-')} {share:.10f}" for name, share in shares)
        lines.append(f"Certified shares (lower bounds): {told}; unproven {report.numbers['unproven']:.3e}")
    lines += [f"At θ = {report.theta}"] if report.theta is not None else []
    return "\n".join([*lines, f"{_ENDS[report.code]} ({report.numbers['seconds']} s)"])


if __name__ == "__main__":
    sys.exit(main())
