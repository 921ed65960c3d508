"""Which images of DATA a bundle is measured on, under which labels, and what is warned about."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from layerwise.data.load import DataOptions, load
from layerwise.data.splits.assign import assign
from layerwise.data.splits.contents import read_contents
from layerwise.errors import DataError
from layerwise.serving.card import BundleInfo, Preprocessing
from layerwise.serving.labelled import labelled, parse_rename

COUNT = 80
INFO = BundleInfo(
    "test",
    "binary",
    ("NORMAL", "PNEUMONIA"),
    Preprocessing((8, 8), 1, letterbox=False),
    0.5,
    provenance={"seed": 3, "data_fingerprint": "f" * 64},
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures whose brightness is their number."""
    made = tmp_path_factory.mktemp("pictures")
    for k in range(COUNT):
        Image.fromarray(np.full((8, 8), 3 * k, np.uint8)).save(made / f"{k:02d}.png")
    return made


@pytest.fixture
def table(folder):
    """Write a table of them; ill are the odd ones, and two have one patient."""

    def write(name, split=None, labels=("NORMAL", "PNEUMONIA"), patient=lambda k: f"p{k // 2}"):
        lines = ["path,label,patient" + (",split" if split else "")]
        for k in range(COUNT):
            line = f"{k:02d}.png,{labels[k % len(labels)]},{patient(k)}"
            lines.append(line + (f",{split(k)}" if split else ""))
        (folder / name).write_text("\n".join(lines))
        return folder / name

    return write


@pytest.fixture
def ask(tmp_path):
    """`labelled` without what is the same in all tests."""

    def ask_for(info, data, **more):
        options = more.pop("options", DataOptions())
        return labelled(info, data, options, cache=tmp_path, say=lambda text: None, **more)

    return ask_for


def thirds(k):
    return "train" if k < 40 else "val" if k < 60 else "test"


def test_a_part_that_is_there_is_taken_with_its_pictures(table, ask):
    found = ask(INFO, table("parts.csv", thirds))
    assert found.rows.tolist() == list(range(60, 80)) and found.part == "test"
    assert found.store.read(found.rows)[:, 0, 0, 0].tolist() == [3 * k for k in range(60, 80)]
    assert found.counts == {"NORMAL": 10, "PNEUMONIA": 10}
    assert not found.fitted and found.warnings == ()
    assert ask(INFO, table("parts.csv", thirds), part="validation").rows[0] == 40
    assert len(ask(INFO, table("parts.csv", thirds), part="all").rows) == 80


def test_data_without_parts_are_taken_whole_and_others_are_named(table, ask):
    found = ask(INFO, table("plain.csv"))
    assert (found.part, len(found.rows)) == ("all", COUNT)
    assert "DATA has no parts" in found.warnings[0]
    half = table("half.csv", lambda k: "train" if k < 40 else "val")
    with pytest.raises(DataError, match=r"no test part; it has validation \(40.*, train \(40"):
        ask(INFO, half)


def test_the_parts_of_the_fit_are_found_again_by_its_seed(table, ask, tmp_path):
    plain = table("plain.csv")
    manifest = load(plain)
    split = assign(manifest, contents=read_contents(manifest)[0], seed=3)
    split.write(tmp_path / "manifest.csv")
    key = ask(INFO, tmp_path / "manifest.csv").fingerprint
    ours = dataclasses.replace(INFO, provenance={"seed": 3, "data_fingerprint": key})
    found = ask(ours, plain)
    assert found.fitted and found.fingerprint == key and found.warnings == ()
    assert found.part == "test" and found.rows.tolist() == split.indices("test").tolist()
    for part in ("train", "all"):
        assert "learnt from these images" in ask(ours, plain, part=part).warnings[0]
    assert "chosen on these images" in ask(ours, plain, part="validation").warnings[0]
    assert "learnt" in ask(ours, tmp_path / "manifest.csv", part="train").warnings[0]
    other = dataclasses.replace(INFO, provenance={"seed": 4, "data_fingerprint": key})
    assert not ask(other, plain).fitted


def test_who_learns_and_tests_is_a_warning(table, ask):
    data = table("leaking.csv", thirds, patient=lambda k: "p1" if k in (2, 70) else f"p{k // 2}")
    (warning,) = ask(INFO, data).warnings
    assert "1 patient is in both train and test (p1)" in warning
    assert ask(INFO, data, part="validation").warnings == ()


def test_labels_are_put_in_the_bundles_order(table, ask):
    turned = dataclasses.replace(INFO, labels=("PNEUMONIA", "NORMAL"))
    found = ask(turned, table("parts.csv", thirds))
    assert found.manifest.labels == turned.labels
    assert found.manifest.targets[:4].tolist() == [1, 0, 1, 0]


def test_other_labels_are_refused_with_both_lists_or_renamed(table, ask):
    data = table("other.csv", thirds, ("Normal", "bacteria", "NORMAL!", "virus"))
    with pytest.raises(DataError, match="knows two classes: NORMAL, PNEUMONIA.*classes: NORMAL!"):
        ask(INFO, data)
    data = table("spelt.csv", thirds, ("normal", "PNEUMONIA"))
    with pytest.raises(DataError, match="--rename 'normal=NORMAL'"):
        ask(INFO, data)
    found = ask(INFO, data, rename={"normal": "NORMAL"})
    assert found.manifest.targets[:2].tolist() == [0, 1]
    with pytest.raises(DataError, match="has no label 'healthy'"):
        ask(INFO, data, rename={"healthy": "NORMAL"})
    merged = table("merged.csv", thirds, ("NORMAL", "bacteria", "NORMAL", "virus"))
    found = ask(INFO, merged, rename=parse_rename(["bacteria=PNEUMONIA", "virus=PNEUMONIA"]))
    assert found.counts == {"NORMAL": 10, "PNEUMONIA": 10}
    with pytest.raises(DataError, match="not OLD=NEW"):
        parse_rename(["bacteria"])


def test_a_class_that_data_lack_is_left_without_images(table, ask):
    three = dataclasses.replace(
        INFO, task="multiclass", labels=("COVID", "PNEUMONIA", "NORMAL"), threshold=None
    )
    found = ask(three, table("parts.csv", thirds))
    assert found.manifest.task == "multiclass"
    assert found.counts == {"COVID": 0, "PNEUMONIA": 10, "NORMAL": 10}
    assert any("no label COVID" in note for note in found.notes)


def test_several_labels_are_matched_by_column_and_absent_ones_unknown(folder, ask):
    lines = ["path,Edema,Fracture"] + [f"{k:02d}.png,{k % 2},{k % 3 // 2}" for k in range(COUNT)]
    (folder / "several.csv").write_text("\n".join(lines))
    info = dataclasses.replace(
        INFO, task="multilabel", labels=("Fracture", "Effusion", "Edema"), threshold=[0.5] * 3
    )
    options = DataOptions(label_column=("Edema", "Fracture"))
    found = ask(info, folder / "several.csv", options=options, part="all")
    expected = np.array([[k % 3 // 2, np.nan, k % 2] for k in range(COUNT)], np.float32)
    np.testing.assert_array_equal(found.manifest.targets, expected)
    with pytest.raises(DataError, match="the labels differ"):
        ask(INFO, folder / "several.csv", options=options)


def test_columns_of_subgroups_go_with_the_images(folder, table, ask):
    data = table("parts.csv", thirds)
    lines = data.read_text().splitlines()
    lines = [f"{lines[0]},Sex", *(f"{line},{'FM'[k % 2]}" for k, line in enumerate(lines[1:]))]
    (folder / "sexes.csv").write_text("\n".join(lines))
    found = ask(INFO, folder / "sexes.csv", options=DataOptions(subgroup=("sex",)))
    assert found.columns == {"sex": ["F", "M"] * 10}
    with pytest.raises(DataError, match="--subgroup age: .* its columns are path, label"):
        ask(INFO, folder / "sexes.csv", options=DataOptions(subgroup=("age",)))
    with pytest.raises(DataError, match="--subgroup: .*has no use for it"):
        ask(INFO, folder, options=DataOptions(subgroup=("age",)))
