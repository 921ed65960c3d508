"""A study of baselines from what is asked for to what is going to be run."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from layerwise.config import to_mapping
from layerwise.data.manifest import Manifest
from layerwise.errors import LayerwiseError
from layerwise.studies.automatic import first_plan
from layerwise.studies.baselines.budget import (
    CLASSIC_SHARE,
    SAFETY,
    LeftOut,
    choose_side,
    epoch_seconds,
    image_seconds,
    sides_for,
    takes,
)
from layerwise.studies.baselines.lineup import Entrant, entrants, forms, refusal, shown
from layerwise.studies.baselines.pictures import images_an_epoch, shorter_side
from layerwise.studies.baselines.plan import (
    BaselinesPlan,
    read_baselines_plan,
    refuse_changed,
    refuse_other,
    write_baselines_plan,
)
from layerwise.studies.baselines.runs import TRANSFER, Asked, BaselinesStudy, RecipeOf
from layerwise.studies.gain.networks import Candidate, Started, candidates, starts, with_network
from layerwise.studies.prepare import Prepared, Request, prepare
from layerwise.studies.workspace import Say, Track

ANY_SIZE = "cbr-tiny"  # a network that stands for the others while the data are read
CORE = ("lenet5", "cbr-small", "alexnet")  # that the default size of pictures has time for


def prepare_baselines(
    request: Request,
    asked: Asked,
    recipe_of: RecipeOf,
    say: Say,
    track: Track,
    workers: int,
    begun: float | None = None,
) -> BaselinesStudy:
    """Read, check and decide what can be decided before anything is fitted; keep the plan.

    Args:
        request: What is asked for of the data; its network and weights are not looked at.
        asked: What is asked for beside.
        recipe_of: What the flags make of the study's defaults.
        say: Told what is being done.
        track: Makes progress callbacks.
        workers: Processes.
        begun: `time.monotonic()` when the command began; None: now.

    Raises:
        LayerwiseError: Whatever is wrong with flags, networks, weights, data or folder.
    """
    begun = time.monotonic() if begun is None else begun
    path = request.out / "plan.json"
    before = read_baselines_plan(path)
    who = entrants(asked.models)
    guest = _guest(asked)
    identity = _identity(request, asked)
    if before is not None:  # its number of threads is a part of every run's key
        refuse_other(before, identity, request.out)
        request = replace(request, threads=before.threads * workers, image_size=before.image_size)
    named = asked.models is not None
    keys = [e.key for e in who if e.kind == "network"]
    left = [] if request.image_size is None else _too_small(keys, request.image_size, named)
    if guest and request.image_size:
        starts([guest], request.image_size)  # what is wrong with weights is said before decoding

    def size_for(_network: object, manifest: Manifest, device: torch.device) -> int:
        deciding = keys if named else [key for key in CORE if key in keys]
        room = None if asked.seconds is None else asked.seconds * (1 - CLASSIC_SHARE) * SAFETY
        torch.set_num_threads(max(1, request.threads // workers))
        sizes = images_an_epoch(manifest, asked.balance, request.seed)

        def cost(key: str, side: int) -> float:
            return epoch_seconds(image_seconds(key, side, device), *sizes) / workers

        sides = sides_for(shorter_side(manifest, request.seed))
        if guest:
            own = dict(guest.arguments)
            sides = [side for side in sides if takes(guest.model, side, own)] or sides
        return choose_side(sides, deciding, cost, room, all_of_them=named)

    first = replace(request, model=ANY_SIZE, arguments={}, weights="none", keep="all", shared=True)
    prepared = prepare(first, say, track, size_for)
    work = prepared.work
    side = work.image_size[0]
    if request.image_size is None:
        left = _too_small(keys, side, named)
    gone = {one.name for one in left}
    who = [e for e in who if e.name not in gone]
    train = work.manifest.targets[work.rows("train")]
    every, remark = forms(
        prepared.augment, asked.balance, train, vertical_flip=request.vertical_flip
    )
    spaces = {
        e.key: with_network(work, Candidate(e.name, e.key, {}, None), None)
        for e in who
        if e.kind == "network"
    }
    digest, notes = "", [n for n in prepared.notes if guest or "copied first layer" not in n]
    setup = to_mapping(first_plan(first, prepared))
    if guest:
        start = starts([guest], side, work.outputs)[0]
        spaces[TRANSFER] = with_network(work, guest, start)
        digest = spaces[TRANSFER].weights_digest
        who.append(Entrant(TRANSFER, f"{shown(guest.model)}, transfer", "transfer"))
        notes += [f"{guest.model}: {note}" for note in start.notes]
        setup = _setup(first, prepared, guest, start)
    if before is None:
        plan = BaselinesPlan(
            request=identity,
            image_size=side,
            threads=max(1, work.threads // workers),
            data_key=work.data_key,
            weights=digest,
            forms=every,
            setup=setup,
            left_out=tuple(left),
        )
        write_baselines_plan(plan, path)
    else:
        refuse_changed(before, work.data_key, digest, path)
    notes += [remark] if remark else []
    return BaselinesStudy(
        prepared=prepared,
        entrants=tuple(who),
        forms=every,
        networks=spaces,
        asked=asked,
        recipe_of=recipe_of,
        workers=workers,
        path=path,
        notes=tuple(dict.fromkeys(notes)),
        begun=begun,
    )


def _guest(asked: Asked) -> Candidate | None:
    """The network that transfer learning is measured with."""
    if asked.transfer is None:
        if asked.arguments or asked.weights != "pretrained":
            raise LayerwiseError(
                "--weights and --model-arg are those of the network that --transfer names, and "
                "none was named: baselines start at random; name one, like --transfer "
                "timm:mobilenetv2_100"
            )
        return None
    return candidates([asked.transfer], [asked.weights], asked.arguments, None)[0]


def _too_small(keys: Sequence[str], side: int, named: bool) -> list[LeftOut]:
    """Networks that do not take pictures of this size.

    Raises:
        LayerwiseError: One of them was asked for by name.
    """
    out = []
    for key in keys:
        why = refusal(key, side)
        if why and named:
            raise LayerwiseError(f"--models {key} with pictures of {side} pixels: {why}")
        if why:
            out.append(LeftOut(shown(key), f"it takes no pictures of {side} pixels ({why})"))
    return out


def _setup(
    request: Request, prepared: Prepared, guest: Candidate, start: Started
) -> dict[str, Any]:
    """The transfer network with its weights as a plan of `fit`: its runs can be exported."""
    work = with_network(prepared.work, guest, start)
    asked = replace(request, weights=guest.weights or "none")
    return to_mapping(first_plan(asked, replace(prepared, work=work)))


def _identity(request: Request, asked: Asked) -> dict[str, Any]:
    """All flags that decide the result, JSON-able."""
    out = request.identity()
    for name in ("time", "keep", "model", "arguments", "weights", "balance"):
        del out[name]
    own = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(asked).items()}
    return {**out, **own}
