"""The page of a heads study: the answer, the heads side by side, curves by epoch and by size."""

from collections.abc import Mapping
from typing import Any

from layerwise.reporting.heads.figures import by_epoch, by_size, comparison
from layerwise.reporting.heads.results import saved_sentences
from layerwise.reporting.heads.words import (
    answer,
    epoch_words,
    failures,
    gap_words,
    pair_words,
    size_words,
)
from layerwise.reporting.study_page import Figure, StudyPage, Table
from layerwise.studies.heads.experiment import CONNECTED, POOLED, SVM

STEMS = {CONNECTED: "connected", POOLED: "pooled"}
TITLES = {
    CONNECTED: "Fully connected: accuracy and loss by epoch",
    POOLED: "Global average pooling: accuracy and loss by epoch",
}

Results = Mapping[str, Any]
Row = dict[str, Any]


def heads_page(results: Results) -> StudyPage:
    """The page in words and figures, from what `results.json` holds."""
    return StudyPage(
        title=f"Three classifiers on frozen features of {results['data']['name']}",
        answer=answer(results),
        figures=_figures(results),
        tables=[_heads(results), _pairs(results), _grid(results)],
        notes=[*failures(results["runs"]), *_method(results), *results["notes"]],
        saved=saved_sentences(results["saved"]),
        reproduce=[results["command"]],
        metric="accuracy",
    )


def _figures(results: Results) -> list[Figure]:
    curves = results["curves"]
    out = []
    if curves["heads"]:
        said = gap_words(results)
        rows = [
            {"head": row["head"], **{f"{p}_accuracy": row[f"{p}_accuracy"] for p in _PARTS}}
            | {"gap": row["gap"], "overfits": row["overfits"]}
            for row in curves["heads"]
        ]
        svg = comparison(curves["heads"], f"Accuracy of each head. {' '.join(said[:2])}")
        out.append(Figure("heads", "The three heads", svg, rows, said))
    for head, stem in STEMS.items():
        mine = [row for row in curves["epochs"] if row["head"] == head]
        if mine:
            said = epoch_words(results, head)
            svg = by_epoch(stem, mine, f"{TITLES[head]}. {' '.join(said)}")
            out.append(Figure(stem, TITLES[head], svg, mine, said))
    said = size_words(results)
    svg = by_size(curves["sizes"], f"Accuracy by training images. {' '.join(said[:3])}")
    out.append(Figure("sizes", "Accuracy by number of training images", svg, curves["sizes"], said))
    return out


_PARTS = ("train", "val", "test")


def _heads(results: Results) -> Table:
    rows: list[Row] = []
    for row in results["curves"]["heads"]:
        mark = {"mark": "recommended"} if row["head"] == results["recommended"] else {}
        rows.append({**row, **mark})
    columns = {
        "head": "Head",
        "parameters": "Parameters",
        "train_accuracy": "Training accuracy",
        "val_accuracy": "Validation accuracy",
        "gap": "Gap",
        "overfits": "Overfits",
        "cross_validated": "Cross-validated",
        "test_accuracy": "Test accuracy",
        "val_auroc": "Validation AUROC",
        "test_auroc": "Test AUROC",
        "seconds": "Seconds",
    }
    said = [
        "A head overfits where the whole interval of its gap, training less validation accuracy, "
        "lies above 0. Parameters are those above the frozen base.",
    ]
    return Table("table1", "The three heads in numbers", columns, rows, said)


def _pairs(results: Results) -> Table:
    parts = {"val": "validation", "test": "test"}
    rows = [
        {
            "part": parts[row["part"]],
            "pair": f"{row['head']} − {row['other']}",
            "difference": row["difference"],
            "p": row["difference"]["p"],
            "p_holm": row["difference"]["p_holm"],
            "beyond_noise": row["beyond_noise"],
        }
        for row in results["curves"]["pairs"]
    ]
    columns = {
        "part": "Part",
        "pair": "Pair",
        "difference": "Difference in accuracy",
        "p": "p",
        "p_holm": "p (Holm)",
        "beyond_noise": "Beyond noise",
    }
    return Table("table2", "Paired differences", columns, rows, pair_words(results, "val"))


def _grid(results: Results) -> Table:
    several = results["study"]["repeats"] > 1
    columns = ({"repeat": "Repeat"} if several else {}) | {
        "C": "C",
        "cross_validated": "Cross-validated accuracy",
        "chosen": "Chosen",
    }
    rows = [{**row, "repeat": row["repeat"] + 1} for row in results["curves"]["grid"]]
    folds = results["study"]["folds"]
    said = [f"The mean accuracy of {folds} folds; of equal ones the smallest C is chosen."]
    return Table("table3", f"The grid search of the {SVM}", columns, rows, said)


def _method(results: Results) -> list[str]:
    """How it was measured, where that limits what it says."""
    study, recipe = results["study"], results["study"]["recipe"]
    shape = "×".join(map(str, study["shape"]))
    out = [
        f"The base is {study['model']} up to {study['cut']}, frozen: {shape} values an image, the "
        "same for every head. The trained heads learn by "
        f"{recipe['optimizer']} at a rate of {recipe['lr']:g} for {recipe['epochs']} epochs in "
        f"batches of {recipe['batch']}; the linear SVM is solved on raw values, its C chosen by "
        f"{study['folds']} folds of the training part.",
        "Epochs are chosen on validation, so the validation scores of the trained heads are a "
        "little flattered; the test part has no say in any choice.",
        "Both curves of an epoch are measured by the same weights, without dropout.",
    ]
    if study["repeats"] == 1:
        out.append(
            "Everything was trained once: intervals hold what other images would change, and not "
            "what another seed would. --repeats 3 measures that too."
        )
    return out
