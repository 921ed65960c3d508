"""`layerwise demo`: the main job from end to end on digits that ship with scikit-learn.

Digits 0 to 4 train a base network. Digits 5 to 9, of which few are labelled, are the task it is
transferred to. Nothing is downloaded.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerwise.cli import flags
from layerwise.cli.output import Output

if TYPE_CHECKING:
    from layerwise.data.manifest import Manifest
    from layerwise.studies.prepare import Request
    from layerwise.studies.workspace import Workspace

MODEL = "lenet5"
SIZE = 32  # pixels
LABELLED = 10  # training pictures of each target digit
SECONDS = 60.0  # for the fit on the target task
REPEATS = 2  # of every treatment


def demo(
    out: Annotated[Path, typer.Option(help="The folder everything is written to.")] = Path("demo"),
    seed: flags.Seed = 0,
    threads: flags.Threads = 0,
    cache: flags.Cache = None,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """The main job on handwritten digits, without a network, in under three minutes.

    A network that learnt the digits 0 to 4 is transferred to 5 to 9. The report shows which
    depth transfers best, and transfer against random initialisation.
    """
    started = time.monotonic()
    output = Output(json=json, quiet=quiet)
    from layerwise.cli.fit import finish, fit_request
    from layerwise.data.storage.rows import check_writable
    from layerwise.studies.prepare import Request

    check_writable(out)
    base, target = _tasks(out, seed)
    request = Request(
        data=str(base),
        out=out / "transferability",
        cache=flags.cache_folder(cache),
        model=MODEL,
        weights="none",
        image_size=SIZE,
        augment="none",
        seconds=SECONDS,
        seed=seed,
        threads=flags.thread_count(threads),
    )
    weights = _train_base(request, output)
    command = [
        *("layerwise", "fit", str(target), "--model", MODEL, "--weights", str(weights)),
        *("--image-size", str(SIZE), "--augment", "none", "--time", f"{SECONDS:.0f}s"),
        *("--seed", str(seed), "--out", str(out)),
    ]
    from dataclasses import replace

    request = replace(request, data=str(target), out=out, weights=str(weights))
    fitted = fit_request(request, output, None)
    rows = _compare(fitted.work, out / "transferability", output)
    finish(fitted, output, command, out, started, rows)


def _tasks(out: Path, seed: int) -> tuple[Path, Path]:
    """Two manifests: digits 0 to 4, and digits 5 to 9 with few labelled for training."""
    import numpy as np

    from layerwise.data.load import load

    digits = load("digits")
    base = _only(digits, range(5), "digits 0 to 4")
    target = _only(digits, range(5, 10), "digits 5 to 9")
    generator = np.random.default_rng(seed)
    split = np.full(len(target), "test", dtype=object)
    for label in range(5):
        rows = generator.permutation(np.flatnonzero(target.targets == label))
        split[rows[:LABELLED]] = "train"
        split[rows[LABELLED : LABELLED + 60]] = "val"
    target = target.replace(split=split)
    places = out / "base.csv", out / "target.csv"
    base.write(places[0])
    target.write(places[1])
    return places


def _only(digits: Manifest, wanted: range, name: str) -> Manifest:
    """The digits of a range, as a task of their own."""
    import numpy as np

    rows = np.flatnonzero(np.isin(digits.targets, list(wanted)))
    part = digits.take(rows).with_labels(tuple(str(digit) for digit in wanted))
    return part.replace(name=name)


def _train_base(request: Request, output: Output) -> Path:
    """Train the base network on digits 0 to 4; the folder of its run."""
    from layerwise.studies.prepare import prepare
    from layerwise.studies.trained import train, trained_run
    from layerwise.training.recipe import Recipe
    from layerwise.training.transfer import Transfer

    output.say("training the base network on digits 0 to 4")
    work = prepare(request, output.say, output.track, lambda *_: SIZE).work
    transfer = Transfer("none", keep="all", copy="none", freeze="none")
    recipe = Recipe(epochs=20, batch=32, lr=2e-3, copied_lr=1.0, layer_decay=1.0)
    train(work, transfer, recipe)
    return work.runs.place(trained_run(work, transfer, recipe))


def _compare(work: Workspace, folder: Path, output: Output) -> list[dict[str, Any]]:
    """Transfer against random initialisation at every cut, kept in `transferability/`."""
    from dataclasses import replace

    from layerwise.config import write_json
    from layerwise.reporting.results import finite, run_entry
    from layerwise.studies.study import RunStore
    from layerwise.studies.transferability import compare, comparison_rows
    from layerwise.training.recipe import Recipe

    output.say("transfer against random initialisation, at every cut")
    work = replace(work, runs=RunStore(folder / "runs"))
    compared = compare(work, Recipe(epochs=40, batch=16, lr=1e-3), REPEATS)
    rows: list[dict[str, Any]] = finite(comparison_rows(work, compared))
    runs = [
        run_entry(work, outcome, treatment.transfer)
        for treatment, outcomes in compared
        for outcome in outcomes
    ]
    data = {"name": work.manifest.name, "labels": list(work.manifest.labels)}
    write_json(folder / "results.json", finite({"data": data, "runs": runs, "curves": rows}))
    return rows
