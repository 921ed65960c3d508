"""Who takes part, and what the two forms are."""

import numpy as np
import pytest

from layerwise.errors import LayerwiseError, ModelError
from layerwise.studies.baselines.lineup import (
    AUGMENTED,
    BASE,
    Form,
    entrants,
    forms,
    forms_of,
    refusal,
)

EVEN = np.array([0, 1] * 20)
UNEVEN = np.array([0] * 10 + [1] * 30)
SEVERAL = np.ones((8, 3), np.float32)


def keys(models):
    return [entrant.key for entrant in entrants(models)]


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        (None, "dummy random-forest svm lenet5 alexnet vgg16 cbr-small"),
        ("all", "dummy random-forest svm lenet5 alexnet vgg16 cbr-small"),
        ("cbr, svm,svm", "svm cbr-small"),
        ("networks,dummy", "dummy lenet5 alexnet vgg16 cbr-small"),
        ("cbr-tiny,lenet5,cbr-larget", "lenet5 cbr-tiny cbr-larget"),
        ("classic", "dummy random-forest svm"),
        ("torchvision:squeezenet1_1,RF", "random-forest torchvision:squeezenet1_1"),
    ],
)
def test_names_become_models_in_the_thesis_s_order(models, expected):
    assert keys(models) == expected.split()


def test_kinds_and_names():
    found = {e.key: (e.name, e.kind) for e in entrants("svm,vgg16,torchvision:alexnet")}
    assert found == {
        "svm": ("SVM", "classic"),
        "vgg16": ("VGG16", "network"),
        "torchvision:alexnet": ("alexnet", "network"),
    }


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ("svn", "'svn' is unknown.*svm"),
        ("lenet", "'lenet' is unknown.*lenet5"),
        (",", "names none; write dummy,"),
    ],
)
def test_unknown_models_are_named_with_what_is_near(models, message):
    with pytest.raises(LayerwiseError, match=message):
        entrants(models)


def test_an_unknown_network_of_a_library_is_refused():
    with pytest.raises(ModelError, match="no such network"):
        entrants("timm:no_such_network")


def test_a_network_says_why_it_takes_no_small_pictures():
    assert "at least 67 pixels" in refusal("alexnet", 64)
    assert refusal("alexnet", 67) == ""


@pytest.mark.parametrize(
    ("augment", "balance", "targets", "expected"),
    [
        ("radiograph", None, UNEVEN, Form(AUGMENTED, "radiograph", "augment")),  # thesis, §3.4
        ("radiograph", None, EVEN, Form(AUGMENTED, "radiograph", "weights")),
        ("natural", None, SEVERAL, Form(AUGMENTED, "natural", "weights")),
        ("none", None, UNEVEN, Form(AUGMENTED, "none", "weights")),
        ("natural", "sampling", EVEN, Form(AUGMENTED, "natural", "sampling")),
        ("natural", "none", UNEVEN, Form(AUGMENTED, "natural", "none")),
    ],
)
def test_the_augmented_form_follows_from_the_classes(augment, balance, targets, expected):
    found, remark = forms(augment, balance, targets)
    assert found == (Form(BASE, "none", "none"), expected)
    assert remark == ""


@pytest.mark.parametrize(
    ("augment", "balance", "targets"), [("none", None, EVEN), ("none", "none", UNEVEN)]
)
def test_where_nothing_would_change_there_is_one_form(augment, balance, targets):
    found, remark = forms(augment, balance, targets)
    assert found == (Form(BASE, "none", "none"),)
    assert "one form only" in remark


def test_the_dummy_has_one_form():
    both, _ = forms("flip", None, EVEN)
    dummy, svm = entrants("dummy,svm")
    assert forms_of(dummy, both) == both[:1] and forms_of(svm, both) == both
