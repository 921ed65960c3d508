"""MedMNIST through its own package: `medmnist` names the file, fetches it and checks its MD5."""

import errno
import http.client
import importlib.util
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from layerwise.data.get.catalogue import PublicSet
from layerwise.data.get.guard import (
    CONNECT,
    FULL,
    READ,
    chain,
    disk_full,
    missing,
    muted,
    unreachable,
)
from layerwise.errors import DataError


@dataclass(frozen=True)
class Origin:
    """What the package says of one file: its address, its MD5, and the names of its labels."""

    url: str
    md5: str
    labels: tuple[str, ...]
    version: str


def file_name(chosen: PublicSet, size: int) -> str:
    """MedMNIST's name of a set at a size; 28 pixels go unsaid."""
    return f"{chosen.handle}{_flag(size)}.npz"


def origin(chosen: PublicSet, size: int) -> Origin:
    """Where a file is and what its digest must be.

    Raises:
        DataError: The package is not installed, or too old to know this size.
    """
    package = _info(chosen)
    about = package.INFO[chosen.handle]
    try:
        url, md5 = about[f"url{_flag(size)}"], about[f"MD5{_flag(size)}"]
    except KeyError:
        raise DataError(
            f"{chosen.name}: medmnist {package.__version__} knows no size {size}; update it, or "
            "choose --size 28"
        ) from None
    names = tuple(name for _, name in sorted(about["label"].items(), key=lambda pair: int(pair[0])))
    return Origin(url, md5, names, package.__version__)


def fetch(chosen: PublicSet, size: int, part: Path, place: Path, *, bars: bool) -> Path:
    """Download one file with the package's own code, its check of the MD5 included.

    Args:
        chosen: The set.
        size: Pixels of a side.
        part: The folder to download to.
        place: Where the file will be in the end, for the messages.
        bars: Whether the package may draw its progress on standard error.

    Raises:
        DataError: No network, no such file, or another digest.
        OutputError: The disk is full.
    """
    url = origin(chosen, size).url
    _knock(chosen, url, place)
    package = _package(chosen)
    about = package.INFO[chosen.handle]
    kind = getattr(package, about["python_class"])
    file = part / file_name(chosen, size)
    # The constructor would also read all pictures into memory (17 GB for PathMNIST at 224), so
    # only its method `download` is run, on a stand-in with the four things that it reads.
    target = SimpleNamespace(flag=chosen.handle, size_flag=_flag(size), root=str(part), info=about)
    try:
        with muted(bars), _time_limit():
            kind.download(target)
    except RuntimeError as error:  # whatever happens, an interrupt too, becomes this one there
        file.unlink(missing_ok=True)
        _explain(error, chosen, place, url)
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    return file


def by_hand(url: str, place: Path) -> str:
    """What a person can do instead."""
    return f"open {url} , save the file as {place}, and run the same command again, which checks it"


def _explain(error: RuntimeError, chosen: PublicSet, place: Path, url: str) -> None:
    """Raise what lies behind the package's one error for everything."""
    behind = list(chain(error))[1:]
    for cause in behind:
        if isinstance(cause, KeyboardInterrupt):
            raise cause
        if isinstance(cause, OSError) and cause.errno in FULL:
            raise disk_full(place, kept=False) from error
        if isinstance(cause, urllib.error.HTTPError):
            cause.close()
            raise DataError(
                f"{chosen.name}: zenodo.org answers {cause.code} ({cause.reason}); try again "
                f"later, or {by_hand(url, place)}"
            ) from error
        if isinstance(cause, OSError) and cause.errno in (errno.EACCES, errno.EROFS):
            raise cause
        if isinstance(cause, (urllib.error.URLError, OSError)):
            reason = str(getattr(cause, "reason", "") or cause)
            raise unreachable(chosen, "zenodo.org", reason, by_hand(url, place)) from error
    if any("corrupted" in str(cause) for cause in behind):
        raise DataError(
            f"{chosen.name}: what arrived from zenodo.org is not the published file (its MD5 "
            "differs), and was removed; run the same command again"
        ) from error
    said = str(behind[-1]) if behind else str(error)
    raise DataError(
        f"{chosen.name}: medmnist could not download it ({said}); {by_hand(url, place)}"
    ) from error


@contextmanager
def _time_limit() -> Iterator[None]:
    """A limit for connections that set none, as those of the package."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(READ)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _flag(size: int) -> str:
    return "" if size == 28 else f"_{size}"


def _knock(chosen: PublicSet, url: str, place: Path) -> None:
    """Find out at once whether the server can be reached: the package takes seconds to import."""
    try:
        request = urllib.request.Request(url, method="HEAD")
        with urllib.request.urlopen(request, timeout=CONNECT):
            pass
    except urllib.error.HTTPError as error:  # an answer; what it means is for the real request
        error.close()
    except (OSError, http.client.HTTPException) as error:
        reason = str(getattr(error, "reason", "") or error)
        raise unreachable(chosen, "zenodo.org", reason, by_hand(url, place)) from error


def _info(chosen: PublicSet) -> Any:  # noqa: ANN401 - a module without types
    """The package's file of addresses and digests alone; the package itself imports torch."""
    found = importlib.util.find_spec("medmnist")
    if found is None or not found.submodule_search_locations:
        raise missing(chosen, "medmnist")
    place = Path(found.submodule_search_locations[0]) / "info.py"
    spec = importlib.util.spec_from_file_location("medmnist_info", place)
    if spec is None or spec.loader is None:
        raise missing(chosen, "medmnist")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _package(chosen: PublicSet) -> Any:  # noqa: ANN401 - a module without types
    """The package, imported without what it prints."""
    try:
        with muted(bars=False):
            import medmnist  # type: ignore[import-untyped]
    except ImportError as error:
        raise missing(chosen, "medmnist") from error
    return medmnist
