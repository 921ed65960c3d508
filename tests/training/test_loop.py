"""The loop: exact resume, the best epoch's weights, frozen layers, losses by closed form."""

import copy
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from layerwise.errors import TrainingError
from layerwise.training import loop
from layerwise.training.activations import activations
from layerwise.training.transfer import Transfer


class Stop(Exception):
    """What a watch raises."""


def bits(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    assert list(one) == list(other)
    return [name for name in one if not torch.equal(one[name], other[name])]


def without_seconds(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in entry.items() if k != "seconds"} for entry in history]


def log_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_killed_at_random_moments_it_ends_with_the_same_bits(tmp_path):
    script = Path(__file__).with_name("killed.py")
    subprocess.run([sys.executable, str(script), str(tmp_path), "7"], check=True, timeout=300)
    places = sorted(tmp_path.iterdir())
    assert len(places) == 3
    for place in places:
        assert json.loads((place / "kills.json").read_text()) >= 2
        whole, killed = place / "whole", place / "killed"
        assert (
            differing(load_file(whole / "end.safetensors"), load_file(killed / "end.safetensors"))
            == []
        )
        assert json.loads((whole / "history.json").read_text()) == json.loads(
            (killed / "history.json").read_text()
        )
        assert log_of(killed) == log_of(whole)
        steps = [entry["step"] for entry in log_of(killed)]
        an_epoch = 12 if place.name == "augment" else 8
        assert steps == [an_epoch * (i + 1) for i in range(len(steps))]


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adamw", "schedule": "cosine", "label_smoothing": 0.1},
        {"optimizer": "sgd", "schedule": "plateau", "plateau_patience": 1, "lr": 0.1},
        {"optimizer": "sgd", "schedule": "cosine", "patience": 1, "epochs": 5, "lr": 0.3},
        {"optimizer": "adamw", "schedule": "plateau", "plateau_patience": 1, "lr": 0.05},
        {"balance": "sampling", "model": "lenet5"},
        {"balance": "augment", "model": "lenet5"},
        {
            **{"copied": True, "batch_norm": "frozen", "epochs": 5, "probe_epochs": 1},
            **{"unfreeze": 0.4, "optimizer": "sgd", "schedule": "inverse", "decay": 0.05},
        },
        {"copied": True, "batch_norm": "reestimated", "l2_sp": 0.2, "lr": 0.01},
    ],
    ids=lambda s: "-".join(str(v) for v in s.values() if isinstance(v, str)),
)
def test_stopped_by_its_watch_it_goes_on_with_the_same_bits(
    make_job, tmp_path, monkeypatch, settings
):
    if "balance" in settings:  # one in four is of class 1: 12 of 48
        settings = settings | {"targets": (np.arange(64) % 4 == 1).astype(np.int64)}
    else:
        settings = settings | {"arguments": {"drop_rate": "0.2", "drop_path_rate": "0.1"}}
    settings = dict(settings)
    if settings.pop("copied", False):
        source = make_job(seed=9, arguments=settings["arguments"]).network.original.state_dict()
        settings = settings | {"source": source, "transfer": Transfer("file")}
    an_epoch = 72 // 8 if settings.get("balance") == "augment" else 48 // 8
    untouched = make_job(**settings)
    whole = copy.deepcopy(untouched)
    told: list[tuple[int, int]] = []
    history = loop.fit(whole, tmp_path / "whole", watch=lambda *at: told.append(at))
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)  # from here on after every step

    def stop_at(step: int):
        def watch(now: int, _steps: int) -> None:
            if now == step:
                raise Stop

        return watch

    for step in (
        3,
        an_epoch,
        an_epoch + 1,
        len(told),
    ):  # in the middle, at an epoch's end, the next, the last
        with pytest.raises(Stop):
            loop.fit(copy.deepcopy(untouched), tmp_path / "cut", watch=stop_at(step))
    again: list[tuple[int, int]] = []
    job = copy.deepcopy(untouched)
    resumed = loop.fit(job, tmp_path / "cut", watch=lambda *at: again.append(at))
    assert again == told[-1:]  # the other steps were not made again
    assert differing(bits(whole.network), bits(job.network)) == []
    assert without_seconds(resumed) == without_seconds(history)
    assert log_of(tmp_path / "cut") == log_of(tmp_path / "whole")
    assert sorted(told) == told and told[-1][0] == an_epoch * len(history)

    idle: list[tuple[int, int]] = []
    finished = copy.deepcopy(untouched)
    assert loop.fit(finished, tmp_path / "cut", watch=lambda *at: idle.append(at)) == resumed
    assert idle == []
    assert differing(bits(whole.network), bits(finished.network)) == []


def test_seconds_add_up_over_all_sittings(make_job, folder, monkeypatch):
    now = [100.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr(loop.time, "monotonic", clock)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)

    def watch(step: int, _steps: int) -> None:
        if step == 9:
            raise Stop

    with pytest.raises(Stop):
        loop.fit(make_job(model="lenet5"), folder, watch=watch)
    first = now[0]
    now[0] += 1000.0  # the time between two sittings does not count
    history = loop.fit(make_job(model="lenet5"), folder)
    seconds = [entry["seconds"] for entry in history]
    assert seconds == sorted(seconds)
    assert seconds[-1] > seconds[0] + 5
    assert seconds[-1] <= (first - 100) + (now[0] - first - 1000)


def planted(scores: list[float], seen: list[dict[str, torch.Tensor]], network_of: list):
    """A score function that gives these one after the other, and keeps the weights it is told."""

    def score(_targets: np.ndarray, _logits: np.ndarray) -> float:
        seen.append(bits(network_of[0]))
        return scores[len(seen) - 1]

    return score


def test_it_ends_with_the_weights_of_its_best_epoch(make_job, folder):
    seen: list[dict[str, torch.Tensor]] = []
    holder: list[torch.nn.Module] = []
    job = make_job(epochs=4, score=planted([0.1, 0.9, 0.9, 0.3], seen, holder))
    holder.append(job.network)
    history = loop.fit(job, folder)
    assert [entry["score"] for entry in history] == [0.1, 0.9, 0.9, 0.3]
    assert differing(bits(job.network), seen[1]) == []  # the first of two equal ones
    assert "conv_stem.weight" in "".join(differing(bits(job.network), seen[3]))
    assert not job.network.training


def test_the_best_epoch_survives_a_stop(make_job, folder, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    seen: list[dict[str, torch.Tensor]] = []
    first_network: list[torch.nn.Module] = []
    job = make_job(epochs=3, score=planted([0.9, 0.2], seen, first_network))
    first_network.append(job.network)

    def watch(step: int, _steps: int) -> None:
        if step == 14:
            raise Stop

    with pytest.raises(Stop):
        loop.fit(job, folder, watch=watch)
    again = make_job(epochs=3, score=lambda _t, _l: 0.1)
    loop.fit(again, folder)
    assert differing(bits(again.network), seen[0]) == []


def test_without_a_checkpoint_it_starts_again_and_logs_every_epoch_once(make_job, folder):
    """Short runs write none; what the first sitting logged is dropped."""
    untouched = make_job(epochs=3)

    def watch(step: int, _steps: int) -> None:
        if step == 14:
            raise Stop

    with pytest.raises(Stop):
        loop.fit(copy.deepcopy(untouched), folder / "cut", watch=watch)
    assert not (folder / "cut" / "checkpoints").exists()
    assert [line["epoch"] for line in log_of(folder / "cut")] == [0, 1]
    cut, whole = copy.deepcopy(untouched), untouched
    loop.fit(cut, folder / "cut")
    loop.fit(whole, folder / "whole")
    assert differing(bits(cut.network), bits(whole.network)) == []
    assert log_of(folder / "cut") == log_of(folder / "whole")


def test_the_score_in_the_history_is_that_of_the_final_weights(make_job, folder):
    job = make_job(epochs=4, lr=0.02, optimizer="adamw")
    history = loop.fit(job, folder)
    best = max(entry["score"] for entry in history)
    images = torch.from_numpy(job.inputs.store.read(job.validation))
    with torch.no_grad():
        z = job.network.eval()(images).double().numpy()[:, 0]
    signs = 2.0 * job.targets[job.validation] - 1
    assert -np.log1p(np.exp(-signs * z)).mean() == pytest.approx(best, abs=1e-6)
    assert history[-1]["loss"] < history[0]["loss"]


def test_every_epoch_has_its_own_order_and_no_image_twice(make_job, folder):
    job = make_job(epochs=2, batch=5)
    rows: list[tuple[int | None, list[int]]] = []
    read = job.inputs.read

    class Spy:
        def read(
            self, which: np.ndarray, epoch: int | None, copies: np.ndarray | None = None
        ) -> torch.Tensor:
            rows.append((epoch, which.tolist()))
            return read(which, epoch, copies)

    job.inputs = Spy()
    loop.fit(job, folder)
    epochs = [sum((r for e, r in rows if e == epoch), []) for epoch in (0, 1)]
    for order in epochs:
        assert len(order) == len(set(order)) == 45  # nine whole batches of 48 images
        assert set(order) <= set(job.train.tolist())
    assert epochs[0] != epochs[1]
    assert set(sum((r for e, r in rows if e is None), [])) == set(job.validation.tolist())


@pytest.mark.parametrize("balance", ["none", "weights", "sampling", "augment"])
def test_what_an_epoch_shows_of_each_class(make_job, folder, balance):
    targets = (np.arange(64) % 4 == 1).astype(np.int64)  # in training 36 of 0 and 12 of 1
    job = make_job(model="lenet5", epochs=2, batch=12, balance=balance, targets=targets)
    shown: list[tuple[int | None, np.ndarray, torch.Tensor]] = []
    store, read = job.inputs.store, job.inputs.read

    class Spy:
        def read(self, which: np.ndarray, epoch: int | None, copies: np.ndarray | None = None):
            images = read(which, epoch, copies)
            shown.append((epoch, which, images))
            return images

    job.inputs = Spy()
    loop.fit(job, folder)
    for epoch in (0, 1):
        rows = np.concatenate([which for e, which, _ in shown if e == epoch])
        images = torch.cat([images for e, _, images in shown if e == epoch])
        counts = np.bincount(targets[rows]).tolist()
        plain = (images == torch.from_numpy(store.read(rows))).flatten(1).all(dim=1).numpy()
        assert len({image.numpy().tobytes() for image in images}) == len(rows)  # no two are equal
        if balance == "augment":
            assert counts == [36, 36]
            assert plain.sum() == 48 and (targets[rows[~plain]] == 1).all()
            assert sorted(rows[plain].tolist()) == job.train.tolist()
        else:
            assert not plain.any() and len(rows) == 48
        if balance == "sampling":
            assert abs(counts[1] - 24) < 5 * math.sqrt(48 / 4) and counts[1] > 12
        elif balance != "augment":
            assert counts == [36, 12] and sorted(rows.tolist()) == job.train.tolist()
    loss = loop.make_loss(job)(torch.zeros(12, 1), np.arange(12))
    third = 48 / (2 * 12) * 3 / 12 + 48 / (2 * 36) * 9 / 12  # of rows 0 to 11, three are of class 1
    wanted = math.log(2) * (third if balance == "weights" else 1)
    assert float(loss) == pytest.approx(wanted, rel=1e-6)


def test_drawing_is_refused_for_several_labels(make_job, folder):
    targets = np.zeros((64, 2), np.float32)
    job = make_job(
        model="lenet5", task="multilabel", outputs=2, targets=targets, balance="sampling"
    )
    with pytest.raises(TrainingError, match="several labels"):
        loop.fit(job, folder)


def test_early_stopping_and_plateau_count_epochs(make_job, folder, monkeypatch):
    factors: list[float] = []
    monkeypatch.setattr(loop, "set_rate", lambda _optimizer, factor: factors.append(factor))
    scores = iter([0.5, 0.8, 0.7, 0.7, 0.7, 0.7, 0.9])
    job = make_job(
        model="lenet5",
        epochs=9,
        batch=24,
        schedule="plateau",
        plateau_patience=2,
        patience=4,
        warmup=0.0,
        score=lambda _t, _l: next(scores),
    )
    history = loop.fit(job, folder)
    # the best is epoch 1; the rate falls after 3 and 5; four worse ones (2 to 5) end the run
    assert [entry["epoch"] for entry in history] == [0, 1, 2, 3, 4, 5]
    assert factors == pytest.approx([1.0] * 8 + [0.1] * 4)  # two steps an epoch


def test_a_loss_that_is_no_number_stops_with_advice(make_job, folder):
    job = make_job(model="lenet5", lr=1e30, optimizer="sgd", warmup=0.0)
    with pytest.raises(TrainingError, match=r"loss became .* lower lr"):
        loop.fit(job, folder)
    broken = make_job(model="lenet5")
    with torch.no_grad():
        next(broken.module.parameters()).fill_(torch.nan)
    with pytest.raises(TrainingError, match="loss is nan before anything is learnt.*--weights"):
        loop.fit(broken, folder)


def test_answers_that_are_no_numbers_stop_with_advice(make_job, folder, monkeypatch):
    """As where the last step of an epoch went astray."""
    monkeypatch.setattr(loop, "predict_logits", lambda *_: np.full((16, 1), np.nan, np.float32))
    with pytest.raises(TrainingError, match="no finite numbers after epoch 1; lower lr .*0.003"):
        loop.fit(make_job(model="lenet5"), folder)


# Losses, written out in numpy.


def sigmoid_losses(logits: np.ndarray, soft: np.ndarray) -> np.ndarray:
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return -(soft * np.log(p) + (1 - soft) * np.log(1 - p))


def loss_value(job: loop.Job, logits: np.ndarray, rows: np.ndarray) -> float:
    return float(loop.make_loss(job)(torch.from_numpy(logits.astype(np.float32)), rows))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("balance", ["none", "weights"])
def test_binary_loss(make_job, smoothing, balance):
    targets = np.array([0, 0, 0, 1, 0, 1, 0, 0, 1, 1], np.int64)
    job = make_job(model="lenet5", targets=targets, balance=balance, label_smoothing=smoothing)
    job.train = np.arange(8)  # six of 0, two of 1
    logits = np.random.default_rng(0).normal(size=(4, 1)) * 2
    rows = np.array([3, 1, 9, 6])
    y = targets[rows]
    each = sigmoid_losses(logits[:, 0], y * (1 - smoothing) + smoothing / 2)
    if balance == "weights":
        each *= np.where(y == 1, 8 / (2 * 2), 8 / (2 * 6))
    assert loss_value(job, logits, rows) == pytest.approx(each.mean(), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("balance", ["none", "weights"])
def test_multiclass_loss(make_job, smoothing, balance):
    targets = np.array([0, 1, 2, 0, 0, 1, 2, 1, 2], np.int64)
    job = make_job(
        model="lenet5",
        task="multiclass",
        outputs=3,
        targets=targets,
        balance=balance,
        label_smoothing=smoothing,
    )
    job.train = np.arange(6)  # three of 0, two of 1, one of 2
    logits = np.random.default_rng(1).normal(size=(5, 3)) * 2
    rows = np.array([0, 1, 2, 7, 8])
    y = targets[rows]
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    soft = np.eye(3)[y] * (1 - smoothing) + smoothing / 3
    each = -(soft * log_p).sum(axis=1)
    if balance == "weights":
        each *= np.array([6 / 9, 6 / 6, 6 / 3])[y]
    assert loss_value(job, logits, rows) == pytest.approx(each.mean(), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("balance", ["none", "weights"])
def test_multilabel_loss_leaves_unknown_targets_out(make_job, smoothing, balance):
    nan = np.nan
    targets = np.array([[1, 0], [0, nan], [nan, nan], [0, 1], [1, 0], [0, 0], [nan, 0]], np.float32)
    job = make_job(
        model="lenet5",
        task="multilabel",
        outputs=2,
        targets=targets,
        balance=balance,
        label_smoothing=smoothing,
    )
    job.train = np.arange(6)  # label 0: two of five, label 1: one of four
    logits = np.random.default_rng(2).normal(size=(5, 2))
    rows = np.array([0, 1, 2, 3, 6])
    total, known = 0.0, 0
    for i, row in enumerate(rows):
        for k in range(2):
            if math.isnan(targets[row, k]):
                continue
            soft = targets[row, k] * (1 - smoothing) + smoothing / 2
            ratio = ([3 / 2, 3 / 1][k]) if balance == "weights" else 1.0
            p = 1 / (1 + math.exp(-logits[i, k]))
            total -= ratio * soft * math.log(p) + (1 - soft) * math.log(1 - p)
            known += 1
    assert known == 6
    assert loss_value(job, logits, rows) == pytest.approx(total / known, rel=1e-5)


@pytest.mark.parametrize("balance", ["none", "weights"])
@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_what_a_row_counts_is_how_often_it_is_repeated(make_job, task, balance):
    generator = np.random.default_rng(4)
    targets = np.arange(12, dtype=np.int64) % (3 if task == "multiclass" else 2)
    if task == "multilabel":
        targets = generator.integers(0, 2, (12, 3)).astype(np.float32)
    outputs = 1 if task == "binary" else 3
    settings = {"model": "lenet5", "task": task, "outputs": outputs, "targets": targets}
    job = make_job(**settings, balance=balance, label_smoothing=0.1)
    logits = generator.normal(size=(12, outputs)) * 2
    counts = generator.integers(1, 6, 12)
    often = np.repeat(np.arange(12), counts)
    job.train = often
    repeated = loss_value(job, logits[often], often)
    job.train, job.importance = np.arange(12), counts / counts.mean()
    assert loss_value(job, logits, job.train) == pytest.approx(repeated, rel=1e-5)
    job.importance = None
    assert loss_value(job, logits, job.train) != pytest.approx(repeated, rel=1e-3)


def test_a_batch_of_unknown_targets_only_has_no_loss(make_job):
    targets = np.array([[1, 0], [0, 1], [np.nan, np.nan]], np.float32)
    job = make_job(model="lenet5", task="multilabel", outputs=2, targets=targets)
    job.train = np.arange(2)
    assert loss_value(job, np.ones((1, 2)), np.array([2])) == 0.0


# Frozen layers, through the real loop.


def test_frozen_weights_and_statistics_keep_their_bits(make_job, folder, pictures):
    source = make_job(seed=9).network.original.state_dict()
    with torch.no_grad():  # statistics as after real training
        for name, value in source.items():
            if name.endswith("running_mean"):
                value.add_(0.1)
    transfer = Transfer("file", copy="blocks.1", freeze="blocks.1")
    settings = {"transfer": transfer, "source": source, "lr": 0.01, "epochs": 2}

    whole = make_job(**settings)
    before = bits(whole.network)
    loop.fit(whole, folder / "whole")
    after = bits(whole.network)

    cached = make_job(**settings)
    cached.inputs = activations(
        cached.network.frozen_part(),
        pictures.store,
        pictures.train,
        cut="blocks.1",
        identity={},
        preset="radiograph",
        views=2,
        seed=3,
        folder=folder,
        device=torch.device("cpu"),
        threads=1,
    )
    cached.module = cached.network.top
    loop.fit(cached, folder / "cached")
    after_cached = bits(cached.network)

    below = [name for name in before if name.startswith("bottom.")]
    assert any("running_mean" in name for name in below)
    assert any("running_var" in name for name in below)
    assert any("num_batches" in name for name in below)
    for name in below:
        assert torch.equal(after[name], before[name]), name
        assert torch.equal(after_cached[name], before[name]), name
        inner = name.removeprefix("bottom.")
        assert torch.equal(before[name], source[inner]), name
    above = [name for name in before if name.startswith("top.")]
    for found in (after, after_cached):
        moved = [name for name in above if not torch.equal(found[name], before[name])]
        assert moved == above  # weights and statistics, every one of them


def test_without_augmentation_cached_activations_train_to_the_same_weights(
    make_job, folder, pictures
):
    """The cache changes no result: the only difference is ONNX Runtime's rounding."""
    source = make_job(seed=9).network.original.state_dict()
    settings = {
        "transfer": Transfer("file", copy="blocks.2", freeze="blocks.2"),
        "source": source,
        "augment": "none",
        "optimizer": "sgd",
        "lr": 0.05,
        "epochs": 2,
    }
    whole, cached = make_job(**settings), make_job(**settings)
    cached.inputs = activations(
        cached.network.frozen_part(),
        pictures.store,
        pictures.train,
        cut="blocks.2",
        identity={},
        preset="none",
        views=1,
        seed=3,
        folder=folder,
        device=torch.device("cpu"),
        threads=1,
    )
    cached.module = cached.network.top
    losses = [
        [entry["loss"] for entry in loop.fit(job, folder / name)]
        for name, job in (("whole", whole), ("cached", cached))
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    for name, value in whole.network.top.state_dict().items():
        other = cached.network.top.state_dict()[name]
        torch.testing.assert_close(value, other, rtol=1e-3, atol=1e-4)


def test_the_history_is_told_after_each_epoch_and_when_a_run_goes_on(
    make_job, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    told: list[int] = []

    def on_epoch(history):
        told.append(len(history))
        if len(history) == 2:
            raise Stop

    with pytest.raises(Stop):
        loop.fit(make_job(), tmp_path / "run", on_epoch=on_epoch)
    assert told == [1, 2]
    again: list[list[float]] = []
    history = loop.fit(
        make_job(),
        tmp_path / "run",
        on_epoch=lambda found: again.append([entry["score"] for entry in found]),
    )
    assert [len(scores) for scores in again] == [2, 3]
    assert again[-1] == [entry["score"] for entry in history]
