"""What is measured for an advice: probes and LogME at every cut, and those of random filters.

Random filters are the same network, untrained: what its features separate anyway is no merit of
the pretraining (Yosinski et al. 2014, §4.3).
"""

import time
from dataclasses import dataclass, replace

import numpy as np

from layerwise.data.storage.rows import Rows
from layerwise.errors import DataError, TrainingError
from layerwise.evaluation.estimates import Estimate, estimate
from layerwise.evaluation.logme import logme
from layerwise.models.cuts import Cut
from layerwise.studies.profile import Probe, best_probe, features_at_cuts, profile
from layerwise.studies.workspace import Workspace

RANDOM_CUTS = 6  # of random filters: enough to find how far they reach


@dataclass(frozen=True)
class Profile:
    """What linear models make of a network's features, cut by cut.

    Attributes:
        probes: One a cut, bottom to top.
        logme: The evidence at each of these cuts; None where the features are the same for all.
        scores: Validation AUROC of each probe, with its resamples.
        best: Index of the probe with the highest AUROC; of equal ones the lowest.
        seconds: That an image's pass took; 0 where it was cached.
    """

    probes: tuple[Probe, ...]
    logme: tuple[float | None, ...]
    scores: tuple[Estimate, ...]
    best: int
    seconds: float


def measure(work: Workspace) -> Profile:
    """Probe every cut, and the evidence there, from one pass over the pictures.

    Args:
        work: With few enough pictures; without weights the network is one of random filters.

    Raises:
        TrainingError: Activations are not finite.
        DataError: They are the same for every image at every cut.
    """
    cuts = work.cuts()
    started = time.monotonic()
    features = features_at_cuts(work, cuts)
    taken = (time.monotonic() - started) / len(work.store)
    evidence = _evidence(work, cuts, features)
    probes = profile(work)
    scores = tuple(score(work, probe) for probe in probes)
    return Profile(tuple(probes), evidence, scores, probes.index(best_probe(work, probes)), taken)


def measure_random(work: Workspace) -> Profile:
    """The same of the untrained network, at a few cuts spread over it."""
    cuts = work.cuts()
    spread = np.unique(np.linspace(0, len(cuts) - 1, RANDOM_CUTS).round().astype(int))
    untrained = replace(
        work,
        weights=None,
        weights_name="none",
        weights_digest="none",
        _cuts=[cuts[i] for i in spread],
    )
    return measure(untrained)


def score(work: Workspace, probe: Probe) -> Estimate:
    """A probe's validation AUROC; the resamples are the same for all of a workspace."""
    said = probe.outcome.validation
    return estimate(
        "auroc", work.manifest.task, said.targets, [said.scores], said.groups, seed=work.seed
    )


def _evidence(work: Workspace, cuts: list[Cut], features: Rows) -> tuple[float | None, ...]:
    """LogME of the training images at each cut, after a look at what the activations are."""
    train, validation = work.rows("train"), work.rows("val")
    targets = work.manifest.targets[train]
    found: list[float | None] = []
    show = work.track("LogME")
    start = 0
    for number, cut in enumerate(cuts):
        columns = slice(start, start + cut.channels)
        start += cut.channels
        here = features.read((train, columns))
        both = (here, features.read((validation, columns)))
        bad = sum(int((~np.isfinite(part).all(axis=1)).sum()) for part in both)
        if bad:
            raise TrainingError(
                f"the activations at {cut.name} are not finite for {bad} of "
                f"{len(train) + len(validation)} images; the weights hold NaN or do not belong to "
                "this network: name other ones with --weights, or check --model-arg"
            )
        constant = not (here != here[0]).any()
        found.append(None if constant else logme(here, targets, work.manifest.task).value)
        show(number + 1, len(cuts))
    if all(value is None for value in found):
        raise DataError(
            f"{work.manifest.name}: the features of {work.model} are the same for every training "
            "image, at every cut, so nothing can be told from them; look whether the pictures "
            "differ (`layerwise inspect`), or name other --weights"
        )
    return tuple(found)
