"""What a gate writes, read back by somebody else's parser; names are hostile."""

from __future__ import annotations

from junitparser import JUnitXml

from recorded import entry
from steadygaze.aggregate import ATTENTION, compared, grouped, judged, parsed
from steadygaze.aggregate.outcomes import outcomes_of
from steadygaze.aggregate.written import comparison_line, gate_junit, gate_lines, gate_markdown, reach_line

HOSTILE = 'evil</testcase>|`*\x00[x](y)\ud800 & "co"'
RULES = (
    parsed("attention_robust_rate(1) >= 0.5"),
    parsed("accuracy >= 0.5"),
    parsed("class_robust_rate(1) >= 1"),
)
ENTRIES = [
    entry("a", (1, None, 0.2, 0.2), model=HOSTILE),
    entry("b", (None, None, 0.1, 0.1), model=HOSTILE),
    entry("a", (1, None, 1, None), model="two"),
]


def test_junit_says_what_each_rule_came_to():
    document = JUnitXml.fromstring(gate_junit(judged(RULES, grouped(ENTRIES)), "my <plan>"))
    first, second = document
    results = [[type(r).__name__ for r in case.result] for case in first]
    assert results == [["Failure"], [], ["Error"]]
    assert "0 % (0 of 2 images)" in next(iter(first)).result[0].message
    assert [case.name for case in second] == [rule.text for rule in RULES]
    assert all(case.is_passed for case in second)
    assert "evil</testcase>" in first.name


def test_markdown_is_one_paragraph_with_names_escaped():
    text = gate_markdown(judged(RULES, grouped(ENTRIES)), "plan_1")
    assert text.count("\n") == 1
    assert text.startswith("✗ **steadygaze, plan\\_1: broken** (4 kept, 1 broken, 1 open).")
    assert "`class_robust_rate(1) >= 1` is open" in text
    assert "evil</" not in text
    assert "\\[x\\]" in text
    kept = gate_markdown(judged(RULES, grouped(ENTRIES[2:])), "plan")
    assert kept.startswith("✓ ")
    assert "(1 of 1 images)" in kept


def test_the_terminal_has_a_line_for_each():
    lines = gate_lines(judged(RULES, grouped(ENTRIES)))
    assert [line[0] for line in lines] == ["✗", "✓", "✓", "✓", "?", "✓"]


def test_a_comparison_tells_its_n_its_interval_and_its_test():
    first = outcomes_of([entry(f"i{k}", (1, None, 1, None)) for k in range(8)])
    second = outcomes_of([entry(f"i{k}", (1, None, k / 10, None)) for k in range(8)])
    found = compared(first, second, ATTENTION, 0.5)
    line = comparison_line(found, "attention", 0.5)
    assert "certified for 8 against 3 of 8 images" in line
    assert "McNemar's exact p = 0.062" in line
    assert "5 not settled" in line
    assert "Wilcoxon's p = 0.0078; 8 images" in reach_line(found, "attention")
