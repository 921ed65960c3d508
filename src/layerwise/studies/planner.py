"""From the data's fingerprint, the probes and a short calibration to the runs worth their time.

Three questions are put, each a transfer, and the time left is shared between them:

1. *Freeze:* everything is kept, the layers below a cut are frozen and their activations cached.
   The cut is the lowest above which the share of time pays for enough epochs.
2. *Fine-tune:* everything is kept and everything learns.
3. *Cut off:* the network ends at the lowest cut whose probe is not measurably worse than the
   best (Peng et al. 2021, §4, with the depth measured instead of tried), and learns.

With `--keep CUT`, "everything" is what lies below that cut.

How long a step takes is measured on this machine before anything is promised.
"""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from layerwise.data.augment import count_views
from layerwise.data.balance import Balance, Epochs, describe
from layerwise.data.manifest import Manifest
from layerwise.models.cuts import Cut, truncate
from layerwise.models.pixels import InputContract
from layerwise.models.registry import Network
from layerwise.studies.compile_trial import with_compiling
from layerwise.studies.plan import PlannedRun
from layerwise.studies.prepare import Request, kept_cut
from layerwise.studies.profile import Probe, auroc, best_probe, smallest_equal
from layerwise.studies.workspace import Workspace
from layerwise.training.activations import Runner, extra_views
from layerwise.training.memory import freed_memory_kept
from layerwise.training.network import TransferNetwork
from layerwise.training.recipe import Recipe, make_optimizer
from layerwise.training.transfer import Transfer

SHARES = {"freeze": 0.30, "cut off": 0.20}  # of the time left; fine-tuning has the rest
FINE_TUNING = 0.45  # of the whole time is what fine-tuning may count on at the least
ENOUGH_EPOCHS = 5  # of a frozen transfer; with fewer, more is frozen
SIZE_EPOCHS = 3  # of fine-tuning that the size of the pictures must allow
SMALLEST = 96  # pixels; nor are pictures made smaller than half the network's own size
FEWEST_EPOCHS = 2  # a run of fewer is not worth starting
CHECK_STEPS = 12  # what the checks before training cost, in steps
SAFETY = 0.85  # of the time is promised; machines are noisy


@dataclass(frozen=True)
class Speed:
    """What a transfer costs here, in seconds."""

    step: float  # one training step
    bottom: float  # one image through the frozen bottom; 0 without one
    evaluate: float  # one image through what is evaluated after each epoch


def image_size_for(
    request: Request, network: Network, manifest: Manifest, device: torch.device
) -> int:
    """The largest of the network's own size and smaller ones that the time allows.

    Fine-tuning every layer is the dearest thing that may be planned; at the chosen size its share
    of the time holds at least SIZE_EPOCHS passes over the training part. A few steps are timed at
    each size, the largest first, until one is fast enough. A network that takes its own size only
    (LeNet-5, most transformers) keeps it.
    """
    contract = network.contract
    images = _images_an_epoch(request, manifest)
    share = request.seconds * FINE_TUNING * SAFETY / SIZE_EPOCHS
    module = network.module.to(device).to(memory_format=torch.channels_last).train()
    smallest = min(contract.height, max(SMALLEST, contract.height // 2))
    side = contract.height
    if not _takes(module, contract, smallest, device):
        return side
    if (keep := kept_cut(request, network)) != "all":
        module = truncate(module, keep)
    while side - 32 >= smallest and _image_seconds(module, contract, side, device) * images > share:
        side -= 32
    return side


def _takes(module: nn.Module, contract: InputContract, side: int, device: torch.device) -> bool:
    """Whether a network made for one size of pictures takes another."""
    try:
        with torch.no_grad():
            module(torch.zeros((2, contract.channels, side, side), device=device))
    except (RuntimeError, AssertionError):  # shapes that do not fit; timm asserts
        return False
    return True


def _image_seconds(
    module: nn.Module, contract: InputContract, side: int, device: torch.device
) -> float:
    """Seconds of a training step for each image of this size."""
    noise = torch.randn((16, contract.channels, side, side), device=device)
    noise = noise.contiguous(memory_format=torch.channels_last)

    def step() -> None:
        module(noise).square().mean().backward()

    return median_seconds(device, step, 2) / len(noise)


def _images_an_epoch(request: Request, manifest: Manifest) -> int:
    """What one pass will see; about 0.7 of all where the training part is not known yet."""
    given = manifest.indices("train")
    rows = given if len(given) else np.arange(len(manifest))
    size = Epochs(request.balance, manifest.targets, rows, request.seed).size
    return size if len(given) else round(0.7 * size)


def most_epochs(images: int) -> int:
    """A sensible upper limit: few images need many passes, many images few."""
    return int(np.clip(math.ceil(60_000 / images), 12, 100))


def base_recipe(
    work: Workspace, augment: str, balance: Balance = "weights", vertical_flip: bool = False
) -> Recipe:
    """The recipe all planned runs begin with."""
    images = len(work.rows("train"))
    return Recipe(
        batch=32 if images >= 640 else 16 if images >= 64 else 4,
        augment=augment,  # type: ignore[arg-type]
        balance=balance,
        vertical_flip=vertical_flip,
        label_smoothing=0.1,
        copied_lr=0.3 if work.weights is not None else 1.0,
        layer_decay=0.9 if work.weights is not None else 1.0,
    )


def plan_training(
    work: Workspace, probes: list[Probe], base: Recipe, seconds: float
) -> tuple[list[PlannedRun], list[str]]:
    """The runs for the seconds that are left, and the reasons in sentences.

    A share that is not used up goes to the next run; fine-tuning everything, the dearest one,
    gets what the others leave. Time that is left even then shows what transfer is worth: the same
    network from random weights.
    """
    best, equal = best_probe(work, probes), smallest_equal(work, probes)
    reasons = [_profile_sentence(work, best, equal), *_training_sentences(work, base)]
    plan = _Allotment(work, base, seconds * SAFETY)
    if work.weights is None:
        why = "no weights were given, so every layer starts at random"
        return [plan.fit(Transfer(keep=work.keep, copy="none"), plan.left, why)], reasons
    whole = Transfer(work.weights_name, keep=work.keep, copy=work.keep)
    below_last = [probe.cut for probe in probes[:-1]]
    frozen = plan.frozen(whole, below_last, plan.budget * SHARES["freeze"])
    planned = [frozen]
    shorter = None
    if equal.cut.name != probes[-1].cut.name:
        why = (
            f"above {equal.cut.name} no probe is measurably better, so the rest may be cut off: "
            f"{equal.cut.parameters:,} of {probes[-1].cut.parameters:,} parameters stay"
        )
        transfer = replace(whole, keep=equal.cut.name, copy=equal.cut.name)
        shorter = plan.fit(transfer, plan.budget * SHARES["cut off"], why)
    else:
        reasons.append("The probes get better up to the last cut, so no shorter network is tried.")
    everything = plan.fit(whole, plan.left, "every layer starts from the source")
    if everything.left_out and plan.left > frozen.seconds:
        plan.left += 0.0 if frozen.left_out else frozen.seconds
        planned = [plan.frozen(whole, below_last, plan.left)]
    planned.append(everything)
    if shorter is not None:
        planned.append(shorter)
    if not everything.left_out and plan.left > everything.seconds:
        why = "time is left to see what the same network reaches from random weights"
        plan.base = replace(base, copied_lr=1.0, layer_decay=1.0)
        random = Transfer(keep=work.keep, copy="none")
        planned.append(plan.fit(random, everything.seconds * 1.05, why))
    return planned, reasons


class _Allotment:
    """Time that is shared out: runs are fitted into parts of it."""

    def __init__(self, work: Workspace, base: Recipe, budget: float) -> None:
        self.work, self.base = work, base
        self.epochs = Epochs(base.balance, work.manifest.targets, work.rows("train"), work.seed)
        self.budget = self.left = budget
        self._stop = time.monotonic() + budget
        self._speeds: dict[Transfer, Speed] = {}

    def frozen(self, whole: Transfer, cuts: list[Cut], share: float) -> PlannedRun:
        """Freeze below the lowest cut above which the share pays for enough epochs."""
        enough = min(ENOUGH_EPOCHS, most_epochs(self.epochs.size))
        for cut in _stages(cuts):
            why = (
                f"the layers up to {cut.name} are frozen and computed once; what is above learns "
                "in many cheap passes"
            )
            run = self._planned(replace(whole, freeze=cut.name), share, why)
            if not run.left_out and run.recipe.epochs >= enough:
                return self._take(run)
        why = "everything but the classifier is frozen"
        return self.fit(replace(whole, freeze="all"), share, why)

    def fit(self, transfer: Transfer, share: float, why: str) -> PlannedRun:
        """A run whose epochs fit a share; left out where even the fewest do not."""
        run = self._planned(transfer, min(share, self.left), why)
        if run.left_out:
            return run
        started = time.monotonic()
        steps = run.recipe.epochs * max(1, self.epochs.size // run.recipe.batch)
        run = with_compiling(self.work, run, steps, self._speeds[transfer].step)
        self.left -= time.monotonic() - started
        return self._take(run)

    def _take(self, run: PlannedRun) -> PlannedRun:
        self.left -= 0.0 if run.left_out else run.seconds
        return run

    def _planned(self, transfer: Transfer, share: float, why: str) -> PlannedRun:
        work, base = self.work, self.base
        if transfer not in self._speeds:
            if time.monotonic() > self._stop:
                late = "no time was left to find out how long it takes; give more --time"
                return PlannedRun(transfer, base, why, 0.0, late)
            with freed_memory_kept(work.device):  # as in training
                self._speeds[transfer] = measure_speed(work, transfer, base)
        speed = self._speeds[transfer]
        steps, augmented = max(1, self.epochs.size // base.batch), len(self.epochs.augmented)
        epoch = steps * speed.step + len(work.rows("val")) * speed.evaluate
        few = count_views(base.augment, vertical_flip=base.vertical_flip)  # 0: any number
        views = extra_views(base.augment, base.views, vertical_flip=base.vertical_flip)
        views = views if augmented else 0
        fixed = CHECK_STEPS * speed.step
        if speed.bottom:
            plain = len(work.store) * speed.bottom
            affordable = int((share * 0.3 - plain) / max(1e-9, augmented * speed.bottom))
            if views and not few:
                views = int(np.clip(affordable, min(views, 2), 8))
            fixed += plain + views * augmented * speed.bottom
            if views:
                whose = "every image of the smaller classes"
                whose = whose if base.balance == "augment" else "every training image"
                kept = f"{views} augmented views of {whose} are kept"
                if few:
                    kept = f"all {few} views of {whose} are kept"
                why += f"; {kept}"
        epochs = int(np.clip((share - fixed) / epoch, 0, most_epochs(self.epochs.size)))
        recipe = replace(base, epochs=max(1, epochs), views=max(1, views))
        seconds = round(fixed + max(1, epochs) * epoch, 1)
        left_out = ""
        if epochs < FEWEST_EPOCHS:
            needed = fixed + FEWEST_EPOCHS * epoch
            left_out = f"{FEWEST_EPOCHS} epochs would need {needed:.0f} s of {share:.0f} s"
        return PlannedRun(transfer, recipe, why, seconds, left_out)


def _training_sentences(work: Workspace, base: Recipe) -> list[str]:
    """What is done to pictures and classes in training."""
    targets = work.manifest.targets[work.rows("train")]
    said = [describe(base.balance, targets, work.manifest.labels, base.augment)]
    if base.vertical_flip:
        said.append("As asked, half of the augmented pictures are upside down.")
    return said


def _profile_sentence(work: Workspace, best: Probe, equal: Probe) -> str:
    value = auroc(work, best.outcome)
    text = f"The best linear probe stands at {best.cut.name} (validation AUROC {value:.3f})"
    if best.cut is work.cuts()[0]:
        return text + ", the lowest cut of all."
    if equal is best:
        return text + "; every lower one is measurably worse."
    lower = auroc(work, equal.outcome)
    return text + f"; from {equal.cut.name} ({lower:.3f}) upwards none is measurably worse."


def _stages(cuts: list[Cut]) -> list[Cut]:
    """The last cut of every resolution, bottom to top: where cached activations are smallest."""
    after = [*cuts[1:], None]
    return [c for c, n in zip(cuts, after, strict=False) if n is None or n.stride != c.stride]


def measure_speed(work: Workspace, transfer: Transfer, recipe: Recipe) -> Speed:
    """Train a few steps on noise and time them; the weights used are thrown away."""
    network = work.network(transfer)
    shape = (recipe.batch, *work.store.size, work.store.channels)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    images = torch.from_numpy(noise).to(work.device)
    bottom = network.frozen_part()
    bottom_seconds = 0.0
    module: nn.Module = network
    inputs = images
    if bottom is not None:
        module = network.top
        with torch.no_grad():
            inputs = bottom(images).clone()
        runner = Runner(bottom, images[:2].cpu(), work.device, work.threads)
        some = [images[: runner.batch].cpu()] * 2 * runner.lanes
        taken = median_seconds(work.device, lambda: list(runner.map(some)), 2)
        bottom_seconds = taken / sum(map(len, some))
    step = _step_seconds(work, network, module, inputs, recipe)
    module.eval()
    with torch.no_grad():
        evaluate = median_seconds(work.device, lambda: module(inputs), 2) / recipe.batch
    return Speed(step, bottom_seconds, evaluate)


def _step_seconds(
    work: Workspace,
    network: TransferNetwork,
    module: nn.Module,
    inputs: torch.Tensor,
    recipe: Recipe,
) -> float:
    module.train()
    optimizer = make_optimizer(recipe, network)

    def step() -> torch.Tensor:
        loss: torch.Tensor = module(inputs).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss

    return median_seconds(work.device, step, 3)


def median_seconds(device: torch.device, action: Callable[[], object], times: int) -> float:
    """Median wall-clock seconds of an action, after one call that does not count."""
    taken = []
    for _ in range(times + 1):
        started = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:])
