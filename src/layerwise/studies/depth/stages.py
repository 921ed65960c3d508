"""The stages of a depth study's training: what each of them trains follows from those before it.

Each stage is written into the plan before its training begins. The time decides how much of a stage
is trained; it is counted in planned seconds, stretched by the pace of earlier stages, so that a
study that was killed and repeated counts as one that was not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path

from layerwise.errors import LayerwiseError
from layerwise.evaluation.estimates import Estimate, estimate
from layerwise.evaluation.predictions import Predictions
from layerwise.models.cuts import Cut
from layerwise.studies.board import Board
from layerwise.studies.depth.costs import pace_of
from layerwise.studies.depth.front import best_of, smallest, standings
from layerwise.studies.depth.plan import (
    ALTERNATIVES,
    FINE,
    DepthPlan,
    Kind,
    LeftOut,
    Stage,
    StageRun,
    write_depth_plan,
)
from layerwise.studies.depth.search import Tried, fine
from layerwise.studies.engine import Done, Engine, Planned
from layerwise.studies.study import Outcome
from layerwise.studies.workspace import Workspace
from layerwise.training.activations import extra_views
from layerwise.training.transfer import Transfer

TASK = "data"  # the one workspace's key
TREATMENTS = {"full": "TL", "truncated": "truncated", "hybrid": "hybrid", "frozen": "frozen"}
NO_TIME = "no time was left for it; give more --time"


@dataclass(frozen=True)
class Candidate:
    """A network that was trained, once or with several seeds.

    Attributes:
        planned: Its first run.
        done: Its runs, one a repeat.
    """

    planned: StageRun
    done: tuple[Done, ...]

    @property
    def kind(self) -> Kind:
        """What it is."""
        return self.planned.kind

    @property
    def transfer(self) -> Transfer:
        """What is kept, copied and frozen."""
        return self.planned.transfer

    @property
    def outcomes(self) -> list[Outcome]:
        """What its runs left, without weights."""
        return [one.outcome for one in self.done if one.outcome is not None]

    @property
    def parameters(self) -> int:
        """Of the whole network."""
        return self.outcomes[0].parameters

    def quality(self, work: Workspace, metric: str) -> Estimate:
        """A metric on the validation part."""
        return quality_of(work, [outcome.validation for outcome in self.outcomes], metric)


def quality_of(work: Workspace, said: Sequence[Predictions], metric: str) -> Estimate:
    """A metric of one network's predictions, one a repeat, of the same images.

    With the study's seed: all estimates of one part are paired.
    """
    first, task = said[0], work.manifest.task
    return estimate(
        metric,
        task,
        first.targets,
        [one.scores for one in said],
        first.groups,
        threshold=None if task == "multiclass" else 0.5,
        seed=work.seed,
    )


class Stages:
    """The stages, one after the other.

    Attributes:
        plan: Grows by a stage at a time, and the file with it.
        failed: Runs that could not be trained, and why.
        engine: Trains.
    """

    def __init__(
        self,
        work: Workspace,
        plan: DepthPlan,
        path: Path,
        order: Sequence[str],
        rungs: Sequence[Cut],
        macs: int,
        board: Board,
    ) -> None:
        """Nothing is trained yet.

        Args:
            work: Data and network.
            plan: As it is in the file.
            path: The file.
            order: Cuts of the coarse stage, the most wanted first.
            rungs: Every cut at which a truncated network may end, bottom to top.
            macs: Multiply–adds of the full network.
            board: Told which runs begin and end.
        """
        self.work, self.plan, self.path, self.order = work, plan, path, list(order)
        self.rungs, self.board = list(rungs), board
        self.macs = {cut.name: cut.macs for cut in rungs} | {work.keep: macs}
        self.engine = Engine({TASK: work}, workers=plan.settings.workers, board=board)
        self.failed: list[tuple[StageRun, str]] = []
        self._done: list[tuple[StageRun, Done]] = []
        self._next = 0  # stage

    def train(self) -> list[Candidate]:
        """Every stage; all networks that were trained, the full one first.

        Raises:
            LayerwiseError: The full network, or every truncated one, could not be trained.
        """
        self._coarse()
        if not self.plan.settings.cuts:
            while self._fine():
                pass
        self._alternatives()
        self._repeats()
        return self.candidates()

    def candidates(self) -> list[Candidate]:
        """All networks that were trained so far, the full one first."""
        found: dict[Transfer, list[tuple[StageRun, Done]]] = {}
        for run, done in self._done:
            found.setdefault(run.transfer, []).append((run, done))
        return [Candidate(each[0][0], tuple(d for _, d in each)) for each in found.values()]

    def _pace(self) -> float:
        """Of the runs so far, whatever commands they were trained by."""
        taken = sum(done.outcome.seconds for _, done in self._done if done.outcome is not None)
        planned = sum(run.seconds for run, done in self._done if done.outcome is not None)
        return pace_of(planned, taken)

    def _stage(
        self,
        name: str,
        wanted: Sequence[StageRun],
        share: float,
        *,
        least: int = 0,
        whole: bool = False,
    ) -> list[StageRun]:
        """Plan a stage, unless it is planned, and train it; the runs that were trained.

        Args:
            name: Of the stage.
            wanted: Its runs, the most wanted one first.
            share: Of the time, by its end.
            least: So many of them in any case.
            whole: All of them or none.
        """
        if self._next == len(self.plan.stages):
            pace = self._pace()
            taken, rest = self.plan.fitting(wanted[least:], share, pace, whole=whole)
            out = tuple(LeftOut(run.transfer.name, NO_TIME) for run in rest)
            stage = Stage(name, (*wanted[:least], *taken), out, pace)
            self.plan = self.plan.with_stage(stage)
            write_depth_plan(self.plan, self.path)
        stage = self.plan.stages[self._next]
        self._next += 1
        counts: dict[str, int] = {}
        cost = {}
        for run in stage.runs:
            treatment = TREATMENTS[run.kind]
            counts[treatment] = counts.get(treatment, 0) + 1
            cost[treatment] = run.seconds
        if stage.runs:
            self.work.say(f"{name}: {len(stage.runs)} runs")
            self.board.expect(counts, cost)
        trained = []
        planned = [
            Planned(TASK, TREATMENTS[r.kind], r.transfer, r.recipe, r.seed, parts=())
            for r in stage.runs
        ]
        for run, done in zip(stage.runs, self.engine.run(planned), strict=True):
            if done.outcome is None:
                self.failed.append((run, done.failure))
                self.work.say(f"{run.transfer.name} failed: {done.failure}")
            else:
                self._done.append((run, done))
                trained.append(run)
        return trained

    def _run(self, kind: Kind, transfer: Transfer, reason: str, *, repeat: int = 0) -> StageRun:
        costs, recipe = self.plan.costs, self.plan.recipe
        macs = self.macs[transfer.keep]
        if kind == "frozen":
            views = extra_views(recipe.augment, recipe.views, vertical_flip=recipe.vertical_flip)
            below = self.macs[transfer.freeze]
            seconds = costs.frozen(macs, below, recipe.epochs, views)
        else:
            seconds = costs.run(macs, recipe.epochs)
        seed = self.work.seed + repeat
        return StageRun(kind, transfer, recipe, seed, round(seconds, 1), reason)

    def _to(self, cut: str) -> Transfer:
        """The network up to a cut, copied; all of it learns."""
        return Transfer(self.work.weights_name, keep=cut, copy=cut)

    def _coarse(self) -> None:
        """The full network, and cuts spread over the depth."""
        full = self._run("full", self._to(self.work.keep), "the reference: every layer is kept")
        why = "asked for" if self.plan.settings.cuts else "one of a few cuts spread over the depth"
        runs = [self._run("truncated", self._to(cut), why) for cut in self.order]
        count = 1 + self.plan.count
        trained = self._stage("coarse", [full, *runs[: count - 1]], 1.0, least=count)
        if full.transfer not in [run.transfer for run in trained] or len(trained) < 2:
            raise LayerwiseError(
                f"{self.failed[0][0].transfer.name}: {self.failed[0][1]}; and without it there is "
                "nothing to compare. Change "
                "its recipe with --recipe (a lower lr, frozen batch_norm), or the data"
            )

    def _tried(self) -> dict[str, Tried]:
        """The truncated networks so far, against the best of them and the full one."""
        some = [c for c in self.candidates() if c.kind in ("full", "truncated")]
        quality = [c.quality(self.work, self.plan.settings.metric) for c in some]
        best = best_of(quality, [c.parameters for c in some])
        standing = standings(quality, best)
        return {
            candidate.transfer.keep: Tried(-1.0 if isnan(q.value) else q.value, s.enough)
            for candidate, q, s in zip(some, quality, standing, strict=True)
            if candidate.kind == "truncated"
        }

    def _fine(self) -> bool:
        """One round around the best; whether another one may follow."""
        main = [cut.name for cut in self.work.cuts()]
        failed = {run.transfer.keep for run, _ in self.failed}
        wanted = [c for c in fine(self.rungs, main, self._tried()) if c not in failed]
        if not wanted:
            return False
        why = "next to the best so far, or between good enough and not"
        runs = [self._run("truncated", self._to(cut), why) for cut in wanted]
        number = sum(stage.name.startswith("fine") for stage in self.plan.stages[: self._next])
        trained = self._stage(f"fine {number + 1}", runs, FINE)
        return len(trained) == len(wanted)

    def _goals(self) -> list[str]:
        """Where alternatives are tried: at the smallest good enough cut, then at the best."""
        tried = self._tried()
        place = {cut.name: i for i, cut in enumerate(self.rungs)}
        enough = sorted((cut for cut in tried if tried[cut].enough), key=lambda cut: place[cut])
        best = max(tried, key=lambda cut: (tried[cut].quality, -place[cut]))
        return list(dict.fromkeys([*enough[:1], best]))

    def _alternatives(self) -> None:
        """Hybrids and partial freezing at the same cut."""
        place = {cut.name: i for i, cut in enumerate(self.rungs)}
        main = [cut.name for cut in self.work.cuts() if cut.name in place]
        runs = []
        for cut in self._goals():
            below = [name for name in main if place[name] < place[cut]]
            if not below:
                continue
            low, high = below[(len(below) - 1) // 3], below[2 * (len(below) - 1) // 3]
            for kind, level in (
                ("frozen", high),
                ("hybrid", low),
                ("frozen", low),
                ("hybrid", high),
            ):
                if kind == "frozen":
                    transfer = replace(self._to(cut), freeze=level)
                    run = self._run("frozen", transfer, f"the layers up to {level} do not learn")
                else:
                    transfer = replace(self._to(cut), copy=level)
                    run = self._run("hybrid", transfer, f"the layers above {level} start at random")
                if run not in runs:
                    runs.append(run)
        self._stage("alternatives", runs, ALTERNATIVES)

    def _repeats(self) -> None:
        """Further seeds of the full network, the best one and the smallest good enough one."""
        for repeat in range(1, self.plan.settings.repeats):
            runs = [
                self._run(one.kind, one.transfer, f"repeat {repeat + 1}", repeat=repeat)
                for one in self._finalists()
            ]
            if len(self._stage(f"repeat {repeat + 1}", runs, 1.0, whole=True)) < len(runs):
                return

    def _finalists(self) -> list[Candidate]:
        """The full network, the best one and the smallest good enough one, of the first runs."""
        some = self.candidates()
        first = [
            quality_of(self.work, [c.outcomes[0].validation], self.plan.settings.metric)
            for c in some
        ]
        best = best_of(first, [c.parameters for c in some])
        chosen = smallest(
            standings(first, best),
            [(c.parameters, self.macs[c.transfer.keep]) for c in some],
            [q.value for q in first],
        )
        return [some[i] for i in dict.fromkeys((0, best, chosen))]
