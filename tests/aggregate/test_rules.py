"""Rules: kept only if proven, broken only if they cannot hold, open between."""

from __future__ import annotations

import pytest

from recorded import entry
from steadygaze.aggregate import grouped, judged, parsed
from steadygaze.aggregate.outcomes import outcomes_of
from steadygaze.aggregate.rules import MEASURES, Standing, overall
from steadygaze.campaign import Status
from steadygaze.errors import SettingError, UsageError

KEEPS, FAILS, OPEN = (1, None, 1, None), (1, None, 0.2, 0.2), (None, None, None, None)


@pytest.mark.parametrize(
    ("rule", "standing"),
    [
        ("attention_robust_accuracy(0.5) >= 0.5", "kept"),
        ("attention_robust_accuracy(0.5) > 0.5", "open"),
        ("attention_robust_accuracy(0.5) >= 0.75", "open"),
        ("attention_robust_accuracy(0.5) >= 0.76", "broken"),
        ("attention_robust_accuracy(0.5) <= 0.75", "kept"),
        ("attention_robust_accuracy(0.5) <= 0.5", "open"),
        ("attention_robust_accuracy(0.5) < 0.5", "broken"),
        ("attention_robust_accuracy(0.5)==0.5", "open"),
        ("attention_robust_accuracy(0.5) == 0.6", "open"),
        ("attention_robust_accuracy(0.5) == 0.2", "broken"),
        ("attention_robust_accuracy(0.1) >= 75%", "kept"),
        ("class_robust_rate(1) >= 0.75", "kept"),
        ("other_reason_rate(0.5) >= 0.25", "kept"),
        ("other_reason_rate(0.5) <= 0.25", "open"),
        ("attention_undecided_rate(0.5) <= 0.25", "kept"),
        ("attention_undecided_rate(0.5) <= 0.2", "broken"),
        ("accuracy == 1", "kept"),
        (" accuracy >= 100 % ", "kept"),
        ("crashed_rate == 0", "kept"),
        ("answered_rate >= 1", "kept"),
    ],
)
def test_a_rule_is_kept_broken_or_open(rule, standing):
    entries = [entry(f"i{k}", scales) for k, scales in enumerate([KEEPS, KEEPS, FAILS, OPEN])]
    (finding,) = judged((parsed(rule),), grouped(entries))
    assert finding.standing == Standing(standing)
    assert "4 images" in finding.sentence()


def test_a_crash_is_counted_and_leaves_rules_open():
    outcomes = outcomes_of([entry("a", KEEPS), entry("b", None, status=Status.CRASHED)])
    rule = parsed("crashed_rate <= 0.4")
    assert rule.standing(rule.measured(outcomes)) == Standing.BROKEN
    rule = parsed("class_robust_accuracy(1) >= 0.9")
    assert rule.standing(rule.measured(outcomes)) == Standing.OPEN


def test_a_rule_about_no_image_is_open():
    (finding,) = judged((parsed("accuracy >= 0"),), grouped([entry("a", KEEPS, label=None)]))
    assert finding.standing == Standing.OPEN
    assert "no image" in finding.sentence()


def test_a_rule_about_attention_is_none_about_the_class_alone():
    alone = [entry("a", KEEPS, claim="class"), entry("b", FAILS, claim="class")]
    of_attention, of_class = parsed("attention_robust_rate(1) >= 1"), parsed("class_robust_rate(1) >= 1")
    for text in ("attention_robust_accuracy(1) >= 0", "other_reason_rate(1) <= 1", of_attention.text):
        with pytest.raises(SettingError, match=r"all cases ask about the class alone; allowed: class_robust"):
            judged((parsed(text),), grouped(alone))
    with pytest.raises(UsageError, match="nothing is known of their attention"):
        of_attention.measured(outcomes_of(alone))
    (finding,) = judged((of_class,), grouped(alone))
    assert finding.standing == Standing.KEPT
    assert finding.group.terms() == "the class alone"
    mixed = judged((of_attention, of_class), grouped([*alone, entry("a", KEEPS)]))
    assert [each.group.must_hold for each in mixed] == ["class and attention", "class", "class and attention"]


def test_the_worst_standing_counts():
    entries = [entry("a", KEEPS), entry("a", FAILS, model="two"), entry("a", OPEN, model="three")]
    findings = judged((parsed("attention_robust_rate(1) >= 1"),), grouped(entries))
    assert [f.standing.value for f in findings] == ["kept", "broken", "open"]
    assert overall(findings) == Standing.BROKEN
    assert overall([findings[0], findings[2]]) == Standing.OPEN
    assert overall(findings[:1]) == Standing.KEPT


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("accuracy", "cannot be read"),
        ("acuracy >= 1", "did you mean 'accuracy'"),
        ("nonsense >= 1", f"allowed: {', '.join(MEASURES)}$"),
        ("accuracy(0.5) >= 1", "takes no scale"),
        ("class_robust_rate >= 1", r"needs the scale of the box, class_robust_rate\(0.5\)"),
        ("class_robust_rate(2) >= 1", "allowed is 0 to 1"),
        ("class_robust_rate(nan) >= 1", "'nan' where a number"),
        ("class_robust_rate() >= 1", "'' where a number"),
        ("accuracy >= 80", "between 0 and 1"),
        ("accuracy >= many", "'many' where a number"),
        ("accuracy >= 0.8 or else", "cannot be read"),
    ],
)
def test_a_rule_that_cannot_be_read_is_refused_in_a_sentence(text, words):
    with pytest.raises(SettingError, match=words):
        parsed(text)
