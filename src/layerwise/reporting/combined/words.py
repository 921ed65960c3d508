"""What an ensemble study found, in sentences that are derived from its numbers."""

from collections.abc import Mapping

from layerwise.reporting.differences import difference_words
from layerwise.reporting.text import number, with_interval
from layerwise.studies.combined.comparison import SCORE, Compared

WORDS = {
    "mean": "the plain mean",
    "weighted": "the weighted mean",
    "greedy": "the greedy choice",
}


def answer(found: Compared, names: Mapping[str, str]) -> list[str]:
    """Whether combining helps, by how much, and whom the ensemble needs."""
    return [s for s in (advice(found, names), *evidence(found), need(found, names)) if s]


def advice(found: Compared, names: Mapping[str, str]) -> str:
    """What to do."""
    best = names[next(iter(found.best.weights))]
    chosen, gain = found.chosen, found.chosen.test_gain[SCORE]
    if len(chosen.weights) == 1:
        return (
            f"Keep one run, {best}: the way of combining that did best on validation, "
            f"{WORDS[chosen.way]}, takes {names[next(iter(chosen.weights))]} alone."
        )
    count = f"{WORDS[chosen.way]} of {len(chosen.weights)} runs"
    if found.helps():
        return (
            f"Combining helps: {count} reaches an AUROC of "
            f"{with_interval(chosen.test[SCORE])} on the test part, and the best run alone, "
            f"{best}, {with_interval(found.best.test[SCORE])}."
        )
    if gain["p_holm"] < 0.05:
        return f"Keep one run, {best}: {count} is worse than it on the test part."
    return (
        f"Combining does not help measurably: on the test part {count} can not be told from the "
        f"best run alone, {best} (AUROC {number(chosen.test[SCORE]['value'])} and "
        f"{number(found.best.test[SCORE]['value'])}), and costs {len(chosen.weights)} networks "
        "instead of one."
    )


def evidence(found: Compared) -> list[str]:
    """The paired differences that the advice stands on."""
    chosen = found.chosen
    gain = chosen.test_gain[SCORE]
    said = [
        difference_words(
            f"On the test part {WORDS[chosen.way]}", "the best run alone", gain, "AUROC"
        )
    ]
    beyond, inside = gain["p_holm"] < 0.05, gain["low"] <= 0 <= gain["high"]
    if not beyond and not inside:
        said.append("After Holm's correction for all ways and metrics that is within noise.")
    if chosen.unseen_gain:
        said.append(
            difference_words(
                f"Cross-fitted on validation {WORDS[chosen.way]}",
                "the best run alone",
                chosen.unseen_gain,
                "AUROC",
            )
        )
        said.append(
            f"Not cross-fitted, its validation AUROC would be {number(chosen.seen)} instead of "
            f"{number(chosen.unseen['value'])}: the difference is what choosing on the same "
            "pictures flatters."
        )
    else:
        said.append("There are too few patients in validation to cross-fit, so no way was chosen.")
    return said


def need(found: Compared, names: Mapping[str, str]) -> str:
    """Members that the ensemble could not do without, and those that it could."""
    if not found.contributions:
        return ""
    some = [names[c.id] for c in found.contributions if c.beyond_noise and c.test["value"] > 0]
    count = len(found.contributions)
    if not some:
        return (
            f"Any single one of its {count} members could be left out: no loss is beyond noise on "
            "the test part."
        )
    rest = count - len(some)
    tail = f"; any single one of the other {rest} could be left out" if rest else ""
    return f"Without {' or '.join(some)} it is worse beyond noise{tail}."
