"""The depth study: how much of a pretrained network is worth keeping (Peng et al. 2021, §4).

Probes at every main cut from one pass; the full network fine-tuned; truncated networks at cuts
found by a two-stage search; hybrids (Raghu et al. 2019, Transfusion) and partial freezing at the
best cut; repeats of the finalists. Every stage is planned, written down and then trained, all of
it within a time. What the networks cost and which one to take: `depth_findings.py`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from layerwise.data.manifest import Manifest
from layerwise.errors import LayerwiseError
from layerwise.models.cuts import Cut, survey
from layerwise.models.presets import presets_of, resolve_keep
from layerwise.models.registry import Network, blank, cuts_of
from layerwise.studies.automatic import first_plan, follow
from layerwise.studies.board import Board
from layerwise.studies.depth.costs import measure_costs
from layerwise.studies.depth.plan import (
    FEWEST_EPOCHS,
    DepthPlan,
    DepthSettings,
    allot,
    read_depth_plan,
    write_depth_plan,
)
from layerwise.studies.depth.search import coarse, ladder
from layerwise.studies.depth.stages import Candidate, Stages
from layerwise.studies.plan import Plan, refuse_other_request
from layerwise.studies.planner import base_recipe, image_size_for, most_epochs
from layerwise.studies.prepare import Prepared, Request, kept_cut, prepare
from layerwise.studies.profile import Probe, auroc, profile, smallest_equal
from layerwise.studies.workspace import Say, Track, Workspace
from layerwise.training.recipe import Recipe
from layerwise.training.resolve import keepable

SAFETY = 0.85  # of the time is promised; machines are noisy
RESERVE = 90.0  # seconds at most for latencies, similarity, the test and the report
RESERVED = 0.15  # of the time, where that is less
SIZE_SHARE = 0.4  # of the time is what a fit would have: the study trains several networks
MakeRecipe = Callable[[str, Recipe], Recipe]


@dataclass(frozen=True)
class Searched:
    """What the training of a depth study left.

    Attributes:
        prepared: Data, workspace, fingerprint, notes.
        stages: The plan, as it was followed, and what failed.
        probes: One a main cut, bottom to top.
        candidates: Every network that was trained; the full one first.
        cuts: All cuts up to where the full network ends, by name.
        macs: Multiply–adds of the full network.
    """

    prepared: Prepared
    stages: Stages
    probes: list[Probe]
    candidates: list[Candidate]
    cuts: dict[str, Cut]
    macs: int

    @property
    def work(self) -> Workspace:
        """What all runs share."""
        return self.prepared.work

    @property
    def plan(self) -> DepthPlan:
        """What was trained and why, and what was left out."""
        return self.stages.plan


def search(
    request: Request,
    settings: DepthSettings,
    make_recipe: MakeRecipe,
    say: Say,
    track: Track,
    board: Board,
) -> Searched:
    """Do the study's training, or go on with it where it stopped.

    Args:
        request: Data, network, weights and time.
        settings: The study's own flags.
        make_recipe: (augmentation, base recipe) → the recipe, with what the user said of it.
        say: Told what is being done, a line each.
        track: Makes a progress callback with a title.
        board: Told which runs begin and end.

    Raises:
        LayerwiseError: Whatever is wrong with the input, or the time is too short for one run;
            nothing computed is lost.
    """
    started = time.monotonic()
    path = request.out / "plan.json"
    settings = replace(settings, cuts=_checked_cuts(request, settings))
    identity = request.identity() | settings.identity()
    plan = read_depth_plan(path) if path.is_file() else None
    if plan is not None:
        refuse_other_request(plan.setup, identity, request.out)
        request = follow(request, plan.setup)

    def size_for(network: Network, manifest: Manifest, device: torch.device) -> int:
        shorter = replace(request, seconds=SIZE_SHARE * request.seconds)
        return image_size_for(shorter, network, manifest, device)

    prepared = prepare(request, say, track, size_for)
    work = prepared.work
    cuts, macs = _survey(work)
    steps = {cut.name for cut in ladder(cuts, work.cuts())} | set(settings.cuts)
    rungs = [cut for cut in cuts if cut.name in steps]
    if not rungs:
        raise LayerwiseError(
            f"{work.model} can not be cut below {work.cuts()[-1].name}, so there is no truncated "
            "network to compare with; choose a deeper --model, or a higher --keep"
        )
    probes = profile(work)
    order = list(settings.cuts) or _coarse_order(work, rungs, probes)
    if plan is None:
        setup = replace(first_plan(request, prepared), request=identity, complete=True)
        plan = _first_plan(setup, settings, work, probes, order, rungs, macs, make_recipe, started)
        write_depth_plan(plan, path)
    _refuse_other_work(plan, work, request)
    stages = Stages(work, plan, path, order, rungs, macs, board)
    candidates = stages.train()
    return Searched(prepared, stages, probes, candidates, {cut.name: cut for cut in cuts}, macs)


def _refuse_other_work(plan: DepthPlan, work: Workspace, request: Request) -> None:
    """A plan holds for the data and weights that it was made with."""
    pairs = (
        ("data", plan.setup.data_key, work.data_key),
        ("weights", plan.setup.weights_digest, work.weights_digest),
    )
    for what, before, now in pairs:
        if before != now:
            raise LayerwiseError(
                f"{request.out / 'plan.json'} was made with other {what} than are there now; put "
                "them back, or name another folder with --out"
            )


def _checked_cuts(request: Request, settings: DepthSettings) -> tuple[str, ...]:
    """What can be said before any picture is decoded: weights, and every cut by its own name."""
    if request.weights == "none":
        raise LayerwiseError(
            "--weights none leaves nothing to transfer, and this study asks how much of a "
            "pretrained network to keep; name a weights file, a run's folder, or pretrained"
        )
    network = blank(
        request.model,
        outputs=1,
        image_size=request.image_size,
        arguments=request.arguments,
    )
    end = kept_cut(request, network)
    names = [cut.name for cut in cuts_of(network)]
    legal = set(names if end == "all" else names[: names.index(end)])
    found: list[str] = []
    for cut in settings.cuts:
        try:
            found.append(keepable(network, resolve_keep(request.model, cut)))
        except LayerwiseError as error:
            raise LayerwiseError(f"--cuts {cut}: {error}") from error
        if found[-1] in ("all", "none", end) or found[-1] not in legal:
            raise LayerwiseError(
                f"--cuts {cut} does not lie below the full network's end ({end}); name lower "
                "cuts, or leave --cuts out and they are searched"
            )
    return tuple(dict.fromkeys(found))


def _survey(work: Workspace) -> tuple[list[Cut], int]:
    """All legal cuts up to where the full network ends, and its multiply–adds."""
    outline = work.outline()
    cuts, macs = survey(outline.module, (outline.contract.channels, *work.image_size))
    end = work.cuts()[-1].name
    upto = cuts[: [cut.name for cut in cuts].index(end) + 1]
    return upto, macs if work.keep == "all" else upto[-1].macs


def _first_plan(
    setup: Plan,
    settings: DepthSettings,
    work: Workspace,
    probes: list[Probe],
    order: list[str],
    rungs: list[Cut],
    macs: int,
    make_recipe: MakeRecipe,
    started: float,
) -> DepthPlan:
    """What follows from the probes and the measured costs, before anything is trained.

    Raises:
        LayerwiseError: The time is too short.
    """
    base = base_recipe(work, setup.augment, setup.balance, setup.vertical_flip)
    recipe = make_recipe(setup.augment, base)
    begun = time.monotonic()
    threads = max(1, work.threads // settings.workers)
    costs = measure_costs(work, rungs, macs, recipe, threads)
    work.say(f"costs of runs measured in {time.monotonic() - begun:.0f} s")
    below = {cut.name: cut.macs for cut in rungs}
    before = time.monotonic() - started
    reserve = min(RESERVE, RESERVED * setup.budget_seconds)
    seconds = max(0.0, (setup.budget_seconds - before - reserve) * SAFETY)
    most = most_epochs(costs.steps * recipe.batch)
    of_order = [below[name] for name in order]
    named = len(presets_of(work.model))
    allotted = allot(costs, macs, of_order, named, seconds, settings, most)
    if allotted is None:
        few = settings.epochs or min(FEWEST_EPOCHS, most)
        count = len(order) if settings.cuts else 1
        needed = sum(costs.run(m, few) for m in (macs, *of_order[:count]))
        minutes = -(-(needed / SAFETY + before) / (1 - RESERVED) // 60)
        raise LayerwiseError(
            f"--time {setup.budget_seconds:.0f}s is too short: {few} epochs of the full network "
            f"and of {count} truncated one{'' if count == 1 else 's'} take about {needed:.0f} s "
            f"here, beside {before:.0f} s for pictures and probes. Give --time {minutes:.0f}m, or "
            "take a smaller --image-size or --model"
        )
    epochs, count = allotted
    equal = smallest_equal(work, probes).cut.name
    why = "what the time holds" if epochs < most else "more are of no use for so many images"
    reasons = [
        f"Every network learns for {epochs} epochs: {'as asked' if settings.epochs else why}.",
        f"From {equal} upwards no probe is measurably worse than the best one.",
    ]
    if settings.cuts:
        reasons.append("The cuts are those asked for; no others are searched.")
    recipe = replace(recipe, epochs=epochs)
    return DepthPlan(setup, settings, round(seconds, 1), costs, recipe, count, tuple(reasons))


def _coarse_order(work: Workspace, rungs: list[Cut], probes: list[Probe]) -> list[str]:
    """The cuts of the coarse stage, the most wanted first."""
    names = {cut.name for cut in rungs}
    main = [cut.name for cut in work.cuts() if cut.name in names] + [work.cuts()[-1].name]
    scores = {probe.cut.name: auroc(work, probe.outcome) for probe in probes}
    named = [preset.cut for preset in presets_of(work.model)]
    return coarse(main, scores, smallest_equal(work, probes).cut.name, named)
