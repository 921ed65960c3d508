"""The trials of a search: kept in search.db, proposed and pruned by Optuna. Its only user.

Between trials nothing is kept in memory: what is proposed, and what is pruned, follows from the
trials that are over and the number of the new one. So a search that was killed goes on with the
values it would have had, and one trial after the other is made: of several at a time, the order in
which they end would decide what is proposed next.

Every change of the file is one transaction. A trial begins with all of its values at once, so one
that was running when the search was killed is found again whole.
"""

import itertools
import math
import sqlite3
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from layerwise.errors import LayerwiseError
from layerwise.studies.search.space import Dimension, Space, Value

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

NAME = "search"  # of the study in the file
RANDOM = 10  # trials are drawn at random before any are modelled
JUDGED = 5  # finished trials before one is pruned
WARM = 0.2  # of its epochs every trial is given, however bad
DRAWS = 20  # until values are found that no trial has had
RESAMPLES = 30  # of trials, for the intervals of importances
TREES, FEWER_TREES = 64, 8  # of the forest that importances are read from; in each resample
ENOUGH = 4  # finished trials for importances at all
BEGUN = "begun"  # under which the file keeps how often a trial was begun

State = Literal["running", "done", "pruned", "stopped", "failed"]


@dataclass(frozen=True)
class Trial:
    """One trial as the file has it.

    Attributes:
        number: From 0.
        state: "running" (or cut off), "done", "pruned" (it was among the worse half), "stopped"
            (the time was up) or "failed" (it could not be trained).
        values: Of every field of the space, by name.
        score: What it reached; None unless it is done.
        curve: The validation score after every epoch.
        notes: What was kept with it at its end: "run", "seconds", "reason".
    """

    number: int
    state: State
    values: dict[str, Value]
    score: float | None
    curve: tuple[float, ...]
    notes: Mapping[str, Any] = field(default_factory=dict)


class Book:
    """The file search.db."""

    def __init__(self, path: Path, space: Space) -> None:
        """Open it, or make it.

        Raises:
            LayerwiseError: It is no database, or another program's.
        """
        optuna = _optuna()
        self.path, self._space = path, space
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._readable():
            # By a function and not by an address: a path may hold what means something in one.
            self._storage = optuna.storages.RDBStorage(
                "sqlite:///search.db",
                engine_kwargs={"creator": partial(sqlite3.connect, path, timeout=60)},
            )
            self._study = optuna.create_study(
                storage=self._storage, study_name=NAME, direction="maximize", load_if_exists=True
            )
            kept = self._study.user_attrs.get("space")
            if kept is None:
                self._study.set_user_attr("space", space.to_list())
        if kept not in (None, space.to_list()):
            self.close()
            raise LayerwiseError(
                f"{path} is that of a search over other fields or values; remove it, or name "
                "another folder with --out"
            )

    def trials(self) -> list[Trial]:
        """All of them, by number."""
        with self._readable():
            return [_read(one) for one in self._study.get_trials(deepcopy=False)]

    def begin(self, values: Mapping[str, Value]) -> Trial:
        """A new trial, running."""
        optuna = _optuna()
        running = optuna.trial.TrialState.RUNNING
        with self._readable():
            self._study.add_trial(
                optuna.trial.create_trial(
                    state=running, params=dict(values), distributions=_distributions(self._space)
                )
            )
        return self.trials()[-1]

    def report(self, number: int, epoch: int, score: float) -> None:
        """What a running trial scored after an epoch; told before, it stays as it was."""
        with self._readable():
            trial = self._study.get_trials(deepcopy=False)[number]
            if epoch not in trial.intermediate_values:
                self._storage.set_trial_intermediate_value(trial._trial_id, epoch, score)

    def attempt(self, number: int, place: str) -> int:
        """Count that a running trial is being begun; how often it was, from this place.

        Args:
            number: Of the trial.
            place: How far it has come; any text, another one when it comes further.
        """
        with self._readable():
            trial = self._study.get_trials(deepcopy=False)[number]
            before, times = trial.user_attrs.get(BEGUN, ("", 0))
            times = times + 1 if before == place else 1
            self._storage.set_trial_user_attr(trial._trial_id, BEGUN, [place, times])
        return int(times)

    def forget(self, number: int) -> None:
        """A running trial was left in good order: how often it was begun does not count."""
        with self._readable():
            trial = self._study.get_trials(deepcopy=False)[number]
            self._storage.set_trial_user_attr(trial._trial_id, BEGUN, ["", 0])

    def end(self, number: int, state: State, score: float | None = None, **notes: Any) -> None:  # noqa: ANN401 - JSON-able
        """A running trial is over."""
        states = _optuna().trial.TrialState
        over = {"done": states.COMPLETE, "failed": states.FAIL}.get(state, states.PRUNED)
        with self._readable():
            trial = self._study.get_trials(deepcopy=False)[number]
            for name, value in {**notes, "state": state}.items():
                self._storage.set_trial_user_attr(trial._trial_id, name, value)
            self._study.tell(number, score, over)

    def close(self) -> None:
        """Let go of the file."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Errors of the database name the file."""
        from optuna.exceptions import StorageInternalError
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (sqlite3.Error, SQLAlchemyError, StorageInternalError) as error:
            raise LayerwiseError(
                f"{self.path}: can not be used as the search's database ({_first_line(error)}); "
                "remove it and repeat the command: finished runs are kept, and found again"
            ) from error


def propose(space: Space, trials: Sequence[Trial], seed: int) -> dict[str, Value] | None:
    """The values of the next trial, other than those of all before; None: there are no others.

    RANDOM trials are drawn at random, the others by the tree-structured Parzen estimator of all
    fields together (Bergstra et al. 2011; Optuna's). Equal trials and seed, equal values.

    Args:
        space: Of the search.
        trials: All so far, all of them over.
        seed: Of the search.
    """
    optuna = _optuna()
    seen = [trial.values for trial in trials]
    for attempt in range(DRAWS):
        drawn = np.random.SeedSequence([seed, len(trials), attempt]).generate_state(1)
        sampler = optuna.samplers.TPESampler(n_startup_trials=RANDOM, seed=int(drawn[0]))
        study = _study(space, trials, sampler)
        values: dict[str, Value] = study.ask(_distributions(space)).params
        if values not in seen:
            return values
    if space.size is None:
        return values
    return next((v for v in space.combinations() if v not in seen), None)


class Pruner:
    """Says which trial is not worth going on with: the median rule of Golovin et al. 2017, §3.2.

    After an epoch a trial is pruned whose best score so far is below the median of what the
    finished ones had scored in that epoch.
    """

    def __init__(self, space: Space, trials: Sequence[Trial], epochs: int) -> None:
        """For one trial.

        Args:
            space: Of the search.
            trials: Those before it.
            epochs: Of every trial.
        """
        optuna = _optuna()
        self._running = optuna.trial.TrialState.RUNNING
        self._create = optuna.trial.create_trial
        self._pruner = optuna.pruners.MedianPruner(
            n_startup_trials=JUDGED, n_warmup_steps=max(1, math.ceil(WARM * epochs)) - 1
        )
        self._study = _study(space, [t for t in trials if t.state == "done"])

    def hopeless(self, curve: Sequence[float]) -> bool:
        """Whether a trial with these scores so far, one an epoch, is to end here."""
        trial = self._create(state=self._running, intermediate_values=dict(enumerate(curve)))
        return bool(self._pruner.prune(self._study, trial))


def importances(
    space: Space, trials: Sequence[Trial], seed: int
) -> dict[str, tuple[float, float, float]]:
    """How much of the differences between finished trials each field explains, by itself.

    fANOVA (Hutter et al. 2014) by Optuna: a forest is fitted to the scores, and each field's share
    is that of the variance which its own marginal explains; the shares of all fields are scaled to
    the sum 1. A field with log = true counts by its logarithm. The interval is that of RESAMPLES
    resamples of the trials: of few trials it is wide.

    Returns:
        By name, the largest first: (share, low, high); empty where fewer than ENOUGH trials are
        done, or all of them scored the same.
    """
    done = [t for t in trials if t.state == "done" and t.score is not None]
    fields = space.searched
    if len(done) < ENOUGH or not fields:
        return {}
    whole = _shares(fields, done, seed, TREES)
    if whole is None:
        return {}
    generator = np.random.default_rng([seed, len(done)])
    drawn = []
    for _ in range(RESAMPLES):
        rows = generator.integers(0, len(done), len(done))
        shares = _shares(fields, [done[row] for row in rows], seed, FEWER_TREES)
        if shares is not None:
            drawn.append([shares[name] for name in whole])
    sides = np.percentile(drawn, [2.5, 97.5], axis=0) if drawn else np.full((2, len(whole)), np.nan)
    return {
        name: (value, float(low), float(high))
        for (name, value), low, high in zip(whole.items(), *sides, strict=True)
    }


def _shares(
    fields: Sequence[Dimension], trials: Sequence[Trial], seed: int, trees: int
) -> dict[str, float] | None:
    """The share of each field, the largest first; None where all trials scored the same."""
    if len({trial.score for trial in trials}) < 2:
        return None
    optuna = _optuna()
    plain = {d.name: _distribution(d, logarithm=True) for d in fields}
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        optuna.trial.create_trial(
            params={d.name: _plain(d, trial.values[d.name]) for d in fields},
            distributions=plain,
            value=trial.score,
        )
        for trial in trials
    )
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=trees, seed=seed)
    names = [d.name for d in fields]
    try:
        found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=names)
    except RuntimeError:  # a forest in which no tree found anything to split by
        return None
    # The largest first, equal ones in the order of the space.
    return {n: float(found[n]) for n in sorted(names, key=lambda n: (-found[n], names.index(n)))}


def _plain(dimension: Dimension, value: Value) -> Value:
    """A value as importances count it: a logarithm where the field has log = true."""
    if not dimension.log:
        return value
    low, high = math.log(dimension.low), math.log(dimension.high)
    return min(max(math.log(float(value)), low), high)


def _study(space: Space, trials: Sequence[Trial], sampler: "BaseSampler | None" = None) -> "Study":
    """The trials in memory."""
    study: Study = _optuna().create_study(direction="maximize", sampler=sampler)
    study.add_trials(_frozen(space, trial) for trial in trials)
    return study


def _frozen(space: Space, trial: Trial) -> "FrozenTrial":
    """A trial that is over as the sampler is to see it: a failed one as the worst."""
    optuna = _optuna()
    states = optuna.trial.TrialState
    done = trial.state == "done"
    curve = () if trial.state == "failed" else trial.curve
    found: FrozenTrial = optuna.trial.create_trial(
        state=states.COMPLETE if done else states.PRUNED,
        value=trial.score if done else None,
        params=trial.values,
        distributions=_distributions(space),
        intermediate_values=dict(enumerate(curve)),
    )
    return found


def _read(trial: "FrozenTrial") -> Trial:
    states = _optuna().trial.TrialState
    over = {states.COMPLETE: "done", states.FAIL: "failed", states.PRUNED: "pruned"}
    notes = dict(trial.user_attrs)
    said = notes.pop("state", None)
    notes.pop(BEGUN, None)
    state = over.get(trial.state, "running")
    if state == "pruned" and said in ("stopped", "pruned"):
        state = said
    reported = trial.intermediate_values
    epochs = itertools.takewhile(lambda epoch: epoch in reported, itertools.count())
    return Trial(
        trial.number,
        state,  # type: ignore[arg-type]
        dict(trial.params),
        trial.value if state == "done" else None,
        tuple(reported[epoch] for epoch in epochs),
        notes if state != "running" else {},
    )


def _distributions(space: Space) -> "dict[str, BaseDistribution]":
    return {d.name: _distribution(d) for d in space.dimensions}


def _distribution(dimension: Dimension, logarithm: bool = False) -> "BaseDistribution":
    """A field as Optuna has it; with `logarithm`, one with log = true as its logarithm."""
    kinds = _optuna().distributions
    found: BaseDistribution
    if dimension.choices:
        found = kinds.CategoricalDistribution(dimension.choices)
    elif dimension.log and logarithm:
        found = kinds.FloatDistribution(math.log(dimension.low), math.log(dimension.high))
    elif dimension.whole:
        step = int(dimension.step or 1)
        low, high = int(dimension.low), int(dimension.high)
        found = kinds.IntDistribution(low, high, log=dimension.log, step=step)
    else:
        found = kinds.FloatDistribution(
            dimension.low, dimension.high, log=dimension.log, step=dimension.step
        )
    return found


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _optuna() -> types.ModuleType:
    """Optuna, quiet. It takes a second to import, so only a search does."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
