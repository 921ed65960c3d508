"""The main job: plan, probe every depth, train what the probes call for, choose, test once."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from layerwise.data.manifest import Manifest
from layerwise.errors import LayerwiseError, TrainingError
from layerwise.evaluation.intervals import bootstrap
from layerwise.evaluation.operating import choose_threshold
from layerwise.evaluation.predictions import Predictions
from layerwise.models.registry import Network
from layerwise.studies.classic_runs import floors
from layerwise.studies.plan import Plan, PlannedRun, read_plan, refuse_other_request, write_plan
from layerwise.studies.planner import base_recipe, image_size_for, plan_training
from layerwise.studies.prepare import Prepared, Request, prepare
from layerwise.studies.profile import Probe, auroc, probe_transfer, profile
from layerwise.studies.study import Outcome
from layerwise.studies.trained import rebuild, test_logits, train
from layerwise.studies.workspace import Say, Track, Workspace
from layerwise.training.network import TransferNetwork
from layerwise.training.transfer import Transfer

MOST_OVER = 1.15  # of the time budget; a run that would break it is left out whole


RESERVE = 45.0  # seconds at most kept for testing, explaining, exporting and reporting


class OutOfTime(Exception):  # noqa: N818 - not an error: a decision of the plan
    """A run would break the time budget; it is left out whole."""


@dataclass(frozen=True)
class Fitted:
    """Everything that `layerwise fit` found out.

    Attributes:
        prepared: Data, workspace, fingerprint, notes.
        plan: What was to be done, and what was left out.
        floors: The baselines.
        probes: One a main cut, bottom to top.
        trained: The planned runs with their outcomes; None where left out.
        chosen: The run with the best validation score.
        transfer: Its transfer.
        network: Its network, in evaluation mode.
        threshold: Chosen on validation.
        validation: The chosen run's intervals on validation.
        said: The chosen run's predictions of the test part.
        test: Its intervals there.
    """

    prepared: Prepared
    plan: Plan
    floors: list[Outcome]
    probes: list[Probe]
    trained: list[tuple[PlannedRun, Outcome | None]]
    chosen: Outcome
    transfer: Transfer
    network: TransferNetwork
    threshold: float | list[float] | None
    said: Predictions
    test: dict[str, Any]

    @property
    def work(self) -> Workspace:
        """What all runs share."""
        return self.prepared.work


def run_automatic(
    request: Request,
    say: Say,
    track: Track,
    *,
    plan_file: Path | None = None,
) -> Fitted:
    """Do the main job, or go on with it where it stopped.

    Args:
        request: What the user asked for.
        say: Told what is being done, a line each.
        track: Makes a progress callback with a title.
        plan_file: A plan to follow instead of making one.

    Raises:
        LayerwiseError: Whatever is wrong with the input; nothing computed is lost.
    """
    started = time.monotonic()
    reserve = min(RESERVE, 0.15 * request.seconds)
    kept = request.out / "plan.json"
    plan = read_plan(plan_file) if plan_file else None
    if kept.is_file():
        before = read_plan(kept)
        wanted = request.identity() if plan is None else plan.request
        refuse_other_request(before, wanted, request.out)
        plan = before if plan is None else plan
    if plan is not None:
        request = follow(request, plan)

    def size_for(network: Network, manifest: Manifest, device: torch.device) -> int:
        return image_size_for(request, network, manifest, device)

    prepared = prepare(request, say, track, size_for)
    work = prepared.work
    if plan is not None:
        _refuse_other_work(plan, work, plan_file or kept)
    else:
        plan = first_plan(request, prepared)
        write_plan(plan, kept)
    floor = floors(work)
    probes = profile(work)
    fresh = not plan.complete
    if fresh:
        left = request.seconds - (time.monotonic() - started) - reserve
        say(f"calibrating: {max(0, left):.0f} s are left for training")
        calibrated = time.monotonic()
        training, reasons = plan_training(
            work,
            probes,
            base_recipe(work, plan.augment, plan.balance, plan.vertical_flip),
            max(0.0, left - reserve / 3),
        )
        plan = replace(
            plan,
            cuts=tuple(p.cut.name for p in probes),
            training=tuple(training),
            reasons=(*plan.reasons, *reasons),
            complete=True,
        )
        say(f"calibrated in {time.monotonic() - calibrated:.0f} s")
    write_plan(plan, kept)
    plan, trained = _train_all(work, plan, kept, started, reserve, fresh)
    transfer, chosen = _choose(work, probes, trained)
    say(f"chosen on validation: {chosen.run.name}")
    network = rebuild(work, transfer, chosen)
    said_before = chosen.validation
    threshold = choose_threshold(
        work.manifest.task,
        said_before.targets,
        said_before.scores,
        said_before.groups,
        seed=work.seed,
    )
    said = _test_once(work, chosen, network)
    test = bootstrap(
        work.manifest.task,
        said.targets,
        said.scores,
        threshold,
        said.groups,
        labels=work.manifest.labels,
        seed=work.seed,
    )
    return Fitted(
        prepared, plan, floor, probes, trained, chosen, transfer, network, threshold, said, test
    )


def follow(request: Request, plan: Plan) -> Request:
    """The request with every setting that the plan fixes."""
    return replace(
        request,
        model=plan.model,
        arguments=dict(plan.arguments),
        weights=plan.weights,
        image_size=plan.image_size,
        letterbox=plan.letterbox,
        augment=plan.augment,
        balance=plan.balance,
        vertical_flip=plan.vertical_flip,
        keep=plan.keep,
        metric=plan.metric,
        seed=plan.seed,
        threads=plan.threads,
    )


def _refuse_other_work(plan: Plan, work: Workspace, path: Path) -> None:
    """A plan holds for the weights it was made with; other data are allowed and said."""
    if plan.weights_digest != work.weights_digest:
        raise LayerwiseError(
            f"{path} was made with other weights than {plan.weights} holds now; put the old file "
            "back, or make a new plan in another --out"
        )
    if plan.data_key != work.data_key:
        work.say(f"{path} was made for other data; its settings are used for these")


def first_plan(request: Request, prepared: Prepared) -> Plan:
    """What is fixed before anything is measured."""
    work = prepared.work
    side = work.image_size[0]
    reasons = []
    if request.image_size is None:
        reasons.append(
            f"Pictures of {side}×{side}: the largest size at which fine-tuning every layer "
            "can see the training part a few times in the time given."
        )
    if work.keep != "all":
        reasons.append(
            f"As asked with --keep {request.keep}, every network ends at {work.keep}: at most "
            f"{work.cuts()[-1].parameters:,} parameters stay beside the classifier, and nothing "
            "above that cut is probed or trained."
        )
    return Plan(
        data=work.manifest.name,
        data_key=work.data_key,
        model=work.model,
        arguments=dict(work.arguments),
        weights=request.weights,
        weights_digest=work.weights_digest,
        image_size=side,
        letterbox=request.letterbox,
        channels=work.store.channels,
        augment=prepared.augment,
        seed=work.seed,
        threads=work.threads,
        budget_seconds=request.seconds,
        fingerprint=prepared.fingerprint,
        request=request.identity(),
        reasons=tuple(reasons),
        balance=request.balance,
        vertical_flip=request.vertical_flip,
        keep=work.keep,
        metric=work.metric,
    )


def _train_all(
    work: Workspace, plan: Plan, kept: Path, started: float, reserve: float, fresh: bool
) -> tuple[Plan, list[tuple[PlannedRun, Outcome | None]]]:
    """Every planned run, in order; what can not be trained is left out whole, and said.

    That is a run that would break the budget: only the sitting that made the plan leaves it out,
    and writes it into the plan, so a resumed or repeated fit does exactly the work that the plan
    says. And a run that fails a check before training, or diverges; where that is all there was
    to train, something is wrong with all of it, and it is an error.

    Raises:
        TrainingError: Runs failed, and none could be trained.
    """
    limit = plan.budget_seconds * MOST_OVER - reserve
    out: list[tuple[PlannedRun, Outcome | None]] = []
    failed: dict[int, TrainingError] = {}
    for index, planned in enumerate(plan.training):
        if planned.left_out:
            work.say(f"left out: {planned.name}: {planned.left_out}")
            out.append((planned, None))
            continue
        work.say(f"training: {planned.name}, {planned.recipe.epochs} epochs")
        begun = time.monotonic()

        try:
            if fresh and (begun - started) + planned.seconds > limit:
                raise OutOfTime(
                    f"it was planned to take {planned.seconds:.0f} s when "
                    f"{max(0.0, limit - (begun - started)):.0f} s were left; give more --time"
                )
            watch = _watch(started, limit) if fresh else None
            outcome = train(work, planned.transfer, planned.recipe, watch)
            out.append((planned, outcome))
        except OutOfTime as reason:
            plan = plan.leave_out(index, str(reason))
            write_plan(plan, kept)
            work.say(f"left out: {planned.name}: {reason}")
            out.append((plan.training[index], None))
        except TrainingError as error:
            failed[index] = error
            work.say(f"left out: {planned.name}: {error}")
            out.append((planned, None))
    if failed and all(outcome is None for _, outcome in out):
        raise next(iter(failed.values()))
    for index, why in failed.items():
        plan = plan.leave_out(index, str(why))
        out[index] = (plan.training[index], None)
    write_plan(plan, kept)
    return plan, out


def _watch(started: float, limit: float) -> Callable[[int, int], None]:
    """A look after every step at when the run would end; raises OutOfTime if that is too late.

    Steps are counted from the first one seen, so that neither a resumed run's earlier steps nor
    the caching of activations before it are taken for slow training.
    """
    first: list[tuple[int, float]] = []

    def watch(step: int, steps: int) -> None:
        now = time.monotonic()
        if not first:
            first.append((step, now))
        made, spent = step - first[0][0], now - first[0][1]
        if made >= 5 and spent > 5:  # enough to judge by
            end = (now - started) + spent / made * (steps - step)
            if end > limit:
                raise OutOfTime(
                    f"it would have ended after {end:.0f} s, and training had to end by "
                    f"{limit:.0f} s; give more --time"
                )

    return watch


def _choose(
    work: Workspace, probes: list[Probe], trained: list[tuple[PlannedRun, Outcome | None]]
) -> tuple[Transfer, Outcome]:
    """The run with the highest validation AUROC; of equal ones the one with fewer parameters."""
    runs = [(probe_transfer(p.cut.name, work.weights_name), p.outcome) for p in probes]
    runs += [(planned.transfer, o) for planned, o in trained if o is not None]
    return max(runs, key=lambda pair: (auroc(work, pair[1]), -pair[1].parameters))


def _test_once(work: Workspace, chosen: Outcome, network: TransferNetwork) -> Predictions:
    """The chosen network on the test part; kept, so that a repeated command does not test again."""
    path = work.runs.place(chosen.run) / "test.npz"
    if path.is_file():
        return Predictions.load(path)
    rows = work.rows("test")
    said = work.predictions(rows, test_logits(work, network, rows))
    said.save(path)
    return said
