"""From what the user names on the command line to a workspace: data, split, pictures, network."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from layerwise.data.audit.check import audit, check
from layerwise.data.audit.duplicates import joined, near_duplicates
from layerwise.data.balance import Balance, check_balance
from layerwise.data.exploration import suited_preset
from layerwise.data.fingerprint import data_key, fingerprint
from layerwise.data.load import DataOptions, load
from layerwise.data.manifest import Manifest
from layerwise.data.splits.assign import assign
from layerwise.data.storage.colour import all_grey
from layerwise.data.storage.headers import read_headers
from layerwise.data.storage.store import ImageStore, build_store
from layerwise.errors import ModelError
from layerwise.models.presets import resolve_keep
from layerwise.models.registry import Network, create
from layerwise.models.weights import fit_weights, read_weights
from layerwise.studies.study import RunStore
from layerwise.studies.workspace import Say, Track, Workspace
from layerwise.training.activations import state_digest
from layerwise.training.recipe import check_flip
from layerwise.training.resolve import keepable


@dataclass(frozen=True)
class Request:
    """What the user asked for; `identity` of it is what a folder of results belongs to."""

    data: str  # a folder, a table, an archive, or "digits"
    out: Path  # where everything is written
    cache: Path  # where pictures and activations are kept for all commands
    options: DataOptions = field(default_factory=DataOptions)  # how the data are read
    model: str = "timm:mobilenetv2_100"  # a name of the registry
    arguments: dict[str, str] = field(default_factory=dict)  # for its constructor
    weights: str = "pretrained"  # a file, a run, "pretrained" or "none"
    keep: str = "all"  # the network ends here: a cut, or a preset's name
    image_size: int | None = None  # pixels of a side; None: from the network and the time
    letterbox: bool = False  # keep the aspect ratio
    augment: str = "auto"  # a preset, or chosen by the pictures
    balance: Balance = "weights"  # what makes unequal classes count the same
    vertical_flip: bool = False  # augmented pictures may be upside down
    seconds: float = 600.0  # the time budget
    seed: int = 0  # of everything random
    threads: int = 2  # of torch and ONNX Runtime
    allow_leaks: bool = False  # go on although an image or a patient stands in two splits
    skip_unreadable: bool = False  # leave damaged images out
    shared: bool = False  # find runs that other studies with this cache have finished
    metric: str = "auroc"  # by which trained runs choose their epochs

    def identity(self) -> dict[str, Any]:
        """The settings that decide the result, JSON-able."""
        options = {k: v for k, v in vars(self.options).items() if v not in (None, False, ())}
        return {
            "data": str(self.data),
            "options": {k: str(v) for k, v in options.items()},
            "model": self.model,
            "arguments": dict(self.arguments),
            "weights": self.weights,
            "keep": self.keep,
            "image_size": self.image_size,
            "letterbox": self.letterbox,
            "augment": self.augment,
            "balance": self.balance,
            "vertical_flip": self.vertical_flip,
            "time": self.seconds,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Prepared:
    """A workspace and what was found on the way to it."""

    work: Workspace
    fingerprint: dict[str, Any]
    notes: list[str]
    augment: str


def prepare(
    request: Request,
    say: Say,
    track: Track,
    size_for: Callable[[Network, Manifest, torch.device], int],
) -> Prepared:
    """Read, decode, audit and split the data, and load the weights.

    Args:
        request: What the user asked for.
        say: Told what is being done.
        track: Makes progress callbacks.
        size_for: Chooses the size of the pictures where the user has not.

    Raises:
        LayerwiseError: Whatever is wrong with the data, the network or the weights.
    """
    torch.set_num_threads(request.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    manifest = load(request.data, request.options)
    _check_training(request, manifest, None if request.augment == "auto" else request.augment)
    outputs = 1 if manifest.task == "binary" else len(manifest.labels)
    network = create(
        request.model,
        outputs=outputs,
        seed=request.seed,
        image_size=request.image_size,
        arguments=request.arguments,
    )
    keep = kept_cut(request, network)
    state, notes = source_weights(request, network)
    say(f"{len(manifest):,} images, labels {', '.join(manifest.labels)}")
    headers = read_headers(manifest)
    one_channel = all_grey(manifest, headers.grey, request.seed)
    side = request.image_size or size_for(network, manifest, device)
    say(f"decoding to {side}×{side} pixels, once")
    store, manifest = build_store(
        manifest,
        size=(side, side),
        channels=1 if one_channel else 3,
        letterbox=request.letterbox,
        folder=request.cache,
        skip_unreadable=request.skip_unreadable,
        progress=track(f"decoding to {side}×{side}"),
    )
    headers = headers.take(store.rows)
    say("looking for duplicates, leaks and odd pictures")
    pairs = near_duplicates(store, request.seed)
    manifest = assign(manifest, contents=joined(store.digests, pairs), seed=request.seed)
    found = audit(manifest, store, headers, pairs=pairs, seed=request.seed)
    notes += check(manifest, found, allow_leaks=request.allow_leaks)
    facts = fingerprint(manifest, store, headers)
    work = workspace_of(request, manifest, store, state, device, say, track, keep=keep)
    augment = request.augment if request.augment != "auto" else _augment_for(facts, store)
    _check_training(request, manifest, augment)
    notes += _grey_notes(store, network, headers.grey)
    return Prepared(work, facts, [*manifest.notes, *notes], augment)


def source_weights(
    request: Request, network: Network
) -> tuple[dict[str, torch.Tensor] | None, list[str]]:
    """The weights that layers are copied from, fitted to the network; None without. And notes.

    Raises:
        WeightsError: They can not be had, or are of another network.
    """
    if request.weights == "none":
        return None, []
    return fit_weights(read_weights(request.weights, network), network, source=request.weights)


def workspace_of(
    request: Request,
    manifest: Manifest,
    store: ImageStore,
    state: dict[str, torch.Tensor] | None,
    device: torch.device,
    say: Say,
    track: Track,
    *,
    keep: str = "all",
) -> Workspace:
    """What all runs share, of data that are read, decoded and split.

    Args:
        request: What the user asked for.
        manifest: In which every image has a split.
        store: Its pictures, row by row.
        state: As `source_weights` gives it.
        device: Where torch runs.
        say: Told what is being done.
        track: Makes progress callbacks.
        keep: As `kept_cut` gives it.
    """
    return Workspace(
        manifest=manifest,
        store=store,
        data_key=data_key(manifest, store),
        model=request.model,
        arguments=request.arguments,
        weights=state,
        weights_name=_short_name(request),
        weights_digest="none" if state is None else state_digest(state),
        device=device,
        threads=request.threads,
        seed=request.seed,
        cache=request.cache,
        runs=RunStore(request.out / "runs", request.cache / "runs" if request.shared else None),
        say=say,
        track=track,
        keep=keep,
        weights_file=None if request.weights in ("pretrained", "none") else request.weights,
        metric=request.metric,
    )


def _check_training(request: Request, manifest: Manifest, preset: str | None) -> None:
    """Refuse a way of training that can not be, as soon as it is known."""
    several = manifest.task == "multilabel"
    check_balance(request.balance, several_labels=several, preset=preset)
    check_flip(request.vertical_flip, preset)


def kept_cut(request: Request, network: Network) -> str:
    """The cut that `--keep` means, by its own name; or "all".

    Raises:
        ModelError: It is no legal cut of the network, or a preset of another one.
    """
    keep = resolve_keep(request.model, request.keep)
    try:
        return keepable(network, keep)
    except ModelError as error:
        raise ModelError(f"--keep {request.keep}: {error}") from error


def _short_name(request: Request) -> str:
    """What the source is called in results: the same whatever folder it lies in."""
    path = Path(request.weights)
    if path.is_dir():
        return f"run {path.resolve().name}"
    return f"{request.model}, pretrained" if request.weights == "pretrained" else path.name


def _augment_for(facts: dict[str, Any], store: ImageStore) -> str:
    """The preset that the pictures call for."""
    original = facts["original"]
    side = min(original["height"]["median"], original["width"]["median"])
    return suited_preset(side, store.channels)


def _grey_notes(store: ImageStore, network: Network, grey: NDArray[np.bool_]) -> list[str]:
    notes = []
    if store.channels == 1 and not grey.all():
        notes.append(
            f"{(~grey).sum():,} files are saved in colour although their pictures are grey; all "
            "are used as grey."
        )
    if store.channels == 1 and network.contract.channels == 3:
        notes.append(
            "All pictures are grey and the network takes colour: each grey value is given to "
            "red, green and blue alike, so the copied first layer stays as it was trained."
        )
    return notes
