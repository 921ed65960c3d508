"""Scores of a study of baselines, from predictions made up so that they can be worked out."""

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from layerwise.data.manifest import Manifest, make_table
from layerwise.evaluation.estimates import holm, task_estimates
from layerwise.evaluation.intervals import bootstrap, paired_difference
from layerwise.evaluation.operating import choose_threshold
from layerwise.evaluation.predictions import Predictions
from layerwise.studies.baselines.lineup import AUGMENTED, BASE, Entrant, Form
from layerwise.studies.baselines.runs import Made
from layerwise.studies.baselines.scores import METRICS, scores_of
from layerwise.studies.engine import Done, Planned
from layerwise.studies.study import Outcome, Run
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

PARTS = {"train": 30, "val": 60, "test": 80}
FORMS = {BASE: Form(BASE, "none", "none"), AUGMENTED: Form(AUGMENTED, "flip", "weights")}


@pytest.fixture(scope="module")
def manifest():
    """170 images of two classes, one in three ill."""
    count = sum(PARTS.values())
    targets = (np.arange(count) % 3 == 0).astype(np.int64)
    splits = [part for part, n in PARTS.items() for _ in range(n)]
    table = make_table([f"i{i}" for i in range(count)], splits=splits)
    return Manifest("made up", "binary", ("well", "ill"), table, targets)


def said(manifest, part, skill, seed):
    rows = manifest.indices(part)
    targets = manifest.targets[rows]
    noise = np.random.default_rng(seed).normal(0, 1, len(rows))
    scores = (1 / (1 + np.exp(-(skill * targets + noise)))).astype(np.float32)[:, None]
    ids = manifest.table["id"].to_numpy(dtype=str)[rows]
    return Predictions(ids, targets, scores, ids)


def made(manifest, name, form, skill, *, test_skill=None, kind="network", repeats=1, lost=()):
    """A model in a form, whose scores are the truth times skill, and noise."""
    runs = []
    for repeat in range(repeats):
        seed = 100 * len(name) + 10 * repeat + (5 if form == AUGMENTED else 0)
        run = Run("", "trained", {"name": name, "form": form, "seed": repeat})
        outcome = Outcome(
            run,
            1.0,
            10,
            said(manifest, "val", skill, seed),
            {},
            {},
            {"test": said(manifest, "test", skill if test_skill is None else test_skill, seed + 1)},
        )
        planned = Planned("", name, Transfer(), Recipe(), repeat)
        runs.append(Done(planned, run, None if repeat in lost else outcome))
    return Made(Entrant(name, name, kind), FORMS[form], tuple(runs))


def test_scores_are_scikit_learn_s_at_thresholds_of_validation(manifest):
    one = made(manifest, "a", BASE, 2.0, repeats=3, lost=(1,))
    cell = scores_of([one], manifest, 0, draws=50).cells[0]
    expected = {metric: [] for metric in METRICS}
    for outcome, threshold in zip(one.outcomes, cell.thresholds, strict=True):
        before, after = outcome.validation, outcome.parts["test"]
        assert threshold == choose_threshold(
            "binary", before.targets, before.scores, before.groups, seed=0
        )
        truth, score = after.targets, after.scores[:, 0]
        called = score >= threshold
        expected["auroc"].append(roc_auc_score(truth, score))
        expected["auprc"].append(average_precision_score(truth, score))
        for metric, function in (
            ("accuracy", accuracy_score),
            ("precision", precision_score),
            ("recall", recall_score),
            ("f1", f1_score),
        ):
            expected[metric].append(function(truth, called))
    assert len(cell.thresholds) == 2 and cell.thresholds[0] != cell.thresholds[1]
    for metric in METRICS:
        assert cell.test[metric]["value"] == pytest.approx(np.mean(expected[metric]))
        assert cell.test[metric]["repeats"] == pytest.approx(expected[metric])


def test_one_repeat_has_the_intervals_of_the_bootstrap(manifest):
    one = made(manifest, "a", BASE, 1.0)
    cell = scores_of([one], manifest, 3, draws=80).cells[0]
    after = one.outcomes[0].parts["test"]
    reference = bootstrap(
        "binary", after.targets, after.scores, cell.thresholds[0], after.groups, draws=80, seed=3
    )
    for metric in METRICS:
        for side in ("value", "low", "high"):
            assert cell.test[metric][side] == pytest.approx(reference[metric][side])


def test_differences_are_paired_and_corrected_as_two_families(manifest):
    every = [
        made(manifest, "a", BASE, 0.5),
        made(manifest, "a", AUGMENTED, 3.0),
        made(manifest, "bb", BASE, 1.0),
        made(manifest, "bb", AUGMENTED, 1.0),
        made(manifest, "dummy", BASE, 0.0, kind="classic"),
    ]
    scores = scores_of(every, manifest, 0, draws=200)
    assert scores.best.name == "a, augmented"
    assert [(d.cell, d.other) for d in scores.changes[:: len(METRICS)]] == [
        ("a, augmented", "a, base"),
        ("bb, augmented", "bb, base"),
    ]
    assert [d.cell for d in scores.behind[:: len(METRICS)]] == [
        "a, base",
        "bb, base",
        "bb, augmented",
        "dummy, base",
    ]
    for family in (scores.changes, scores.behind):
        assert [d.metric for d in family] == list(METRICS) * (len(family) // len(METRICS))
        assert [d.interval["p_holm"] for d in family] == holm([d.interval["p"] for d in family])
    limit = {cell.name: cell.thresholds[0] for cell in scores.cells}
    tests = {one.name: one.outcomes[0].parts["test"] for one in every}
    for one in (*scores.changes, *scores.behind):
        a, b = tests[one.cell], tests[one.other]
        reference = paired_difference(
            one.metric,
            "binary",
            a.targets,
            a.scores,
            b.scores,
            a.groups,
            threshold_a=limit[one.cell],
            threshold_b=limit[one.other],
            draws=200,
            seed=0,
        )
        for side in ("value", "low", "high"):
            assert one.interval[side] == pytest.approx(reference[side])
    by = {(d.cell, d.metric): d.beyond_noise for d in scores.changes}
    assert by["a, augmented", "auroc"] and not by["bb, augmented", "auroc"]


def test_the_best_is_chosen_on_validation_and_is_a_baseline(manifest):
    every = [
        made(manifest, "a", BASE, 1.5, test_skill=0.0),
        made(manifest, "bb", BASE, 0.5, test_skill=3.0),
        made(manifest, "ccc", BASE, 4.0, kind="transfer"),
    ]
    scores = scores_of(every, manifest, 0, draws=50)
    assert scores.best.name == "a, base"
    gap = next(d for d in scores.behind if (d.cell, d.metric) == ("bb, base", "auroc"))
    assert gap.interval["value"] > 0.2


def test_models_without_a_finished_run_are_left_out(manifest):
    every = [made(manifest, "a", BASE, 1.0), made(manifest, "bb", BASE, 1.0, lost=(0,))]
    scores = scores_of(every, manifest, 0, draws=20)
    assert [cell.name for cell in scores.cells] == ["a, base"]
    assert scores.of("a", BASE) is scores.cells[0] and scores.of("bb", BASE) is None


def test_each_repeat_is_scored_at_its_own_threshold(manifest):
    """Two repeats at their thresholds: the mean of each alone, draw by draw of the images."""
    rows = manifest.indices("test")
    targets = manifest.targets[rows]
    scores = [said(manifest, "test", 1.0, seed).scores for seed in (1, 2)]
    both = task_estimates(["f1"], "binary", targets, scores, thresholds=[0.3, 0.7], draws=0)["f1"]
    alone = [f1_score(targets, s[:, 0] >= t) for s, t in zip(scores, (0.3, 0.7), strict=True)]
    assert both.repeats == pytest.approx(alone) and both.value == pytest.approx(np.mean(alone))
    with pytest.raises(ValueError, match="zip"):
        task_estimates(["f1"], "binary", targets, scores, thresholds=[0.3])
