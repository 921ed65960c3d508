"""What is wrong with the data: findings, each with a severity and a remedy; leaks stop `fit`."""

from collections.abc import Mapping, Sequence

from layerwise.data.audit.duplicates import Pairs, near_duplicate_findings, near_duplicates
from layerwise.data.audit.findings import Finding, examples, number
from layerwise.data.audit.imbalance import class_counts
from layerwise.data.audit.overlap import shared_contents, shared_dates, shared_people
from layerwise.data.audit.quality import look, quality
from layerwise.data.audit.shortcut import SMALLEST, shortcuts
from layerwise.data.manifest import Manifest
from layerwise.data.storage.headers import Headers
from layerwise.data.storage.store import ImageStore
from layerwise.errors import LeakError

__all__ = ["Finding", "audit", "check"]


def audit(
    manifest: Manifest,
    store: ImageStore | None = None,
    headers: Headers | None = None,
    *,
    damaged: Mapping[str, str] | None = None,
    pairs: Pairs | None = None,
    seed: int = 0,
) -> list[Finding]:
    """Everything that is wrong or odd with the data, as far as it can be told from what is given.

    Args:
        manifest: The data, with their splits as they will be used. Alone it is enough for
            patients, studies, dates and counts; 1,000,000 rows take seconds.
        store: Their pictures, row by row, for duplicates and odd pictures; None if not decoded.
        headers: What `read_headers` returned for the same rows; None if not read.
        damaged: Ids of pictures that were left out as unreadable, and why; for the message only.
        pairs: What `near_duplicates` found in the store; None: they are searched here.
        seed: Of what is drawn at random (folds and resamples of the shortcut probe).

    Returns:
        Leaks first, then warnings, then notes; within these in a fixed order of kinds.
    """
    found = _unreadable(manifest, headers, damaged or {})
    found += shared_people(manifest) + shared_dates(manifest) + class_counts(manifest)
    looks, side = None, 0
    if store is not None and len(store):
        found += shared_contents(manifest, store.digests)
        pairs = near_duplicates(store, seed) if pairs is None else pairs
        found += near_duplicate_findings(manifest, pairs)
        looks, side = look(store, seed), min(store.size)
    found += quality(manifest, looks, headers, side)
    borders = looks if side >= SMALLEST and store is not None and not store.letterbox else None
    found += shortcuts(manifest, headers, borders, seed)
    order = ("leak", "warning", "note")
    return sorted(found, key=lambda finding: order.index(finding.severity))


def check(
    manifest: Manifest, findings: Sequence[Finding], *, allow_leaks: bool = False
) -> tuple[str, ...]:
    """Refuse data that leak from one split into another.

    Args:
        manifest: The data, for their name.
        findings: What `audit` found in them.
        allow_leaks: Go on all the same.

    Returns:
        What was found, as notes for the report.

    Raises:
        LeakError: A finding is a leak, and that was not allowed.
    """
    refused = [finding for finding in findings if finding.severity == "leak"]
    if refused and not allow_leaks:
        remedies = dict.fromkeys(finding.remedy for finding in refused)
        raise LeakError(
            f"{manifest.name}: scores on these data would deceive:\n  "
            + "\n  ".join(finding.message for finding in refused)
            + f"\n{'; '.join(remedies)}; or go on all the same with --allow-leaks (the report "
            "will say so)"
        )
    said = {"leak": "leak, allowed by --allow-leaks: ", "warning": "warning: ", "note": ""}
    return tuple(
        said[f.severity] + f.message + (f"; {f.remedy}" if f.severity == "warning" else "")
        for f in findings
    )


def _unreadable(
    manifest: Manifest, headers: Headers | None, damaged: Mapping[str, str]
) -> list[Finding]:
    """Pictures that were left out, and those whose header can not be read."""
    why = dict(damaged)
    if headers is not None:
        bad = (headers.sizes[:, 0] == 0).nonzero()[0]
        names, paths = manifest.table["id"], manifest.table["path"]
        for row in bad.tolist():
            why.setdefault(names.iloc[row], f"{paths.iloc[row]}: missing, damaged, or no picture")
    if not why:
        return []
    message = f"{number(len(why), 'image')} can not be read ({examples(list(why.values()))})"
    remedy = "replace or remove the files, or leave them out with --skip-unreadable"
    return [Finding("unreadable", "warning", message, remedy, tuple(why))]
