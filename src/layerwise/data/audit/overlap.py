"""What stands in two parts of a split: contents, patients, studies, days. Whole columns at once."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from layerwise.data.audit.findings import SHOWN, Finding, Severity, examples, number
from layerwise.data.manifest import SPLITS, Manifest
from layerwise.data.splits.dates import NUMBER, RELATIVE, parse_dates
from layerwise.errors import DataError

PAIRS = (("train", "val"), ("train", "test"), ("val", "test"))
ALMOST = 0.05  # of the images on the wrong side: a split meant to be by date
_UID = re.compile(r"\d+(\.\d+){3,}")  # of DICOM: unique in the world, whoever the patient is

_REMEDIES = {
    "content": "remove one of each pair, or make another split with layerwise split",
    "patient": "make another split with layerwise split --by patient",
    "study": "make another split with layerwise split --by patient",
}


def shared_contents(manifest: Manifest, digests: NDArray[np.uint8]) -> list[Finding]:
    """Equal files: across parts (a leak), within one (a note), and labelled differently.

    Args:
        manifest: The data, with their splits as they will be used.
        digests: (N, 32) uint8 content digests, `ImageStore.digests`.
    """
    if not len(manifest):
        return []
    codes = content_codes(digests)
    split = _split_codes(manifest)
    ids = manifest.table["id"].to_numpy(dtype=object)
    found = []
    for parts in PAIRS:
        groups = _in_both(codes, split, parts)
        if not groups:
            continue
        pairs = [f"{ids[a[0]]} = {ids[b[0]]}" for a, b in groups[:SHOWN]]
        is_are = "is" if len(groups) == 1 else "are"
        message = (
            f"{number(len(groups), 'image')} {is_are} in both {parts[0]} and {parts[1]} "
            f"({examples(pairs, len(groups))})"
        )
        found.append(_leak("content", message, groups, ids))
    return found + _repeated(codes, split, ids) + _contradictions(manifest, codes, ids)


def shared_people(manifest: Manifest) -> list[Finding]:
    """Patients and studies that stand in two parts: leaks."""
    ids = manifest.table["id"].to_numpy(dtype=object)
    split = _split_codes(manifest)
    patient = manifest.table["patient"]
    study = manifest.table["study"]
    # "study1" is a name within a patient; a DICOM UID is one study, whatever the patient is called.
    local = ~study.str.fullmatch(_UID.pattern) & (study != "") & (patient != "")
    keys = {"patient": patient, "study": study.mask(local, patient + "/" + study)}
    found = []
    for kind, many in (("patient", "patients"), ("study", "studies")):
        codes, names = pd.factorize(keys[kind])
        codes = np.where((manifest.table[kind] == "").to_numpy(), -1, codes)
        for parts in PAIRS:
            groups = _in_both(codes, split, parts)
            if groups:
                shown = [str(names[codes[a[0]]]) for a, _ in groups[:SHOWN]]
                message = (
                    f"{number(len(groups), kind, many)} {'is' if len(groups) == 1 else 'are'} in "
                    f"both {parts[0]} and {parts[1]} ({examples(shown, len(groups))})"
                )
                found.append(_leak(kind, message, groups, ids))
    return found


def shared_dates(manifest: Manifest) -> list[Finding]:
    """Whether the test part lies after the others, as in a split by date, or among them.

    Only calendar days and years can be compared: days counted from each patient's first are not.
    """
    texts, names = pd.factorize(manifest.table["date"])
    try:
        dates = parse_dates([str(name) for name in names])
    except DataError:  # none, or of several kinds: nothing to compare
        return []
    days, known = dates.days[texts], dates.known[texts]
    if dates.kind == RELATIVE or (dates.kind == NUMBER and not _years(days[known])):
        return []
    split = _split_codes(manifest)
    test, rest = known & (split == 2), known & ((split == 0) | (split == 1))
    if not test.any() or not rest.any() or days[rest].max() < days[test].min():
        return []
    within = test & (days <= days[rest].max())
    later = rest & (days >= days[test].min())
    by_date = within.sum() <= ALMOST * test.sum() or later.sum() <= ALMOST * rest.sum()
    spans = [
        f"{dates.text(int(days[which].min()))} to {dates.text(int(days[which].max()))}"
        for which in (rest, test)
    ]
    message = (
        f"train and val are dated {spans[0]}, test {spans[1]}: "
        f"{number(int(within.sum()), 'test image')} not after them, and "
        f"{number(np.intersect1d(days[rest], days[test]).size, 'date')} in both"
    )
    if by_date:
        message += ", although the split seems to be by date"
    remedy = (
        "scores tell how well images of the same period are told apart, not later ones; for that, "
        "layerwise split --by date"
    )
    ids = manifest.table["id"].to_numpy(dtype=object)
    severity: Severity = "warning" if by_date else "note"
    return [Finding("shared dates", severity, message, remedy, tuple(ids[within]))]


def _years(days: NDArray[np.int64]) -> bool:
    """Whether numbers are years, or calendar days, and no count from somewhere."""
    return bool(((days >= 1900) & (days <= 2100)).all())


def content_codes(digests: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(N,) int64: equal numbers for equal digests (N, 32)."""
    whole = np.ascontiguousarray(digests).view(np.dtype((np.void, digests.shape[1])))[:, 0]
    return np.unique(whole, return_inverse=True)[1].astype(np.int64)


def _split_codes(manifest: Manifest) -> NDArray[np.int64]:
    """(N,) the number of the part in `SPLITS`, −1 for none."""
    return np.asarray(pd.Index(SPLITS).get_indexer(pd.Index(manifest.table["split"])), np.int64)


Groups = list[tuple[NDArray[np.int64], NDArray[np.int64]]]


def _in_both(codes: NDArray[np.int64], split: NDArray[np.int64], parts: tuple[str, str]) -> Groups:
    """Rows of each key (−1 is none) in one part and in the other, for keys that are in both."""
    first, second = SPLITS.index(parts[0]), SPLITS.index(parts[1])
    a = np.flatnonzero((split == first) & (codes >= 0))
    b = np.flatnonzero((split == second) & (codes >= 0))
    both = np.intersect1d(codes[a], codes[b])
    a, b = a[np.isin(codes[a], both)], b[np.isin(codes[b], both)]
    pairs = zip(_by_code(codes, a), _by_code(codes, b), strict=True)
    return sorted(pairs, key=lambda pair: int(min(pair[0][0], pair[1][0])))


def _by_code(codes: NDArray[np.int64], rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """These rows, cut into runs of equal code, in order of the codes."""
    if not len(rows):
        return iter(())
    order = rows[np.argsort(codes[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(codes[order])) + 1
    return iter(np.split(order, starts))


def _leak(kind: str, message: str, groups: Groups, ids: NDArray[Any]) -> Finding:
    images = tuple(ids[np.concatenate([side for pair in groups for side in pair])])
    return Finding(f"shared {kind}", "leak", message, _REMEDIES[kind], images)


def _repeated(
    codes: NDArray[np.int64], split: NDArray[np.int64], ids: NDArray[Any]
) -> list[Finding]:
    """Contents that occur several times within one part."""
    found = []
    for part in (*range(len(SPLITS)), -1):
        rows = np.flatnonzero(split == part)
        times = np.bincount(codes[rows], minlength=len(codes))
        rows = rows[times[codes[rows]] > 1]
        groups = sorted(_by_code(codes, rows), key=lambda group: int(group[0]))
        if not groups:
            continue
        extra = len(rows) - len(groups)
        shown = [" = ".join(ids[group[:3]]) for group in groups[:SHOWN]]
        where = SPLITS[part] if part >= 0 else "the data"
        message = (
            f"{number(extra, 'image')} of {where} {'is a copy' if extra == 1 else 'are copies'} of "
            f"another there ({examples(shown, len(groups))})"
        )
        remedy = "nothing must be done; to count each picture once, remove the copies"
        images = tuple(ids[np.concatenate(groups)])
        found.append(Finding("repeated content", "note", message, remedy, images))
    return found


def _contradictions(
    manifest: Manifest, codes: NDArray[np.int64], ids: NDArray[Any]
) -> list[Finding]:
    """Images of equal content that are labelled differently; unknown agrees with everything."""
    known = manifest.targets.reshape(len(codes), -1).astype(np.float64)
    table = pd.DataFrame(known).groupby(codes)
    differ = (table.max() != table.min()) & table.max().notna()
    rows = np.flatnonzero(differ.any(axis=1).to_numpy()[codes])
    groups = sorted(_by_code(codes, rows), key=lambda group: int(group[0]))
    if not groups:
        return []
    shown = [" = ".join(ids[group[:3]]) for group in groups[:SHOWN]]
    occur = "occurs" if len(groups) == 1 else "occur"
    message = (
        f"{number(len(groups), 'image')} {occur} with different labels "
        f"({examples(shown, len(groups))})"
    )
    remedy = "look at them, correct the labels, or remove the images"
    images = tuple(ids[np.concatenate(groups)])
    severity: Severity = "warning"
    return [Finding("contradicting labels", severity, message, remedy, images)]


def differing(targets: NDArray[Any]) -> bool:
    """Whether any two rows of targets (n,) or (n, K) disagree; unknown agrees with everything."""
    known = targets.reshape(len(targets), -1).astype(np.float64)
    seen = [column[~np.isnan(column)] for column in known.T]
    return any(len(values) > 1 and bool((values != values[0]).any()) for values in seen)
