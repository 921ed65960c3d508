"""Counts, sizes and samples against brute force over the rows, one by one."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwise.data.exploration import (
    count,
    draw_rows,
    members,
    parts_of,
    size_up,
    suited_preset,
)
from layerwise.data.manifest import Manifest, make_table
from layerwise.data.splits.dates import NUMBER
from layerwise.data.storage.headers import Headers


def manifest_of(task="multiclass", rows=60, labels=("a", "b", "c"), seed=0, **columns) -> Manifest:
    rng = np.random.default_rng(seed)
    if task == "multilabel":
        targets = rng.choice(np.array([0, 1, np.nan], np.float32), (rows, len(labels)))
    else:
        targets = rng.integers(0, len(labels), rows)
    ids = [f"{i}.png" for i in range(rows)]
    return Manifest("made", task, labels, make_table(ids, **columns), targets)


def headers_of(widths, heights, formats=None, grey=None, bits=None) -> Headers:
    n = len(widths)
    return Headers(
        sizes=np.stack([heights, widths], axis=1).astype(np.int64),
        grey=np.ones(n, bool) if grey is None else np.asarray(grey),
        formats=np.full(n, "PNG") if formats is None else np.asarray(formats),
        bits=np.full(n, 8) if bits is None else np.asarray(bits),
        bytes=np.arange(n) * 10,
    )


rows = st.lists(
    st.tuples(
        st.sampled_from(["train", "val", "test", ""]),
        st.sampled_from(["", "p1", "p2", "p3"]),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(rows)
def test_counts_are_those_of_counting_one_by_one(drawn):
    splits, patients, targets = (list(column) for column in zip(*drawn, strict=True))
    ids = [str(i) for i in range(len(drawn))]
    table = make_table(ids, patients=patients, splits=splits)
    manifest = Manifest("made", "multiclass", ("a", "b", "c"), table, np.array(targets, np.int64))
    found = count(manifest)
    assert found["images"] == len(drawn)
    by_part, people, labelled = defaultdict(Counter), defaultdict(set), defaultdict(set)
    for part, patient, target in drawn:
        by_part[part or "unassigned"]["abc"[target]] += 1
        if patient:
            people[part or "unassigned"].add(patient)
            labelled["abc"[target]].add(patient)
    order = [p for p in ("train", "val", "test", "unassigned") if p in by_part]
    assert list(found["parts"]) == order
    for part in order:
        of = found["parts"][part]
        assert of["labels"] == {label: by_part[part][label] for label in "abc"}
        assert of["images"] == sum(by_part[part].values())
        assert of["patients"] == (len(people[part]) or None)
        numbers = of["labels"].values()
        assert of["imbalance"] == max(numbers) / max(1, min(numbers))
    for label in "abc":
        total = sum(by_part[part][label] for part in order)
        assert found["labels"][label]["images"] == total
        assert found["labels"][label]["share"] == pytest.approx(total / len(drawn))
        if any(patients):
            assert found["labels"][label]["patients"] == (len(labelled[label]) or None)
    each = Counter(p for p in patients if p)
    if not each:
        assert found["patients"] is None
        return
    of = found["patients"]
    assert of["count"] == len(each) and of["images_without"] == patients.count("")
    assert of["images_each"]["min"] == min(each.values())
    assert of["images_each"]["max"] == max(each.values())
    assert of["images_each"]["median"] == np.median(list(each.values()))
    held = Counter(each.values())
    assert of["with_images"] == [held[n] for n in range(1, min(8, max(held)) + 1)]
    mixed = {p for p in each if len({t for _, q, t in drawn if q == p}) > 1}
    assert of["several_labels"] == len(mixed)


def test_multilabel_counts_unknown_apart():
    manifest = manifest_of("multilabel", 200, splits=["train"] * 150 + ["test"] * 50)
    found, t = count(manifest), manifest.targets
    for k, label in enumerate("abc"):
        yes, unknown = int((t[:, k] == 1).sum()), int(np.isnan(t[:, k]).sum())
        of = found["labels"][label]
        assert (of["images"], of["unknown"]) == (yes, unknown)
        assert of["share"] == pytest.approx(yes / (200 - unknown))
        assert found["parts"]["test"]["labels"][label] == int((t[150:, k] == 1).sum())
    each = Counter(int((row == 1).sum()) for row in t)
    assert found["labels_an_image"] == [each[n] for n in range(max(each) + 1)]
    both = [[sum(r[i] == 1 and r[j] == 1 for r in t) for j in range(3)] for i in range(3)]
    assert found["together"] == both and found["patients"] is None


def test_dates_are_compared_as_days_and_not_as_text():
    splits = ["train"] * 3 + ["test"] * 2
    later = manifest_of(rows=5, dates=["9", "10", "", "100", "20"], splits=splits)
    found = count(later)
    assert found["dates"] == {"kind": NUMBER, "images": 4, "problem": None}
    assert found["parts"]["train"]["dates"] == ["9", "10"]
    assert found["parts"]["test"]["dates"] == ["20", "100"]
    odd = count(manifest_of(rows=5, dates=["May 9, 2019", "", "2007", "", ""], splits=splits))
    assert odd["dates"]["kind"] is None and "May 9, 2019" in odd["dates"]["problem"]
    assert odd["parts"]["train"]["dates"] is None
    assert count(manifest_of(rows=5))["dates"] is None


def test_members_and_parts():
    manifest = manifest_of(rows=9, splits=["test", "", "train"] * 3)
    has = members(manifest)
    assert has.shape == (9, 3) and (has.sum(axis=1) == 1).all()
    assert has.argmax(axis=1).tolist() == manifest.targets.tolist()
    parts = {name: rows.tolist() for name, rows in parts_of(manifest).items()}
    assert parts == {"train": [2, 5, 8], "test": [0, 3, 6], "unassigned": [1, 4, 7]}


@pytest.mark.parametrize("widest", [400, 4000])
def test_density_is_numpys_and_loses_no_picture(widest):
    rng = np.random.default_rng(1)
    manifest = manifest_of(rows=500)
    widths, heights = rng.integers(100, widest, 500), rng.integers(90, 300, 500)
    sizes = size_up(manifest, headers_of(widths, heights))
    assert sizes.logarithmic is (widest == 4000)
    assert sizes.density.sum() == 500 and len(sizes.widths) == 33
    assert (np.diff(sizes.widths) >= 1).all()
    for i, j in np.ndindex(sizes.density.shape):
        inside = (heights >= sizes.heights[i]) & (heights < sizes.heights[i + 1])
        inside &= (widths >= sizes.widths[j]) & (widths < sizes.widths[j + 1])
        assert sizes.density[i, j] == inside.sum()
    by_width, by_height = sizes.by_label
    assert np.array_equal(by_width.sum(axis=0), sizes.density.sum(axis=0))
    assert np.array_equal(by_height.sum(axis=0), sizes.density.sum(axis=1))
    assert by_width.sum(axis=1).tolist() == np.bincount(manifest.targets).tolist()


def test_facts_of_sizes():
    widths, heights = [100, 100, 200, 300, 100, 0], [200, 200, 202, 100, 100, 0]
    manifest = manifest_of(rows=6).replace(targets=np.array([0, 0, 0, 1, 1, 2]))
    facts = size_up(manifest, headers_of(widths, heights)).facts
    assert facts["images"] == 5 and facts["distinct"] == 4
    assert (facts["portrait"], facts["square"], facts["landscape"]) == (2, 2, 1)
    assert facts["width"] == {"min": 100, "q25": 100, "median": 100, "q75": 200, "max": 300}
    assert facts["height"]["median"] == 200 and facts["below_224"] == 5
    assert facts["common"][0] == [100, 200, 2]
    assert sum(n for *_, n in facts["common"]) == 5
    assert facts["labels"]["a"] == {"width": 100, "height": 200, "aspect": 0.5}
    assert facts["labels"]["c"] == {"width": None, "height": None, "aspect": None}


def test_one_size_and_no_size():
    manifest = manifest_of(rows=4)
    sizes = size_up(manifest, headers_of([64] * 4, [32] * 4))
    assert sizes.density.tolist() == [[4]] and sizes.facts["common"] == [[64, 32, 4]]
    assert sizes.widths.tolist() == [64, 65]
    assert size_up(manifest, headers_of([0] * 4, [0] * 4)) is None


def test_kinds_of_file_by_label():
    manifest = manifest_of(rows=5).replace(targets=np.array([0, 1, 1, 2, 2]))
    headers = headers_of(
        [8] * 5,
        [8] * 5,
        formats=["PNG", "JPEG", "JPEG", "JPEG", "PNG"],
        grey=[True, False, False, False, True],
        bits=[16, 8, 8, 8, 8],
    )
    files = size_up(manifest, headers).facts["files"]
    assert [(f["format"], f["channels"], f["bits"], f["images"]) for f in files] == [
        ("JPEG", "colour", 8, 3),
        ("PNG", "grey", 8, 1),
        ("PNG", "grey", 16, 1),
    ]
    assert files[0]["labels"] == {"a": 0, "b": 2, "c": 1} and files[0]["bytes"] == 20
    assert files[2]["labels"] == {"a": 1, "b": 0, "c": 0}


def test_samples_are_of_their_label_and_seeded():
    manifest = manifest_of(rows=100)
    drawn = draw_rows(manifest, 12, seed=3)
    for k, label in enumerate("abc"):
        assert len(set(drawn[label].tolist())) == 12
        assert (manifest.targets[drawn[label]] == k).all()
    again, other = draw_rows(manifest, 12, seed=3), draw_rows(manifest, 12, seed=4)
    assert all(np.array_equal(again[label], drawn[label]) for label in "abc")
    assert not np.array_equal(other["a"], drawn["a"])
    assert len(draw_rows(manifest, 1000, seed=0)["a"]) == (manifest.targets == 0).sum()


def test_the_preset_that_suits():
    assert suited_preset(28, 1) == suited_preset(63.5, 3) == "none"
    assert suited_preset(64, 1) == "radiograph" and suited_preset(320, 3) == "natural"
