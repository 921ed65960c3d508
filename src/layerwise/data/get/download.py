"""From a set's name to checked files in a folder, without downloading anything twice."""

import csv
import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from layerwise.config import write_json
from layerwise.data.get import guard, kaggle, medmnist, record
from layerwise.data.get.catalogue import BY_HAND, MEDMNIST, SIZES, PublicSet, find
from layerwise.data.storage.rows import check_writable
from layerwise.errors import DataError

Say = Callable[[str], None]
Track = Callable[[str], Callable[[int, int], None]]


@dataclass(frozen=True)
class Got:
    """A set that is there.

    Attributes:
        chosen: What it is.
        folder: Where its files and their record are.
        data: What to give to other commands as DATA.
        fetched: Whether it was downloaded just now.
    """

    chosen: PublicSet
    folder: Path
    data: Path
    fetched: bool


def get(
    name: str, out: Path, size: int | None, say: Say, track: Track, *, bars: bool = False
) -> Got:
    """Fetch a public set into `out / name`, or check what is there.

    Args:
        name: A name of the catalogue.
        out: The folder above all sets.
        size: Pixels of a side of a MedMNIST set; None is 28.
        say: Told what happens.
        track: Makes a progress function (done, total) for a title.
        bars: Whether a client may draw its own progress on standard error.

    Raises:
        DataError: No such set; no client, network or key; another digest; changed files.
        OutputError: The place can not be written, or another process is at it.
    """
    chosen = find(name)
    if size is not None and chosen.client != MEDMNIST:
        raise DataError(
            f"--size goes with the MedMNIST sets, and {chosen.name} is none; leave it out"
        )
    if size is not None and size not in SIZES:
        raise DataError(f"--size {size}: MedMNIST has {', '.join(map(str, SIZES))}; choose one")
    if chosen.client == MEDMNIST:
        return _medmnist(chosen, out / chosen.name, size or 28, say, track, bars)
    folder = out / chosen.name
    if folder.is_dir() and any(folder.iterdir()):
        return _already(chosen, folder, say, track)
    if chosen.client == BY_HAND:
        raise DataError(
            f"{chosen.name}: has to be fetched by hand ({chosen.licence}): "
            f"{kaggle.by_hand(chosen, folder)}"
        )
    return _kaggle(chosen, folder, say, track, bars)


def _medmnist(
    chosen: PublicSet, folder: Path, size: int, say: Say, track: Track, bars: bool
) -> Got:
    """One .npz of MedMNIST, with the names of its labels beside it."""
    file = folder / medmnist.file_name(chosen, size)
    if file.is_file() and file.name in record.names_in(folder):
        record.verify(folder, [file.name], track("checking"))
        say(f"{file} is there already, and its digest is right")
        return Got(chosen, folder, file, fetched=False)
    source = medmnist.origin(chosen, size)
    check_writable(folder.parent)
    fetched = not file.is_file()
    if fetched:
        say(f"downloading {source.url} (MD5 {source.md5}), licence {chosen.licence}")
        with guard.unfinished(folder) as part:
            arrived = medmnist.fetch(chosen, size, part, file, bars=bars)
            folder.mkdir(exist_ok=True)
            arrived.replace(file)
    elif record.digest(file, "md5") != source.md5:
        raise DataError(
            f"{file}: is not the published file (its MD5 is {record.digest(file, 'md5')}, the "
            f"publisher's is {source.md5}); remove it, and run the same command again"
        )
    else:
        say(f"{file} is there already, and its MD5 is the publisher's")
    names = folder / "classes.json"
    if not names.exists():
        write_json(names, list(source.labels))
    about = _about(chosen, f"medmnist {source.version}")
    record.write(folder, [file.name, names.name], about, track("writing the digests"))
    return Got(chosen, folder, file, fetched=fetched)


def _kaggle(chosen: PublicSet, folder: Path, say: Say, track: Track, bars: bool) -> Got:
    """A set of Kaggle, unpacked."""
    say(
        f"downloading {chosen.page} ({chosen.images:,} pictures), licence: {chosen.licence}; "
        "stopped and started again, it goes on"
    )
    check_writable(folder.parent)
    with guard.unfinished(folder) as part:
        found, version = kaggle.fetch(chosen, part, folder, bars=bars)
        _data(chosen, found)
        _one_row_an_image(chosen, found)
        about = _about(chosen, "kagglehub", version)
        record.write(found, record.files_of(found), about, track("writing the digests"))
        found.replace(folder)
    return Got(chosen, folder, _data(chosen, folder), fetched=True)


def _already(chosen: PublicSet, folder: Path, say: Say, track: Track) -> Got:
    """What is there: compared with its record, or written down where there is none."""
    names = record.names_in(folder)
    data = _data(chosen, folder)
    if names:
        record.verify(folder, names, track("checking"))
        say(f"{folder} is there already: {len(names):,} files, all as they were fetched")
    else:
        say(f"{folder} is there already, put there by hand: its digests are written down now")
        check_writable(folder)
        _one_row_an_image(chosen, folder)
        about = _about(chosen, BY_HAND)
        record.write(folder, record.files_of(folder), about, track("writing the digests"))
    return Got(chosen, folder, data, fetched=False)


def _data(chosen: PublicSet, folder: Path) -> Path:
    """What DATA is in a folder."""
    for name in chosen.data:
        if (folder / name).exists():
            return folder / name
    raise DataError(
        f"{folder}: holds no {' or '.join(chosen.data)}, as {chosen.name} should; remove the "
        "folder to get it again, or give what is in it to `layerwise inspect` yourself"
    )


def _one_row_an_image(chosen: PublicSet, folder: Path) -> None:
    """Make labels.csv of a table that has a row for each box drawn in an image."""
    if not chosen.labels:
        return
    table, *columns = chosen.labels
    try:
        with (folder / table).open(newline="", encoding="utf-8") as opened:
            found = [[row[column] for column in columns] for row in csv.DictReader(opened)]
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{folder / table}: is not the table that {chosen.name} should hold; look at "
            f"{chosen.page}"
        ) from error
    rows = sorted({tuple(row) for row in found})
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows([columns, *rows])


def _about(chosen: PublicSet, client: str, version: str = "") -> dict[str, object]:
    """What DOWNLOAD.json says beside the digests."""
    return {
        "name": chosen.name,
        "what": chosen.what,
        "page": chosen.page,
        "licence": chosen.licence,
        "cite": chosen.cite,
        "client": client,
        "version": version,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
