"""What every source of data must satisfy, whatever the user has."""

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from layerwise.data.load import DataOptions, load
from layerwise.data.manifest import SPLITS
from layerwise.data.pictures.images import decode
from layerwise.data.sources import chexpert
from layerwise.errors import DataError

COUNT = 12  # images of each
PLAIN = DataOptions()


def picture(file: Path, value: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 5), 10 * value, np.uint8)).save(file, "PNG")


def folder(root: Path) -> DataOptions:
    for i in range(COUNT):
        picture(root / ("train", "test")[i % 2] / "ab"[i // 2 % 2] / f"person {i // 3}_é{i}.png", i)
    return DataOptions(patient_from=r"person (\d+)")


def generic(root: Path) -> pd.DataFrame:
    for i in range(COUNT):
        picture(root / "images" / f"im {i}.png", i)
    return pd.DataFrame(
        {
            "Image": [f"images/im {i}.png" for i in range(COUNT)],
            "diagnosis": ["sick" if i % 3 else "fine, well" for i in range(COUNT)],
            "Patient ID": [f"p{i // 2}" for i in range(COUNT)],
            "exam": [f"e{i % 2}" for i in range(COUNT)],
            "date": [f"2020-01-{i + 1:02}" for i in range(COUNT)],
            "split": [("train", "valid", "")[i % 3] for i in range(COUNT)],
        }
    )


def csv(root: Path) -> DataOptions:
    generic(root).to_csv(root / "t.csv", index=False)
    return PLAIN


def tsv(root: Path) -> DataOptions:
    generic(root).to_csv(root / "t.tsv", index=False, sep="\t")
    return PLAIN


def packed(root: Path) -> DataOptions:
    generic(root).to_csv(root / "t.csv.gz", index=False)
    return PLAIN


def parquet(root: Path) -> DataOptions:
    generic(root).to_parquet(root / "t.parquet")
    return PLAIN


def several(root: Path) -> DataOptions:
    frame = generic(root).assign(A=["1", "0", ""] * 4, B=["0", "1", "1"] * 4)
    frame.to_csv(root / "t.csv", index=False)
    return DataOptions(label_column=("A", "B"))


def elsewhere(root: Path) -> DataOptions:
    """A folder of images and a table somewhere else."""
    frame = generic(root)
    table = root.parent / "labels.csv"
    frame.assign(Image=[f"im {i}" for i in range(COUNT)]).to_csv(table, index=False)
    return DataOptions(labels=str(table))


def official(root: Path) -> DataOptions:
    """CheXpert's folder, whose paths begin with its own name."""
    generator = np.random.default_rng(0)
    for part, first in (("train", 0), ("valid", COUNT)):
        rows = []
        for i in range(first, first + COUNT):
            name = f"{part}/patient{i // 2:05}/study{i % 2 + 1}/view1_frontal.jpg"
            picture(root / name, i)
            marks = generator.choice(["1.0", "0.0", "-1.0", ""], 14)
            marks[:] = "1.0" if i % 3 == 0 else marks
            marks[:] = "0.0" if i % 3 == 1 else marks
            rows.append([f"CheXpert-v1.0-small/{name}", "Female", "68", "Frontal", "AP", *marks])
        columns = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *chexpert.LABELS]
        pd.DataFrame(rows, columns=columns).to_csv(root / f"{part}.csv", index=False)
    return DataOptions(uncertain="ignore")


def chest14(root: Path) -> DataOptions:
    lines = [
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
        "View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
    ]
    for i in range(COUNT):
        name = f"{i // 2:08}_{i % 2:03}.png"
        picture(root / f"images_{i % 2 + 1:03}" / "images" / name, i)
        found = ("No Finding", "Hernia", "Mass|Hernia", "Mass")[i % 4]
        lines.append(f"{name},{found},{i % 2},{i // 2},058Y,M,PA,6,5,0.143,0.143,")
    (root / "Data_Entry_2017.csv").write_text("\n".join(lines))
    names = [line.split(",")[0] for line in lines[1:]]
    (root / "train_val_list.txt").write_text("\n".join(names[:8]))
    (root / "test_list.txt").write_text("\n".join(names[8:]) + "\n")
    return PLAIN


def covid(root: Path) -> DataOptions:
    rows = []
    for i in range(COUNT):
        picture(root / "images" / f"c{i}.png", i)
        finding = ("Pneumonia/Viral/COVID-19", "No Finding", "Pneumonia/Bacterial")[i % 3]
        rows.append(
            [i // 2, "", finding, ("PA", "AP Supine")[i % 2], "2020", "images", f"c{i}.png"]
        )
    rows.append([99, "3", "Tuberculosis", "L", "", "images", "gone.png"])
    columns = ["patientid", "offset", "finding", "view", "date", "folder", "filename"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "metadata.csv", index=False)
    return DataOptions(view="frontal", only=("No Finding", "Pneumonia/Viral/COVID-19"))


def archive(root: Path) -> DataOptions:
    images = np.arange(COUNT * 30, dtype=np.uint8).reshape(COUNT, 6, 5)
    labels = np.arange(COUNT)[:, None] % 3
    np.savez_compressed(
        root / "mnist.npz",
        train_images=images,
        train_labels=labels,
        val_images=images[:3],
        val_labels=labels[:3],
    )
    return PLAIN


def marks(root: Path) -> DataOptions:
    """Of colour, with several labels an image."""
    images = np.random.default_rng(0).integers(0, 255, (COUNT, 6, 5, 3), dtype=np.uint8)
    labels = np.stack([np.arange(COUNT) % 2, np.arange(COUNT) % 3 == 0], axis=1)
    np.savez(root / "chest.npz", test_images=images, test_labels=labels)
    return PLAIN


def digits(root: Path) -> DataOptions:
    return DataOptions(only=("3", "8"))


def manifest(root: Path) -> DataOptions:
    several(root)
    options = DataOptions(label_column=("A", "B"))
    load(root / "t.csv", options).write(root / "manifest.csv")
    return PLAIN


def of_archive(root: Path) -> DataOptions:
    archive(root)
    load(root / "mnist.npz").take(np.array([14, 2, 3, 5, 7])).write(root / "part.csv")
    return PLAIN


def dicom(root: Path) -> DataOptions:
    for i in range(COUNT):
        data = pydicom.Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = f"1.2.3.4.{i + 1}"
        data.StudyInstanceUID, data.PatientID = f"1.2.3.{i // 2}", f"MILLER{i // 3}"
        data.StudyDate, data.Modality = f"202001{i + 1:02}", "CR"
        data.Rows, data.Columns, data.SamplesPerPixel = 6, 5, 1
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit, data.PixelRepresentation = 7, 0
        data.PhotometricInterpretation = "MONOCHROME2"
        data.PixelData = np.full((6, 5), 10 * i, np.uint8).tobytes()
        data.save_as(root / f"IM{i:04}", enforce_file_format=True)
    table = root.parent / "labels.csv"
    rows = [f"1.2.3.4.{i + 1},{'sick' if i % 3 else 'fine'}" for i in range(COUNT)]
    table.write_text("image,label\n" + "\n".join(rows))
    return DataOptions(labels=str(table))


# each: how it is made, what is named as DATA, how many images, whether patients are known
SOURCES = {
    "folder": (folder, "", COUNT, True),
    "csv": (csv, "t.csv", COUNT, True),
    "tsv": (tsv, "t.tsv", COUNT, True),
    "csv.gz": (packed, "t.csv.gz", COUNT, True),
    "parquet": (parquet, "t.parquet", COUNT, True),
    "several labels": (several, "t.csv", COUNT, True),
    "--labels": (elsewhere, "", COUNT, True),
    "chexpert": (official, "train.csv", 2 * COUNT, True),
    "chexpert folder": (official, "", 2 * COUNT, True),
    "nih": (chest14, "Data_Entry_2017.csv", COUNT, True),
    "nih folder": (chest14, "", COUNT, True),
    "covid": (covid, "metadata.csv", 8, True),
    "npz": (archive, "mnist.npz", COUNT + 3, False),
    "npz, several labels": (marks, "chest.npz", COUNT, False),
    "digits": (digits, None, 357, False),
    "manifest": (manifest, "manifest.csv", COUNT, True),
    "manifest of npz": (of_archive, "part.csv", 5, False),
    "dicom": (dicom, "", COUNT, True),
}
FILES = [name for name, (make, *_) in SOURCES.items() if make not in (archive, marks, digits)]
FILES.remove("manifest of npz")


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Every source once, as (folder of it, DATA, options, …); not to be changed."""
    made = {}
    for name, (make, data, count, patients) in SOURCES.items():
        root = tmp_path_factory.mktemp("über source") / "data set"
        root.mkdir()
        options = make(root)
        made[name] = (root, "digits" if data is None else root / data, options, count, patients)
    return made


@pytest.fixture(params=SOURCES)
def place(request, places):
    return places[request.param]


def same(a, b):
    assert a.table.to_numpy().tolist() == b.table.to_numpy().tolist()
    np.testing.assert_array_equal(a.targets, b.targets)
    assert (a.task, a.labels) == (b.task, b.labels)
    if a.pixels is not None:
        np.testing.assert_array_equal(np.asarray(a.pixels), np.asarray(b.pixels))


def test_rows_labels_and_targets(place):
    _, data, options, count, patients = place
    found = load(data, options)
    assert len(found) == count and found.patients_known == patients
    assert found.table["id"].is_unique and set(found.table["split"]) <= {*SPLITS, ""}
    assert all(type(value) is str for value in found.table.to_numpy().ravel())
    assert found.table.index.tolist() == list(range(count))
    if found.task == "multilabel":
        known = found.targets[~np.isnan(found.targets)]
        assert found.targets.dtype == np.float32 and set(known.tolist()) == {0.0, 1.0}
    else:
        assert found.targets.dtype == np.int64
        assert set(found.targets.tolist()) == set(range(len(found.labels)))
    declared = (chexpert.LABELS, ("Mass", "Hernia"))
    assert list(found.labels) == sorted(found.labels) or found.labels in declared


def test_pictures_are_there_and_decode(place):
    _, data, options, *_ = place
    found = load(data, options)
    if found.pixels is not None:
        assert set(found.table["path"]) == {""} and found.pixels.dtype == np.uint8
        assert np.asarray(found.pixels[0]).shape == found.pixels.shape[1:]
        return
    for name, path in zip(found.table["id"], found.table["path"], strict=True):
        assert os.path.isabs(path) and path.endswith(name)
        assert decode(path).shape == (6, 5)


def test_reading_twice_gives_the_same(place):
    same(load(*place[1:3]), load(*place[1:3]))


def test_written_and_read_again(place, tmp_path):
    found = load(*place[1:3])
    found.write(tmp_path / "again.csv")
    same(found, load(tmp_path / "again.csv"))


def test_no_label_belongs_to_another_picture(place):
    """The grey value of each picture says which it is."""
    root, data, options, *_ = place
    found = load(data, options)
    if found.pixels is not None or data == root / "manifest.csv":
        return
    values = [int(decode(path).max()) // 10 for path in found.table["path"]]
    order = np.argsort(values)
    numbers = np.array(values)[order]
    targets = found.targets[order]
    if found.labels in (("fine, well", "sick"), ("fine", "sick")):
        assert (targets == (numbers % 3 > 0)).all()
    elif found.labels == ("a", "b"):
        assert (targets == numbers // 2 % 2).all()
    elif found.labels == ("A", "B"):
        np.testing.assert_array_equal(targets[:, 0], np.array([1, 0, np.nan])[numbers % 3])
    elif found.labels == chexpert.LABELS:
        assert (targets[numbers % 3 == 0] == 1).all() and (targets[numbers % 3 == 1] == 0).all()
    elif found.labels == ("Mass", "Hernia"):
        assert targets.tolist() == [[i % 4 >= 2, i % 4 in (1, 2)] for i in numbers]
    else:
        assert found.labels == ("No Finding", "Pneumonia/Viral/COVID-19")
        assert (targets == (numbers % 3 == 0)).all()


@pytest.mark.parametrize("how", ["relative", "link", "dots"])
def test_the_way_to_the_data_does_not_matter(place, how, tmp_path, monkeypatch):
    root, data, options, *_ = place
    if data == "digits":
        return
    inside = data.relative_to(root)
    if how == "link":
        (tmp_path / "a link").symlink_to(root)
        other = tmp_path / "a link" / inside
    elif how == "dots":
        other = root / ".." / root.name / inside
    else:
        monkeypatch.chdir(root.parent)
        other = Path(root.name) / inside
    one, two = load(data, options), load(other, options)
    assert two.table.drop(columns="path").equals(one.table.drop(columns="path"))
    np.testing.assert_array_equal(one.targets, two.targets)
    pairs = zip(one.table["path"], two.table["path"], strict=True)
    assert all(os.path.samefile(a, b) for a, b in pairs if a)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_image_is_named_or_left_out(name, places, tmp_path):
    make, inside, count, _ = SOURCES[name]
    root = tmp_path / "x" / "data"
    root.mkdir(parents=True)
    options = make(root)
    whole = load(root / inside, options)
    gone = whole.table["path"].iloc[4]
    os.unlink(gone)
    if make is folder:  # it is the files that say what there is
        assert len(load(root / inside, options)) == count - 1
        return
    with pytest.raises(DataError, match="--skip-unreadable") as error:
        load(root / inside, options)
    shown = "1.2.3.4." if make is dicom else Path(gone).name.removesuffix(".png")
    assert shown in str(error.value)
    rest = load(root / inside, dataclasses.replace(options, skip_unreadable=True))
    assert rest.table["id"].tolist() == whole.table["id"].drop(4).tolist()
    np.testing.assert_array_equal(rest.targets, np.delete(whole.targets, 4, axis=0))
    assert any("left out" in note for note in rest.notes)


@pytest.mark.parametrize("name", [n for n in FILES if n not in ("folder", "dicom", "--labels")])
def test_without_images_the_rest_is_the_same(name, places, tmp_path):
    make, inside, count, _ = SOURCES[name]
    root = tmp_path / "data"
    root.mkdir()
    options = make(root)
    whole = load(root / inside, options)
    for path in whole.table["path"]:
        os.unlink(path)
    bare = load(root / inside, dataclasses.replace(options, images=False))
    np.testing.assert_array_equal(bare.targets, whole.targets)
    for column in ("patient", "study", "date", "split"):
        assert bare.table[column].tolist() == whole.table[column].tolist()


def test_damaged_tables_are_errors_with_a_next_step(place, tmp_path):
    root, data, options, *_ = place
    if data == "digits" or data.is_dir():
        return
    whole = data.read_bytes()
    broken = tmp_path / data.name
    for content in (b"", whole[: len(whole) // 2] + b'\0"\xff', whole[:3]):
        broken.write_bytes(content)
        with pytest.raises(DataError) as error:
            load(broken, options)
        assert data.name in str(error.value) and ";" in str(error.value)


def test_identifiers_of_dicom_stay_in_their_files(places):
    root, data, options, *_ = places["dicom"]
    found = load(data, options)
    everything = found.table.to_csv() + " ".join(found.notes)
    assert "MILLER" not in everything and "1.2.3." not in everything and "2020" not in everything
    assert found.table["patient"].nunique() == 4 and found.table["study"].nunique() == 6
    kept = load(data, dataclasses.replace(options, keep_identifiers=True))
    assert set(kept.table["patient"]) == {f"MILLER{i}" for i in range(4)}
    assert kept.table["date"].min() == "2020-01-01"


def test_a_table_of_absolute_paths_is_read_below_its_folder_only(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    frame = generic(root)
    frame.assign(Image=[str(root / name) for name in frame["Image"]]).to_csv(root / "t.csv")
    plain = load(root / "t.csv")
    assert plain.table["id"].tolist() == frame["Image"].tolist()
    (tmp_path / "link").symlink_to(root)
    assert load(tmp_path / "link" / "t.csv").table["id"].tolist() == frame["Image"].tolist()
    (root / "below").mkdir()
    shutil.move(root / "t.csv", root / "below" / "t.csv")
    with pytest.raises(
        DataError, match="paths leave the data folder.*--labels t.csv, or move the images"
    ):
        load(root / "below" / "t.csv")
