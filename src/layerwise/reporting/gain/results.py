"""`results.json` of a gain study: its runs, its curves, and what sharing saved."""

from collections.abc import Sequence
from typing import Any

from layerwise import __version__
from layerwise.config import to_mapping
from layerwise.evaluation.estimates import estimate
from layerwise.evaluation.predictions import Predictions
from layerwise.reporting.plain import finite
from layerwise.studies.engine import Done
from layerwise.studies.gain.experiment import SOURCE, Gained, places
from layerwise.studies.gain.fractions import percent
from layerwise.studies.gain.scores import METRICS, Bar, Scores, learning
from layerwise.studies.gain.study import GainStudy
from layerwise.studies.workspace import Workspace

DRAWS = 200  # resamples of one run's own scores; the curves have more


def results_of_gain(
    study: GainStudy, gained: Gained, scores: Scores, command: str, seconds: float
) -> dict[str, Any]:
    """Everything that was measured; JSON-able, NaN as None.

    Beside keys that end in "seconds" it holds nothing of how, when or in how many sittings the
    runs were made.

    Args:
        study: What was to be compared.
        gained: What became of each run.
        scores: Theirs.
        command: As the user typed it.
        seconds: Wall-clock time of this sitting.
    """
    work, design = study.work, study.design
    results = {
        "layerwise": __version__,
        "command": command,
        "seed": work.seed,
        "seconds": round(seconds, 1),
        "data": {
            "name": work.manifest.name,
            "fingerprint": work.data_key,
            "labels": list(work.manifest.labels),
            "counts": work.manifest.counts(),
        },
        "study": {
            "networks": [
                {"name": c.name, "model": c.model, "arguments": dict(c.arguments)}
                | {"weights": SOURCE if c.weights is None else c.weights}
                for c in design.networks
            ],
            "image_size": list(work.image_size),
            "fractions": list(design.fractions),
            "repeats": design.repeats,
            "recipes": {percent(f): to_mapping(r) for f, r in design.recipes.items()},
        },
        "runs": _runs(study, gained),
        "curves": curves_of(gained, scores),
        "saved": saved(gained),
        "notes": list(study.notes),
    }
    return dict(finite(results))


def curves_of(gained: Gained, scores: Scores) -> dict[str, Any]:
    """What the figures are drawn from, see docs/gain.md."""
    return {
        "bars": [bar_entry(bar) for bar in scores.bars],
        "best": [vars(best) for best in scores.best],
        "balance": [
            vars(one) | {"ratio": one.ratio, "prevalence": one.prevalence}
            for one in scores.balances
        ],
        "chance": dict(scores.chance),
        "fading": dict(scores.fading),
        "learning": [vars(one) for one in learning(gained)],
        "draws": scores.draws,
    }


def bar_entry(bar: Bar) -> dict[str, Any]:
    """A bar as the files have it."""
    return {
        "network": bar.network,
        "fraction": bar.fraction,
        "label": bar.label,
        "metric": bar.metric,
        "RI": bar.random,
        "TL": bar.transferred,
        "gain": bar.gain,
        "beyond_noise": bar.beyond_noise,
    }


def saved(gained: Gained) -> dict[str, Any]:
    """What did not have to be trained, counted from the plan and the runs' folders alone."""
    runs = [*gained.sources.values(), *gained.runs]
    distinct = {done.run.id for done in runs}
    taken = {done.run.id: done for done in runs if done.taken and done.outcome is not None}
    return {
        "planned": len(runs),
        "distinct": len(distinct),
        "taken": len(taken),
        "taken_seconds": round(sum(d.outcome.seconds for d in taken.values() if d.outcome), 1),
    }


def saved_sentences(found: dict[str, Any]) -> list[str]:
    """The same in words."""
    out = []
    if found["distinct"] < found["planned"]:
        out.append(
            f"{found['planned'] - found['distinct']} of {found['planned']} runs are equal to "
            "others and were trained once: random initialisation knows nothing of weights."
        )
    if found["taken"]:
        out.append(
            f"{found['taken']} runs were taken over from other studies, which had trained them in "
            f"{found['taken_seconds']:.0f} s."
        )
    return out


def _runs(study: GainStudy, gained: Gained) -> list[dict[str, Any]]:
    """Every run once, those on source data first."""
    rows, seen = [], set()
    for name, done in gained.sources.items():
        rows.append(_entry(study, done, f"{name} on the source data", SOURCE, "source data"))
    for (name, fraction, treatment, repeat), done in zip(
        places(gained.design), gained.runs, strict=True
    ):
        if done.outcome is not None and done.run.id in seen:
            continue
        seen.add(done.run.id)
        sample = percent(fraction)
        title = f"{name} {treatment}, {sample}, repeat {repeat + 1}"
        entry = _entry(study, done, title, treatment, f"{sample} of the images")
        rows.append({**entry, "network": name, "fraction": fraction, "repeat": repeat})
    return rows


def _entry(study: GainStudy, done: Done, name: str, treatment: str, task: str) -> dict[str, Any]:
    work, outcome = study.spaces[done.planned.task], done.outcome
    entry: dict[str, Any] = {
        "id": None if outcome is None else done.run.id,
        "name": name,
        "kind": "trained",
        "model": work.model,
        "treatment": treatment,
        "task": task,
        "seed": done.planned.seed,
        "transfer": done.run.settings["transfer"],
        "state": "failed" if outcome is None else "done",
        "reason": done.failure,
        "seconds": 0.0 if outcome is None else outcome.seconds,
        "parameters": None if outcome is None else outcome.parameters,
        "epochs": None if outcome is None else outcome.details.get("epochs"),
        "validation": {},
        "test": {},
    }
    if outcome is not None:
        entry["validation"] = _scored(work, outcome.validation)
        if "test" in outcome.parts:
            entry["test"] = _scored(work, outcome.parts["test"])
    return entry


def _scored(work: Workspace, said: Predictions) -> dict[str, Any]:
    """One run's own scores with their intervals."""
    out: dict[str, Any] = {}
    for metric in METRICS:
        found = estimate(
            metric,
            work.manifest.task,
            said.targets,
            [said.scores],
            said.groups,
            draws=DRAWS,
            seed=work.seed,
        ).interval()
        out[metric] = {side: found[side] for side in ("value", "low", "high")}
    return out


def failures(gained: Gained) -> Sequence[str]:
    """A sentence for every run that failed."""
    return [
        f"{name} {treatment} with {percent(fraction)} of the images, repeat {repeat + 1}, failed "
        f"and is left out with its pair: {done.failure}"
        for (name, fraction, treatment, repeat), done in zip(
            places(gained.design), gained.runs, strict=True
        )
        if done.outcome is None
    ]
