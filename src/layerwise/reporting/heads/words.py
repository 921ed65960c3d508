"""What a heads study found, in sentences that are derived from its `results.json`."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from layerwise.reporting.differences import difference_words
from layerwise.reporting.text import limits, number, quantity, with_interval
from layerwise.studies.heads.experiment import CONNECTED, POOLED, SVM

Results = Mapping[str, Any]
Row = Mapping[str, Any]

THE = {
    CONNECTED: "the fully connected head",
    POOLED: "the head on global average pooling",
    SVM: "the linear SVM",
}
PETS = re.compile(r"\b(cat|dog)s?\b", re.IGNORECASE)


def answer(results: Results) -> list[str]:
    """Which head to take, how the others compare, and what that is worth."""
    heads = _heads(results)
    if not heads:
        return ["No head could be trained."]
    return [
        advice(results),
        *pair_words(results, "val"),
        *gap_words(results),
        *test_words(results),
        *imagenet_words(results),
    ]


def advice(results: Results) -> str:
    """The recommended head, and why it and not the best."""
    heads = _heads(results)
    chosen, best = heads[results["recommended"]], heads[results["best"]]
    accuracy = with_interval(chosen["val_accuracy"])
    size = f"{quantity(chosen['parameters'])} parameters"
    if chosen["head"] == best["head"]:
        smaller = [row for row in heads.values() if row["parameters"] < chosen["parameters"]]
        why = "the best on validation"
        why += ", and no smaller one is within noise of it" if smaller else " and the smallest"
        return (
            f"Take {THE[chosen['head']]}: it is {why}, with an accuracy of {accuracy} and {size} "
            "above the base."
        )
    return (
        f"Take {THE[chosen['head']]}: with {size} above the base it is the smallest that is within "
        f"noise of the best on validation, with an accuracy of {accuracy}; the best, "
        f"{THE[best['head']]}, has {with_interval(best['val_accuracy'])} and "
        f"{quantity(best['parameters'])} parameters."
    )


def pair_words(results: Results, part: str) -> list[str]:
    """Every two heads on a part; one sentence where no difference is beyond noise."""
    rows = [row for row in results["curves"]["pairs"] if row["part"] == part]
    defined = [row for row in rows if row["difference"]["value"] is not None]
    if len(defined) > 1 and not any(row["beyond_noise"] for row in defined):
        largest = max(defined, key=lambda row: abs(row["difference"]["value"]))
        return [
            "No difference in accuracy between two heads is beyond noise; the largest is that of "
            f"{THE[largest['head']]} and {THE[largest['other']]}, "
            f"{number(abs(largest['difference']['value']))} "
            f"(95% {limits(largest['difference']).replace('–', ' to ')})."
        ]
    return [
        difference_words(_capital(THE[row["head"]]), THE[row["other"]], row["difference"])
        for row in rows
    ]


def gap_words(results: Results) -> list[str]:
    """Which heads overfit, by the rule, and which do not."""
    heads = list(_heads(results).values())
    over = [row for row in heads if row["overfits"]]
    rest = [row for row in heads if not row["overfits"] and row["gap"]["value"] is not None]
    said = [
        f"{_capital(THE[row['head']])} overfits: it is right on "
        f"{number(row['train_accuracy']['value'], percent=True)} of the images that it learnt from "
        f"and on {number(row['val_accuracy']['value'], percent=True)} of the validation part, a "
        f"gap of {_gap(row)}."
        for row in over
    ]
    if rest:
        each = "; ".join(f"{THE[row['head']]} {_gap(row)}" for row in rest)
        whom = "of the others " if over else ""
        said.append(
            f"The gap between training and validation accuracy {whom}is within noise: {each}."
        )
    return said


def epoch_words(results: Results, head: str) -> list[str]:
    """What the curves of a trained head show."""
    row = _heads(results).get(head)
    if row is None:
        return []
    several = row["repeats"] > 1
    epochs = list(dict.fromkeys(row["kept_epochs"]))
    each = ", one a repeat" if len(epochs) > 1 else ", in every repeat" if several else ""
    said = [
        f"The weights kept are those of epoch {', '.join(map(str, epochs))} of {row['epochs']}, "
        f"with the lowest loss on validation{each}."
    ]
    if "lowest_loss" in row:
        lowest, last = number(row["lowest_loss"]), number(row["last_loss"])
        if row["lowest_loss_epoch"] > 0.9 * row["epochs"]:
            said.append(
                "The validation loss is still falling when training stops: more --epochs may "
                f"improve it (it is {last})."
            )
        elif row["last_loss"] > 1.1 * row["lowest_loss"]:
            said.append(
                f"The validation loss is lowest in epoch {row['lowest_loss_epoch']} ({lowest}) and "
                f"rises to {last}: from there on the head learns its training images and not the "
                "classes."
            )
        else:
            said.append(
                f"The validation loss is lowest in epoch {row['lowest_loss_epoch']} ({lowest}) and "
                f"hardly changes after it ({last} in the end)."
            )
    return said


def size_words(results: Results) -> list[str]:
    """What the learning curves by training size show."""
    said = []
    for head in THE:
        rows = [row for row in results["curves"]["sizes"] if row["head"] == head]
        if len(rows) < 2:
            continue
        first, last = rows[0], rows[-1]
        said.append(
            f"{_capital(THE[head])} has a validation accuracy of "
            f"{with_interval(first['val_accuracy'])} from {first['images']:,.0f} training images "
            f"and {with_interval(last['val_accuracy'])} from all {last['images']:,.0f}."
        )
    svm = [row for row in results["curves"]["sizes"] if row["head"] == SVM]
    if len(svm) > 1:
        folds = results["study"]["folds"]
        said.append(
            f"Of the linear SVM the lines of training and cross-validation are means over {folds} "
            "folds, bands their standard deviation, as scikit-learn draws them; its C is that "
            "chosen with all images."
        )
    if svm and svm[-1]["train_in_folds"]["value"] == 1.0:
        values, images = results["study"]["svm_values"], svm[-1]["images"]
        if values > images:
            said.append(
                "Its training accuracy of 1 is by itself no sign of overfitting: with "
                f"{values:,} values an image, {images:,.0f} images can be parted by a plane "
                "whatever their labels are."
            )
    return said


def test_words(results: Results) -> list[str]:
    """The same on the test part, by which nothing was chosen."""
    chosen = _heads(results)[results["recommended"]]
    others = [row for row in _heads(results).values() if row["head"] != chosen["head"]]
    text = (
        f"On the test part {THE[chosen['head']]} has an accuracy of "
        f"{with_interval(chosen['test_accuracy'])}"
    )
    if others:
        each = " and ".join(f"{THE[o['head']]} {with_interval(o['test_accuracy'])}" for o in others)
        text += f"; {each}"
    return [f"{text}."]


def imagenet_words(results: Results) -> list[str]:
    """What weights that have seen ImageNet make of these scores."""
    if not results["study"]["imagenet"]:
        return []
    pets = [name for name in results["data"]["labels"] if PETS.search(name)]
    if pets:
        return [
            "The base has learnt from ImageNet, whose 1,000 classes contain 118 breeds of dogs and "
            f"five kinds of cats: it knows {' and '.join(pets)} already, so these scores say how "
            "well that is read out again, and not what a new task would reach."
        ]
    return [
        "The base has learnt from ImageNet. Where your classes are among its 1,000, these scores "
        "say how well it recalls them, and not what a new task would reach."
    ]


def _heads(results: Results) -> dict[str, Row]:
    return {row["head"]: row for row in results["curves"]["heads"]}


def _gap(row: Row) -> str:
    value = number(row["gap"]["value"])
    return f"{value} (95% {limits(row['gap']).replace('–', ' to ')})"


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def failures(runs: Sequence[Row]) -> list[str]:
    """A sentence for every run that failed."""
    return [
        f"{_capital(run['name'])} failed and is left out: {run['reason']}"
        for run in runs
        if run["state"] == "failed"
    ]
