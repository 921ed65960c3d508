"""How far the user's pictures lie from those a network was trained on, by its batch norms.

A batch norm keeps the mean and variance that each of its channels had over the pretraining
pictures. They are what is left of these pictures in the file of weights, so nothing else is needed
to ask how far other pictures lie from them. For each layer, over its channels c,

    KL = mean over c of KL( N(μ, v) ‖ N(m, s) ),  KL(…) = ½ (v/s + (μ − m)²/s − 1 − log v/s)

with mean μ and variance v of the channel over the user's pictures, m and s those that are stored,
and both variances with the layer's own epsilon, as it normalises by.

**Why this direction.** It is the cost of taking the user's activations for the pretraining's, which
is what a frozen batch norm does. The other direction divides by the user's variance: pictures that
are grey leave channels for colours all but constant, and a handful of them are then the whole mean.

**Why the median over layers.** The top layers answer to what is in the pictures, so that two of a
thousand classes have other means there than all thousand, though nothing else differs. The median
layer does not follow them, nor a single odd layer.

**In what unit.** A normal distribution that is shifted by d of its deviations lies d²/2 from where
it was, so √(2 KL) says a distance as such a shift.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from layerwise.errors import TrainingError
from layerwise.evaluation.intervals import percentile_interval, resamples
from layerwise.evaluation.metrics import Floats
from layerwise.studies.workspace import Workspace
from layerwise.training.transfer import Transfer

BATCH = 16  # pictures at a time
MOST, FEWEST = 128, 32  # pictures; each gives hundreds of places a channel
DRAWS = 200  # resamples of the pictures
NONE_THERE = "it has no batch normalisation"
NEVER_FILLED = "its batch norms hold no statistics of any pictures (means of 0, variances of 1)"


@dataclass(frozen=True)
class Layer:
    """One batch norm: how far the user's pictures lie from what it stores."""

    name: str  # its dotted name
    channels: int  # that it normalises
    kl: float  # mean over its channels, nats


@dataclass(frozen=True)
class Distance:
    """How far pictures lie from those a network was trained on."""

    layers: tuple[Layer, ...]  # in the order in which they are computed; none: it can not be said
    shift: float  # √(2 · median over layers); 0 without layers
    low: float  # of its 95% interval, by resampling patients
    high: float  # likewise
    images: int  # pictures that went through the network
    seconds: float  # that one picture took
    why_not: str = ""  # why there are no layers


def distance(work: Workspace, rows: NDArray[np.int64], seconds: float) -> Distance:
    """Send some pictures through the network, and compare what its batch norms see and store.

    Args:
        work: With the source's weights.
        rows: Pictures, in the order in which they are taken; at most MOST are.
        seconds: After which no more are taken, but for the FEWEST.

    Raises:
        TrainingError: Activations are not finite.
    """
    network = work.network(Transfer(work.weights_name)).eval()
    norms = {name: part for name, part in _norms(network.original) if _is_filled(part)}
    why_not = ""
    if not norms:
        why_not = NEVER_FILLED if any(_norms(network.original)) else NONE_THERE
    network(torch.from_numpy(work.store.read(rows[:1])).to(work.device))  # what only once is slow
    started, taken = time.monotonic(), 0
    with _listening(norms) as heard, torch.inference_mode():
        while taken < min(MOST, len(rows)):
            if taken >= FEWEST and time.monotonic() - started > seconds:
                break
            part = rows[taken : taken + BATCH][: MOST - taken]
            network(torch.from_numpy(work.store.read(part)).to(work.device))
            taken += len(part)
    each = (time.monotonic() - started) / taken
    # A part that is not used, or used twice for a picture, has another number of rows.
    moments = {n: _joined(parts) for n, parts in heard.items() if sum(map(_rows, parts)) == taken}
    groups = np.asarray(work.manifest.groups(), dtype=str)[rows[:taken]]
    found = compare(norms, moments, groups, work.seed)
    if not found[0]:
        return Distance((), 0.0, 0.0, 0.0, taken, each, why_not or NONE_THERE)
    layers, shift = found
    return Distance(layers, shift["value"], shift["low"], shift["high"], taken, each)


def compare(
    norms: dict[str, _BatchNorm],
    moments: dict[str, tuple[Floats, Floats]],
    groups: NDArray[np.str_],
    seed: int,
) -> tuple[tuple[Layer, ...], dict[str, float]]:
    """The distance at each batch norm, and over all of them as a shift with its 95% interval.

    Args:
        norms: By name.
        moments: Mean and variance over the places of every picture, (n, C) each, by name.
        groups: (n,) whose pictures they are.
        seed: Of the resamples.
    """
    each = np.concatenate(  # (1 + DRAWS, n): the pictures themselves, then the resamples
        [np.ones((1, len(groups))), *resamples(len(groups), groups, draws=DRAWS, seed=seed)]
    )
    weights = each / each.sum(1, keepdims=True)
    layers, drawn = [], []
    for name, (mean, variance) in moments.items():
        norm = norms[name]
        assert norm.running_mean is not None and norm.running_var is not None
        stored = norm.running_mean.double().cpu().numpy()
        spread = norm.running_var.double().cpu().numpy() + norm.eps
        apart = mean - stored  # small, so that its square does not cancel below
        shifted = weights @ apart  # (1 + DRAWS, C)
        wide = weights @ (variance + apart**2) - shifted**2 + norm.eps
        kl = divergence(shifted, np.maximum(wide, norm.eps), spread)
        layers.append(Layer(name, norm.num_features, float(kl[0])))
        drawn.append(kl)
    if not layers:
        return (), {}
    shifts = np.sqrt(2 * np.median(drawn, axis=0))
    return tuple(layers), percentile_interval(float(shifts[0]), shifts[1:])


def divergence(shifted: Floats, variance: Floats, stored: Floats) -> Floats:
    """Mean over channels of KL(N(shifted, variance) ‖ N(0, stored)): (…, C) → (…)."""
    ratio = variance / stored
    out: Floats = 0.5 * (ratio + shifted**2 / stored - 1 - np.log(ratio)).mean(-1)
    return out


def _norms(network: nn.Module) -> Iterator[tuple[str, _BatchNorm]]:
    """The batch norms that keep statistics."""
    for name, part in network.named_modules():
        if isinstance(part, _BatchNorm) and part.running_mean is not None:
            yield name, part


def _is_filled(norm: _BatchNorm) -> bool:
    """Whether the statistics are of anything: a new norm, or one folded away, has 0 and 1."""
    assert norm.running_mean is not None and norm.running_var is not None
    return bool((norm.running_mean != 0).any() or (norm.running_var != 1).any())


Moments = tuple[Tensor, Tensor]


@contextmanager
def _listening(norms: dict[str, _BatchNorm]) -> Iterator[dict[str, list[Moments]]]:
    """Mean and variance over the places of each picture, (n, C), of whatever reaches the norms."""
    heard: dict[str, list[Moments]] = {name: [] for name in norms}

    def listen(name: str) -> RemovableHandle:
        def hook(_norm: nn.Module, given: tuple[Tensor, ...]) -> None:
            places = given[0].float().reshape(len(given[0]), given[0].shape[1], -1)  # (n, C, P)
            variance, mean = torch.var_mean(places, dim=2, correction=0)
            if not torch.isfinite(mean).all():
                raise TrainingError(
                    f"the activations at {name} are not finite; the weights hold NaN or are those "
                    "of another network: name other ones with --weights"
                )
            heard[name].append((mean.cpu(), variance.cpu()))

        return norms[name].register_forward_pre_hook(hook)

    hooks = [listen(name) for name in norms]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def _rows(moments: Moments) -> int:
    return len(moments[0])


def _joined(parts: list[Moments]) -> tuple[Floats, Floats]:
    """Of all pictures, as float64."""
    mean, variance = (torch.cat(side).double().numpy() for side in zip(*parts, strict=True))
    return mean, variance
