"""What the figures of an evaluation say, by task."""

import numpy as np
import pytest

from layerwise.reporting.evaluated import page


@pytest.mark.parametrize(
    ("task", "dot", "rule"),
    [
        ("binary", True, "what the bundle decides at its threshold."),
        ("multiclass", False, "takes for the likeliest."),
        ("multilabel", True, "decisions at each label’s threshold."),
    ],
)
def test_a_threshold_is_spoken_of_only_where_there_is_one(make, task, dot, rule):
    _, evidence = make(task)
    assert ("The dot is the threshold" in page._roc(evidence).sentences[0]) == dot
    assert page._confusion(evidence).sentences[0].endswith(rule)


def test_what_is_said_of_decisions_by_label_is_what_is_drawn(make):
    """A row a label, its percentages of the images with it and of those without."""
    _, evidence = make("multilabel")
    drawn = page._confusion(evidence)
    assert "A row a label" in drawn.sentences[0]
    targets = np.asarray(evidence.targets)
    decided = np.asarray(evidence.scores) >= np.asarray(evidence.threshold)
    for k, row in enumerate(drawn.rows):
        there, said = targets[:, k] == 1, decided[:, k]
        assert row["true"] == evidence.labels[k]
        assert (row["found"], row["missed"]) == ((there & said).sum(), (there & ~said).sum())
        if there.any():
            assert f"{100 * (there & said).sum() / there.sum():.0f}%" in drawn.svg
