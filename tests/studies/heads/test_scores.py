"""Scores of a heads study, from predictions made up so that they can be worked out otherwise."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import accuracy_score, roc_auc_score

from layerwise.data.manifest import Manifest, make_table
from layerwise.evaluation.intervals import paired_difference
from layerwise.evaluation.predictions import Predictions
from layerwise.studies.engine import Done, Planned
from layerwise.studies.heads.experiment import CONNECTED, POOLED, SVM, Compared, Design, places
from layerwise.studies.heads.scores import DRAWS, STREAMS, findings
from layerwise.studies.study import Outcome, Run
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

COUNTS = {"train": 120, "val": 80, "test": 80}
SIZES = {CONNECTED: 5000, POOLED: 20, SVM: 900}
BASE = 1000


def data():
    splits = [part for part, count in COUNTS.items() for _ in range(count)]
    targets = (np.arange(len(splits)) % 2).astype(np.int64)
    table = make_table([f"i{i}" for i in range(len(splits))], splits=splits)
    return Manifest("made up", "binary", ("well", "ill"), table, targets)


def said(manifest, part, share, seed):
    """Predictions of which exactly this share is right."""
    rows = manifest.indices(part)
    truth = manifest.targets[rows]
    generator = np.random.default_rng([seed, len(part)])
    wrong = generator.permutation(len(rows))[: round((1 - share) * len(rows))]
    decided = truth.copy()
    decided[wrong] = 1 - decided[wrong]
    scores = 0.5 + (decided - 0.5) * generator.uniform(0.1, 1, len(rows))
    ids = manifest.table["id"].to_numpy(dtype=str)[rows]
    return Predictions(ids, truth, scores[:, None].astype(np.float32), ids)


def history(best, losses):
    return [
        {
            "epoch": e,
            "loss": 1.0,
            "score": float(e == best),
            "train_loss": loss / 2,
            "train_accuracy": 0.9,
            "val_loss": loss,
            "val_accuracy": 0.8,
        }
        for e, loss in enumerate(losses)
    ]


def outcome(manifest, head, shares, seed, losses=(0.5, 0.2, 0.4)):
    details = {"history": history(1, losses)}
    if head == SVM:
        details = {"C": 0.1, "grid": [0.01, 0.1, 1.0], "accuracy": [0.7, 0.8, 0.75], "folds": 3}
    parts = {part: said(manifest, part, shares[part], seed) for part in ("train", "test")}
    run = Run(head, "trained", {"head": head, "seed": seed})
    validation = said(manifest, "val", shares["val"], seed)
    return Outcome(run, 2.0, BASE + SIZES[head], validation, details, {}, parts)


def study(shares, repeats=1, failed=(), **more):
    """shares: head → part → the share of right answers with all images."""
    manifest = data()
    cut = SimpleNamespace(parameters=BASE)
    design = Design(cut, (0.5, 1.0), repeats, Recipe(epochs=3), 3)
    split = manifest.table["split"].to_numpy(dtype=object).copy()
    split[:60] = ""
    half = manifest.replace(split=split)
    parts = {(f, r): half if f < 1 else manifest for f in design.fractions for r in range(repeats)}
    trained = {}
    for place in places(design):
        head, fraction, repeat = place
        made = outcome(parts[fraction, repeat], head, shares[head], repeat, **more)
        lost = place in failed
        planned = Planned("", head, Transfer(), design.recipe, repeat)
        trained[place] = Done(planned, made.run, None if lost else made, "diverged" if lost else "")
    svms = tuple(outcome(manifest, SVM, shares[SVM], 10 + r) for r in range(repeats))
    curve = tuple(
        Outcome(
            Run("point", "curve", {"f": f}),
            0.1,
            0,
            said(manifest, "val", 0.6 + 0.3 * f, 5),
            {
                "images": 60,
                "without_fold": [40, 40, 41],
                "train": [1.0, 0.9, None],
                "held_out": [0.8, 0.7, 0.75],
            },
        )
        for f in design.fractions
    )
    work = SimpleNamespace(manifest=manifest, seed=3)
    return work, Compared(design, parts, trained, svms, (curve,) * repeats)


EQUAL = {head: {"train": 1.0, "val": 0.9, "test": 0.85} for head in SIZES}


def test_values_are_scikit_learns_and_intervals_those_of_a_binomial():
    work, made = study(EQUAL)
    found = findings(work, made)
    for row in found.heads:
        outcome = made.of(row["head"])[0]
        for part, one in (("val", outcome.validation), ("test", outcome.parts["test"])):
            wanted = accuracy_score(one.targets, one.scores[:, 0] >= 0.5)
            assert row[f"{part}_accuracy"]["value"] == pytest.approx(wanted)
            ranking = roc_auc_score(one.targets, one.scores[:, 0])
            assert row[f"{part}_auroc"]["value"] == pytest.approx(ranking)
        low, high = binom.ppf([0.025, 0.975], 80, 0.9) / 80
        assert row["val_accuracy"]["low"] == pytest.approx(low, abs=0.015)
        assert row["val_accuracy"]["high"] == pytest.approx(high, abs=0.015)
        assert row["parameters"] == SIZES[row["head"]]
    assert next(r for r in found.heads if r["head"] == SVM)["cross_validated"] == 0.8


@pytest.mark.parametrize(
    ("train", "val", "overfits"), [(1.0, 0.85, True), (1.0, 0.9875, False), (0.9, 0.9, False)]
)
def test_overfitting_is_a_gap_whose_whole_interval_is_above_0(train, val, overfits):
    shares = {head: {"train": train, "val": val, "test": 0.8} for head in SIZES}
    work, made = study(shares)
    for row in findings(work, made).heads:
        assert row["gap"]["value"] == pytest.approx(train - val, abs=1e-9)
        # Both parts are resampled on their own: the variance of the gap is the sum of theirs.
        deviation = np.sqrt(train * (1 - train) / 120 + val * (1 - val) / 80)
        assert row["gap"]["high"] - row["gap"]["low"] == pytest.approx(
            3.92 * deviation, rel=0.15, abs=0.015
        )
        assert row["overfits"] is overfits


def test_pairs_are_paired_and_corrected_within_a_part():
    shares = {
        CONNECTED: {"train": 1.0, "val": 0.95, "test": 0.9},
        POOLED: {"train": 1.0, "val": 0.6, "test": 0.9},
        SVM: {"train": 1.0, "val": 0.9, "test": 0.9},
    }
    work, made = study(shares)
    found = findings(work, made)
    assert [(r["part"], r["head"], r["other"]) for r in found.pairs[:3]] == [
        ("val", CONNECTED, POOLED),
        ("val", CONNECTED, SVM),
        ("val", POOLED, SVM),
    ]
    for row in found.pairs:
        one, other = (made.of(row[side])[0] for side in ("head", "other"))
        one, other = (
            (o.validation if row["part"] == "val" else o.parts["test"]) for o in (one, other)
        )
        wanted = paired_difference(
            "accuracy",
            "binary",
            one.targets,
            one.scores,
            other.scores,
            one.groups,
            draws=DRAWS,
            seed=work.seed + STREAMS[row["part"]],
        )
        for side in ("value", "low", "high"):
            assert row["difference"][side] == pytest.approx(wanted[side], abs=1e-12)
    for part in ("val", "test"):  # Holm by hand
        rows = sorted(
            (r for r in found.pairs if r["part"] == part), key=lambda r: r["difference"]["p"]
        )
        so_far = 0.0
        for left, row in zip((3, 2, 1), rows, strict=True):
            so_far = max(so_far, min(1.0, left * row["difference"]["p"]))
            assert row["difference"]["p_holm"] == pytest.approx(so_far)
            assert row["beyond_noise"] is (so_far < 0.05)
    assert [row["beyond_noise"] for row in found.pairs[:3]] == [True, False, True]
    assert found.best == CONNECTED and found.recommended == SVM  # smaller, and within noise


def test_the_smallest_of_equal_heads_is_recommended():
    work, made = study(EQUAL)
    assert findings(work, made).recommended == POOLED


def test_curves_by_epoch_and_size_are_what_was_measured():
    work, made = study(EQUAL)
    found = findings(work, made)
    mine = [row for row in found.epochs if row["head"] == POOLED]
    assert [(r["epoch"], r["val_loss"], r["kept"]) for r in mine] == [
        (1, 0.5, False),
        (2, 0.2, True),
        (3, 0.4, False),
    ]
    connected = next(row for row in found.heads if row["head"] == CONNECTED)
    assert connected["kept_epochs"] == [2] and connected["lowest_loss_epoch"] == 2
    assert (connected["lowest_loss"], connected["last_loss"]) == (0.2, 0.4)
    sizes = {(row["head"], row["fraction"]): row for row in found.sizes}
    assert len(sizes) == 6
    assert sizes[POOLED, 0.5]["images"] == 60 and sizes[POOLED, 1.0]["images"] == 120
    svm = sizes[SVM, 0.5]
    assert svm["val_accuracy"]["value"] == pytest.approx(0.75)
    assert svm["cross_validated"] == {
        "value": pytest.approx(0.75),
        "sd": pytest.approx(np.std([0.8, 0.7, 0.75], ddof=1)),
    }
    assert svm["train_in_folds"]["value"] == pytest.approx(0.95)
    assert svm["learnt_in_folds"] == pytest.approx(121 / 3)
    assert [(r["C"], r["chosen"]) for r in found.grid] == [(0.01, False), (0.1, True), (1.0, False)]


def test_a_head_that_failed_is_left_out_everywhere():
    failed = [(CONNECTED, f, 0) for f in (0.5, 1.0)]
    work, made = study(EQUAL, failed=failed)
    found = findings(work, made)
    assert [row["head"] for row in found.heads] == [POOLED, SVM]
    assert len(found.pairs) == 2 and {row["head"] for row in found.epochs} == {POOLED}
    assert (CONNECTED, 1.0) not in {(row["head"], row["fraction"]) for row in found.sizes}


def test_repeats_are_averaged_and_paired():
    shares = EQUAL | {POOLED: {"train": 0.95, "val": 0.8, "test": 0.8}}
    work, made = study(shares, repeats=3)
    found = findings(work, made)
    row = next(r for r in found.heads if r["head"] == POOLED)
    assert row["val_accuracy"]["repeats"] == pytest.approx([0.8] * 3)
    assert row["repeats"] == 3 and len(row["kept_epochs"]) == 3
    assert len([r for r in found.epochs if r["head"] == POOLED]) == 9
    assert len(found.grid) == 9
