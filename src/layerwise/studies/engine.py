"""The runs of a study, several at a time: each in a process of its own, none of them twice.

Small networks gain little from several threads, and more from several processes of one. A process
that is killed, or whose parent is, leaves a run that goes on where its last checkpoint is, to the
same bits.
"""

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import Any

import torch

from layerwise.errors import LayerwiseError, TrainingError
from layerwise.studies.board import Board
from layerwise.studies.study import Outcome, Run
from layerwise.studies.trained import train, trained_run
from layerwise.studies.workspace import Workspace
from layerwise.training.activations import state_digest
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

TOLD_EVERY = 0.3  # seconds between two words of a worker on how far its run is


@dataclass(frozen=True)
class Planned:
    """One run that a study asks for.

    Attributes:
        task: The workspace it runs in, by its key.
        treatment: What it is counted under.
        transfer: What is kept, copied and frozen.
        recipe: How the rest learns.
        seed: Of order, augmentation and every weight at random; the split has the workspace's.
        source: The finished run whose weights are copied; None: those of the workspace.
        parts: Parts that are predicted beside validation.
        name: What people see of it while it runs; "" takes that of the transfer.
        curves: Keep loss and accuracy on training and validation after every epoch, and the weights
            of the lowest validation loss.
    """

    task: str
    treatment: str
    transfer: Transfer
    recipe: Recipe
    seed: int
    source: Run | None = None
    parts: tuple[str, ...] = ("test",)
    name: str = ""
    curves: bool = False


@dataclass(frozen=True)
class Done:
    """What became of a planned run.

    Attributes:
        planned: What was asked for.
        run: What it was, with its key.
        outcome: Without weights, which stay in the run's folder; None if it failed.
        failure: Why it failed.
        taken: Another study had finished it.
    """

    planned: Planned
    run: Run
    outcome: Outcome | None
    failure: str = ""
    taken: bool = False


class Engine:
    """Runs what studies plan, in as many processes as there are workers."""

    def __init__(self, spaces: Mapping[str, Workspace], *, workers: int, board: Board) -> None:
        """Nothing is started before a run has to be trained.

        Args:
            spaces: By the keys that planned runs name.
            workers: Processes; they share the workspaces' threads. With one, and on a GPU, all
                runs are trained in this process.
            board: Told what begins and ends.
        """
        gpu = any(work.device.type == "cuda" for work in spaces.values())
        self._count = 1 if gpu else max(1, workers)
        self._spaces = {
            key: replace(work, threads=max(1, work.threads // self._count))
            for key, work in spaces.items()
        }
        self._board = board
        self._workers: list[_Worker] = []
        self._digests: dict[str, str] = {}  # of the weights of runs, by their ids
        self._begun = 0  # runs of this command so far

    def space(self, planned: Planned) -> Workspace:
        """The workspace that a planned run is trained in, without the weights of another run."""
        work = replace(self._spaces[planned.task], seed=planned.seed)
        if planned.source is None:
            return work
        run = planned.source
        if run.id not in self._digests:
            self._digests[run.id] = state_digest(work.runs.weights_of(run))
        name = f"run {run.id}"
        return replace(work, weights=None, weights_name=name, weights_digest=self._digests[run.id])

    def run_of(self, planned: Planned) -> Run:
        """What a planned run is, with its key."""
        work, transfer = self.space(planned), _transfer(planned)
        return trained_run(work, transfer, planned.recipe, curves=planned.curves)

    def run(self, planned: Sequence[Planned]) -> list[Done]:
        """Train what is not finished yet; what became of each run, in the order asked for.

        A run whose loss is no number any more has failed; the others go on.

        Raises:
            LayerwiseError: A network, its weights or the disk are at fault; or a worker was
                killed.
        """
        first, self._begun = self._begun, self._begun + len(planned)
        runs = [self.run_of(one) for one in planned]
        done: dict[int, Done] = {}
        again: dict[str, int] = {}  # by id: where an equal run stands in this list
        left = []
        for index, (one, run) in enumerate(zip(planned, runs, strict=True)):
            if run.id in again:
                continue
            again[run.id] = index
            found = self._spaces[one.task].runs.find(run, weights=False)
            if found is not None and not set(one.parts) - set(found.parts):
                done[index] = self._done(one, run, found)
                self._board.started(first + index, one.treatment, one.name or run.name)
                self._board.finished(first + index, found.seconds, found=True)
            else:
                left.append(index)
        if left:
            each = self._train_here if self._count == 1 else self._train_apart
            each(planned, runs, left, first, done)
        for index, (one, run) in enumerate(zip(planned, runs, strict=True)):
            if index not in done:
                done[index] = replace(done[again[run.id]], planned=one)
                self._board.started(first + index, one.treatment, one.name or run.name)
                self._board.finished(first + index, 0.0, found=True)
        return [done[index] for index in range(len(planned))]

    def _done(self, one: Planned, run: Run, outcome: Outcome | None, failure: str = "") -> Done:
        taken = outcome is not None and self._spaces[one.task].runs.taken(run)
        return Done(one, run, outcome, failure, taken)

    def _ended(
        self, index: int, one: Planned, run: Run, outcome: Outcome | None, failure: str
    ) -> Done:
        seconds = 0.0 if outcome is None else outcome.seconds
        self._board.finished(index, seconds, found=False, failed=outcome is None)
        return self._done(one, run, outcome, failure)

    def _train_here(
        self,
        planned: Sequence[Planned],
        runs: Sequence[Run],
        left: Sequence[int],
        first: int,
        done: dict[int, Done],
    ) -> None:
        for index in left:
            one, run, number = planned[index], runs[index], first + index
            self._board.started(number, one.treatment, one.name or run.name)

            def told(step: int, steps: int, number: int = number) -> None:
                self._board.progress(number, step, steps)

            work = replace(self._spaces[one.task], track=_no_track)  # the board shows it
            outcome, failure = _train(work, one, told)
            done[index] = self._ended(number, one, run, outcome, failure)

    def _train_apart(
        self,
        planned: Sequence[Planned],
        runs: Sequence[Run],
        left: Sequence[int],
        first: int,
        done: dict[int, Done],
    ) -> None:
        waiting = list(left)
        while len(self._workers) < min(self._count, len(waiting)):
            self._workers.append(_Worker())
        busy: dict[_Worker, int] = {}
        while waiting or busy:
            for worker in self._workers:
                if waiting and worker not in busy:
                    index = waiting.pop(0)
                    one = planned[index]
                    worker.begin(one, self._spaces[one.task])
                    self._board.started(first + index, one.treatment, one.name or runs[index].name)
                    busy[worker] = index
            ready = set(wait([w.connection for w in busy] + [w.process.sentinel for w in busy], 1))
            for worker in list(busy):
                if not ready & {worker.connection, worker.process.sentinel}:
                    continue
                index = busy[worker]
                words = worker.listen()
                if words[0] == "step":
                    self._board.progress(first + index, words[1], words[2])
                    continue
                del busy[worker]
                one, run = planned[index], runs[index]
                done[index] = self._ended(first + index, one, run, words[1], words[2])


class _Worker:
    """A process that trains one run after another."""

    def __init__(self) -> None:
        # Forks of a server that has imported PyTorch and not used it: its threads do not survive a
        # fork, and an import takes seconds that every worker would spend again.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self.connection, other = context.Pipe()
        self.process: ForkServerProcess = context.Process(target=_serve, args=(other,), daemon=True)
        self.process.start()
        other.close()
        self._known: set[str] = set()
        self._weights: set[str] = set()  # digests of those that it has: each set is sent once

    def begin(self, planned: Planned, work: Workspace) -> None:
        """Hand a run over; the workspace goes with the first run that needs it."""
        known = planned.task in self._known
        self._known.add(planned.task)
        # Neither what shows progress nor the files that pictures came from go to another process.
        labels = work.manifest.replace(pixels=None)
        weights = None
        if work.weights is not None and work.weights_digest not in self._weights:
            # As arrays: of each tensor PyTorch would keep a file open, and there may be thousands.
            weights = {name: tensor.cpu().numpy() for name, tensor in work.weights.items()}
            self._weights.add(work.weights_digest)
        space = replace(work, manifest=labels, say=_nothing, track=_no_track, weights=None)
        self.connection.send((planned, None if known else space, weights))

    def listen(self) -> tuple[Any, ...]:
        """("step", made, all) or ("end", outcome, failure).

        Raises:
            LayerwiseError: What the worker met with, or that it is gone.
        """
        try:
            words: tuple[Any, ...] = self.connection.recv()
        except EOFError as error:
            self.process.join()
            raise LayerwiseError(
                f"a worker process has ended with code {self.process.exitcode}, probably for want "
                "of memory; repeat the command with fewer --workers: finished runs are kept"
            ) from error
        if words[0] == "error":
            raise words[1]
        return words


def _serve(connection: Connection) -> None:
    """The work of a worker process, until its parent has no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent ends us
    threading.Thread(target=_die_with_parent, daemon=True).start()
    spaces: dict[str, Workspace] = {}
    kept: dict[str, dict[str, torch.Tensor]] = {}  # weights by their digest
    while True:
        try:
            planned, space, weights = connection.recv()
        except EOFError:
            return
        if weights is not None:
            kept[space.weights_digest] = {n: torch.from_numpy(w) for n, w in weights.items()}
        if space is not None:
            spaces[planned.task] = replace(space, weights=kept.get(space.weights_digest))
        work = spaces[planned.task]
        torch.set_num_threads(work.threads)
        told = [0.0]

        def tell(step: int, steps: int, told: list[float] = told) -> None:
            if time.monotonic() - told[0] > TOLD_EVERY:
                told[0] = time.monotonic()
                connection.send(("step", step, steps))

        try:
            connection.send(("end", *_train(work, planned, tell)))
        except LayerwiseError as error:
            connection.send(("error", error))
        except Exception:  # a defect: its traceback would else be lost
            connection.send(("error", RuntimeError(traceback.format_exc())))


def _die_with_parent() -> None:
    """A parent that was killed is not to leave workers who write into its runs."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _train(
    work: Workspace, planned: Planned, tell: Callable[[int, int], None]
) -> tuple[Outcome | None, str]:
    """Train a planned run: its outcome without weights, or why it failed."""
    work = replace(work, seed=planned.seed)
    if planned.source is not None:
        weights = work.runs.weights_of(planned.source)
        work = replace(
            work,
            weights=weights,
            weights_name=f"run {planned.source.id}",
            weights_digest=state_digest(weights),
        )
    try:
        # One that learns little, on layers frozen too high up, is a finding and not an error.
        outcome = train(
            work,
            _transfer(planned),
            planned.recipe,
            tell,
            check=False,
            parts=planned.parts,
            curves=planned.curves,
        )
    except TrainingError as error:
        return None, str(error)
    return replace(outcome, weights={}), ""


def _transfer(planned: Planned) -> Transfer:
    """The transfer with its source by the one name that all studies give it."""
    if planned.source is None:
        return planned.transfer
    return replace(planned.transfer, source=f"run {planned.source.id}")


def _nothing(_words: str) -> None:
    """Say nothing."""


def _no_track(_title: str) -> Callable[[int, int], None]:
    """Show no progress."""
    return _no_progress


def _no_progress(_done: int, _total: int) -> None:
    """Show nothing."""
