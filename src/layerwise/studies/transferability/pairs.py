"""Pairs of tasks A and B that features are transferred between (Yosinski et al. 2014, §2).

The features of a network trained on A are general as far as they serve B, so what is measured
depends on how alike A and B are. There are four kinds of pairs:

* "random": random halves of the classes. Each half has some of every sort of class, so that the
  two are alike (the paper's similar split).
* "groups": two groups of classes that the user names, such as man-made and natural (the paper's
  dissimilar split).
* "data sets": the classes of one data set, and those of another.
* "weights": what pretrained weights were trained for, which is not at hand, and the classes of the
  data. There is one direction only.

All pairs of one data set share its decoded pictures and its split into parts.
"""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from layerwise.data.fingerprint import data_key
from layerwise.data.manifest import SPLITS
from layerwise.data.splits.subsample import subsample
from layerwise.errors import DataError, LayerwiseError
from layerwise.models.names import nearest
from layerwise.studies.workspace import Workspace

FEWEST = 4  # classes that can be shared out: a task of one class can not be learnt
INSTEAD = (
    "name a second data set with --other, or pretrained weights with --weights, to transfer from"
)
IN_WORDS = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Side:
    """One of the two tasks of a pair.

    Attributes:
        name: What the task is called; unique in a study.
        labels: Its classes, as the data have them in order; none for pretrained weights.
        space: The key of its workspace. Of pretrained weights: of the one that has them, with the
            images of the pair's other task.
    """

    name: str
    labels: tuple[str, ...]
    space: str


@dataclass(frozen=True)
class Pair:
    """Two tasks that features are transferred between."""

    name: str  # "random 1", "man-made / natural"
    kind: str  # "random", "groups", "data sets" or "weights"
    a: Side
    b: Side

    def directions(self, *, both: bool) -> list[tuple[Side, Side]]:
        """(source, target): A to B, and B to A where both are asked for and B's base can be."""
        back = [(self.b, self.a)] if both and self.kind != "weights" else []
        return [(self.a, self.b), *back]


@dataclass(frozen=True)
class Tasks:
    """The pairs of a study, and the workspaces of their tasks by key."""

    pairs: tuple[Pair, ...]
    spaces: Mapping[str, Workspace]


Half = tuple[str, ...]


def random_halves(
    labels: Sequence[str], count: int, seed: int, *, but: Sequence[str] = ()
) -> list[tuple[Half, Half]]:
    """Random halves of the classes, no two pairs alike; the first ones whatever the count.

    Args:
        labels: At least two; with an odd number the second half has one more.
        count: How many pairs; fewer are returned where there are no more.
        seed: Other seeds, other halves.
        but: One half of a pair that is not to be among them (the user's own groups).

    Returns:
        Pairs of halves, each in the order of the labels.
    """
    small = len(labels) // 2
    half = set(range(small))  # of the numbers of the labels
    there = math.comb(len(labels), small) // (2 if len(labels) % 2 == 0 else 1)
    taken = {frozenset(labels.index(one) for one in but)}
    taken |= {frozenset(range(len(labels))) - one for one in taken}
    there -= len(but) in (small, len(labels) - small)
    generator = np.random.default_rng(seed)
    out: list[tuple[Half, Half]] = []
    while len(out) < min(count, there):
        order = generator.permutation(len(labels)).tolist()
        half = set(order[:small])
        rest = set(order[small:])
        if frozenset(half) in taken:
            continue
        taken |= {frozenset(half), frozenset(rest)}
        a, b = (tuple(labels[i] for i in sorted(one)) for one in (half, rest))
        out.append((a, b))
    return out


def read_groups(path: Path, labels: Sequence[str]) -> dict[str, Half]:
    """Two groups of classes from a TOML file, each class in one of them.

    The file has one table, `[groups]`, with two keys: the name of a group = the list of its
    classes. A class may be written as a number where its name is one.

    Args:
        path: The file.
        labels: The classes of the data.

    Returns:
        By name, in the order of the file; classes in the order of `labels`.

    Raises:
        LayerwiseError: The file can not be read, there are not two groups, or a class is missing,
            repeated or unknown.
    """
    form = 'write a table [groups] with two lines like man-made = ["ship", "truck"]'
    try:
        found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LayerwiseError(f"--groups {path}: can not be read ({error.strerror}); {form}") from (
            error
        )
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LayerwiseError(f"--groups {path}: not readable as TOML ({error}); {form}") from error
    groups = found.get("groups")
    if not isinstance(groups, dict) or set(found) != {"groups"}:
        raise LayerwiseError(f"--groups {path}: holds {_list(found) or 'nothing'}; {form}")
    if len(groups) != 2:
        raise LayerwiseError(
            f"--groups {path}: {len(groups)} groups ({_list(groups)}); a pair of tasks needs "
            f"exactly two: {form}"
        )
    named = {name: _classes(path, name, value) for name, value in groups.items()}
    every = list(chain(*named.values()))
    unknown = [one for one in every if one not in labels]
    if unknown:
        raise LayerwiseError(
            f"--groups {path}: no class {unknown[0]!r} in the data; did you mean "
            f"{' or '.join(nearest(unknown[0], labels))}?"
        )
    repeated = [one for one in every if every.count(one) > 1]
    if repeated:
        raise LayerwiseError(
            f"--groups {path}: class {repeated[0]!r} stands there {every.count(repeated[0])} "
            "times; leave it in one group, once"
        )
    missing = [one for one in labels if one not in every]
    if missing:
        raise LayerwiseError(
            f"--groups {path}: class {missing[0]!r} is in neither group; add it to one, or choose "
            "the classes to be used with --only"
        )
    lonely = [name for name, classes in named.items() if len(classes) < 2]
    if lonely:
        raise LayerwiseError(
            f"--groups {path}: group {lonely[0]!r} has fewer than two classes, so that there is "
            "nothing to tell apart in it; move a class there"
        )
    return {name: tuple(x for x in labels if x in classes) for name, classes in named.items()}


def make_tasks(
    work: Workspace,
    *,
    splits: int,
    groups: Path | None = None,
    other: Workspace | None = None,
) -> Tasks:
    """The pairs that are asked for, similar ones first, and the workspaces of their tasks.

    Args:
        work: DATA, prepared. With weights, these are a source as well ("weights").
        splits: How many random halves of its classes.
        groups: The file that names two groups of them.
        other: A second data set, prepared ("data sets": A is `work`, B this one).

    Raises:
        LayerwiseError: There are no pairs, the classes can not be shared out, a class lacks images
            of a part, or what `read_groups` refuses.
    """
    labels = work.manifest.labels
    plain = _without_weights(work)
    pairs: list[Pair] = []
    spaces: dict[str, Workspace] = {}

    def side(name: str, space: Workspace) -> Side:
        if name in spaces and spaces[name].data_key != space.data_key:
            raise DataError(
                f"two tasks are called {name!r}; give the group or the data set another name"
            )
        _check_classes(space, name)
        spaces[name] = space
        classes = space.manifest.labels
        return Side(name, classes, name)

    if splits or groups is not None:
        _check_divisible(work, "--splits" if groups is None else "--groups")
    named = {} if groups is None else read_groups(groups, labels)
    apart = list(named.values())
    found = random_halves(labels, splits, work.seed, but=apart[0] if apart else ())
    if len(found) < splits:
        work.say(
            f"{len(labels)} classes have no more than {len(found)} different random halves"
            f"{' beside the groups' if apart else ''}, so {len(found)} are studied, not {splits}"
        )
    for number, halves in enumerate(found, 1):
        name = f"random {number}"
        a, b = (
            side(f"{name} {letter}", part_of(plain, half))
            for letter, half in zip("AB", halves, strict=True)
        )
        pairs.append(Pair(name, "random", a, b))
    if named:
        a, b = (side(name, part_of(plain, classes)) for name, classes in named.items())
        pairs.append(Pair(f"{a.name} / {b.name}", "groups", a, b))
    whole = work.manifest.name
    if other is not None:
        name = other.manifest.name
        second = _without_weights(other)
        if second.data_key == plain.data_key:
            raise DataError(
                "--other holds the same images and labels as DATA, so nothing would be "
                "transferred; name another data set"
            )
        a, b = side(whole, plain), side(name if name != whole else f"{name}, --other", second)
        pairs.append(Pair(f"{a.name} / {b.name}", "data sets", a, b))
    if work.weights is not None:
        b = side(whole, plain)
        key = f"{whole}, from {work.weights_name}"
        spaces[key] = work
        pairs.append(
            Pair(f"{work.weights_name} / {whole}", "weights", Side(work.weights_name, (), key), b)
        )
    if not pairs:
        raise LayerwiseError(
            "there is no pair of tasks to transfer between; ask for random halves of the classes "
            f"with --splits 1, for two groups of them with --groups, or {INSTEAD}"
        )
    return Tasks(tuple(pairs), spaces)


def part_of(work: Workspace, labels: Sequence[str]) -> Workspace:
    """The task of telling some of the classes apart: the same split, these images alone.

    Two classes make it binary, as everywhere.
    """
    numbers = [work.manifest.labels.index(one) for one in labels]
    rows = np.flatnonzero(np.isin(work.manifest.targets, numbers))
    manifest = work.manifest.with_labels(tuple(labels))  # takes the same rows
    store = work.store.take(rows)
    return replace(
        work, manifest=manifest, store=store, data_key=data_key(manifest, store), _cuts=[]
    )


def fewer(work: Workspace, fraction: float) -> Workspace:
    """The same task with a fraction of the training images; smaller fractions lie in larger."""
    if fraction == 1:
        return work
    manifest = subsample(
        work.manifest, fraction, contents=work.store.digests, seed=work.seed
    ).replace(notes=work.manifest.notes)
    kept = set(manifest.table["id"])
    rows = np.flatnonzero(work.manifest.table["id"].isin(kept).to_numpy())
    store = work.store.take(rows)
    return replace(
        work, manifest=manifest, store=store, data_key=data_key(manifest, store), _cuts=[]
    )


def _without_weights(work: Workspace) -> Workspace:
    """The same, from random weights; so its runs are those of studies without `--weights`."""
    if work.weights is None:
        return work
    return replace(work, weights=None, weights_name="none", weights_digest="none")


def _check_divisible(work: Workspace, flag: str) -> None:
    """Refuse to share out classes that can not be."""
    manifest = work.manifest
    if manifest.task == "multilabel":
        raise DataError(
            f"{flag}: an image of {manifest.name} may have several labels, so the images can not "
            f"be shared out by class; use --splits 0 and {INSTEAD}"
        )
    if len(manifest.labels) < FEWEST:
        raise DataError(
            f"{flag}: {manifest.name} has {len(manifest.labels)} classes "
            f"({', '.join(manifest.labels)}), and two tasks of two classes need at least {FEWEST}; "
            f"use --splits 0 and {INSTEAD}"
        )


def _check_classes(work: Workspace, name: str) -> None:
    """Refuse a task with a class that has no image in a part: it could not be learnt or scored."""
    manifest = work.manifest
    for part in SPLITS:
        counts = manifest.per_label(work.rows(part))
        for label, count in zip(manifest.labels, counts.tolist(), strict=True):
            if not count:
                raise DataError(
                    f"task {name!r}: class {label!r} has no {IN_WORDS[part]} image; add some, "
                    "split the data anew (`layerwise split`), or choose other classes with --only"
                )


def _classes(path: Path, name: str, value: object) -> list[str]:
    """The classes of a group."""
    plain = isinstance(value, list) and all(type(one) in (str, int) for one in value)
    if not plain:
        raise LayerwiseError(
            f'--groups {path}: {name} is {value!r}; write a list of classes, like ["ship", "truck"]'
        )
    assert isinstance(value, list)
    return [str(one) for one in value]


def _list(names: Mapping[str, object]) -> str:
    return ", ".join(names)
