"""The floor: the dummy by closed form, the forest on planted pixels, nothing done twice."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from layerwise.studies import baselines
from layerwise.studies.baselines import floor_on_test, floors


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_both_floors(workspace, task, monkeypatch):
    work = workspace(task)
    dummy, forest = floors(work)
    assert (dummy.run.name, forest.run.name) == ("dummy", "random forest")
    learnt = work.manifest.targets[work.rows("train")]
    if task == "binary":
        share = np.array([learnt.mean()])
    elif task == "multiclass":
        share = np.array([(learnt == k).mean() for k in range(3)])
    else:
        share = learnt.mean(axis=0)
    for outcome, split in ((dummy.validation, "val"), (floor_on_test(work, dummy), "test")):
        np.testing.assert_allclose(outcome.scores, np.tile(share, (24, 1)), rtol=1e-6)
        np.testing.assert_array_equal(outcome.targets, work.manifest.targets[work.rows(split)])
        assert outcome.ids.tolist() == [f"{split}/{i}" for i in range(24)]
    for said in (forest.validation, floor_on_test(work, forest)):
        scores = said.scores[:, 0] if task == "binary" else said.scores
        assert scores.dtype == np.float32
        assert roc_auc_score(said.targets, scores / _sum(scores, task), multi_class="ovr") > 0.99

    monkeypatch.setattr(baselines, "_fit", None)  # nothing is fitted again
    for one, other in zip((dummy, forest), floors(workspace(task)), strict=True):
        np.testing.assert_array_equal(one.validation.scores, other.validation.scores)


def _sum(scores: np.ndarray, task: str) -> np.ndarray | float:
    """scikit-learn wants rows of exactly 1."""
    return scores.sum(axis=1, keepdims=True) if task == "multiclass" else 1.0


def test_the_forest_learns_from_a_bounded_sample(workspace, monkeypatch):
    work = workspace()
    monkeypatch.setattr(baselines, "MOST", 30)
    rows = baselines._sample(work)
    assert len(rows) == 30 and set(rows) <= set(work.rows("train"))
    assert rows.tolist() == sorted(set(rows.tolist()))
    np.testing.assert_array_equal(rows, baselines._sample(work))
    monkeypatch.setattr(baselines, "MOST", 48)
    np.testing.assert_array_equal(baselines._sample(work), work.rows("train"))


def test_small_pictures_come_in_chunks_and_in_order(workspace, monkeypatch):
    work = workspace()
    rows = work.rows("val")
    whole = baselines._small(work, rows)
    assert whole.shape == (24, 1024) and whole.dtype == np.uint8
    np.testing.assert_array_equal(whole, work.store.read(rows).reshape(24, -1))  # 32×32 already
    monkeypatch.setattr(baselines, "CHUNK", 7)
    np.testing.assert_array_equal(baselines._small(work, rows), whole)
