"""What was fetched, written down: DOWNLOAD.json and SHA256SUMS beside the data, checked later.

SHA256SUMS has the form of `sha256sum`, so `sha256sum -c SHA256SUMS` checks it without Layerwise.
"""

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from layerwise.config import read_json, write_json
from layerwise.errors import DataError

RECORD, SUMS = "DOWNLOAD.json", "SHA256SUMS"
Progress = Callable[[int, int], None]


def digest(path: Path, algorithm: str = "sha256") -> str:
    """A file's digest, in hexadecimal."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, algorithm).hexdigest()


def files_of(folder: Path) -> list[str]:
    """Every file below a folder but the record itself: sorted paths, relative, with slashes."""
    found = [
        Path(where, name).relative_to(folder).as_posix()
        for where, _, names in os.walk(folder)
        for name in names
    ]
    return sorted(name for name in found if name not in (RECORD, SUMS))


def write(folder: Path, names: Iterable[str], about: dict[str, Any], progress: Progress) -> None:
    """Write down files of a folder, beside those written down before.

    Args:
        folder: Where the files are.
        names: Their paths below it, with slashes.
        about: What else DOWNLOAD.json says: name, page, licence …
        progress: Called with (files done, files).
    """
    sums = _sums(folder) if (folder / RECORD).exists() else {}
    names = list(names)
    for number, name in enumerate(names, 1):
        sums[name] = digest(folder / name)
        progress(number, len(names))
    text = "".join(_line(sums[name], name) for name in sorted(sums))
    part = folder / f".{SUMS}.part"
    part.write_bytes(text.encode("utf-8", "surrogateescape"))
    part.replace(folder / SUMS)
    size = sum((folder / name).stat().st_size for name in sums)
    said = {**about, "files": len(sums), "bytes": size}
    write_json(folder / RECORD, {**said, "sha256_of_SHA256SUMS": digest(folder / SUMS)})


def names_in(folder: Path) -> set[str]:
    """The files that are written down; none where nothing is."""
    return set(_sums(folder)) if (folder / RECORD).exists() else set()


def verify(folder: Path, names: Iterable[str], progress: Progress) -> None:
    """Compare files with what was written down.

    Raises:
        DataError: A file is missing or differs, or the record itself does.
    """
    sums = _sums(folder)
    names = sorted(names)
    for number, name in enumerate(names, 1):
        path = folder / name
        if not path.is_file():
            raise DataError(
                f"{path}: is missing, though {RECORD} lists it; remove {folder} and get it again"
            )
        if digest(path) != sums[name]:
            raise DataError(
                f"{path}: has changed since it was fetched (its sha256 differs from {SUMS}); "
                f"remove {folder} and get it again, or use another --out to keep both"
            )
        progress(number, len(names))


def _sums(folder: Path) -> dict[str, str]:
    """SHA256SUMS as {path: digest}, after the record's word on it has been checked."""
    said = read_json(folder / RECORD)
    try:
        ours = said["sha256_of_SHA256SUMS"] == digest(folder / SUMS)
    except (OSError, KeyError, TypeError):
        ours = False
    if not ours:
        raise DataError(
            f"{folder / SUMS}: does not go with {RECORD}; remove both, and run the command again"
        )
    text = (folder / SUMS).read_bytes().decode("utf-8", "surrogateescape")
    return dict(_parsed(line) for line in text.split("\n") if line)


def _line(value: str, name: str) -> str:
    """A line as `sha256sum` writes it: names with a backslash or a newline are marked."""
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n")
    return f"{'' if escaped == name else chr(92)}{value}  {escaped}\n"


def _parsed(line: str) -> tuple[str, str]:
    """The name and the digest of such a line."""
    value, _, name = line.partition("  ")
    if value.startswith("\\"):
        name = name.replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\")
    return name, value.removeprefix("\\")
