"""Where a registry's files are: a folder, or anything that fsspec reaches (the only file with it).

Both do the same four things: read a small file, replace one whole, keep a bundle so that nothing
is seen of it before all of it is there, and hold a lock while something is changed.
"""

import fcntl
import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from layerwise.errors import BundleError, RegistryError
from layerwise.serving.card import CARD, read_card
from layerwise.serving.verify import verify

BUNDLES = "bundles"
LOCK = "lock"
PATIENCE = 30.0  # seconds that another's change is waited for; one takes a few


class Place(Protocol):
    """Where the files are."""

    def read(self, name: str) -> bytes | None:
        """A small file's content; None where it is not there."""

    def write(self, name: str, content: bytes) -> None:
        """Put a small file there whole; a crash leaves the old one."""

    def keep(self, source: Path, bundle: str) -> None:
        """Copy a bundle's folder there, checked; called with the lock held."""

    def fetch(self, bundle: str) -> Path:
        """A folder of this machine with that bundle, checked."""

    def lock(self) -> "Any":  # noqa: ANN401 - a context manager
        """While this is held, nobody else changes anything."""


class FolderPlace:
    """A folder. A change is a rename; the lock is the kernel's and ends with its process."""

    def __init__(self, folder: Path) -> None:
        """The folder need not be there before something is written."""
        self._folder = folder

    def __str__(self) -> str:
        return str(self._folder)

    def read(self, name: str) -> bytes | None:
        """See `Place`."""
        try:
            return (self._folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise RegistryError(
                f"{self._folder / name}: can not be read ({error.strerror}); check its permissions"
            ) from error

    def write(self, name: str, content: bytes) -> None:
        """See `Place`."""
        path = self._folder / name
        part = path.with_name(f".{path.name}.part")
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(content)
            _sync(part)
            part.replace(path)
            _sync(path.parent)

    def keep(self, source: Path, bundle: str) -> None:
        """See `Place`."""
        names = check_folder(source, bundle)
        bundles = self._folder / BUNDLES
        part = bundles / f".{bundle}.part"
        with self._writing():
            bundles.mkdir(parents=True, exist_ok=True)
            for left in bundles.glob(".*.part"):  # of a killed process: the living hold the lock
                shutil.rmtree(left)
            if self._is_whole(bundle):
                return
            part.mkdir()
            for name in names:
                shutil.copyfile(source / name, part / name)
                _sync(part / name)
            check_folder(part, bundle)  # the source may have changed while it was copied
            shutil.rmtree(bundles / bundle, ignore_errors=True)  # damaged, if it is there
            part.rename(bundles / bundle)
            _sync(bundles)

    def fetch(self, bundle: str) -> Path:
        """See `Place`."""
        folder = self._folder / BUNDLES / bundle
        check_folder(folder, bundle)
        return folder

    @contextmanager
    def lock(self) -> Iterator[None]:
        """See `Place`."""
        with self._writing():
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._folder / f".{LOCK}", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _is_whole(self, bundle: str) -> bool:
        try:
            self.fetch(bundle)
        except BundleError:
            return False
        return True

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RegistryError(
                f"{self._folder}: can not be written ({error.strerror or error}); free some space "
                "there, or name another folder with --registry"
            ) from error


class RemotePlace:
    """An fsspec URL. A change is one put; the lock is an object that only one can make.

    A bundle's card is put last, and nothing names the bundle before that. Fetched bundles are kept
    on this machine, since one never changes.
    """

    def __init__(self, url: str, cache: Path) -> None:
        """Raises RegistryError where the URL's kind is unknown or its client is not installed."""
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise RegistryError(
                f"{url}: a registry at a URL needs fsspec; pip install 'layerwise[registry]'"
            ) from error
        try:
            self._files, self._root = url_to_fs(url)
        except (ValueError, ImportError) as error:  # unknown, or its client is missing
            raise RegistryError(
                f"{url}: {error}; install the client it names, or name a folder"
            ) from error
        self._url, self._cache = url.rstrip("/"), cache

    def __str__(self) -> str:
        return self._url

    def read(self, name: str) -> bytes | None:
        """See `Place`."""
        try:
            return bytes(self._files.cat_file(self._at(name)))
        except FileNotFoundError:
            return None
        except Exception as error:  # every client has its own
            raise self._failed("read", name, error) from error

    def write(self, name: str, content: bytes) -> None:
        """See `Place`."""
        try:
            self._files.pipe_file(self._at(name), content)
        except Exception as error:  # every client has its own
            raise self._failed("written", name, error) from error

    def keep(self, source: Path, bundle: str) -> None:
        """See `Place`."""
        for name in check_folder(source, bundle):  # the card last
            self.write(f"{BUNDLES}/{bundle}/{name}", (source / name).read_bytes())

    def fetch(self, bundle: str) -> Path:
        """See `Place`."""
        folder = self._cache / BUNDLES / bundle
        try:
            check_folder(folder, bundle)
        except BundleError:  # not there, or damaged since
            self._download(bundle, folder)
        return folder

    @contextmanager
    def lock(self) -> Iterator[None]:
        """See `Place`."""
        deadline = time.monotonic() + PATIENCE
        while not self._take_lock():
            if time.monotonic() > deadline:
                holder = (self.read(LOCK) or b"").decode(errors="replace")
                raise RegistryError(
                    f"{self._url}/{LOCK}: another promotion holds the lock ({holder}). If that "
                    "process is no longer there, remove this object and run the command again"
                )
            time.sleep(0.2)
        try:
            yield
        finally:
            self._files.rm_file(self._at(LOCK))

    def _take_lock(self) -> bool:
        mine = {"host": socket.gethostname(), "process": os.getpid(), "time": round(time.time())}
        try:
            self._files.pipe_file(self._at(LOCK), json.dumps(mine).encode(), mode="create")
        except FileExistsError:
            return False
        except Exception as error:  # some clients answer with an error of their own
            if self.read(LOCK) is not None:
                return False
            raise self._failed("written", LOCK, error) from error
        return True

    def _download(self, bundle: str, folder: Path) -> None:
        """Get a bundle into the cache, where it appears whole or not at all."""
        part = folder.with_name(f".{bundle}.{secrets.token_hex(4)}")
        try:
            part.mkdir(parents=True)
            card = self._get(bundle, CARD)
            for name in read_card(card, f"{self._url}/{BUNDLES}/{bundle}/{CARD}").files:
                (part / name).write_bytes(self._get(bundle, name))
            (part / CARD).write_bytes(card)
            check_folder(part, bundle)
            shutil.rmtree(folder, ignore_errors=True)
            try:
                part.rename(folder)
            except OSError:  # another process was quicker
                check_folder(folder, bundle)
        except OSError as error:
            raise RegistryError(
                f"{folder}: can not be written ({error.strerror or error}); name another place "
                "with --cache"
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _get(self, bundle: str, name: str) -> bytes:
        content = self.read(f"{BUNDLES}/{bundle}/{name}")
        if content is None:
            raise BundleError(
                f"{self._url}/{BUNDLES}/{bundle}/{name} is missing: the bundle is not whole. "
                "Promote it again from where it was made"
            )
        return content

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _failed(self, what: str, name: str, error: Exception) -> RegistryError:
        return RegistryError(
            f"{self._url}/{name}: can not be {what} ({type(error).__name__}: {error}); check the "
            "address and your rights there"
        )


def bundle_id(folder: Path) -> str:
    """The id of the bundle in a folder, verified; BundleError where it is damaged or none."""
    return verify(folder).id


def check_folder(folder: Path, wanted: str) -> list[str]:
    """Check that a folder holds the bundle of this id, unaltered.

    Returns:
        The names of its files, the card last.

    Raises:
        BundleError: It does not; the message names the file.
    """
    found = verify(folder)
    if found.id != wanted:
        raise BundleError(
            f"{folder / CARD} is not that of bundle {wanted} (it would be {found.id}): it was "
            "altered. Promote the bundle again from where it was made"
        )
    return [*found.files, CARD]


def _sync(path: Path) -> None:
    """What was written survives a power failure; where that can not be had, go on without."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        return
    finally:
        os.close(descriptor)
