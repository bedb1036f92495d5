"""The command line: `steadygaze-check CERTIFICATE [--model ORIGINAL] [--json FILE]`."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from steadygaze_check.claims import CERTIFIED, OPEN, REFUTED, Judge, Report
from steadygaze_check.folder import CLASS_CHANGED, KINDS, UNDECIDED, BadCertificate, Certificate, read
from steadygaze_check.kinds import Examiner
from steadygaze_check.onnx_reader import Network
from steadygaze_check.points import Points, borders
from steadygaze_check.tiling import tiling

_PROVABLE_MAPS, _PROVABLE_MEASURES = ("gradient", "abs-gradient"), ("cosine", "l2", "l1", "linf")
_POINTS = 256
_SEEDS = 20260714


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if all claims are certified, 10 if one is refuted, 20 if one is not certified, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="steadygaze-check", description=__doc__)
    parser.add_argument("certificate", type=Path, help="the folder that steadygaze wrote")
    parser.add_argument(
        "--model", type=Path, help="the original ONNX file, to be compared with the certificate's"
    )
    parser.add_argument("--json", type=Path, help="write the report to this file, too")
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    try:
        certificate = read(options.certificate)
        report = check(certificate)
        if options.model is not None:
            _compare(certificate, options.model, report)
        report.numbers["seconds"] = round(time.perf_counter() - began, 3)
        if options.json is not None:
            options.json.write_text(json.dumps(_document(report), indent=1) + "\n", encoding="utf-8")
        print(_text(certificate, report))
        sys.stdout.flush()
    except BadCertificate as problem:
        print(f"steadygaze-check: {' '.join(str(problem).split())}", file=sys.stderr)
        return 2
    except Exception as problem:
        # A folder that gets this far and fails is broken in a way that `folder` did not foresee.
        told = " ".join(f"{type(problem).__name__}: {problem}".split())
        print(f"steadygaze-check: nothing is proven, for {told}", file=sys.stderr)
        return 2
    return report.code


def check(certificate: Certificate) -> Report:
    """Everything that is proven, refuted or left open about a certificate."""
    report, question = Report(), certificate.question
    try:
        network = Network(certificate.network, certificate.image.shape, question["classes"], certificate.clip)
    except BadCertificate as problem:
        return _by_points(certificate, None, report, str(problem))
    why = _beyond(certificate)
    if why:
        return _by_points(certificate, network, report, why)
    try:
        points = Points(certificate, network)
    except LookupError:
        raise BadCertificate("no affine piece of the image holds θ = 0") from None
    _origin(certificate, points, report)
    examiner = Examiner(certificate, network, points.comparison)
    count = len(certificate.cell_kind)
    kind, shrink = np.full(count, UNDECIDED, np.int8), np.zeros(count)
    name = np.zeros(count, np.uint64)
    for cells in examiner.batches():
        proven = examiner.examine(cells)
        kind[cells], shrink[cells], name[cells] = proven.kind, proven.shrink, proven.name
    tiles = tiling(certificate)
    report.add("tiling", CERTIFIED if tiles.covers else OPEN, tiles.why)
    report.numbers["overlap"] = tiles.twice / certificate.volume
    return Judge(certificate, points, kind, shrink, name, tiles, report).all()


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


def _origin(certificate: Certificate, points: Points, report: Report) -> None:
    """The image at θ = 0 before the clip is the image handed over, and the network gives it the label."""
    label, logits = certificate.question["label"], points.origin_logits
    best = max(range(len(logits)), key=lambda k: logits[k])
    if best != label:
        report.add(
            "label",
            REFUTED,
            f"at θ = 0 the network says {best}, not {label}",
            np.zeros(certificate.dimension),
        )
        return
    base = certificate.piece_base[points.pieces_at(np.zeros(certificate.dimension))[0]]
    away = float(np.abs(base - certificate.image).max())
    if away <= 1e-12 or certificate.question.get("constant_amounts") is True:
        text = "" if away <= 1e-12 else f"; constant amounts change the image handed over by up to {away:.3g}"
        report.add("label", CERTIFIED, f"the network says {label} at θ = 0{text}")
    else:
        text = f"the image at θ = 0 is {away:.3g} off image.npy, and no constant amounts are declared"
        report.add("image", OPEN, text)


def _by_points(certificate: Certificate, network: Network | None, report: Report, why: str) -> Report:
    """The classes at points of cells, by this checker's own network or onnx's reference; proves nothing."""
    draw = np.random.default_rng(_SEEDS)
    usable = np.flatnonzero((certificate.cell_piece >= 0) & (certificate.cell_kind != UNDECIDED))
    cells = draw.choice(usable, min(_POINTS, len(usable)), replace=False) if len(usable) else usable
    ptr, looked = certificate.cell_ptr, 0
    for cell in cells:
        corners = certificate.vertices[certificate.cell_vertex[ptr[cell] : ptr[cell + 1]]]
        theta = draw.dirichlet(np.ones(len(corners))) @ corners
        piece, told = int(certificate.cell_piece[cell]), int(certificate.cell_kind[cell])
        sides = borders(certificate, piece, theta[None])
        if sides is None or (sides[0] < 0).any():
            continue
        image = certificate.piece_base[piece] + np.tensordot(
            theta, certificate.piece_directions[piece], axes=1
        )
        logits = _logits(certificate, image[None])
        if logits is None:
            break
        looked += 1
        gap = logits[certificate.question["label"]] - np.delete(logits, certificate.question["label"]).max()
        if abs(gap) > 1e-6 * max(1.0, np.abs(logits).max()) and (gap < 0) != (told == CLASS_CHANGED):
            text = f"cell {cell} is called {KINDS[told]}, and its class gap at a point inside is {gap:.6g}"
            report.add("kinds", REFUTED, text, theta)
            return report
    del network
    text = f"checked at {looked} points, not certified: {why}; only the class was looked at"
    report.add("kinds", OPEN, text)
    return report


def _logits(certificate: Certificate, images: np.ndarray) -> np.ndarray | None:
    """Logits of one image ``(1, C, H, W)`` by onnx's own reference evaluator; None where it cannot."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    images = images if certificate.clip is None else np.clip(images, *certificate.clip)
    try:
        model = onnx.load_model_from_string(certificate.network)
        return np.asarray(
            ReferenceEvaluator(model).run(None, {model.graph.input[0].name: images})[0][0], np.float64
        )
    except Exception:  # whatever it raises, it is no proof of anything
        return None


def _compare(certificate: Certificate, model: Path, report: Report) -> None:
    """The original file is the one that was certified, and gives the same logits at points."""
    data = model.read_bytes()
    declared = certificate.model.get("sha256")
    if hashlib.sha256(data).hexdigest() != declared:
        report.add("original", REFUTED, f"{model} does not have the SHA-256 that the certificate names")
        return
    try:
        import onnxruntime

        original = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        own = onnxruntime.InferenceSession(certificate.network, providers=["CPUExecutionProvider"])
    except Exception as problem:  # onnxruntime has no common class of exceptions
        report.add("original", OPEN, f"onnxruntime cannot run both networks: {str(problem)[:80]!r}")
        return
    report.add("original", *_compared(certificate, original, own))


def _compared(certificate: Certificate, original: object, own: object) -> tuple[str, str]:
    draw = np.random.default_rng(_SEEDS)
    layout = certificate.model.get("layout", "chw")
    taken = original.get_inputs()[0]  # type: ignore[attr-defined]
    shape = [size if isinstance(size, int) and size > 0 else 1 for size in taken.shape]
    kind = np.float64 if "double" in taken.type else np.float32
    mean, std = (
        np.reshape(certificate.model.get(k) or d, (-1, 1, 1)) for k, d in (("mean", 0.0), ("std", 1.0))
    )
    worst, scale = 0.0, 0.0
    for _ in range(16):
        theta = certificate.box[:, 0] + draw.random(certificate.dimension) * np.ptp(certificate.box, axis=1)
        image = certificate.piece_base[0] + np.tensordot(theta, certificate.piece_directions[0], axes=1)
        image = image if certificate.clip is None else np.clip(image, *certificate.clip)
        given = (image - mean) / std
        given = given.transpose(1, 2, 0) if layout == "hwc" else given
        theirs = original.run(None, {taken.name: given.reshape(shape).astype(kind)})[0].reshape(-1)  # type: ignore[attr-defined]
        name = own.get_inputs()[0].name  # type: ignore[attr-defined]
        ours = own.run(None, {name: image[None]})[0].reshape(-1)  # type: ignore[attr-defined]
        worst, scale = max(worst, float(np.abs(theirs - ours).max())), max(scale, float(np.abs(ours).max()))
    if worst > 1e-3 * max(1.0, scale):
        return REFUTED, f"its logits differ by {worst:.2e} from those of network.onnx"
    return (
        CERTIFIED,
        f"same SHA-256; logits within {worst:.2e} at 16 points (checked at points, not certified)",
    )


def _document(report: Report) -> dict[str, object]:
    findings = [{"claim": n, "status": s, "text": t} for n, s, t in report.findings]
    return {"exit_code": report.code, "findings": findings, "theta": report.theta, **report.numbers}


def _text(certificate: Certificate, report: Report) -> str:
    lines = [
        f"{len(certificate.cell_kind)} cells, {len(certificate.vertices)} vertices, "
        f"{certificate.dimension} parameters"
    ]
    lines += [f"  {status:>13}  {name}: {text}" for name, status, text in report.findings]
    shares = report.numbers.get("certified")
    if isinstance(shares, dict):
        told = ", ".join(f"{name.replace('_', '-')} {share:.10f}" for name, share in shares.items())
        lines.append(f"Certified shares (lower bounds): {told}; unproven {report.numbers['unproven']:.3e}")
    if report.theta is not None:
        lines.append(f"At θ = {report.theta}")
    ends = {
        0: "All claims are certified.",
        10: "A claim is refuted.",
        20: "Not everything could be certified.",
    }
    return "\n".join([*lines, f"{ends[report.code]} ({report.numbers['seconds']} s)"])


if __name__ == "__main__":
    sys.exit(main())
