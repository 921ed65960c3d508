"""What a finished fit leaves in its folder: results, predictions, report, bundle."""

import csv
import shlex
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerwise.config import to_mapping, write_json
from layerwise.evaluation.intervals import bootstrap, paired_difference
from layerwise.evaluation.predictions import Predictions
from layerwise.reporting.evidence import Evidence, Explanation, ProfilePoint
from layerwise.reporting.report import write_report
from layerwise.reporting.results import finite, on_validation
from layerwise.serving.card import BundleInfo, Preprocessing
from layerwise.serving.explanation.write import NO_PLACES, explained_at
from layerwise.serving.export import export_bundle
from layerwise.serving.origin import data_of, origin_of
from layerwise.serving.reference import statistics_of
from layerwise.studies.automatic import Fitted
from layerwise.studies.cases import Case, cases
from layerwise.studies.classic_runs import floor_on_test
from layerwise.studies.study import Outcome

SAMPLES = 4  # pictures shown of each label
CHECKED = 64  # real pictures on which bundle and network are compared


def deliver(
    fitted: Fitted,
    results: dict[str, Any],
    out: Path,
    command: list[str],
    comparison: list[dict[str, Any]] | None = None,
) -> None:
    """Write results.json, predictions.csv, bundle/ and report.html.

    Args:
        fitted: What was found.
        results: As `results_of` gives them.
        out: The folder.
        command: The words of the command, to show how to repeat it.
        comparison: Of transfer against random initialisation, where it was made.
    """
    write_json(out / "results.json", results)
    write_predictions(out / "predictions.csv", fitted, fitted.said)
    looked = cases(fitted.work, fitted.network, fitted.said, fitted.threshold)
    write_bundle_of(fitted, results, out / "bundle", looked[0])
    evidence = evidence_of(fitted, out, command, comparison, looked)
    write_report(out / "report.html", results, evidence)


def write_predictions(path: Path, fitted: Fitted, said: Predictions) -> None:
    """One row a test image: id, label, a probability for every label, decision."""
    labels = fitted.work.manifest.labels
    scores = said.scores
    if fitted.work.manifest.task == "binary":
        scores = np.concatenate([1 - scores, scores], axis=1)
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "label", *labels, "decision"])
        truth, decided = words(fitted, said)
        for name, true, row, decision in zip(said.ids, truth, scores, decided, strict=True):
            writer.writerow([name, true, *(f"{p:.6f}" for p in row), decision])
    part.replace(path)


def words(fitted: Fitted, said: Predictions) -> tuple[list[str], list[str]]:
    """True and decided labels in words; several of one image joined by |."""
    labels, threshold = fitted.work.manifest.labels, fitted.threshold
    task = fitted.work.manifest.task
    if task == "multilabel":
        has = np.nan_to_num(said.targets.astype(np.float64)) == 1  # (n, K)
        decided = said.scores.astype(np.float64) >= np.asarray(threshold)  # (n, K)
        return _joined(has, labels), _joined(decided, labels)
    best = (
        (said.scores[:, 0].astype(np.float64) >= threshold).astype(int)  # type: ignore[operator]
        if task == "binary"
        else said.scores.argmax(axis=1)
    )
    return [labels[int(t)] for t in said.targets], [labels[b] for b in best]


def _joined(mask: NDArray[np.bool_], labels: tuple[str, ...]) -> list[str]:
    return ["|".join(np.array(labels)[row]) for row in mask]


def write_bundle_of(fitted: Fitted, results: dict[str, Any], folder: Path, cut: str) -> None:
    """Export the chosen network, compared on real pictures of the test part; `cut` explains it."""
    work = fitted.work
    info = BundleInfo(
        name=work.manifest.name,
        task=work.manifest.task,
        labels=work.manifest.labels,
        preprocessing=Preprocessing(
            size=work.image_size, channels=work.store.channels, letterbox=fitted.plan.letterbox
        ),
        threshold=fitted.threshold,
        provenance=origin_of(work, fitted.chosen.run.id, fitted.transfer) | data_of(work),
        scores=results["test"],
        statistics=statistics_of(
            work.manifest, work.store, fitted.chosen.validation, fitted.threshold
        ),
    )
    images = work.store.read(work.rows("test")[:CHECKED])
    explained = explained_at(fitted.network, cut) if cut else NO_PLACES
    gap = export_bundle(folder, fitted.network, info, images, explained=explained)
    work.say(f"bundle written; its probabilities differ from the network's by at most {gap:.1e}")


def evidence_of(
    fitted: Fitted,
    out: Path,
    command: list[str],
    comparison: list[dict[str, Any]] | None,
    looked: tuple[str, list[Case]],
) -> Evidence:
    """What the report shows beside the results; `looked` is what `cases` gave."""
    work = fitted.work
    cut, found = looked
    notes = list(fitted.prepared.notes) + list(fitted.plan.reasons)
    notes += [f"Left out: {p.name}: {p.left_out}." for p in fitted.plan.training if p.left_out]
    if cut:
        notes.append(f"Grad-CAM looks at {cut}, the highest cut whose maps still show places.")
    elif len(fitted.said.ids):
        notes.append(f"No Grad-CAM: {NO_PLACES}.")
    shell = " ".join(shlex.quote(word) for word in command)
    return Evidence(
        task=work.manifest.task,
        labels=work.manifest.labels,
        targets=fitted.said.targets,
        scores=fitted.said.scores,
        threshold=fitted.threshold,
        groups=fitted.said.groups,
        validation_targets=fitted.chosen.validation.targets,
        validation_scores=fitted.chosen.validation.scores,
        profile=_profile(fitted),
        explanations=[Explanation(**vars(case)) for case in found],
        notes=notes,
        fingerprint=fitted.prepared.fingerprint,
        plan=to_mapping(fitted.plan),
        floors=_floors(fitted),
        reproduce=[
            shell,
            f"{shell} --plan {shlex.quote(str(out / 'plan.json'))}",
            f"layerwise predict {shlex.quote(str(out / 'bundle'))} IMAGES",
        ],
        samples=_samples(fitted),
        transfer_comparison=comparison,
    )


def _profile(fitted: Fitted) -> list[ProfilePoint]:
    at = {fitted.transfer.keep, fitted.transfer.freeze}
    return [
        ProfilePoint(
            probe.cut.name,
            probe.cut.channels,
            probe.cut.stride,
            probe.cut.parameters,
            probe.cut.macs,
            finite(on_validation(fitted.work, probe.outcome)["auroc"]),
            probe.cut.name in at,
        )
        for probe in fitted.probes
    ]


def _floors(fitted: Fitted) -> dict[str, dict[str, Any]]:
    """Both baselines on both parts; on the test part also how far the chosen network is above."""
    work = fitted.work
    out: dict[str, dict[str, Any]] = {"validation": {}, "test": {}}
    for outcome in fitted.floors:
        name = outcome.run.name
        out["validation"][name] = finite(on_validation(work, outcome))
        out["test"][name] = finite(_floor_test(fitted, outcome))
    return out


def _floor_test(fitted: Fitted, outcome: Outcome) -> dict[str, Any]:
    task, said = fitted.work.manifest.task, floor_on_test(fitted.work, outcome)
    threshold = None if task == "multiclass" else 0.5
    metrics = bootstrap(task, said.targets, said.scores, threshold, said.groups, draws=500)
    metrics["difference"] = paired_difference(
        "auroc", task, said.targets, fitted.said.scores, said.scores, said.groups
    )
    return metrics


def _samples(fitted: Fitted) -> list[tuple[str, NDArray[np.uint8]]]:
    """A few training pictures of every label."""
    work = fitted.work
    train = work.rows("train")
    targets = work.manifest.targets[train]
    out = []
    for number, label in enumerate(work.manifest.labels):
        has = targets[:, number] == 1 if targets.ndim == 2 else targets == number
        rows = np.random.default_rng(work.seed).permutation(train[has])[:SAMPLES]
        for image in work.store.read(np.sort(rows)):
            out.append((label, image[..., 0] if image.shape[-1] == 1 else image))
    return out
