"""The checks before training: a healthy job passes untouched, a hopeless one is explained."""

import numpy as np
import pytest
import torch

from layerwise.errors import TrainingError
from layerwise.training import checks
from layerwise.training.transfer import Transfer


def bits(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("model", ["lenet5", "timm:test_resnet", "timm:test_efficientnet"])
def test_a_healthy_job_passes_and_is_left_as_it_was(make_job, model):
    job = make_job(model=model)
    before = bits(job.network)
    checks.check_before_training(job, 1)
    after = bits(job.network)
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    assert all(p.grad is None for p in job.network.parameters())
    assert job.module is job.network


def test_a_small_rate_is_no_reason_to_refuse(make_job):
    checks.check_before_training(make_job(model="lenet5", lr=1e-3, label_smoothing=0.1), 1)


def test_a_frozen_job_on_its_top_passes(make_job):
    source = make_job(seed=9).network.original.state_dict()
    transfer = Transfer("file", copy="blocks.1", freeze="blocks.1")
    job = make_job(transfer=transfer, source=source)
    before = bits(job.network)
    checks.check_before_training(job, 1)
    assert all(torch.equal(before[n], v) for n, v in job.network.state_dict().items())


def test_a_wrong_number_of_outputs(make_job):
    job = make_job(outputs=3)
    with pytest.raises(TrainingError, match=r"answers \(8, 3\) for 8 images where \(8, 1\)"):
        checks.check_before_training(job, 1)


def test_an_absurd_rate(make_job):
    job = make_job(model="lenet5", optimizer="sgd", lr=1e30)
    with pytest.raises(TrainingError, match=r"loss is (nan|inf).*lower lr .*1e\+30"):
        checks.check_before_training(job, 1)


def test_labels_that_can_not_be_learnt(make_job, pictures, monkeypatch):
    monkeypatch.setattr(checks, "STEPS", 40)  # the others make it no likelier, only slower
    job = make_job()

    class OnePicture:
        def read(self, rows: np.ndarray, epoch: int | None) -> torch.Tensor:
            one = torch.from_numpy(pictures.store.read(np.zeros(1, np.int64)))
            return one.expand(len(rows), -1, -1, -1).contiguous()

    job.inputs = OnePicture()
    with pytest.raises(TrainingError, match=r"8 images could not be learnt.*from .* to .*labels"):
        checks.check_before_training(job, 1)


def test_a_layer_that_no_gradient_reaches(make_job):
    job = make_job(model="lenet5")
    job.network.top.register_parameter("lost", torch.nn.Parameter(torch.zeros(2)))
    with pytest.raises(TrainingError, match="no gradient reaches top.lost"):
        checks.check_before_training(job, 1)


def test_the_few_images_are_of_all_classes(make_job):
    job = make_job(model="lenet5", targets=np.array([0] * 40 + [1] * 24, np.int64))
    job.train = np.arange(64)
    rows = checks._few_of_each(job)
    assert np.bincount(job.targets[rows]).tolist() == [4, 4]
    job.targets = np.array([0] * 63 + [1], np.int64)  # one class has a single image
    rows = checks._few_of_each(job)
    assert np.bincount(job.targets[rows]).tolist() == [7, 1]
    assert len(set(rows.tolist())) == 8


def test_the_few_images_are_with_and_without_every_label(make_job):
    """The first rows know nothing; a check on them alone would refuse the job."""
    targets = np.full((64, 2), np.nan, np.float32)
    targets[20:40] = [[k % 2, (k // 2) % 2] for k in range(20)]
    job = make_job(model="lenet5", task="multilabel", outputs=2, targets=targets)
    rows = checks._few_of_each(job)
    assert len(set(rows.tolist())) == 8
    for column in targets[rows].T:
        assert set(column.tolist()) == {0.0, 1.0}
    # These labels can not be seen in the pictures, but eight of them can be learnt by heart.
    job = make_job(task="multilabel", outputs=2, targets=targets, lr=0.01)
    checks.check_before_training(job, 2)
