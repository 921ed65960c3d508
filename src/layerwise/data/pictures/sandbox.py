"""A decoder that may crash or hang, in a process of its own that is replaced when it does.

Some decoders are C++ that ends the process when a file is damaged in a way its authors did not
think of. Neither a server nor a long run may end by that.
"""

import atexit
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

_LENGTH = 8  # bytes that say how many follow, big endian


class Sandbox:
    """Asks a module (see `serve`) in another process; it is started when it is first asked."""

    def __init__(self, module: str, seconds: float) -> None:
        """Say what to run.

        Args:
            module: Its `__main__` part calls `serve`.
            seconds: What may pass before an answer; after that the process is killed. Its start
                does not count: on a busy machine it may take long.
        """
        self._module, self._seconds = module, seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        atexit.register(self.close)

    def ask(self, question: bytes) -> bytes | None:
        """The answer, or None where the process died of the question or took too long."""
        with self._lock:
            process = self._process = self._process or _start(self._module)
            stdin, stdout = _pipes(process)
            timer = threading.Timer(self._seconds, process.kill)
            timer.start()
            answer = None
            try:
                _send(stdin, question)
                answer = _receive(stdout)
            except OSError:  # it died: the pipe is broken
                pass
            finally:
                timer.cancel()
                if answer is None:
                    self._end()
            return answer

    def close(self) -> None:
        """End the process; the next question starts another."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in _pipes(process):
            try:
                pipe.close()
            except OSError:
                pass


def serve(answer: Callable[[bytes], bytes], refuse: tuple[bytes, ...] = ()) -> None:
    """Answer questions until there are no more; for the process of a `Sandbox`.

    Args:
        answer: From a question to its answer.
        refuse: Texts that libraries write on standard error about what they should not have let
            pass; then the answer is empty.
    """
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    with tempfile.TemporaryFile() as said:
        for number in (1, 2):  # whatever a library prints
            os.dup2(said.fileno(), number)
        _send(answers, b"")
        while (question := _receive(questions)) is not None:
            os.ftruncate(said.fileno(), 0)
            os.lseek(said.fileno(), 0, os.SEEK_SET)
            done = answer(question)
            printed = os.pread(said.fileno(), 1 << 16, 0)
            _send(answers, b"" if any(text in printed for text in refuse) else done)


def _start(module: str) -> "subprocess.Popen[bytes]":
    """Ready, and in a process group of its own, so that Ctrl-C reaches only the one that asks."""
    source = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join(p for p in (source, os.environ.get("PYTHONPATH", "")) if p)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
        process_group=0,
    )
    _receive(_pipes(process)[1])  # what `serve` sends first; nothing, if it could not start
    return process


def _pipes(process: "subprocess.Popen[bytes]") -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None and process.stdout is not None
    return process.stdin, process.stdout


def _send(pipe: IO[bytes], content: bytes) -> None:
    pipe.write(len(content).to_bytes(_LENGTH, "big"))
    pipe.write(content)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> bytes | None:
    """What was sent; None where the other side is gone."""
    length = pipe.read(_LENGTH)
    if len(length) < _LENGTH:
        return None
    size = int.from_bytes(length, "big")
    content = pipe.read(size)
    return content if len(content) == size else None
