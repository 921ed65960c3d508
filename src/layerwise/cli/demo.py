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
    from collections.abc import Mapping

    from layerwise.data.manifest import Manifest
    from layerwise.studies.prepare import Request

MODEL = "lenet5"
SIZE = 32  # pixels
LABELLED = 10  # training pictures of each target digit
SECONDS = 90.0  # for the fit on the target task; all that it plans takes about half of it
EPOCHS = 40  # of each run of the study


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
    results = _study(request, target, output, started)
    weights = request.out / "runs" / _base_run(results)
    command = [
        *("layerwise", "fit", str(target), "--model", MODEL, "--weights", str(weights)),
        *("--image-size", str(SIZE), "--augment", "none", "--time", f"{SECONDS:.0f}s"),
        *("--seed", str(seed), "--out", str(out)),
    ]
    from dataclasses import replace

    request = replace(request, data=str(target), out=out, weights=str(weights))
    fitted = fit_request(request, output, None)
    finish(fitted, output, command, out, started, comparison(results["curves"]))


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


def _study(request: Request, target: Path, output: Output, started: float) -> dict[str, Any]:
    """The transferability study from digits 0 to 4 to digits 5 to 9: its results.json."""
    from layerwise.cli.live import study_board
    from layerwise.cli.study_flags import worker_count
    from layerwise.cli.transferability import finish_study
    from layerwise.studies.transferability.plan import Asked
    from layerwise.studies.transferability.study import prepare_study

    output.say("how general each layer's features are: digits 0 to 4, and what 5 to 9 make of them")
    asked = Asked(model=MODEL, other=str(target), epochs=EPOCHS, both=False)
    study = prepare_study(
        request,
        asked,
        lambda _preset, defaults: defaults,  # nothing is augmented
        output.say,
        output.track,
        workers=worker_count(0, request.threads),
    )
    command = [
        *("layerwise", "study", "transferability", request.data, "--other", str(target)),
        *("--model", MODEL, "--image-size", str(SIZE), "--augment", "none", "--one-direction"),
        *("--epochs", str(EPOCHS), "--seed", str(request.seed), "--out", str(request.out)),
    ]
    return finish_study(study, study_board(output), request.out, " ".join(command), started)


def _base_run(results: Mapping[str, Any]) -> str:
    """The id of the first base network on digits 0 to 4, whose weights are transferred."""
    task = results["curves"]["pairs"][0]["a"]["name"]
    return next(
        str(run["id"])
        for run in results["runs"]
        if run["treatment"] == "base" and run["task"] == task
    )


def comparison(curves: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Transfer against random initialisation at every cut, for the report of the fit.

    The base on the target task is what a network reaches there from random weights.
    """
    names = {"base": "random initialisation", "AnB": "AnB", "AnB+": "AnB+"}
    return [
        {"name": names[row["treatment"]], "cut": row["cut"], "accuracy": row["accuracy"]}
        for row in curves["means"]
        if row["treatment"] in names
    ]
