"""The depth profile: a linear probe at every main cut, all from one pass over the pictures.

Alain & Bengio 2017 (linear classifier probes); here on the mean over height and width of each
cut's activation. A probe is also a network that can be deployed: everything up to the cut,
copied and frozen, and a linear layer.
"""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerwise.data.storage.rows import Rows
from layerwise.errors import TrainingError
from layerwise.evaluation.intervals import paired_difference
from layerwise.evaluation.metrics import measure
from layerwise.models.cuts import Cut
from layerwise.models.solved.linear import choose_logistic
from layerwise.studies.study import Outcome, Run
from layerwise.studies.workspace import Workspace
from layerwise.training.activations import pooled_at_cuts
from layerwise.training.transfer import Transfer


@dataclass(frozen=True)
class Probe:
    """A cut and what a linear layer on top of it says of the validation part."""

    cut: Cut
    outcome: Outcome


def probe_transfer(cut: str, source: str) -> Transfer:
    """Everything up to the cut copied and frozen, the rest cut off."""
    return Transfer(_source(source), keep=cut, copy=cut, freeze=cut)


def _source(weights: str) -> str:
    """Without weights a probe stands on random filters (Yosinski et al. 2014, §4.3)."""
    return "untrained" if weights == "none" else weights


def profile(work: Workspace) -> list[Probe]:
    """A probe at every main cut, bottom to top; finished ones are read, the rest computed.

    Raises:
        TrainingError: Activations are not finite.
    """
    cuts = work.cuts()
    runs = [_run(work, cut) for cut in cuts]
    found = {run.id: work.runs.find(run) for run in runs}
    if any(outcome is None for outcome in found.values()):
        for run, outcome in zip(runs, _compute(work, cuts, runs), strict=True):
            found[run.id] = outcome
    done = [(cut, found[run.id]) for cut, run in zip(cuts, runs, strict=True)]
    return [Probe(cut, outcome) for cut, outcome in done if outcome is not None]


def _run(work: Workspace, cut: Cut) -> Run:
    transfer = probe_transfer(cut.name, work.weights_name)
    settings = {**work.settings, "transfer": transfer.to_dict(), "classifier": "logistic"}
    return Run(f"frozen to {cut.name}, linear", "probe", settings)


def _compute(work: Workspace, cuts: list[Cut], runs: list[Run]) -> list[Outcome]:
    """All probes that are missing, from one pass that collects every cut."""
    started = time.monotonic()
    work.say(f"one pass over the pictures for a linear probe at each of {len(cuts)} cuts")
    features = features_at_cuts(work, cuts)
    share = (time.monotonic() - started) / len(cuts)
    show = work.track("linear probes")
    out = []
    start = 0
    for index, (cut, run) in enumerate(zip(cuts, runs, strict=True)):
        outcome = work.runs.find(run)
        if outcome is None:
            columns = slice(start, start + cut.channels)
            outcome = _probe(work, cut, run, features, columns, share)
            work.runs.finish(outcome)
        out.append(outcome)
        start += cut.channels
        show(index + 1, len(cuts))
    return out


def features_at_cuts(work: Workspace, cuts: list[Cut]) -> Rows:
    """Pooled activations (N, sum of the cuts' channels) of every picture; cached."""
    network = work.network(Transfer(_source(work.weights_name)))
    return pooled_at_cuts(
        network.pixels,
        network.original,
        [cut.name for cut in cuts],
        work.store,
        identity=work.identity,
        folder=work.cache,
        device=work.device,
        threads=work.threads,
        progress=work.track("one pass for every cut"),
    )


def _probe(
    work: Workspace, cut: Cut, run: Run, features: Rows, columns: slice, pass_seconds: float
) -> Outcome:
    """A linear layer on one cut's pooled activations."""

    def read(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        found = features.read((rows, columns))
        if not np.isfinite(found).all():
            raise TrainingError(
                f"the activations at {cut.name} are not finite for some images: the weights do not "
                "belong to this network; name other ones with --weights, or check --model-arg"
            )
        return found

    started = time.monotonic()
    train, validation = work.rows("train"), work.rows("val")
    targets = work.manifest.targets
    groups = np.asarray(work.manifest.groups(), dtype=str)
    model = choose_logistic(
        read,
        train,
        targets[train],
        groups[train],
        work.manifest.task,
        seed=work.seed,
        importance=work.importance_of("train"),
    )
    logits = model.logits(read(validation))
    return Outcome(
        run,
        round(pass_seconds + time.monotonic() - started, 3),
        cut.parameters + model.weight.size + model.bias.size,
        work.predictions(validation, logits),
        {"cut": cut.name, "C": model.penalty},
        {"head.linear.weight": model.weight, "head.linear.bias": model.bias},
    )


def best_probe(work: Workspace, probes: list[Probe]) -> Probe:
    """The probe with the highest validation AUROC; the lower cut of two equal ones."""
    return max(probes, key=lambda p: (auroc(work, p.outcome), -p.cut.parameters))


def smallest_equal(work: Workspace, probes: list[Probe]) -> Probe:
    """The lowest cut whose probe is not measurably worse than the best one.

    That is: the 95% interval of the paired difference of AUROC on validation, resampled by
    patient, reaches 0.
    """
    best = best_probe(work, probes)
    for probe in probes:
        if probe is best:
            break
        a, b = best.outcome.validation, probe.outcome.validation
        difference = paired_difference(
            "auroc",
            work.manifest.task,
            a.targets,
            a.scores,
            b.scores,
            a.groups,
            counts=work.importance_of("val"),
            seed=work.seed,
        )
        if difference["low"] <= 0:
            return probe
    return best


def auroc(work: Workspace, outcome: Outcome) -> float:
    """Validation AUROC of a run; −1 where it is undefined."""
    said = outcome.validation
    threshold = None if work.manifest.task == "multiclass" else 0.5
    counts = work.importance_of("val")
    value = measure(work.manifest.task, said.targets, said.scores, threshold, counts)["auroc"]
    return -1.0 if np.isnan(value) else value
