"""`layerwise export`: finished runs → one bundle, whose outputs are compared with the networks'."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerwise.cli import flags
from layerwise.cli.output import Output
from layerwise.errors import LayerwiseError

if TYPE_CHECKING:
    from torch import nn

    from layerwise.evaluation.predictions import Predictions
    from layerwise.serving.card import BundleInfo
    from layerwise.serving.explanation.write import Explained, Together
    from layerwise.studies.ensemble import Combined
    from layerwise.studies.finished import Finished
    from layerwise.training.network import TransferNetwork

WAYS = ("mean", "weighted", "greedy")


def export(
    run: Annotated[
        list[Path],
        typer.Argument(
            help="A finished run's folder, OUT/runs/ID, as `layerwise runs OUT` lists them; "
            "several with --combine.",
            show_default=False,
        ),
    ],
    out: flags.Out,
    combine: Annotated[
        str | None,
        typer.Option(
            metavar="WAY",
            help="Several runs as one: the mean of their probabilities, weighted by what they say "
            "of the validation part, or chosen greedily by it.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Where the data are now, if the fit found them elsewhere."),
    ] = None,
    cache: flags.Cache = None,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Make a bundle of a finished run, or one bundle of several.

    Writes bundle/ under --out. What it says of real pictures is compared with the networks first.
    """
    _check(run, combine)
    output = Output(json=json, quiet=quiet)
    from layerwise.data.storage.rows import check_writable
    from layerwise.studies.finished import open_runs

    check_writable(out)
    found = open_runs(run, flags.cache_folder(cache), output.say, output.track, data)
    summary = bundle_of(found, combine, out, output)
    output.text(_text(summary))
    output.result(summary)


def bundle_of(
    found: list[Finished], combine: str | None, out: Path, output: Output
) -> dict[str, Any]:
    """Write the bundle of these runs under `out`; what there is to say of it, JSON-able.

    Args:
        found: One run, or with `combine` several.
        combine: One of `WAYS`.
        out: The bundle is its folder `bundle`.
        output: Told what is done.
    """
    combined, weights = _combine(found, combine)
    members = [(finished, weights[finished.id]) for finished in found if finished.id in weights]
    networks = [finished.network() for finished, _ in members]
    summary = _measure(members, networks, combined, output)
    summary["bundle"] = str(out / "bundle")
    summary["best_alone"] = _best(found) if combined else None
    validation = combined.validation if combined else found[0].outcome.validation
    return summary | _write(members, networks, summary, validation, out / "bundle")


def _check(runs: list[Path], combine: str | None) -> None:
    """What can be said of the words alone."""
    if combine is not None and combine not in WAYS:
        raise LayerwiseError(f"--combine {combine!r} is unknown; it is one of {', '.join(WAYS)}")
    names = [run.resolve().name for run in runs]  # a run's folder has its id
    for name in names:
        if names.count(name) > 1:
            raise LayerwiseError(f"run {name} is named twice; name each run once")
    if combine is None and len(runs) > 1:
        raise LayerwiseError(
            f"{len(runs)} runs were named; say how they become one with --combine "
            f"{'|'.join(WAYS)}, or name one"
        )
    if combine is not None and len(runs) < 2:
        raise LayerwiseError(
            f"--combine {combine} needs two runs or more; name another one, or leave it out"
        )


def _combine(
    found: list[Finished], combine: str | None
) -> tuple[Combined | None, dict[str, float]]:
    """The ensemble, and the weights above 0 by the runs' ids."""
    if combine is None:
        return None, {found[0].id: 1.0}
    from layerwise.studies.ensemble import combine as put

    work = found[0].work
    said = {finished.id: finished.outcome.validation for finished in found}
    combined = put(work.manifest.task, said, combine, seed=work.seed)  # type: ignore[arg-type]
    return combined, combined.weights


def _best(found: list[Finished]) -> dict[str, Any]:
    """The run with the highest validation AUROC: an ensemble should be better."""
    from layerwise.studies.ensemble import auroc

    task = found[0].work.manifest.task
    said = {f.id: f.outcome.validation for f in found}
    alone = {name: auroc(task, p.targets, p.scores) for name, p in said.items()}
    best = max(alone, key=lambda name: alone[name])
    return {"id": best, "auroc": alone[best]}


def _measure(
    members: list[tuple[Finished, float]],
    networks: list[TransferNetwork],
    combined: Combined | None,
    output: Output,
) -> dict[str, Any]:
    """The threshold, chosen on validation, and then the scores of both parts; JSON-able."""
    from layerwise import __version__
    from layerwise.evaluation.intervals import bootstrap
    from layerwise.evaluation.operating import choose_threshold
    from layerwise.reporting.results import finite

    work = members[0][0].work
    task, labels = work.manifest.task, work.manifest.labels
    validation = combined.validation if combined else members[0][0].outcome.validation
    threshold = choose_threshold(
        task, validation.targets, validation.scores, validation.groups, seed=work.seed
    )

    def measured(said: Predictions) -> dict[str, Any]:
        values = bootstrap(
            task, said.targets, said.scores, threshold, said.groups, labels=labels, seed=work.seed
        )
        return dict(finite(values))

    said, now = _on_test(members, networks, output)
    unseen = combined.unseen if combined else None
    return {
        "layerwise": __version__,
        "command": "export",
        "combine": combined.way if combined else None,
        "members": [_member(finished, weight) for finished, weight in members],
        "threshold": threshold,
        "validation": measured(validation),
        "cross_fitted": None if unseen is None else measured(unseen)["auroc"],
        "test": measured(said),
        "tested_now": now,
    }


def _member(finished: Finished, weight: float) -> dict[str, Any]:
    """A run of the bundle, JSON-able."""
    return {
        "id": finished.id,
        "name": finished.outcome.run.name,
        "kind": finished.outcome.run.kind,
        "model": finished.work.model,
        "weight": weight,
    }


def _on_test(
    members: list[tuple[Finished, float]], networks: list[TransferNetwork], output: Output
) -> tuple[Predictions, list[str]]:
    """What the members together say of the test part, and the runs tested for it just now."""
    from layerwise.studies.ensemble import aligned, mean_of

    said, now = {}, []
    for (finished, _), network in zip(members, networks, strict=True):
        said[finished.id], fresh = finished.on_test(network)
        if fresh:
            now.append(finished.id)
            output.say(f"tested once, everything being chosen: {finished.outcome.run.name}")
    if len(said) > 1:
        aligned(said)
    return mean_of(list(said.values()), [weight for _, weight in members]), now


def _write(
    members: list[tuple[Finished, float]],
    networks: list[TransferNetwork],
    summary: dict[str, Any],
    validation: Predictions,
    folder: Path,
) -> dict[str, Any]:
    """Write the bundle; its number of parameters and its largest difference from the networks."""
    from layerwise.cli.deliver import CHECKED
    from layerwise.serving.export import export_bundle
    from layerwise.studies.finished import put_together

    work = members[0][0].work
    together: nn.Module = networks[0]
    if len(networks) > 1:
        weights = [weight for _, weight in members]
        together = put_together(networks, weights, work.manifest.task)
    images = work.store.read(work.rows("test")[:CHECKED])
    explained = _explained(members, networks, summary["threshold"])
    card = _card(members, summary, validation)
    gap = export_bundle(folder, together, card, images, explained=explained)
    return {"parameters": sum(p.numel() for p in together.parameters()), "difference": gap}


def _explained(
    members: list[tuple[Finished, float]],
    networks: list[TransferNetwork],
    threshold: float | list[float] | None,
) -> Explained | Together | str:
    """The networks, each at the cut that a report would look at, or why there is none."""
    from layerwise.serving.explanation.write import NO_PLACES, Together, explained_at
    from layerwise.studies.cases import cases

    looked = []
    for (finished, _), network in zip(members, networks, strict=True):
        cut, _ = cases(finished.work, network, finished.on_test(network)[0], threshold)
        if not cut:
            alone = len(members) == 1
            return NO_PLACES if alone else f"{finished.outcome.run.name}: {NO_PLACES}"
        looked.append(explained_at(network, cut))
    return looked[0] if len(looked) == 1 else Together(looked, [weight for _, weight in members])


def _card(
    members: list[tuple[Finished, float]], summary: dict[str, Any], validation: Predictions
) -> BundleInfo:
    """What `bundle.json` says."""
    from layerwise.serving.card import BundleInfo, Preprocessing
    from layerwise.serving.origin import data_of, origin_of
    from layerwise.serving.reference import statistics_of

    work = members[0][0].work
    sources = [origin_of(finished.work, finished.id, finished.transfer) for finished, _ in members]
    of_data = data_of(work)
    if len(sources) > 1:
        for source, (_, weight) in zip(sources, members, strict=True):
            source["weight"] = weight
        of_data |= {"combine": summary["combine"], "members": sources}
    return BundleInfo(
        name=work.manifest.name,
        task=work.manifest.task,
        labels=work.manifest.labels,
        preprocessing=Preprocessing(
            size=work.image_size, channels=work.store.channels, letterbox=work.store.letterbox
        ),
        threshold=summary["threshold"],
        provenance=of_data if len(sources) > 1 else {**sources[0], **of_data},
        scores=summary["test"],
        statistics=statistics_of(work.manifest, work.store, validation, summary["threshold"]),
    )


def _text(summary: dict[str, Any]) -> str:
    """What a person is told."""
    lines = [f"{m['weight']:.3f} of {m['name']} ({m['id']})" for m in summary["members"]]
    shown = [("validation", summary["validation"]["auroc"], "")]
    if summary["combine"]:
        best = summary["best_alone"]
        lines.append(f"the best alone on validation: auroc {best['auroc']:.3f} ({best['id']})")
        shown[0] = ("validation", summary["validation"]["auroc"], ", by which it was put together")
        if summary["cross_fitted"]:
            shown.append(("cross-fitted", summary["cross_fitted"], ", put together without them"))
    shown.append(("test", summary["test"]["auroc"], ""))
    for name, found, remark in shown:
        if found["value"] is not None:
            low, high = found["low"], found["high"]
            span = "" if low is None else f" (95% {low:.3f} to {high:.3f})"
            lines.append(f"{name} auroc {found['value']:.3f}{span}{remark}")
    lines.append(
        f"bundle: {summary['bundle']}, {summary['parameters']:,} parameters; its probabilities "
        f"differ from the network's by at most {summary['difference']:.1e}"
    )
    return "\n".join(lines)
