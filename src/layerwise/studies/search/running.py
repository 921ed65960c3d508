"""The search itself: one trial after the other, until there are enough or the time is up."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from layerwise.config import to_mapping
from layerwise.errors import ModelError, TrainingError
from layerwise.evaluation.metrics import measure
from layerwise.evaluation.predictions import Predictions
from layerwise.studies.automatic import first_plan
from layerwise.studies.board import Board
from layerwise.studies.plan import Plan, PlannedRun
from layerwise.studies.search.pace import TRIALS, Budget
from layerwise.studies.search.plan import Ended, SearchPlan, write_search_plan
from layerwise.studies.search.settings import Settings
from layerwise.studies.search.study import SearchStudy
from layerwise.studies.search.trials import Book, Pruner, State, Trial, propose
from layerwise.studies.study import Outcome, Run
from layerwise.studies.trained import train, trained_run
from layerwise.training.loop import OnEpoch

RECENT = 10  # trials whose pace says how long the next one takes
ATTEMPTS = 3  # whose process was killed before the trial came any further; then it has failed
TREATMENT = "trial"


class _Cut(Exception):  # noqa: N818 - not an error: a decision
    """A trial ends before its last epoch."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.state: State = state


@dataclass(frozen=True)
class Made:
    """A trial with what it trained.

    Attributes:
        trial: As in search.db.
        settings: Its network, transfer and recipe.
        run: The run, with its key.
        outcome: Without weights; None unless the trial is done.
    """

    trial: Trial
    settings: Settings
    run: Run
    outcome: Outcome | None


@dataclass(frozen=True)
class Searched:
    """What became of the search.

    Attributes:
        study: What was searched.
        plan: As it is kept now.
        made: Every trial, by number.
        best: The one with the highest score; of equal ones the one with fewer parameters.
        said: What it says of the test part.
    """

    study: SearchStudy
    plan: SearchPlan
    made: tuple[Made, ...]
    best: Made
    said: Predictions


def run_search(
    study: SearchStudy, board: Board, clock: Callable[[], float] = time.monotonic
) -> Searched:
    """Make the trials that are not made yet, and test the best one, once.

    Args:
        study: What is searched.
        board: Told which trials begin and end.
        clock: What the time is measured by; `study.started` is its reading at the beginning.

    Raises:
        TrainingError: Every trial failed.
        LayerwiseError: A network, the disk or the database is at fault.
    """
    book = Book(study.out / "search.db", study.space)
    try:
        plan = _Search(study, book, board, clock).run()
        trials = [t for t in book.trials() if t.state != "running"]
    finally:
        book.close()
    made = tuple(_made(study, trial) for trial in trials)
    done = [one for one in made if one.outcome is not None]
    if not done:
        reasons = [str(t.notes.get("reason", "")) for t in trials if t.state == "failed"]
        raise TrainingError(
            f"none of {len(trials)} trials could be trained to the end: {reasons[0]}"
            if reasons
            else f"none of {len(trials)} trials was trained to the end; give more --time"
        )
    best = max(done, key=lambda one: (one.trial.score, -_parameters(one), -one.trial.number))
    # A finished run, which is only asked for its test part now.
    tested = train(
        study.workspace(best.settings),
        best.settings.transfer,
        best.settings.recipe,
        parts=("test",),
    )
    plan = replace(plan, setup=to_mapping(_setup(study, best)))
    write_search_plan(plan, study.out / "plan.json")
    return Searched(study, plan, made, best, tested.parts["test"])


def fit_plan(searched: Searched) -> Plan:
    """The best trial as a plan of `layerwise fit`, which trains it to the same bits."""
    best = searched.best
    assert best.outcome is not None
    run = PlannedRun(
        best.settings.transfer,
        best.settings.recipe,
        f"the best of {len(searched.made)} trials of a search",
        round(best.outcome.seconds, 1),
    )
    return replace(_setup(searched.study, best), training=(run,), complete=True)


class _Search:
    """The trials of one sitting."""

    def __init__(
        self, study: SearchStudy, book: Book, board: Board, clock: Callable[[], float]
    ) -> None:
        self.study, self.book, self.board, self.clock = study, book, board, clock
        self.asked = study.asked
        trials = book.trials()
        spent = sum(float(t.notes.get("seconds", 0.0)) for t in trials)
        self.budget = Budget(study.request.seconds, spent, study.started, clock)
        self.count = sum(t.state != "running" for t in trials)  # those that are found over

    def run(self) -> SearchPlan:
        """Make trials until there are no more to make; the plan, with why."""
        study = self.study
        sizes = [n for n in (self.asked.trials or TRIALS, study.space.size) if n is not None]
        self.board.expect({TREATMENT: max(self.count, min(sizes))})
        for trial in self.book.trials()[: self.count]:
            self.board.started(trial.number, TREATMENT, _title(trial))
            self.board.finished(trial.number, 0.0, found=True)
        while True:
            trials = self.book.trials()
            if trials and trials[-1].state == "running":
                trial = trials.pop()
            else:
                values, why = self._next(trials)
                if values is None:
                    break
                trial = self.book.begin(values)
            self._make(trial, trials)
        ended = Ended(why, len(trials), self.asked.trials, study.request.seconds)
        plan = replace(study.plan, ended=ended)
        if plan != study.plan:
            write_search_plan(plan, study.out / "plan.json")
        return plan

    def _next(self, trials: Sequence[Trial]) -> tuple[dict[str, Any] | None, str]:
        """The values of the next trial; or None, and why there is none."""
        before = self.study.plan.ended
        if self.asked.trials is not None and len(trials) >= self.asked.trials:
            return None, "trials"
        asked = (self.asked.trials, self.study.request.seconds)
        if before is not None and (before.trials, before.seconds) == asked:
            if len(trials) >= before.count:  # the clock has no say in a repeated command
                return None, before.why
        elif trials and not self.budget.may_begin(self._expected(trials)):
            return None, "time"
        values = propose(self.study.space, trials, self.study.work.seed)
        return values, "space"

    def _expected(self, trials: Sequence[Trial]) -> float:
        """Seconds that the next trial takes, by those before it."""
        seen = [float(t.notes.get("seconds", 0.0)) for t in trials[-RECENT:]]
        return fmean(seen) if seen else 0.0

    def _make(self, trial: Trial, before: Sequence[Trial]) -> None:
        """Train one trial, and keep what became of it."""
        study, number, started = self.study, trial.number, self.clock()
        settings = study.settings(trial.values)
        work = replace(study.workspace(settings), track=_no_track)  # the board shows it
        run = trained_run(work, settings.transfer, settings.recipe)
        self.board.started(number, TREATMENT, _title(trial))
        state: State = "done"
        score, reason = None, ""
        try:
            outcome = work.runs.find(run, weights=False)
            if outcome is None:
                self._count_attempt(trial, work.runs.folder / run.id)
                outcome = train(  # one that learns little is a finding and not an error
                    work,
                    settings.transfer,
                    settings.recipe,
                    lambda step, steps: self.board.progress(number, step, steps),
                    self._listener(trial, before, self.budget),
                    check=False,
                )
            else:  # it counts as it would have, had it been trained here
                self._listener(trial, before, None)(outcome.details["history"])
            score = score_of(study, outcome)
        except _Cut as cut:
            state = cut.state
        except (TrainingError, ModelError) as error:
            state, reason = "failed", str(error)
        except BaseException:  # Ctrl-C, a full disk: not the trial's fault
            self.book.forget(number)
            raise
        seconds = self.clock() - started
        notes: dict[str, Any] = {"seconds": round(seconds, 3), "run": run.id}
        self.book.end(number, state, score, **notes, **({"reason": reason} if reason else {}))
        self.board.finished(number, seconds, found=False, failed=state == "failed")
        study.work.say(f"trial {number} {state}{self._standing(score, before)}")

    def _count_attempt(self, trial: Trial, folder: Path) -> None:
        """Give a trial up that has killed its process again and again, as want of memory does.

        Counted is in the file, so that it outlives the process; and only where nothing was left to
        say why it ended, and neither an epoch nor a checkpoint had been added since.

        Raises:
            TrainingError: It has been tried `ATTEMPTS` times.
        """
        steps = sorted(path.name for path in (folder / "checkpoints").glob("step-*"))
        place = f"epoch {len(trial.curve)} {''.join(steps[-1:])}"
        if self.book.attempt(trial.number, place) > ATTEMPTS:
            raise TrainingError(
                f"its process was killed {ATTEMPTS} times before it came any further, as the "
                "system does where memory runs out; search a smaller batch, network or "
                "--image-size"
            )

    def _standing(self, score: float | None, before: Sequence[Trial]) -> str:
        """As ": 0.953 (best 0.971, trial 3)", for the person who looks on."""
        done = [t for t in before if t.score is not None]
        if score is None:
            return ""
        best = max(done, key=lambda t: (t.score, -t.number), default=None)
        if best is None or best.score is None or score > best.score:
            return f": {score:.3f}, the best so far"
        return f": {score:.3f} (best {best.score:.3f}, trial {best.number})"

    def _listener(self, trial: Trial, before: Sequence[Trial], budget: Budget | None) -> OnEpoch:
        """What is done after every epoch: it is written down, and the trial may end there.

        Of a run that goes on after a kill, epochs that were looked at before are looked at again,
        with the same result.
        """
        epochs = self.study.plan.epochs
        pruner = Pruner(self.study.space, before, epochs) if self.asked.pruner != "none" else None
        may_stop = any(t.state == "done" for t in before)  # else nothing would come of the search
        seen, last = 0, self.clock()

        def on_epoch(history: Sequence[dict[str, float]]) -> None:
            nonlocal seen, last
            curve = [entry["score"] for entry in history]
            for epoch in range(seen, len(curve)):
                if epoch >= len(trial.curve):
                    self.book.report(trial.number, epoch, curve[epoch])
                if epoch + 1 < epochs and pruner and pruner.hopeless(curve[: epoch + 1]):
                    raise _Cut("pruned")
            seen = len(curve)
            taken, last = self.clock() - last, self.clock()
            if budget and may_stop and seen < epochs and budget.must_end(taken):
                raise _Cut("stopped")

        return on_epoch


def score_of(study: SearchStudy, outcome: Outcome) -> float:
    """What a trial counts by: the metric on the validation part.

    Raises:
        TrainingError: It is not defined there.
    """
    said = outcome.validation
    score = measure(study.work.manifest.task, said.targets, said.scores)[study.asked.metric]
    if score != score:
        raise TrainingError(f"{study.asked.metric} is not defined for what the network says")
    return score


def _made(study: SearchStudy, trial: Trial) -> Made:
    settings = study.settings(trial.values)
    work = study.workspace(settings)
    run = trained_run(work, settings.transfer, settings.recipe)
    done = trial.state == "done"
    return Made(trial, settings, run, work.runs.find(run, weights=False) if done else None)


def _setup(study: SearchStudy, best: Made) -> Plan:
    """Data and network of the best trial as in a plan of `fit`: its run can be exported."""
    work = study.workspace(best.settings)
    request = replace(study.request, arguments=dict(best.settings.arguments))
    plan = first_plan(request, replace(study.prepared, work=work))
    recipe = best.settings.recipe
    return replace(
        plan,
        augment=recipe.augment,
        balance=recipe.balance,
        vertical_flip=recipe.vertical_flip,
    )


def _parameters(one: Made) -> int:
    assert one.outcome is not None
    return one.outcome.parameters


def _title(trial: Trial) -> str:
    """As "trial 7: kernel 3, lr 0.012"."""
    words = [
        f"{n} {v:.3g}" if isinstance(v, float) else f"{n} {v}" for n, v in trial.values.items()
    ]
    return f"trial {trial.number}: {', '.join(words)}"


def _no_track(_title: str) -> Callable[[int, int], None]:
    """Show no progress."""
    return lambda _done, _total: None
