"""The catalogue: every network with its size, in a table that is read without torch.

``catalogue.csv`` beside this file is made by::

    python -m layerwise.models.catalogue OUT.csv [PATTERN …] [--jobs N] [--again] [--refused]

It makes each network with one output on the meta device, that is without computing weights, and
finds its cuts. Each has a process of its own with a limit of time and memory, so that none can stop
the others. Networks that OUT.csv has numbers of are left alone, so a run that was cut off goes on
where it stopped. The first line names the versions of the libraries that the rows are true for.
"""

from __future__ import annotations

import argparse
import csv
import fnmatch
import importlib.metadata
import io
import multiprocessing
import os
import re
import resource
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, astuple, dataclass, fields
from multiprocessing.connection import Connection
from pathlib import Path

FILE = Path(__file__).with_suffix(".csv")
LIBRARIES = ("timm", "torchvision", "torch")

# What a refusal says → the word or two for a table.
_WORDS = (
    (r"something else in training", "differs in training"),
    (r"can not be traced", "not traceable"),
    (r"does not end in one layer", "several outputs"),
    (r"returns more than one tensor", "several outputs"),
    (r"does not accept pictures", "input size"),
    (r"network can not be made", "can not be made"),
)


@dataclass(frozen=True)
class Entry:
    """One network of the catalogue.

    Attributes:
        name: As ``--model`` has it.
        parameters: Of the whole network with one output; 0 where it is not known.
        macs: Multiply–adds of the whole network for one image.
        channels: Of its input.
        height: Of its input in pixels.
        width: Of its input in pixels.
        cuts: How many places it may be cut at.
        blocks: How many of these are ends of blocks.
        reason: Why it can not be used, in a word or two; "" where it can.
    """

    name: str
    parameters: int = 0
    macs: int = 0
    channels: int = 0
    height: int = 0
    width: int = 0
    cuts: int = 0
    blocks: int = 0
    reason: str = ""

    @property
    def measured(self) -> bool:
        """Whether it is known what the network is, or why it can not be used."""
        return self.parameters > 0 or bool(self.reason)


_COLUMNS = [field.name for field in fields(Entry)]


@dataclass(frozen=True)
class Catalogue:
    """All networks: our own first, then torchvision's, then timm's.

    Attributes:
        entries: One a network.
        versions: Of the libraries that the entries are true for.
    """

    entries: tuple[Entry, ...]
    versions: dict[str, str]


def fits(name: str, pattern: str) -> bool:
    """Whether a network's name, with or without what stands before ":", fits a pattern.

    Args:
        name: As ``--model`` has it.
        pattern: ``*`` stands for any characters, ``?`` for one; capitals do not matter.
    """
    wanted = pattern.lower()
    return any(fnmatch.fnmatchcase(n.lower(), wanted) for n in (name, name.rpartition(":")[2]))


def read(file: Path = FILE) -> Catalogue:
    """The catalogue as it stands in a file; one without rows where there is none yet.

    The last row of a network counts, in the place of its first. A last line that was cut off
    while it was written is left out.
    """
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    first, _, rest = text[: text.rfind("\n") + 1].partition("\n")
    versions = dict(pair.split(" ", 1) for pair in first.removeprefix("# ").split(", ") if pair)
    entries = {}
    for row in csv.DictReader(io.StringIO(rest)):
        numbers = {key: int(row[key]) for key in _COLUMNS[1:-1]}
        entries[row["name"]] = Entry(row["name"], **numbers, reason=row["reason"])
    return Catalogue(tuple(entries.values()), versions)


def installed() -> dict[str, str]:
    """The versions of the libraries that are installed, found without importing them."""
    return {library: importlib.metadata.version(library) for library in LIBRARIES}


def brought_up_to_date(catalogue: Catalogue) -> tuple[list[Entry], str]:
    """The entries of the networks that the installed libraries have.

    Torch is imported only where timm or torchvision has another version than the catalogue: then
    networks that are gone are left out, and those that are new come last, without numbers.

    Returns:
        The entries, and a line that says what differs; "" where nothing does.
    """
    versions = installed()
    other = [one for one in LIBRARIES[:2] if versions[one] != catalogue.versions.get(one)]
    if not other:
        return list(catalogue.entries), ""
    known = dict.fromkeys(names())
    there = {entry.name: entry for entry in catalogue.entries if entry.name in known}
    new = [Entry(name) for name in known if name not in there]
    said = ", ".join(
        f"{one} {catalogue.versions.get(one, 'unknown')} (installed: {versions[one]})"
        for one in other
    )
    return [*there.values(), *new], f"the numbers were found with {said}"


def names() -> list[str]:
    """The name of every network in the catalogue's order; imports torch."""
    from layerwise.models.registry import available

    return sorted(available(), key=lambda name: _rank(name))  # a stable sort


def _rank(name: str) -> int:
    return ("torchvision:", "timm:").index(name.partition(":")[0] + ":") + 1 if ":" in name else 0


def measure(name: str) -> Entry:
    """Make a network and measure it; imports torch.

    Raises:
        ModelError: Layerwise can not use it.
    """
    from layerwise.models.cuts import survey
    from layerwise.models.registry import blank

    network = blank(name, outputs=1)
    contract = network.contract
    size = (contract.channels, contract.height, contract.width)
    cuts, macs = survey(network.module, size)
    parameters = sum(p.numel() for p in network.module.parameters())
    blocks = sum(cut.block for cut in cuts)
    reason = "" if cuts else "no cuts"
    return Entry(name, parameters, macs, *size, len(cuts), blocks, reason)


def shortened(message: str) -> str:
    """A refusal in a word or two."""
    return next((words for pattern, words in _WORDS if re.search(pattern, message)), "fails")


def _answer(name: str, seconds: int, gigabytes: int, answers: Connection) -> None:
    """In a process of its own: measure one network within the limits."""
    resource.setrlimit(resource.RLIMIT_AS, (gigabytes << 30, gigabytes << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the process ends
    try:
        entry, message = measure(name), ""
    except MemoryError:
        entry, message = Entry(name, reason="too large"), f"over {gigabytes} GB"
    except Exception as error:  # whatever the network's own code raises
        message = f"{type(error).__name__}: {error}"
        memory = re.search("allocate memory|out of memory|failed to map", message)
        entry = Entry(name, reason="too large" if memory else shortened(message))
    answers.send((astuple(entry), message))


def isolated(name: str, seconds: int = 300, gigabytes: int = 12) -> tuple[Entry, str]:
    """Measure one network in a process of its own.

    Args:
        name: As ``--model`` has it.
        seconds: Of processor time that it may take.
        gigabytes: Of address space that it may take, libraries included.

    Returns:
        The entry, and the whole message where the network is refused.
    """
    context = multiprocessing.get_context("forkserver")
    answers, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(name, seconds, gigabytes, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        # The limit is processor time; this one only catches a process that sleeps.
        if not answers.poll(20 * seconds):
            raise EOFError
        row, message = answers.recv()
        process.join(10)  # one that ends by itself leaves nothing behind
        return Entry(*row), message
    except EOFError:
        return Entry(name, reason="too slow"), f"no answer within {seconds} seconds"
    finally:
        process.kill()
        process.join()
        answers.close()


def fill(file: Path, wanted: Iterable[str], jobs: int) -> Iterator[tuple[Entry, str]]:
    """Measure networks and add each to a file as soon as it is measured.

    Args:
        file: What `write` has written.
        wanted: Names of networks.
        jobs: How many are measured at a time.

    Yields:
        Each entry, and the whole message where the network is refused.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["layerwise.models.registry"])
    with ThreadPoolExecutor(jobs) as pool, file.open("a", encoding="utf-8", newline="") as out:
        for entry, message in pool.map(isolated, wanted):
            csv.writer(out, lineterminator="\n").writerow(astuple(entry))
            out.flush()
            yield entry, message


def write(file: Path, entries: Iterable[Entry], versions: dict[str, str]) -> None:
    """Write a catalogue whole, in the order of the entries."""
    text = io.StringIO()
    text.write("# " + ", ".join(f"{name} {version}" for name, version in versions.items()) + "\n")
    rows = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    rows.writeheader()
    rows.writerows(map(asdict, entries))
    beside = file.with_name(file.name + ".new")
    beside.write_text(text.getvalue(), encoding="utf-8")
    beside.replace(file)


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m layerwise.models.catalogue")
    parser.add_argument("out", type=Path, help="the table; what is measured is not measured again")
    parser.add_argument("patterns", nargs="*", help="measure only networks that fit one of these")
    parser.add_argument("--jobs", type=int, default=1, help="networks measured at a time")
    parser.add_argument("--again", action="store_true", help="measure what is measured too")
    parser.add_argument("--refused", action="store_true", help="measure what was refused too")
    asked = parser.parse_intermixed_args()
    there, versions = read(asked.out), installed()
    if there.versions and there.versions != versions:
        sys.exit(f"{asked.out} was made with {there.versions}, not {versions}: write a new file")
    old = {entry.name: entry for entry in there.entries}
    done = {name: old.get(name, Entry(name)) for name in names()}
    write(asked.out, done.values(), versions)

    def wanted(entry: Entry) -> bool:
        if asked.patterns and not any(fits(entry.name, pattern) for pattern in asked.patterns):
            return False
        return asked.again or not entry.measured or (asked.refused and bool(entry.reason))

    todo = [entry.name for entry in done.values() if wanted(entry)]
    for number, (entry, message) in enumerate(fill(asked.out, todo, asked.jobs), start=1):
        print(f"{number}/{len(todo)} {entry.name} {message or entry.parameters}", flush=True)
        done[entry.name] = entry
    write(asked.out, done.values(), versions)


if __name__ == "__main__":
    _main()
