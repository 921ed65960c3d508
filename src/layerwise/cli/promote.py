"""`layerwise promote`: a new bundle takes the champion's place if it is not worse. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerwise.cli import flags
from layerwise.cli.evaluate import Rename, WhichPart, check_part, data_options
from layerwise.cli.output import Output
from layerwise.errors import LayerwiseError

if TYPE_CHECKING:
    from layerwise.evaluation.subgroups import Subgroup
    from layerwise.serving.bundle import Bundle
    from layerwise.serving.labelled import Labelled
    from layerwise.serving.registry.promotion import Decision, Judged, Rules
    from layerwise.serving.registry.registry import Registry

REFUSED = 4
"""The exit code of --require; 1 is what a defect leaves."""
TRIES = 3  # as often the champion may change while a bundle is measured

Where = Annotated[
    str,
    typer.Option(
        "--registry",
        help="A folder, an fsspec URL (s3://…), or mlflow:NAME.",
        show_default=False,
    ),
]


def promote(
    bundle: Annotated[Path, typer.Argument(help="The folder of a bundle.", show_default=False)],
    registry: Where,
    data: Annotated[
        str,
        typer.Option(
            help="Labelled images on which both are measured: anything DATA may be, best such as "
            "neither has seen.",
            show_default=False,
        ),
    ],
    part: WhichPart = "test",
    metric: Annotated[str, typer.Option(help="What must not get worse.")] = "auroc",
    margin: Annotated[float, typer.Option(help="How much worse is still not worse.")] = 0.01,
    alpha: Annotated[float, typer.Option(help="1 less the level of the intervals.")] = 0.05,
    subgroup: flags.SubgroupColumn = [],  # noqa: B006 - Typer copies it
    subgroup_limit: Annotated[float, typer.Option(help="How far a group may fall.")] = 0.05,
    recall_limit: Annotated[
        float | None, typer.Option(help="How far sensitivity may fall.", show_default=False)
    ] = None,
    specificity_limit: Annotated[
        float | None, typer.Option(help="How far specificity may fall.", show_default=False)
    ] = None,
    floor: Annotated[
        list[str],
        typer.Option(metavar="METRIC=VALUE", help="What it must reach by itself; repeatable."),
    ] = [],  # noqa: B006
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Decide and say why; change and record nothing.")
    ] = False,
    require: Annotated[
        bool, typer.Option("--require", help=f"Exit with {REFUSED} when it is refused.")
    ] = False,
    rename: Rename = [],  # noqa: B006
    labels: flags.Labels = None,
    label_column: flags.LabelColumn = [],  # noqa: B006
    path_column: flags.PathColumn = None,
    patient_column: flags.PatientColumn = None,
    patient_from: flags.PatientFrom = None,
    study_column: flags.StudyColumn = None,
    date_column: flags.DateColumn = None,
    split_column: flags.SplitColumn = None,
    multi_label: flags.MultiLabel = False,
    positive: flags.Positive = None,
    only: flags.Only = [],  # noqa: B006
    uncertain: flags.Uncertain = "zeros",
    label_set: flags.LabelSet = None,
    view: flags.View = None,
    keep_identifiers: flags.KeepIdentifiers = False,
    skip_unreadable: flags.SkipUnreadable = False,
    draws: Annotated[int, typer.Option(min=200, help="Resamples behind every interval.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the resamples.")] = 0,
    threads: flags.Threads = 0,
    cache: flags.Cache = None,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Make a bundle the champion if it is not worse than the present one.

    The registry gets the bundle, the decision with every number, and a line in its history.
    """
    given = dict(locals())
    from layerwise.serving.bundle import Bundle
    from layerwise.serving.registry.promotion import Rules
    from layerwise.serving.registry.registry import open_registry

    output = Output(json=json, quiet=quiet)
    check_part(part)
    rules = Rules(
        metric=metric,
        margin=margin,
        alpha=alpha,
        subgroup_limit=subgroup_limit,
        recall_limit=recall_limit,
        specificity_limit=specificity_limit,
        floors=parse_floors(floor),
        draws=draws,
        seed=seed,
    )
    kept = open_registry(registry, new=True, cache=flags.cache_folder(cache))
    new = Bundle.load(bundle, flags.thread_count(threads))
    summary = _promote(new, kept, rules, given, output)
    output.text(_text(summary))
    output.result(summary)
    if require and not summary["promoted"] and not summary["already"]:
        raise typer.Exit(REFUSED)


def parse_floors(words: list[str]) -> dict[str, float]:
    """METRIC=VALUE words as numbers."""
    found = {}
    for word in words:
        metric, _, value = word.partition("=")
        try:
            found[metric] = float(value)
        except ValueError as error:
            raise LayerwiseError(
                f"--floor {word!r} is not METRIC=VALUE; write auroc=0.9"
            ) from error
    return found


def _promote(
    new: Bundle, registry: Registry, rules: Rules, given: dict[str, Any], output: Output
) -> dict[str, Any]:
    """Measure, decide and switch; the summary, JSON-able."""
    from layerwise.serving.registry.registry import ChampionChanged

    champion = registry.champion()
    if champion == new.id:
        return _summary(given, new.id, champion, already=True)
    images, groups, ours = _measured(new, given, output)
    for _ in range(TRIES - 1):
        try:
            return _decide(ours, images, groups, registry, champion, rules, given, output)
        except ChampionChanged as changed:
            output.say(f"{changed}; comparing with it")
            champion = registry.champion()
    return _decide(ours, images, groups, registry, champion, rules, given, output)


def _measured(
    new: Bundle, given: dict[str, Any], output: Output
) -> tuple[Labelled, list[Subgroup], Judged]:
    """The images, their subgroups, and what the new bundle says of them."""
    from layerwise.evaluation.subgroups import subgroups
    from layerwise.serving.labelled import labelled, parse_rename

    images = labelled(
        new.info,
        given["data"],
        data_options(given),
        part=check_part(given["part"]),
        rename=parse_rename(given["rename"]),
        cache=flags.cache_folder(given["cache"]),
        say=output.say,
        progress=output.track("decoding"),
    )
    for note in images.notes:
        output.say(note)
    targets, people = images.manifest.targets[images.rows], images.manifest.groups()[images.rows]
    groups = subgroups(images.columns, new.info.task, targets, people)
    return images, groups, _judged(new, images, "the new bundle", output)


def _judged(bundle: Bundle, images: Labelled | None, what: str, output: Output) -> Judged:
    """A bundle with what it says of the images."""
    from layerwise.serving.labelled import predictions
    from layerwise.serving.registry.promotion import Judged

    said = None
    if images is not None:
        said = predictions(bundle, images, output.track(f"asking {what}"))
    info = bundle.info
    return Judged(bundle.id, info.name, info.task, tuple(info.labels), info.threshold, said)


def _decide(
    ours: Judged,
    images: Labelled,
    groups: list[Subgroup],
    registry: Registry,
    champion: str | None,
    rules: Rules,
    given: dict[str, Any],
    output: Output,
) -> dict[str, Any]:
    """One decision against one champion, recorded unless --dry-run."""
    from layerwise.reporting.plain import finite
    from layerwise.serving.bundle import Bundle
    from layerwise.serving.labelled import for_bundle
    from layerwise.serving.registry.promotion import decide

    theirs, learnt = None, []
    if images.fitted:
        learnt = list(images.warnings)
    if champion is not None:
        other = Bundle.load(registry.fetch(champion), flags.thread_count(given["threads"]))
        same = (other.info.task, tuple(other.info.labels)) == (ours.task, ours.labels)
        shown = None
        if same:
            options, cache = data_options(given), flags.cache_folder(given["cache"])
            shown = for_bundle(images, other.info, options, cache, output.track("decoding"))
        theirs = _judged(other, shown, "the champion", output)
        key = other.info.provenance.get("data_fingerprint")
        if key == images.fingerprint and images.part in ("train", "all"):
            learnt.append("The champion learnt from these images: measure on others.")
    decision = decide(ours, theirs, groups, rules)
    record = finite(
        {
            **decision.to_dict(),
            "data": {
                "name": images.manifest.name,
                "fingerprint": images.fingerprint,
                "part": images.part,
                "images": len(images.rows),
                "patients": len(set(images.manifest.groups()[images.rows].tolist())),
                "counts": images.counts,
                "notes": list(images.notes),
            },
        }
    )
    record["warnings"] = [*(learnt or images.warnings), *record["warnings"]]
    for warning in record["warnings"]:
        output.warn(warning)
    entry = None if given["dry_run"] else _record(decision, registry, champion, record, given)
    after = champion if entry is None else entry["champion"]
    summary = _summary(given, ours.id, after, already=False)
    return summary | {**record, "previous": champion, "entry": entry}


def _record(
    decision: Decision,
    registry: Registry,
    champion: str | None,
    record: dict[str, Any],
    given: dict[str, Any],
) -> dict[str, Any]:
    """The line in the history; with it the switch, where the bundle is promoted."""
    if decision.promoted:
        return dict(registry.promote(given["bundle"], record, champion))
    return dict(registry.refuse(str(decision.new["id"]), record, champion))


def _summary(
    given: dict[str, Any], bundle: str, champion: str | None, *, already: bool
) -> dict[str, Any]:
    """What both ends of the command have in common."""
    from layerwise import __version__

    return {
        "layerwise": __version__,
        "command": "promote",
        "registry": given["registry"],
        "bundle": bundle,
        "promoted": False,
        "already": already,
        "dry_run": given["dry_run"],
        "champion": champion,
    }


def _text(summary: dict[str, Any]) -> str:
    """What a person is told."""
    if summary["already"]:
        return f"{summary['bundle']} is the champion already; nothing to do"
    word = "promoted" if summary["promoted"] else "refused"
    if summary["dry_run"]:
        word = f"would be {word} (--dry-run)"
    lines = [f"{summary['bundle']}: {word}", *(f"  {reason}" for reason in summary["reasons"])]
    lines.append(f"champion: {summary['champion'] or 'none'}")
    return "\n".join(lines)
