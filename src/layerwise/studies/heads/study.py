"""A heads study from what is asked for to its runs: images, cut, sizes, recipe, plan."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from layerwise.config import to_mapping
from layerwise.data.fingerprint import data_key
from layerwise.data.load import DataOptions, load
from layerwise.data.manifest import Manifest
from layerwise.data.splits.contents import read_contents
from layerwise.data.splits.per_class import Counts, per_class
from layerwise.errors import LayerwiseError, ModelError
from layerwise.models.cuts import Cut
from layerwise.models.solved.grid import PENALTIES
from layerwise.studies.automatic import first_plan
from layerwise.studies.board import Board
from layerwise.studies.engine import Engine
from layerwise.studies.frozen import FOLDS
from layerwise.studies.gain.experiment import check_fractions
from layerwise.studies.gain.fractions import Parts, few_images, smallest, training_parts
from layerwise.studies.heads.experiment import (
    CONNECTED,
    FRACTIONS,
    MOST_FLATTENED,
    POOLED,
    Compared,
    Design,
    check_folds_fit,
    check_head,
    cut_named,
    places,
    run_study,
    spaces_of,
    whole_base,
)
from layerwise.studies.heads.plan import HeadsPlan, keep_plan, read_heads_plan
from layerwise.studies.prepare import Prepared, Request, prepare
from layerwise.studies.workspace import Say, Track, Workspace
from layerwise.training.recipe import Recipe
from layerwise.training.resolve import keepable

STEPS = 200  # of training that the default number of epochs is for, within these bounds
FEWEST_EPOCHS, MOST_EPOCHS = 10, 40
BATCH = 32  # Marcelino 2018, Code 2
IMAGENET = re.compile(r"imagenet|in1k|in22k", re.IGNORECASE)

RecipeOf = Callable[[Recipe], Recipe]  # defaults → what the flags make of them


@dataclass(frozen=True)
class Asked:
    """What the flags ask for, beside what `Request` holds."""

    cut: str | None = None  # None: the whole base
    per_class: Counts | None = None  # images a class for train, val and test; None: all
    fractions: tuple[float, ...] | None = None  # of the training part; None: those that can be
    repeats: int = 1
    folds: int = FOLDS
    penalties: tuple[float, ...] = PENALTIES  # the grid of C


@dataclass(frozen=True)
class HeadsStudy:
    """What is going to be compared, with everything that it needs.

    Attributes:
        prepared: The images, split.
        design: Cut, sizes, recipe.
        parts: The data of every (fraction, repeat).
        spaces: The workspace of every (fraction, repeat).
        workers: Processes.
        notes: What was guessed, decided or left out.
        imagenet: Whether the base has learnt from ImageNet, by what its weights are called.
    """

    prepared: Prepared
    design: Design
    parts: Parts
    spaces: dict[str, Workspace]
    workers: int
    notes: tuple[str, ...]
    imagenet: bool

    @property
    def work(self) -> Workspace:
        """The data with all their training images."""
        return self.prepared.work

    def run(self, board: Board) -> Compared:
        """Solve and train everything that is not finished."""
        engine = Engine(self.spaces, workers=self.workers, board=board)
        each = self.design.repeats * len(self.design.fractions)
        values = float(np.prod(self.design.cut.shape)) / self.design.cut.channels
        board.expect({CONNECTED: each, POOLED: each}, {CONNECTED: 256 * values, POOLED: 1.0})
        cut = self.design.cut
        self.work.say(
            f"one pass for the activations at {cut.name}, {'×'.join(map(str, cut.shape))} values; "
            f"then the linear SVM with {self.design.folds} folds, and {len(places(self.design))} "
            "runs of the two trained heads"
        )
        return run_study(engine, self.design, self.work, self.parts)


def prepare_heads(
    request: Request,
    asked: Asked,
    recipe_of: RecipeOf,
    say: Say,
    track: Track,
    workers: int,
) -> HeadsStudy:
    """Read, check and decide everything, and keep the plan; nothing is trained.

    Args:
        request: What is asked for; pictures are not augmented.
        asked: What is asked for beside.
        recipe_of: What the flags make of the study's defaults.
        say: Told what is being done.
        track: Makes progress callbacks.
        workers: Processes.

    Raises:
        LayerwiseError: Whatever is wrong with flags, network, weights, data or folder.
    """
    path = request.out / "plan.json"
    before = read_heads_plan(path)
    if before is not None:  # its number of threads is a part of every run's key
        request = replace(request, threads=before.threads * workers)
    fractions = None if asked.fractions is None else check_fractions((*asked.fractions, 1.0))
    for penalty in asked.penalties:
        if not 0 < penalty < float("inf"):
            raise LayerwiseError(f"--C {penalty:g}: C is above 0; Marcelino tries 0.01 to 100")
    identity = _identity(request, asked, fractions)
    used, drawn = request, list[str]()
    if asked.per_class is not None:
        used, drawn = _smaller(request, asked.per_class, track)
    used = replace(used, augment="none", shared=True)
    prepared = prepare(used, say, track, lambda network, *_: network.contract.height)
    work = prepared.work
    check_folds_fit(work, asked.folds)
    cut = _cut(work, asked.cut)
    check_head(cut)
    if fractions is None:
        fractions = _possible(work, asked.repeats)
    parts = training_parts(
        work.manifest, fractions, asked.repeats, contents=work.store.digests, seed=work.seed
    )
    keys = {place: data_key(manifest, work.store) for place, manifest in parts.items()}
    recipe = recipe_of(_recipe(work, request))
    flattened = len(work.rows("train")) <= MOST_FLATTENED
    design = Design(
        cut, fractions, asked.repeats, recipe, asked.folds, tuple(asked.penalties), flattened
    )
    keep_plan(
        HeadsPlan(
            request=identity,
            image_size=work.image_size[0],
            threads=max(1, work.threads // workers),
            data_key=work.data_key,
            weights=work.weights_digest,
            cut=cut.name,
            recipe=to_mapping(recipe),
            setup=to_mapping(first_plan(replace(used, image_size=work.image_size[0]), prepared)),
        ),
        path,
    )
    notes = [
        *drawn,
        *prepared.notes,
        *_notes(work, design, asked.fractions is None),
        *few_images(parts),
    ]
    imagenet = work.weights is not None and bool(
        request.weights == "pretrained" or IMAGENET.search(Path(request.weights).name)
    )
    spaces = spaces_of(work, parts, keys)
    return HeadsStudy(
        prepared, design, parts, spaces, workers, tuple(dict.fromkeys(notes)), imagenet
    )


def _smaller(request: Request, counts: Counts, track: Track) -> tuple[Request, list[str]]:
    """The request with so many images a class as its DATA, kept as a manifest; and what was done.

    The other images are never decoded.
    """
    manifest: Manifest = load(request.data, request.options)
    skip = request.skip_unreadable
    contents, manifest = read_contents(
        manifest, skip_unreadable=skip, progress=track("reading files")
    )
    made = per_class(manifest, counts, contents=contents, seed=request.seed)
    # A manifest read back is called what its file is.
    name = re.sub(r"[^\w.-]+", "-", manifest.name).strip("-.") or "images"
    path = request.out / "data" / f"{name}.csv"
    made.write(path)
    options = DataOptions(skip_unreadable=skip)
    return replace(request, data=str(path), options=options), list(made.notes)


def _cut(work: Workspace, asked: str | None) -> Cut:
    """The cut that is asked for, or the end of the whole base.

    Raises:
        ModelError: It is no legal cut.
    """
    if asked is None:
        return whole_base(work)
    if asked in ("all", "none"):
        raise ModelError(
            f"--cut {asked}: name a cut (`layerwise models {work.model} --cuts`), or leave --cut "
            "out for the whole convolutional base"
        )
    try:
        return cut_named(work, keepable(work.outline(), asked))
    except ModelError as error:
        raise ModelError(f"--cut {asked}: {error}") from error


def _possible(work: Workspace, repeats: int) -> tuple[float, ...]:
    """Those of the usual fractions that leave images of every class."""
    pool = work.rows("train")
    train = work.manifest.take(pool)
    least = smallest(train, repeats, contents=work.store.digests[pool], seed=work.seed)
    return tuple(f for f in FRACTIONS if f >= least)


def _recipe(work: Workspace, request: Request) -> Recipe:
    """Adam at a constant rate, as Marcelino 2018, Codes 3 and 4; the epochs by the images."""
    images = len(work.rows("train"))
    batch = BATCH if images >= 2 * BATCH else max(1, min(BATCH, images // 4))
    epochs = -(-STEPS // max(1, images // batch))
    return Recipe(
        epochs=min(MOST_EPOCHS, max(FEWEST_EPOCHS, epochs)),
        batch=batch,
        schedule="constant",
        warmup=0.0,
        weight_decay=0.0,
        copied_lr=1.0,
        layer_decay=1.0,
        balance=request.balance,
        augment="none",
    )


def _notes(work: Workspace, design: Design, chosen: bool) -> list[str]:
    """What was decided that a reader has to know; `chosen`: the fractions are not the user's."""
    out = []
    if not design.flattened:
        out.append(
            f"The SVM learns from activations pooled over the picture: {len(work.rows('train')):,} "
            f"training images are more than {MOST_FLATTENED:,}, and for every value of the "
            "activation it would take hours."
        )
    left = [f for f in FRACTIONS if f not in design.fractions] if chosen else []
    if left:
        shown = ", ".join(f"{f:g}" for f in left)
        out.append(
            f"The learning curves leave {shown} of the training images out: too few of some class."
        )
    if work.weights is None:
        out.append(
            "No weights were given, so the frozen base is one of random filters: what the heads "
            "reach on it is a floor for pretrained weights."
        )
    return out


def _identity(request: Request, asked: Asked, fractions: Sequence[float] | None) -> dict[str, Any]:
    """All flags that decide the result, JSON-able."""
    out = request.identity()
    for name in ("time", "keep", "augment", "vertical_flip"):
        del out[name]
    own = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(asked).items()}
    return {**out, **own, "fractions": None if fractions is None else list(fractions)}


def refuse_augmentation(training: dict[str, Any]) -> None:
    """Refuse an augmentation of `[training]`: the heads share activations of pictures as they are.

    Raises:
        LayerwiseError: One is asked for.
    """
    for name in ("augment", "vertical_flip"):
        if training.get(name) not in (None, False, "none"):
            raise LayerwiseError(
                f"[training] {name} = {training[name]!r}: the three heads learn from the same "
                "activations, computed once from the pictures as they are; leave it out"
            )
