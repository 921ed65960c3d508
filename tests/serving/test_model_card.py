"""The model card says what the bundle knows, and nothing that it does not."""

import dataclasses
import re

from layerwise.serving.bundle import BundleInfo, Preprocessing
from layerwise.serving.model_card import intended_use, limits, model_card, not_for


def metric(value, low, high):
    return {"value": value, "low": low, "high": high}


INFO = BundleInfo(
    "guangzhou",
    "binary",
    ("NORMAL", "PNEUMONIA"),
    Preprocessing((160, 128), 1, letterbox=True),
    0.4321,
    provenance={
        "run": "0123abcd",
        "model": "timm:mobilenetv2_100",
        "transfer": {"source": "imagenet.pth", "keep": "blocks.3", "copy": "all", "freeze": "all"},
        "weights": "imagenet.pth",
        "weights_digest": "d" * 64,
        "licence": "apache-2.0",
        "licence_source": "timm's configuration of mobilenetv2_100.ra_in1k",
        "data": "guangzhou",
        "data_fingerprint": "f" * 64,
        "counts": {
            "train": {"NORMAL": 1205, "PNEUMONIA": 3488},
            "test": {"NORMAL": 12, "PNEUMONIA": 390},
        },
        "patients": 2790,
        "versions": {"layerwise": "0.1.0", "torch": "2.15.0"},
    },
    scores={
        "auroc": metric(0.9612, 0.9401, 0.9777),
        "specificity": metric(0.75, None, None),
        "brier": metric(None, None, None),
        "per_label": {"PNEUMONIA": {"auroc": metric(0.9612, 0.9401, 0.9777)}},
    },
    explanation={"cut": "blocks.3", "exact": True, "why": None},
)


def changed(**changes):
    return dataclasses.replace(INFO, **changes)


def origin(**changes):
    return changed(provenance={**INFO.provenance, **changes})


def section(info, title):
    return re.search(rf"^## {title}\n\n(.*?)(?:\n\n## |\Z)", model_card(info), re.S | re.M)[1]


def test_every_number_of_the_bundle_is_there():
    card = model_card(INFO)
    assert card.startswith("# guangzhou\n") and card.endswith("\n")
    assert "128×160 pixels" in card and "a grey picture, keeping its proportions" in card
    scores = section(INFO, "Scores on the test part")
    assert "| AUROC | 0.961 | 0.940 to 0.978 |" in scores
    assert "| specificity | 0.750 |  |" in scores and "Brier" not in scores
    data = section(INFO, "Data")
    assert "guangzhou, 2,790 patients" in data and "f" * 64 in data
    assert "| train | 1,205 | 3,488 |" in data and "| test | 12 | 390 |" in data
    assert "0.4321" in section(INFO, "Decision") and "PNEUMONIA" in section(INFO, "Decision")
    assert "apache-2.0 (timm's configuration" in section(INFO, "Licence")
    told = section(INFO, "Origin")
    assert "0123abcd" in told and "keep blocks.3" in told and "d" * 64 in told
    assert "torch 2.15.0" in told
    assert "layerwise explain" in section(INFO, "Run it")
    assert model_card(INFO) == card


def test_it_is_for_people_who_look_themselves():
    assert "made for pictures like those of guangzhou" in " ".join(intended_use(INFO))
    said = " ".join(not_for(INFO))
    assert "no medical device" in said and "ommercial" not in said
    assert "commercial" in not_for(origin(licence="cc-by-nc-4.0"))[-1]
    assert "commercial" in not_for(origin(licence="fair-noncommercial-research-license"))[-1]
    assert "commercial" not in not_for(origin(licence="ncsa"))[-1]


def test_limits_follow_from_what_was_measured():
    said = " ".join(limits(INFO))
    assert "NORMAL (12)" in said and "PNEUMONIA (390)" not in said
    assert "may as well be" not in said and "too narrow" not in said
    wide = changed(scores={"auroc": metric(0.8, 0.7, 0.9)})
    assert "may as well be 0.70 as 0.90" in " ".join(limits(wide))
    assert "too narrow" in " ".join(limits(origin(patients=None)))
    assert "No test scores are known" in limits(changed(scores={}))[0]
    assert "None were measured." in model_card(changed(scores={}))
    blind = changed(explanation={"cut": None, "why": "no cut keeps the places"})
    assert "no cut keeps the places" in " ".join(limits(blind))
    assert "layerwise explain" not in model_card(blind)


def test_a_bundle_that_says_little_has_a_card_too():
    bare = BundleInfo("x", "multiclass", ("a", "b", "c"), Preprocessing((8, 8), 3, False))
    card = model_card(bare)
    assert "a, b and c" in card and "most probable label" in card
    assert "Pretrained weights: unknown." in card and "not known" in card
    several = dataclasses.replace(bare, task="multilabel", threshold=[0.1, 0.25, 0.9])
    assert "a 0.1, b 0.25, c 0.9" in section(several, "Decision")
    alone = dataclasses.replace(bare, task="multilabel")
    assert "0.5" in section(alone, "Decision")


def test_every_member_of_an_ensemble_is_named():
    members = [
        {"run": "aaaa", "model": "lenet5", "licence": "none needed", "weight": 0.75},
        {"run": "bbbb", "model": "vgg16", "licence": "cc-by-nc-4.0", "weight": 0.25},
    ]
    both = changed(provenance={"data": "d", "members": members})
    told = section(both, "Origin")
    assert "`aaaa`: lenet5" in told and "counts 0.750" in told and "`bbbb`: vgg16" in told
    assert "none needed" in section(both, "Licence")
    assert "commercial" in not_for(both)[-1]


def test_names_from_elsewhere_are_text_and_not_markup():
    evil = "<script>alert(1)</script>|x\n# [a](http://b) `c`"
    info = changed(name=evil, labels=(evil, "PNEUMONIA"), provenance={"data": evil, "run": evil})
    for line in model_card(info).splitlines():
        plain = re.sub(r"\\.", "", line)
        assert not re.search(r"<|\]\(", re.sub(r"`[^`]*`", "", plain))
    assert model_card(info).count("\n# ") == 0


def test_what_8_bit_integers_cost_is_told():
    info = changed(
        quantised={
            "auroc_difference": metric(-0.0012, -0.003, 0.0004),
            "agreement": 0.985,
            "speedup": metric(1.83, 1.7, 1.9),
            "bytes": {"before": 1000, "after": 270},
        }
    )
    told = section(info, "8-bit integers")
    assert "-0.0012 | -0.0030 to +0.0004" in told and "98.50%" in told
    assert "1.83 | 1.70 to 1.90" in told and "270 after 1000" in told
