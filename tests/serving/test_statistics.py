"""Counts that add up to the same whatever the order, and come back from JSON as they were."""

import copy
import json

import numpy as np
import pytest

from layerwise.errors import StatisticsError
from layerwise.serving.measures import INPUTS, NEGATIVE, SCORES
from layerwise.serving.statistics import HIGHEST, Statistics, reference

TASKS = {
    "binary": ["NORMAL", "PNEUMONIA"],
    "multiclass": ["A", "B", "C"],
    "multilabel": ["Mass", "Nodule"],
}


def pictures(n, seed=0):
    """X-rays of a kind: bright in the middle, each with its own noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:24j, -1:1:20j]
    base = 180 * np.exp(-2 * (x**2 + y**2))
    noisy = base + rng.normal(30, 20, (n, 24, 20)) + rng.normal(0, 10, (n, 1, 1))
    return noisy.clip(0, 255).astype(np.uint8)[..., None]


def answers(task, n, seed=0):
    """Scores and decisions as a bundle gives them."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0, 1, (n, 1 if task == "binary" else len(TASKS[task]))).astype(np.float32)
    if task == "multiclass":
        return scores, scores.argmax(axis=1)
    yes = (scores >= 0.4).astype(np.int64)
    return scores, yes[:, 0] if task == "binary" else yes


def counted(task, n=30, seed=0, template=None):
    statistics = Statistics(task, TASKS[task], template)
    sizes = [(k + 10, 30) if k % 3 else None for k in range(n)]
    statistics.add(pictures(n, seed), *answers(task, n, seed), sizes)
    return statistics


@pytest.mark.parametrize("task", TASKS)
def test_scores_and_decisions_are_counted_by_label(task):
    scores, decisions = answers(task, 50)
    found = Statistics(task, TASKS[task])
    found.add_scores(scores, decisions)
    names = TASKS[task][1:] if task == "binary" else TASKS[task]
    assert list(found.scores) == list(found.decided) == names
    for k, name in enumerate(names):
        expected, _ = np.histogram(scores[:, k].astype(float), SCORES)
        np.testing.assert_array_equal(found.scores[name], expected)
        yes = sum(d == TASKS[task].index(name) if decisions.ndim == 1 else d[k] for d in decisions)
        assert found.decided[name].tolist() == [50 - yes, yes]
    assert (found.answers, found.images) == (50, 0)


def test_of_very_many_labels_only_the_highest_probability_is_kept():
    labels = [f"class {k}" for k in range(40)]
    found = Statistics("multiclass", labels)
    scores = np.random.default_rng(0).dirichlet(np.ones(40), 9)
    found.add_scores(scores, scores.argmax(axis=1))
    assert list(found.scores) == [HIGHEST]
    np.testing.assert_array_equal(found.scores[HIGHEST], np.histogram(scores.max(1), SCORES)[0])
    assert sum(yes for _, yes in found.decided.values()) == 9


@pytest.mark.parametrize("task", TASKS)
def test_parts_add_up_to_the_whole_in_any_order(task):
    whole = counted(task, 30)
    scores, decisions = answers(task, 30)
    sizes = [(k + 10, 30) if k % 3 else None for k in range(30)]
    some = [slice(20, 30), slice(0, 7), slice(7, 20)]
    total = whole.beside()
    for part in some:
        one = whole.beside()
        one.add(pictures(30)[part], scores[part], decisions[part], sizes[part])
        total.merge(one)
    assert total.to_json() == whole.to_json()
    assert whole.inputs["side"].sum() == 20  # of the others the size is not known
    assert whole.beside().images == 0


@pytest.mark.parametrize("task", TASKS)
def test_json_and_back(task):
    made = counted(task, template=np.linspace(-1, 1, 256) / np.linalg.norm(np.linspace(-1, 1, 256)))
    text = json.dumps(made.to_json(), allow_nan=False)
    again = Statistics.from_json(json.loads(text), "here")
    assert json.dumps(again.to_json()) == text
    np.testing.assert_allclose(again.template, made.template, atol=1e-4)
    assert len(text) < 20_000


def test_the_template_of_training_pictures_is_their_mean_and_each_is_likened_to_the_others():
    some = pictures(60)
    scores, decisions = answers("binary", 25)
    found = reference("binary", TASKS["binary"], [some[:50], some[50:]], None, scores, decisions)
    blocks = np.stack([np.asarray(one[..., 0], float) for one in some])
    # 24 × 20 pixels do not divide by 16, so the thumbnails are compared by what follows from them
    assert found.inputs["likeness"].sum() == found.images == 60
    assert found.answers == 25
    edges = INPUTS["likeness"]
    middle = (found.inputs["likeness"] * (edges[1:] + edges[:-1]) / 2).sum() / 60
    apart = [
        np.corrcoef(blocks[k].ravel(), np.delete(blocks, k, 0).mean(axis=0).ravel())[0, 1]
        for k in range(60)
    ]
    assert middle > np.mean(apart) > 0.8  # thumbnails are smoother than pictures
    assert found.inputs["negative"].tolist() == [60, 0]
    later = found.beside()
    later.add_inputs(255 - pictures(40, seed=9))
    assert later.inputs["negative"].tolist() == [0, 40]
    assert NEGATIVE < 0


def test_few_training_pictures_give_no_template():
    scores, decisions = answers("binary", 5)
    found = reference("binary", TASKS["binary"], [pictures(19)], [(9, 9)] * 19, scores, decisions)
    assert found.template is None and found.inputs["likeness"].sum() == 0
    assert found.inputs["side"].sum() == 19


def test_statistics_of_other_labels_are_not_added():
    with pytest.raises(StatisticsError, match="keep those of each model apart"):
        counted("binary").merge(counted("multilabel"))


def damage(**changes):
    values = copy.deepcopy(counted("binary", 3).to_json())
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = values
        for key in parents:
            place = place[key]
        place[last] = value
    return values


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        damage(format=2),
        damage(task="other"),
        damage(labels=["A", "A"]),
        damage(labels="AB"),
        damage(labels=["A"]),
        damage(template=[0] * 255),
        damage(template=[0.5] * 256),
        damage(inputs={}),
        damage(inputs__brightness=[1]),
        damage(inputs__brightness=[-1] * 64),
        damage(inputs__brightness=[1.0] * 64),
        damage(inputs__brightness=[True] * 64),
        damage(scores__PNEUMONIA=None),
        damage(decided=None),
        damage(decided__PNEUMONIA=[2**60, 0]),
    ],
    ids=[str(k) for k in range(17)],
)
def test_damaged_statistics_are_refused_by_name(values):
    with pytest.raises(StatisticsError, match=r"statistics.json: .*(again|with)"):
        Statistics.from_json(values, "statistics.json")
