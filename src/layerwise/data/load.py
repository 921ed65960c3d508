"""From what the user calls DATA to a manifest: which source it is, and reading it."""

import os
from pathlib import Path

from layerwise.data.manifest import Manifest, is_manifest_header
from layerwise.data.sources import chexpert, dicom, digits, folder, nih, npz, saved, table
from layerwise.data.sources.frame import is_table, read_frame, read_heading
from layerwise.data.sources.options import DataOptions, some
from layerwise.data.sources.targets import as_question
from layerwise.errors import DataError

__all__ = ["DataOptions", "load"]

_KINDS = (
    "DATA is a folder of class folders, a table (.csv, .tsv, .parquet), a MedMNIST .npz, a "
    "manifest.csv, or digits"
)
_OF_CHEXPERT = ("uncertain", "label_set")
_OF_TABLES = (
    "label_column",
    "path_column",
    "patient_column",
    "study_column",
    "date_column",
    "split_column",
    "multi_label",
    "view",
    "subgroup",
    *_OF_CHEXPERT,
)
_OWN_TABLES = (  # a folder that holds one of these, and it is what its name says, is such a set
    "train.csv",
    "train.csv.gz",
    "Data_Entry_2017.csv",
    "Data_Entry_2017_v2020.csv",
    "Data_Entry_2017_v2020.csv.gz",
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
        _refuse_unused(options, "digits", _OF_TABLES)
        return digits.read(options)
    if not path.exists():
        raise DataError(f"{data}: no such file or folder; {_KINDS}")
    if path.is_dir():
        return _folder(path, options)
    if not path.is_file():
        raise DataError(f"{data}: a pipe or a device, not a file; write what it gives to a file")
    if options.labels is not None:
        raise DataError(
            f"--labels goes with a folder of images, and {data} is a file; leave it out"
        )
    if path.suffix.lower() == ".npz":
        _refuse_unused(options, str(path), _OF_TABLES)
        return as_question(npz.read(path, options))
    if not is_table(path):
        raise DataError(f"{data}: files ending in {path.suffix or 'nothing'} are no data; {_KINDS}")
    return _table(path, options, path.parent)


def _folder(path: Path, options: DataOptions) -> Manifest:
    """A folder: with a table of labels, of a set that has its own table, or of class folders."""
    if options.labels is not None:
        return _table(_labels_file(options.labels), options, path)
    for name in _OWN_TABLES:
        if (path / name).is_file() and _is_own_table(path / name):
            return _table(path / name, options, path)
    _refuse_unused(options, f"{path}, a folder without --labels,", _OF_TABLES)
    return _finished(folder.read(path, options), options)


def _is_own_table(path: Path) -> bool:
    """Whether a table that lies in a folder is CheXpert's or NIH's."""
    try:
        columns = read_heading(path)
    except DataError:  # not the table that was asked for
        return False
    return chexpert.recognised(columns) or nih.recognised(columns)


def _table(path: Path, options: DataOptions, root: Path) -> Manifest:
    """A table: a manifest, CheXpert's, NIH's, or any other."""
    notes: list[str] = []
    frame = read_frame(path, notes)
    columns = [str(name) for name in frame.columns]
    if is_manifest_header(columns):
        return saved.read(path, frame, options)
    if chexpert.recognised(columns):
        frame, options = chexpert.translate(path, frame, options, notes)
        marked = set(options.label_column) <= set(chexpert.LABELS)
    elif nih.recognised(columns):
        frame, options = nih.translate(path, frame, options, notes)
        marked = set(options.label_column) <= set(nih.LABELS)
    else:
        marked = False
        _refuse_unused(options, f"{path}, which is not CheXpert's table,", _OF_CHEXPERT)
    return _finished(table.read(path, frame, options, root, notes, marked=marked), options)


def _refuse_unused(options: DataOptions, source: str, names: tuple[str, ...]) -> None:
    """Refuse flags that a source would pass over in silence."""
    plain = DataOptions()
    for name in names:
        if getattr(options, name) != getattr(plain, name):
            flag = "--" + name.replace("_", "-")
            raise DataError(f"{flag}: {source} has no use for it; leave it out")


def _labels_file(name: str) -> Path:
    """The table of --labels."""
    path = Path(os.path.abspath(Path(name).expanduser()))
    if not path.is_file() or not is_table(path):
        raise DataError(f"--labels {name}: no such table; name a .csv, .tsv or .parquet file")
    return path


def _finished(manifest: Manifest, options: DataOptions) -> Manifest:
    """What is done whatever source the files came from."""
    manifest = as_question(_encodable(manifest))
    return dicom.complete(manifest, options) if options.images else manifest


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
