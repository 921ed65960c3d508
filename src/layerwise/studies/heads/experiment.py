"""Three heads on the activations of one frozen convolutional base (Marcelino 2018, §5 and §6).

The fully connected head and the one on global average pooling are trained, the linear SVM is solved
by cross-validation; each answers on the very same activations, computed once. For the learning
curves by size each is made again from fewer of the training images: smaller sets lie inside larger
ones, and the three learn from the same.

Marcelino joins training and validation part for the SVM, whose folds need no validation part. Here
the SVM learns from the training part alone, like the other two, so that all three can be compared
on the same images that none of them has seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from layerwise.errors import DataError, ModelError, TrainingError
from layerwise.models.cuts import Cut, cut_points
from layerwise.models.heads import HIDDEN
from layerwise.models.solved.grid import PENALTIES
from layerwise.studies.engine import Done, Engine, Planned
from layerwise.studies.frozen import classify, svm_learning
from layerwise.studies.gain.fractions import Parts, percent
from layerwise.studies.profile import probe_transfer
from layerwise.studies.study import Outcome
from layerwise.studies.workspace import Workspace
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

CONNECTED, POOLED, SVM = "fully connected", "global average pooling", "linear SVM"
HEADS = (CONNECTED, POOLED, SVM)
FRACTIONS = (0.1, 0.25, 0.5, 1.0)  # of the training part
PARTS = ("train", "test")  # that every run of all images is asked about beside validation
MOST_FLATTENED = 4096  # training images; an SVM of more learns from pooled activations
MOST_PARAMETERS = 2**27  # of a head: with its gradient and two moments 2 GB a worker


@dataclass(frozen=True)
class Design:
    """What the study compares.

    Attributes:
        cut: Where the frozen base ends.
        fractions: Of the training part, ascending; the last one is 1.
        repeats: Each with its own seed, and its own images of the smaller fractions.
        recipe: How the trained heads learn.
        folds: Of the SVM's cross-validation.
        penalties: Its grid of C.
        flattened: Whether the SVM sees every value of the activation, or its mean over the picture.
    """

    cut: Cut
    fractions: tuple[float, ...]
    repeats: int
    recipe: Recipe
    folds: int
    penalties: tuple[float, ...] = PENALTIES
    flattened: bool = True


@dataclass(frozen=True)
class Compared:
    """What became of the runs.

    Attributes:
        design: What was compared.
        parts: The data of every (fraction, repeat).
        trained: (head, fraction, repeat) → the run of a trained head.
        svms: The SVM of every repeat, of all training images.
        points: Of every repeat the points of its learning curve, one a fraction.
    """

    design: Design
    parts: Parts
    trained: Mapping[tuple[str, float, int], Done]
    svms: tuple[Outcome, ...]
    points: tuple[tuple[Outcome, ...], ...]

    def of(self, head: str, fraction: float = 1.0) -> dict[int, Outcome]:
        """The finished runs of a head and fraction, by repeat; of the SVM with all images alone."""
        if head == SVM:
            return dict(enumerate(self.svms)) if fraction == 1.0 else {}
        found = {r: self.trained[head, fraction, r].outcome for r in range(self.design.repeats)}
        return {repeat: outcome for repeat, outcome in found.items() if outcome is not None}


def whole_base(work: Workspace) -> Cut:
    """The last main cut that still has places: the end of the convolutional base.

    Marcelino's is VGG16 without its fully connected layers: 7 by 7 places of 512 channels.
    """
    cuts = work.cuts()
    return next((cut for cut in reversed(cuts) if cut.rows > 1), cuts[-1])


def cut_named(work: Workspace, name: str) -> Cut:
    """A legal cut by its own name, at the size of these pictures."""
    outline = work.outline()
    every = cut_points(outline.module, (outline.contract.channels, *work.image_size))
    return next(cut for cut in every if cut.name == name)


def check_head(cut: Cut) -> None:
    """Refuse a cut on which the fully connected head would not fit into memory.

    Raises:
        ModelError: Naming its size.
    """
    count = int(np.prod(cut.shape)) * HIDDEN
    if count > MOST_PARAMETERS:
        shape = "×".join(map(str, cut.shape))
        raise ModelError(
            f"--cut {cut.name}: the fully connected head would have {count:,} parameters on its "
            f"{shape} values, and more than {MOST_PARAMETERS:,} do not fit into memory with their "
            "optimiser; take a higher cut (`layerwise models NAME --cuts`), or smaller pictures "
            "with --image-size"
        )


def check_folds_fit(work: Workspace, folds: int) -> None:
    """Refuse more folds than a class has images, before anything is computed.

    Raises:
        DataError: Naming the class, and how many folds would do.
    """
    manifest, train = work.manifest, work.rows("train")
    if manifest.task == "multilabel":
        return  # `frozen.classify` looks at images with and without each label
    groups = manifest.groups()[train]
    targets = manifest.targets[train]
    units = [len(np.unique(groups[targets == k])) for k in range(len(manifest.labels))]
    k = int(np.argmin(units))
    if units[k] >= folds:
        return
    images = int((targets == k).sum())
    what = f"{images} training image{'' if images == 1 else 's'}"
    if units[k] < images:
        what += f" of {units[k]} patient{'' if units[k] == 1 else 's'}"
    works = f"--folds {units[k]} works, or add" if units[k] > 1 else "2 are the least: add"
    raise DataError(
        f"{manifest.name}: class {manifest.labels[k]!r} has {what}, and cross-validation with "
        f"{folds} folds needs {folds}, one in each; {works} images of it"
    )


def transfer_of(head: str, cut: Cut, weights: str) -> Transfer:
    """The base copied and frozen up to the cut, and a trained head on its activations."""
    return replace(
        probe_transfer(cut.name, weights), head="connected" if head == CONNECTED else "pooled"
    )


def task_of(fraction: float, repeat: int) -> str:
    """The key of a workspace."""
    return f"{fraction!r} | {repeat}"


def spaces_of(
    work: Workspace, parts: Parts, keys: Mapping[tuple[float, int], str]
) -> dict[str, Workspace]:
    """The workspace of every (fraction, repeat).

    Args:
        work: The data with all their training images.
        parts: The data of every (fraction, repeat).
        keys: `data_key` of each.
    """
    return {
        task_of(*place): replace(work, manifest=manifest, data_key=keys[place])
        for place, manifest in parts.items()
    }


def places(design: Design) -> list[tuple[str, float, int]]:
    """(head, fraction, repeat) of every trained run; the longest first, so workers end together."""
    return [
        (head, fraction, repeat)
        for head in (CONNECTED, POOLED)
        for fraction in reversed(design.fractions)
        for repeat in range(design.repeats)
    ]


def planned_runs(design: Design, work: Workspace) -> list[Planned]:
    """The runs of both trained heads, in the order of `places`."""
    return [
        Planned(
            task_of(fraction, repeat),
            head,
            transfer_of(head, design.cut, work.weights_name),
            design.recipe,
            work.seed + repeat,
            parts=PARTS,
            name=f"{head}, {percent(fraction)} of the images",
            curves=True,
        )
        for head, fraction, repeat in places(design)
    ]


def solve(
    design: Design, work: Workspace, parts: Parts
) -> tuple[tuple[Outcome, ...], tuple[tuple[Outcome, ...], ...]]:
    """The SVM of every repeat, and the points of its learning curve; finished ones are found.

    Raises:
        DataError: The folds can not be made.
        TrainingError: Activations that are not finite or all equal.
    """
    svms, points = [], []
    for repeat in range(design.repeats):
        mine = replace(work, seed=work.seed + repeat)
        try:
            svm = classify(
                mine,
                design.cut,
                "svm",
                flattened=design.flattened,
                folds=design.folds,
                penalties=design.penalties,
                standardise=False,
                parts=PARTS,
            )
        except TrainingError as error:
            raise TrainingError(f"--cut {design.cut.name}: {error}") from error
        subsets = [parts[fraction, repeat].indices("train") for fraction in design.fractions]
        curve = svm_learning(
            mine, design.cut, svm, subsets, flattened=design.flattened, standardise=False
        )
        svms.append(svm)
        points.append(tuple(curve))
    return tuple(svms), tuple(points)


def run_study(engine: Engine, design: Design, work: Workspace, parts: Parts) -> Compared:
    """Solve the SVMs, whose activations the other heads then find, and train what is not finished.

    Raises:
        LayerwiseError: As `solve` and `Engine.run`.
    """
    svms, points = solve(design, work, parts)
    done = engine.run(planned_runs(design, work))
    return Compared(design, parts, dict(zip(places(design), done, strict=True)), svms, points)
