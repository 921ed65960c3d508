"""The page of a gain study: the answer, Peng et al.'s Figures 3 and 4, the gains, the ratios."""

import math
from collections.abc import Sequence
from typing import Any

from layerwise.reporting.gain.figures import gains, pairs
from layerwise.reporting.gain.results import bar_entry, failures, saved, saved_sentences
from layerwise.reporting.gain.text import (
    answer,
    label_sentences,
    learning_sentences,
    pair_sentences,
    ratio_sentences,
    ratio_words,
)
from layerwise.reporting.study_page import Figure, StudyPage, Table
from layerwise.reporting.text import NAMES
from layerwise.studies.gain.experiment import Gained
from layerwise.studies.gain.fractions import percent
from layerwise.studies.gain.scores import MEAN, METRICS, Bar, Scores, learning
from layerwise.studies.gain.study import GainStudy

MOST_LABELS = 30  # in a figure; of more, those with the largest gains

HOW = (
    "A triangle stands where the paired difference is beyond noise: its bootstrap p-value, "
    "adjusted by Holm's method for the {tests} differences of the figure, is below 0.05."
)


def gain_page(
    study: GainStudy, gained: Gained, scores: Scores, command: str, quick: bool = False
) -> StudyPage:
    """The page in words and figures.

    Args:
        study: What was compared.
        gained: What became of each run.
        scores: Theirs.
        command: That makes it again.
        quick: Whether it is the small form of a larger study.
    """
    images = _images(scores)
    means = [bar for bar in scores.bars if bar.label == MEAN]
    figures: list[Figure] = []
    if means:
        figures = [_figure4(study, scores, images), _gain(means, images)]
        figures += _figures3(study, scores)
    notes = [
        *failures(gained),
        *learning_sentences(learning(gained)),
        *_method(study, scores),
        *study.notes,
    ]
    if quick:
        notes.insert(
            0,
            "This is the quick form: one repeat and the smallest fractions. Its intervals know "
            "nothing of what another seed or other images would give. The whole study, which takes "
            "these runs over, is the same command without --quick and with another --out.",
        )
    return StudyPage(
        title=f"What transfer gains on {study.work.manifest.name}",
        answer=answer(scores, images),
        figures=figures,
        tables=[_scores_table(scores, means), _ratio_table(scores)],
        notes=notes,
        saved=saved_sentences(saved(gained)),
        reproduce=[command],
        metric="auroc",
    )


def _figure4(study: GainStudy, scores: Scores, images: dict[float, int]) -> Figure:
    """RI and TL by network and sample size."""
    means = [bar for bar in scores.bars if bar.label == MEAN]
    heading = {f: f"{percent(f)}\n{count:,} images" for f, count in images.items()}
    groups = {heading[f]: [b for b in means if b.fraction == f] for f in images}
    groups = {name: bars for name, bars in groups.items() if bars}
    said = [*pair_sentences(means, images), _how(study, means), *ratio_sentences(scores.balances)]
    many = "" if study.work.manifest.task == "binary" else ", the mean over labels"
    svg = pairs(
        "figure4",
        groups,
        dict.fromkeys(groups, scores.chance[MEAN]),
        f"AUROC and AUPRC of random initialisation and transfer learning. {' '.join(said[:2])}",
    )
    title = f"Figure 4: transfer and random initialisation by sample size{many}"
    return Figure("figure4", title, svg, _rows(means, scores), said)


def _gain(means: Sequence[Bar], images: dict[float, int]) -> Figure:
    """The difference itself."""
    said = [
        "Above 0 transfer is better. Lines are 95% intervals of the paired difference: the same "
        "test images, and the same repeats, for both. Filled markers are beyond noise after Holm's "
        "correction for all of them."
    ]
    names = {f: f"{percent(f)}\n{images[f]:,} images" for f in images}
    rows = [_flat(bar) for bar in means]
    return Figure("gain", "The gain: TL less RI", gains(means, names), rows, said)


def _figures3(study: GainStudy, scores: Scores) -> list[Figure]:
    """RI and TL by label and network, one figure a fraction, the largest first."""
    out: list[Figure] = []
    for fraction in sorted(study.design.fractions, reverse=True):
        bars = [b for b in scores.bars if b.label != MEAN and b.fraction == fraction]
        if not bars:
            continue
        labels = list(dict.fromkeys(bar.label for bar in bars))
        said = [*label_sentences(bars), _how(study, bars)]
        if len(labels) > MOST_LABELS:
            labels = _largest(bars, labels)
            said.append(f"Drawn are the {MOST_LABELS} labels with the largest differences.")
        first = not out
        name = "figure3" if first else f"figure3-{percent(fraction).rstrip('%')}percent"
        svg = pairs(
            name,
            {label: [b for b in bars if b.label == label] for label in labels},
            {label: scores.chance[label] for label in labels},
            f"AUROC and AUPRC of every label. {' '.join(said[:2])}",
        )
        title = f"Figure 3: every label, {percent(fraction)} of the training images"
        out.append(Figure(name, title, svg, _rows(bars, scores), said))
    return out


def _largest(bars: Sequence[Bar], labels: Sequence[str]) -> list[str]:
    """The labels with the largest mean differences in AUPRC, in their own order."""

    def size(label: str) -> float:
        found = [
            abs(b.gain["value"])
            for b in bars
            if b.label == label and b.metric == "auprc" and math.isfinite(b.gain["value"])
        ]
        return sum(found) / len(found) if found else -1.0

    kept = set(sorted(labels, key=size, reverse=True)[:MOST_LABELS])
    return [label for label in labels if label in kept]


def _how(study: GainStudy, bars: Sequence[Bar]) -> str:
    """How to read a figure of pairs."""
    repeats = study.design.repeats
    lines = (
        f"Bars are means over {repeats} repeats, lines their standard deviation."
        if repeats > 1
        else "Bars are of one repeat, so that there is no deviation to draw."
    )
    return f"{lines} {HOW.format(tests=len(bars))}"


def _rows(bars: Sequence[Bar], scores: Scores) -> list[dict[str, Any]]:
    """What a figure of pairs is drawn from, with the ratios that AUPRC hangs on."""
    chance = scores.chance
    return [
        {**_flat(bar), "auprc_of_chance": chance[bar.label] if bar.metric == "auprc" else None}
        for bar in bars
    ]


def _flat(bar: Bar) -> dict[str, Any]:
    """A bar with its test in columns of their own."""
    gain = dict(bar.gain)
    tests = {"p": gain.pop("p"), "p_holm": gain.pop("p_holm")}
    entry = bar_entry(bar)
    beyond = entry.pop("beyond_noise")
    return {**entry, "gain": gain, **tests, "beyond_noise": beyond}


def _scores_table(scores: Scores, means: Sequence[Bar]) -> Table:
    """One row a network and fraction, both metrics with their tests."""
    rows = []
    for fraction, network in dict.fromkeys((b.fraction, b.network) for b in means):
        row: dict[str, Any] = {"network": network, "fraction": percent(fraction)}
        for bar in means:
            if (bar.fraction, bar.network) != (fraction, network):
                continue
            for side, found in (("ri", bar.random), ("tl", bar.transferred), ("gain", bar.gain)):
                row[f"{bar.metric}_{side}"] = found
            row[f"{bar.metric}_p"] = bar.gain["p_holm"]
        rows.append(row)
    columns = {"network": "Network", "fraction": "Training images"}
    for metric in METRICS:
        name = NAMES[metric]
        columns |= {
            f"{metric}_ri": f"RI {name}",
            f"{metric}_tl": f"TL {name}",
            f"{metric}_gain": "TL − RI",
            f"{metric}_p": "p (Holm)",
        }
    said = [
        "Intervals are of the mean over repeats, by resampling patients and repeats; the standard "
        "deviations over repeats are in the CSV files."
    ]
    return Table("scores", "Scores on the test part", columns, rows, said)


def _ratio_table(scores: Scores) -> Table:
    """How unequal every label is, in every part."""
    rows = [
        {
            "part": "test" if one.part == "test" else f"train, {percent(one.fraction)}",
            "label": one.label,
            "images": round(one.images),
            "positives": round(one.positives),
            "negatives": round(one.negatives),
            "ratio": ratio_words(one.ratio),
            "chance": one.prevalence,
        }
        for one in scores.balances
    ]
    columns = {
        "label": "Label",
        "part": "Part",
        "images": "Images",
        "positives": "With it",
        "negatives": "Without it",
        "ratio": "Ratio",
        "chance": "AUPRC of chance",
    }
    title = "Imbalance ratios: one with the label to so many without it"
    return Table("ratios", title, columns, rows, ratio_sentences(scores.balances))


def _method(study: GainStudy, scores: Scores) -> list[str]:
    """How it was measured, where that limits what it says."""
    design = study.design
    start = "trained on the source data" if design.source_recipe else "pretrained"
    epochs = {percent(f): recipe.epochs for f, recipe in design.recipes.items()}
    same = len(set(epochs.values())) == 1
    each = ", ".join(f"{count} with {name}" for name, count in epochs.items())
    words = (
        f"{next(iter(epochs.values()))} epochs with every fraction" if same else f"epochs: {each}"
    )
    out = [
        f"RI and TL learn the same images in the same order by the same recipe ({words}), every "
        f"layer at one rate; TL starts from {start} weights, all but the classifier, and RI at "
        "random. Epochs are chosen on validation; the test part is scored once.",
        "The validation part is whole at every fraction, as in Peng et al. 2021: with 5% of the "
        "training images it may be larger than what is learnt from.",
        f"Intervals and p-values are of {scores.draws:,} resamples; p-values below what these can "
        "show are those of a normal tail.",
    ]
    if 1 < design.repeats < 5:
        out.append(
            f"{design.repeats} repeats show less of the variation between seeds than there is; "
            "the standard deviation stands beside each interval."
        )
    return out


def _images(scores: Scores) -> dict[float, int]:
    """The training images of every fraction."""
    return {one.fraction: round(one.images) for one in scores.balances if one.part == "train"}
