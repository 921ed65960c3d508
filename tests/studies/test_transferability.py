"""Transferability: which treatments there are, what is copied and frozen, what a row says."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from layerwise.studies.trained import train
from layerwise.studies.transferability import RANDOM, compare, comparison_rows, treatments
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

RECIPE = Recipe(epochs=1, batch=12, lr=3e-3, copied_lr=0.1, layer_decay=0.5)
LAYERS = ["conv1", "conv2", "conv3", "fc1", "fc2"]


def test_the_treatments_of_the_paper():
    found = treatments("A", ["one", "two"])
    assert [(t.name, t.cut) for t in found] == [
        (RANDOM, None),
        ("AnB", "one"),
        ("AnB+", "one"),
        ("AnB", "two"),
        ("AnB+", "two"),
    ]
    assert found[0].transfer == Transfer("none", "all", "none", "none")
    assert found[3].transfer == Transfer("A", "all", "two", "two")
    assert found[4].transfer == Transfer("A", "all", "two", "none")


@pytest.fixture
def compared(workspace, tmp_path):
    base = train(workspace("multiclass", out=tmp_path / "base"), Transfer(), RECIPE)
    source = tmp_path / "base" / "runs" / base.run.id
    work = workspace(weights=str(source))
    return work, load_file(source / "weights.safetensors"), compare(work, RECIPE, 2)


def test_copied_layers_are_the_sources_and_rows_say_what_they_reached(compared):
    work, source, found = compared
    check_rows(work, found)
    assert [t.cut for t, _ in found[1::2]] == LAYERS
    for treatment, outcomes in found:
        assert len(outcomes) == 2
        assert outcomes[0].run.id != outcomes[1].run.id
        assert outcomes[0].run.settings["recipe"]["copied_lr"] == 1.0  # one rate for all layers
        assert outcomes[0].run.settings["recipe"]["layer_decay"] == 1.0
        upto = LAYERS.index(treatment.cut) + 1 if treatment.cut else 0
        start = work.network(treatment.transfer).weights()
        end = outcomes[0].weights
        for index, layer in enumerate(LAYERS):
            name = f"{layer}.weight"
            assert np.array_equal(start[name].numpy(), source[name]) == (index < upto)
            is_frozen = treatment.name == "AnB" and index < upto
            assert np.array_equal(end[name], source[name]) == is_frozen
            assert np.array_equal(end[name], start[name].numpy()) == is_frozen
        assert end["fc3.weight"].shape == (1, 84)  # a new classifier: three labels have become two


def check_rows(work, found):
    """A row is the mean over repeats, and its interval is over images."""
    rows = comparison_rows(work, found)
    assert [(r["name"], r["cut"]) for r in rows] == [(t.name, t.cut) for t, _ in found]
    for row, (_, outcomes) in zip(rows, found, strict=True):
        each = [
            ((o.validation.scores[:, 0] >= 0.5) == o.validation.targets).mean() for o in outcomes
        ]
        assert row["accuracy"]["value"] == pytest.approx(np.mean(each))
        assert row["accuracy"]["low"] <= row["accuracy"]["value"] <= row["accuracy"]["high"]
    # The repeats of an image go together: doubling them must not make the interval narrower.
    treatment, outcomes = found[1]
    once = comparison_rows(work, [(treatment, outcomes[:1])])[0]["accuracy"]
    twice = comparison_rows(work, [(treatment, outcomes[:1] * 2)])[0]["accuracy"]
    assert twice["value"] == pytest.approx(once["value"])
    width = [i["high"] - i["low"] for i in (once, twice)]
    assert width[1] == pytest.approx(width[0], abs=0.05)
