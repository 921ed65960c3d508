"""The catalogue against published numbers and against the networks themselves."""

import random
import re
import sys
from pathlib import Path

import pytest
import torchvision

from layerwise.models import catalogue
from layerwise.models.catalogue import (
    Entry,
    brought_up_to_date,
    fits,
    installed,
    isolated,
    measure,
    names,
    read,
    shortened,
    write,
)

KNOWN = {entry.name: entry for entry in read().entries}
USABLE = [entry for entry in KNOWN.values() if entry.parameters]
MEASURED = sorted(entry.name for entry in KNOWN.values() if entry.measured)
same_versions = pytest.mark.skipif(
    read().versions != installed(), reason="the catalogue was made with other versions"
)


def test_every_network_is_there_once_in_order():
    """Our own first, then torchvision's, then timm's."""
    listed = [entry.name for entry in read().entries]
    assert set(listed) == set(names()) and len(listed) == len(set(listed))
    sources = [name.partition(":")[0] if ":" in name else "" for name in listed]
    assert list(dict.fromkeys(sources)) == ["", "torchvision", "timm"]
    assert sources == sorted(sources, key=["", "torchvision", "timm"].index)


@pytest.mark.slow
def test_every_network_is_measured():
    """Red while `python -m layerwise.models.catalogue` has not been run to its end."""
    assert [entry.name for entry in KNOWN.values() if not entry.measured] == []


@pytest.mark.parametrize(
    ("name", "published", "features"),
    [
        ("timm:resnet50", 25_557_032, 2048),  # He et al. 2016, as torchvision counts them
        ("torchvision:resnet50", 25_557_032, 2048),
        ("torchvision:densenet121", 7_978_856, 1024),
        ("timm:densenet121", 7_978_856, 1024),
        ("torchvision:vgg16", 138_357_544, 4096),
        ("timm:mobilenetv2_100", 3_504_872, 1280),
    ],
)
def test_parameters_are_those_published_less_999_answers(name, published, features):
    """A linear layer with one output instead of 1,000 lacks 999 rows of weights and a bias each."""
    assert KNOWN[name].parameters == published - 999 * (features + 1)


def test_the_documentation_has_the_same_numbers():
    """Every network of our own has a row in docs/models.md, with its parameters and size."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| ([\d,]+) \| (\d+)×", text, re.MULTILINE)
    said = {name: (int(number.replace(",", "")), int(side)) for name, number, side in rows}
    ours = [entry for entry in KNOWN.values() if ":" not in entry.name]
    assert said == {entry.name: (entry.parameters, entry.height) for entry in ours}
    for reason in {entry.reason for entry in KNOWN.values()} - {""}:
        assert reason in text


def test_vgg16_as_computed_by_hand():
    """Simonyan and Zisserman 2015, configuration D, at 224 pixels: convolutions of 3×3."""
    sides = [224] * 2 + [112] * 2 + [56] * 3 + [28] * 3 + [14] * 3
    widths = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    macs = sum(
        9 * below * above * side**2
        for below, above, side in zip([3, *widths], widths, sides, strict=False)
    )
    macs += 512 * 49 * 4096 + 4096 * 4096 + 4096 * 1
    entry = KNOWN["torchvision:vgg16"]
    assert entry.macs == macs
    assert (entry.channels, entry.height, entry.width) == (3, 224, 224)


def test_torchvision_agrees_on_its_networks():
    """Parameters and operations of 1,000 answers, as torchvision publishes them with its weights.

    The difference of the parameters is 999 rows of weights, which tells the features before the
    classifier and so the difference of the operations. Its GoogLeNet, Inception and Swin count
    parts that ours leaves out (auxiliary outputs) or operations that ours does not (attention).
    """
    compared = 0
    for entry in USABLE:
        source, _, kind = entry.name.partition(":")
        if source != "torchvision" or kind.startswith(("googlenet", "inception", "swin", "maxvit")):
            continue
        meta = torchvision.models.get_model_weights(kind).DEFAULT.meta
        rows, rest = divmod(meta["num_params"] - entry.parameters, 999)
        assert rest == 0, entry.name
        spatial = 13 * 13 if kind.startswith("squeezenet") else 1  # its classifier comes first
        operations = entry.macs + 999 * (rows - 1) * spatial
        assert operations / 1e9 == pytest.approx(meta["_ops"], rel=0.01, abs=0.001), entry.name
        compared += 1
    assert compared > 50


@same_versions
@pytest.mark.parametrize(
    "name",
    [
        "lenet5",
        "torchvision:squeezenet1_1",
        "torchvision:mobilenet_v3_small",
        "timm:resnet18",
        "timm:mobilenetv2_100",
        "timm:vit_tiny_patch16_224",
    ],
)
def test_rows_are_those_found_anew(name):
    assert measure(name) == KNOWN[name]


@same_versions
@pytest.mark.slow
@pytest.mark.parametrize("name", random.Random(0).sample(MEASURED, min(40, len(MEASURED))))
def test_a_sample_of_rows_is_found_anew(name):
    entry, message = isolated(name)
    assert entry == KNOWN[name], message


def test_refused_networks_have_a_reason_in_few_words():
    for entry in KNOWN.values():
        if not entry.measured:
            assert entry == Entry(entry.name)
        elif entry.reason:
            assert len(entry.reason.split()) <= 4
            # A network without a cut is measured like any other; the rest could not be.
            assert (entry.macs > 0, entry.cuts) == (entry.reason == "no cuts", 0)
        else:
            assert entry.parameters > 0 and entry.macs > 0 and entry.cuts >= entry.blocks > 0


def test_what_is_written_is_read_again(tmp_path):
    entries = (Entry("a:b", 5, 7, 3, 32, 48, 4, 2), Entry("c", reason="odd, and “quoted”"))
    versions = {"timm": "1.2", "torch": "3"}
    write(tmp_path / "c.csv", entries, versions)
    assert read(tmp_path / "c.csv").entries == entries
    assert read(tmp_path / "c.csv").versions == versions
    assert read(tmp_path / "absent.csv").entries == ()
    with (tmp_path / "c.csv").open("a") as file:
        file.write("d,12,")  # cut off while it was written
    assert read(tmp_path / "c.csv").entries == entries


@pytest.mark.parametrize(
    ("pattern", "fitting"),
    [
        ("timm:res*", {"timm:resnet50", "timm:resnext50"}),
        ("resnet50", {"timm:resnet50", "torchvision:resnet50"}),
        ("*NET50", {"timm:resnet50", "torchvision:resnet50"}),
        ("?enet5", {"lenet5"}),
        ("timm:resnet5", set()),
    ],
)
def test_patterns(pattern, fitting):
    listed = ["lenet5", "timm:resnet50", "timm:resnext50", "torchvision:resnet50"]
    assert {name for name in listed if fits(name, pattern)} == fitting


def test_another_timm_is_noticed(monkeypatch):
    """Its new networks are listed without numbers, those that are gone are not."""
    mine = catalogue.Catalogue(
        (Entry("lenet5", 5), Entry("timm:gone", 7), Entry("timm:kept", 9)),
        {"timm": "1.0", "torchvision": "2.0", "torch": "3.0"},
    )
    monkeypatch.setattr(catalogue, "names", lambda: ["lenet5", "timm:kept", "timm:new"])
    there = {"timm": "1.1", "torchvision": "2.0", "torch": "3.0"}
    monkeypatch.setattr(catalogue, "installed", lambda: there)
    found, note = brought_up_to_date(mine)
    assert found == [Entry("lenet5", 5), Entry("timm:kept", 9), Entry("timm:new")]
    assert note == "the numbers were found with timm 1.0 (installed: 1.1)"
    monkeypatch.setattr(catalogue, "installed", lambda: there | {"timm": "1.0", "torch": "4"})
    assert brought_up_to_date(mine) == (list(mine.entries), "")


@pytest.mark.slow
def test_filling_keeps_what_is_there_and_survives_a_monster(tmp_path, monkeypatch, capsys):
    """Rows that are there stay; one that takes too long or too much is a row with its reason."""
    out = tmp_path / "made.csv"
    listed = ["lenet5", "timm:resnet18", "timm:resnet26"]
    one, odd = Entry("timm:resnet18", 1), Entry("timm:resnet26", reason="odd")
    write(out, [odd, one], installed())
    monkeypatch.setattr(catalogue, "names", lambda: listed)
    monkeypatch.setattr(sys, "argv", ["catalogue", str(out), "--jobs", "2"])
    catalogue._main()
    assert read(out).entries == (KNOWN["lenet5"], one, odd)
    assert capsys.readouterr().out.splitlines() == ["1/1 lenet5 34635761"]
    for words in (["timm:*", "--refused"], ["timm:resnet1?", "--again"]):
        monkeypatch.setattr(sys, "argv", ["catalogue", str(out), *words])
        catalogue._main()
    assert read(out).entries == tuple(map(measure, listed))
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["1/1", "timm:resnet26"],
        ["1/1", "timm:resnet18"],
    ]
    assert isolated("timm:efficientnet_b7", seconds=1)[0].reason == "too slow"
    assert isolated("timm:vit_large_r50_s32_224", gigabytes=1)[0].reason == "too large"
    assert isolated("timm:no_such_network")[0].reason == "fails"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("Net computes something else in training than in evaluation (…)", "differs in training"),
        ("--model x does not end in one layer with 1 outputs", "several outputs"),
        ("Net can not be traced by torch.fx, so …", "not traceable"),
        ("something unheard of", "fails"),
    ],
)
def test_refusals_in_a_word_or_two(message, words):
    assert shortened(message) == words
