"""The depth profile: probes against scikit-learn, and the choice of a depth on planted scores."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from layerwise.errors import ModelError, TrainingError
from layerwise.evaluation.predictions import Predictions, probabilities
from layerwise.models.cuts import Cut, cut_points, truncate
from layerwise.studies import profile as depth
from layerwise.studies.profile import Probe, best_probe, probe_transfer, profile, smallest_equal
from layerwise.studies.study import Outcome, Run
from layerwise.studies.trained import rebuild
from layerwise.training.transfer import Transfer


@pytest.mark.parametrize(
    ("task", "model"), [("binary", "lenet5"), ("multiclass", "timm:test_resnet")]
)
def test_a_probe_is_scikit_learns_on_pooled_activations(workspace, task, model):
    work = workspace(task, model=model)
    probes = profile(work)
    assert [p.cut.name for p in probes] == [c.name for c in work.cuts()]
    train, validation = work.rows("train"), work.rows("val")
    targets = work.manifest.targets
    network = work.network(Transfer("untrained")).eval()
    with torch.no_grad():
        pixels = network.pixels(torch.from_numpy(work.store.read(np.arange(96))))
    for probe in probes:
        cut = probe.cut
        with torch.no_grad():
            out = truncate(network.original, cut.name)(pixels).numpy()
        pooled = out.reshape(96, cut.channels, -1).mean(axis=2).astype(np.float64)
        scaler = StandardScaler().fit(pooled[train])
        reference = LogisticRegression(
            C=probe.outcome.details["C"], class_weight="balanced", max_iter=5000, tol=1e-8
        ).fit(scaler.transform(pooled[train]), targets[train])
        wanted = reference.predict_proba(scaler.transform(pooled[validation]))
        wanted = wanted[:, 1:] if task == "binary" else wanted
        said = probe.outcome.validation
        np.testing.assert_allclose(said.scores, wanted, atol=0.01, err_msg=cut.name)
        np.testing.assert_array_equal(said.targets, targets[validation])
        assert probe.outcome.parameters == cut.parameters + (cut.channels + 1) * work.outputs


def test_a_probe_is_a_network_that_can_be_deployed(workspace):
    work = workspace("multilabel", model="timm:test_efficientnet")
    for probe in profile(work)[::2]:
        network = rebuild(work, probe_transfer(probe.cut.name, work.weights_name), probe.outcome)
        images = torch.from_numpy(work.store.read(work.rows("val")))
        with torch.no_grad():
            logits = network(images).numpy()
        scores = probabilities("multilabel", logits)
        np.testing.assert_allclose(scores, probe.outcome.validation.scores, atol=1e-4)
        assert sum(p.numel() for p in network.parameters()) == probe.outcome.parameters


def test_only_missing_probes_are_computed(workspace, monkeypatch):
    work = workspace()
    first = profile(work)
    made: list[str] = []
    probe = depth._probe

    def counting(work, cut, *more):
        made.append(cut.name)
        return probe(work, cut, *more)

    monkeypatch.setattr(depth, "_probe", counting)
    profile(workspace())
    assert made == []
    (work.runs.folder / first[1].outcome.run.id / "result.json").unlink()
    again = profile(workspace())
    assert made == ["conv2"]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(
            one.outcome.validation.scores, other.outcome.validation.scores
        )


def test_with_keep_probes_end_at_the_cut(workspace, tmp_path):
    """The same probes as of the whole network, up to the cut, which has one though it is none."""
    model = "timm:test_resnet"
    whole = profile(workspace("multiclass", model=model, out=tmp_path / "whole"))
    names = [probe.cut.name for probe in whole]
    inner = "bn1"  # no end of a block
    assert inner not in names
    work = workspace("multiclass", model=model, keep=inner)
    assert work.keep == inner
    probes = profile(work)
    assert [p.cut.name for p in probes] == [*names[: names.index("act1")], inner]
    for one, other in zip(whole, probes[:-1], strict=False):
        assert one.outcome.run.id == other.outcome.run.id
        np.testing.assert_allclose(
            one.outcome.validation.scores, other.outcome.validation.scores, atol=1e-4
        )
    assert probes[-1].outcome.parameters == probes[-1].cut.parameters + 3 * (
        probes[-1].cut.channels + 1
    )


def test_cuts_are_those_of_the_network_and_need_no_weights(workspace, monkeypatch):
    work = replace(workspace(model="timm:test_resnet"), _cuts=[])
    every = cut_points(work.blank().module, (3, 32, 32))
    monkeypatch.setattr("layerwise.studies.workspace.create", None)
    assert work.cuts() == [cut for cut in every if cut.block]
    assert all(parameter.is_meta for parameter in work.outline().module.parameters())


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        ("layr2", "--keep layr2: ResNet has no layer 'layr2'; near to it are the cuts layer2"),
        ("layer2.0.conv1", "the next one above is"),
        ("fc", "--keep fc: .* network's output; the next one below is 'global_pool'"),
        ("res-t3", "res-t3 is a part of another network"),
        ("none", "leaves no network"),
    ],
)
def test_a_keep_that_can_not_be_is_refused_before_pictures_are_decoded(
    workspace, monkeypatch, keep, words
):
    monkeypatch.setattr("layerwise.studies.prepare.build_store", None)
    with pytest.raises(ModelError, match=words):
        workspace("multiclass", model="timm:test_resnet", keep=keep)


# The choice, on planted scores of 200 images.

TARGETS = np.arange(200) % 2


def planted(columns: dict[str, np.ndarray], targets: np.ndarray = TARGETS) -> list[Probe]:
    ids = np.array([str(i) for i in range(len(targets))])
    found = []
    for index, (name, scores) in enumerate(columns.items()):
        said = Predictions(ids, targets, scores[:, None].astype(np.float32), ids)
        run = Run(name, "probe", {"cut": name})
        cut = Cut(name, 1, 1, 10 * (index + 1), 1, True, (1, 1, 1))
        found.append(Probe(cut, Outcome(run, 0.0, 1, said)))
    return found


@pytest.fixture
def work() -> SimpleNamespace:
    manifest = SimpleNamespace(task="binary")
    return SimpleNamespace(manifest=manifest, seed=0, importance_of=lambda _part: None)


def with_errors(pairs: int) -> np.ndarray:
    """Scores that are right but for this many pairs of images."""
    scores = TARGETS * 0.5 + np.linspace(0, 0.4, 200)
    for i in range(pairs):
        scores[[2 * i, 2 * i + 1]] = scores[[2 * i + 1, 2 * i]]
    return scores


def test_the_best_probe_is_the_lowest_of_the_best(work):
    probes = planted({"a": with_errors(9), "b": with_errors(0), "c": with_errors(0), "d": -TARGETS})
    assert best_probe(work, probes).cut.name == "b"
    for probe in probes:
        said = probe.outcome.validation
        assert depth.auroc(work, probe.outcome) == pytest.approx(
            roc_auc_score(said.targets, said.scores[:, 0])
        )


def test_the_smallest_equal_is_the_lowest_within_noise(work):
    noise = np.random.default_rng(0).random(200)
    columns = {
        "noise": noise,
        "worse": with_errors(30),
        "one pair": with_errors(1),
        "best": with_errors(0),
        "above": with_errors(0),
    }
    assert smallest_equal(work, planted(columns)).cut.name == "one pair"
    del columns["one pair"]
    assert smallest_equal(work, planted(columns)).cut.name == "best"


def test_the_interval_is_by_patient(work):
    """Forty swapped pairs of one patient are one event, so the lower cut is within noise."""
    probes = planted({"low": with_errors(30), "high": with_errors(0)})
    assert smallest_equal(work, probes).cut.name == "high"
    groups = np.array(["one"] * 60 + [str(i) for i in range(60, 200)])
    for probe in probes:
        object.__setattr__(probe.outcome.validation, "groups", groups)
    assert smallest_equal(work, probes).cut.name == "low"


def test_an_undefined_auroc_is_the_worst(work):
    probes = planted({"a": with_errors(0), "b": with_errors(1)}, np.zeros(200, np.int64))
    assert [depth.auroc(work, p.outcome) for p in probes] == [-1, -1]
    assert best_probe(work, probes).cut.name == "a"
    assert smallest_equal(work, probes[::-1]).cut.name in {"a", "b"}


def test_activations_that_are_not_finite_are_named(workspace, monkeypatch):
    work = workspace()
    whole = depth.features_at_cuts(work, work.cuts())
    for row in (work.rows("train")[3], work.rows("val")[0]):

        def read(place, row=row):
            rows, columns = place
            return np.where((rows == row)[:, None], np.inf, whole.read(place))

        broken = SimpleNamespace(read=read)
        monkeypatch.setattr(depth, "features_at_cuts", lambda *_, found=broken: found)
        with pytest.raises(TrainingError, match="activations at conv1 are not finite.*--weights"):
            profile(work)
