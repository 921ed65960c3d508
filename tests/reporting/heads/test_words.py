"""The sentences of a heads study: what they say follows from the numbers."""

import re

import pytest

from layerwise.reporting.heads.words import (
    advice,
    answer,
    epoch_words,
    failures,
    gap_words,
    imagenet_words,
    pair_words,
    size_words,
)
from layerwise.studies.heads.experiment import CONNECTED, POOLED, SVM

SIZES = {CONNECTED: 16_000_000, POOLED: 1281, SVM: 62_721}


def span(value, half=0.02):
    return {"value": value, "low": value - half, "high": value + half}


def head(name, val=0.9, gap=0.01, half=0.02, **more):
    return {
        "head": name,
        "parameters": SIZES[name],
        "train_accuracy": span(val + gap),
        "val_accuracy": span(val),
        "test_accuracy": span(val - 0.01),
        "gap": span(gap, half),
        "overfits": gap - half > 0,
        "epochs": 60,
        "kept_epochs": [7],
        "repeats": 1,
        "lowest_loss": 0.2,
        "lowest_loss_epoch": 7,
        "last_loss": 0.5,
        **more,
    }


def pair(one, other, value, half=0.02, part="val"):
    beyond = abs(value) > half
    return {
        "part": part,
        "head": one,
        "other": other,
        "difference": span(value, half),
        "beyond_noise": beyond,
    }


def results(heads=None, pairs=None, sizes=(), **study):
    heads = heads or [head(name) for name in SIZES]
    pairs = pairs if pairs is not None else [pair(CONNECTED, POOLED, 0.0)]
    shown = {"imagenet": False, "folds": 10, "svm_values": 62_720} | study
    return {
        "data": {"labels": ["cats", "dogs"]},
        "study": shown,
        "recommended": POOLED,
        "best": CONNECTED,
        "curves": {"heads": heads, "pairs": pairs, "sizes": list(sizes)},
    }


def test_the_smallest_within_noise_is_advised_and_the_best_is_named():
    said = advice(results())
    assert said.startswith("Take the head on global average pooling: with 1,281 parameters")
    assert "within noise of the best on validation" in said
    assert "the fully connected head, has 0.900 (0.880–0.920) and 16 M parameters" in said


@pytest.mark.parametrize(
    ("best", "words"),
    [
        (CONNECTED, "no smaller one is within noise"),
        (POOLED, "best on validation and the smallest"),
    ],
)
def test_the_best_is_advised_where_no_smaller_one_is_as_good(best, words):
    found = results() | {"recommended": best, "best": best}
    assert words in advice(found)


def test_differences_are_said_one_by_one_only_where_one_is_beyond_noise():
    quiet = [pair(CONNECTED, POOLED, 0.01), pair(CONNECTED, SVM, -0.015), pair(POOLED, SVM, 0.0)]
    (said,) = pair_words(results(pairs=quiet), "val")
    assert "the largest is that of the fully connected head and the linear SVM, 0.015" in said
    loud = [pair(CONNECTED, POOLED, 0.08), *quiet[1:]]
    said = pair_words(results(pairs=loud), "val")
    assert said[0].startswith(
        "The fully connected head is higher than the head on global average pooling by 0.080"
    )
    assert len(said) == 3 and "within noise" in said[1]
    assert pair_words(results(pairs=loud), "test") == []


def test_overfitting_is_named_where_the_interval_of_the_gap_is_above_0():
    heads = [head(CONNECTED, 0.85, 0.15), head(POOLED, gap=0.01), head(SVM, 0.86, 0.14)]
    said = gap_words(results(heads))
    assert said[0] == (
        "The fully connected head overfits: it is right on 100.0% of the images that it learnt "
        "from and on 85.0% of the validation part, a gap of 0.150 (95% 0.130 to 0.170)."
    )
    assert "The linear SVM overfits" in said[1]
    assert said[2].startswith("The gap between training and validation accuracy of the others is")
    assert "global average pooling 0.010 (95% −0.010 to 0.030)" in said[2]
    assert "overfits" not in " ".join(gap_words(results()))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, r"lowest in epoch 7 \(0.200\) and rises to 0.500"),
        ({"last_loss": 0.21}, "hardly changes after it"),
        ({"lowest_loss_epoch": 59, "last_loss": 0.2}, "still falling.*more --epochs"),
    ],
)
def test_the_loss_by_epoch_is_described(more, words):
    said = " ".join(epoch_words(results([head(CONNECTED, **more)]), CONNECTED))
    assert re.search(words, said) and "epoch 7 of 60" in said
    assert epoch_words(results([head(CONNECTED)]), POOLED) == []


def test_a_training_accuracy_of_1_is_explained_where_a_plane_always_parts_the_images():
    def sizes(train):
        return [
            {
                "head": SVM,
                "images": 50 * n,
                "val_accuracy": span(0.8),
                "train_in_folds": {"value": train},
            }
            for n in (1, 4)
        ]

    assert "62,720 values an image, 200 images" in " ".join(size_words(results(sizes=sizes(1.0))))
    assert "by a plane" not in " ".join(size_words(results(sizes=sizes(0.99))))
    few = results(sizes=sizes(1.0), svm_values=100)
    assert "by a plane" not in " ".join(size_words(few))
    assert "0.800 (0.780–0.820) from 50 training images" in size_words(few)[0]


def test_imagenet_is_said_with_what_it_knows_of_these_classes():
    assert imagenet_words(results()) == []
    (said,) = imagenet_words(results(imagenet=True))
    assert "118 breeds of dogs" in said and "it knows cats and dogs already" in said
    other = results(imagenet=True) | {"data": {"labels": ["catheter", "hotdogs"]}}
    assert "Where your classes are among its 1,000" in imagenet_words(other)[0]


def test_without_any_head_there_is_nothing_to_advise():
    found = results() | {"curves": {"heads": [], "pairs": [], "sizes": []}}
    assert answer(found) == ["No head could be trained."]
    runs = [
        {"name": "linear SVM", "state": "done"},
        {
            "name": "fully connected, 50% of the images",
            "state": "failed",
            "reason": "the loss became nan",
        },
    ]
    assert failures(runs) == [
        "Fully connected, 50% of the images failed and is left out: the loss became nan"
    ]


def test_the_epochs_that_were_kept_are_named_once():
    def first(*kept):
        several = head(CONNECTED, kept_epochs=list(kept), repeats=len(kept))
        return epoch_words(results([several]), CONNECTED)[0]

    end = "with the lowest loss on validation"
    assert first(7) == f"The weights kept are those of epoch 7 of 60, {end}."
    assert first(7, 7) == f"The weights kept are those of epoch 7 of 60, {end}, in every repeat."
    assert first(7, 9) == f"The weights kept are those of epoch 7, 9 of 60, {end}, one a repeat."
