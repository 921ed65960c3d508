"""Keep the memory that a training step frees for the next step; tell when there is no more.

On a CPU every large tensor of a step is asked of the operating system, and given back when it is
freed; each of its pages is then cleared and mapped again in the next step. For a small network on
pictures of 160 pixels that is a sixth of all processor time (bench/finetune.py). The C library of
Linux (glibc) can be told to keep what is freed; see mallopt(3). No computed value changes.
"""

import ctypes
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# The parameters of mallopt, from glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
_WHILE_TRAINING = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, 64 << 20))  # −1: never
# What glibc itself comes to as soon as something large has been freed once.
_AFTERWARDS = (
    (_MMAP_MAX, 65536),
    (_MMAP_THRESHOLD, 32 << 20),
    (_TRIM_THRESHOLD, 64 << 20),
    (_TOP_PAD, 0),
)


@contextmanager
def freed_memory_kept(device: torch.device) -> Iterator[None]:
    """Within it, memory that is freed stays with this process; at its end it is given back.

    It does nothing for a GPU, whose memory torch keeps by itself, nor without glibc.
    """
    library = _glibc() if device.type == "cpu" else None
    if library is None:
        yield
        return
    for parameter, value in _WHILE_TRAINING:
        library.mallopt(parameter, value)
    try:
        yield
    finally:
        for parameter, value in _AFTERWARDS:
            library.mallopt(parameter, value)
        library.malloc_trim(0)


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory, of the machine or of its GPU, was not enough.

    On a CPU PyTorch raises a RuntimeError of which only the words tell.
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    words = "can't allocate memory|cannot allocate memory|out of memory|failed to allocate"
    return isinstance(error, RuntimeError) and bool(re.search(words, str(error), re.IGNORECASE))


def _glibc() -> ctypes.CDLL | None:
    """The C library of this process, if it is glibc."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
