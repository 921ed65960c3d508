"""The whole advice on a small network: what is decided, kept, and found again."""

from dataclasses import replace

import pytest
from safetensors.torch import save_file

from layerwise.config import read_json
from layerwise.errors import LayerwiseError, WeightsError
from layerwise.models.registry import create
from layerwise.studies.advice import study
from layerwise.studies.advice.matrix import QUADRANTS
from layerwise.studies.advice.quick import UNTESTED
from layerwise.studies.automatic import run_automatic
from layerwise.studies.plan import read_plan, write_plan
from layerwise.studies.prepare import Request


def test_one_that_was_stopped_goes_on(advised, tmp_path, monkeypatch):
    path = tmp_path / "out" / "plan.json"
    with monkeypatch.context() as patch:
        patch.setattr(study, "_test", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            advised()
    kept = path.read_text()
    assert read_json(path)["test"]["runs"] and read_json(path)["distance"]["layers"]

    def no_clock(*_):
        raise AssertionError("the clock has no say in a second sitting")

    monkeypatch.setattr(study, "distance", no_clock)
    monkeypatch.setattr(study, "costs", no_clock)
    first = advised()
    assert first.quadrant in (3, 4)  # 24 images of a class
    assert first.advised.strategy == QUADRANTS[first.quadrant]
    others = {"all", "some", "none"} - {first.advised.strategy}
    assert {one.strategy for one in first.tested.compared} == others
    for run, done in zip(first.tested.test.runs, first.tested.done, strict=True):
        assert len(done.outcome.validation.scores) == len(first.work.rows("val"))
        assert done.outcome.details["epochs"] == run.recipe.epochs

    assert path.read_text() == kept
    with pytest.raises(LayerwiseError, match=r"seed = 0, and this one has 1; name another.*--out"):
        advised(seed=1)


def test_without_batch_norms_the_probe_decides_and_without_time_nothing_is_tested(
    advised, tmp_path, monkeypatch
):
    monkeypatch.setattr("layerwise.studies.advice.quick.FEWEST_EPOCHS", 10**7)
    path = tmp_path / "lenet.safetensors"
    save_file(create("lenet5", outputs=3, seed=9, image_size=32).module.state_dict(), path)
    found = advised("multilabel", model="lenet5", weights=str(path))
    assert found.like.shift is None and found.like.decided_by == "probe"
    assert found.tested.verdict == UNTESTED and found.tested.compared == ()
    assert "give more --time" in found.tested.test.why_not


def test_without_weights_there_is_nothing_to_advise(advised):
    with pytest.raises(WeightsError, match="--weights none.*pretrained network.*name a file"):
        advised(weights="none")


@pytest.mark.slow
def test_the_advice_is_a_plan_that_fit_follows(advised, data_file, seen, tmp_path):
    found = advised()
    request = Request(
        str(data_file("binary")),
        tmp_path / "out",
        tmp_path / "cache",
        model="timm:test_resnet",
        weights=seen,
        image_size=32,
        threads=1,
    )
    plan = study.fit_plan(found, request, ("because",))
    (run,) = plan.training
    assert (run.transfer, run.recipe) == (found.advised.transfer, found.advised.recipe)
    short = replace(run, recipe=replace(run.recipe, epochs=1))
    write_plan(replace(plan, training=(short,)), tmp_path / "advised.json")
    assert read_plan(tmp_path / "advised.json").training == (short,)
    fitted = run_automatic(
        replace(request, out=tmp_path / "fit"),
        lambda _words: None,
        lambda _title: lambda _done, _all: None,
        plan_file=tmp_path / "advised.json",
    )
    ((planned, outcome),) = fitted.trained
    assert planned.transfer == found.advised.transfer and outcome.details["epochs"] == 1
