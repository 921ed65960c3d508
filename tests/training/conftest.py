"""Small generated pictures, and jobs on them, for the tests of training."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from layerwise.data.manifest import Manifest, make_table
from layerwise.data.storage.store import ImageStore, build_store
from layerwise.training.inputs import ImageInputs
from layerwise.training.job import Job
from layerwise.training.network import build
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

SIDE = 32


@dataclass(frozen=True)
class Pictures:
    """Grey pictures in two classes: the bright square stands left (0) or right (1)."""

    store: ImageStore
    targets: np.ndarray  # (N,) int64
    train: np.ndarray  # the first rows
    validation: np.ndarray  # the last rows


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors are faster on one thread, and its number must not change within a test."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_pictures(tmp_path_factory) -> Callable[..., Pictures]:
    """(number, seed) → Pictures; a quarter of them validate."""

    def make(number: int = 64, seed: int = 0) -> Pictures:
        generator = np.random.default_rng(seed)
        targets = np.arange(number, dtype=np.int64) % 2
        pixels = generator.integers(0, 120, (number, SIDE, SIDE), dtype=np.uint8)
        for picture, target in zip(pixels, targets, strict=True):
            left = 3 if target == 0 else 17
            picture[8:24, left : left + 12] += 120
        split = ["train"] * (3 * number // 4)
        split += ["val"] * (number - len(split))
        table = make_table([f"{s}/{i}" for i, s in enumerate(split)], splits=split)
        manifest = Manifest("squares", "binary", ("left", "right"), table, targets, pixels)
        store, manifest = build_store(
            manifest,
            size=(SIDE, SIDE),
            channels=1,
            letterbox=False,
            folder=tmp_path_factory.mktemp("store"),
            workers=1,
        )
        train, validation = manifest.indices("train"), manifest.indices("val")
        return Pictures(store, targets, train, validation)

    return make


@pytest.fixture(scope="session")
def pictures(make_pictures) -> Pictures:
    return make_pictures()


def likelihood(targets: np.ndarray, logits: np.ndarray) -> float:
    """The mean log likelihood: a score that moves with every weight."""
    signs = 2.0 * targets - 1
    return -float(np.logaddexp(0, -signs * logits[:, 0].astype(np.float64)).mean())


@pytest.fixture
def make_job(pictures) -> Callable[..., Job]:
    """A binary job on the pictures; keywords go to the recipe unless they are named here."""

    def make(
        *,
        model: str = "timm:test_efficientnet",
        transfer: Transfer | None = None,
        source: dict | None = None,
        arguments: dict | None = None,
        seed: int = 3,
        score: Callable | None = None,
        outputs: int = 1,
        task: str = "binary",
        targets: np.ndarray | None = None,
        data: Pictures | None = None,
        **recipe: object,
    ) -> Job:
        data = data or pictures
        settings = Recipe(**{"epochs": 3, "batch": 8, "lr": 3e-3, "augment": "radiograph"} | recipe)
        network = build(
            transfer or Transfer("none", copy="none"),
            model=model,
            outputs=outputs,
            seed=seed,
            image_size=SIDE,
            arguments=arguments,
            source_weights=source,
        ).to(memory_format=torch.channels_last)
        return Job(
            network=network,
            module=network,
            inputs=ImageInputs(data.store, settings.augment, seed),
            targets=data.targets if targets is None else targets,
            train=data.train,
            validation=data.validation,
            task=task,
            recipe=settings,
            seed=seed,
            score=score or likelihood,
            device=torch.device("cpu"),
        )

    return make


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "run"
