"""CheXpert: published counts, policies of doubt, views, the two tables, and masked labels."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from layerwise.data.load import DataOptions, load
from layerwise.data.sources import chexpert
from layerwise.errors import DataError
from layerwise.evaluation.metrics import measure
from layerwise.training.losses import make_loss
from layerwise.training.recipe import Recipe

NAN = np.nan
# Irvin et al. 2019, Table 1: studies that are positive, uncertain, negative
PUBLISHED = {
    "No Finding": (16627, 0, 171014),
    "Enlarged Cardiomediastinum": (9020, 10148, 168473),
    "Cardiomegaly": (23002, 6597, 158042),
    "Lung Lesion": (6856, 1071, 179714),
    "Lung Opacity": (92669, 4341, 90631),
    "Edema": (48905, 11571, 127165),
    "Consolidation": (12730, 23976, 150935),
    "Pneumonia": (4576, 15658, 167407),
    "Atelectasis": (29333, 29377, 128931),
    "Pneumothorax": (17313, 2663, 167665),
    "Pleural Effusion": (75696, 9419, 102526),
    "Pleural Other": (2441, 1771, 183429),
    "Fracture": (7270, 484, 179887),
    "Support Devices": (105831, 898, 80912),
}
HEADING = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *chexpert.LABELS]


def write(folder, cells, name="train.csv", part="train"):
    """A table with these cells of Edema (the other labels vary), and its images."""
    rows = []
    for i, cell in enumerate(cells):
        view = "lateral" if i % 4 == 3 else "frontal"
        path = f"{part}/patient{i // 2:05}/study1/view{i}_{view}.jpg"
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(file)
        labels = dict.fromkeys(chexpert.LABELS, ("1.0", "0.0", "", "1.0")[i % 4])
        labels["Edema"] = cell
        sides = ("Frontal", ("AP", "PA")[i % 2]) if view == "frontal" else ("Lateral", "")
        rows.append([f"CheXpert-v1.0-small/{path}", "Male", "60", *sides, *labels.values()])
    pd.DataFrame(rows, columns=HEADING).to_csv(folder / name, index=False)
    return folder / name


CELLS = ["1.0", "0.0", "-1.0", "", "1.0", "0.0", "-1.0", ""]


@pytest.mark.parametrize(
    "policy, edema",
    [
        ("zeros", [1, 0, 0, 0, 1, 0, 0, 0]),
        ("ones", [1, 0, 1, 0, 1, 0, 1, 0]),
        ("ignore", [1, 0, NAN, 0, 1, 0, NAN, 0]),
    ],
)
def test_doubt(tmp_path, policy, edema):
    manifest = load(write(tmp_path, CELLS), DataOptions(uncertain=policy))
    np.testing.assert_array_equal(manifest.targets[:, chexpert.LABELS.index("Edema")], edema)
    said = {"zeros": "absent", "ones": "present", "ignore": "unknown"}[policy]
    assert f"doubt (-1) as {said}" in manifest.notes[0]


def test_labels_are_chosen_by_set_by_column_or_with_only(tmp_path):
    file = write(tmp_path, CELLS)
    every = load(file)
    assert every.labels == chexpert.LABELS and len(every.labels) == 14
    peng = load(file, DataOptions(label_set="peng"))
    assert peng.labels == chexpert.LABELS[:13]
    assert "No Finding" in peng.labels and "Support Devices" not in peng.labels
    assert len(load(file, DataOptions(label_set="competition")).labels) == 5
    two = load(file, DataOptions(label_column=("Edema", "Fracture")))
    assert two.labels == ("Edema", "Fracture")
    np.testing.assert_array_equal(two.targets[:, 0], every.targets[:, 5])
    only = load(file, DataOptions(only=("Fracture", "Edema")))
    assert set(only.labels) == {"Edema", "Fracture"}
    sex = load(write(tmp_path, CELLS), DataOptions(label_column=("AP/PA",), view="frontal"))
    assert sex.labels == ("AP", "PA") and sex.patients_known


@pytest.mark.parametrize("how", [{"label_column": ("Edema",)}, {"only": ("Edema",)}])
def test_one_label_is_a_question_of_two_classes(tmp_path, how):
    manifest = load(write(tmp_path, CELLS), DataOptions(uncertain="ignore", **how))
    assert manifest.task == "binary" and manifest.labels == ("no Edema", "Edema")
    assert manifest.targets.tolist() == [1, 0, 0, 1, 0, 0]
    assert "2 images of unknown Edema are left out" in manifest.notes


def test_patient_and_study_come_from_the_path(tmp_path):
    table = load(write(tmp_path, CELLS)).table
    assert table["id"].iloc[2] == "train/patient00001/study1/view2_frontal.jpg"
    assert table["patient"].tolist()[:4] == ["patient00000"] * 2 + ["patient00001"] * 2
    assert table["study"].iloc[2] == "patient00001/study1"


def test_views(tmp_path):
    file = write(tmp_path, [("1.0", "0.0")[i // 4 % 2] for i in range(16)])
    for view, count in (("frontal", 12), ("lateral", 4), ("ap", 8), ("PA", 4)):
        manifest = load(file, DataOptions(view=view, label_column=("Edema",)))
        assert len(manifest) == count, view
    with pytest.raises(DataError, match=r"--view LL.*its views are Frontal \(12\)"):
        load(file, DataOptions(view="LL"))


def test_the_official_validation_part_is_used_where_it_lies_beside(tmp_path):
    file = write(tmp_path, CELLS)
    assert set(load(file).table["split"]) == {""}
    valid = write(tmp_path, CELLS[2:6], "valid.csv", "valid")
    for data in (file, tmp_path):
        both = load(data)
        assert both.table["split"].tolist() == ["train"] * 8 + ["val"] * 4
        assert any("valid.csv beside the table" in note for note in both.notes)
    assert len(load(valid, DataOptions(label_set="peng", only=("Fracture", "No Finding")))) == 4
    valid.write_text(valid.read_text().replace("-1.0", "2"))
    with pytest.raises(DataError, match=r"'Edema'.*line 2 of valid\.csv: 2"):
        load(file)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"uncertain": "maybe"}, "--uncertain maybe is unknown.*zeros, ones, ignore"),
        ({"label_set": "x"}, "--label-set x is unknown.*peng"),
        ({"label_set": "peng", "label_column": ("Edema",)}, "both given"),
        ({"multi_label": True}, "--multi-label"),
        ({"only": ("Scoliosis",)}, "--only Scoliosis"),
    ],
)
def test_flags_that_can_not_be(tmp_path, options, said):
    with pytest.raises(DataError, match=said):
        load(write(tmp_path, CELLS), DataOptions(**options))


def test_policies_are_refused_elsewhere(tmp_path):
    (tmp_path / "t.csv").write_text("path,label\n1.png,a\n")
    for options in ({"uncertain": "ones"}, {"label_set": "peng"}):
        with pytest.raises(DataError, match="not CheXpert's table"):
            load(tmp_path / "t.csv", DataOptions(**options))


def test_an_unknown_label_changes_neither_loss_nor_metric():
    """What --uncertain ignore promises: the same numbers whatever is predicted there."""
    random = np.random.default_rng(0)
    targets = random.integers(0, 2, (20, 3)).astype(np.float32)
    targets[::3, 1] = NAN
    unknown = np.isnan(targets)
    logits = random.normal(size=(20, 3)).astype(np.float32)
    other = np.where(unknown, -5 * logits + 3, logits)

    job = SimpleNamespace(
        task="multilabel",
        targets=targets,
        train=np.arange(20),
        device=torch.device("cpu"),
        importance=None,
        recipe=Recipe(balance="weights", label_smoothing=0.1),
    )
    loss = make_loss(job)
    a, b = (torch.from_numpy(x).requires_grad_() for x in (logits, other))
    first, second = loss(a, np.arange(20)), loss(b, np.arange(20))
    assert first.item() == second.item()
    first.backward()
    assert (a.grad.numpy()[unknown] == 0).all() and (a.grad.numpy()[~unknown] != 0).all()
    scores, others = (1 / (1 + np.exp(-x)) for x in (logits, other))
    assert measure("multilabel", targets, scores) == measure("multilabel", targets, others)
    assert measure("multilabel", targets, scores) != measure("multilabel", targets, 1 - scores)


def test_published_counts(shared_data):
    """Images, patients and studies as published, and the studies of each label."""
    file = shared_data / "tables" / "chexpert_train.csv.gz"
    manifest = load(file, DataOptions(images=False, uncertain="ignore"))
    table = manifest.table
    assert (len(manifest), table["patient"].nunique()) == (223_414, 64_540)
    assert table["study"].nunique() == 187_641
    first = ~table["study"].duplicated().to_numpy()  # a study's images share its labels
    found = {}
    for k, label in enumerate(manifest.labels):
        cells = manifest.targets[first, k]
        found[label] = tuple(int(n.sum()) for n in (cells == 1, np.isnan(cells), cells == 0))
    assert found == PUBLISHED
