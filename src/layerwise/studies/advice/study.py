"""The advisor from what is asked for to the tested advice, within a time (Marcelino 2018, §4)."""

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from layerwise.config import to_mapping
from layerwise.data.manifest import Manifest
from layerwise.errors import WeightsError
from layerwise.models.registry import Network
from layerwise.studies.advice.distance import distance
from layerwise.studies.advice.matrix import QUADRANTS, Likeness, Size, likeness, quadrant, size_of
from layerwise.studies.advice.measure import Profile, measure, measure_random
from layerwise.studies.advice.plan import (
    AdvicePlan,
    keep_advice_plan,
    read_advice_plan,
    refuse_other_work,
)
from layerwise.studies.advice.quick import (
    TASK,
    UNTESTED,
    Checked,
    QuickTest,
    costs,
    plan_quick,
    run_quick,
    sampled,
)
from layerwise.studies.advice.sample import refuse_too_few, sample
from layerwise.studies.advice.strategies import Way, ways
from layerwise.studies.automatic import first_plan
from layerwise.studies.board import Board
from layerwise.studies.engine import Engine
from layerwise.studies.plan import Plan, PlannedRun
from layerwise.studies.planner import base_recipe, image_size_for
from layerwise.studies.prepare import Prepared, Request, prepare
from layerwise.studies.workspace import Say, Track, Workspace

RESERVE = 8.0  # seconds at most that are kept for scoring and the report …
RESERVE_SHARE = 0.08  # … and of the whole time
PIXELS_SHARE = 0.65  # of the time is what the choice of the pictures' size counts with
PIXELS_IMAGES = 400  # that the strategy which learns everything should see a few times
LISTENING = 0.1  # of the time left is what the batch norms may listen for
LOOKING = 0.2  # of the time left is what the passes may take at the pace of that
MOST_TRAIN, MOST_VALIDATION = 1500, 800  # pictures looked at; more would sharpen little
FEWEST = 200  # pictures looked at, however slow the network
VALIDATION = 0.4  # of those looked at


@dataclass(frozen=True)
class Advice:
    """What is advised, why, and what the test of it found.

    Attributes:
        prepared: DATA.
        plan: What the clock decided.
        work: The pictures that were looked at.
        size: Images of each class.
        source: What linear models make of the source's features.
        random: And of random filters.
        like: How similar the data are to the source's.
        quadrant: Of the matrix, 1 to 4.
        ways: The strategies 1, 2 and 3 for these data.
        advised: One of them.
        tested: The quick test.
    """

    prepared: Prepared
    plan: AdvicePlan
    work: Workspace
    size: Size
    source: Profile
    random: Profile
    like: Likeness
    quadrant: int
    ways: tuple[Way, ...]
    advised: Way
    tested: Checked


def advise(request: Request, say: Say, track: Track, board: Board, started: float) -> Advice:
    """Measure, decide, and test what was decided.

    Args:
        request: What is asked for; its `seconds` are for everything.
        say: Told what is being done.
        track: Makes progress callbacks.
        board: Told of the runs of the quick test.
        started: When the command began, by `time.monotonic`.

    Raises:
        LayerwiseError: Whatever is wrong with flags, data, network, weights or folder.
    """
    if request.weights == "none":
        raise WeightsError(
            "--weights none: an advice is about what to do with a pretrained network; name a file, "
            "a run's folder, or pretrained"
        )
    path = request.out / "plan.json"
    plan = read_advice_plan(path, request.identity())
    if plan is not None:
        request = replace(request, image_size=plan.image_size, threads=plan.threads)
    end = started + request.seconds - min(RESERVE, RESERVE_SHARE * request.seconds)

    def size_for(network: Network, manifest: Manifest, device: torch.device) -> int:
        return _size_for(request, network, manifest, device)

    prepared = prepare(request, say, track, size_for)
    whole = prepared.work
    refuse_too_few(whole.manifest)
    if plan is None:
        plan = _first(request, prepared, end - time.monotonic())
    else:
        refuse_other_work(plan, whole.data_key, whole.weights_digest, path)
    keep_advice_plan(plan, path)
    work = sample(whole, plan.train, plan.validation)
    say(f"looking at {_counted(work)}")
    source = measure(work)
    say("the same of random filters, for comparison")
    random = measure_random(work)
    like = likeness(source.scores[source.best], random.scores[random.best], plan.distance)
    size = size_of(whole.manifest)
    place = quadrant(size, like)
    base = base_recipe(whole, prepared.augment, request.balance, request.vertical_flip)
    images = len(whole.rows("train"))
    strategies = ways(whole.weights_name, source, like, base, images)
    advised = next(way for way in strategies if way.strategy == QUADRANTS[place])
    if plan.test is None:
        measured = costs(work, strategies)
        test = plan_quick(work, strategies, measured, end - time.monotonic())
        plan = replace(plan, test=test)
        keep_advice_plan(plan, path)
    assert plan.test is not None
    tested = _test(work, plan.test, advised, board)
    return Advice(
        prepared, plan, work, size, source, random, like, place, strategies, advised, tested
    )


def fit_plan(advice: Advice, request: Request, reasons: tuple[str, ...]) -> Plan:
    """The advised strategy as a plan for `layerwise fit --plan`: all images, all epochs.

    Args:
        advice: What was advised.
        request: What it was asked with.
        reasons: In sentences.
    """
    way = advice.advised
    first = first_plan(replace(request, image_size=advice.plan.image_size), advice.prepared)
    run = PlannedRun(way.transfer, way.recipe, "advised by size and similarity", 0.0)
    return replace(
        first,
        reasons=reasons,
        cuts=tuple(probe.cut.name for probe in advice.source.probes),
        training=(run,),
        complete=True,
    )


def _size_for(request: Request, network: Network, manifest: Manifest, device: torch.device) -> int:
    """As of a `fit`, for as many pictures as the quick test can hope to train with."""
    few = manifest.replace(pixels=None).take(np.arange(min(len(manifest), PIXELS_IMAGES)))
    few = few.replace(split=np.full(len(few), "train", dtype=object))
    quick = replace(request, seconds=PIXELS_SHARE * request.seconds, balance="none")
    return image_size_for(quick, network, few, device)


def _first(request: Request, prepared: Prepared, seconds: float) -> AdvicePlan:
    """The plan up to how many pictures are looked at, by the pace of the first ones.

    Args:
        request: What is asked for.
        prepared: DATA.
        seconds: That are left for everything.
    """
    work = prepared.work
    train, validation = work.rows("train"), work.rows("val")
    work.say("comparing the pictures with those of the pretraining, by the batch norms")
    order = np.random.default_rng(work.seed).permutation(train)
    found = distance(work, order, LISTENING * max(0.0, seconds))
    looked = max(FEWEST, int(LOOKING * max(0.0, seconds) / found.seconds))
    scored = min(len(validation), MOST_VALIDATION, max(int(VALIDATION * looked), FEWEST // 2))
    learnt = min(len(train), MOST_TRAIN, max(looked - scored, FEWEST // 2))
    return AdvicePlan(
        request=request.identity(),
        image_size=work.image_size[0],
        threads=work.threads,
        data_key=work.data_key,
        weights_digest=work.weights_digest,
        train=learnt,
        validation=scored,
        distance=found,
        setup=_setup(request, prepared),
    )


def _setup(request: Request, prepared: Prepared) -> dict[str, Any]:
    """Data and network as a plan of `fit`: the runs can be exported from that."""
    return to_mapping(first_plan(request, prepared))


def _test(work: Workspace, test: QuickTest, advised: Way, board: Board) -> Checked:
    """The quick test, unless there was no time for one."""
    if test.why_not:
        return Checked(test, None, (), {}, (), UNTESTED)
    few = sampled(work, test)
    engine = Engine({TASK: few}, workers=1, board=board)
    board.expect({run.strategy: 1 for run in test.runs}, {r.strategy: r.seconds for r in test.runs})
    work.say(f"the quick test: three strategies, {_counted(few)}")
    return run_quick(engine, few, test, advised.strategy)


def _counted(work: Workspace) -> str:
    """As "1,200 training and 480 validation images"."""
    train, validation = len(work.rows("train")), len(work.rows("val"))
    return f"{train:,} training and {validation:,} validation images"
