"""What the time holds: the size of the pictures, which networks, how many epochs and repeats.

All networks learn for the same number of epochs, in both forms. Wanted are ENOUGH_EPOCHS of every
network. Where the time does not hold them, pictures are made smaller, then the dearest network is
left out; time beyond that goes into epochs, and then into repeats.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.optim import AdamW

from layerwise.errors import LayerwiseError, ModelError
from layerwise.models.registry import blank, create
from layerwise.studies.planner import median_seconds
from layerwise.training.memory import freed_memory_kept

SIDES = (224, 192, 160, 128, 96, 64, 32)  # pixels; pictures are not enlarged beyond the next one
SMALLEST = 96  # to which larger pictures are made smaller for want of time
ENOUGH_EPOCHS = 5  # of a network that nobody asked for by name
FEWEST_EPOCHS = 2  # of one that somebody did
REPEATS = 3
CLASSIC_SHARE = 0.3  # of the time, taken before any classic model has shown what it takes
SAFETY = 0.8  # of the time is promised to training; several runs at a time slow each other down
BATCH = 8  # pictures of a measured step
LONG = 2.0  # seconds: a step this long is measured once
VALIDATED = 1 / 3  # of a training step's time a picture takes to be answered


@dataclass(frozen=True)
class LeftOut:
    """A model that is not trained, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Allotted:
    """What is trained.

    Attributes:
        networks: Their keys.
        epochs: Of each, in both forms.
        repeats: Of each, with other seeds.
        left_out: What the time does not hold.
    """

    networks: tuple[str, ...]
    epochs: int
    repeats: int
    left_out: tuple[LeftOut, ...] = ()


def sides_for(shorter: float) -> list[int]:
    """Sizes that pictures may be given, the largest first.

    Args:
        shorter: Pixels of the shorter side of the middle picture.
    """
    most = min((side for side in SIDES if side >= shorter), default=SIDES[0])
    return [side for side in SIDES if side == most or SMALLEST <= side < most]


def choose_side(
    sides: Sequence[int],
    networks: Sequence[str],
    cost: Callable[[str, int], float],
    room: float | None,
    *,
    all_of_them: bool,
) -> int:
    """The largest size at which the networks have ENOUGH_EPOCHS in the time; else the smallest.

    Args:
        sides: The largest first.
        networks: Those that decide on the size.
        cost: (network, side) → seconds of an epoch of it, in both forms.
        room: Seconds for all of them; None: no matter how long.
        all_of_them: A size that one of them does not take is none; else that one does not count.

    Raises:
        ModelError: No size is taken by all that have to be.
    """
    taken = []
    for side in sides:
        some = [name for name in networks if takes(name, side)]
        if all_of_them and len(some) < len(networks):
            continue
        taken.append(side)
        if room is None or ENOUGH_EPOCHS * sum(cost(name, side) for name in some) <= room:
            return side
    if not taken:
        tried = ", ".join(map(str, sides))
        raise ModelError(
            f"--models {','.join(networks)}: none of the sizes tried is taken by all of them "
            f"({tried} pixels, by the size of the pictures); name one with --image-size, or leave "
            "one of the networks out"
        )
    return taken[-1]


def takes(model: str, side: int, arguments: Mapping[str, str] | None = None) -> bool:
    """Whether a network takes pictures of a side, in pixels."""
    try:
        blank(model, outputs=1, image_size=side, arguments=arguments)
    except ModelError:
        return False
    return True


def image_seconds(
    model: str, side: int, device: torch.device, arguments: Mapping[str, str] | None = None
) -> float:
    """Seconds that a picture takes in training, measured on noise with torch's threads of now."""
    network = create(model, outputs=1, image_size=side, arguments=arguments)
    module = network.module.to(device).to(memory_format=torch.channels_last).train()
    optimizer = AdamW(module.parameters(), fused=device.type in ("cpu", "cuda"))
    noise = torch.randn((BATCH, network.contract.channels, side, side), device=device)
    noise = noise.contiguous(memory_format=torch.channels_last)

    def step() -> None:
        loss = module(noise).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    with freed_memory_kept(device):
        started = time.perf_counter()
        step()
        first = time.perf_counter() - started
        taken = first if first > LONG else median_seconds(device, step, 2)
    return taken / BATCH


def epoch_seconds(image: float, sizes: Sequence[int], validation: int) -> float:
    """Seconds of one epoch of every form.

    Args:
        image: As of `image_seconds`.
        sizes: Pictures that an epoch of each form learns from.
        validation: Pictures that are answered after it.
    """
    return sum(image * (size + VALIDATED * validation) for size in sizes)


def allot(
    costs: Mapping[str, float],
    names: Mapping[str, str],
    seconds: float | None,
    most: int,
    *,
    epochs: int | None = None,
    repeats: int | None = None,
    quick: bool = False,
    asked: Sequence[str] = (),
) -> Allotted:
    """Networks, epochs and repeats that a time holds.

    Args:
        costs: Seconds of an epoch of both forms by network, in the order in which they are shown.
        names: What people call each.
        seconds: For training; None: no matter how long, `epochs` are given.
        most: Epochs beyond which there is no use.
        epochs: As asked for.
        repeats: As asked for; None: REPEATS where the time holds them, else one.
        quick: One repeat.
        asked: Networks that were asked for by name: they are not left out.

    Raises:
        LayerwiseError: The time is too short for networks that were asked for.
    """
    usual = repeats or (1 if quick else REPEATS)
    if seconds is None:
        return Allotted(tuple(costs), epochs or most, usual)
    room = SAFETY * seconds
    order = sorted(costs, key=lambda name: (name not in asked, costs[name]))
    some: list[str] = []
    for count in range(len(order), 0, -1):
        length = epochs or min(most, int(room // (total(costs, order[:count]) * (repeats or 1))))
        last = count == len(asked)  # none of these may go
        least = 1 if epochs else min(FEWEST_EPOCHS if last else ENOUGH_EPOCHS, most)
        fits = length * (repeats or 1) * total(costs, order[:count]) <= room
        if length >= least and fits:
            some = order[:count]
            break
        if last:
            needed = (epochs or least) * (repeats or 1) * total(costs, asked) / SAFETY
            whom = ", ".join(names[name] for name in asked)
            raise LayerwiseError(
                f"--time is too short: {epochs or least} epochs of {whom}, with and without "
                f"augmentation, would take about {needed / 60:.0f} min of the "
                f"{max(0.0, seconds) / 60:.1f} min that are left for them; give more --time, fewer "
                "--models or --repeats, or a smaller --image-size"
            )
    if not some:
        return Allotted((), 0, 1, tuple(_late(name, names, costs) for name in costs))
    each = total(costs, some)
    if repeats is None:
        wanted = epochs or min(2 * ENOUGH_EPOCHS, most)
        usual = usual if wanted * usual * each <= room else 1
    length = epochs or max(1, min(most, int(room // (each * usual))))
    left = tuple(_late(name, names, costs) for name in costs if name not in some)
    return Allotted(tuple(name for name in costs if name in some), length, usual, left)


def total(costs: Mapping[str, float], some: Sequence[str]) -> float:
    """Seconds of an epoch of all of these; never quite nothing."""
    return max(1e-9, sum(costs[name] for name in some))


def _late(name: str, names: Mapping[str, str], costs: Mapping[str, float]) -> LeftOut:
    needed = max(1, round(ENOUGH_EPOCHS * costs[name] / SAFETY / 60))
    return LeftOut(
        names[name],
        f"the time did not hold {ENOUGH_EPOCHS} epochs of it, about {needed} min for both forms; "
        f"give more --time, or name it with --models {name}",
    )
