"""Classifiers that are solved and not trained, on the activations of a frozen bottom.

Linear SVM, logistic regression, nearest class mean; on pooled or flattened activations (Marcelino
2018, §5.2 and §5.3). Each is one linear layer in the end, and so a network that can be deployed.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from layerwise.config import content_key
from layerwise.data.splits.folds import fold_numbers
from layerwise.data.storage.rows import Rows
from layerwise.errors import ModelError, TrainingError
from layerwise.models.cuts import Cut
from layerwise.models.solved.grid import PENALTIES, Searched, check_folds, search
from layerwise.models.solved.learning import learning_curve
from layerwise.models.solved.linear import Linear
from layerwise.models.solved.nearest_mean import nearest_mean
from layerwise.models.solved.platt import calibrate
from layerwise.models.solved.rotation import Columns
from layerwise.studies.profile import probe_transfer
from layerwise.studies.study import Outcome, Run
from layerwise.studies.workspace import Workspace
from layerwise.training.activations import activations
from layerwise.training.transfer import Transfer

Kind = Literal["svm", "logistic", "nearest mean"]
KINDS: dict[str, str] = {
    "svm": "linear SVM",
    "logistic": "logistic regression",
    "nearest mean": "nearest class mean",
}
FOLDS = 10  # Marcelino 2018, §6.3.3
CHUNK = 256  # images whose activations are answered at a time


def classify(
    work: Workspace,
    cut: Cut,
    kind: Kind,
    *,
    flattened: bool = False,
    folds: int = FOLDS,
    penalties: Sequence[float] = PENALTIES,
    standardise: bool = True,
    parts: Sequence[str] = (),
) -> Outcome:
    """A classifier solved on the activations at a cut; a finished one is found again.

    The folds are whole patients of the training part, stratified. The SVM's margins become
    probabilities by Platt scaling on the folds, those of the nearest mean by one slope
    (`platt.calibrate`); logistic regression weighs all classes alike, as the probes do.

    Args:
        work: What every run shares.
        cut: Where the frozen bottom ends; one of the network's cuts.
        kind: "svm" (squared hinge), "logistic" or "nearest mean".
        flattened: Take every value of the activation instead of its mean over the picture.
        folds: Of the training part, to choose C and to calibrate.
        penalties: The grid of C; the nearest mean has none.
        standardise: Learn from values of mean 0 and deviation 1; Marcelino takes them raw.
        parts: Further parts to be predicted, "train" or "test"; kept with the run.

    Returns:
        The weights are `head.linear.weight` and `head.linear.bias` on top of `head_transfer`.

    Raises:
        DataError: A class has fewer patients than folds, or none in some fold.
        TrainingError: Activations that are not finite or all equal, or too many values of too many
            images.
        ModelError: An unknown kind.
    """
    if kind not in KINDS:
        raise ModelError(f"classifier {kind!r} is unknown; take one of {', '.join(KINDS)}")
    run = frozen_run(
        work,
        cut,
        kind,
        flattened=flattened,
        folds=folds,
        penalties=penalties,
        standardise=standardise,
    )
    found = work.runs.find(run)
    if found is not None:
        return _with_parts(work, cut, flattened, found, parts)
    started = time.monotonic()
    train, validation = work.rows("train"), work.rows("val")
    fold = _folds(work, train, folds)
    features = activations_at(work, head_transfer(cut, work.weights_name, flattened), cut)
    targets, task = work.manifest.targets[train], work.manifest.task
    columns = _columns(features, train)
    details: dict[str, Any] = {"cut": cut.name, "folds": folds}
    if kind == "nearest mean":
        raw, held_out = nearest_mean(columns, targets, fold, task, standardise=standardise)
        linear = calibrate(raw, held_out, targets, task, offsets=False)
    else:
        done = search(
            columns,
            targets,
            fold,
            task,
            kind="squared hinge" if kind == "svm" else "logistic",
            penalties=penalties,
            standardise=standardise,
            balanced=kind == "logistic",
            labels=work.manifest.labels,
        )
        details |= _told(done)
        linear = done.linear
        if kind == "svm":
            linear = calibrate(linear, done.held_out, targets, task)
    logits = _answers(linear, features, validation)
    outcome = Outcome(
        run,
        round(time.monotonic() - started, 3),
        cut.parameters + linear.weight.size + linear.bias.size,
        work.predictions(validation, logits),
        details,
        {"head.linear.weight": linear.weight, "head.linear.bias": linear.bias},
        {
            part: work.predictions(work.rows(part), _answers(linear, features, work.rows(part)))
            for part in parts
        },
    )
    work.runs.finish(outcome)
    return outcome


def _with_parts(
    work: Workspace, cut: Cut, flattened: bool, outcome: Outcome, parts: Sequence[str]
) -> Outcome:
    """A finished one, with what it says of these parts too."""
    said = dict(outcome.parts)
    for part in [part for part in parts if part not in said]:
        weight, bias = (
            np.asarray(outcome.weights[f"head.linear.{name}"], np.float32)
            for name in ("weight", "bias")
        )
        linear = Linear(weight, bias)
        features = activations_at(work, head_transfer(cut, work.weights_name, flattened), cut)
        said[part] = work.predictions(work.rows(part), _answers(linear, features, work.rows(part)))
        work.runs.add_part(outcome.run, part, said[part])
    return replace(outcome, parts=said)


def head_transfer(cut: Cut, weights: str, flattened: bool) -> Transfer:
    """Everything up to the cut copied and frozen, and a linear layer on what crosses there."""
    plain = probe_transfer(cut.name, weights)
    if not flattened:
        return plain
    return Transfer(plain.source, plain.keep, plain.copy, plain.freeze, head="flattened")


def frozen_run(
    work: Workspace,
    cut: Cut,
    kind: Kind,
    *,
    flattened: bool = False,
    folds: int = FOLDS,
    penalties: Sequence[float] = PENALTIES,
    standardise: bool = True,
) -> Run:
    """What `classify` is asked for, with the key of everything that decides it."""
    transfer = head_transfer(cut, work.weights_name, flattened)
    settings: dict[str, Any] = {
        **work.settings,
        "transfer": transfer.to_dict(),
        "classifier": kind,
        "folds": folds,
        "standardise": standardise,
    }
    if kind != "nearest mean":
        settings["penalties"] = sorted({float(c) for c in penalties})
    name = f"frozen to {cut.name}, {KINDS[kind]}{' on all values' if flattened else ''}"
    return Run(name, "probe", settings)


def _folds(work: Workspace, train: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """(n,) the fold of each training image: whole patients, stratified, every class in each."""
    part = work.manifest.take(train)
    fold = fold_numbers(part, count, contents=work.store.digests[train], seed=work.seed)
    check_folds(part.targets, fold, part.task, part.labels)
    return fold


def activations_at(work: Workspace, transfer: Transfer, cut: Cut) -> Rows:
    """What the frozen bottom puts out of every picture, from the cache or computed."""
    network = work.network(transfer)
    bottom = network.frozen_part()
    assert bottom is not None, "a probe freezes what is below its cut"
    return activations(
        bottom,
        work.store,
        np.zeros(0, np.int64),
        cut=network.place,
        identity=work.identity,
        preset="none",
        views=0,
        seed=work.seed,
        folder=work.cache,
        device=work.device,
        threads=work.threads,
        progress=work.track(f"activations at {cut.name}"),
    ).plain


def svm_learning(
    work: Workspace,
    cut: Cut,
    svm: Outcome,
    subsets: Sequence[NDArray[np.int64]],
    *,
    flattened: bool = False,
    standardise: bool = True,
) -> list[Outcome]:
    """The learning curve of an SVM, at the folds and the C that it has; finished points are found.

    Args:
        work: As of `classify`, like the rest.
        cut: Where the frozen bottom ends.
        svm: What `classify` gave for all training images.
        subsets: Training rows of each size.
        flattened: As the SVM was asked for.
        standardise: As the SVM was asked for.

    Returns:
        One a subset, without weights: what the SVM of all its images says of the validation part,
        by raw margins; in its details "images", and of each fold's model "without_fold" (images
        that it learnt from), "train" and "held_out" (accuracies; None where it learnt from none),
        see `solved.learning`.
    """
    train, validation = work.rows("train"), work.rows("val")
    runs = [_point(svm, subset) for subset in subsets]
    found = [work.runs.find(run) for run in runs]
    if all(found):
        return [one for one in found if one is not None]
    started = time.monotonic()
    features = activations_at(work, head_transfer(cut, work.weights_name, flattened), cut)
    chosen = svm.details["C"]
    curve = learning_curve(
        _columns(features, train),
        work.manifest.targets[train],
        _folds(work, train, svm.details["folds"]),
        work.manifest.task,
        [np.isin(train, subset) for subset in subsets],
        chosen if isinstance(chosen, list) else [chosen],
        standardise=standardise,
        labels=work.manifest.labels,
    )
    share = round((time.monotonic() - started) / len(subsets), 3)
    out = []
    for run, point in zip(runs, curve, strict=True):
        said = work.predictions(validation, _answers(point.linear, features, validation))
        details = {
            "images": point.images,
            "without_fold": list(point.without_fold),
            "train": [None if math.isnan(one) else one for one in point.train],
            "held_out": [None if math.isnan(one) else one for one in point.held_out],
        }
        out.append(Outcome(run, share, 0, said, details))
        work.runs.finish(out[-1])
    return out


def _point(svm: Outcome, subset: NDArray[np.int64]) -> Run:
    """One point of the learning curve of an SVM."""
    rows = content_key(subset.tolist())
    return Run(
        f"{svm.run.name}, learning from {len(subset)} images",
        "curve",
        {**svm.run.settings, "rows": rows},
    )


def _columns(features: Rows, rows: NDArray[np.int64]) -> Columns:
    """Some rows of activations (N, C, …), flattened, read by blocks of channels."""
    inner = math.prod(features.shape[2:])  # values of a channel

    def read(first: int, last: int) -> NDArray[np.float32]:
        channels = slice(first // inner, -(-last // inner))
        block = features.read((rows, channels)).reshape(len(rows), -1)
        skipped = first - channels.start * inner
        return np.asarray(block[:, skipped : skipped + last - first])

    return Columns(read, len(rows), math.prod(features.shape[1:]))


def _answers(linear: Linear, features: Rows, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Logits (n, outputs) of these rows."""
    parts = [
        linear.logits(features.read(part).reshape(len(part), -1))
        for part in np.split(rows, range(CHUNK, len(rows), CHUNK))
    ]
    logits = np.concatenate(parts)
    if not np.isfinite(logits).all():
        raise TrainingError(
            "some activations of the validation part are not finite; take other weights, or a "
            "lower cut"
        )
    return logits


def _told(done: Searched) -> dict[str, Any]:
    """What a grid search found, JSON-able: one C, or one a label."""
    one = len(done.penalties) == 1
    return {
        "C": done.penalties[0] if one else list(done.penalties),
        "grid": list(done.grid),
        "accuracy": (done.scores[:, 0] if one else done.scores).tolist(),
    }
