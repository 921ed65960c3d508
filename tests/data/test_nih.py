"""NIH ChestX-ray14: published counts, its heading, official lists, and odd tables."""

import numpy as np
import pytest
from PIL import Image

from layerwise.data.load import DataOptions, load
from layerwise.data.sources import nih
from layerwise.errors import DataError

# Images of each label, as counted by the set's publisher
PUBLISHED = {
    "Atelectasis": 11559,
    "Cardiomegaly": 2776,
    "Effusion": 13317,
    "Infiltration": 19894,
    "Mass": 5782,
    "Nodule": 6331,
    "Pneumonia": 1431,
    "Pneumothorax": 5302,
    "Consolidation": 4667,
    "Edema": 2303,
    "Emphysema": 2516,
    "Fibrosis": 1686,
    "Pleural_Thickening": 3385,
    "Hernia": 227,
}
HEADING = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
FINDINGS = ("No Finding", "Mass|Hernia", "Hernia", "Mass")


def write(folder, findings=FINDINGS * 2, end=""):
    """A table in NIH's form, its images in numbered folders."""
    lines = [HEADING + end]
    for i, found in enumerate(findings):
        name = f"{i // 2:08}_{i % 2:03}.png"
        file = folder / f"images_{i % 3 + 1:03}" / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(file)
        view = ("PA", "AP")[i // 4 % 2]
        lines.append(f"{name},{found},{i % 2},{i // 2},58,M,{view},2682,2749,0.143,0.143{end}")
    (folder / "Data_Entry_2017_v2020.csv").write_text("\n".join(lines))
    return folder / "Data_Entry_2017_v2020.csv"


@pytest.mark.parametrize("end", ["", ","])  # of 2020, of 2017
def test_labels_patients_and_places(tmp_path, end):
    manifest = load(write(tmp_path, end=end))
    assert manifest.labels == ("Mass", "Hernia")  # in the paper's order
    assert manifest.targets.tolist() == [[0, 0], [1, 1], [0, 1], [1, 0]] * 2
    assert manifest.table["id"].iloc[4] == "images_002/images/00000002_000.png"
    assert manifest.table["patient"].tolist() == list("00112233")
    assert manifest.table["study"].tolist()[:3] == ["0/0", "0/1", "1/0"]
    assert set(manifest.table["split"]) == {""}
    said = " ".join(manifest.notes)
    assert "No Finding means none" in said and "no image has Atelectasis" in said


def test_one_label_and_one_view(tmp_path):
    manifest = load(write(tmp_path), DataOptions(only=("Mass",), view="pa"))
    assert manifest.labels == ("no Mass", "Mass") and manifest.targets.tolist() == [0, 1, 0, 1]


def test_a_named_column_makes_it_a_table_like_any_other(tmp_path):
    manifest = load(write(tmp_path), DataOptions(label_column=("View Position",)))
    assert manifest.labels == ("AP", "PA") and manifest.task == "binary"


def test_the_official_lists_are_the_split(tmp_path):
    file = write(tmp_path)
    names = [f"{i // 2:08}_{i % 2:03}.png" for i in range(8)]
    (tmp_path / "train_val_list.txt").write_text("\n".join(names[:6]) + "\n")
    assert set(load(file).table["split"]) == {""}
    (tmp_path / "test_list.txt").write_text("\r\n".join(names[6:]))
    for data in (file, tmp_path):
        manifest = load(data)
        assert manifest.table["split"].tolist() == ["train"] * 6 + ["test"] * 2
        assert any("official" in note for note in manifest.notes)
    (tmp_path / "test_list.txt").write_text("\n".join(names[7:]))
    with pytest.raises(DataError, match=r"stand in none of.*00000003_000\.png"):
        load(file)
    (tmp_path / "test_list.txt").write_text("\n".join(names[5:]))
    with pytest.raises(DataError, match=r"in both lists .00000002_001\.png"):
        load(file)
    (tmp_path / "test_list.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match=r"test_list\.txt: can not be read"):
        load(file)


def test_other_labels_are_named_by_line(tmp_path):
    with pytest.raises(DataError, match=r"1 rows .line 3: Mass\|Gout"):
        load(write(tmp_path, ("Mass", "Mass|Gout", "No Finding", "Mass")))
    with pytest.raises(DataError, match="--only Gout"):
        load(write(tmp_path), DataOptions(only=("Gout",)))


def test_published_counts(shared_data):
    file = shared_data / "tables" / "Data_Entry_2017_v2020.csv.gz"
    manifest = load(file, DataOptions(images=False))
    assert manifest.labels == nih.LABELS
    counts = manifest.per_label(np.arange(len(manifest))).tolist()
    assert dict(zip(manifest.labels, counts, strict=True)) == PUBLISHED
    assert (len(manifest), manifest.table["patient"].nunique()) == (112_120, 30_805)
    assert int((manifest.targets.sum(axis=1) == 0).sum()) == 60_361


def test_a_table_made_from_it_is_somebody_elses(shared_data):
    """NIH's columns stand behind others there: three classes of two origins."""
    assert load(shared_data / "chest3" / "nih.csv").labels[0] == "Covid-19"
