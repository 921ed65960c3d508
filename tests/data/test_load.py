"""Every kind of DATA, good and bad."""

import io
import os

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from layerwise.data.load import DataOptions, load
from layerwise.errors import DataError

GUANGZHOU = r"(person\d+|(?:NORMAL2-)?IM-\d+)"


def fill(folder, names):
    """Small pictures of these names below a folder."""
    file = io.BytesIO()
    Image.new("L", (4, 4)).save(file, "PNG")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(file.getvalue())
    return folder


def write(folder, text, name="t.csv"):
    (folder / name).write_text(text)
    return folder / name


def test_class_folders_without_parts(tmp_path):
    fill(tmp_path, ["sick/b.png", "sick/deep/a.png", "fine/c.png", "fine/d.jpg"])
    fill(tmp_path, ["sick/.hidden", ".git/x.png", "fine/Thumbs.db", "readme.txt"])
    (tmp_path / "third").mkdir()
    manifest = load(tmp_path)
    assert manifest.task == "binary" and manifest.labels == ("fine", "sick")
    assert manifest.table["id"].tolist() == [
        "fine/c.png",
        "fine/d.jpg",
        "sick/b.png",
        "sick/deep/a.png",
    ]
    assert manifest.targets.tolist() == [0, 0, 1, 1]
    assert manifest.table["path"].tolist()[0] == str(tmp_path / "fine" / "c.png")
    said = " ".join(manifest.notes)
    assert "'sick' is taken as the positive class" in said
    assert "third is empty" in said and "1 files beside" in said
    swapped = load(tmp_path, DataOptions(positive="fine"))
    assert swapped.labels == ("sick", "fine") and swapped.targets.tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("name", ["val", "Valid", "VALIDATION"])
def test_parts_by_any_usual_name(tmp_path, name):
    fill(tmp_path, [f"{part}/{c}/1.png" for part in ("Train", name, "test") for c in "ab"])
    manifest = load(tmp_path)
    each = {"a": 1, "b": 1}
    assert manifest.counts() == {"train": each, "val": each, "test": each}


def test_relative_paths_and_links(tmp_path, monkeypatch):
    fill(tmp_path / "real", ["a/1.png", "a/2.png", "b/1.png", "b/2.png"])
    (tmp_path / "data").mkdir()
    for name in "ab":
        (tmp_path / "data" / name).symlink_to(tmp_path / "real" / name)
    (tmp_path / "real" / "a" / "loop").symlink_to(tmp_path / "real" / "a")
    monkeypatch.chdir(tmp_path)
    manifest = load("data")
    assert len(manifest) == 4
    assert all(os.path.isabs(path) for path in manifest.table["path"])


def test_of_two_links_to_one_folder_the_first_is_kept(tmp_path):
    fill(tmp_path / "real", ["1.png", "2.png"])
    fill(tmp_path / "data", ["b/3.png", "b/4.png", "a/5.png"])
    for name in ("zz", "mm", "aa"):
        (tmp_path / "data" / "a" / name).symlink_to(tmp_path / "real")
    ids = load(tmp_path / "data").table["id"].tolist()
    assert ids == ["a/5.png", "a/aa/1.png", "a/aa/2.png", "b/3.png", "b/4.png"]


def test_patients_from_names(tmp_path):
    names = ["train/a/p1_x.png", "train/a/p2_x.png", "train/b/p1_y.png", "train/b/odd.png"]
    fill(tmp_path, [*names, "test/a/p2_z.png", "test/b/p3_z.png"])
    manifest = load(tmp_path, DataOptions(patient_from=r"p(\d+)_"))
    patients = dict(zip(manifest.table["id"], manifest.table["patient"], strict=True))
    assert patients == {
        "train/a/p1_x.png": "1",
        "train/b/p1_y.png": "1",
        "train/a/p2_x.png": "train/2",
        "test/a/p2_z.png": "test/2",
        "test/b/p3_z.png": "3",
        "train/b/odd.png": "",
    }
    said = " ".join(manifest.notes)
    assert "numbering restarts in test: 1 patient numbers occur in both parts" in said
    assert "matches nothing in 1 of 6 file names" in said
    whole = load(tmp_path, DataOptions(patient_from=r"p\d+_"))
    assert "p1_" in set(whole.table["patient"])
    for pattern, why in (("(", "not a regular expression"), ("xyz", "matches no file name")):
        with pytest.raises(DataError, match=f"--patient-from.*{why}"):
            load(tmp_path, DataOptions(patient_from=pattern))


@pytest.mark.parametrize(
    "names, options, said",
    [
        ([], {}, "nothing in it"),
        (["1.png"], {}, "no class folders.*--labels"),
        (["a/1.png", "a/2.png"], {}, "only one class"),
        (["a/1.png", "a/2.png", "b/1.png"], {}, "class 'b' has one image"),
        (["a/1.png", "a/2.png", "b/1.png", "b/2.png"], {"positive": "c"}, "--positive c"),
        (["a/.x"], {}, "no images"),
    ],
)
def test_folders_that_can_not_be_used(tmp_path, names, options, said):
    with pytest.raises(DataError, match=said):
        load(fill(tmp_path, names), DataOptions(**options))


def test_other_things_that_are_no_data(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        load(tmp_path / "absent")
    with pytest.raises(DataError, match=r"ending in \.txt"):
        load(write(tmp_path, "x", "x.txt"))
    with pytest.raises(DataError, match="--labels"):
        load(tmp_path, DataOptions(labels="absent.csv"))


ROWS = "file,diagnosis,Patient ID,date,split\n"
ROWS += "1.png,yes,7,2020,train\n2.png,no,,2021,validation\nsub/3.png,yes,7,,test\n4.png,no,8,,\n"


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_a_table_with_guessed_columns(tmp_path, kind):
    fill(tmp_path, ["1.png", "2.png", "sub/3.png", "4.png"])
    file = tmp_path / f"t.{kind}"
    if kind == "parquet":
        pd.read_csv(io.StringIO(ROWS)).to_parquet(file)
    else:
        file.write_text(ROWS.replace(",", "\t") if kind == "tsv" else ROWS)
    manifest = load(file)
    assert manifest.labels == ("no", "yes") and manifest.targets.tolist() == [1, 0, 1, 0]
    assert manifest.table["split"].tolist() == ["train", "val", "test", ""]
    patients = manifest.table["patient"].tolist()
    assert patients[1] == "" and patients[0] == patients[2] != patients[3]
    said = " ".join(manifest.notes)
    for column in ("'file'", "'diagnosis'", "'Patient ID'", "'date'", "'split'"):
        assert column in said


def test_columns_by_flag_are_not_guessed(tmp_path):
    fill(tmp_path, ["1.png", "2.png", "3.png", "4.png"])
    file = write(tmp_path, "label,q,path\na,1.png,x\nb,2.png,x\na,3.png,x\nb,4.png,x\n")
    manifest = load(file, DataOptions(path_column="q", label_column=("label",)))
    assert manifest.targets.tolist() == [0, 1, 0, 1] and manifest.notes[0].startswith("'b'")
    with pytest.raises(DataError, match="--label-column zz.*label, q, path"):
        load(file, DataOptions(path_column="q", label_column=("zz",)))


def test_several_labels_an_image(tmp_path):
    fill(tmp_path, [f"{i}.png" for i in range(4)])
    marks = write(tmp_path, "path,A,B\n0.png,1,0\n1.png,0.0,\n2.png,1.0,1\n3.png,false,TRUE\n")
    marks.write_text(marks.read_text() + "4.png,0,0\n")
    fill(tmp_path, ["4.png"])
    manifest = load(marks, DataOptions(label_column=("A", "B")))
    assert manifest.task == "multilabel" and manifest.labels == ("A", "B")
    expected = [[1, 0], [0, np.nan], [1, 1], [0, 1], [0, 0]]
    np.testing.assert_array_equal(manifest.targets, np.array(expected, np.float32))
    listed = write(
        tmp_path, "path,label\n0.png,X|Y\n1.png,No Finding\n2.png,Y\n3.png,X\n4.png,No Finding\n"
    )
    manifest = load(listed, DataOptions(multi_label=True))
    assert manifest.labels == ("X", "Y")
    assert manifest.targets.tolist() == [[1, 1], [0, 0], [0, 1], [1, 0], [0, 0]]


def test_a_folder_with_a_table_elsewhere_and_files_found_by_name(tmp_path):
    fill(tmp_path / "images", ["x/1.png", "x/2.png", "y/3.jpg", "y/4.jpg"])
    file = write(tmp_path, "path,label\n1.png,a\n2.png,b\n3.png,a\ny/4.jpg,b\n")
    manifest = load(tmp_path / "images", DataOptions(labels=str(file)))
    assert manifest.table["id"].tolist() == ["x/1.png", "x/2.png", "y/3.jpg", "y/4.jpg"]
    assert any("3 images were not where the table says" in note for note in manifest.notes)
    fill(tmp_path / "images", ["y/1.png"])
    with pytest.raises(DataError, match="line 2.*2 files of that name"):
        load(tmp_path / "images", DataOptions(labels=str(file)))


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "can not be read as a table"),
        ("path,label\n", "no rows"),
        ("a,b\n1,2\n", "no path column.*--path-column.*a, b"),
        ("path,b\n1.png,2\n", "no label column.*--label-column"),
        ("path,label\n1.png,a\n2.png,\n3.png,nan\n4.png,b\n", "no label in 2 rows .lines 3, 4"),
        ("path,label\n1.png,a\n2.png,b\n1.png,a\n4.png,b\n", "lines 2 and 4: 1.png, equal"),
        ("path,label\n1.png,a\n2.png,b\n./1.png,b\n4.png,b\n", "lines 2 and 4: 1.png, they differ"),
        ("path,label\n../1.png,a\n2.png,b\n", "leave the data folder.*line 2"),
        ("path,label\n/etc/passwd,a\n2.png,b\n", "leave the data folder"),
        ("path,label\n1.png,a\n9.png,b\n", "line 3: 9.png.*--skip-unreadable"),
        ("path,label\n,a\n9.png,b\n", "'path' is empty in 1 rows"),
        ("path,label\n1.png,a\n2.png,a\n", "only one class"),
    ],
)
def test_tables_that_can_not_be_used(tmp_path, text, said):
    fill(tmp_path / "in", ["1.png", "2.png", "3.png", "4.png"])
    fill(tmp_path, ["1.png"])
    with pytest.raises(DataError, match=said):
        load(write(tmp_path / "in", text))


def test_unknown_marks_and_splits_are_named_by_row(tmp_path):
    fill(tmp_path, ["1.png", "2.png", "3.png", "4.png"])
    text = "path,A,B,part\n1.png,1,0,x\n2.png,-1,0,train\n3.png,0,2,test\n4.png,0,1,test\n"
    file = write(tmp_path, text)
    with pytest.raises(DataError, match="'A'.*line 3: -1"):
        load(file, DataOptions(label_column=("A", "B")))
    good = write(tmp_path, text.replace("-1", "1").replace(",2,", ",1,"), "g.csv")
    with pytest.raises(DataError, match="--split-column part.*line 2: x"):
        load(good, DataOptions(label_column=("A", "B"), split_column="part"))
    manifest = load(good, DataOptions(label_column=("A", "B")))
    assert "'part' is not used as the split" in " ".join(manifest.notes)


def test_missing_images_can_be_left_out(tmp_path):
    fill(tmp_path, ["1.png", "2.png", "3.png", "4.png"])
    text = "path,label\n1.png,a\nno.png,b\n2.png,b\n3.png,a\n4.png,b\n"
    manifest = load(write(tmp_path, text), DataOptions(skip_unreadable=True))
    assert manifest.table["id"].tolist() == ["1.png", "2.png", "3.png", "4.png"]
    assert manifest.targets.tolist() == [0, 1, 0, 1]
    assert "1 rows without an image" in " ".join(manifest.notes)


def arrays(**changes):
    images = np.arange(4 * 9, dtype=np.uint8).reshape(4, 3, 3)
    values = {"train_images": images, "train_labels": np.array([[0], [1], [1], [0]], np.uint8)}
    values |= {"test_images": images[:2], "test_labels": np.array([[1], [0]], np.uint8)}
    return {key: value for key, value in {**values, **changes}.items() if value is not None}


def test_npz(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays())
    manifest = load(tmp_path / "a.npz")
    assert manifest.task == "binary" and manifest.labels == ("0", "1")
    assert manifest.table["id"].tolist()[3:5] == ["train/3", "test/0"]
    assert manifest.targets.tolist() == [0, 1, 1, 0, 1, 0]
    assert (manifest.pixels[4] == arrays()["test_images"][0]).all()
    many = {"train_labels": np.array([[1, 0], [1, 1], [0, 0], [0, 1]])}
    np.savez(tmp_path / "m.npz", **arrays(**many, test_labels=np.array([[1, 0], [0, 1]])))
    manifest = load(tmp_path / "m.npz")
    assert manifest.task == "multilabel" and manifest.targets.dtype == np.float32
    twelve = np.arange(24) % 12
    images = np.zeros((24, 2, 2, 1), np.uint8)
    np.savez(tmp_path / "k.npz", train_images=images, train_labels=twelve)
    manifest = load(tmp_path / "k.npz")
    assert manifest.labels == tuple(str(k) for k in range(12))
    assert (manifest.targets == twelve).all() and manifest.pixels.shape == (24, 2, 2)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"train_labels": None}, "no train_labels"),
        ({"train_labels": np.array([0, 1])}, "for 4 pictures"),
        ({"train_labels": np.array([0, 1, np.nan, 0])}, "first in row 2"),
        ({"train_images": np.zeros((4, 3, 3))}, "must be uint8"),
        ({"train_images": np.zeros((4, 5, 3, 3, 3), np.uint8)}, "must be uint8"),
        ({"train_images": np.zeros((4, 5, 5), np.uint8)}, "differ in picture size"),
        ({"train_images": np.array([{}, 1, 2, 3], dtype=object)}, "pickled"),
        ({"train_images": None, "test_images": None}, "no train_images"),
    ],
)
def test_npz_files_that_can_not_be_used(tmp_path, changes, said):
    np.savez(tmp_path / "a.npz", **arrays(**changes))
    with pytest.raises(DataError, match=rf"a\.npz.*{said}"):
        load(tmp_path / "a.npz")


@pytest.mark.parametrize("keep", [0, 10, 0.3, 0.6, 0.99])
def test_a_truncated_npz_is_named(tmp_path, keep):
    file = tmp_path / "a.npz"
    np.savez_compressed(file, **arrays(train_images=np.zeros((4, 3, 3), np.uint8)))
    whole = file.read_bytes()
    file.write_bytes(whole[: keep if isinstance(keep, int) else int(keep * len(whole))])
    with pytest.raises(DataError, match=r"a\.npz.*download or make it again"):
        load(file)


def test_a_corrupt_npz_is_named(tmp_path):
    file = tmp_path / "a.npz"
    np.savez_compressed(file, **arrays())
    content = bytearray(file.read_bytes())
    content[60:75] = b"\xff" * 15
    file.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"a\.npz"):
        load(file)


def test_digits():
    manifest = load("digits")
    assert len(manifest) == 1797 and manifest.pixels.max() == 255 and manifest.pixels.min() == 0
    assert manifest.counts()["unassigned"]["0"] == 178
    assert manifest.table["id"].iloc[17] == "digits/0017"
    with pytest.raises(DataError, match="--patient-from"):
        load("digits", DataOptions(patient_from="x"))


def test_real_sets(shared_data):
    manifest = load(shared_data / "guangzhou", DataOptions(patient_from=GUANGZHOU))
    assert manifest.counts() == {
        "train": {"NORMAL": 1341, "PNEUMONIA": 3875},
        "test": {"NORMAL": 234, "PNEUMONIA": 390},
    }
    assert (manifest.table["patient"] != "").all()
    assert "numbering restarts in test" in " ".join(manifest.notes)
    manifest = load(shared_data / "cats-dogs")
    assert {part: sum(c.values()) for part, c in manifest.counts().items()} == {
        "train": 200,
        "val": 100,
        "test": 100,
    }
    manifest = load(shared_data / "pneumoniamnist" / "pneumoniamnist.npz")
    assert [len(manifest.indices(part)) for part in ("train", "val", "test")] == [4708, 524, 624]
    assert manifest.counts()["test"] == {"0": 234, "1": 390}
    manifest = load(shared_data / "cifar10" / "cifar10_subset.npz")
    assert manifest.labels[0] == "airplane" and manifest.pixels.shape == (13000, 32, 32, 3)
    manifest = load(shared_data / "chest3" / "nih.csv")
    assert dict(zip(manifest.labels, manifest.per_label(np.arange(1124)), strict=True)) == {
        "Covid-19": 124,
        "No_findings": 500,
        "Pneumonia": 500,
    }
    known = manifest.table[manifest.table["patient"] != ""]
    people = [set(known["patient"][manifest.targets[known.index] == k]) for k in (1, 2)]
    assert [len(p) for p in people] == [332, 371] and len(people[0] & people[1]) == 21
