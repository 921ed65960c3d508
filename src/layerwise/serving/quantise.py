"""A bundle in 8-bit integers, and what that costs and brings, measured. No torch.

Rounding is chosen by what can be measured on calibration pictures without their labels: the ranges
of the activations, and which operators are left as they are. What it costs is then measured on
labels, what it brings by the clock; and a bundle that costs too much or brings nothing is refused.
"""

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerwise.config import to_mapping
from layerwise.errors import BundleError, DataError
from layerwise.evaluation.intervals import bootstrap, paired_difference
from layerwise.evaluation.metrics import Threshold, measure
from layerwise.evaluation.operating import choose_threshold, decide
from layerwise.evaluation.predictions import Predictions
from layerwise.evaluation.timing import in_turns, processor, speedup, summary
from layerwise.reporting.plain import finite
from layerwise.serving.bundle import Bundle, write_bundle
from layerwise.serving.card import CARD, EXPLAIN, MODEL, BundleInfo
from layerwise.serving.labelled import Labelled, predictions
from layerwise.serving.rounding import Range, Ranges, log_odds, rounded, simplified, steps
from layerwise.serving.statistics import Statistics
from layerwise.serving.verify import Verified, verify

PICTURES = 128
"""Of the validation part that give the ranges of activations."""
LIMIT = 0.005
"""Of the validation part's AUROC: what costs more is refused."""
COMPARED, ORDERED = 32, 8
"""Calibration pictures by which ranges are chosen, and operators put in order."""
METHOD = "static, QDQ, 8-bit activations, 8-bit weights of 7 bits' range by channel"

Say = Callable[[str], None]


def quantise(
    folder: str | Path,
    images: Labelled,
    out: str | Path,
    *,
    pictures: int = PICTURES,
    limit: float = LIMIT,
    even_if_slower: bool = False,
    seconds: float = 30.0,
    threads: int = 1,
    seed: int = 0,
    say: Say,
) -> dict[str, Any]:
    """Write a bundle in 8-bit integers, and say what it costs and brings.

    Calibration, threshold and comparison see the validation part only. The test part, if there is
    one, is looked at last and decides nothing.

    Args:
        folder: The bundle to quantise.
        images: DATA, its validation part to be measured on.
        out: The new bundle's folder.
        pictures: How many of the validation part give the ranges.
        limit: How much of the validation part's AUROC may be lost.
        even_if_slower: Whether it is also written where it is not faster on this processor.
        seconds: For a comparison of speed.
        threads: Of ONNX Runtime.
        seed: Of which pictures these are, and of the resamples.
        say: Told what is done.

    Returns:
        What `quantised` of the new bundle says, and "id", "threshold" and "test" of it.

    Raises:
        BundleError: It is in 8-bit integers already, ONNX Runtime can not quantise it, or it would
            cost more than the limit or not be faster. Nothing is written.
        DataError: `images` are not a validation part, or have no AUROC.
    """
    found = verify(folder)
    if found.info.quantised is not None:
        raise BundleError(f"{folder} computes with 8-bit integers already; name the one before")
    if images.part != "validation":
        raise DataError(
            f"{images.manifest.name} has no validation part, by which ranges and threshold are "
            "chosen; give the data of the fit, or a manifest of `layerwise split`"
        )
    before = Bundle.load(folder, threads)
    one = predictions(before, images)
    if np.isnan(_auroc(found.info, one)):
        raise DataError(
            f"the validation part of {images.manifest.name} has no AUROC, so what 8-bit integers "
            "cost can not be measured; it needs images of at least two classes"
        )
    draw = np.random.default_rng(seed)
    chosen = np.sort(draw.permutation(images.rows)[:pictures])
    say(f"calibrating with {len(chosen)} validation pictures")
    seen = draw.permutation(images.store.read(chosen))  # the first of them are of every class
    graph = simplified(found.graphs[MODEL])
    name, ranges = _best_ranges(graph, seen, threads)
    example = seen[:1]
    with tempfile.TemporaryDirectory() as workplace:

        def trial(left: list[str]) -> tuple[bytes, Bundle]:
            content = rounded(graph, ranges, left=left)
            return content, _trial(workplace, content, found, threads)

        content, after = trial([])
        every = steps(content)
        if not even_if_slower:
            say("comparing the speed of both")
            times = _timed(before, after, example, seconds, threads)
            _check_speed(times, surely=True)
        left = 0
        order: list[str] = []
        tried: list[dict[str, Any]] = []
        while True:
            other = predictions(after, images)
            gain = _auroc(found.info, other) - _auroc(found.info, one)
            tried.append({"left": left, "auroc_difference": gain})
            say(f"{left} of {len(every)} operators left in floating point: {gain:+.4f} AUROC")
            if gain >= -limit:
                break
            left = 2 * left or 1
            if left > len(every) // 2:
                raise BundleError(_too_dear(tried, len(every), limit))
            if not order:
                say("looking which operators lose most")
                order = most_sensitive(graph, ranges, every, seen[:ORDERED], threads)
            content, after = trial(order[:left])
        if even_if_slower or left:
            say("comparing the speed of both")
            times = _timed(before, after, example, seconds, threads)
        if not even_if_slower:
            _check_speed(times)
        about, threshold = _compared(found.info, before, one, other, seed)
        about |= times
        kept = order[:left]
        about |= {
            "method": METHOD,
            "ranges": name,
            "rounded": _said(left, len(every)),
            "left": kept,
            "tried": tried,
            "limit": limit,
            "made_from": found.id,
            "calibration": {"part": "validation", "images": len(chosen), "seed": seed},
            "bytes": {"before": len(found.graphs[MODEL]), "after": len(content)},
        }
        scores, difference = _tested(found.info, before, after, images, threshold, seed)
        about["test_auroc_difference"] = difference
        info = replace(
            found.info,
            threshold=threshold,
            scores=scores,
            quantised=about,
            explanation=_explanation(found.info),
            statistics=_statistics(found.info, other, threshold),
        )
        model = Path(workplace) / MODEL
        model.write_bytes(content)
        write_bundle(out, model, info, _others(found))
    return {**about, "id": verify(out).id, "threshold": threshold, "test": scores}


def _best_ranges(
    graph: bytes, pictures: NDArray[np.uint8], threads: int
) -> tuple[str, dict[str, Range]]:
    """The kind of ranges whose graph's log-odds are closest to those before, and they."""
    found, some = Ranges(graph, pictures), pictures[:COMPARED]
    wanted = log_odds(graph, some, threads)
    kinds = {"from the smallest to the largest value": found.whole, "of least error": found.closest}
    errors = {
        name: np.square(log_odds(rounded(graph, kind), some, threads) - wanted).mean()
        for name, kind in kinds.items()
    }
    name = min(errors, key=lambda kind: errors[kind])
    return name, kinds[name]


def most_sensitive(
    graph: bytes,
    ranges: Mapping[str, Range],
    operators: list[str],
    pictures: NDArray[np.uint8],
    threads: int,
) -> list[str]:
    """Operators by what rounding each of them alone does to the answers, the worst first.

    Args:
        graph: As `simplified` gives it.
        ranges: Of every activation by name.
        operators: Their names.
        pictures: uint8 (n, H, W, C).
        threads: Of ONNX Runtime.
    """
    wanted = log_odds(graph, pictures, threads)
    errors = {}
    for name in operators:
        said = log_odds(rounded(graph, ranges, only=[name]), pictures, threads)
        errors[name] = np.square(said - wanted).mean()
    return sorted(operators, key=lambda name: -errors[name])


def _said(left: int, operators: int) -> str:
    """What is rounded, in words."""
    return f"everything but {left} of {operators} operators" if left else "everything"


def _check_speed(times: Mapping[str, Any], *, surely: bool = False) -> None:
    """BundleError where integers are not faster; with `surely` only where they are slower."""
    ratio, both = times["speedup"], times["latency"]
    low, high = (ratio["value"] if ratio[k] is None else ratio[k] for k in ("low", "high"))
    if high < 1 if surely else low <= 1:
        before, after = (both[name]["median_ms"] for name in ("before", "after"))
        raise BundleError(
            f"8-bit integers bring no speed on this processor ({both['processor']}): {after:.2f} "
            f"ms a picture instead of {before:.2f}, {ratio['value']:.2f} times as fast (95% "
            f"{low:.2f} to {high:.2f}). Serve the bundle as it is, or quantise it where it will "
            "be served; --even-if-slower writes it all the same, for its size"
        )


def _too_dear(tried: list[dict[str, Any]], operators: int, limit: float) -> str:
    """What a person is told where nothing costs little enough."""
    costs = ", ".join(f"{t['auroc_difference']:+.4f} with {t['left']} left" for t in tried)
    return (
        f"8-bit integers cost more than {limit:g} of the validation part's AUROC, also where the "
        f"most sensitive of {operators} operators are left as they are: {costs}. Serve the bundle "
        "as it is, or allow more with --limit"
    )


def _trial(workplace: str, graph: bytes, found: Verified, threads: int) -> Bundle:
    """The new graph as a bundle that can be asked; with the threshold of the old one."""
    folder, model = Path(workplace) / "trial", Path(workplace) / "trial.onnx"
    model.write_bytes(graph)
    return Bundle.load(write_bundle(folder, model, found.info, _others(found)), threads)


def _others(found: Verified) -> Mapping[str, bytes | Path]:
    """What the new bundle has of the old one as it is."""
    return {EXPLAIN: found.graphs[EXPLAIN]} if EXPLAIN in found.graphs else {}


def _explanation(info: BundleInfo) -> dict[str, Any] | None:
    """The old explaining graph has the weights before: it explains the new network nearly."""
    about = info.explanation
    if about is None or about.get("cut") is None:
        return about
    return {**about, "exact": False, "why": "its weights are those before the 8-bit integers"}


def _statistics(info: BundleInfo, said: Predictions, threshold: Threshold) -> dict[str, Any] | None:
    """The old statistics of inputs, with the new network's scores."""
    if info.statistics is None:
        return None
    old = Statistics.from_json(info.statistics, CARD)
    new = old.beside()
    new.inputs = old.inputs
    new.add_scores(said.scores, decide(info.task, said.scores, threshold))
    return new.to_json()


def _auroc(info: BundleInfo, said: Predictions) -> float:
    threshold = None if info.task == "multiclass" else 0.5
    return float(measure(info.task, said.targets, said.scores, threshold)["auroc"])


def _compared(
    info: BundleInfo, before: Bundle, one: Predictions, other: Predictions, seed: int
) -> tuple[dict[str, Any], Any]:
    """The cost on validation, JSON-able, and the threshold that it chooses for the new network."""
    task, groups = info.task, one.groups
    threshold = choose_threshold(task, other.targets, other.scores, groups, seed=seed)
    old = before.decide(one.scores)
    new = decide(task, other.scores, threshold)
    same = (old == new).reshape(len(old), -1).all(axis=1)  # (n,)
    difference = paired_difference(
        "auroc", task, one.targets, other.scores, one.scores, groups, seed=seed
    )
    return {
        "validation_images": len(same),
        "auroc_difference": finite(difference),
        "largest_difference": float(np.abs(other.scores - one.scores).max()),
        "agreement": float(same.mean()),
        "disagree": int((~same).sum()),
        "threshold_before": to_mapping(info)["threshold"],
    }, threshold


def _timed(
    before: Bundle, after: Bundle, example: NDArray[np.uint8], seconds: float, threads: int
) -> dict[str, Any]:
    """Both at batch 1, in turns."""
    runs = {"before": lambda: before.run(example), "after": lambda: after.run(example)}
    rounds, counts = in_turns(runs, seconds)
    both = {name: summary(rounds[name], counts[name], 1) for name in runs}
    keep = ("median_ms", "low_ms", "high_ms", "runs")
    return {
        "latency": {
            "batch": 1,
            "threads": threads,
            "cores": len(os.sched_getaffinity(0)),
            "processor": processor(),
            "rounds": len(rounds["before"]),
            **{n: {k: v for k, v in to_mapping(b).items() if k in keep} for n, b in both.items()},
        },
        "speedup": finite(speedup(both["before"], both["after"])),
    }


def _tested(
    info: BundleInfo,
    before: Bundle,
    after: Bundle,
    images: Labelled,
    threshold: Threshold,
    seed: int,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The test part's scores and the change of its AUROC, everything being chosen.

    Empty and None without a test part.
    """
    rows = images.manifest.indices("test")
    if not len(rows):
        return {}, None
    part = replace(images, rows=rows, part="test")
    old, said = predictions(before, part), predictions(after, part)
    task, groups = info.task, said.groups
    values = bootstrap(
        task, said.targets, said.scores, threshold, groups, labels=info.labels, seed=seed
    )
    difference = paired_difference(
        "auroc", task, said.targets, said.scores, old.scores, groups, seed=seed
    )
    return dict(finite(values)), dict(finite(difference))
