"""The page of a bundle measured on labelled data. No torch here."""

from collections.abc import Mapping, Sequence
from typing import Any

from layerwise.evaluation.intervals import pr_band, roc_band
from layerwise.reporting import curves, figures, text
from layerwise.reporting.drawing import BLUE, PAPER, SOFT, canvas, plain, styled, to_svg
from layerwise.reporting.evaluated.results import WHERE, Measured
from layerwise.reporting.evidence import Evidence
from layerwise.reporting.study_page import Figure, StudyPage, Table

BAND_DRAWS = 100  # of the curves' bands
DECISIONS = {
    "binary": "Rows are the truth, columns what the bundle decides at its threshold.",
    "multiclass": "Rows are the truth, columns the class that the bundle takes for the likeliest.",
    "multilabel": "A row a label: found and missed are shares of the images that have it, false "
    "alarms and left alone of those that do not; decisions at each label’s threshold.",
}


def evaluation_page(
    found: Measured, results: Mapping[str, Any], reproduce: Sequence[str]
) -> StudyPage:
    """The page in words, figures and tables.

    Args:
        found: What was measured.
        results: As `results_of_evaluation` gives them.
        reproduce: Commands.
    """
    evidence = found.evidence
    drawn = [_roc(evidence), _pr(evidence), _confusion(evidence), _calibration(evidence, results)]
    tables = [_scores(results, found.task)]
    if found.task != "binary":
        tables.append(_per_label(results))
    if results["subgroups"]:
        drawn.insert(0, _subgroups(results))
        tables.append(_subgroup_table(results))
    return StudyPage(
        title=f"{found.bundle['name']} on {found.data['name']}",
        answer=[how_well(results, found.task), *results["warnings"]],
        figures=drawn,
        tables=tables,
        notes=[f"Bundle {found.bundle['id']}.", *found.notes],
        reproduce=reproduce,
        kind="evaluation",
    )


def how_well(results: Mapping[str, Any], task: str) -> str:
    """The scores in a sentence or two."""
    test, images, patients = results["test"], results["images"], results["patients"]
    whose = f"On {WHERE[results['part']]}, {images:,} image{'' if images == 1 else 's'}"
    whose += f" of {patients:,} patients" if patients < images else ""
    if not text.defined(test["auroc"]):
        said = f"{whose}, the AUROC is not defined, because a class is missing there."
    else:
        said = f"{whose}, the bundle reaches an AUROC of {text.with_interval(test['auroc'])}."
    right = text.with_interval(test["accuracy"], percent=True)
    if task == "multiclass":
        balance = text.with_interval(test["balanced_accuracy"], percent=True)
        return (
            f"{said} {right} of its decisions are right, {balance} where every class counts alike."
        )
    found = text.with_interval(test["recall"], percent=True)
    spared = text.with_interval(test["specificity"], percent=True)
    return (
        f"{said} At its threshold {right} of its decisions are right, with a sensitivity of "
        f"{found} and a specificity of {spared}."
    )


def _scores(results: Mapping[str, Any], task: str) -> Table:
    rows = [
        {"metric": name, "score": results["test"][key], "meaning": text.meaning(key, task)}
        for key, name in text.NAMES.items()
    ]
    columns = {"metric": "Metric", "score": "Score", "meaning": "What it is"}
    said = "Intervals are 95% bootstrap intervals, resampled by patient where patients are known."
    return Table("scores", "Scores", columns, rows, [said])


def _per_label(results: Mapping[str, Any]) -> Table:
    rows = [{"label": label, **scores} for label, scores in results["test"]["per_label"].items()]
    return Table("per_label", "Scores by label", {"label": "Label", **text.NAMES}, rows)


def _subgroup_table(results: Mapping[str, Any]) -> Table:
    columns = {"group": "Group", "images": "Images", "patients": "Patients", **text.NAMES}
    rows = [
        {**one, "group": _name(one), "mark": "too few" if one["small"] else ""}
        for one in results["subgroups"]
    ]
    said = (
        "Every group is scored and resampled by itself. Intervals that do not meet say that two "
        "groups differ; those that do meet say nothing. Of twenty groups one is far off by chance."
    )
    return Table("subgroups", "Scores by subgroup", columns, rows, [said])


def _name(one: Mapping[str, Any]) -> str:
    return f"{one['column']}: {one['value']}"


def _subgroups(results: Mapping[str, Any]) -> Figure:
    groups = results["subgroups"]
    said = [
        "AUROC of each subgroup with its 95% interval; hollow where there are too few patients to "
        "tell. The line is that of all images together."
    ]
    rows = [{"group": _name(one), "auroc": one["auroc"], "small": one["small"]} for one in groups]
    return Figure(
        "subgroups_auroc", "Subgroups", forest(groups, results["test"]["auroc"]), rows, said
    )


@styled
def forest(groups: Sequence[Mapping[str, Any]], whole: Mapping[str, Any]) -> str:
    """AUROC of each subgroup with its interval, and the whole's as a line.

    Args:
        groups: Of `results.json`.
        whole: The interval of all images.
    """
    figure, (axes,) = canvas(7.4, 1.2 + 0.34 * len(groups))
    if text.defined(whole):
        axes.axvline(whole["value"], color=SOFT, linewidth=1)
    for y, one in enumerate(groups):
        found = one["auroc"]
        if not text.defined(found):
            continue
        if found["low"] is not None:
            axes.plot([found["low"], found["high"]], [y, y], color=BLUE, linewidth=1.4)
        face = PAPER if one["small"] else BLUE
        axes.plot(found["value"], y, "o", color=BLUE, markersize=6, markerfacecolor=face)
    axes.set_yticks(range(len(groups)), [plain(_name(one), 34) for one in groups])
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.set_xlabel("AUROC")
    said = "; ".join(f"{_name(one)} {text.with_interval(one['auroc'])}" for one in groups[:12])
    return to_svg(figure, "subgroups", f"AUROC by subgroup: {said}.")


def _roc(evidence: Evidence) -> Figure:
    said = ["How many positives are found at how many false alarms."]
    if evidence.task != "multiclass":
        said[0] += " The dot is the threshold."
    rows = _band_rows(evidence, roc_band, "false_positive_rate", "true_positive_rate")
    return Figure("roc", "ROC", curves.roc(evidence, BAND_DRAWS), rows, said)


def _pr(evidence: Evidence) -> Figure:
    said = ["How many of the alarms are right, at how many positives found."]
    rows = _band_rows(evidence, pr_band, "recall", "precision")
    return Figure(
        "precision_recall",
        "Precision and recall",
        curves.precision_recall(evidence, BAND_DRAWS),
        rows,
        said,
    )


def _band_rows(evidence: Evidence, band: Any, x: str, y: str) -> list[dict[str, Any]]:  # noqa: ANN401
    """The mean curve of each label with its interval, point by point."""
    rows = []
    for name, truth, score, _ in curves.one_against_rest(evidence):
        side = band(truth, score, evidence.groups, draws=BAND_DRAWS)
        for k, at in enumerate(side["grid"] if "mean" in side else ()):
            interval = {"value": side["mean"][k], "low": side["low"][k], "high": side["high"][k]}
            rows.append({"label": name, x: float(at), y: interval})
    return rows


def _confusion(evidence: Evidence) -> Figure:
    counts, true, decided = figures.confusion_counts(evidence)
    rows = [
        {"true": name, **dict(zip(decided, line.tolist(), strict=True))}
        for name, line in zip(true, counts, strict=True)
    ]
    said = [DECISIONS[evidence.task]]
    return Figure("confusion", "Decisions", figures.confusion(evidence), rows, said)


def _calibration(evidence: Evidence, results: Mapping[str, Any]) -> Figure:
    found = results["calibration"]
    rows = [
        {
            "score": one["score"],
            "came_true": {"value": one["rate"], "low": one["low"], "high": one["high"]},
            "count": one["count"],
        }
        for one in found["bins"]
    ]
    said = [
        "Where the dots are on the diagonal, a probability of 80% comes true 8 times in 10. The "
        f"expected calibration error is {text.number(found['error'])}."
    ]
    return Figure("calibration", "Reliability", figures.calibration(evidence), rows, said)
