"""A folder under construction that survives a kill: `<name>.part`, locked by who builds it.

The lock is the kernel's, so it ends with its process, however that ends. What is left of the work
stays, and the next builder goes on with it.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from layerwise.data.storage.rows import cannot_write

LOCK = "lock"


@contextmanager
def unfinished(
    folder: Path, whole: Callable[[], bool], *, resumable: bool = True
) -> Iterator[Path | None]:
    """The unfinished form of a folder; it becomes the folder when the block ends well.

    Whoever else builds the same folder is waited for. Where the block ends with an error, even
    with a kill, the unfinished folder stays, for the next builder; only when it can not be written
    it is removed, which frees the disk. A folder that is there but not whole (damaged, or of
    another time) is unfinished again: its files are where the block finds those it left behind.

    Args:
        folder: What is to be built.
        whole: Tells whether the folder is there and needs no work.
        resumable: No where nobody can go on with what was begun: an error then removes it, and
            after a kill the next builder of any folder beside it.

    Yields:
        The unfinished folder, or None when another process has finished it meanwhile.

    Raises:
        OutputError: The place can not be written, or the disk is full.
    """
    part = folder.with_name(f"{folder.name}.part")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(part)
        lock = _wait_for_lock(part)
    except OSError as error:
        raise cannot_write(folder.parent, error) from error
    try:
        if whole():
            _discard(part)
            yield None
            return
        _take_back(folder, part)
        yield part
        part.replace(folder)
        (folder / LOCK).unlink()  # not before: who waits for it must find that the part is gone
    except OSError as error:
        _discard(part)
        raise cannot_write(folder.parent, error) from error
    except BaseException:
        if not resumable:
            _discard(part)
        raise
    finally:
        os.close(lock)


def _wait_for_lock(part: Path) -> int:
    """Make the folder and lock it, waiting for who holds it; a descriptor to be closed."""
    while True:
        try:
            os.mkdir(part)
        except FileExistsError:
            pass
        try:
            lock = os.open(part / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # moved away since: it was finished or given up
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_lock_of(lock, part):
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def _is_lock_of(lock: int, part: Path) -> bool:
    """Whether a held lock is still the folder's, which its last holder may have moved away."""
    try:
        return os.path.samestat(os.fstat(lock), os.stat(part / LOCK))
    except FileNotFoundError:
        return False


def _take_back(folder: Path, part: Path) -> None:
    """Move the files of a folder that is not whole to where it is built."""
    if not folder.is_dir():
        return
    (folder / "meta.json").unlink(missing_ok=True)  # first: from now on nobody takes it for whole
    for file in folder.iterdir():
        if file.name != LOCK:
            file.replace(part / file.name)
    shutil.rmtree(folder)


def _remove_abandoned(own: Path) -> None:
    """Remove what killed builders of other folders left here; what is being built stays."""
    _remove_leftovers(own.parent)
    for part in own.parent.glob("*.part"):
        if part == own:
            continue
        try:
            lock = os.open(part / LOCK, os.O_RDWR)
        except OSError:  # killed before it was locked, or just finished
            try:
                part.rmdir()  # only if it is empty
            except OSError:
                pass
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_lock_of(lock, part):
                _discard(part)
        except OSError:  # somebody builds it
            pass
        finally:
            os.close(lock)


def _remove_leftovers(folder: Path) -> None:
    """Remove the temporary folders that killed processes left here (and only those).

    Raises:
        OSError: The folder can not be read.
    """
    for part in folder.glob("*.part-*"):
        owner = part.name.rpartition("-")[2]
        if owner.isdigit() and not _alive_elsewhere(int(owner)):
            shutil.rmtree(part, ignore_errors=True)


def _alive_elsewhere(process: int) -> bool:
    """Whether this is the number of a living process other than this one."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return process != os.getpid()


def _discard(part: Path) -> None:
    """Remove a folder whose lock is held, at once for whoever waits for it."""
    gone = part.with_name(f"{part.name}-{os.getpid()}")
    try:
        part.replace(gone)
    except OSError:
        gone = part
    shutil.rmtree(gone, ignore_errors=True)
