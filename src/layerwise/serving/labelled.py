"""A bundle on labelled data: which images, with which labels, and what it says of them. No torch.

The pictures come from the same image store as in training, so a bundle is measured on the pixels
that it was made for, and what a fit has decoded is not decoded again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from layerwise.data.audit.overlap import shared_contents, shared_people
from layerwise.data.fingerprint import data_key
from layerwise.data.load import DataOptions, load
from layerwise.data.manifest import Manifest
from layerwise.data.storage.store import ImageStore, build_store
from layerwise.errors import DataError
from layerwise.evaluation.predictions import Predictions
from layerwise.serving.bundle import Bundle
from layerwise.serving.card import BundleInfo

Part = Literal["test", "validation", "train", "all"]
PARTS: Mapping[str, str] = {"test": "test", "validation": "val", "train": "train"}
BATCH = 32

Say = Callable[[str], None]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Labelled:
    """Labelled images for a bundle.

    Attributes:
        manifest: All of DATA, its labels in the bundle's order.
        store: Their pictures, as the bundle takes them.
        rows: int64 (n,), those that it is measured on.
        part: Which these are.
        fingerprint: Of DATA, as in `results.json` of a fit.
        fitted: Whether the bundle was fitted on DATA, its parts being those of the fit.
        notes: What was found or decided.
        warnings: Why the scores may deceive.
    """

    manifest: Manifest
    store: ImageStore
    rows: NDArray[np.int64]
    part: Part
    fingerprint: str
    fitted: bool
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many of the images that are measured have each label."""
        each = self.manifest.per_label(self.rows)
        return dict(zip(self.manifest.labels, each.tolist(), strict=True))

    @property
    def columns(self) -> dict[str, list[str]]:
        """The columns of --subgroup, of the images that are measured."""
        extra = self.manifest.extra
        if extra is None:
            return {}
        return {str(name): extra[name].iloc[self.rows].tolist() for name in extra.columns}


def labelled(
    info: BundleInfo,
    data: str | Path,
    options: DataOptions,
    *,
    part: Part = "test",
    rename: Mapping[str, str] | None = None,
    cache: Path,
    say: Say,
    progress: Progress | None = None,
) -> Labelled:
    """Read DATA for a bundle.

    Where DATA has not all of its parts, they are made as the bundle's fit made them, and used if
    the fingerprint then is that of the fit. Where that is not so and DATA has no parts, all images
    are taken.

    Args:
        info: Of the bundle.
        data: What the user calls DATA.
        options: How it is read.
        part: Which images the bundle is measured on.
        rename: Labels of DATA that the bundle calls otherwise.
        cache: Where image stores are kept.
        say: Told what is done.
        progress: Called with (done, total) while pictures are decoded.

    Raises:
        DataError: DATA can not be read, has other labels, or has not that part.
    """
    manifest = matched(load(data, replace(options, rare=True)), info, rename or {})
    store, manifest = store_for(info, manifest, options, cache, progress)
    key, parts = data_key(manifest, store), set(manifest.table["split"]) - {""}
    ours = info.provenance.get("data_fingerprint")
    fitted = key == ours
    needed = part == "all" or part == "train" or PARTS[part] not in parts
    notes: list[str] = []
    if not fitted and needed and ours is not None:
        say("looking whether these are the data of the bundle's fit")
        whole = _as_in_the_fit(manifest, store, info)
        if whole is not None and data_key(whole, store) == ours:
            notes.append(
                "These are the data that the bundle was fitted on; its fit's own parts are used "
                f"(seed {info.provenance.get('seed')})."
            )
            manifest, key, fitted = whole.replace(notes=manifest.notes), ours, True
    rows, taken, warnings = _rows(manifest, part)
    if fitted and taken in ("train", "all"):
        warnings.append(
            "The bundle learnt from these images: its scores on them say nothing about new ones. "
            "Measure it with --part test, or on other data."
        )
    if fitted and taken == "validation":
        warnings.append(
            "The bundle was chosen on these images, so its scores here are a little too good."
        )
    if taken in ("test", "validation"):
        warnings += _leaks(manifest, store, rows)
    said = (*manifest.notes, *notes)
    return Labelled(manifest, store, rows, taken, key, fitted, said, tuple(warnings))


def for_bundle(
    images: Labelled,
    info: BundleInfo,
    options: DataOptions,
    cache: Path,
    progress: Progress | None = None,
) -> Labelled:
    """The same images for another bundle with the same labels, which may take another size."""
    store, manifest = store_for(info, images.manifest, options, cache, progress)
    if len(manifest) != len(images.manifest):  # unreadable for one bundle and not for the other
        raise DataError(
            f"{manifest.name}: images can not be read any more; check the files and run the "
            "command again"
        )
    return replace(images, store=store)


def store_for(
    info: BundleInfo,
    manifest: Manifest,
    options: DataOptions,
    cache: Path,
    progress: Progress | None = None,
) -> tuple[ImageStore, Manifest]:
    """The pictures as a bundle takes them, decoded once and kept."""
    how = info.preprocessing
    return build_store(
        manifest,
        size=how.size,
        channels=how.channels,
        letterbox=how.letterbox,
        folder=cache,
        skip_unreadable=options.skip_unreadable,
        progress=progress,
    )


def predictions(bundle: Bundle, images: Labelled, progress: Progress | None = None) -> Predictions:
    """What a bundle says of the images that it is measured on."""
    scores = [np.empty((0, bundle.info.outputs), np.float32)]
    for start in range(0, len(images.rows), BATCH):
        rows = images.rows[start : start + BATCH]
        scores.append(bundle.run(images.store.read(rows)))
        if progress is not None:
            progress(start + len(rows), len(images.rows))
    manifest = images.manifest
    return Predictions(
        ids=np.asarray(manifest.table["id"].iloc[images.rows].tolist(), dtype=np.str_),
        targets=manifest.targets[images.rows],
        scores=np.concatenate(scores),
        groups=manifest.groups()[images.rows],
    )


def matched(manifest: Manifest, info: BundleInfo, rename: Mapping[str, str]) -> Manifest:
    """DATA with the bundle's labels, in its order.

    A label of the bundle that DATA does not have is left without images (of several labels an
    image: unknown), and said; a label of DATA that the bundle does not have is refused.

    Raises:
        DataError: The labels differ; both lists are shown, side by side where spelling differs.
    """
    for name in rename:
        if name not in manifest.labels:
            raise DataError(
                f"--rename {name}={rename[name]}: {manifest.name} has no label {name!r}; it has "
                f"{', '.join(manifest.labels)}"
            )
    called = [rename.get(label, label) for label in manifest.labels]
    several = info.task == "multilabel"
    fits = (manifest.task == "multilabel") == several and set(called) <= set(info.labels)
    if several and len(set(called)) < len(called):
        raise DataError("--rename: two labels of an image can not become one; rename one of them")
    if not fits or (info.task == "binary" and set(called) != set(info.labels)):
        raise DataError(_difference(manifest, called, info))
    numbers = np.array(
        [info.labels.index(name) for name in called], np.int64
    )  # ours → the bundle's
    if several:
        targets = np.full((len(manifest), len(info.labels)), np.nan, np.float32)
        targets[:, numbers] = manifest.targets
    else:
        targets = numbers[manifest.targets]
    out = replace(manifest, task=info.task, labels=tuple(info.labels), targets=targets)
    absent = [label for label in info.labels if label not in called]
    if absent:
        out = out.replace(
            note=f"DATA has no label {', '.join(absent)}: the bundle's scores for it are not known"
        )
    if called != list(manifest.labels):
        pairs = [f"{a} as {b}" for a, b in rename.items()]
        out = out.replace(note=f"labels of DATA are read as the bundle's: {', '.join(pairs)}")
    return out


def parse_rename(words: Sequence[str]) -> dict[str, str]:
    """OLD=NEW words as a dictionary."""
    found = {}
    for word in words:
        old, equals, new = word.partition("=")
        if not (old and equals and new):
            raise DataError(f"--rename {word!r} is not OLD=NEW; write normal=NORMAL")
        found[old] = new
    return found


def _difference(manifest: Manifest, called: list[str], info: BundleInfo) -> str:
    """Both lists of labels, and what looks like the same label."""
    plain = {_plain(label): label for label in info.labels}
    alike = [
        f"{label}={plain[_plain(label)]}"
        for label in called
        if label not in info.labels and _plain(label) in plain
    ]
    kinds = {"binary": "two classes", "multiclass": "classes", "multilabel": "labels, several each"}
    text = (
        f"the labels differ. The bundle knows {kinds[info.task]}: {', '.join(info.labels)}; "
        f"{manifest.name} has {kinds[manifest.task]}: {', '.join(manifest.labels)}. "
    )
    if alike:
        again = " ".join(f"--rename '{pair}'" for pair in alike)
        return f"{text}If only the spelling differs, say so with {again}"
    return (
        f"{text}Say which is which with --rename OLD=NEW, choose labels with --only or "
        "--label-column, or take the data that this bundle is for"
    )


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _as_in_the_fit(manifest: Manifest, store: ImageStore, info: BundleInfo) -> Manifest | None:
    """DATA split as a fit with the bundle's seed does; None where that can not be."""
    from layerwise.data.audit.duplicates import joined, near_duplicates  # needs scipy
    from layerwise.data.splits.assign import assign

    seed: Any = info.provenance.get("seed", 0)
    if type(seed) is not int or seed < 0:
        return None
    pairs = near_duplicates(store, seed)
    try:
        return assign(manifest, contents=joined(store.digests, pairs), seed=seed)
    except DataError:
        return None


def _leaks(manifest: Manifest, store: ImageStore, rows: NDArray[np.int64]) -> list[str]:
    """What stands both in the training part and in the images that are measured."""
    both = np.sort(np.concatenate([manifest.indices("train"), rows]))
    part = manifest.take(both)
    found = [*shared_contents(part, store.digests[both]), *shared_people(part)]
    return [
        f"{finding.message}: a bundle that learnt from this training part scores too well here; "
        f"{finding.remedy}."
        for finding in found
        if finding.severity == "leak"
    ]


def _rows(manifest: Manifest, part: Part) -> tuple[NDArray[np.int64], Part, list[str]]:
    """The images of a part, which part that is, and warnings."""
    splits = manifest.table["split"]
    if part == "all":
        return np.arange(len(manifest)), "all", []
    rows = manifest.indices(PARTS[part])
    if len(rows):
        return rows, part, []
    if not (splits == "").all():
        has = [f"{name} ({(splits == own).sum()} images)" for name, own in PARTS.items()]
        has = [text for text in has if "(0 " not in text]
        raise DataError(
            f"{manifest.name} has no {part} part; it has {', '.join(has)}. Name another one with "
            "--part, or take everything with --part all"
        )
    return (
        np.arange(len(manifest)),
        "all",
        [
            f"DATA has no parts: all {len(manifest):,} images are taken. If the bundle learnt from "
            "some of them, its scores are too good."
        ],
    )
