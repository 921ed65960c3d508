"""Which pictures are looked at, and which data are refused."""

import numpy as np
import pytest

from layerwise.errors import DataError
from layerwise.studies.advice.sample import refuse_too_few, sample


def test_a_sample_has_every_class_and_no_test_image(workspace):
    work = workspace("multiclass")
    small = sample(work, 12, 9)
    assert len(small.rows("train")) == 12 and len(small.rows("val")) == 9
    assert len(small.store) == 21 == len(small.manifest)
    assert small.manifest.per_label(small.rows("train")).tolist() == [4, 4, 4]
    assert small.manifest.per_label(small.rows("val")).tolist() == [3, 3, 3]
    assert small.data_key != work.data_key
    ids = work.manifest.table["id"].tolist()
    rows = np.array([ids.index(name) for name in small.manifest.table["id"]])
    assert set(work.manifest.table["split"].to_numpy()[rows]) == {"train", "val"}
    every = np.arange(21)
    np.testing.assert_array_equal(small.store.read(every), work.store.read(rows))
    np.testing.assert_array_equal(small.manifest.targets, work.manifest.targets[rows])


def test_fewer_lie_inside_of_more_and_patients_are_whole(workspace):
    work = workspace("binary")
    patients = [f"p{i // 4}" for i in range(len(work.manifest))]
    work.manifest = work.manifest.replace(table=work.manifest.table.assign(patient=patients))
    few, more = (set(sample(work, n, 24).manifest.table["id"]) for n in (16, 32))
    assert few < more
    kept = sample(work, 16, 24).manifest.table
    for patient, group in kept[kept["split"] == "train"].groupby("patient"):
        assert len(group) == patients.count(patient)


def test_all_are_taken_where_there_are_no_more(workspace):
    work = workspace("multilabel")
    small = sample(work, 1000, 1000)
    assert len(small.rows("train")) == 48 and len(small.rows("val")) == 24


def test_two_images_of_a_class_are_too_few(workspace):
    manifest = workspace("multiclass").manifest
    split = manifest.table["split"].to_numpy(dtype=object).copy()
    of = np.flatnonzero((manifest.targets == 1) & (split == "train"))
    split[of[2:]] = "test"
    with pytest.raises(
        DataError, match=r"2 training images of .* \(5 needed\).*add images.*--only"
    ):
        refuse_too_few(manifest.replace(split=split))
    refuse_too_few(manifest)


def test_a_class_that_is_missing_from_validation_is_named(workspace):
    manifest = workspace("multiclass").manifest
    split = manifest.table["split"].to_numpy(dtype=object).copy()
    split[(manifest.targets == 0) & (split == "val")] = "test"
    with pytest.raises(DataError, match=r"0 validation images of .*layerwise split"):
        refuse_too_few(manifest.replace(split=split))


def test_one_good_label_of_several_is_enough(workspace):
    manifest = workspace("multilabel").manifest
    targets = manifest.targets.copy()
    targets[:, :2] = 1
    refuse_too_few(manifest.replace(targets=targets))
    targets[:] = 1
    with pytest.raises(DataError, match="too few images"):
        refuse_too_few(manifest.replace(targets=targets))
