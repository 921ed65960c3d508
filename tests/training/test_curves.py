"""Loss and accuracy after every epoch: scikit-learn's, of the weights that the epoch ended with."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss

from layerwise.data.balance import class_weights
from layerwise.training.curves import curve_values
from layerwise.training.inputs import Inputs
from layerwise.training.job import Job
from layerwise.training.loop import fit
from layerwise.training.losses import make_loss
from layerwise.training.network import build
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

TRAIN, VAL = np.arange(12), np.arange(12, 20)


class Pictures(Inputs):
    """Noise as LeNet-5 takes it, darker for the first class."""

    def __init__(self, targets):
        generator = np.random.default_rng(0)
        shade = 60 * (np.nan_to_num(targets.reshape(len(targets), -1)[:, 0]) > 0)
        noise = generator.integers(0, 120, (len(targets), 32, 32, 1))
        self.images = torch.from_numpy((noise + shade[:, None, None, None]).astype(np.uint8))

    def read(self, rows, epoch, copies=None):
        return self.images[torch.from_numpy(rows)]


def job(task, **changes):
    generator = np.random.default_rng(1)
    targets = generator.integers(0, 3 if task == "multiclass" else 2, 20)
    targets[:3] = targets[12:15] = [0, 1, 2 if task == "multiclass" else 0]
    if task == "multilabel":
        targets = generator.integers(0, 2, (20, 2)).astype(np.float32)
        targets[0, 0] = targets[13, 1] = np.nan
    outputs = {"binary": 1, "multiclass": 3, "multilabel": 2}[task]
    network = build(
        Transfer(copy="none"), model="lenet5", outputs=outputs, seed=0, image_size=32, channels=1
    )
    settings = {
        "network": network,
        "module": network,
        "inputs": Pictures(targets),
        "targets": targets,
        "train": TRAIN,
        "validation": VAL,
        "task": task,
        "recipe": Recipe(epochs=3, batch=4, balance="none"),
        "seed": 0,
        "score": lambda _targets, logits: float(logits.sum()),
        "device": torch.device("cpu"),
        "curves": True,
    }
    return Job(**settings | changes)


@pytest.mark.parametrize("balance", ["none", "weights"])
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_values_are_scikit_learns(task, balance):
    one = job(task, recipe=Recipe(balance=balance))
    outputs = 1 if task == "binary" else 3
    logits = np.random.default_rng(2).normal(size=(20, outputs)).astype(np.float32)
    found = curve_values(one, make_loss(one), logits[TRAIN], logits[VAL])
    z = np.c_[np.zeros(20), logits[:, 0]] if task == "binary" else logits
    shares = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    for part, rows in (("train", TRAIN), ("val", VAL)):
        y = one.targets[rows]
        weight = np.ones(len(rows))
        if balance == "weights":  # of the training part, for both; not brought to mean 1
            weight = class_weights(one.targets[TRAIN], shares.shape[1])[y]
        each = -np.log(shares[rows, y]) * weight
        assert found[f"{part}_loss"] == pytest.approx(each.mean(), rel=1e-5)
        if balance == "none":
            wanted = log_loss(y, shares[rows], labels=np.arange(shares.shape[1]))
            assert found[f"{part}_loss"] == pytest.approx(wanted, rel=1e-5)
        assert found[f"{part}_accuracy"] == accuracy_score(y, shares[rows].argmax(axis=1))


def test_several_labels_count_where_they_are_known():
    one = job("multilabel")
    logits = np.random.default_rng(2).normal(size=(20, 2)).astype(np.float32)
    found = curve_values(one, make_loss(one), logits[TRAIN], logits[VAL])
    for part, rows in (("train", TRAIN), ("val", VAL)):
        y, p = one.targets[rows], 1 / (1 + np.exp(-logits[rows].astype(float)))
        known = ~np.isnan(y)
        each = -np.where(y == 1, np.log(p), np.log(1 - p))
        assert found[f"{part}_loss"] == pytest.approx(each[known].mean(), rel=1e-5)
        shares = [((p[:, k] >= 0.5) == y[:, k])[known[:, k]].mean() for k in range(2)]
        assert found[f"{part}_accuracy"] == pytest.approx(np.mean(shares))


def test_the_loop_keeps_them_and_learns_the_same_with_and_without(tmp_path):
    plain, curved = job("binary", curves=False), job("binary")
    histories = [fit(one, tmp_path / str(n)) for n, one in enumerate((plain, curved))]
    names = {"train_loss", "train_accuracy", "val_loss", "val_accuracy"}
    for without, with_curves in zip(*histories, strict=True):
        assert set(with_curves) - set(without) == names
        assert [without[k] for k in ("epoch", "loss")] == [
            with_curves[k] for k in ("epoch", "loss")
        ]
        assert with_curves["score"] == -with_curves["val_loss"]


def test_the_weights_kept_are_those_of_the_lowest_validation_loss(tmp_path):
    one = job("binary", recipe=Recipe(epochs=6, batch=4, lr=0.02, balance="none"))
    history = fit(one, tmp_path)
    losses = [entry["val_loss"] for entry in history]
    assert np.argmin(losses) < 5  # or the last epoch would do
    with torch.no_grad():
        logits = one.module(one.inputs.read(VAL, None)).numpy()
    shares = 1 / (1 + np.exp(-logits[:, 0].astype(float)))
    assert log_loss(one.targets[VAL], shares) == pytest.approx(min(losses), rel=1e-4)


def test_a_run_that_goes_on_has_the_curves_of_one_that_was_never_stopped(tmp_path, monkeypatch):
    from layerwise.training import loop

    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)

    class Stopped(Exception):
        pass

    def stop(step, _steps):
        if step == 5:
            raise Stopped

    whole = fit(job("binary"), tmp_path / "whole")
    with pytest.raises(Stopped):
        fit(job("binary"), tmp_path / "cut", watch=stop)
    again = fit(job("binary"), tmp_path / "cut")
    for entries in (whole, again):
        for entry in entries:
            del entry["seconds"]
    assert whole == again


def test_smoothed_targets_are_those_of_training():
    one = job("binary", recipe=replace(Recipe(balance="none"), label_smoothing=0.2))
    logits = np.zeros((20, 1), np.float32)
    found = curve_values(one, make_loss(one), logits[TRAIN], logits[VAL])
    assert found["train_loss"] == pytest.approx(np.log(2))
