"""Chunks of files handed to worker processes (`decoder`), answers as they come."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from layerwise.data.storage.decoder import answer
from layerwise.data.storage.verify import usable_cores
from layerwise.errors import DataError

CHUNK = 32  # pictures handed to a worker at a time, at most
EACH = 16  # chunks for a worker, at least: none has long to wait for the last one
ALONE = 192  # with fewer pictures than this a worker process does not repay its start,
ALONE_BYTES = 8 * 2**20  # unless their files are large

Answers = Iterator[tuple[list[int], list[Any]]]
Result = tuple[list[int], dict[str, Any]]


def worker_count(workers: int | None, pictures: int, size: int = 0) -> int:
    """How many processes to use: as told, else one a usable core, and none for little work.

    Args:
        workers: What the caller asks for.
        pictures: How many there are.
        size: Bytes of all files that are to be decoded.
    """
    if workers is not None:
        return max(1, workers)
    repaid = 1 + max(pictures // ALONE, size // ALONE_BYTES)
    return min(usable_cores(), repaid, max(1, pictures))


def map_chunks(
    paths: Sequence[str], task: dict[str, Any], workers: int, rows: Sequence[int] | None = None
) -> Answers:
    """Have a task done on paths, in chunks, by several processes (or here, if one is enough).

    Args:
        paths: The files.
        task: What `layerwise.data.storage.decoder` is told beside rows and paths.
        workers: Processes; 1 is this one.
        rows: Which of the paths; by default all.

    Yields:
        (rows, answers) of each chunk as it is done, in any order.

    Raises:
        OSError: What a worker could not write.
        DataError: A worker died; the chunk it worked on is named.
    """
    rows = range(len(paths)) if rows is None else rows
    size = min(CHUNK, max(1, len(rows) // (EACH * workers)))
    parts = ([int(row) for row in rows[at : at + size]] for at in range(0, len(rows), size))
    chunks = ({**task, "rows": part, "paths": [paths[row] for row in part]} for part in parts)
    if workers == 1 or len(rows) <= 1:
        for chunk in chunks:
            yield chunk["rows"], _checked(answer(chunk))
        return
    lock, results = threading.Lock(), queue.Queue[Result | None]()
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
    results: "queue.Queue[Result | None]",
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
            results.put((chunk["rows"], json.loads(line) if line else {"died": chunk["paths"]}))
            if not line:
                return
    finally:
        results.put(None)


def _start() -> "subprocess.Popen[str]":
    """A worker in a process group of its own: Ctrl-C reaches the caller, who ends it."""
    source = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join(p for p in (source, os.environ.get("PYTHONPATH", "")) if p)
    return subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-m",  # -P: nothing in the current folder can pose as a module
            "layerwise.data.storage.decoder",
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
