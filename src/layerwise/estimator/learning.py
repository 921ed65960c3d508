"""From pictures and answers to a network, over the same workspace that every study works in."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerwise.config import content_key, from_mapping, to_mapping
from layerwise.data.exploration import suited_preset
from layerwise.data.manifest import Manifest
from layerwise.data.splits.partition import divide, find_units
from layerwise.data.storage.colour import all_grey
from layerwise.data.storage.headers import Headers, read_headers
from layerwise.data.storage.store import ImageStore, build_store
from layerwise.errors import DataError, TrainingError
from layerwise.estimator.fitted import device
from layerwise.models.presets import resolve_keep
from layerwise.models.registry import create
from layerwise.studies.planner import base_recipe
from layerwise.studies.prepare import Request, kept_cut, source_weights, workspace_of
from layerwise.studies.profile import (
    Probe,
    auroc,
    best_probe,
    probe_transfer,
    profile,
    smallest_equal,
)
from layerwise.studies.study import Outcome
from layerwise.studies.trained import rebuild, train
from layerwise.studies.workspace import Say, Workspace
from layerwise.training.network import TransferNetwork
from layerwise.training.recipe import Recipe, with_settings
from layerwise.training.transfer import Transfer

EPOCHS = 10  # where neither `epochs` nor a recipe says


@dataclass(frozen=True)
class Learnt:
    """What a fit found.

    Attributes:
        work: Data, pictures and folders; good for as long as the folders are there.
        network: In evaluation mode.
        outcome: The run that it is.
        probes: One a main cut, bottom to top; empty where none was asked for.
    """

    work: Workspace
    network: TransferNetwork
    outcome: Outcome
    probes: list[Probe]


def learn(
    manifest: Manifest,
    request: Request,
    *,
    importance: NDArray[np.float64] | None,
    transfer: str | Transfer,
    recipe: Recipe | Mapping[str, Any] | None,
    epochs: int | None,
    validation: float,
    say: Say,
) -> Learnt:
    """Hold a part out, probe or train what is asked for, and give the network.

    Args:
        manifest: Pictures and targets, no split.
        request: Network, weights, size, seed, threads, folders.
        importance: (N,) what each picture counts, above 0; None: all the same.
        transfer: "auto", "probe", "finetune", a cut, or a transfer; see `LayerwiseClassifier`.
        recipe: How is trained; a mapping changes settings of what `layerwise fit` begins with.
        epochs: In place of the recipe's; None: as there.
        validation: The fraction of the pictures that is held out.
        say: Told what is being done.

    Raises:
        LayerwiseError: Whatever is wrong with pictures, targets, network or settings.
    """
    network = create(
        request.model,
        outputs=1 if manifest.task == "binary" else len(manifest.labels),
        seed=request.seed,
        image_size=request.image_size,
        arguments=request.arguments,
    )
    state, notes = source_weights(request, network)
    side = request.image_size or network.contract.height
    headers = read_headers(manifest)
    say(f"{len(manifest):,} pictures to {side}×{side} pixels")
    store, manifest = build_store(
        manifest,
        size=(side, side),
        channels=1 if all_grey(manifest, headers.grey, request.seed) else 3,
        letterbox=request.letterbox,
        folder=request.cache,
    )
    manifest = held_out(manifest, store, validation, request.seed)
    for note in (*manifest.notes, *notes):
        say(note)
    work = workspace_of(
        request, manifest, store, state, device(), say, lambda _title: lambda _done, _all: None
    )
    if importance is not None:
        work = _counting(work, importance)
    how = _recipe(work, headers, request.augment, recipe, epochs)
    probes: list[Probe] = []
    if transfer in ("auto", "probe"):
        if not work.cuts():
            kept_cut(request, network)  # refuses it with the reason
        probes = profile(work)
        found = _by_probes(work, probes, how, tune=transfer == "auto")
    else:
        found = _train(work, _resolved(work, transfer), how)
    chosen, outcome = found
    say(f"{outcome.run.name}: validation AUROC {auroc(work, outcome):.3f}")
    return Learnt(work, rebuild(work, chosen, outcome), outcome, probes)


def held_out(manifest: Manifest, store: ImageStore, fraction: float, seed: int) -> Manifest:
    """Validation drawn from all: stratified, whole groups, copies of a picture together.

    Raises:
        DataError: All pictures are the same, or a class has too few for both parts.
    """
    if len(np.unique(store.digests, axis=0)) == 1:
        raise DataError(
            f"all {len(manifest)} pictures of X are the same, so nothing can be told apart; check "
            "how X was made"
        )
    unit = find_units(manifest.groups(), store.digests)
    names = ("train", "val")
    part = divide(manifest, unit, np.array([1 - fraction, fraction]), names, seed)
    return manifest.replace(split=np.asarray(names, dtype=object)[part])


def _counting(work: Workspace, importance: NDArray[np.float64]) -> Workspace:
    """The workspace in which pictures count unequally; its runs are found under that alone."""
    importance = importance / importance[work.rows("train")].mean()
    key = content_key({"data": work.data_key, "importance": importance.tolist()})
    return replace(work, importance=importance, data_key=key)


def _recipe(
    work: Workspace,
    headers: Headers,
    augment: str,
    asked: Recipe | Mapping[str, Any] | None,
    epochs: int | None,
) -> Recipe:
    """How is trained."""
    epochs = None if epochs is None else int(epochs)
    if isinstance(asked, Recipe):
        return asked if epochs is None else replace(asked, epochs=epochs)
    if augment == "auto":
        side = float(np.median(headers.sizes.min(axis=1)))
        augment = suited_preset(side, work.store.channels)
    plain = to_mapping(replace(base_recipe(work, augment), epochs=EPOCHS))
    changed = {k: v.item() if isinstance(v, np.generic) else v for k, v in (asked or {}).items()}
    changed |= {} if epochs is None else {"epochs": epochs}
    return from_mapping(Recipe, with_settings(plain, changed), "recipe")


def _by_probes(
    work: Workspace, probes: list[Probe], recipe: Recipe, tune: bool
) -> tuple[Transfer, Outcome]:
    """The best probe; or the network that ends at the lowest cut not measurably worse, tuned.

    As in `layerwise fit`, what can not be trained is left out, and of both the one with the higher
    validation AUROC is taken, of equals the frozen one. The lowest such cut alone will not do: on
    few validation pictures hardly any cut is measurably worse.
    """
    best = best_probe(work, probes)
    frozen = probe_transfer(best.cut.name, work.weights_name), best.outcome
    if not tune:
        return frozen
    # What random filters are worth at a cut says nothing of a network that starts at random.
    equal = smallest_equal(work, probes).cut.name
    what = "finetune" if work.weights is None else equal
    try:
        tuned = _train(work, _resolved(work, what), recipe)
    except TrainingError as error:
        work.say(f"left out: {error}")
        return frozen
    return max(frozen, tuned, key=lambda pair: auroc(work, pair[1]))


def _train(work: Workspace, transfer: Transfer, recipe: Recipe) -> tuple[Transfer, Outcome]:
    work.say(f"training: {transfer.name}, {recipe.epochs} epochs")
    # One that learns little is a finding, which cross-validation shows, and no error.
    return transfer, train(work, transfer, recipe, check=False)


def _resolved(work: Workspace, transfer: str | Transfer) -> Transfer:
    """A transfer in words as a value, with the source that `weights` names."""
    if isinstance(transfer, str):
        keep = "all" if transfer == "finetune" else resolve_keep(work.model, transfer)
        transfer = Transfer(keep=keep, copy=keep)
    if transfer.source != "none" or transfer.copy == "none":
        return transfer
    if work.weights is None:
        return replace(transfer, copy="none")
    return replace(transfer, source=work.weights_name)
