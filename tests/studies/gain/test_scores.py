"""Scores of a gain study, from predictions made up so that they can be worked out otherwise."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from layerwise.data.manifest import Manifest, make_table
from layerwise.evaluation.estimates import Estimate
from layerwise.evaluation.intervals import paired_difference
from layerwise.evaluation.predictions import Predictions
from layerwise.studies.engine import Done, Planned
from layerwise.studies.gain.experiment import RI, TL, Design, Gained, places
from layerwise.studies.gain.networks import Candidate
from layerwise.studies.gain.scores import MEAN, METRICS, learning, p_value, scores_of
from layerwise.studies.study import Outcome, Run
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

TEST = 90
REFERENCE = {"auroc": roc_auc_score, "auprc": average_precision_score}


def data(task):
    """A manifest with 60 training, 20 validation and 90 test images."""
    generator = np.random.default_rng(0)
    count = 60 + 20 + TEST
    if task == "multilabel":
        targets = (generator.random((count, 3)) < [0.5, 0.3, 0.1]).astype(np.float32)
        targets[generator.random((count, 3)) < 0.1] = np.nan
    else:
        targets = (generator.random(count) < 0.25).astype(np.int64)
    splits = ["train"] * 60 + ["val"] * 20 + ["test"] * TEST
    labels = ("a", "b", "c") if task == "multilabel" else ("well", "ill")
    table = make_table([f"i{i}" for i in range(count)], splits=splits)
    return Manifest("made up", task, labels, table, targets)


def outcome(manifest, skill, seed, best=3, epochs=4):
    """A finished run whose test scores are the truth times skill, and noise."""
    rows = manifest.indices("test")
    targets = manifest.targets[rows]
    truth = np.nan_to_num(np.atleast_2d(targets.T).T.astype(float), nan=0.5)
    noise = np.random.default_rng(seed).normal(0, 1, truth.shape)
    scores = (1 / (1 + np.exp(-(skill * truth + noise)))).astype(np.float32)
    ids = manifest.table["id"].to_numpy(dtype=str)[rows]
    said = Predictions(ids, targets, scores, ids)
    history = [{"epoch": e, "score": float(e == best)} for e in range(epochs)]
    return Outcome(
        Run("", "trained", {"seed": seed}), 1.0, 10, said, {"history": history}, {}, {"test": said}
    )


def study(skills, task="binary", repeats=2, fractions=(0.5, 1.0), failed=()):
    """A study of as many networks as there are skills: (network, fraction, treatment) → skill."""
    names = list(dict.fromkeys(name for name, _, _ in skills))
    recipes = {f: Recipe(epochs=4, batch=8) for f in fractions}
    networks = tuple(Candidate(name, name, {}, "pretrained") for name in names)
    design = Design(networks, fractions, repeats, recipes)
    manifest = data(task)
    parts = {}
    for fraction in fractions:
        split = manifest.table["split"].to_numpy(dtype=object).copy()
        split[: round(60 * (1 - fraction))] = ""
        for repeat in range(repeats):
            parts[fraction, repeat] = manifest.replace(split=split)
    runs = []
    for number, (name, fraction, treatment, repeat) in enumerate(places(design)):
        planned = Planned("", treatment, Transfer(), recipes[fraction], repeat)
        made = outcome(manifest, skills[name, fraction, treatment], number)
        lost = (name, fraction, treatment, repeat) in failed
        runs.append(Done(planned, made.run, None if lost else made, "diverged" if lost else ""))
    return Gained(design, parts, {}, tuple(runs))


def flat(networks, fractions=(0.5, 1.0), random=1.0, transferred=2.0):
    """The same skills everywhere."""
    return {
        (name, f, t): {RI: random, TL: transferred}[t]
        for name in networks
        for f in fractions
        for t in (RI, TL)
    }


def of(scores, **wanted):
    (found,) = [b for b in scores if all(getattr(b, k) == v for k, v in wanted.items())]
    return found


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_bars_are_the_means_of_scikit_learns_scores(task):
    gained = study(flat(["net"]), task)
    scores = scores_of(gained, 0, draws=50)
    labels = [MEAN] if task == "binary" else [MEAN, "a", "b", "c"]
    assert {bar.label for bar in scores.bars} == set(labels)
    for bar in scores.bars:
        for treatment, interval in ((RI, bar.random), (TL, bar.transferred)):
            each = []
            for made in gained.of("net", bar.fraction, treatment).values():
                said = made.parts["test"]
                truth = np.atleast_2d(said.targets.T)
                columns = range(len(truth)) if bar.label == MEAN else [labels.index(bar.label) - 1]
                known = [~np.isnan(truth[k].astype(float)) for k in range(len(truth))]
                each.append(
                    np.mean(
                        [
                            REFERENCE[bar.metric](truth[k][known[k]], said.scores[known[k], k])
                            for k in columns
                        ]
                    )
                )
            assert interval["value"] == pytest.approx(np.mean(each))
            assert interval["sd"] == pytest.approx(np.std(each, ddof=1))
            assert interval["repeats"] == pytest.approx(each)
        assert bar.gain["value"] == pytest.approx(
            bar.transferred["value"] - bar.random["value"], abs=1e-12
        )


@pytest.mark.parametrize("metric", METRICS)
def test_the_gain_of_one_repeat_is_the_paired_difference(metric):
    gained = study(flat(["net"]), repeats=1)
    bar = of(scores_of(gained, 7, draws=300).bars, fraction=1.0, metric=metric)
    random, transferred = (gained.of("net", 1.0, t)[0].parts["test"] for t in (RI, TL))
    other = paired_difference(
        metric,
        "binary",
        random.targets,
        transferred.scores,
        random.scores,
        random.groups,
        draws=300,
        seed=7,
    )
    assert {k: bar.gain[k] for k in other} == pytest.approx(other)


def test_holms_family_is_all_bars_of_a_figure():
    """p sorted times the number of tests that are left, never falling: over all means together."""
    skills = flat(["small", "large"])
    skills["small", 0.5, TL] = 4.0
    skills["large", 1.0, TL] = 1.1
    scores = scores_of(study(skills, "multilabel"), 0, draws=200)
    for family in (
        [b for b in scores.bars if b.label == MEAN],
        [b for b in scores.bars if b.label != MEAN and b.fraction == 0.5],
        [b for b in scores.bars if b.label != MEAN and b.fraction == 1.0],
    ):
        assert len(family) in (8, 12)
        highest = 0.0
        for rank, bar in enumerate(sorted(family, key=lambda b: b.gain["p"])):
            highest = max(highest, min(1.0, bar.gain["p"] * (len(family) - rank)))
            assert bar.gain["p_holm"] == pytest.approx(highest)
            assert bar.beyond_noise == (highest < 0.05)
    assert of(scores.bars, network="small", fraction=0.5, label=MEAN, metric="auroc").beyond_noise
    assert not of(
        scores.bars, network="large", fraction=1.0, label=MEAN, metric="auroc"
    ).beyond_noise


def test_equal_runs_have_no_gain():
    gained = study(flat(["net"]), repeats=1)
    same = tuple(
        Done(d.planned, d.run, gained.runs[0].outcome) for d in gained.runs
    )  # RI and TL answer the same
    scores = scores_of(Gained(gained.design, gained.parts, {}, same), 0, draws=50)
    for bar in scores.bars:
        assert (bar.gain["value"], bar.gain["p"], bar.gain["p_holm"]) == (0, 1, 1)


def test_a_p_value_below_what_draws_show_is_that_of_a_normal_tail():
    generator = np.random.default_rng(0)
    draws = generator.normal(6, 1, 1000)
    assert Estimate(6.0, draws).p() == pytest.approx(2 / 1001)
    assert p_value(Estimate(6.0, draws)) == pytest.approx(2 * norm.sf(6 / draws.std()), rel=1e-6)
    near = generator.normal(1, 1, 1000)
    assert p_value(Estimate(1.0, near)) == Estimate(1.0, near).p()
    assert p_value(Estimate(1.0, np.ones(1000))) == pytest.approx(2 / 1001)  # no deviation
    assert np.isnan(p_value(Estimate(float("nan"), near)))


def test_a_failed_run_leaves_its_pair_out():
    gained = study(flat(["net"]), repeats=3, failed=[("net", 1.0, TL, 1)])
    scores = scores_of(gained, 0, draws=50)
    bar = of(scores.bars, fraction=1.0, metric="auroc")
    assert bar.repeats == (0, 2)
    kept = gained.of("net", 1.0, RI)
    each = [
        roc_auc_score(kept[r].parts["test"].targets, kept[r].parts["test"].scores[:, 0])
        for r in (0, 2)
    ]
    assert bar.random["repeats"] == pytest.approx(each)
    lost = [("net", 1.0, RI, r) for r in range(3)]
    assert {
        b.fraction for b in scores_of(study(flat(["net"]), repeats=3, failed=lost), 0, draws=9).bars
    } == {0.5}


def test_the_best_is_the_highest_and_is_compared_with_another_network():
    skills = flat(["small", "large"], random=0.5, transferred=0.6)
    skills["large", 0.5, RI] = 5.0
    skills["large", 0.5, TL] = 4.0
    found = scores_of(study(skills), 0, draws=100)
    for metric in METRICS:
        best = of(found.best, fraction=0.5, metric=metric)
        assert (best.network, best.treatment) == ("large", RI)
        second = of(found.bars, network="small", fraction=0.5, metric=metric)
        other = max(second.random["value"], second.transferred["value"])
        assert best.second in ("small RI", "small TL")
        assert best.ahead["value"] == pytest.approx(best.score["value"] - other)
        assert best.ahead["low"] > 0


def test_fading_is_the_difference_of_the_mean_gains():
    found = scores_of(study(flat(["small", "large"])), 0, draws=60)
    for metric in METRICS:
        gains = {
            f: np.mean(
                [b.gain["value"] for b in found.bars if (b.fraction, b.metric) == (f, metric)]
            )
            for f in (0.5, 1.0)
        }
        assert found.fading[metric]["value"] == pytest.approx(gains[0.5] - gains[1.0])
    assert scores_of(study(flat(["net"], (1.0,)), fractions=(1.0,)), 0, draws=9).fading == {}


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_ratios_and_chance_are_counted(task):
    gained = study(flat(["net"]), task)
    found = scores_of(gained, 0, draws=9)
    labels = ["ill"] if task == "binary" else ["a", "b", "c"]
    for part, fraction in (("train", 0.5), ("train", 1.0), ("test", 1.0)):
        manifest = gained.parts[fraction, 0]
        rows = manifest.table["split"] == part
        for k, label in enumerate(labels):
            column = manifest.targets[rows.to_numpy()]
            column = column if task == "binary" else column[:, k]
            one = of(found.balances, part=part, fraction=fraction, label=label)
            positives, negatives = int((column == 1).sum()), int((column == 0).sum())
            assert (one.images, one.positives, one.negatives) == (rows.sum(), positives, negatives)
            assert one.ratio == negatives / positives
            if part == "test":
                chance = positives / (positives + negatives)
                assert found.chance[label] == pytest.approx(chance) == one.prevalence
    assert found.chance[MEAN] == pytest.approx(np.mean([found.chance[x] for x in labels]))


def test_late_epochs_are_counted():
    gained = study(flat(["net"]), repeats=2)
    (one, *_) = learning(gained)  # the best epoch is the last of four
    assert (one.fraction, one.treatment, one.epochs, one.steps) == (0.5, RI, 4, 4 * (30 // 8))
    assert (one.runs, one.late) == (2, 2)
