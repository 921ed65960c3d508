"""Memory that a step frees is kept within, and given back after; the values stay the same."""

import resource
import subprocess
import sys

import pytest
import torch

from layerwise.training import memory

SCRIPT = """
import sys, resource, torch
from layerwise.training.memory import freed_memory_kept

def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

def step():
    return float((torch.ones(12 << 20) + 1).sum())  # two tensors of 48 MB

def count():
    before = faults()
    for _ in range(5):
        step()
    return faults() - before

step()
plain, at_first = count(), resident()
with freed_memory_kept(torch.device("cpu")):
    step()
    # The best of three: a busy machine's kernel may take pages back by itself.
    tries = [(count(), resident()) for _ in range(3)]
    kept, inside = min(c for c, _ in tries), max(r for _, r in tries)
step()
after, left = count(), resident()
print(plain, kept, after, at_first, inside, left, step())
"""


@pytest.mark.skipif(memory._glibc() is None, reason="needs glibc")
def test_pages_are_mapped_once_and_given_back():
    """Counted by the kernel: a page that is mapped anew is a minor fault."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True
    )
    plain, kept, after, at_first, inside, left, value = (float(v) for v in done.stdout.split())
    pages = 5 * 2 * (48 << 20) / resource.getpagesize()
    assert value == 2 * (12 << 20)
    assert plain > 0.9 * pages
    assert kept < 0.01 * pages
    assert after > 0.9 * pages  # as before
    assert inside - at_first > 90 << 20
    assert abs(left - at_first) < 20 << 20


def test_a_gpu_and_another_c_library_are_left_alone(monkeypatch):
    def refuse() -> None:
        raise AssertionError("the C library was asked for")

    monkeypatch.setattr(memory, "_glibc", refuse)
    with memory.freed_memory_kept(torch.device("cuda")):
        pass
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    with memory.freed_memory_kept(torch.device("cpu")):
        pass
    monkeypatch.undo()
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert memory._glibc() is None


def test_it_is_given_back_after_an_error(monkeypatch):
    calls: list[tuple[int, ...]] = []

    class Library:
        def mallopt(self, *given: int) -> int:
            calls.append(given)
            return 1

        def malloc_trim(self, pad: int) -> int:
            calls.append((pad,))
            return 1

    monkeypatch.setattr(memory, "_glibc", Library)
    with pytest.raises(ValueError), memory.freed_memory_kept(torch.device("cpu")):
        raise ValueError
    assert tuple(calls) == (*memory._WHILE_TRAINING, *memory._AFTERWARDS, (0,))
