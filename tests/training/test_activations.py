"""The cache of frozen bottoms: right values, computed once, never half-written."""

import json
import threading

import numpy as np
import pytest
import torch

from layerwise.data.balance import PLAIN
from layerwise.errors import OutputError
from layerwise.models.cuts import cut_points, truncate
from layerwise.training import activations as cache
from layerwise.training.inputs import ImageInputs
from layerwise.training.transfer import Transfer

CUT = "blocks.1"


@pytest.fixture
def calls(monkeypatch) -> list[int]:
    """The number of pictures in every call of a runner."""
    seen: list[int] = []

    class Counting(cache.Runner):
        def __call__(self, images: torch.Tensor) -> np.ndarray:
            seen.append(len(images))
            return super().__call__(images)

    monkeypatch.setattr(cache, "Runner", Counting)
    return seen


@pytest.fixture
def frozen(make_job):
    """(cut, seed of the source) → the frozen part of a network."""

    def make(cut: str = CUT, seed: int = 9) -> torch.nn.Module:
        source = make_job(seed=seed).network.original.state_dict()
        transfer = Transfer("file", copy=cut, freeze=cut)
        return make_job(transfer=transfer, source=source).network.frozen_part()

    return make


def ask(bottom: torch.nn.Module, data, folder, **changes):
    settings = {
        "store": data.store,
        "train": data.train,
        "cut": CUT,
        "identity": {"model": "m"},
        "preset": "radiograph",
        "views": 2,
        "seed": 5,
        "folder": folder,
        "device": torch.device("cpu"),
        "threads": 1,
    }
    return cache.activations(bottom, **settings | changes)


def entries(folder) -> set[str]:
    return {path.name for path in (folder / "activations").iterdir()}


def test_they_are_what_the_bottom_puts_out(frozen, make_pictures, tmp_path):
    data = make_pictures(50)  # no multiple of the batch
    bottom = frozen()
    inputs = ask(bottom, data, tmp_path)
    rows = np.array([49, 0, 17, 3])
    with torch.no_grad():
        wanted = bottom(torch.from_numpy(data.store.read(rows)))
    found = inputs.read(rows, None)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
    assert inputs.plain.shape == (50, *wanted.shape[1:])


def test_views_are_the_bottom_of_augmented_pictures(frozen, pictures, tmp_path):
    from layerwise.data.augment import augment, image_keys

    bottom = frozen()
    inputs = ask(bottom, pictures, tmp_path)
    rows = pictures.train[[4, 0, 30]]
    raw = torch.from_numpy(pictures.store.read(rows))
    for epoch in range(4):
        keys = image_keys(rows, seed=5, view=epoch % 2)
        with torch.no_grad():
            wanted = bottom(augment(raw, keys, "radiograph"))
        torch.testing.assert_close(inputs.read(rows, epoch), wanted, rtol=0, atol=1e-4)
    plain, first, second = (inputs.read(rows, e) for e in (None, 0, 1))
    assert not torch.allclose(plain, first, atol=1e-2)
    assert not torch.allclose(first, second, atol=1e-2)
    assert [len(view) for view in inputs.views] == [48, 48]
    assert inputs.position[pictures.validation].tolist() == [-1] * 16


def test_views_belong_to_the_amounts_of_a_preset(frozen, pictures, tmp_path, calls, monkeypatch):
    """Not to its name: a preset that is changed, or turned upside down, is computed anew."""
    from dataclasses import replace

    from layerwise.data.augment import PRESETS

    ask(frozen(), pictures, tmp_path)
    calls.clear()
    ask(frozen(), pictures, tmp_path, vertical_flip=True)
    assert sum(calls) == 2 * 48
    calls.clear()
    monkeypatch.setitem(PRESETS, "radiograph", replace(PRESETS["radiograph"], zoom=0.8))
    ask(frozen(), pictures, tmp_path)
    assert sum(calls) == 2 * 48


def test_where_nothing_is_augmented_there_are_no_views(frozen, pictures, tmp_path, calls):
    inputs = ask(frozen(), pictures, tmp_path, train=pictures.train[:0])
    assert sum(calls) == 64 and inputs.views == ()


def test_the_same_work_is_found_again(frozen, pictures, tmp_path, calls):
    first = ask(frozen(), pictures, tmp_path)
    assert sum(calls) == 64 + 2 * 48  # every picture, and two views of the training ones
    calls.clear()
    second = ask(frozen(), pictures, tmp_path)  # made again, with equal weights
    assert calls == []
    rows = pictures.train
    assert torch.equal(first.read(rows, 1), second.read(rows, 1))
    third = ask(frozen(), pictures, tmp_path, views=3)  # more views need only the new one
    assert sum(calls) == 48
    assert torch.equal(first.read(rows, 1), third.read(rows, 1))
    calls.clear()
    ask(frozen(), pictures, tmp_path, preset="none")  # the plain ones are there
    assert calls == []


def test_computed_anew_it_has_the_same_bits(frozen, pictures, tmp_path):
    one, two = (ask(frozen(), pictures, tmp_path / name) for name in ("a", "b"))
    for epoch in (None, 0, 1):
        assert torch.equal(one.read(pictures.train, epoch), two.read(pictures.train, epoch))


@pytest.mark.parametrize("vertical", [False, True])
def test_flips_are_read_as_the_pictures_would_be(frozen, make_pictures, tmp_path, vertical, calls):
    """Any row, epoch and copy: the bottom of the very picture that training would have had."""
    data = make_pictures(50)
    bottom = frozen()
    seed, wanted_views = 5, 4 if vertical else 2
    cached = ask(bottom, data, tmp_path, preset="flip", vertical_flip=vertical, views=7)
    assert len(cached.views) == wanted_views - 1
    assert sum(calls) == 50 + (wanted_views - 1) * len(data.train)
    images = ImageInputs(data.store, "flip", seed, vertical)
    runner = cache.Runner(bottom, images.read(data.train[:2], None), torch.device("cpu"), 1)
    generator = np.random.default_rng(int(vertical))
    seen = set()
    for _ in range(12):
        rows = generator.choice(data.train, 8)
        epoch = int(generator.integers(0, 1000))
        copies = generator.integers(PLAIN, 5, 8)
        for given in (copies, None):
            pictures = images.read(rows, epoch, given)
            found = cached.read(rows, epoch, given).numpy()
            np.testing.assert_allclose(found, runner(pictures), rtol=0, atol=1e-6)
            with torch.no_grad():  # what torch makes of them, whose sums are in another order
                np.testing.assert_allclose(found, bottom(pictures).numpy(), rtol=0, atol=1e-4)
            seen |= set(images.which(rows, epoch, given).tolist())
    assert seen == set(range(wanted_views))
    rows = data.validation[:8]
    plain = torch.from_numpy(data.store.read(rows))
    np.testing.assert_allclose(cached.read(rows, None).numpy(), runner(plain), rtol=0, atol=1e-6)


def test_a_mirror_image_is_kept_once_for_all_seeds(frozen, pictures, tmp_path, calls):
    bottom = frozen()
    ask(bottom, pictures, tmp_path, preset="flip")
    assert sum(calls) == 64 + 48
    calls.clear()
    other = ask(bottom, pictures, tmp_path, preset="flip", seed=6)
    assert sum(calls) == 0
    images = ImageInputs(pictures.store, "flip", 6)
    for epoch in range(3):
        with torch.no_grad():
            wanted = bottom(images.read(pictures.train, epoch))
        torch.testing.assert_close(other.read(pictures.train, epoch), wanted, rtol=0, atol=1e-4)
    ask(bottom, pictures, tmp_path, preset="flip", vertical_flip=True)
    assert sum(calls) == 2 * 48  # upside down, and both; mirrored there was already


def test_other_work_has_another_key(frozen, pictures, make_pictures, tmp_path, calls):
    ask(frozen(), pictures, tmp_path)
    whole, views = 64, 2 * 48
    other = make_pictures(64, seed=1)
    fewer = pictures.store.take(np.arange(63))
    cases = [
        ({"preset": "natural"}, CUT, 9, views),
        ({"seed": 6}, CUT, 9, views),
        ({"train": pictures.train[:-1]}, CUT, 9, 2 * 47),
        ({"identity": {"model": "n"}}, CUT, 9, whole + views),
        ({"store": other.store}, CUT, 9, whole + views),
        ({"store": fewer, "train": pictures.train}, CUT, 9, 63 + views),
        ({"cut": "blocks.0"}, "blocks.0", 9, whole + views),
        ({}, CUT, 10, whole + views),  # other weights
    ]
    for changes, cut, seed, pictures_run in cases:
        before = entries(tmp_path)
        calls.clear()
        ask(frozen(cut, seed), pictures, tmp_path, **changes)
        assert sum(calls) == pictures_run, changes
        assert len(entries(tmp_path) - before) == (3 if pictures_run > views else 2)


def test_another_statistic_is_another_key_and_a_count_of_steps_is_not(frozen):
    one, two = frozen(), frozen()
    assert cache.weights_digest(one) == cache.weights_digest(two)
    state = two.state_dict()
    name = next(n for n in state if n.endswith("num_batches_tracked"))
    state[name].add_(7)
    assert cache.weights_digest(one) == cache.weights_digest(two)
    name = next(n for n in state if n.endswith("running_var"))
    state[name][0] = torch.nextafter(state[name][0], torch.tensor(9.0))
    assert cache.weights_digest(one) != cache.weights_digest(two)


def test_a_crash_in_the_middle_leaves_nothing(frozen, pictures, tmp_path, monkeypatch):
    original = cache.Runner.__call__
    made: list[int] = []

    def failing(self, images: torch.Tensor) -> np.ndarray:
        made.append(len(images))
        if len(made) == 3:
            raise KeyboardInterrupt
        return original(self, images)

    monkeypatch.setattr(cache.Runner, "__call__", failing)
    with pytest.raises(KeyboardInterrupt):
        ask(frozen(), pictures, tmp_path)
    assert entries(tmp_path) == set()
    after = ask(frozen(), pictures, tmp_path)
    monkeypatch.undo()
    clean = ask(frozen(), pictures, tmp_path / "clean")
    assert torch.equal(after.read(pictures.train, None), clean.read(pictures.train, None))


def test_a_folder_that_can_not_be_written_is_named(frozen, pictures, tmp_path):
    (tmp_path / "activations").write_text("a file where a folder is needed")
    with pytest.raises(OutputError, match="activations"):
        ask(frozen(), pictures, tmp_path)


@pytest.mark.parametrize("model", ["lenet5", "timm:test_resnet", "timm:test_efficientnet"])
def test_pooled_at_every_cut_is_the_mean_of_the_truncated_network(
    make_job, make_pictures, tmp_path, calls, model
):
    data = make_pictures(20)
    network = make_job(model=model).network
    whole = network.original.eval()
    cuts = [cut for cut in cut_points(whole, (3, 32, 32)) if cut.block]
    names = [cut.name for cut in cuts]

    def pooled() -> np.ndarray:
        rows = cache.pooled_at_cuts(
            network.pixels,
            whole,
            names,
            data.store,
            identity={"model": model},
            folder=tmp_path,
            device=torch.device("cpu"),
            threads=1,
        )
        return rows.read(np.arange(20))

    found = pooled()
    assert found.shape == (20, sum(cut.channels for cut in cuts))
    assert len(cuts) >= 4
    start = 0
    with torch.no_grad():
        pixels = network.pixels(torch.from_numpy(data.store.read(np.arange(20))))
        for cut in cuts:
            out = truncate(whole, cut.name).eval()(pixels).numpy()
            mean = out.reshape(20, cut.channels, -1).mean(axis=2)
            part = found[:, start : start + cut.channels]
            np.testing.assert_allclose(part, mean, rtol=0, atol=1e-4, err_msg=cut.name)
            start += cut.channels
    assert sum(calls) == 20  # one pass for all cuts
    np.testing.assert_array_equal(pooled(), found)
    assert sum(calls) == 20


@pytest.mark.parametrize("preset", ["none", "flip", "natural"])
def test_the_promised_bytes_are_those_on_disk(frozen, pictures, tmp_path, preset):
    bottom = frozen()
    views = cache.extra_views(preset, 2)
    promised = cache.disk_bytes(bottom, pictures.store, 48, views, torch.device("cpu"))
    ask(bottom, pictures, tmp_path, preset=preset)
    files = list((tmp_path / "activations").glob("*/rows.bin"))
    assert sum(path.stat().st_size for path in files) == promised
    for path in files:
        shape = json.loads(path.with_name("meta.json").read_text())["shape"]
        assert path.stat().st_size == 4 * np.prod(shape)


def test_batches_side_by_side_come_back_in_order_and_with_the_bits_of_one_thread(
    frozen, make_pictures, monkeypatch
):
    data = make_pictures(50)  # seven batches
    images = torch.from_numpy(data.store.read(np.arange(50)))
    one, three = (cache.Runner(frozen(), images[:2], torch.device("cpu"), n) for n in (1, 3))
    alone = np.concatenate([one(part) for part in images.split(one.batch)])
    original, begun, meeting = cache.Runner.__call__, iter(range(7)), threading.Barrier(3)

    def met(self, part: torch.Tensor) -> np.ndarray:
        if next(begun) < 3:
            meeting.wait(60)  # broken, and so an error, if they come one after the other
        return original(self, part)

    monkeypatch.setattr(cache.Runner, "__call__", met)
    together = np.concatenate(list(three.map(images.split(three.batch))))
    np.testing.assert_array_equal(together, alone)
    assert next(begun, None) is None
