"""Small generated data sets, and workspaces on them made as `layerwise fit` makes them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from layerwise.studies.prepare import Request, prepare
from layerwise.studies.workspace import Workspace

SIDE = 32
COUNTS = {"train": 48, "val": 24, "test": 24}


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors are faster on one thread, and its number must not change within a test."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="module")
def few_trees():
    """A small forest in every fit: growing one of 200 trees takes longer than all else in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("layerwise.models.classic.TREES", 20)
        yield


def pictures(targets: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Noise, with a bright square for every label that a picture has, each in its own corner."""
    corners = [(2, 2), (2, 18), (18, 2), (18, 18)]
    out = generator.integers(0, 100, (len(targets), SIDE, SIDE), dtype=np.uint8)
    for picture, labels in zip(out, targets, strict=True):
        for label in np.flatnonzero(labels):
            top, left = corners[label]
            picture[top : top + 12, left : left + 12] += 140
    return out


@pytest.fixture(scope="session")
def data_file(tmp_path_factory) -> Callable[[str], Path]:
    """A task → a MedMNIST file with three parts: binary, multiclass (3) or multilabel (3)."""
    folder = tmp_path_factory.mktemp("data")

    def make(task: str) -> Path:
        path = folder / f"{task}.npz"
        if path.exists():
            return path
        generator = np.random.default_rng(0)
        arrays = {}
        for part, count in COUNTS.items():
            if task == "multilabel":
                has = generator.integers(0, 2, (count, 3))
                labels = has
            else:
                labels = (np.arange(count) % (2 if task == "binary" else 3))[:, None]
                has = np.eye(3, dtype=np.int64)[labels[:, 0]]
            arrays[f"{part}_images"] = pictures(has, generator)
            arrays[f"{part}_labels"] = labels
        np.savez(path, **arrays)
        return path

    return make


@pytest.fixture
def workspace(data_file, tmp_path) -> Callable[..., Workspace]:
    """(task, changes of the request) → a workspace; `out` and `cache` lie in tmp_path."""

    def make(task: str = "binary", **changes: object) -> Workspace:
        settings = {
            "data": str(data_file(task)),
            "out": tmp_path / "out",
            "cache": tmp_path / "cache",
            "model": "lenet5",
            "weights": "none",
            "image_size": SIDE,
            "threads": 1,
        }
        prepared = prepare(
            Request(**settings | changes),  # type: ignore[arg-type]
            lambda _words: None,
            lambda _title: lambda _done, _all: None,
            lambda _network, _manifest, _device: SIDE,
        )
        return prepared.work

    return make


@pytest.fixture(scope="session")
def six_classes_file(tmp_path_factory) -> Path:
    """A MedMNIST file of six classes, a to f: a bright square in one of six places."""
    path = tmp_path_factory.mktemp("six") / "six.npz"
    generator = np.random.default_rng(0)
    arrays = {}
    for part, count in {"train": 72, "val": 24, "test": 30}.items():
        labels = np.arange(count) % 6
        images = generator.integers(0, 110, (count, SIDE, SIDE), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            top, left = 2 + 16 * (label // 3), 1 + 10 * (label % 3)
            image[top : top + 9, left : left + 9] += 130
        arrays |= {f"{part}_images": images, f"{part}_labels": labels[:, None]}
    np.savez(path, **arrays)
    path.with_name("classes.json").write_text('["a", "b", "c", "d", "e", "f"]', encoding="utf-8")
    return path


@pytest.fixture
def six_classes(workspace, six_classes_file) -> Callable[..., Workspace]:
    """(changes of the request) → a workspace of six classes."""
    return lambda **changes: workspace(data=str(six_classes_file), **changes)
