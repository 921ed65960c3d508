"""Finished runs found again: the request from a plan, and networks that share a frozen bottom."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from layerwise.data.load import DataOptions
from layerwise.errors import LayerwiseError
from layerwise.evaluation.predictions import probabilities
from layerwise.studies.finished import open_runs, put_together, request_of
from layerwise.studies.plan import Plan, write_plan
from layerwise.studies.prepare import Request
from layerwise.studies.trained import train
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

RECIPE = Recipe(epochs=1, batch=12, lr=3e-3)


def plan_of(request: Request, /, **settings: object) -> Plan:
    """A plan as the request's fit would have made it."""
    fixed = {
        "data": "some data",
        "data_key": "key",
        "model": request.model,
        "arguments": dict(request.arguments),
        "weights": request.weights,
        "weights_digest": "none",
        "image_size": 32,
        "letterbox": request.letterbox,
        "channels": 1,
        "augment": "none",
        "seed": request.seed,
        "threads": request.threads,
        "budget_seconds": request.seconds,
        "fingerprint": {},
        "request": request.identity(),
    }
    return Plan(**fixed | settings)


def test_a_plan_gives_its_request_again():
    options = DataOptions(
        label_column=("left lung", "it's"),
        only=("a, b", "c"),
        patient_from=r"(p\d+)'_",
        uncertain="ones",
        multi_label=True,
        skip_unreadable=True,
        date_column="True",
    )
    request = Request(
        "films.csv",
        Path("out"),
        Path("cache"),
        options,
        model="timm:test_resnet",
        arguments={"pad_type": "same"},
        weights="none",
        image_size=48,
        letterbox=True,
        augment="radiograph",
        balance="sampling",
        vertical_flip=True,
        seconds=77.0,
        seed=9,
        threads=3,
        skip_unreadable=True,
    )
    plan = plan_of(
        request, image_size=48, augment="radiograph", balance="sampling", vertical_flip=True
    )
    again = request_of(plan, Path("out"), Path("cache"))
    assert again == replace(request, allow_leaks=True)
    assert request_of(plan, Path("out"), Path("cache"), "moved.csv").data == "moved.csv"
    plain = Request("d", Path("out"), Path("cache"), weights="none")
    assert request_of(plan_of(plain), Path("out"), Path("cache")).options == DataOptions()
    odd = plan_of(plain, request={**plain.identity(), "options": {"colour": "red"}})
    with pytest.raises(LayerwiseError, match="unknown data flag 'colour'"):
        request_of(odd, Path("out"), Path("cache"))


def test_equal_frozen_bottoms_become_one(workspace):
    """Two heads on the same frozen layers, a third on others, and one that has none frozen."""
    work = workspace("multiclass")
    low = Transfer("untrained", copy="conv2", freeze="conv2")
    transfers = [low, low, Transfer("untrained", copy="conv1", freeze="conv1"), Transfer()]
    networks = [replace(work, seed=0).network(transfer).eval() for transfer in transfers]
    with torch.no_grad():  # another head
        for value in networks[1].top.parameters():
            value.mul_(1.5)
    together = put_together(networks, [1, 2, 3, 2], "multiclass")
    bottoms = [part for part in together.bottoms if not isinstance(part, torch.nn.Identity)]
    assert len(bottoms) == 2 and together.stands_on[0] == together.stands_on[1]
    whole = [sum(p.numel() for p in network.parameters()) for network in networks]
    shared = sum(p.numel() for p in networks[1].bottom.parameters())
    assert sum(p.numel() for p in together.parameters()) == sum(whole) - shared

    images = torch.from_numpy(work.store.read(work.rows("val")))
    with torch.no_grad():
        each = [probabilities("multiclass", n(images).numpy()) for n in networks]
        said = probabilities("multiclass", together(images).numpy())
    wanted = sum(w / 8 * p.astype(float) for w, p in zip([1, 2, 3, 2], each, strict=True))
    np.testing.assert_allclose(said, wanted, atol=1e-6)
    assert np.abs(each[0] - each[1]).max() > 1e-3


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_a_trained_run_is_found_with_its_network(workspace, data_file, tmp_path, task):
    work = workspace(task)
    outcome = train(work, Transfer(), RECIPE)
    request = Request(
        str(data_file(task)),
        tmp_path / "out",
        tmp_path / "cache",
        model="lenet5",
        weights="none",
        image_size=32,
        threads=1,
    )
    write_plan(plan_of(request, data_key=work.data_key), tmp_path / "out" / "plan.json")
    folder = tmp_path / "out" / "runs" / outcome.run.id
    (found,) = open_runs([folder], tmp_path / "cache", lambda _: None, lambda _: lambda *_: None)
    assert found.id == outcome.run.id and found.transfer == Transfer()
    network = found.network()
    for name, value in network.weights().items():
        np.testing.assert_array_equal(value.numpy(), outcome.weights[name])
    said, now = found.on_test(network)
    assert now and (folder / "test.npz").is_file()
    np.testing.assert_array_equal(said.targets, work.manifest.targets[work.rows("test")])
    again, now = found.on_test(network)
    assert not now
    np.testing.assert_array_equal(again.scores, said.scores)
