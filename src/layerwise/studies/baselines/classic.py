"""The classic models of Buluttekin 2020, §4.1.1 and §4.1.2, without and with augmentation.

They learn from small grey pictures once, where a network sees new views in every epoch. So their
augmented form is made in advance, by the same code: the pictures of an epoch where an epoch is
balanced by copies or by drawing (§3.4 for the copies), else every picture as it is and once more
augmented. Copies of a picture stay with it when the settings are chosen by cross-validation.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerwise.data.balance import PLAIN, Balance, Epochs
from layerwise.models.classic import MOST, SIDE, Classic, Dummy, shrink
from layerwise.models.tuned import (
    FOLDS,
    MAX_FEATURES,
    MOST_KERNEL,
    PENALTIES,
    TREES,
    WIDTHS,
    KernelSVM,
    TunedForest,
)
from layerwise.studies.baselines.lineup import Form
from layerwise.studies.study import Outcome, Run
from layerwise.studies.workspace import Workspace
from layerwise.training.inputs import ImageInputs

Rows = NDArray[np.int64]
Make = Callable[[str, int, int, int, bool], Classic]  # task, labels, seed, threads, balanced

CHUNK = 256  # pictures at a time
HOUR = 3600.0  # seconds; with less time than this a model gets fewer pictures
FEWEST = 1000  # pictures that it gets in any case

MOST_OF = {"dummy": MOST, "random-forest": MOST, "svm": MOST_KERNEL}
GRIDS: dict[str, dict[str, Any]] = {
    "dummy": {},
    "random-forest": {"folds": FOLDS, "trees": list(TREES), "max_features": list(MAX_FEATURES)},
    "svm": {"folds": FOLDS, "C": list(PENALTIES), "gamma": list(WIDTHS)},
}
MAKERS: dict[str, Make] = {
    "dummy": lambda task, k, seed, _n, _b: Dummy(task, k, "most_frequent", seed=seed),
    "random-forest": lambda task, k, seed, n, balanced: TunedForest(
        task, k, seed=seed, threads=n, balanced=balanced
    ),
    "svm": lambda task, k, seed, n, balanced: KernelSVM(
        task, k, seed=seed, threads=n, balanced=balanced
    ),
}


def classic_run(work: Workspace, key: str, form: Form, most: int) -> Run:
    """What `classic_baseline` asks for, with the key of everything that decides it."""
    settings = {
        "data": work.data_key,
        "image_size": list(work.image_size),
        "letterbox": work.store.letterbox,
        "seed": work.seed,
        "baseline": key,
        "side": SIDE,
        "augment": form.augment,
        "balance": form.balance,
        "vertical_flip": form.vertical_flip,
        "most": most,
        **GRIDS[key],
    }
    return Run(f"{key}, {form.name}", "floor", settings)


def classic_baseline(work: Workspace, key: str, form: Form, most: int) -> Outcome:
    """A classic model on validation and test part, computed or found.

    Args:
        work: Pictures and labels.
        key: Of CLASSIC.
        form: What is done to the training pictures.
        most: Training pictures, at most; see `most_pictures`.
    """
    run = classic_run(work, key, form, most)
    found = work.runs.find(run)
    if found is not None:
        return found
    started = time.monotonic()
    task, labels = work.manifest.task, len(work.manifest.labels)
    balanced = form.balance == "weights"  # the other ways are in the rows
    model = MAKERS[key](task, labels, work.seed, work.threads, balanced)
    rows, copies = training_rows(work, form, most)
    groups = np.asarray(work.manifest.groups(), dtype=str)[rows]
    model.fit(features(work, rows, copies, form), work.manifest.targets[rows], groups)
    said = {}
    for part in ("val", "test"):
        which = work.rows(part)
        said[part] = work.scored(which, model.predict(features(work, which, None, form)))
    details: dict[str, Any] = {
        "images": len(np.unique(rows)),
        "of": len(work.rows("train")),
        "rows": len(rows),
    }
    if any(model.chosen):
        details["chosen"] = model.chosen
    seconds = round(time.monotonic() - started, 3)
    outcome = Outcome(run, seconds, 0, said["val"], details, parts={"test": said["test"]})
    work.runs.finish(outcome)
    return outcome


def most_pictures(key: str, seconds: float | None) -> int:
    """Training pictures that a classic model is given at most, by the time of the whole study.

    By the flag alone and not by any clock, so that the same command gives the same model. The time
    of a forest grows with its pictures, that of an SVM with their square.
    """
    most = MOST_OF[key]
    if seconds is None or seconds >= HOUR:
        return most
    share = (seconds / HOUR) ** (0.5 if key == "svm" else 1.0)
    return int(np.clip(most * share, min(FEWEST, most), most))


def training_rows(work: Workspace, form: Form, most: int) -> tuple[Rows, Rows]:
    """Rows that a classic model learns from, and which copy each is; `PLAIN` is the picture itself.

    With copies there may be twice `most` rows, and where that is not enough fewer pictures.
    """
    targets, train = work.manifest.targets, work.rows("train")
    generator = np.random.default_rng(work.seed)
    if len(train) > most:
        train = np.sort(generator.choice(train, most, replace=False))
    rows, copies = with_copies(form.balance, form.augment, targets, train, work.seed)
    if len(rows) > 2 * most:
        fewer = max(1, int(len(train) * 2 * most / len(rows)))
        train = np.sort(generator.choice(train, fewer, replace=False))
        rows, copies = with_copies(form.balance, form.augment, targets, train, work.seed)
    return rows, copies


def with_copies(
    balance: Balance, augment: str, targets: NDArray[np.generic], train: Rows, seed: int
) -> tuple[Rows, Rows]:
    """Training rows with their augmented copies: rows, and the copy number of each; both (n,)."""
    if balance in ("sampling", "augment"):
        return Epochs(balance, targets, train, seed).draw(0)
    plain = np.full(len(train), PLAIN)
    if augment == "none":
        return train, plain
    return np.tile(train, 2), np.concatenate([plain, np.zeros(len(train), np.int64)])


def features(work: Workspace, rows: Rows, copies: Rows | None, form: Form) -> NDArray[np.uint8]:
    """Small grey pictures (n, SIDE²) uint8; without copies as they are."""
    pictures = ImageInputs(work.store, form.augment, work.seed, form.vertical_flip)
    epoch = None if copies is None else 0
    parts = []
    for start in range(0, len(rows), CHUNK):
        part = slice(start, start + CHUNK)
        some = pictures.read(rows[part], epoch, None if copies is None else copies[part])
        parts.append(shrink(some.numpy()))
    return np.concatenate(parts)
