"""Chunks of files handed to worker processes (`layerwise.data.decoder`), answers as they come."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from layerwise.data.decoder import answer
from layerwise.errors import DataError

CHUNK = 64  # pictures handed to a worker at a time
ALONE = 192  # with fewer pictures than this a worker process does not repay its start

Answers = Iterator[tuple[int, list[Any]]]


def worker_count(workers: int | None, pictures: int) -> int:
    """How many processes to use: as told, else one a usable core, and none for few pictures."""
    if workers is not None:
        return max(1, workers)
    usable = getattr(os, "sched_getaffinity", None)  # not on every system
    cores = len(usable(0)) if usable else os.cpu_count() or 1
    return 1 if pictures < ALONE else min(cores, 1 + pictures // ALONE)


def map_chunks(paths: list[str], task: dict[str, Any], workers: int) -> Answers:
    """Have a task done on all paths, in chunks, by several processes (or here, if one is enough).

    Args:
        paths: The files.
        task: What `layerwise.data.decoder` is told beside the paths.
        workers: Processes; 1 is this one.

    Yields:
        (start, answers) of each chunk as it is done, in any order.

    Raises:
        OSError: What a worker could not write.
        DataError: A worker died; the chunk it worked on is named.
    """
    chunks = (
        {**task, "start": s, "paths": paths[s : s + CHUNK]} for s in range(0, len(paths), CHUNK)
    )
    if workers == 1 or len(paths) <= CHUNK:
        for chunk in chunks:
            yield chunk["start"], _checked(answer(chunk))
        return
    lock, results = threading.Lock(), queue.Queue[tuple[int, dict[str, Any]] | None]()
    processes = [_start() for _ in range(workers)]
    threads = [
        threading.Thread(target=_feed, args=(process, chunks, lock, results), daemon=True)
        for process in processes
    ]
    try:
        for thread in threads:
            thread.start()
        running = workers
        while running:
            result = results.get()
            if result is None:
                running -= 1
            else:
                yield result[0], _checked(result[1])
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for thread in threads:
            thread.join()
        for process in processes:
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass


def _feed(
    process: "subprocess.Popen[str]",
    chunks: Iterator[dict[str, Any]],
    lock: threading.Lock,
    results: "queue.Queue[tuple[int, dict[str, Any]] | None]",
) -> None:
    """Give one worker chunk after chunk until there are none; at the end put None."""
    assert process.stdin is not None and process.stdout is not None
    try:
        while True:
            with lock:
                chunk = next(chunks, None)
            if chunk is None:
                return
            try:
                process.stdin.write(json.dumps(chunk) + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except (OSError, ValueError):  # it died: the pipe is broken
                line = ""
            results.put((chunk["start"], json.loads(line) if line else {"died": chunk["paths"]}))
            if not line:
                return
    finally:
        results.put(None)


def _start() -> "subprocess.Popen[str]":
    """A worker in a process group of its own: Ctrl-C reaches the caller, who ends it."""
    source = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(p for p in (source, os.environ.get("PYTHONPATH", "")) if p)
    return subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-m",  # -P: nothing in the current folder can pose as a module
            "layerwise.data.decoder",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        process_group=0,
    )


def _checked(result: dict[str, Any]) -> list[Any]:
    """The answers of a chunk, or what went wrong with it as an exception."""
    if "errno" in result:
        raise OSError(result["errno"], result["strerror"])
    if "died" in result:
        first, last = result["died"][0], result["died"][-1]
        raise DataError(
            f"a worker process died while decoding the files from {first} to {last}; free some "
            "memory, or find the file that kills it and remove it"
        )
    found: list[Any] = result["found"]
    return found
