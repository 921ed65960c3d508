"""Sets on Kaggle through its own package `kagglehub`, with the user's key where there is one.

`kagglehub` checks the MD5 that the server sends with the archive (its clients.py, download_file),
goes on with an archive that is there in part, and unpacks it, which checks a CRC for every file.
"""

import functools
import http
import logging
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from layerwise.data.get.catalogue import COMPETITION, PublicSet
from layerwise.data.get.guard import (
    CONNECT,
    FULL,
    READ,
    disk_full,
    environment,
    missing,
    muted,
    unreachable,
)
from layerwise.errors import DataError

SETTINGS = "https://www.kaggle.com/settings"
HOW_TO_GET_A_KEY = (
    f"make a token at {SETTINGS} (section API) and put it into the environment as "
    "KAGGLE_API_TOKEN, or its kaggle.json into ~/.kaggle, or its two parts into KAGGLE_USERNAME "
    "and KAGGLE_KEY; then run the same command again"
)


def fetch(chosen: PublicSet, part: Path, place: Path, *, bars: bool) -> tuple[Path, str]:
    """Download and unpack a set with the package's own code.

    Args:
        chosen: The set.
        part: The folder to work in; an archive that is there in part is gone on with.
        place: Where the set will be in the end, for the messages.
        bars: Whether the package may draw its progress on standard error.

    Returns:
        The folder of unpacked files, below `part`, and the version ("" where there is none).

    Raises:
        DataError: No network, no key or one that is refused, or a damaged archive.
        OutputError: The disk is full.
    """
    package = _package(chosen)
    competition = chosen.client == COMPETITION
    download = package.competition_download if competition else package.dataset_download
    # Not `output_dir`: with it the package begins anew each time. In the cache it goes on.
    own = {"KAGGLEHUB_CACHE": str(part), "DISABLE_KAGGLE_CACHE": "1", "DISABLE_COLAB_CACHE": "1"}
    try:
        with muted(bars), environment(**own), _time_limit():
            found = Path(download(chosen.handle))
    except Exception as error:
        _explain(error, chosen, part, place)
        raise
    version = re.search(r"versions/(\d+)$", found.as_posix())
    return found, version[1] if version else ""


def by_hand(chosen: PublicSet, place: Path) -> str:
    """What a person can do instead."""
    return (
        f"open {chosen.page} , download it there, unpack it into {place} so that "
        f"{place / chosen.data[0]} is there, and run the same command again, which writes down "
        "what is there"
    )


def _explain(error: Exception, chosen: PublicSet, part: Path, place: Path) -> None:
    """Raise what a person can use, where the cause is known."""
    import requests

    from_package = {kind.__name__ for kind in type(error).__mro__}
    host = "kaggle.com"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        _refused(error.response.status_code, error, chosen, place)
    if "UnauthenticatedError" in from_package:
        raise DataError(f"{chosen.name}: needs a Kaggle key; {HOW_TO_GET_A_KEY}{_rules(chosen)}")
    if "CredentialError" in from_package or "credentials file" in str(error):
        raise DataError(f"{chosen.name}: {error}; mend it: {HOW_TO_GET_A_KEY}") from error
    broken = isinstance(error, zipfile.BadZipFile) or "Unsupported archive" in str(error)
    if broken or "DataCorruptionError" in from_package:
        for folder in ("datasets", "competitions"):
            shutil.rmtree(part / folder, ignore_errors=True)
        raise DataError(
            f"{chosen.name}: what arrived from {host} is damaged (its digest differs, or it is no "
            "archive), and was removed; run the same command again"
        ) from error
    if isinstance(error, requests.RequestException):
        reason = _innermost(error)
        raise unreachable(chosen, host, reason, by_hand(chosen, place)) from error
    if isinstance(error, OSError) and error.errno in FULL:
        raise disk_full(place, kept=True) from error


def _refused(status: int, error: Exception, chosen: PublicSet, place: Path) -> None:
    """Raise what the server's answer means."""
    keys = ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME")
    home = Path(os.environ.get("KAGGLE_CONFIG_DIR", "~/.kaggle")).expanduser()
    given = any(os.environ.get(key) for key in keys) or any(
        (home / name).exists() for name in ("kaggle.json", "access_token")
    )
    if status in (401, 403):
        what = (
            f"Kaggle refuses the key that is given ({status})"
            if given
            else f"Kaggle asks for a key ({status})"
        )
        raise DataError(f"{chosen.name}: {what}; {HOW_TO_GET_A_KEY}{_rules(chosen)}") from error
    if status == 404:
        raise DataError(
            f"{chosen.name}: Kaggle no longer has {chosen.handle} (404); look at {chosen.page} , "
            f"or for another source, and unpack it into {place}"
        ) from error
    name = http.HTTPStatus(status).phrase if status in set(http.HTTPStatus) else "an error"
    raise DataError(
        f"{chosen.name}: Kaggle answers {status} ({name}); run the same command again later, or "
        f"{by_hand(chosen, place)}"
    ) from error


def _rules(chosen: PublicSet) -> str:
    """Where the rules of a competition are accepted."""
    if chosen.client != COMPETITION:
        return ""
    return f". Its rules must have been accepted as well: {chosen.page}/rules"


def _innermost(error: BaseException) -> str:
    """The last reason in a chain of network errors, in a few words."""
    reason: object = error
    while True:
        inner = getattr(reason, "reason", None) or next(
            (arg for arg in getattr(reason, "args", ()) if isinstance(arg, BaseException)), None
        )
        if inner is None or inner is reason:
            break
        reason = inner
    text = str(reason).rpartition(": ")[2] or str(reason)
    return text if len(text) < 200 else type(reason).__name__


@contextmanager
def _time_limit() -> Iterator[None]:
    """A limit for requests that set none, as those of the package to Kaggle's API."""
    import requests

    send = requests.Session.send

    @functools.wraps(send)
    def limited(session: Any, request: Any, **settings: Any) -> Any:  # noqa: ANN401
        return send(session, request, **{"timeout": (CONNECT, READ), **settings})

    requests.Session.send = limited  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        requests.Session.send = send  # type: ignore[method-assign]


def _package(chosen: PublicSet) -> Any:  # noqa: ANN401 - a module without types
    """The package, imported without what it prints."""
    try:
        with muted(bars=False):
            import kagglehub  # type: ignore[import-untyped]
    except ImportError as error:
        raise missing(chosen, "kagglehub") from error
    logging.getLogger("kagglehub").setLevel(logging.ERROR)
    return kagglehub
