"""Runs: named by what decides them, found when finished, not found when half done."""

import numpy as np
import pytest

from layerwise.config import read_json
from layerwise.evaluation.predictions import Predictions
from layerwise.studies.study import Outcome, Run, RunStore


def predictions(seed: int = 0) -> Predictions:
    generator = np.random.default_rng(seed)
    ids = np.array([f"val/{i}" for i in range(5)])
    scores = generator.random((5, 1)).astype(np.float32)
    return Predictions(ids, np.array([0, 1, 1, 0, 1]), scores, ids)


def run(name: str = "a", **changes: object) -> Run:
    return Run(name, "trained", {"data": "d", "seed": 0, "recipe": {"lr": 0.1}} | changes)


def test_the_id_is_of_everything_but_the_name():
    assert run("a").id == run("b").id
    assert Run("a", "trained", dict(reversed(run().settings.items()))).id == run().id
    others = [
        run(seed=1),
        run(recipe={"lr": 0.2}),
        run(more=None),
        Run("a", "probe", run().settings),
    ]
    assert len({run().id, *(other.id for other in others)}) == 5
    assert len(run().id) == 16 and int(run().id, 16) >= 0


def test_a_finished_run_comes_back_as_it_was(tmp_path):
    weights = {
        "w": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32),
        "count": np.array(7, np.int64),
        "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    }
    outcome = Outcome(run(), 1.5, 12, predictions(), {"history": [{"loss": 0.1}]}, weights)
    RunStore(tmp_path / "runs").finish(outcome)
    found = RunStore(tmp_path / "runs").find(run("called otherwise"))
    assert found is not None
    assert (found.seconds, found.parameters) == (1.5, 12)
    assert found.details == {"history": [{"loss": 0.1}]}
    assert found.weights.keys() == weights.keys()
    for name, value in weights.items():
        assert found.weights[name].dtype == value.dtype
        assert found.weights[name].shape == value.shape  # () too: batch norm counts its steps
        np.testing.assert_array_equal(found.weights[name], value)
    for field in ("ids", "targets", "scores", "groups"):
        np.testing.assert_array_equal(
            getattr(found.validation, field), getattr(outcome.validation, field)
        )
    assert read_json(tmp_path / "runs" / run().id / "run.json")["name"] == "a"
    assert RunStore(tmp_path / "runs").find(run(seed=1)) is None


def test_a_run_without_its_result_is_not_finished(tmp_path):
    store = RunStore(tmp_path)
    assert store.find(run()) is None
    place = store.place(run())
    assert store.find(run()) is None
    store.finish(Outcome(run(), 1.0, 1, predictions(), {}, {"w": np.zeros(2, np.float32)}))
    (place / "result.json").unlink()
    assert store.find(run()) is None
    assert store.place(run()) == place


@pytest.mark.parametrize("moment", ["validation", "weights", "result"])
def test_killed_while_it_is_written_it_is_not_finished(tmp_path, monkeypatch, moment):
    from layerwise.studies import study

    def killed(*_anything: object, **_more: object) -> None:
        raise KeyboardInterrupt

    store = RunStore(tmp_path)
    store.place(run())
    if moment == "validation":
        monkeypatch.setattr(Predictions, "save", killed)
    elif moment == "weights":
        monkeypatch.setattr(study, "save_file", killed)
    else:
        monkeypatch.setattr(study, "write_json", killed)
    outcome = Outcome(run(), 1.0, 1, predictions(), {}, {"w": np.ones(2, np.float32)})
    with pytest.raises(KeyboardInterrupt):
        store.finish(outcome)
    monkeypatch.undo()
    assert store.find(run()) is None
    store.finish(outcome)
    found = store.find(run())
    assert found is not None and found.weights["w"].tolist() == [1, 1]


def test_a_failed_rewrite_leaves_the_old_predictions(tmp_path, monkeypatch):
    old, new = predictions(0), predictions(1)
    old.save(tmp_path / "p.npz")
    monkeypatch.setattr(np, "savez", lambda *_a, **_k: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        new.save(tmp_path / "p.npz")
    np.testing.assert_array_equal(Predictions.load(tmp_path / "p.npz").scores, old.scores)
