"""What the figures of an evaluation say, by task."""

import pytest

from layerwise.reporting.evaluated import page


@pytest.mark.parametrize(
    ("task", "dot", "rule"),
    [
        ("binary", True, "decides: at its threshold."),
        ("multiclass", False, "decides: the likeliest."),
    ],
)
def test_a_threshold_is_spoken_of_only_where_there_is_one(make, task, dot, rule):
    _, evidence = make(task)
    assert ("The dot is the threshold" in page._roc(evidence).sentences[0]) == dot
    assert page._confusion(evidence).sentences[0].endswith(rule)
