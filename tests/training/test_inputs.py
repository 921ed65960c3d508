"""What a network is fed: the store's pictures, augmented by row, epoch and seed alone."""

import numpy as np
import torch

from layerwise.data.augment import augment, image_keys
from layerwise.data.balance import PLAIN
from layerwise.data.storage.rows import Rows
from layerwise.training.inputs import ActivationInputs, ImageInputs


def test_plain_pictures_are_the_stores(pictures):
    rows = np.array([5, 2, 60])
    wanted = torch.from_numpy(pictures.store.read(rows))
    for inputs, epoch in (
        (ImageInputs(pictures.store, "none", 0), 3),
        (ImageInputs(pictures.store, "none", 0), None),
        (ImageInputs(pictures.store, "radiograph", 0), None),
    ):
        found = inputs.read(rows, epoch)
        assert found.dtype == torch.uint8 and found.shape == (3, 32, 32, 1)
        assert torch.equal(found, wanted)


def test_a_picture_is_changed_by_row_epoch_and_seed_alone(pictures):
    inputs = ImageInputs(pictures.store, "radiograph", 4)
    rows = np.arange(40)
    together = inputs.read(rows, 2)
    order = np.random.default_rng(0).permutation(rows)
    assert torch.equal(inputs.read(order, 2), together[torch.from_numpy(order)])
    assert torch.equal(inputs.read(rows[7:8], 2)[0], together[7])
    keys = image_keys(rows, seed=4, view=2)
    assert torch.equal(
        together, augment(torch.from_numpy(pictures.store.read(rows)), keys, "radiograph")
    )
    others = [inputs.read(rows, 3), ImageInputs(pictures.store, "radiograph", 5).read(rows, 2)]
    for other in others:
        same = (other == together).flatten(1).all(dim=1)
        assert not same.any()


def test_copies_differ_and_plain_ones_are_the_stores(pictures):
    inputs = ImageInputs(pictures.store, "radiograph", 4)
    rows = np.array([3, 9, 3, 3, 9, 20])
    copies = np.array([0, PLAIN, 1, PLAIN, 2, 0])
    found = inputs.read(rows, 2, copies)
    raw = torch.from_numpy(pictures.store.read(rows))
    plain = copies == PLAIN
    assert torch.equal(found[plain], raw[plain])
    assert torch.equal(found[[0, 5]], inputs.read(rows[[0, 5]], 2))  # copy 0 is the picture itself
    assert len({picture.numpy().tobytes() for picture in found}) == 6
    order = np.array([5, 2, 0, 4, 1, 3])
    assert torch.equal(inputs.read(rows[order], 2, copies[order]), found[order])
    assert torch.equal(inputs.read(rows, None, copies), raw)
    assert not (inputs.read(rows, 3, copies)[~plain] == found[~plain]).flatten(1).all(dim=1).any()
    without = ImageInputs(pictures.store, "none", 4)
    assert torch.equal(without.read(rows, 2, copies), raw)


def test_upside_down_when_asked(pictures):
    rows = np.arange(40)
    plain = ImageInputs(pictures.store, "radiograph", 4).read(rows, 1).int()
    asked = ImageInputs(pictures.store, "radiograph", 4, vertical_flip=True).read(rows, 1).int()
    same = (asked == plain).flatten(1).all(dim=1)
    turned = ((asked - plain.flip(1)).abs() <= 1).flatten(1).all(dim=1)
    assert (same ^ turned).all() and 8 < turned.sum() < 32


def rows_of(path, values: np.ndarray) -> Rows:
    values.astype(np.float32).tofile(path)
    return Rows(path, values.shape, np.float32)


def test_activations_are_read_by_place_and_view(tmp_path):
    generator = np.random.default_rng(0)
    plain = generator.normal(size=(6, 2, 3, 3)).astype(np.float32)
    views = [generator.normal(size=(3, 2, 3, 3)).astype(np.float32) for _ in range(2)]
    position = np.array([-1, 2, -1, 0, 1, -1])
    inputs = ActivationInputs(
        rows_of(tmp_path / "plain", plain),
        tuple(rows_of(tmp_path / f"view{i}", view) for i, view in enumerate(views)),
        position,
    )
    rows = np.array([4, 1, 3])
    np.testing.assert_array_equal(inputs.read(rows, None).numpy(), plain[rows])
    for epoch in range(5):
        np.testing.assert_array_equal(inputs.read(rows, epoch).numpy(), views[epoch % 2][[1, 2, 0]])
    assert inputs.read(rows, 0).is_contiguous(memory_format=torch.channels_last)
    rows, copies = np.array([4, 1, 4, 4, 0]), np.array([0, 1, PLAIN, 1, PLAIN])
    wanted = np.stack([views[1][1], views[0][2], plain[4], views[0][1], plain[0]])
    for epoch in (1, 3):
        np.testing.assert_array_equal(inputs.read(rows, epoch, copies).numpy(), wanted)
    np.testing.assert_array_equal(inputs.read(rows, None, copies).numpy(), plain[rows])
    rows = np.array([4, 1, 3])
    without = ActivationInputs(inputs.plain, (), position)
    np.testing.assert_array_equal(without.read(rows, 3).numpy(), plain[rows])


def test_pooled_activations_stay_flat(tmp_path):
    values = np.arange(12.0).reshape(4, 3)
    inputs = ActivationInputs(rows_of(tmp_path / "rows", values), (), np.arange(4))
    assert inputs.read(np.array([2]), 0).tolist() == [[6.0, 7.0, 8.0]]
