"""From what the user calls DATA to a manifest: which source it is, and reading it."""

import os
from pathlib import Path

from layerwise.data.manifest import Manifest, is_manifest_header
from layerwise.data.sources import digits, folder, npz, saved, table
from layerwise.data.sources.options import DataOptions, some
from layerwise.errors import DataError

__all__ = ["DataOptions", "load"]

TABLES = (".csv", ".tsv", ".parquet")
_KINDS = (
    "DATA is a folder of class folders, a table (.csv, .tsv, .parquet), a MedMNIST .npz, a "
    "manifest.csv, or digits"
)


def load(data: str | Path, options: DataOptions | None = None) -> Manifest:
    """Read DATA, whatever kind it is.

    Args:
        data: A folder, a table, a MedMNIST .npz, a manifest written by `Manifest.write`, or
            "digits".
        options: What the user says about it.

    Raises:
        DataError: It is not there, is no such thing, or its labels can not be used.
    """
    options = options or DataOptions()
    path = Path(os.path.abspath(Path(data).expanduser()))
    if str(data) == "digits" and not path.exists():
        return digits.read(options)
    if not path.exists():
        raise DataError(f"{data}: no such file or folder; {_KINDS}")
    if path.is_dir():
        if options.labels is not None:
            return _encodable(table.read(_labels_file(options.labels), options, root=path))
        return _encodable(folder.read(path, options))
    if options.labels is not None:
        raise DataError(
            f"--labels goes with a folder of images, and {data} is a file; leave it out"
        )
    if path.suffix.lower() == ".npz":
        return npz.read(path, options)
    if path.suffix.lower() not in TABLES:
        raise DataError(f"{data}: files ending in {path.suffix or 'nothing'} are no data; {_KINDS}")
    frame = table.read_frame(path)
    if is_manifest_header([str(name) for name in frame.columns]):
        return saved.read(path, frame, options)
    return _encodable(table.read(path, options))


def _labels_file(name: str) -> Path:
    """The table of --labels."""
    path = Path(os.path.abspath(Path(name).expanduser()))
    if not path.is_file() or path.suffix.lower() not in TABLES:
        raise DataError(f"--labels {name}: no such table; name a .csv, .tsv or .parquet file")
    return path


def _encodable(manifest: Manifest) -> Manifest:
    """Refuse file names that no text file can hold, before hours of work depend on them."""
    bad = []
    for name in manifest.table["id"]:
        try:
            name.encode()
        except UnicodeEncodeError:
            bad.append(repr(name))
    if bad:
        raise DataError(f"{manifest.name}: file names that are no text: {some(bad)}; rename them")
    return manifest
