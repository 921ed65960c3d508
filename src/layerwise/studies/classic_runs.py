"""Classic models on a workspace: the floor of every fit, and the baselines of Buluttekin §4.1.

A network that does not beat these has learnt nothing worth its cost. They look at small grey
pictures, or at the pooled activations of a cut.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerwise.errors import ModelError
from layerwise.evaluation.predictions import Predictions
from layerwise.models.classic import MOST, SIDE, Classic, Dummy, Features, Forest, shrink
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
from layerwise.studies.profile import probe_transfer
from layerwise.studies.study import Outcome, Run
from layerwise.studies.workspace import Workspace
from layerwise.training.activations import pooled_at_cuts
from layerwise.training.transfer import Transfer

FLOORS = ("dummy", "random forest")
CHUNK = 256  # pictures shrunk at a time

Read = Callable[[NDArray[np.int64]], Features]


@dataclass(frozen=True)
class Kind:
    """A classic model.

    Attributes:
        make: (task, labels, seed, threads) → one to be fitted.
        settings: What decides its result beside its name, JSON-able.
        most: Training rows it is given at most.
    """

    make: Callable[[str, int, int, int], Classic]
    settings: dict[str, Any]
    most: int = MOST


KINDS = {
    "dummy": Kind(lambda task, k, seed, _: Dummy(task, k, "prior", seed=seed), {}),
    "dummy, most frequent": Kind(
        lambda task, k, seed, _: Dummy(task, k, "most_frequent", seed=seed), {}
    ),
    "dummy, stratified": Kind(lambda task, k, seed, _: Dummy(task, k, "stratified", seed=seed), {}),
    "random forest": Kind(lambda task, k, seed, n: Forest(task, k, seed=seed, threads=n), {}),
    "random forest, tuned": Kind(
        lambda task, k, seed, n: TunedForest(task, k, seed=seed, threads=n),
        {"folds": FOLDS, "trees": list(TREES), "max_features": list(MAX_FEATURES)},
    ),
    "kernel SVM": Kind(
        lambda task, k, seed, n: KernelSVM(task, k, seed=seed, threads=n),
        {"folds": FOLDS, "C": list(PENALTIES), "gamma": list(WIDTHS), "most": MOST_KERNEL},
        MOST_KERNEL,
    ),
}


def floors(work: Workspace) -> list[Outcome]:
    """Both baselines on the validation part, computed or found; the test part is kept beside it."""
    runs = [Run(name, "floor", _settings(work, name)) for name in FLOORS]
    found = [work.runs.find(run) for run in runs]
    missing = [run for run, outcome in zip(runs, found, strict=True) if outcome is None]
    if missing:
        work.say("the floor: dummy and random forest")
        train = _sample(work)
        rows = {"train": train, "val": work.rows("val"), "test": work.rows("test")}
        features = {split: _small(work, which) for split, which in rows.items()}
        for run in missing:
            _fit(work, run, train, features)
    return [outcome for outcome in map(work.runs.find, runs) if outcome is not None]


def floor_on_test(work: Workspace, outcome: Outcome) -> Predictions:
    """What a baseline says of the test part. Nothing is chosen by it."""
    return Predictions.load(work.runs.place(outcome.run) / "test.npz")


def classic_run(work: Workspace, kind: str, on: str = "pixels") -> Outcome:
    """A classic model on the validation part, computed or found.

    What it says of the test part is kept beside it, see `floor_on_test`; `details` says how many
    of the training pictures it has seen, and what cross-validation chose for each output.

    Args:
        work: What every run shares.
        kind: One of `KINDS`.
        on: "pixels" for grey pictures of 32×32, or a cut of the network for the mean over height
            and width of its activations there.

    Raises:
        ModelError: There is no such kind, or no such cut.
    """
    if kind not in KINDS:
        raise ModelError(f"{kind!r} is no classic model; it is one of {', '.join(KINDS)}")
    run = classic_of(work, kind, on)
    found = work.runs.find(run)
    if found is not None:
        return found
    work.say(run.name)
    train = _sample(work, KINDS[kind].most)
    read = _reader(work, on)
    rows = {"train": train, "val": work.rows("val"), "test": work.rows("test")}
    return _fit(work, run, train, {split: read(which) for split, which in rows.items()})


def classic_of(work: Workspace, kind: str, on: str = "pixels") -> Run:
    """What `classic_run` asks for, with the key of everything that decides it."""
    if on == "pixels":
        return Run(kind, "floor", _settings(work, kind) | KINDS[kind].settings)
    settings = {**work.settings, "classifier": kind, "cut": on, **KINDS[kind].settings}
    return Run(f"{kind} on {on}", "floor", settings)


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
    work: Workspace, run: Run, train: NDArray[np.int64], features: Mapping[str, Features]
) -> Outcome:
    """Fit, answer for validation and test, keep."""
    started = time.monotonic()
    task, labels = work.manifest.task, len(work.manifest.labels)
    model = KINDS[run.settings["classifier"]].make(task, labels, work.seed, work.threads)
    groups = np.asarray(work.manifest.groups(), dtype=str)[train]
    model.fit(features["train"], work.manifest.targets[train], groups)
    test = work.scored(work.rows("test"), model.predict(features["test"]))
    validation = work.scored(work.rows("val"), model.predict(features["val"]))
    test.save(work.runs.place(run) / "test.npz")
    seconds = round(time.monotonic() - started, 3)
    details: dict[str, Any] = {"images": len(train), "of": len(work.rows("train"))}
    if any(model.chosen):
        details["chosen"] = model.chosen
    outcome = Outcome(run, seconds, 0, validation, details)
    work.runs.finish(outcome)
    return outcome


def _sample(work: Workspace, most: int | None = None) -> NDArray[np.int64]:
    """The training rows, or `most` of them drawn at random where there are more."""
    most = MOST if most is None else most
    rows = work.rows("train")
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(work.seed).choice(rows, most, replace=False))


def _reader(work: Workspace, on: str) -> Read:
    """Rows → features (n, d): small grey pictures, or pooled activations at a cut."""
    if on == "pixels":
        return lambda rows: _small(work, rows)
    cuts = work.cuts()
    names = [cut.name for cut in cuts]
    if on not in names:
        near = get_close_matches(on, names, n=3, cutoff=0) or names
        raise ModelError(
            f"{work.model} has no cut {on!r} at the end of a block; near are {', '.join(near)} "
            f"(`layerwise models {work.model} --cuts` lists all)"
        )
    # As for the probes, so that their pass over the pictures serves these as well.
    network = work.network(Transfer(probe_transfer(on, work.weights_name).source))
    features = pooled_at_cuts(
        network.pixels,
        network.original,
        names,
        work.store,
        identity=work.identity,
        folder=work.cache,
        device=work.device,
        threads=work.threads,
        progress=work.track("one pass for every cut"),
    )
    at = names.index(on)
    start = sum(cut.channels for cut in cuts[:at])
    columns = slice(start, start + cuts[at].channels)
    return lambda rows: features.read((rows, columns))


def _small(work: Workspace, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Small grey pictures (n, SIDE²) uint8."""
    parts = [
        shrink(work.store.read(rows[start : start + CHUNK])) for start in range(0, len(rows), CHUNK)
    ]
    return np.concatenate(parts)
