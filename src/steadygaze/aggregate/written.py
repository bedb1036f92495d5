"""What a gate and a comparison write: words, Markdown for a pull request, JUnit XML for a server."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

from steadygaze.aggregate.outcomes import Group
from steadygaze.aggregate.pairs import Comparison
from steadygaze.aggregate.rules import Finding, Standing, overall
from steadygaze.answer.words import number

SIGNS = {Standing.KEPT: "✓", Standing.BROKEN: "✗", Standing.OPEN: "?"}
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")
_NO_TEXT = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML cannot hold


def named(group: Group) -> str:
    """A group in words."""
    return f"{group.model}, {group.perturbation}, {group.terms()}"


def gate_lines(findings: Sequence[Finding]) -> list[str]:
    """One line a finding, for a terminal."""
    return [
        f"{SIGNS[f.standing]} {f.standing.value:6} {f.rule.text}  [{named(f.group)}]: {f.sentence()}"
        for f in findings
    ]


def gate_markdown(findings: Sequence[Finding], campaign: str) -> str:
    """One paragraph that fits a comment on a pull request; names are escaped."""
    counts = Counter(finding.standing for finding in findings)
    told = ", ".join(f"{counts[each]} {each.value}" for each in Standing if counts[each])
    whole = overall(findings)
    sentences = [f"{SIGNS[whole]} **steadygaze, {_escaped(campaign)}: {whole.value}** ({told})."]
    for finding in findings:
        if finding.standing != Standing.KEPT:
            sentences.append(
                f"`{finding.rule.text.replace('`', '')}` is {finding.standing.value} for "
                f"{_escaped(named(finding.group))}: {finding.sentence()}."
            )
    if len(sentences) == 1:
        sentences.append("; ".join(f"`{f.rule.text}`: {f.sentence()}" for f in findings).capitalize() + ".")
    return " ".join(sentences) + "\n"


def gate_junit(findings: Sequence[Finding], campaign: str) -> str:
    """JUnit XML: a suite for each group, a test for each rule; broken is a failure, open is an error."""
    document = JUnitXml(_clean(f"steadygaze {campaign}"))
    suites: dict[Group, TestSuite] = {}
    for finding in findings:
        suite = suites.setdefault(finding.group, TestSuite(_clean(named(finding.group))))
        case = TestCase(_clean(finding.rule.text), _clean(f"steadygaze.{named(finding.group)}"))
        if finding.standing == Standing.BROKEN:
            case.result = [Failure(_clean(finding.sentence()), "broken")]
        elif finding.standing == Standing.OPEN:
            case.result = [Error(_clean(finding.sentence()), "open")]
        case.system_out = _clean(finding.sentence())
        suite.add_testcase(case)
    for suite in suites.values():
        document.add_testsuite(suite)
    return document.tostring().decode("utf-8")


def comparison_line(found: Comparison, claim: str, scale: float) -> str:
    """One claim at one scale, first against second, with everything that a reader of the number needs."""
    p = "no pair differs" if found.p is None else f"McNemar's exact p = {number(found.p, 2)}"
    low, high = found.interval
    text = (
        f"{claim} kept in {number(scale)} of the box: certified for {found.first.certain} against "
        f"{found.second.certain} of {found.n} images; difference {found.difference:+.3f}, 95 % interval "
        f"{low:+.3f} to {high:+.3f} (Agresti and Min); {p}"
    )
    return f"{text}; {found.unsettled} not settled in one or both" if found.unsettled else text


def reach_line(found: Comparison, claim: str) -> str:
    """How far the claim is certified, first against second."""
    text = f"{claim} certified up to a scale that is larger by {found.scale_difference:+.3f} in the mean"
    if found.scale_interval is not None:
        text += (
            f", 95 % interval {found.scale_interval[0]:+.3f} to {found.scale_interval[1]:+.3f} (bootstrap)"
        )
    p = (
        "too few pairs differ for a test"
        if found.scale_p is None
        else f"Wilcoxon's p = {number(found.scale_p, 2)}"
    )
    return f"{text}; {p}; {found.n} images"


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _clean(text: str) -> str:
    return _NO_TEXT.sub("�", text)
