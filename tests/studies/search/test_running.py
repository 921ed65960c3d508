"""The search itself: whole, interrupted, out of time; the best trial again from its plan."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.metrics import average_precision_score, balanced_accuracy_score

from layerwise.config import read_json
from layerwise.errors import LayerwiseError
from layerwise.evaluation.metrics import measure
from layerwise.studies.automatic import run_automatic
from layerwise.studies.board import Board
from layerwise.studies.plan import write_plan
from layerwise.studies.prepare import Request
from layerwise.studies.search import running, study
from layerwise.studies.search.running import fit_plan, run_search
from layerwise.studies.search.study import Asked, prepare_search
from layerwise.training.recipe import Recipe

SPACE = """
[model]
units = [2, 4, 8]
layers = { low = 1, high = 3 }

[training]
lr = { low = 1e-3, high = 1.0, log = true }
batch = [8, 16]
optimizer = "sgd"
"""
TRIALS, EPOCHS = 7, 3


@pytest.fixture
def make(data_file, tmp_path, monkeypatch):
    """(out, changes of Asked and Request) → a study that is about to be searched."""
    monkeypatch.setattr(study, "MOST_MEASURED", 1)
    path = tmp_path / "space.toml"
    path.write_text(SPACE, encoding="utf-8")

    def made(out="out", cache="cache", **changes):
        request = Request(
            data=str(data_file("binary")),
            out=tmp_path / out,
            cache=tmp_path / cache,
            model="custom",
            weights="auto",
            image_size=16,
            augment="none",
            seconds=changes.pop("seconds", 3600.0),
            threads=1,
            shared=True,
        )
        asked = Asked(**{"space": path, "trials": TRIALS, "epochs": EPOCHS} | changes)

        def recipe_of(_preset, base: Recipe) -> Recipe:
            return replace(base, **asked.training)

        quiet = (lambda _words: None, lambda _title: lambda _done, _all: None)
        return prepare_search(request, asked, recipe_of, *quiet, time.monotonic())

    return made


def facts(found):
    """Everything of a search but its times."""
    return [
        (m.trial.number, m.trial.state, m.trial.values, m.trial.score, m.trial.curve, m.run.id)
        for m in found.made
    ]


def weights(found):
    folder = found.study.out / "runs"
    return {
        m.run.id: load_file(folder / m.run.id / "weights.safetensors")
        for m in found.made
        if m.trial.state == "done"
    }


class Interrupts(Board):
    """A person who presses Ctrl-C in the middle of some trials."""

    def __init__(self, *numbers):
        super().__init__()
        self.numbers = set(numbers)

    def progress(self, index, done, total):
        if index in self.numbers and done > total // 2:
            self.numbers.remove(index)
            raise KeyboardInterrupt


def test_interrupted_in_a_trial_it_ends_as_if_it_had_not_been(make):
    whole = run_search(make("whole", "cache1"), Board())
    board, sittings = Interrupts(0, 4), 1  # too early to be pruned
    while True:
        try:
            cut = run_search(make("cut", "cache2"), board)
            break
        except KeyboardInterrupt:
            sittings += 1
    assert sittings == 3 and board.numbers == set()
    assert facts(cut) == facts(whole) and len(whole.made) == TRIALS
    assert cut.best.trial.number == whole.best.trial.number
    for id, tensors in weights(whole).items():
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(tensor, weights(cut)[id][name])
    np.testing.assert_array_equal(cut.said.scores, whole.said.scores)
    plans = [read_json(f.study.out / "plan.json") for f in (cut, whole)]
    assert plans[0]["ended"] == plans[1]["ended"]
    assert plans[0]["ended"]["why"] == "trials"

    # What a trial counts by is the metric of what it says of the validation part.
    for one in whole.made:
        if one.outcome is not None:
            said = one.outcome.validation
            score = measure("binary", said.targets, said.scores)["auroc"]
            assert one.trial.score == score
            assert max(one.trial.curve) == pytest.approx(score, abs=1e-6)
            assert len(one.trial.curve) == EPOCHS
    scores = [m.trial.score for m in whole.made if m.trial.score is not None]
    assert whole.best.trial.score == max(scores)
    # The test part was asked for once, of one trial.
    tested = [p.parent.name for p in (whole.study.out / "runs").glob("*/test.npz")]
    assert tested == [whole.best.run.id]

    # The same command again makes nothing; more trials go on from there.
    again = run_search(make("whole", "cache1"), Board())
    assert facts(again) == facts(whole)
    more = run_search(make("whole", "cache1", trials=TRIALS + 2), Board())
    assert facts(more)[:TRIALS] == facts(whole) and len(more.made) == TRIALS + 2

    # Runs that another search has made are found, and a lost database is written again.
    (whole.study.out / "search.db").unlink()
    found = run_search(make("whole", "cache1", trials=TRIALS + 2), Board())
    assert facts(found) == facts(more)
    other = run_search(make("other", "cache1", trials=3), Board())
    assert facts(other) == facts(whole)[:3]
    assert all(other.study.work.runs.taken(m.run) for m in other.made)


class Impatient(Interrupts):
    """A person who presses Ctrl-C in every trial's first epoch, or the system that kills it."""

    def __init__(self, times):
        super().__init__()
        self.times = times

    def progress(self, index, done, total):
        if self.times:
            self.times -= 1
            raise KeyboardInterrupt


def test_a_trial_that_kills_its_process_again_and_again_has_failed(make, monkeypatch):
    whole = run_search(make("whole", "cache1", trials=2), Board())
    for out, killed in (("asked", False), ("killed", True)):
        if killed:  # whose process has no time to write that it ends in good order
            monkeypatch.setattr(running.Book, "forget", lambda _book, _number: None)
        board = Impatient(running.ATTEMPTS + 2)
        for _ in range(running.ATTEMPTS if killed else board.times):
            with pytest.raises(KeyboardInterrupt):
                run_search(make(out, f"cache {out}", trials=2), board)
        board.times = 0
        found = run_search(make(out, f"cache {out}", trials=2), board)
        if not killed:
            assert facts(found) == facts(whole)
    first, second = (one.trial for one in found.made)
    assert first.state == "failed" and first.values == whole.made[0].trial.values
    assert "its process was killed 3 times before it came any further" in first.notes["reason"]
    assert second.state == "done"


@pytest.mark.parametrize("metric", ["auprc", "balanced_accuracy"])
def test_the_metric_chooses_epochs_too(make, metric):
    found = run_search(make(trials=2, pruner="none", metric=metric), Board())
    plain = run_search(make("plain", trials=2, pruner="none"), Board())
    assert {m.run.id for m in found.made}.isdisjoint(m.run.id for m in plain.made)
    for one in found.made:
        said = one.outcome.validation
        truth, scores = said.targets, said.scores[:, 0]
        score = (
            average_precision_score(truth, scores)
            if metric == "auprc"
            else balanced_accuracy_score(truth, scores >= 0.5)
        )
        assert one.trial.score == pytest.approx(score)
        assert max(one.trial.curve) == pytest.approx(score, abs=1e-6)
    assert fit_plan(found).metric == metric and fit_plan(plain).metric == "auroc"


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["auroc", "auprc"])
def test_the_best_trial_is_trained_again_by_a_fit(make, tmp_path, metric):
    found = run_search(make(trials=3, pruner="none", metric=metric), Board())
    path = tmp_path / "best.json"
    write_plan(fit_plan(found), path)
    request = Request(
        data=found.study.request.data,
        out=tmp_path / "fit",
        cache=tmp_path / "fresh",
        threads=1,
        seconds=600.0,
    )
    quiet = (lambda _words: None, lambda _title: lambda _done, _all: None)
    fitted = run_automatic(request, *quiet, plan_file=path)
    (_, outcome), *others = fitted.trained
    assert not others and outcome is not None
    assert outcome.run.id == found.best.run.id
    ours = load_file(found.study.out / "runs" / outcome.run.id / "weights.safetensors")
    assert all(np.array_equal(ours[name], outcome.weights[name]) for name in ours)
    setup = read_json(found.study.out / "plan.json")["setup"]  # as `export` reads it
    assert setup["arguments"] == dict(found.best.settings.arguments)


def test_hopeless_trials_are_pruned_and_their_runs_stay_unfinished(make, monkeypatch):
    monkeypatch.setattr(running, "Pruner", Every)
    found = run_search(make(trials=3), Board())
    states = [m.trial.state for m in found.made]
    assert states == ["done", "pruned", "done"]
    for one in found.made:
        folder = found.study.out / "runs" / one.run.id
        assert (folder / "result.json").is_file() == (one.trial.state == "done")
        assert len(one.trial.curve) == (EPOCHS if one.trial.state == "done" else 2)
    # Found finished, a trial is pruned where it would have been.
    monkeypatch.setattr(running, "Pruner", Never)
    run_search(make("second", trials=3), Board())
    monkeypatch.setattr(running, "Pruner", Every)
    third = run_search(make("third", trials=3), Board())
    assert facts(third) == facts(found)


class Never:
    def __init__(self, space, trials, epochs):
        self.number = len(trials)

    def hopeless(self, curve):
        return False


class Every(Never):
    """Prunes every other trial after its second epoch."""

    def hopeless(self, curve):
        return self.number % 2 == 1 and len(curve) >= 2


def test_when_the_time_is_up_the_running_trial_ends_at_an_epoch(make):
    """By a clock of our own: each look at it is ten seconds."""
    about = make(trials=None, seconds=1000.0, pruner="none")
    now = [about.started]

    def clock():
        now[0] += 10
        return now[0]

    found = run_search(about, Board(), clock)
    ended = read_json(about.out / "plan.json")["ended"]
    assert ended["why"] == "time" and ended["count"] == len(found.made) > 3
    assert 900 <= now[0] - about.started <= 1100
    last = found.made[-1].trial
    assert last.state in ("done", "stopped")
    again = run_search(make(trials=None, seconds=1000.0, pruner="none"), Board())
    assert facts(again) == facts(found)


def test_trials_that_diverge_fail_and_the_search_goes_on(make, tmp_path):
    path = tmp_path / "wild.toml"
    path.write_text('[training]\nlr = [0.05, 1e30]\noptimizer = "sgd"\n', encoding="utf-8")
    found = run_search(make(space=path, trials=None, pruner="none"), Board())
    by_rate = {m.trial.values["lr"]: m.trial for m in found.made}
    assert {rate: t.state for rate, t in by_rate.items()} == {0.05: "done", 1e30: "failed"}
    assert "the loss became" in by_rate[1e30].notes["reason"]
    assert read_json(found.study.out / "plan.json")["ended"]["why"] == "space"
    path.write_text('[training]\nlr = [1e30]\noptimizer = "sgd"\n', encoding="utf-8")
    with pytest.raises(LayerwiseError, match="none of 1 trials could be trained.*the loss became"):
        run_search(make("none", space=path), Board())


def test_another_search_in_the_folder_is_refused(make):
    make()
    for changes, message in (
        ({"epochs": 2}, "holds a search with epochs = 3, and this one has 2"),
        ({"metric": "auprc"}, "metric = 'auroc', and this one has 'auprc'"),
        ({"training": {"label_smoothing": 0.2}}, "label_smoothing = 0.1, and this one has 0.2"),
        ({"space": None}, "the field units = '2, 4, 8', and this one has '8, 16, 32'"),
    ):
        with pytest.raises(LayerwiseError, match=message):
            make(**changes)


def test_a_time_too_short_for_one_trial_is_refused_before_any(make, tmp_path):
    with pytest.raises(LayerwiseError, match="--time is too short for one trial: 900 epochs"):
        make(seconds=0.5, epochs=900)
    assert not (tmp_path / "out" / "plan.json").exists()


def test_a_setting_that_is_searched_and_fixed_is_refused(make):
    with pytest.raises(LayerwiseError, match="lr is searched there, and fixed"):
        make(training={"lr": 0.1})


def test_what_is_fixed_is_not_searched(make):
    fixed = {"lr": 0.1, "batch": 8, "optimizer": "adamw", "schedule": "cosine"}
    about = make(space=None, training=fixed)
    assert [d.field for d in about.space.dimensions] == ["layers", "units", "kernel"]
    assert json.loads((about.out / "plan.json").read_text())["settings"]["recipe"]["lr"] == 0.1


def test_a_validation_part_without_a_class_is_named(workspace):
    manifest = workspace("binary").manifest
    targets = manifest.targets.copy()
    targets[manifest.indices("val")] = 0
    study._check_metric("auroc", manifest)
    with pytest.raises(
        LayerwiseError, match="auroc is not defined on the validation part of.*--val"
    ):
        study._check_metric("accuracy", manifest.replace(targets=targets))
