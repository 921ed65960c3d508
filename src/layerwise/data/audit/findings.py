"""What an audit reports: one row a finding, with a severity and a remedy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["leak", "warning", "note"]
SHOWN = 5  # examples that a finding names


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: "shared patient", "near duplicates", "shortcut", …: docs/data.md lists them all.
        severity: A "leak" makes scores deceive; a "warning" is for the reader to weigh; a "note"
            is good to know.
        message: What it is, with counts and examples.
        remedy: What the user can do about it.
        images: Ids of the images concerned; pairs and groups stand together.
    """

    kind: str
    severity: Severity
    message: str
    remedy: str
    images: tuple[str, ...]


def examples(items: Sequence[str], total: int | None = None) -> str:
    """The first five, "a, b, c", with "…" where there are more (`total`, or all of them)."""
    more = ", …" if (len(items) if total is None else total) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more


def number(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun: "1 image", "2,000 images", "3 studies"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
