"""The floor: what a model that looks at nothing, and one that looks at small grey pixels, reach.

Buluttekin 2020, §4.1.1 and §4.1.2. A network that does not beat these has learnt nothing worth
its cost.
"""

import time

import numpy as np
from numpy.typing import NDArray

from layerwise.evaluation.predictions import Predictions
from layerwise.models.classic import MOST, SIDE, Dummy, Forest, shrink
from layerwise.studies.study import Outcome, Run
from layerwise.studies.workspace import Workspace

FLOORS = ("dummy", "random forest")
CHUNK = 256  # pictures shrunk at a time


def floors(work: Workspace) -> list[Outcome]:
    """Both baselines on the validation part, computed or found; the test part is kept beside it."""
    runs = [Run(name, "floor", _settings(work, name)) for name in FLOORS]
    found = [work.runs.find(run) for run in runs]
    missing = [run for run, outcome in zip(runs, found, strict=True) if outcome is None]
    if missing:
        work.say("the floor: dummy and random forest")
        train = _sample(work)
        pixels = {"train": _small(work, train)}
        for split in ("val", "test"):
            pixels[split] = _small(work, work.rows(split))
        for run in missing:
            _fit(work, run, train, pixels)
    return [outcome for outcome in map(work.runs.find, runs) if outcome is not None]


def floor_on_test(work: Workspace, outcome: Outcome) -> Predictions:
    """What a baseline says of the test part. Nothing is chosen by it."""
    return Predictions.load(work.runs.place(outcome.run) / "test.npz")


def _settings(work: Workspace, name: str) -> dict[str, object]:
    return {
        "data": work.data_key,
        "image_size": list(work.image_size),
        "letterbox": work.store.letterbox,
        "seed": work.seed,
        "classifier": name,
        "side": SIDE,
    }


def _fit(
    work: Workspace, run: Run, train: NDArray[np.int64], pixels: dict[str, NDArray[np.uint8]]
) -> None:
    started = time.monotonic()
    task, labels = work.manifest.task, len(work.manifest.labels)
    model: Dummy | Forest = Dummy(task, labels)
    if run.name != "dummy":
        model = Forest(task, labels, seed=work.seed, threads=work.threads)
    model.fit(pixels["train"], work.manifest.targets[train])
    test = work.scored(work.rows("test"), model.predict(pixels["test"]))
    validation = work.scored(work.rows("val"), model.predict(pixels["val"]))
    test.save(work.runs.place(run) / "test.npz")
    seconds = round(time.monotonic() - started, 3)
    work.runs.finish(Outcome(run, seconds, 0, validation, {"images": len(train)}))


def _sample(work: Workspace) -> NDArray[np.int64]:
    """The training rows, or MOST of them drawn at random where there are more."""
    rows = work.rows("train")
    if len(rows) <= MOST:
        return rows
    return np.sort(np.random.default_rng(work.seed).choice(rows, MOST, replace=False))


def _small(work: Workspace, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Small grey pictures (n, SIDE²) uint8."""
    parts = [
        shrink(work.store.read(rows[start : start + CHUNK])) for start in range(0, len(rows), CHUNK)
    ]
    return np.concatenate(parts)
